"""Dose grids of radiotherapy: where their planes are, and their dose as a wash of colours over an image (PS3.3 C.8.8.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicomweb.rendering.drawing import Canvas
from dicomweb.rendering.geometry import Picture
from dicomweb.rendering.lettering import line
from dicomweb.rendering.planes import POSITION, Plane, Vector, plane_of
from dicomweb.rendering.values import number, numbers, text
from dicomweb.rendering.voi import INTERCEPT, SLOPE
from storage.types import Dataset

RT_DOSE: Final = "1.2.840.10008.5.1.4.1.1.481.2"
SCALING, UNITS, OFFSETS, FRAME_OF_REFERENCE = "3004000E", "30040002", "3004000C", "00200052"
# Less than this part of the most is not coloured: everything that the beams have passed through would be.
LEAST: Final = 0.05
# How much of the colour covers the image.
COVER: Final = 0.4
# From the least to the most; between them colours change evenly.
_COLOURS: Final = np.array([[0, 0, 255], [0, 255, 255], [0, 255, 0], [255, 255, 0], [255, 0, 0]], np.float64)
# Parts of the most that the legend names, and how large a picture is that has one.
_NAMED: Final = (1.0, 0.75, 0.5, 0.25)
_LEGEND_SIDE: Final = 200
# How far off the last plane, in parts of the distance between planes, there is still a dose.
_BEYOND: Final = 0.5

Dose = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DoseGrid:
    """The planes of the frames in their order, and where each is along their normal, in mm from the first."""

    planes: tuple[Plane, ...]
    heights: tuple[float, ...]

    @property
    def between(self) -> float:
        """The distance between planes, in mm; that of pixels where there is one plane."""
        steps = np.diff(np.sort(np.array(self.heights)))
        return float(steps.max()) if len(steps) else float(np.linalg.norm(self.planes[0].across))

    def places(self, points: Vector) -> tuple[Vector, Vector, NDArray[np.bool_]]:
        """Of (n, 3) points in mm the (n, 2) column and row, the (n,) place in the `order` of frames, and which are inside its planes."""
        pixels, heights = self.planes[0].to_pixels(points)
        known = np.array(self.heights)[list(self.order)]
        beyond = self.between * _BEYOND + 1e-6
        inside = (heights >= known[0] - beyond) & (heights <= known[-1] + beyond)
        # Rounded, so that what lies on a frame is not also of its neighbour.
        return pixels, np.interp(heights, known, np.arange(len(known))).round(6), inside

    @property
    def order(self) -> tuple[int, ...]:
        """Frames, from 0, by their heights."""
        return tuple(sorted(range(len(self.heights)), key=self.heights.__getitem__))


def is_dose(dataset: Dataset) -> bool:
    """Whether pixels are doses."""
    return text(dataset, "00080016") == RT_DOSE


def dose_scaling(dataset: Dataset) -> float:
    """Dose Units for one stored value."""
    return number(dataset, SCALING) or 1.0


def as_image(dataset: Dataset) -> Dataset:
    """The data set with the dose as the output of its modality LUT."""
    return {**dataset, SLOPE: {"vr": "DS", "Value": [dose_scaling(dataset)]}, INTERCEPT: {"vr": "DS", "Value": [0.0]}}


def dose_grid(dataset: Dataset, count: int) -> DoseGrid | None:
    """Where `count` frames are; None where the data set does not say it.

    Grid Frame Offset Vector has distances from the first plane along the normal, or, of axial planes, their z (PS3.3 C.8.8.3.2).
    """
    first = plane_of(dataset, 1)
    offsets = numbers(dataset, OFFSETS)[:count]
    if first is None or (len(offsets) < count and count > 1):
        return None
    offsets = offsets or [0.0]
    step = first.normal
    z = numbers(dataset, POSITION)[2]
    if offsets[0] and abs(offsets[0] - z) < 0.01 and abs(abs(float(first.normal[2])) - 1) < 1e-3:
        step, offsets = np.array([0.0, 0.0, 1.0]), [offset - offsets[0] for offset in offsets]
    planes = tuple(replace(first, origin=first.origin + step * offset) for offset in offsets)
    return DoseGrid(planes, tuple(float((plane.origin - first.origin) @ first.normal) for plane in planes))


def sampled(grid: DoseGrid, dose_of: Callable[[int], Dose], plane: Plane, shape: tuple[int, int]) -> Dose:
    """The dose at the pixels of a plane, wherever that lies: between the nearest eight, 0 outside. `dose_of` a frame, from 1."""
    rows, columns = shape
    corners = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2).astype(np.float64)
    pixels, places, inside = grid.places(plane.to_patient(corners))
    found = np.zeros(rows * columns)
    for at, frame in enumerate(grid.order):
        weights = np.clip(1 - np.abs(places - at), 0, None) * inside
        chosen = np.flatnonzero(weights)
        if len(chosen):
            found[chosen] += weights[chosen] * _between_four(dose_of(frame + 1), pixels[chosen])
    return found.reshape(shape)


def _between_four(values: Dose, pixels: Vector) -> Vector:
    highest = np.array([values.shape[1] - 1, values.shape[0] - 1])
    inside = ((pixels >= -0.5) & (pixels <= highest + 0.5)).all(axis=1)
    pixels = np.clip(pixels, 0, highest)
    first = np.minimum(pixels.astype(np.int64), np.maximum(highest - 1, 0))
    second = np.minimum(first + 1, highest)
    across, down = (pixels - first).T
    upper = values[first[:, 1], first[:, 0]] * (1 - across) + values[first[:, 1], second[:, 0]] * across
    lower = values[second[:, 1], first[:, 0]] * (1 - across) + values[second[:, 1], second[:, 0]] * across
    return np.asarray((upper * (1 - down) + lower * down) * inside)


def colours_of(parts: Dose) -> Dose:
    """(…, 3) red, green and blue for parts of the most, from LEAST to 1."""
    places = np.clip((parts - LEAST) / (1 - LEAST), 0, 1) * (len(_COLOURS) - 1)
    return np.stack([np.interp(places, np.arange(len(_COLOURS)), channel) for channel in _COLOURS.T], axis=-1)


def washed(picture: Picture, dose: Dose, most: float) -> Picture:
    """`picture` in RGB under the colours of `dose`, of which there is `most` anywhere in the grid."""
    parts = dose / most if most > 0 else np.zeros_like(dose)
    cover = np.where(parts >= LEAST, COVER, 0.0)[..., None]
    return np.asarray(np.rint(picture * (1 - cover) + colours_of(parts) * cover), np.uint8)


def with_legend(picture: Picture, dataset: Dataset, most: float) -> Picture:
    """A bar of the colours at the right, with what they stand for; a picture that is small stays without."""
    rows, columns = picture.shape[:2]
    if min(rows, columns) < _LEGEND_SIDE:
        return picture
    top, bottom = rows * 3 // 10, rows * 7 // 10
    width = max(columns // 50, 6)
    parts = np.linspace(1, LEAST, bottom - top)
    picture = picture.copy()
    picture[top:bottom, columns - 2 * width : columns - width] = np.rint(colours_of(parts)).astype(np.uint8)[:, None]
    canvas = Canvas(picture)
    unit = " Gy" if text(dataset, UNITS) == "GY" else ""
    for part in _NAMED:
        words = line(f"{most * part:.3g}{unit}", canvas.letters() * 0.75)
        at = top + (1 - part) / (1 - LEAST) * (bottom - top)
        canvas.write(columns - 2.5 * width - words.width, at - words.height / 2, words)
    return canvas.picture
