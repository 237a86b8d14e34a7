"""JPEG-LS, lossless and near-lossless, every interleave mode, by CharLS."""

from __future__ import annotations

from imagecodecs import jpegls_decode

from storage.codecs.colour import to_rgb
from storage.codecs.foreign import guarded
from storage.codecs.headers import held_against, whole_jpeg_header
from storage.codecs.pixels import PixelDescription
from storage.codecs.samples import Array, from_codestream


def decode_jpeg_ls(frame: bytes, pixels: PixelDescription, bit_offset: int = 0) -> Array:
    """RGB or grey; the stream says nothing of colour, so Photometric Interpretation is believed (PS3.5 8.2.3)."""
    header = held_against(whole_jpeg_header(frame), pixels)
    with guarded("JPEG-LS"):
        values = jpegls_decode(frame)
    return to_rgb(from_codestream(values, header.bits, pixels), pixels)
