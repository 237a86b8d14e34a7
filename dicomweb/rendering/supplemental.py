"""Grey images with a range of stored values in colour: Supplemental Palette Color LUTs (PS3.3 C.7.6.19, C.8.16.2.1.1.1)."""

from __future__ import annotations

import functools
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dicomweb.rendering.colour import Rgb, palette_table
from dicomweb.rendering.grey import BLACK, GreyTransform, display_table
from dicomweb.rendering.luts import Lut, palette
from dicomweb.rendering.values import Bulk, macro, text
from dicomweb.rendering.voi import GREY
from storage.codecs.pixels import Number, PixelDescription
from storage.errors import CannotDecode
from storage.types import Dataset

PHOTOMETRIC, PIXEL_PRESENTATION, DESCRIPTOR = "00280004", "00089205", "00281101"
# Where a frame says its own: MR, CT, PET, photoacoustic and Parametric Map (Image) Frame Type Sequence (PS3.3 C.8.16.2).
_FRAME_TYPES: Final = ("00189226", "00189329", "00189751", "00189835", "00409092")

Colours = tuple[Lut, Lut, Lut]


def has_colours(dataset: Dataset, frame: int) -> bool:
    """Whether some values of frame `frame` (from 1) of a grey image are colours: Pixel Presentation (0008,9205) is COLOR.

    Of an image that is MIXED only those of its frames are that say so themselves.
    """
    said = text(dataset, PIXEL_PRESENTATION)
    if said not in ("COLOR", "MIXED") or DESCRIPTOR not in dataset or text(dataset, PHOTOMETRIC) not in GREY:
        return False
    own = (text(found, PIXEL_PRESENTATION) for tag in _FRAME_TYPES if (found := macro(dataset, frame, tag)) is not dataset)
    return next((one for one in own if one), said) == "COLOR"


def colours(dataset: Dataset, frame: int, pixels: PixelDescription, bulk: Bulk | None) -> Colours | None:
    """The supplemental palette of a frame; None where it is grey alone. Raises CannotDecode for one that cannot be applied."""
    if not has_colours(dataset, frame):
        return None
    if pixels.number is not Number.INTEGER or pixels.samples != 1 or pixels.bits_allocated > 16:
        raise CannotDecode("a supplemental palette needs one integer sample of at most 16 bits to a pixel")
    return palette(dataset, bulk, signed=pixels.signed)


def in_grey(stored: NDArray[Any], found: Colours | None) -> NDArray[Any]:
    """Those of the samples that are not colours, of which an automatic window is made; all of them where every one is."""
    if found is None:
        return stored
    grey = stored[stored < found[0].first]
    return grey if grey.size else stored


def show_both(stored: NDArray[Any], transform: GreyTransform, found: Colours) -> Rgb:
    """(rows, columns, 3): grey through `transform` below the first value that the palette maps, its colours from there on."""
    return np.take(_table(transform, found, stored.dtype), stored.view(f"u{stored.dtype.itemsize}"), axis=0)


@functools.lru_cache(maxsize=32)
def _table(transform: GreyTransform, found: Colours, dtype: np.dtype[Any]) -> Rgb:
    """RGB indexed by the bits of a sample of `dtype`; 192 KiB at most, read-only."""
    stored = np.arange(1 << (dtype.itemsize * 8)).astype(f"u{dtype.itemsize}").view(dtype)
    grey = display_table(transform, dtype.itemsize * 8)[:, None]
    table: Rgb = np.where((stored < found[0].first)[:, None], grey, palette_table(found, dtype))
    if transform.padding is not None:
        table[(stored >= transform.padding[0]) & (stored <= transform.padding[1])] = BLACK
    table.flags.writeable = False
    return table
