"""Colour samples as eight-bit RGB: true colour of any depth, and palettes (PS3.4 N.2.2 leaves VOI to grey)."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicomweb.rendering.luts import Lut, palette
from dicomweb.rendering.values import Bulk
from storage.codecs.pixels import Number, PixelDescription
from storage.errors import CannotDecode
from storage.types import Dataset

Rgb = NDArray[np.uint8]


def true_colour(values: NDArray[Any], pixels: PixelDescription) -> Rgb:
    """(rows, columns, 3) of any unsigned depth as bytes: the highest eight of the stored bits."""
    if pixels.number is not Number.INTEGER or pixels.signed:
        raise CannotDecode("colour of signed or floating point samples cannot be shown")
    spare = pixels.bits_stored - 8
    if spare == 0:
        return values.view(np.uint8) if values.dtype.itemsize == 1 else values.astype(np.uint8)
    if spare > 0:
        highest_bits: Rgb = np.right_shift(values, spare).astype(np.uint8)
        return highest_bits
    # Few bits: the highest value becomes white, as it does for grey.
    highest = (1 << pixels.bits_stored) - 1
    return (values.astype(np.uint16) * 255 // highest).astype(np.uint8)


def palette_colour(
    values: NDArray[Any], dataset: Dataset, pixels: PixelDescription, bulk: Bulk | None
) -> Rgb:
    """(rows, columns, 3) through the Palette Color LUTs; values outside take the first or last entry."""
    if pixels.number is not Number.INTEGER or pixels.samples != 1 or values.dtype.itemsize > 2:
        raise CannotDecode("a palette needs one integer sample of at most 16 bits to a pixel")
    table = palette_table(palette(dataset, bulk, signed=pixels.signed), values.dtype)
    return np.take(table, values.view(f"u{values.dtype.itemsize}"), axis=0)


@functools.lru_cache(maxsize=32)
def palette_table(luts: tuple[Lut, Lut, Lut], dtype: np.dtype[Any]) -> Rgb:
    """RGB indexed by the bits of a sample of `dtype`; 192 KiB at most, read-only."""
    stored = np.arange(1 << (dtype.itemsize * 8)).astype(f"u{dtype.itemsize}").view(dtype)
    table = np.stack([_bytes(lut, stored) for lut in luts], axis=-1)
    table.flags.writeable = False
    return table


def _bytes(lut: Lut, stored: NDArray[Any]) -> NDArray[np.uint8]:
    entries = lut.look_up(stored)
    return (entries >> (lut.bits - 8) if lut.bits > 8 else entries).astype(np.uint8)
