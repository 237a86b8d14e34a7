"""XA/XRF presentation states: frame by frame the mask, its shifts and logarithms, shutters and filter (PS3.3 C.11.19 to C.11.21, PS3.4 N.2.5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dicomweb.rendering.animation import as_time
from dicomweb.rendering.luts import Lut, lut
from dicomweb.rendering.masks import (
    MASK_SUBTRACTION,
    OPERATION,
    VIEWING_MODE,
    Region,
    Subtraction,
    applies,
    frame_display,
    impossible,
    of_item,
    ranges,
    shift_of,
    visible_part,
    within,
)
from dicomweb.rendering.references import applying
from dicomweb.rendering.shutters import COVER, COVER_COLOUR, FRAME_SHUTTER
from dicomweb.rendering.values import items, number, numbers, text
from dicomweb.rendering.voi import DESCRIPTOR, LUT_DATA
from storage.errors import CannotDecode
from storage.types import Dataset

PRESENTATION, FILTER, SKIP, RATE = "00289505", "00289411", "00089460", "00089459"
PIXEL_SHIFTS, SHIFTED_FRAMES, SHIFTED_REGIONS, VERTICES = "00289501", "00289506", "00289502", "00289503"
INTENSITY_LUTS, LUT_FRAMES, LUT_FUNCTION = "00289422", "00289507", "00289474"
# The filter at full strength doubles how much a pixel differs from the mean of so many by so many around it.
AROUND: Final = 5
# Of one frame: each region and each shutter is drawn over the whole of it.
MOST_REGIONS: Final = 64
MOST_SHUTTERS: Final = 64


def viewing(state: Dataset, uid: str, frame: int) -> Dataset:
    """How the state wants a frame of an image to be viewed: its item of a Frame Display Sequence (PS3.3 C.11.21)."""
    found = (frame_display(item, frame) for item in applying(state, PRESENTATION, uid, frame))
    return next((one for one in found if one), {})


def subtraction(state: Dataset, uid: str, frame: int, count: int) -> Subtraction | None:
    """What the state subtracts from frame `frame` (from 1) of an image of `count`; None where it is viewed natively.

    A viewing mode that is not known is a native one (PS3.3 C.8.19.7); an item of a time interval without a range is for those
    frames alone that have their mask (PS3.3 C.7.6.10.1.1). Raises CannotDecode for frames that the image has not.
    """
    display = viewing(state, uid, frame)
    item = next((one for one in applying(state, MASK_SUBTRACTION, uid, frame) if applies(one, frame, count)), None)
    if item is None or text(display, VIEWING_MODE) not in ("", "SUB") or text(item, OPERATION) == "NONE":
        return None
    found = of_item(item, frame, count)
    if found is None:
        if text(item, OPERATION) == "TID" and not ranges(item):
            return None
        raise impossible(frame, count)
    return _shifted(replace(found, visible=visible_part(display)), item, frame)


def _shifted(wanted: Subtraction, item: Dataset, frame: int) -> Subtraction:
    """With the pixel shifts that the item has for a contrast frame, by region (PS3.3 C.11.19.1.2). Raises CannotDecode for too many."""
    shift, regions = shift_of(item) or wanted.shift, list[Region]()
    for shifts in items(item, PIXEL_SHIFTS):
        for region in items(shifts, SHIFTED_REGIONS) if within(frame, ranges(shifts, SHIFTED_FRAMES)) else ():
            flat, moved = numbers(region, VERTICES), shift_of(region) or (0.0, 0.0)
            corners = tuple(zip(flat[::2], flat[1::2], strict=False))
            if len(corners) > 2:
                regions.append(Region(corners, moved))
            else:
                # The whole frame, and what came before it with it: the last region counts.
                shift, regions = moved, []
    _bounded(regions, MOST_REGIONS, "regions with a shift of their own")
    return replace(wanted, shift=shift, regions=tuple(regions))


def intensity_lut(state: Dataset, uid: str, frame: int, *, signed: bool) -> Lut | None:
    """What makes a frame's values logarithms of the X-ray beam before they are subtracted; None where they are (PS3.4 N.2.5.1)."""
    for item in _intensity_luts(state, uid, frame):
        frames = ranges(item, LUT_FRAMES)
        if (not frames or within(frame, frames)) and text(item, LUT_FUNCTION) in ("", "TO_LOG"):
            return lut(item, DESCRIPTOR, LUT_DATA, None, signed=signed)
    return None


def _intensity_luts(state: Dataset, uid: str, frame: int) -> Iterator[Dataset]:
    """Those of the mask items of an image, and those that stand beside them."""
    for item in applying(state, MASK_SUBTRACTION, uid, frame):
        yield from items(item, INTENSITY_LUTS)
    yield from applying(state, INTENSITY_LUTS, uid, frame)


def frame_shutters(state: Dataset, uid: str, frame: int) -> list[Dataset]:
    """The shutters of a frame, each with what covers it: its own word, else that of the state (PS3.3 C.11.20, C.11.12).

    Raises CannotDecode for too many: without some of them, what is to be hidden would be seen.
    """
    cover = {tag: state[tag] for tag in (COVER, COVER_COLOUR) if tag in state}
    found: list[Dataset] = [{**cover, **item} for item in applying(state, FRAME_SHUTTER, uid, frame)]
    _bounded(found, MOST_SHUTTERS, "shutters")
    return found


def _bounded(found: Sequence[object], most: int, what: str) -> None:
    if len(found) > most:
        raise CannotDecode(f"the presentation state has {len(found)} {what} for one frame; at most {most} are drawn")


def is_skipped(state: Dataset, uid: str, frame: int) -> bool:
    """Whether a frame may be left out when the run is played (PS3.3 C.11.21)."""
    return text(viewing(state, uid, frame), SKIP) == "SKIP"


def frame_time(state: Dataset, uid: str, frame: int) -> int | None:
    """How long a frame stands when the run is played, in milliseconds; None where the state does not say it."""
    rate = number(viewing(state, uid, frame), RATE)
    return as_time(1000 / rate) if rate is not None and rate > 0 else None


def filter_strength(state: Dataset, uid: str, frame: int) -> float:
    """Display Filter Percentage of a frame, from 0 to 1 (PS3.4 N.2.5.2)."""
    return min(max((number(viewing(state, uid, frame), FILTER) or 0.0) / 100, 0.0), 1.0)


def sharpened(values: NDArray[Any], strength: float, low: int, high: int) -> NDArray[Any]:
    """(rows, columns) whole numbers from `low` to `high` with their edges enhanced; of the same type.

    How strong 100 percent is, the standard leaves to who displays the image (PS3.3 C.8.19.7).
    """
    if not strength:
        return values
    differs = values - _mean(values)
    return np.clip(np.rint(values + strength * differs), low, high).astype(values.dtype)


def _mean(values: NDArray[Any]) -> NDArray[np.float64]:
    """Of the pixels around each; beyond the edge it goes on as it is."""
    half = AROUND // 2
    padded = np.pad(values.astype(np.float64), half, mode="edge")
    rows = sum((padded[at : at + values.shape[0]] for at in range(1, AROUND)), padded[: values.shape[0]])
    columns = sum((rows[:, at : at + values.shape[1]] for at in range(1, AROUND)), rows[:, : values.shape[1]])
    return np.asarray(columns / AROUND**2)
