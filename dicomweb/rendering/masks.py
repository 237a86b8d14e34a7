"""Which frames are subtracted from which: the Mask module and that of presentation states (PS3.3 C.7.6.10, C.11.13)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from dicomweb.rendering.values import SHARED_GROUPS, items, number, numbers, own_groups, text
from storage.errors import CannotDecode
from storage.types import Dataset

VIEWING_MODE, FRAME_DISPLAY, START_TRIM, STOP_TRIM = "00281090", "00089458", "00082142", "00082143"
MASK_SUBTRACTION, OPERATION, RANGE, FRAME_NUMBERS = "00286100", "00286101", "00286102", "00286110"
AVERAGING, SHIFT, TID_OFFSET = "00286112", "00286114", "00286120"
PIXEL_SHIFT, SUBTRACTION_ID, VISIBILITY = "00289415", "00289416", "00289478"
# So many frames can be averaged for one picture.
MOST_AVERAGED: Final = 64
# No image reaches farther, whatever a shift says.
MOST_SHIFTED: Final = 65536.0


# How far a mask is moved, in rows (down) and columns (to the right).
Shift = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Region:
    """Where the mask is moved otherwise: a polygon of the contrast frame, its corners as row and column from 1."""

    corners: tuple[tuple[float, float], ...]
    shift: Shift


@dataclass(frozen=True, slots=True)
class Subtraction:
    """The mean of frames `mask` is taken from the mean of frames `contrast`, all by their numbers from 1.

    `shift` is how far the mask is moved before that, but for `regions`, of which the last one counts where they overlap.
    `visible` is the part of the mask that is not taken away, from 0 to 1.
    """

    contrast: tuple[int, ...]
    mask: tuple[int, ...]
    shift: Shift = (0.0, 0.0)
    regions: tuple[Region, ...] = ()
    visible: float = 0.0


def frame_display(dataset: Dataset, frame: int) -> Dataset:
    """How a frame is to be viewed: its item of a Frame Display Sequence (PS3.3 C.8.19.7, C.11.21)."""
    for item in items(dataset, FRAME_DISPLAY):
        first, last = number(item, START_TRIM), number(item, STOP_TRIM)
        if first is not None and last is not None and first <= frame <= last:
            return item
    return {}


def visible_part(display: Dataset) -> float:
    """Mask Visibility Percentage of a frame's display, from 0, where the mask is taken away, to 1."""
    return min(max((number(display, VISIBILITY) or 0.0) / 100, 0.0), 1.0)


def own_mode(dataset: Dataset, frame: int) -> str:
    """Recommended Viewing Mode of a frame: of the XA/XRF Multi-frame Presentation module for these frames, else of the Mask module (PS3.3 C.8.19.7)."""
    return text(frame_display(dataset, frame), VIEWING_MODE) or text(dataset, VIEWING_MODE)


def own_subtraction(dataset: Dataset, frame: int, count: int) -> Subtraction | None:
    """What an image of `count` frames itself wants subtracted from frame `frame`; None where that is shown as it is stored.

    So it is where Recommended Viewing Mode is not SUB, where no item of the Mask module is for the frame or names frames that
    there are, and where the frame would be taken from itself: nothing is to be seen of a mask without its mask.
    """
    if own_mode(dataset, frame) != "SUB":
        return None
    found = (of_item(item, frame, count, _shift(item, dataset, frame)) for item in items(dataset, MASK_SUBTRACTION) if applies(item, frame, count))
    first = next((one for one in found if one is not None), None)
    if first is None or (first.contrast == first.mask and first.shift == (0.0, 0.0)):
        return None
    return replace(first, visible=visible_part(frame_display(dataset, frame)))


def stated_subtraction(state: Dataset, image: Dataset, frame: int, count: int) -> Subtraction | None:
    """What a presentation state subtracts from a frame that it shows; None where it subtracts nothing.

    Raises CannotDecode where the frames that it names are not there: without the mask everything would look different.
    """
    item = next(iter(items(state, MASK_SUBTRACTION)), None)
    if item is None or text(state, VIEWING_MODE) not in ("", "SUB") or text(item, OPERATION) == "NONE":
        return None
    found = of_item(item, frame, count, _shift(item, image, frame))
    if found is None:
        raise impossible(frame, count)
    return found


def impossible(frame: int, count: int) -> CannotDecode:
    """The refusal of a state that subtracts what is not there."""
    return CannotDecode(
        f"the presentation state subtracts from frame {frame} what the image of {count} frames has not, or by no operation that is known (PS3.3 C.11.13)"
    )


def ranges(item: Dataset, tag: str = RANGE) -> list[tuple[int, int]]:
    """First and last frames of an attribute that names frames by pairs."""
    ends = [int(value) for value in numbers(item, tag)]
    return list(zip(ends[::2], ends[1::2], strict=False))


def within(frame: int, pairs: list[tuple[int, int]]) -> bool:
    """Whether a frame is in any of them."""
    return any(first <= frame <= last for first, last in pairs)


def applies(item: Dataset, frame: int, count: int) -> bool:
    """Whether an item is for a frame; without a range it is for all that there are enough frames to be averaged with."""
    found = ranges(item)
    if not found:
        return text(item, OPERATION) != "AVG_SUB" or frame <= count - _averaged(item) + 1
    return within(frame, found)


def of_item(item: Dataset, frame: int, count: int, shift: Shift = (0.0, 0.0)) -> Subtraction | None:
    """What an item wants subtracted; None where not all of its frames are there, or the operation is not known."""
    mask = tuple(_mask_frames(item, frame))
    contrast = tuple(range(frame, min(frame + _averaged(item) - 1, count) + 1))
    if not mask or not contrast or not all(1 <= one <= count for one in mask):
        return None
    if len(mask) + len(contrast) > MOST_AVERAGED:
        raise CannotDecode(f"the mask subtraction averages {len(mask) + len(contrast)} frames; at most {MOST_AVERAGED} are")
    return Subtraction(contrast, mask, shift)


def _averaged(item: Dataset) -> int:
    return max(int(number(item, AVERAGING) or 1), 1)


def _mask_frames(item: Dataset, frame: int) -> Iterator[int]:
    """PS3.3 C.7.6.10.1.1."""
    operation = text(item, OPERATION)
    named = number(item, TID_OFFSET)
    offset = 1 if named is None else int(named)
    if operation == "AVG_SUB":
        yield from (int(value) for value in numbers(item, FRAME_NUMBERS))
    elif operation == "TID":
        yield frame - offset
    elif operation == "REV_TID":
        # Masks run backwards while the contrast runs forwards from the first frame of the range.
        yield from (first - offset - (frame - first) for first, _last in ranges(item)[:1])


def _shift(item: Dataset, image: Dataset, frame: int) -> Shift:
    """Of the item, else of the frame's own pixel shifts the one of this item (PS3.3 C.7.6.16.2.14)."""
    groups = own_groups(image, frame) + items(image, SHARED_GROUPS)[:1]
    own = number(item, SUBTRACTION_ID)
    shifts = [one for group in groups for one in items(group, PIXEL_SHIFT) if own is not None and number(one, SUBTRACTION_ID) == own]
    return next((found for holder in (item, *shifts) if (found := shift_of(holder)) is not None), (0.0, 0.0))


def shift_of(holder: Dataset) -> Shift | None:
    """Mask Sub-pixel Shift: a positive row offset is towards the lower row, a positive column offset towards the column at the left (PS3.3 C.7.6.10.1.2)."""
    pair = [min(max(value, -MOST_SHIFTED), MOST_SHIFTED) for value in numbers(holder, SHIFT)]
    return (pair[0], 0.0 - pair[1]) if len(pair) == 2 else None
