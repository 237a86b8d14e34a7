"""JPEG: baseline, extended, progressive (8 and 12 bits) and lossless (2 to 16 bits), by libjpeg-turbo."""

from __future__ import annotations

from imagecodecs import jpeg8_decode

from storage.codecs.colour import to_rgb
from storage.codecs.foreign import guarded
from storage.codecs.headers import Header, held_against, whole_jpeg_header
from storage.codecs.pixels import PixelDescription
from storage.codecs.samples import Array, from_codestream
from storage.codecs.strict_jpeg import read_strictly


def decode_jpeg(frame: bytes, pixels: PixelDescription, bit_offset: int = 0) -> Array:
    """RGB or grey. Colour is converted once: inside the decoder for lossy streams, by us for lossless ones. Raises CannotDecode."""
    header = held_against(whole_jpeg_header(frame), pixels)
    ycbcr = pixels.samples == 3 and _is_ycbcr(header, pixels)
    with guarded("JPEG"):
        values = read_strictly(frame, header, ycbcr=ycbcr)
        if values is None:
            values = jpeg8_decode(frame) if pixels.samples == 1 else _colour(frame, "YCBCR" if ycbcr and not header.lossless else "RGB")
    values = from_codestream(values, header.bits, pixels)
    return to_rgb(values, pixels) if ycbcr and header.lossless else values


def _colour(frame: bytes, inside: str) -> Array:
    """Without both names libjpeg guesses the stream's colour space for itself, and converts what it has guessed."""
    return jpeg8_decode(frame, colorspace=inside, outcolorspace="RGB")


def _is_ycbcr(header: Header, pixels: PixelDescription) -> bool:
    """The stream's own marker wins over Photometric Interpretation, which is often wrong (PS3.5 8.2.1)."""
    return header.colour == "YCBCR" if header.colour else pixels.is_ybr
