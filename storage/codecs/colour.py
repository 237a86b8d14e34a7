"""YCbCr to RGB, once (PS3.3 C.7.6.3.1.2): the one conversion that leaves a decoder's hands to ours."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

from storage.codecs.pixels import PixelDescription
from storage.codecs.samples import Array
from storage.errors import CannotDecode

# Red from Cr, green from Cb and Cr, blue from Cb: the inverse of ITU-R BT.601, as PS3.3 writes it.
RED_CR, GREEN_CB, GREEN_CR, BLUE_CB = 1.402, -0.344136, -0.714136, 1.772

FULL_RANGE = ("YBR_FULL", "YBR_FULL_422")
# Retired: luma 16-235, chroma 16-240 (PS3.3 2017).
PARTIAL_RANGE = ("YBR_PARTIAL_422", "YBR_PARTIAL_420")


def described_as_rgb(pixels: PixelDescription) -> PixelDescription:
    """What is true of a decoded frame: colour is RGB by pixel, or in full YCbCr where it is kept; the rest is as it was."""
    if pixels.samples != 3:
        return replace(pixels, planar_configuration=0)
    stays = pixels.keeps_colour and pixels.photometric_interpretation in FULL_RANGE
    return replace(pixels, planar_configuration=0, photometric_interpretation="YBR_FULL" if stays else "RGB")


def to_rgb(values: Array, pixels: PixelDescription) -> Array:
    """`values` (rows, columns, 3) of YCbCr as RGB of the same type; RGB and grey are returned as they are."""
    interpretation = pixels.photometric_interpretation
    if pixels.samples != 3 or interpretation == "RGB" or (pixels.keeps_colour and interpretation in FULL_RANGE):
        return values
    if interpretation not in FULL_RANGE + PARTIAL_RANGE or pixels.signed or pixels.bits_stored > 16:
        raise CannotDecode(f"colour of Photometric Interpretation {interpretation!r} cannot be shown")
    tables = _tables(pixels.bits_stored, interpretation in PARTIAL_RANGE)
    y, cb, cr = (values[..., index] for index in range(3))
    luma = tables[0][y]
    rgb = np.empty_like(values)
    highest = (1 << pixels.bits_stored) - 1
    for index, chroma in enumerate((tables[1][cr], tables[2][cb] + tables[3][cr], tables[4][cb])):
        chroma += luma
        rgb[..., index] = np.clip(np.right_shift(chroma, 12), 0, highest)
    return rgb


@functools.lru_cache(maxsize=4)
def _tables(bits: int, partial: bool) -> tuple[Array, Array, Array, Array, Array]:
    """Fixed-point tables with twelve bits of fraction: luma (rounding included), then the four chroma terms."""
    size = 1 << bits
    steps = np.arange(size, dtype=np.float64)
    chroma = steps - size / 2
    if partial:
        steps = (steps - 16 * size / 256) * (255 / 219)
        chroma *= 255 / 224

    def fixed(numbers: Array) -> Array:
        terms: Array = np.rint(numbers * (1 << 12)).astype(np.int32)
        return terms

    return (
        fixed(steps + 0.5),
        fixed(chroma * RED_CR),
        fixed(chroma * GREEN_CB),
        fixed(chroma * GREEN_CR),
        fixed(chroma * BLUE_CB),
    )
