"""Dose grids, shown over the images of the same frame of reference (PS3.3 C.8.8.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from dicomweb.kept import Kept
from dicomweb.overlaid import Overlaid, below
from dicomweb.rendering import Function, Picture, RenderRequest, Window, frame_picture
from dicomweb.rendering.dose import (
    FRAME_OF_REFERENCE,
    Dose,
    DoseGrid,
    as_image,
    dose_grid,
    dose_scaling,
    sampled,
    washed,
    with_legend,
)
from dicomweb.rendering.geometry import fitted, pixel_aspect
from dicomweb.rendering.values import text
from dicomweb.sources import Placed
from storage import codecs
from storage.errors import CannotDecode


class _Most(NamedTuple):
    """The highest dose of a grid, and the frame that has it."""

    dose: float
    frame: int


# Of the angle between image and frame the cosine: gantries are tilted, but a sagittal image is none of an axial frame.
MOST_TILTED: Final = 0.7
# By the digest of the instance: to find it, every frame is decoded.
_MOST: Final[Kept[_Most]] = Kept(1 << 20, lambda _one: 0)


class DoseShown(Overlaid):
    """Picture n is that of frame n, 0 of the frame with the highest dose: over the image nearest to it, else by itself in grey."""

    @property
    def pages(self) -> int:
        return self._instance.frames

    def basis(self, number: int) -> str:
        found = self._image(number or self._most.frame)
        return found.image.located.sha256 if found is not None else str(bool(self._images))

    def picture(self, number: int, request: RenderRequest) -> Picture:
        frame = number or self._most.frame
        if self._grid is None or not self._images:
            return self._alone(frame, request)
        found = self._image(frame)
        if found is None:
            plane, shape = self._grid.planes[frame - 1], (self._instance.pixels.rows, self._instance.pixels.columns)
            picture, aspect = np.zeros((*shape, 3), np.uint8), pixel_aspect(self._instance.dataset, 1)
        else:
            picture, plane, aspect = below(found.image, found.frame, request), found.plane, pixel_aspect(found.image.dataset, found.frame)
        picture = washed(picture, sampled(self._grid, self._dose, plane, (picture.shape[0], picture.shape[1])), self._most.dose)
        return with_legend(fitted(picture, request.viewport, aspect), self._instance.dataset, self._most.dose)

    def _alone(self, frame: int, request: RenderRequest) -> Picture:
        """In grey, whose window is one of doses: without one from nothing to the highest dose, the same for all frames."""
        window = request.window if isinstance(request.window, Window) else Window(self._most.dose / 2, self._most.dose or 1.0, Function.LINEAR_EXACT)
        stored, bit_offset = self._instance.frame_bits(frame)
        dataset = as_image(self._instance.dataset)
        picture = frame_picture(stored, dataset, self._instance.syntax.uid, frame, replace(request, window=window), bit_offset=bit_offset)
        return fitted(picture, request.viewport, pixel_aspect(dataset, frame))

    def _dose(self, frame: int) -> Dose:
        stored, bit_offset = self._instance.frame_bits(frame)
        values = codecs.decode(stored, self._instance.pixels, bit_offset=bit_offset)
        if values.ndim != 2:
            raise CannotDecode("a dose grid in colour is none")
        return np.asarray(values * np.float64(dose_scaling(self._instance.dataset)))

    def _image(self, frame: int) -> Placed | None:
        """The image nearest to the middle of a frame, no farther off than half the distance between planes of either."""
        if self._grid is None:
            return None
        plane, pixels = self._grid.planes[frame - 1], self._instance.pixels
        middle = plane.to_patient(np.array([[(pixels.columns - 1) / 2, (pixels.rows - 1) / 2]]))
        alike = [one for one in self._images if abs(float(one.plane.normal @ plane.normal)) > MOST_TILTED]
        off = [abs(float(one.plane.to_pixels(middle)[1][0])) for one in alike]
        nearest = min(range(len(off)), key=off.__getitem__, default=None)
        if nearest is None or off[nearest] > max(self._grid.between, _between(alike)) / 2 + 0.01:
            return None
        return alike[nearest]

    @cached_property
    def _images(self) -> Sequence[Placed]:
        return self._sources.in_frame_of_reference(text(self._instance.dataset, FRAME_OF_REFERENCE))

    @cached_property
    def _grid(self) -> DoseGrid | None:
        return dose_grid(self._instance.dataset, self._instance.frames)

    @cached_property
    def _most(self) -> _Most:
        key = self._instance.located.sha256
        found = _MOST.get(key)
        if found is None:
            found = max(_Most(float(self._dose(frame).max()), -frame) for frame in range(1, self._instance.frames + 1))
            found = _Most(found.dose, -found.frame)
            _MOST.keep(key, found)
        return found


def _between(images: Sequence[Placed]) -> float:
    """The greatest distance between neighbours, in mm."""
    heights = np.sort([float(one.plane.origin @ images[0].plane.normal) for one in images])
    return float(np.diff(heights).max(initial=0.0))
