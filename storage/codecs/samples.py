"""Samples made good after decoding: bits above those stored, sign, and the array's type (PS3.5 8.1.1)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.codecs.pixels import Number, PixelDescription
from storage.errors import CannotDecode

Array = NDArray[Any]


def in_range(values: Array, pixels: PixelDescription) -> Array:
    """The value in the stored bits of each sample: what lies above is not part of it (retired overlays, padding).

    `values` has `pixels.dtype`, or the unsigned type of its size; the sign is that of the highest stored bit.
    """
    spare = pixels.bits_allocated - pixels.bits_stored
    if pixels.number is not Number.INTEGER or pixels.bits_allocated == 1:
        return values
    values = values.view(pixels.dtype)
    if spare == 0:
        return values
    above = pixels.bits_allocated - 1 - pixels.high_bit
    if not pixels.signed and above == spare:
        kept: Array = np.bitwise_and(values, np.array((1 << pixels.bits_stored) - 1, pixels.dtype))
        return kept
    # Left until the highest stored bit is the sign, then back: shifting right keeps the sign of signed types.
    return np.right_shift(np.left_shift(values, above), spare)


def from_codestream(values: Array, bits: int, pixels: PixelDescription) -> Array:
    """Samples of a codestream that holds `bits` bits each, as the numbers that `pixels` describes.

    Raises CannotDecode where the decoder's array is not of the described shape. Lossy decoders overshoot, so their
    result is held within the stored bits; lossless samples are cut to them (PS3.5 8.2).
    """
    if values.shape != pixels.shape:
        raise CannotDecode(
            f"the codestream gave {values.shape} samples where the data set says {pixels.shape}"
        )
    if pixels.syntax.lossy:
        return _clipped(_as_numbers(values, bits, pixels), pixels)
    numbers = _as_numbers(values, bits, pixels)
    return _cut(numbers, pixels.bits_stored) if bits > pixels.bits_stored else numbers


def _as_numbers(values: Array, bits: int, pixels: PixelDescription) -> Array:
    """Two's complement of `bits` bits where the data set is signed, else the lowest `bits` bits (PS3.5 8.1.1)."""
    if values.dtype.kind == "i" and pixels.signed:
        return values.astype(pixels.dtype, copy=False)
    return _cut(values.astype(pixels.dtype, copy=False), bits)


def _cut(numbers: Array, bits: int) -> Array:
    """The lowest `bits` bits, the highest of which is the sign in signed types."""
    spare = numbers.dtype.itemsize * 8 - bits
    return np.right_shift(np.left_shift(numbers, spare), spare) if spare else numbers


def _clipped(values: Array, pixels: PixelDescription) -> Array:
    low = -(1 << (pixels.bits_stored - 1)) if pixels.signed else 0
    high = low + (1 << pixels.bits_stored) - 1
    if pixels.bits_stored == pixels.dtype.itemsize * 8:
        return values
    return np.clip(values, low, high)
