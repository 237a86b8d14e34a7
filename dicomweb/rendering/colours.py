"""Colours that a data set recommends: CIELab values as DICOM writes them (PS3.3 C.10.7.1.1), to sRGB."""

from __future__ import annotations

from typing import Final

from dicomweb.rendering.values import numbers
from storage.types import Dataset

Rgb = tuple[int, int, int]

# D50, which profiles connect to (ISO 15076-1), and the way from there to the linear primaries of sRGB (IEC 61966-2-1).
_WHITE: Final = (0.9642, 1.0, 0.8249)
_TO_SRGB: Final = (
    (3.1338561, -1.6168667, -0.4906146),
    (-0.9787684, 1.9161415, 0.0334540),
    (0.0719453, -0.2289914, 1.4052427),
)


def cielab(dataset: Dataset, tag: str) -> Rgb | None:
    """The colour of a CIELab attribute; None where there is none."""
    values = numbers(dataset, tag)
    return srgb(values[0], values[1], values[2]) if len(values) == 3 else None


def srgb(lightness: float, a: float, b: float) -> Rgb:
    """L* from 0 to 100, a* and b* from -128 to 127, each over 16 bits; what is beyond is at the end of them."""
    lightness, a, b = (min(max(value, 0.0), 65535.0) for value in (lightness, a, b))
    height = (lightness / 65535 * 100 + 16) / 116
    across = (height + (a / 65535 * 255 - 128) / 500, height, height - (b / 65535 * 255 - 128) / 200)
    xyz = [white * _cubed(value) for white, value in zip(_WHITE, across, strict=True)]
    linear = [sum(part * value for part, value in zip(row, xyz, strict=True)) for row in _TO_SRGB]
    red, green, blue = (round(255 * _companded(min(max(value, 0.0), 1.0))) for value in linear)
    return red, green, blue


def _cubed(value: float) -> float:
    return value**3 if value > 6 / 29 else 3 * (6 / 29) ** 2 * (value - 4 / 29)


def _companded(value: float) -> float:
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
