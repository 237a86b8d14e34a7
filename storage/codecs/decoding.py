"""From coding to decoder as a table, and the two ways in: in this process, or wherever is safe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from storage.codecs.colour import described_as_rgb, to_rgb
from storage.codecs.deflated import decode_deflated
from storage.codecs.jpeg import decode_jpeg
from storage.codecs.jpeg_2000 import decode_jpeg_2000
from storage.codecs.jpeg_ls import decode_jpeg_ls
from storage.codecs.jpeg_xl import decode_jpeg_xl
from storage.codecs.native import decode_native
from storage.codecs.pixels import Number, PixelDescription
from storage.codecs.rle import decode_rle
from storage.codecs.samples import Array
from storage.errors import CannotDecode
from storage.transfer_syntaxes import EXPLICIT_LITTLE, Coding

Decoder = Callable[[bytes, PixelDescription, int], Array]


def _uncompressed(decoder: Decoder) -> Decoder:
    """`decoder`, whose colour is still in its own space, with that made RGB."""

    def decode(frame: bytes, pixels: PixelDescription, bit_offset: int = 0) -> Array:
        return to_rgb(decoder(frame, pixels, bit_offset), pixels)

    return decode


DECODERS: dict[Coding, Decoder] = {
    Coding.NATIVE: _uncompressed(decode_native),
    Coding.ENCAPSULATED_NATIVE: _uncompressed(decode_native),
    Coding.DEFLATED_FRAME: _uncompressed(decode_deflated),
    Coding.RLE: _uncompressed(decode_rle),
    Coding.JPEG: decode_jpeg,
    Coding.JPEG_LOSSLESS: decode_jpeg,
    Coding.JPEG_LS: decode_jpeg_ls,
    Coding.JPEG_2000: decode_jpeg_2000,
    Coding.HTJ2K: decode_jpeg_2000,
    Coding.JPEG_XL: decode_jpeg_xl,
}

# Decoded by NumPy, zlib (bounded) and Rust: bad bytes cannot take the process with them.
MEMORY_SAFE = frozenset({Coding.NATIVE, Coding.ENCAPSULATED_NATIVE, Coding.DEFLATED_FRAME, Coding.RLE})


def decode_here(frame: bytes, pixels: PixelDescription, *, bit_offset: int = 0) -> Array:
    """Decode in this process: for worker processes, tests, and streams that were encoded here.

    Returns (rows, columns), or (rows, columns, 3) in RGB, of `pixels.dtype`. Raises CannotDecode.
    """
    pixels.check()
    decoder = DECODERS.get(pixels.syntax.coding)
    if decoder is None or (pixels.number is not Number.INTEGER and pixels.syntax.coding not in MEMORY_SAFE):
        raise CannotDecode(f"pixel data in {pixels.syntax.name} cannot be decoded to frames")
    return decoder(frame, pixels, bit_offset)


def with_every_bit(pixels: PixelDescription) -> PixelDescription:
    """`pixels` as they are decoded for keeping: what lies above Bits Stored, overlays of old among it, is not cut off.

    For showing them it must be (PS3.5 8.1.1). Colour that is converted and lossy samples have nothing there.
    """
    if pixels.number is not Number.INTEGER or pixels.bits_allocated == 1 or pixels.syntax.lossy or pixels.is_ybr:
        return pixels
    return replace(pixels, bits_stored=pixels.bits_allocated, high_bit=pixels.bits_allocated - 1)


def described_as_little(pixels: PixelDescription) -> PixelDescription:
    """What describes the frame once it is in Explicit VR Little Endian (PS3.5 A.2).

    High Bit stays where samples are coded as they lie in memory; codestreams hold them from their lowest bit on.
    """
    as_it_lies = pixels.syntax.coding in MEMORY_SAFE and not pixels.is_ybr
    return replace(
        described_as_rgb(pixels),
        transfer_syntax_uid=EXPLICIT_LITTLE,
        word_swapped=False,
        high_bit=pixels.high_bit if as_it_lies else pixels.bits_stored - 1,
    )


def little_bytes(values: Array, pixels: PixelDescription) -> bytes:
    """A decoded frame as bytes of Explicit VR Little Endian.

    1-bit frames are packed from the first bit of a byte: a frame alone has no neighbour to share one with.
    """
    if pixels.bits_allocated == 1:
        return np.packbits(values, bitorder="little").tobytes()
    return values.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()


def is_little(frame: bytes, pixels: PixelDescription) -> bool:
    """Whether `frame` already is what `little_bytes` of its samples would be."""
    size = (pixels.values * pixels.bits_allocated + 7) // 8
    return (
        pixels.syntax.coding in (Coding.NATIVE, Coding.ENCAPSULATED_NATIVE)
        and pixels.syntax.little_endian
        and len(frame) == size
        and (
            pixels.samples == 1
            or (pixels.planar_configuration, pixels.photometric_interpretation) == (0, "RGB")
        )
    )
