"""Which frames are subtracted from which: the Mask module and that of presentation states (PS3.3 C.7.6.10, C.11.13)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dicomweb.rendering.values import SHARED_GROUPS, items, number, numbers, own_groups, text
from storage.errors import CannotDecode
from storage.types import Dataset

VIEWING_MODE, FRAME_DISPLAY, START_TRIM, STOP_TRIM = "00281090", "00089458", "00082142", "00082143"
MASK_SUBTRACTION, OPERATION, RANGE, FRAME_NUMBERS = "00286100", "00286101", "00286102", "00286110"
AVERAGING, SHIFT, TID_OFFSET = "00286112", "00286114", "00286120"
PIXEL_SHIFT, SUBTRACTION_ID = "00289415", "00289416"
# So many frames can be averaged for one picture.
MOST_AVERAGED: Final = 64


@dataclass(frozen=True, slots=True)
class Subtraction:
    """The mean of frames `mask` is taken from the mean of frames `contrast`, all by their numbers from 1.

    `shift` is how far the mask is moved before that, in rows (down) and columns (to the right).
    """

    contrast: tuple[int, ...]
    mask: tuple[int, ...]
    shift: tuple[float, float] = (0.0, 0.0)


def own_mode(dataset: Dataset, frame: int) -> str:
    """Recommended Viewing Mode of a frame: of the XA/XRF Multi-frame Presentation module for these frames, else of the Mask module (PS3.3 C.8.19.7)."""
    for item in items(dataset, FRAME_DISPLAY):
        first, last = number(item, START_TRIM), number(item, STOP_TRIM)
        if first is not None and last is not None and first <= frame <= last and (mode := text(item, VIEWING_MODE)):
            return mode
    return text(dataset, VIEWING_MODE)


def own_subtraction(dataset: Dataset, frame: int, count: int) -> Subtraction | None:
    """What an image of `count` frames itself wants subtracted from frame `frame`; None where that is shown as it is stored.

    So it is where Recommended Viewing Mode is not SUB, where no item of the Mask module is for the frame or names frames that
    there are, and where the frame would be taken from itself: nothing is to be seen of a mask without its mask.
    """
    if own_mode(dataset, frame) != "SUB":
        return None
    found = (_of_item(item, dataset, frame, count) for item in items(dataset, MASK_SUBTRACTION) if _applies(item, frame, count))
    first = next((one for one in found if one is not None), None)
    return None if first is not None and first.contrast == first.mask and first.shift == (0.0, 0.0) else first


def stated_subtraction(state: Dataset, image: Dataset, frame: int, count: int) -> Subtraction | None:
    """What a presentation state subtracts from a frame that it shows; None where it subtracts nothing.

    Raises CannotDecode where the frames that it names are not there: without the mask everything would look different.
    """
    item = next(iter(items(state, MASK_SUBTRACTION)), None)
    if item is None or text(state, VIEWING_MODE) not in ("", "SUB") or text(item, OPERATION) == "NONE":
        return None
    found = _of_item(item, image, frame, count)
    if found is None:
        raise CannotDecode(f"the presentation state subtracts from frame {frame} what the image of {count} frames has not, or by no operation that is known (PS3.3 C.11.13)")
    return found


def _ranges(item: Dataset) -> list[tuple[int, int]]:
    ends = [int(value) for value in numbers(item, RANGE)]
    return list(zip(ends[::2], ends[1::2], strict=False))


def _applies(item: Dataset, frame: int, count: int) -> bool:
    """Whether an item is for a frame; without a range it is for all that there are enough frames to be averaged with."""
    ranges = _ranges(item)
    if not ranges:
        return text(item, OPERATION) != "AVG_SUB" or frame <= count - _averaged(item) + 1
    return any(first <= frame <= last for first, last in ranges)


def _of_item(item: Dataset, image: Dataset, frame: int, count: int) -> Subtraction | None:
    """What an item wants subtracted; None where not all of its frames are there, or the operation is not known."""
    mask = tuple(_mask_frames(item, frame))
    contrast = tuple(range(frame, min(frame + _averaged(item) - 1, count) + 1))
    if not mask or not contrast or not all(1 <= one <= count for one in mask):
        return None
    if len(mask) + len(contrast) > MOST_AVERAGED:
        raise CannotDecode(f"the mask subtraction averages {len(mask) + len(contrast)} frames; at most {MOST_AVERAGED} are")
    return Subtraction(contrast, mask, _shift(item, image, frame))


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
        yield from (first - offset - (frame - first) for first, _last in _ranges(item)[:1])


def _shift(item: Dataset, image: Dataset, frame: int) -> tuple[float, float]:
    """Of the item, else of the frame's own pixel shifts the one of this item (PS3.3 C.7.6.16.2.14).

    A positive row offset is towards the lower row, a positive column offset towards the column at the left (PS3.3 C.7.6.10.1.2).
    """
    groups = own_groups(image, frame) + items(image, SHARED_GROUPS)[:1]
    own = number(item, SUBTRACTION_ID)
    shifts = [one for group in groups for one in items(group, PIXEL_SHIFT) if own is not None and number(one, SUBTRACTION_ID) == own]
    for holder in (item, *shifts):
        pair = numbers(holder, SHIFT)
        if len(pair) == 2:
            return pair[0], 0.0 - pair[1]
    return 0.0, 0.0
