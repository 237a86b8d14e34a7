"""Frames with their mask subtracted: in whole numbers, and by one table from the difference to its grey level (PS3.4 N.2.1.2)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dicomweb.rendering.grey import Grey, GreyTransform, Rescale, in_colours
from dicomweb.rendering.luts import Lut
from dicomweb.rendering.masks import Subtraction, own_mode, own_subtraction
from dicomweb.rendering.request import Function, Window
from dicomweb.rendering.shutters import polygon
from dicomweb.rendering.values import Bulk, macro, number, text
from dicomweb.rendering.voi import CENTER, WIDTH, described, transform
from storage.codecs.pixels import Number, PixelDescription
from storage.types import Dataset

INTENSITY, PIXEL_DATA_PROPERTIES, NUMBER_OF_FRAMES = "00281040", "00289443", "00280008"
# Entries of the table on either side of zero: of more a difference is rounded.
MOST_REACH: Final = 1 << 20
# Of a mask that is moved by parts of a pixel a difference is kept to a quarter.
PARTS: Final = 4
# Of so many differences the automatic window is made.
SAMPLE: Final = 1 << 14
# The automatic window reaches as far to either side of zero as all but these few go.
MOST_OF: Final = 99.5

Integers = NDArray[Any]
# The decoded samples of a frame, by its number from 1.
Samples = Callable[[int], Integers]


@dataclass(frozen=True, slots=True)
class Difference:
    """(rows, columns) whole numbers from -`reach` to `reach`, each as many times `unit` in what the VOI LUT takes."""

    values: NDArray[np.int32]
    reach: int
    unit: float

    @property
    def ends(self) -> float:
        """The greatest difference that there can be, in what the VOI LUT takes."""
        return self.reach * self.unit


@dataclass(frozen=True, slots=True)
class Scale:
    """What stored values become before they are subtracted: entries of `table`, or themselves, each `unit`; `bits` of them."""

    bits: int
    unit: float = 1.0
    table: Lut | None = None

    def of(self, stored: Integers) -> NDArray[np.int32]:
        """As whole numbers that can be added up."""
        if self.table is None:
            return stored.astype(np.int32)
        return np.take(self.table.table, stored.astype(np.int32) - self.table.first, mode="clip").astype(np.int32)


def subtracted(dataset: Dataset, frame: int, pixels: PixelDescription) -> Subtraction | None:
    """What is taken from frame `frame` (from 1) of an image before it is shown, by its own word."""
    return own_subtraction(dataset, frame, int(number(dataset, NUMBER_OF_FRAMES) or 1)) if can_subtract(pixels) else None


def can_subtract(pixels: PixelDescription) -> bool:
    """Whether such frames can have a mask: greyscale, in whole numbers of at most 16 bits."""
    return pixels.photometric_interpretation.startswith("MONOCHROME") and pixels.number is Number.INTEGER and 1 < pixels.bits_stored <= 16


def own_scale(dataset: Dataset, frame: int, pixels: PixelDescription, modality: Rescale | Lut) -> Scale:
    """Where an image says how its values belong to the X-ray beam, they are subtracted as logarithms of that (PS3.4 N.2.1.2).

    LOG values are, as they are: its modality LUT makes them linear again (PS3.3 C.8.7.1.1.2). DISP says nothing, and is taken as it is.
    """
    relationship = _relationship(dataset, frame)
    if relationship == "LIN" and not pixels.signed:
        return Scale(16, ((1 << pixels.bits_stored) - 1) / 0xFFFF, logarithms(pixels.bits_stored))
    return Scale(pixels.bits_stored) if relationship else scale(pixels, modality)


def _relationship(dataset: Dataset, frame: int) -> str:
    """Pixel Intensity Relationship: of the image, or of the frame in an enhanced one (PS3.3 C.8.19.6.4)."""
    return text(macro(dataset, frame, PIXEL_DATA_PROPERTIES), INTENSITY)


def scale(pixels: PixelDescription, modality: Rescale | Lut) -> Scale:
    """The modality LUT that a presentation state, or an image that is none of X-rays, has."""
    if isinstance(modality, Lut):
        return Scale(modality.bits, table=modality)
    # The intercept is in both.
    return Scale(pixels.bits_stored, modality.slope)


@functools.lru_cache(maxsize=4)
def logarithms(bits: int) -> Lut:
    """log(1 + value) of all values of so many bits, spread over 16."""
    values = np.log1p(np.arange(1 << bits)) * (0xFFFF / (bits * math.log(2)))
    return Lut(0, np.rint(values).astype(np.uint16).tobytes(), 16)


def difference(wanted: Subtraction, samples: Samples, how: Scale) -> Difference:
    """The mean of the contrast frames less that of the mask frames, moved as far as is wanted."""
    contrast = _sum(wanted.contrast, samples, how)
    mask = _sum(wanted.mask, samples, how)
    highest = (1 << how.bits) - 1
    shifts = (wanted.shift, *(region.shift for region in wanted.regions))
    if wanted.visible or any(not float(part).is_integer() for shift in shifts for part in shift):
        moved = _placed(mask / len(wanted.mask), wanted, _between_pixels) * (1 - wanted.visible)
        found = np.rint((contrast / len(wanted.contrast) - moved) * PARTS).astype(np.int32)
        return Difference(found, highest * PARTS, how.unit / PARTS)
    # Over a common denominator nothing is lost.
    parts = len(wanted.contrast) * len(wanted.mask)
    found = contrast * len(wanted.mask) - _placed(mask, wanted, _moved) * len(wanted.contrast)
    coarser = max((highest * parts).bit_length() - MOST_REACH.bit_length() + 1, 0)
    if coarser:
        found = (found + (1 << (coarser - 1))) >> coarser
    return Difference(found, (highest * parts >> coarser) + bool(coarser), how.unit / parts * (1 << coarser))


def _sum(frames: tuple[int, ...], samples: Samples, how: Scale) -> NDArray[np.int32]:
    total = how.of(samples(frames[0]))
    for frame in frames[1:]:
        total += how.of(samples(frame))
    return total


def _placed(mask: NDArray[Any], wanted: Subtraction, moved: Callable[[NDArray[Any], float, float], NDArray[Any]]) -> NDArray[Any]:
    """The mask where the contrast frames have it: each region with its own shift (PS3.3 C.11.19.1.2)."""
    placed = moved(mask, *wanted.shift)
    for region in wanted.regions:
        placed = np.where(polygon(region.corners, *mask.shape), moved(mask, *region.shift), placed)
    return placed


def _moved(values: NDArray[Any], down: float, right: float) -> NDArray[Any]:
    """By whole pixels; what comes in is as the edge is."""
    if not down and not right:
        return values
    rows, columns = (np.clip(np.arange(size) - int(by), 0, size - 1) for size, by in zip(values.shape, (down, right), strict=True))
    return np.asarray(values[np.ix_(rows, columns)])


def _between_pixels(values: NDArray[np.float64], down: float, right: float) -> NDArray[np.float64]:
    """By parts of a pixel, along straight lines between the nearest four."""
    whole = math.floor(down), math.floor(right)
    below, beside = down - whole[0], right - whole[1]
    first, second = _moved(values, whole[0], whole[1]), _moved(values, whole[0], whole[1] + 1)
    upper = first * (1 - beside) + second * beside
    first, second = _moved(values, whole[0] + 1, whole[1]), _moved(values, whole[0] + 1, whole[1] + 1)
    return np.asarray(upper * (1 - below) + (first * (1 - beside) + second * beside) * below)


def own_difference(
    wanted: Subtraction, stored: Integers, dataset: Dataset, frame: int, pixels: PixelDescription, window: Window | Lut | None, bulk: Bulk | None, samples: Samples
) -> tuple[Difference, GreyTransform]:
    """An image's own subtraction, and how it is shown: in the window of the request, else in its own, else about a zero of middle grey.

    A window of its own that has all differences below zero black is one of its stored values, and is passed over.
    """
    made = transform(stored, dataset, frame, pixels, window or Window(0, 1), bulk)
    found = difference(wanted, lambda number: stored if number == frame else samples(number), own_scale(dataset, frame, pixels, made.modality))
    voi: Window | Lut | None = window or (None if _relationship(dataset, frame) == "LIN" else _window_of_differences(dataset, frame, pixels, bulk))
    return found, of_difference(found, made, voi or _automatic(found))


def as_stored(dataset: Dataset, frame: int, pixels: PixelDescription, bulk: Bulk | None) -> Dataset:
    """The data set by which a frame is shown that nothing is taken from: without its window where that is of differences."""
    if own_mode(dataset, frame) != "SUB" or pixels.signed or _window_of_differences(dataset, frame, pixels, bulk) is None:
        return dataset
    return {tag: value for tag, value in dataset.items() if tag not in (CENTER, WIDTH)}


def _window_of_differences(dataset: Dataset, frame: int, pixels: PixelDescription, bulk: Bulk | None) -> Window | None:
    """The image's own window, if it is not one of values that are never negative."""
    voi = described(dataset, frame, pixels, bulk, signed=True)
    return voi if isinstance(voi, Window) and voi.center - voi.width / 2 < -1 else None


def of_difference(found: Difference, made: GreyTransform, voi: Window | Lut | None = None) -> GreyTransform:
    """A transform of stored values as one of differences; without `voi` all that there can be is shown."""
    voi = voi or Window(0, 2 * found.ends, Function.LINEAR_EXACT)
    return replace(made, bits=found.reach.bit_length() + 1, signed=True, modality=Rescale(found.unit), voi=voi, padding=None)


def _automatic(found: Difference) -> Window:
    flat = found.values.reshape(-1)
    reach = float(np.percentile(np.abs(flat[:: max(1, flat.size // SAMPLE)]), MOST_OF)) or float(np.abs(flat).max(initial=0)) or 1.0
    return Window(0, 2 * reach * found.unit, Function.LINEAR_EXACT)


def show_difference(found: Difference, how: GreyTransform, colours: tuple[Lut, Lut, Lut] | None = None) -> Grey:
    """The picture of differences: grey, or in the colours of a palette over all that the VOI LUT gives (PS3.4 N.2.2)."""
    return np.take(_table(how, found.reach, colours), found.values + found.reach, axis=0, mode="clip")


@functools.lru_cache(maxsize=16)
def _table(how: GreyTransform, reach: int, colours: tuple[Lut, Lut, Lut] | None) -> Grey:
    """Grey levels, or red, green and blue, by the difference, from -reach on; read-only, 2 MiB a colour at most."""
    every = np.arange(-reach, reach + 1, dtype=np.float64)
    table = how.levels(every) if colours is None else in_colours(how.shown(every), colours)
    table.flags.writeable = False
    return table
