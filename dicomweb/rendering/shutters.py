"""Display shutters (PS3.3 C.7.6.11): what lies outside their shapes is covered, for the eyes of who reads the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dicomweb.rendering.colours import cielab
from dicomweb.rendering.geometry import Picture
from dicomweb.rendering.values import number, numbers, values
from storage.types import Dataset

SHAPE = "00181600"
LEFT, RIGHT, UPPER, LOWER = "00181602", "00181604", "00181606", "00181608"
CENTER, RADIUS, VERTICES = "00181610", "00181612", "00181620"
# Where a frame has its own: a functional group of enhanced images (PS3.3 C.7.6.16.2.16), a sequence of XA/XRF states (C.11.20).
FRAME_SHUTTER = "00189472"
COVER, COVER_COLOUR = "00181622", "00181624"

_FARTHEST = 1e6

Seen = NDArray[np.bool_]


def shuttered(picture: Picture, dataset: Dataset) -> Picture:
    """`picture` with everything covered that is outside any of the shutters; one that is not described covers nothing."""
    shapes = {str(shape).strip() for shape in values(dataset, SHAPE)}
    masks = [mask for shape, mask_of in _MASKS.items() if shape in shapes and (mask := mask_of(picture, dataset)) is not None]
    if not masks:
        return picture
    return under(picture, ~np.logical_and.reduce(masks), dataset)


def under(picture: Picture, hidden: Seen, dataset: Dataset) -> Picture:
    """`picture` covered where it is `hidden`: black, or in Shutter Presentation Value, a P-value of 16 bits.

    A picture in colour is covered with Shutter Presentation Color CIELab Value where there is one (PS3.3 C.11.12).
    """
    covered = picture.copy()
    colour = cielab(dataset, COVER_COLOUR) if picture.ndim == 3 else None
    covered[hidden] = min(max(int(number(dataset, COVER) or 0), 0), 0xFFFF) >> 8 if colour is None else colour
    return covered


def _rectangle(picture: Picture, dataset: Dataset) -> Seen | None:
    """Edges are rows and columns from 1, and themselves are covered no more than what is between them."""
    left, right, upper, lower = (number(dataset, tag) for tag in (LEFT, RIGHT, UPPER, LOWER))
    if left is None or right is None or upper is None or lower is None:
        return None
    seen = np.zeros(picture.shape[:2], np.bool_)
    seen[_inside(upper, lower), _inside(left, right)] = True
    return seen


def _inside(first: float, last: float) -> slice:
    return slice(max(int(first) - 1, 0), max(int(last), 0))


def _circle(picture: Picture, dataset: Dataset) -> Seen | None:
    center, radius = _within_reach(numbers(dataset, CENTER)), number(dataset, RADIUS)
    if len(center) != 2 or radius is None:
        return None
    radius = min(abs(radius), 2.0 * _FARTHEST)
    rows, columns = (np.arange(1, length + 1, dtype=np.float64) for length in picture.shape[:2])
    distance = (rows[:, None] - center[0]) ** 2 + (columns[None, :] - center[1]) ** 2
    seen: Seen = distance <= radius**2
    return seen


def _polygon(picture: Picture, dataset: Dataset) -> Seen | None:
    flat = _within_reach(numbers(dataset, VERTICES))
    corners = list(zip(flat[::2], flat[1::2], strict=False))
    return polygon(corners, picture.shape[0], picture.shape[1]) if len(corners) > 2 else None


def polygon(corners: Sequence[tuple[float, float]], rows: int, columns: int) -> Seen:
    """What is inside a polygon, its edges too, of three or more corners as row and column from 1; it closes itself."""
    mask = Image.new("1", (columns, rows))
    ImageDraw.Draw(mask).polygon([(column - 1, row - 1) for row, column in corners], fill=1, outline=1)
    return np.asarray(mask, np.bool_)


def _within_reach(places: list[float]) -> list[float]:
    """No farther than any image reaches, so that squares of it can be had."""
    return [min(max(place, -_FARTHEST), _FARTHEST) for place in places]


_MASKS = {"RECTANGULAR": _rectangle, "CIRCULAR": _circle, "POLYGONAL": _polygon}
