"""Segmentations: which frame shows which segment of which image, in which colour (PS3.3 C.8.20)."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicomweb.rendering.colours import cielab
from dicomweb.rendering.geometry import Picture
from dicomweb.rendering.values import items, macro, number, numbers, text
from storage.types import Dataset

SEGMENTS, SEGMENT_NUMBER, LABEL, CIELAB = "00620002", "00620004", "00620005", "0062000D"
TYPE, IDENTIFICATION, REFERENCED_SEGMENT, FRACTION = "00620001", "0062000A", "0062000B", "0062000E"
DERIVATION, SOURCE, REFERENCED_INSTANCE, REFERENCED_FRAME = "00089124", "00082112", "00081155", "00081160"
POSITION, PLANE_POSITION = "00200032", "00209113"
SEGMENTATIONS: Final = frozenset({"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"})
# How much of the image shows through, inside; the outline covers it.
FILL, OUTLINE = 0.35, 0.9

Colour = tuple[int, int, int]
Mask = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Source:
    """A frame of an image; 1 where it has only one."""

    instance: str
    frame: int = 1


@dataclass(frozen=True, slots=True)
class SegmentFrame:
    """One frame of a segmentation. `segment` is 0 in a label map, whose pixels are the numbers of segments themselves."""

    number: int
    segment: int
    source: Source | None
    plane: Hashable


def is_segmentation(dataset: Dataset) -> bool:
    """Whether pixels are segments, and not what a camera saw."""
    return text(dataset, "00080016") in SEGMENTATIONS


def segment_frame(dataset: Dataset, frame: int, count: int) -> SegmentFrame:
    """What frame `frame` (from 1) of `count` shows."""
    named = number(macro(dataset, frame, IDENTIFICATION), REFERENCED_SEGMENT)
    labels = text(dataset, TYPE) == "LABELMAP"
    segment = 0 if labels else int(named or _in_order(dataset, frame, count))
    source = _source(dataset, frame)
    position = tuple(round(value, 3) for value in numbers(macro(dataset, frame, PLANE_POSITION), POSITION))
    return SegmentFrame(frame, segment, source, source or position or ("frame", frame))


def together(dataset: Dataset, count: int) -> tuple[SegmentFrame, ...]:
    """The frames of the plane on which most segments are; of several such planes the one in the middle."""
    frames = [segment_frame(dataset, frame, count) for frame in range(1, count + 1)]
    sizes = Counter(frame.plane for frame in frames)
    most = max(sizes.values(), default=0)
    planes = [plane for plane, size in sizes.items() if size == most]
    return tuple(frame for frame in frames if planes and frame.plane == planes[len(planes) // 2])


def colours(dataset: Dataset) -> Mapping[int, Colour]:
    """Segment number -> RGB: as recommended (PS3.3 C.10.7.1.1), else by turns around the colour circle."""
    found = {}
    for index, item in enumerate(items(dataset, SEGMENTS)):
        found[int(number(item, SEGMENT_NUMBER) or 0)] = cielab(item, CIELAB) or turned(index)
    return found


def turned(index: int) -> Colour:
    """Colours that are far from each other, however many are needed."""
    red, green, blue = colorsys.hsv_to_rgb(index * 0.381966 % 1, 0.85, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def laid_over(picture: Picture, mask: Mask, colour: Colour) -> Picture:
    """`picture` in RGB with the segment in its colour: filled so that the image shows through, its outline strong.

    `mask`: (rows, columns) from 0 to 1.
    """
    inside = mask >= 0.5
    padded = np.pad(inside, 1)
    within = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    share = np.clip(mask, 0, 1) * FILL
    share[inside & ~within] = OUTLINE
    mixed = picture * (1 - share[..., None]) + np.array(colour) * share[..., None]
    return np.asarray(np.rint(mixed), np.uint8)


def _in_order(dataset: Dataset, frame: int, count: int) -> int:
    """Without groups of their own frames are in order of segments (TILED_FULL, PS3.3 C.7.6.17.3)."""
    known = [int(number(item, SEGMENT_NUMBER) or 0) for item in items(dataset, SEGMENTS)]
    each = max(count // len(known), 1) if known else 1
    return known[min((frame - 1) // each, len(known) - 1)] if known else 1


def _source(dataset: Dataset, frame: int) -> Source | None:
    for image in items(macro(dataset, frame, DERIVATION), SOURCE):
        instance = text(image, REFERENCED_INSTANCE)
        if instance:
            return Source(instance, int(number(image, REFERENCED_FRAME) or 1))
    return None
