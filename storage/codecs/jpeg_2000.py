"""JPEG 2000 and High-Throughput JPEG 2000, by OpenJPEG, which reads both and does not hang on absurd headers."""

from __future__ import annotations

from imagecodecs import jpeg2k_decode

from storage.codecs.colour import to_rgb
from storage.codecs.foreign import guarded
from storage.codecs.headers import Header, held_against, j2k_codestream, j2k_header
from storage.codecs.pixels import PixelDescription
from storage.codecs.samples import Array, from_codestream

# Spaces that exist only inside a codestream: what the decoder gives back for them is RGB (PS3.5 8.2.4).
INSIDE = ("YBR_RCT", "YBR_ICT")


def decode_jpeg_2000(frame: bytes, pixels: PixelDescription, bit_offset: int = 0) -> Array:
    """RGB or grey. The codestream's COD says whether colour was transformed; the data set is believed otherwise."""
    stream = j2k_codestream(frame)
    header = held_against(j2k_header(stream), pixels)
    with guarded("JPEG 2000"):
        values = jpeg2k_decode(stream)
    values = from_codestream(values, header.bits, pixels)
    return values if _is_rgb(header, pixels) else to_rgb(values, pixels)


def _is_rgb(header: Header, pixels: PixelDescription) -> bool:
    return header.colour == "RGB" or pixels.photometric_interpretation in INSIDE
