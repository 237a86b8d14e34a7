"""What of an image a presentation state shows, and how it is turned (PS3.3 C.10.4 Displayed Area, C.10.6 Spatial Transformation)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dicomweb.rendering.geometry import MOST, Picture, pixel_aspect, scaled
from dicomweb.rendering.references import applying
from dicomweb.rendering.request import MAX_AREA, MAX_SIDE, Viewport
from dicomweb.rendering.values import number, numbers, text
from storage.errors import CannotDecode
from storage.types import Dataset

AREAS: Final = "0070005A"
TOP_LEFT, BOTTOM_RIGHT, SIZE_MODE = "00700052", "00700053", "00700100"
SPACING, ASPECT, MAGNIFICATION = "00700101", "00700102", "00700103"
FLIP, ROTATION = "00700041", "00700042"

_ENDLESS: Final = 1e9

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Display:
    """A rectangle of the image, by its edges in pixels from 0, turned clockwise, then flipped, in `width` by `height` pixels.

    It may reach beyond the image: what is there is black.
    """

    left: float
    top: float
    right: float
    bottom: float
    rotation: int
    flipped: bool
    width: int
    height: int

    def at(self, points: Points) -> Points:
        """Where points (n, 2) of the image, column and row from its upper left edge, are in the picture."""
        u = (points[:, 0] - self.left) / (self.right - self.left)
        v = (points[:, 1] - self.top) / (self.bottom - self.top)
        u, v = {0: (u, v), 90: (1 - v, u), 180: (1 - u, 1 - v), 270: (v, 1 - u)}[self.rotation]
        return np.stack([(1 - u if self.flipped else u) * self.width, v * self.height], axis=-1)

    def of(self, picture: Picture) -> Picture:
        """The part of a picture of the whole image, as it is displayed."""
        turned = self.rotation in (90, 270)
        rows, columns = (self.width, self.height) if turned else (self.height, self.width)
        canvas = np.zeros((rows, columns, *picture.shape[2:]), np.uint8)
        down = _part(self.top, self.bottom, picture.shape[0], rows)
        across = _part(self.left, self.right, picture.shape[1], columns)
        if down is not None and across is not None:
            inside = picture[down.first : down.last, across.first : across.last]
            canvas[down.begin : down.end, across.begin : across.end] = scaled(
                inside, down.end - down.begin, across.end - across.begin
            )
        canvas = np.rot90(canvas, -self.rotation // 90)
        return np.ascontiguousarray(canvas[:, ::-1] if self.flipped else canvas)


@dataclass(frozen=True, slots=True)
class _Part:
    """Which rows (or columns) of the image are shown, and from where to where in the picture."""

    first: int
    last: int
    begin: int
    end: int


def _part(start: float, stop: float, size: int, shown: int) -> _Part | None:
    first, last = max(math.floor(start), 0), min(math.ceil(stop), size)
    if first >= last:
        return None
    scale = shown / (stop - start)
    begin, end = round((first - start) * scale), round((last - start) * scale)
    begin = min(max(begin, 0), shown - 1)
    return _Part(first, last, begin, max(min(end, shown), begin + 1))


def display(state: Dataset, image: Dataset, uid: str, frame: int, viewport: Viewport | None) -> Display:
    """How a state displays frame `frame` of the image `uid`, as large as fits the viewport.

    Without a viewport a pixel of the image is one of the picture, or as many as MAGNIFY says; TRUE SIZE cannot be had
    where nobody knows the screen, and is treated as SCALE TO FIT. Raises CannotDecode for an area that cannot be shown.
    """
    rows, columns = int(number(image, "00280010") or 1), int(number(image, "00280011") or 1)
    area: Dataset = next(iter(applying(state, AREAS, uid, frame)), {})
    left, top, right, bottom = _edges(area, rows, columns)
    rotation = int(number(state, ROTATION) or 0) % 360
    if rotation % 90:
        raise CannotDecode(f"Image Rotation is {rotation}; it can be 0, 90, 180 or 270 (PS3.3 C.10.6)")
    aspect = _aspect(area) or pixel_aspect(image, frame)
    height, width = (bottom - top) * max(aspect, 1.0), (right - left) / min(aspect, 1.0)
    if rotation in (90, 270):
        height, width = width, height
    scale = _scale(area, width, height, viewport)
    # Never infinite: sides and magnifications can be any number.
    size = max(round(min(width * scale, _ENDLESS)), 1), max(round(min(height * scale, _ENDLESS)), 1)
    if max(size) > MAX_SIDE or size[0] * size[1] > MAX_AREA:
        raise CannotDecode(f"the displayed area is {size[0]} by {size[1]} pixels; ask for a smaller picture with viewport=1024,1024")
    return Display(left, top, right, bottom, rotation, text(state, FLIP) == "Y", *size)


def _edges(area: Dataset, rows: int, columns: int) -> tuple[float, float, float, float]:
    """Of the displayed area, whose corners are pixels counted from 1; the corners change places where the image is turned."""
    corners: list[Any] = numbers(area, TOP_LEFT) + numbers(area, BOTTOM_RIGHT)
    if len(corners) != 4:
        return 0.0, 0.0, float(columns), float(rows)
    across, down = sorted(corners[::2]), sorted(corners[1::2])
    return across[0] - 1, down[0] - 1, across[1], down[1]


def _aspect(area: Dataset) -> float | None:
    """Height of a pixel by its width, as the state has it."""
    for tag in (SPACING, ASPECT):
        pair = numbers(area, tag)
        if len(pair) == 2 and min(pair) > 0 and 1 / MOST <= pair[0] / pair[1] <= MOST:
            return pair[0] / pair[1]
    return None


def _scale(area: Dataset, width: float, height: float, viewport: Viewport | None) -> float:
    if viewport is not None:
        scale = min(viewport.width / width, viewport.height / height)
        return scale if viewport.enlarge else min(scale, 1.0)
    magnification = number(area, MAGNIFICATION) if text(area, SIZE_MODE) == "MAGNIFY" else None
    return magnification if magnification is not None and magnification > 0 else 1.0
