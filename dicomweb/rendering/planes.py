"""Where the pixels of a frame are in the patient: the image plane (PS3.3 C.7.6.2.1.1), and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicomweb.rendering.values import macro, numbers
from storage.types import Dataset

PLANE_POSITION, PLANE_ORIENTATION, PIXEL_MEASURES = "00209113", "00209116", "00289110"
POSITION, ORIENTATION, SPACING = "00200032", "00200037", "00280030"
# Direction cosines come with few digits.
ALMOST: Final = 1e-3

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Plane:
    """The centre of the first pixel in mm, and what a step along a row (to the next column) and down a column moves."""

    origin: Vector
    across: Vector
    down: Vector

    @property
    def normal(self) -> Vector:
        """The direction of length 1 that the plane faces."""
        found = np.cross(self.across, self.down)
        return np.asarray(found / np.linalg.norm(found))

    def to_pixels(self, points: Vector) -> tuple[Vector, Vector]:
        """(n, 3) points in mm -> (n, 2) of column and row, and (n,) how far off the plane they are in mm."""
        off = points - self.origin
        columns = off @ self.across / (self.across @ self.across)
        rows = off @ self.down / (self.down @ self.down)
        return np.stack((columns, rows), axis=-1), off @ self.normal

    def to_patient(self, pixels: Vector) -> Vector:
        """(n, 2) of column and row -> (n, 3) points in mm."""
        return np.asarray(self.origin + pixels[:, :1] * self.across + pixels[:, 1:] * self.down)


def plane_of(dataset: Dataset, frame: int) -> Plane | None:
    """The plane of a frame (from 1); None where the data set does not say it, or says what cannot be."""
    position = numbers(macro(dataset, frame, PLANE_POSITION), POSITION)
    directions = numbers(macro(dataset, frame, PLANE_ORIENTATION), ORIENTATION)
    spacing = numbers(macro(dataset, frame, PIXEL_MEASURES), SPACING)
    if len(position) != 3 or len(directions) != 6 or len(spacing) != 2 or min(spacing) <= 0:
        return None
    along_row, along_column = np.array(directions[:3]), np.array(directions[3:])
    lengths = np.linalg.norm(along_row), np.linalg.norm(along_column)
    if any(abs(length - 1) > 0.01 for length in lengths) or abs(along_row @ along_column) > 0.01:
        return None
    # Pixel Spacing is that of rows first: how far it is down a column.
    return Plane(np.array(position), along_row * spacing[1], along_column * spacing[0])


def same_grid(one: Plane, other: Plane) -> bool:
    """Whether pixels of the two lie on each other, to a tenth of a pixel."""
    tenth = 0.1 * float(np.linalg.norm(other.across))
    # Off the plane a slice's own thickness does not matter: what is drawn is seen from the front.
    shift, _ = other.to_pixels(one.origin[None])
    return (
        bool(np.abs(shift).max() < 0.1)
        and bool(np.linalg.norm(one.across - other.across) * 100 < 10 * tenth)
        and bool(np.linalg.norm(one.down - other.down) * 100 < 10 * tenth)
    )


def resampled(values: NDArray[np.float64], of: Plane, onto: Plane, shape: tuple[int, int]) -> NDArray[np.float64]:
    """`values` on plane `of`, as the pixels of `onto` see them: that of the nearest, 0 outside."""
    rows, columns = shape
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2).astype(np.float64)
    nearest = np.rint(of.to_pixels(onto.to_patient(grid))[0]).astype(np.int64)
    inside = (nearest >= 0).all(axis=1) & (nearest[:, 0] < values.shape[1]) & (nearest[:, 1] < values.shape[0])
    found = np.zeros(rows * columns)
    found[inside] = values[nearest[inside, 1], nearest[inside, 0]]
    return found.reshape(rows, columns)
