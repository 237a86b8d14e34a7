"""Deflated Image Frame Compression (PS3.5 A.4.13): each frame is a DEFLATE stream of its native bytes."""

from __future__ import annotations

import zlib

from storage.codecs.native import decode_native
from storage.codecs.pixels import PixelDescription
from storage.codecs.samples import Array
from storage.errors import CannotDecode


def decode_deflated(frame: bytes, pixels: PixelDescription, bit_offset: int = 0) -> Array:
    """Samples as stored; never inflates more than the frame that the data set describes."""
    size = (pixels.values * pixels.bits_allocated + 7) // 8
    try:
        native = zlib.decompressobj(-zlib.MAX_WBITS).decompress(frame, size)
    except zlib.error as error:
        raise CannotDecode(f"the deflated frame is damaged ({error})") from error
    return decode_native(native, pixels)
