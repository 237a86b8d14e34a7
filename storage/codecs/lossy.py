"""Encoders with loss: which samples each may be given, how good it is, and what is said of it in the data set (PS3.3 C.7.6.1.1.5).

How good is fixed, because DICOM has no parameter for it in a request for a transfer syntax (PS3.18 8.7.3.5): the same
request gives the same bytes. The error is measured in grey levels of the stored bits, and is the same for all libraries
where they can be told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log10

from imagecodecs import htj2k_encode, jpeg2k_encode, jpeg8_encode, jpegxl_encode
from jpeg_ls import encode_buffer

from storage.codecs.encoder import Encoder, bare, precision, resolutions, with_depth
from storage.codecs.pixels import PixelDescription
from storage.codecs.samples import Array

_QUALITY = 90
_NEAR = 2
# The root mean square of the error that JPEG 2000 is asked for: in bytes, and at most, in deeper samples.
_ERROR, _MOST_ERROR = 1.0, 4.0
# Of JPEG XL, in just noticeable differences.
_DISTANCE = 1.0
_EFFORT = 3


@dataclass(frozen=True, slots=True)
class LossyEncoder(Encoder):
    """`stored`: what Bits Stored can be; `signed`: whether samples may be; `method`: its name in Lossy Image Compression Method
    (0028,2114), with the standard that it is in; `how`: how good, in words for Derivation Description (0008,2111)."""

    stored: range
    signed: bool
    method: str
    how: str


def _jpeg(values: Array, pixels: PixelDescription) -> bytes:
    if pixels.samples == 1:
        return bytes(jpeg8_encode(values, level=_QUALITY, bitspersample=pixels.bits_stored))
    return bytes(
        jpeg8_encode(values, level=_QUALITY, colorspace="RGB", outcolorspace="YCBCR", subsampling="422")
    )


def _jpeg_ls(values: Array, pixels: PixelDescription) -> bytes:
    interleaved = 2 if pixels.samples == 3 else 0
    raw, bits = bare(values).tobytes(), precision(values, pixels, unsigned=True)
    return bytes(encode_buffer(raw, pixels.rows, pixels.columns, pixels.samples, bits, _NEAR, interleaved))


def _jpeg_2000(values: Array, pixels: PixelDescription) -> bytes:
    bits = precision(values, pixels, unsigned=False)
    return bytes(
        jpeg2k_encode(
            values,
            # The ratio of signal to noise, in decibels.
            level=round(20 * log10(((1 << bits) - 1) / _error(pixels))),
            codecformat="j2k",
            reversible=False,
            mct=pixels.samples == 3,
            bitspersample=bits,
            resolutions=resolutions(pixels),
            numthreads=1,
        )
    )


def _htj2k(values: Array, pixels: PixelDescription) -> bytes:
    """The library writes precisions of 8 and 16 only. Steps are fractions of the whole range (T.800 E.1), so samples of
    others fill that of 16 bits, and SIZ, told how many they are, makes of them what they were.
    """
    bits = precision(values, pixels, unsigned=False)
    filled = values << (pixels.bits_allocated - bits) if bits != pixels.bits_allocated else values
    stream = htj2k_encode(
        filled,
        level=2 * _error(pixels) / (1 << bits),
        reversible=False,
        tlm=True,
        resolutions=resolutions(pixels),
        rgb=pixels.samples == 3,
    )
    return with_depth(bytes(stream), bits, pixels)


def _error(pixels: PixelDescription) -> float:
    return min(_MOST_ERROR, max(_ERROR, _ERROR * 2.0 ** (pixels.bits_stored - 8)))


def _jpeg_xl(values: Array, pixels: PixelDescription) -> bytes:
    bits = precision(values, pixels, unsigned=True)
    return bytes(
        jpegxl_encode(values, lossless=False, distance=_DISTANCE, effort=_EFFORT, bitspersample=bits, numthreads=1)
    )


_PREFIX = "1.2.840.10008.1.2.4."
_BYTES, _WORDS = frozenset({8}), frozenset({8, 16})
_RGB: Mapping[str, str] = {"RGB": "RGB"}
_IRREVERSIBLE: Mapping[str, str] = {"RGB": "YBR_ICT"}
_RMS = f"mean error about {_ERROR:g} of 256 grey levels, at most {_MOST_ERROR:g}"

# Samples that are coded without a sign have none: a wrong step across zero would be one across the whole range.
LOSSY: dict[str, LossyEncoder] = {
    _PREFIX + number: LossyEncoder(*row)
    for number, row in {
        "50": (_jpeg, _BYTES, {"RGB": "YBR_FULL_422"}, range(8, 9), False, "ISO_10918_1", f"quality {_QUALITY}"),
        "51": (_jpeg, frozenset({16}), {}, range(12, 13), False, "ISO_10918_1", f"quality {_QUALITY}"),
        "81": (_jpeg_ls, _WORDS, _RGB, range(3, 17), False, "ISO_14495_1", f"no sample off by more than {_NEAR}"),
        "91": (_jpeg_2000, _WORDS, _IRREVERSIBLE, range(2, 17), True, "ISO_15444_1", _RMS),
        "203": (_htj2k, _WORDS, _IRREVERSIBLE, range(2, 17), True, "ISO_15444_15", _RMS),
        "112": (_jpeg_xl, _WORDS, {"RGB": "XYB"}, range(2, 17), False, "ISO_18181_1", f"distance {_DISTANCE:g}"),
    }.items()
}
