"""Where pixels go: aspect ratio, the region wanted, flips, and scaling to the viewport (PS3.18 8.3.5.1.3)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicomweb.rendering.request import MAX_SIDE, Viewport
from dicomweb.rendering.values import macro, numbers
from storage.errors import BadRequest
from storage.types import Dataset

Picture = NDArray[np.uint8]

PIXEL_MEASURES, PIXEL_SPACING, IMAGER_SPACING, NOMINAL_SPACING = (
    "00289110",
    "00280030",
    "00181164",
    "00182010",
)
ASPECT_RATIO = "00280034"
# A difference that nobody sees, and that rounding of spacings makes.
SAME = 0.01
# What a slip of the pen in a spacing must not be allowed to stretch an image to.
MOST = 20.0


def pixel_aspect(dataset: Dataset, frame: int) -> float:
    """Height of a pixel by its width: from spacings, else from Pixel Aspect Ratio (PS3.3 C.7.6.3.1.7)."""
    for tag in (PIXEL_SPACING, IMAGER_SPACING, NOMINAL_SPACING, ASPECT_RATIO):
        group = macro(dataset, frame, PIXEL_MEASURES) if tag == PIXEL_SPACING else dataset
        pair = numbers(group, tag)
        if len(pair) == 2 and min(pair) > 0:
            aspect = pair[0] / pair[1]
            return 1.0 if abs(aspect - 1) < SAME or not 1 / MOST <= aspect <= MOST else aspect
    return 1.0


def fitted(picture: Picture, viewport: Viewport | None, aspect: float) -> Picture:
    """The part of `picture` that is wanted, with square pixels, as large as fits the viewport.

    Without a viewport every pixel stays, and the shorter side of a pixel that is not square is stretched. The result
    has the image's proportions: it is not padded to the viewport's.
    """
    region, across, down = (picture, False, False) if viewport is None else _region(picture, viewport)
    rows, columns = region.shape[:2]
    height, width = max(aspect, 1.0) * rows, columns / min(aspect, 1.0)
    if viewport is not None:
        scale = min(viewport.width / width, viewport.height / height)
        scale = scale if viewport.enlarge else min(scale, 1.0)
        height, width = height * scale, width * scale
    region = scaled(region, min(max(round(height), 1), MAX_SIDE), min(max(round(width), 1), MAX_SIDE))
    return np.ascontiguousarray(region[:: -1 if down else 1, :: -1 if across else 1])


def _region(picture: Picture, viewport: Viewport) -> tuple[Picture, bool, bool]:
    """The source region, cut to the image, and whether it is to be flipped left-right and up-down."""
    rows, columns = picture.shape[:2]
    left, right, across = _span(viewport.source_x, viewport.source_width, columns)
    top, bottom, down = _span(viewport.source_y, viewport.source_height, rows)
    return picture[top:bottom, left:right], across, down


def _span(start: float | None, length: float | None, size: int) -> tuple[int, int, bool]:
    begin = start or 0.0
    end = size if length is None else begin + abs(length)
    first, last = int(begin), min(int(np.ceil(end)), size)
    if first >= last:
        raise BadRequest("viewport's source lies outside the image")
    return first, last, length is not None and length < 0


def scaled(picture: Picture, rows: int, columns: int) -> Picture:
    """Bilinear when it grows; each pixel's share of the area when it shrinks."""
    if picture.shape[:2] == (rows, columns):
        return picture
    image = Image.fromarray(np.ascontiguousarray(picture))
    resized: NDArray[Any] = np.asarray(
        image.resize((columns, rows), Image.Resampling.BILINEAR, reducing_gap=3.0)
    )
    return resized
