"""From coding to decoder as a table, and the two ways in: in this process, or wherever is safe."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from storage.codecs.colour import to_rgb
from storage.codecs.deflated import decode_deflated
from storage.codecs.jpeg import decode_jpeg
from storage.codecs.jpeg_2000 import decode_jpeg_2000
from storage.codecs.jpeg_ls import decode_jpeg_ls
from storage.codecs.jpeg_xl import decode_jpeg_xl
from storage.codecs.keeping import AS_IT_LIES
from storage.codecs.native import decode_native
from storage.codecs.pixels import Number, PixelDescription
from storage.codecs.rle import decode_rle
from storage.codecs.samples import Array
from storage.errors import CannotDecode
from storage.transfer_syntaxes import Coding

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
MEMORY_SAFE = AS_IT_LIES


def decode_here(frame: bytes, pixels: PixelDescription, *, bit_offset: int = 0) -> Array:
    """Decode in this process: for worker processes, tests, and streams that were encoded here.

    Returns (rows, columns), or (rows, columns, 3) in RGB, of `pixels.dtype`. Raises CannotDecode.
    """
    pixels.check()
    decoder = DECODERS.get(pixels.syntax.coding)
    if decoder is None or (pixels.number is not Number.INTEGER and pixels.syntax.coding not in MEMORY_SAFE):
        raise CannotDecode(f"pixel data in {pixels.syntax.name} cannot be decoded to frames")
    return decoder(frame, pixels, bit_offset)


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
