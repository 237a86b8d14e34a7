"""JPEG XL: lossless, lossy, and recompressed JPEG, by libjxl."""

from __future__ import annotations

from imagecodecs import jpegxl_decode

from storage.codecs.foreign import guarded
from storage.codecs.headers import held_against
from storage.codecs.jxl_header import jxl_header
from storage.codecs.pixels import PixelDescription
from storage.codecs.samples import Array, from_codestream


def decode_jpeg_xl(frame: bytes, pixels: PixelDescription, bit_offset: int = 0) -> Array:
    """RGB or grey: libjxl gives back RGB whatever the stream holds (PS3.5 8.2.18: XYB, YBR_FULL, RGB)."""
    header = held_against(jxl_header(frame), pixels)
    with guarded("JPEG XL"):
        values = jpegxl_decode(frame, numthreads=1)
    return from_codestream(values, header.bits, pixels)
