"""From stored value to grey level: modality, VOI and presentation in one integer table (PS3.4 N.2, PS3.3 C.11)."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicomweb.rendering.luts import Lut
from dicomweb.rendering.request import Function, Window
from storage.errors import CannotDecode

Grey = NDArray[np.uint8]
# Pixels of a 32-bit or float image that are worked on at once: 2 MiB of doubles.
CHUNK = 1 << 18
BLACK, WHITE = 0, 255


@dataclass(frozen=True, slots=True)
class Rescale:
    """Rescale Slope and Intercept (PS3.3 C.11.1)."""

    slope: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True, slots=True)
class GreyTransform:
    """Everything between a stored value and its grey level. Equal transforms share one table.

    `bits` and `signed` describe the stored values; `padding` is the inclusive range of Pixel Padding Values, which are
    not part of the image and are shown black (PS3.3 C.7.5.1.1.2).
    """

    bits: int
    signed: bool
    modality: Rescale | Lut
    voi: Window | Lut
    inverted: bool = False
    padding: tuple[float, float] | None = None
    presentation: Lut | None = None

    def modality_values(self, stored: NDArray[Any]) -> NDArray[np.float64]:
        """The output of the modality LUT: Hounsfield units for CT."""
        if isinstance(self.modality, Lut):
            return self.modality.look_up(stored).astype(np.float64)
        values: NDArray[np.float64] = stored * np.float64(self.modality.slope)
        values += self.modality.intercept
        return values

    def shown(self, stored: NDArray[Any]) -> NDArray[np.float64]:
        """How bright stored values are from 0 to 1, calculated one by one in double precision, before any inversion."""
        values = self.modality_values(stored)
        shown = _from_lut(values, self.voi) if isinstance(self.voi, Lut) else windowed(values, self.voi)
        if self.presentation is None:
            return shown
        shown *= len(self.presentation.table) - 1
        shown += self.presentation.first
        return _from_lut(shown, self.presentation)

    def levels(self, stored: NDArray[Any]) -> Grey:
        """Grey levels 0 to 255 of stored values."""
        shown = self.shown(stored)
        shown *= WHITE
        shown += 0.5
        levels: Grey = shown.astype(np.uint8)
        if self.inverted:
            np.subtract(WHITE, levels, out=levels)
        if self.padding is not None:
            levels[(stored >= self.padding[0]) & (stored <= self.padding[1])] = BLACK
        return levels


def windowed(values: NDArray[np.float64], window: Window) -> NDArray[np.float64]:
    """PS3.3 C.11.2.1.2.1 (LINEAR), C.11.2.1.3.1 (SIGMOID), C.11.2.1.3.2 (LINEAR_EXACT), into 0 to 1.

    `values` are overwritten.
    """
    center, width = window.center, window.width
    if window.function is Function.SIGMOID:
        values -= center
        values *= -4 / width
        # Beyond this the result is 0 or 1 in double precision, and exp would overflow.
        np.clip(values, -700, 700, out=values)
        np.exp(values, out=values)
        values += 1
        return np.divide(1.0, values, out=values)
    if window.function is Function.LINEAR:
        center, width = center - 0.5, width - 1
    values -= center
    if width == 0:
        return np.where(values > 0, 1.0, 0.0)
    values /= width
    values += 0.5
    return np.clip(values, 0, 1, out=values)


def show(values: NDArray[Any], transform: GreyTransform) -> Grey:
    """The grey picture of decoded samples: by table up to 16 bits, in chunks of doubles beyond."""
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
        table = display_table(transform, values.dtype.itemsize * 8)
        return np.take(table, values.view(f"u{values.dtype.itemsize}"))
    flat = values.reshape(-1)
    shown = np.empty(flat.size, np.uint8)
    for start in range(0, flat.size, CHUNK):
        chunk = flat[start : start + CHUNK]
        levels = transform.levels(np.nan_to_num(chunk))
        # What is not a number is no part of the image, as padding is not.
        levels[np.isnan(chunk)] = BLACK
        shown[start : start + CHUNK] = levels
    return shown.reshape(values.shape)


def coloured(values: NDArray[Any], transform: GreyTransform, colours: tuple[Lut, Lut, Lut]) -> Grey:
    """RGB of decoded samples through a palette over all that the VOI LUT gives (PS3.4 N.2.2, pseudo-colour)."""
    if values.dtype.kind not in "iu" or values.dtype.itemsize > 2:
        raise CannotDecode("pseudo-colour needs whole numbers of at most 16 bits")
    return np.take(colour_table(transform, colours, values.dtype.itemsize * 8), values.view(f"u{values.dtype.itemsize}"), axis=0)


@functools.lru_cache(maxsize=32)
def colour_table(transform: GreyTransform, colours: tuple[Lut, Lut, Lut], container: int) -> Grey:
    """RGB indexed by the stored value's bits in a container of 8 or 16 bits; 192 KiB at most, read-only."""
    reach = 1 << min(transform.bits, container)
    low = -(reach >> 1) if transform.signed else 0
    stored = np.arange(low, low + reach)
    shown = transform.shown(stored.astype(np.float64))
    table = np.zeros((1 << container, 3), np.uint8)
    table[stored] = in_colours(shown, colours)
    if transform.padding is not None:
        table[stored[(stored >= transform.padding[0]) & (stored <= transform.padding[1])]] = BLACK
    table.flags.writeable = False
    return table


def in_colours(shown: NDArray[np.float64], colours: tuple[Lut, Lut, Lut]) -> Grey:
    """(n, 3) red, green and blue of (n,) values from 0 to 1, which a palette is spread over."""
    found = np.empty((len(shown), 3), np.uint8)
    for index, colour in enumerate(colours):
        found[:, index] = colour.look_up(shown * (len(colour.table) - 1) + colour.first) >> max(colour.bits - 8, 0)
    return found


@functools.lru_cache(maxsize=128)
def display_table(transform: GreyTransform, container: int) -> Grey:
    """Grey levels indexed by the stored value's bits in a container of 8 or 16 bits; 64 KiB at most, read-only."""
    reach = 1 << min(transform.bits, container)
    low = -(reach >> 1) if transform.signed else 0
    table = np.zeros(1 << container, np.uint8)
    # Negative values index from the end, as their two's complement does.
    table[np.arange(low, low + reach)] = transform.levels(np.arange(low, low + reach, dtype=np.float64))
    table.flags.writeable = False
    return table


def _from_lut(values: NDArray[np.float64], voi: Lut) -> NDArray[np.float64]:
    return voi.look_up(values) / np.float64((1 << voi.bits) - 1)
