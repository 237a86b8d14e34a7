"""Structure sets: the contours of regions of interest on the images that they were drawn on (PS3.3 C.8.8.5, C.8.8.6)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dicomweb.rendering.geometry import Picture
from dicomweb.rendering.planes import Plane
from dicomweb.rendering.segments import Colour, Source, turned
from dicomweb.rendering.values import items, number, numbers, text
from storage.types import Dataset

STRUCTURE_SET: Final = "1.2.840.10008.5.1.4.1.1.481.3"
ROI_CONTOURS, CONTOURS, COLOUR, IMAGES = "30060039", "30060040", "3006002A", "30060016"
GEOMETRY, DATA, REFERENCED_ROI = "30060042", "30060050", "30060084"
REFERENCED_INSTANCE, REFERENCED_FRAME = "00081155", "00081160"
CLOSED: Final = frozenset({"CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "CLOSED_PLANAR_XOR"})
# Drawn this much larger and made smaller, so that lines are smooth.
FINER: Final = 3
# Beyond this a point is a mistake, and Pillow cannot count so far.
FARTHEST: Final = 1e6


@dataclass(frozen=True, slots=True)
class Contour:
    """A line through (n, 3) points in mm, in the colour of its region; closed or not."""

    roi: int
    colour: Colour
    closed: bool
    points: NDArray[np.float64]


def is_structure_set(dataset: Dataset) -> bool:
    """Whether there may be contours."""
    return text(dataset, "00080016") == STRUCTURE_SET


def contours(dataset: Dataset) -> dict[Source | None, list[Contour]]:
    """Contours by the frame of the image that each was drawn on; by None those that do not name one."""
    found: dict[Source | None, list[Contour]] = {}
    for index, region in enumerate(items(dataset, ROI_CONTOURS)):
        colour = _colour(region, index)
        for item in items(region, CONTOURS):
            values = numbers(item, DATA)
            points = np.array(values[: len(values) // 3 * 3], np.float64).reshape(-1, 3)
            if not len(points):
                continue
            contour = Contour(int(number(region, REFERENCED_ROI) or index), colour, text(item, GEOMETRY) in CLOSED, points)
            found.setdefault(_source(item), []).append(contour)
    return found


def drawn_on(picture: Picture, plane: Plane, lines: Iterable[Contour]) -> Picture:
    """`picture` in RGB with the contours, each projected on its plane."""
    rows, columns = picture.shape[:2]
    image = Image.fromarray(picture).resize((columns * FINER, rows * FINER), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(image)
    # A pixel of the image, and of a small one less.
    width = max(FINER, round(FINER * max(rows, columns) / 512))
    for line in lines:
        pixels, _ = plane.to_pixels(line.points)
        # A pixel's own coordinates are those of its centre.
        placed = np.clip((np.clip(pixels, -FARTHEST, FARTHEST) + 0.5) * FINER, -FARTHEST, FARTHEST)
        points = [(float(x), float(y)) for x, y in placed]
        if len(points) == 1:
            (x, y), arm = points[0], 4 * FINER
            pen.line(((x - arm, y), (x + arm, y)), fill=line.colour, width=width)
            pen.line(((x, y - arm), (x, y + arm)), fill=line.colour, width=width)
            continue
        pen.line(points + points[:1] if line.closed else points, fill=line.colour, width=width, joint="curve")
    return np.asarray(image.resize((columns, rows), Image.Resampling.BOX))


def _colour(region: Dataset, index: int) -> Colour:
    said = numbers(region, COLOUR)
    if len(said) != 3:
        return turned(index)
    red, green, blue = (min(max(int(value), 0), 255) for value in said)
    return red, green, blue


def _source(item: Dataset) -> Source | None:
    for image in items(item, IMAGES):
        instance = text(image, REFERENCED_INSTANCE)
        if instance:
            return Source(instance, int(number(image, REFERENCED_FRAME) or 1))
    return None
