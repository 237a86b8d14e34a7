"""Images blended as a presentation state says: those below as pages, on each what of the others lies in its plane (PS3.4 N.2.4, N.2.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Final

import numpy as np

from dicomweb.instance import Instance
from dicomweb.presented_pages import Open, Page, Presentation
from dicomweb.rendering import Picture
from dicomweb.rendering.blending import Blended, Input, Plan, blended, layer, onto, plan
from dicomweb.rendering.planes import Plane, plane_of, same_grid
from dicomweb.rendering.references import Reference
from dicomweb.rendering.values import macro, number, text
from storage.errors import NotAcceptable
from storage.types import Located, Scope

FRAME_OF_REFERENCE, SLICE_THICKNESS, PIXEL_MEASURES = "00200052", "00180050", "00289110"
# How far off its plane an image may lie, at least, in mm; what is thicker may lie as far as half of that.
NEAR: Final = 1.0
MOST_FRAMES: Final = 4000

Locate = Callable[[Scope], Iterable[Located]]


class BlendedPresentation(Presentation):
    """A state that blends images of several series; its pages are those of the one that is below, or that has the geometry."""

    def __init__(self, state: Instance, scope: Scope, open_instance: Open, locate: Locate) -> None:
        super().__init__(state, scope, open_instance)
        self._locate = locate

    def key(self, page: Page) -> tuple[str, ...]:
        """What of every image the picture depends on."""
        return tuple(part for _, found in self._pieces(page) if found is not None for part in super(BlendedPresentation, self).key(found))

    def references(self) -> list[Reference]:
        return self._references(self._plan.inputs[self._plan.base])

    def own_picture(self, page: Page) -> Picture:
        """The blended pixels of the page's grid."""
        below = plane_of(page.image.dataset, page.frame)
        shape = page.image.pixels.rows, page.image.pixels.columns
        layers: dict[int, Blended] = {}
        for (own, source), (_, found) in zip(self._plan.inputs.items(), self._pieces(page), strict=True):
            if found is None:
                layers[own] = Blended(np.zeros((*shape, 3)), np.zeros(shape, np.bool_))
                continue
            made = layer(source, self.shown(found))
            plane = plane_of(found.image.dataset, found.frame)
            if plane is not None and below is not None and not (made.seen.shape == shape and same_grid(plane, below)):
                made = onto(made, plane, below, shape)
            if made.seen.shape != shape:
                raise NotAcceptable("the blended images are of different size, and do not say where they are in the patient")
            layers[own] = made
        return blended(self._plan.steps, layers)

    @cached_property
    def _plan(self) -> Plan:
        return plan(self.fetched)

    def _references(self, source: Input) -> list[Reference]:
        if source.images:
            return list(source.images)
        scope = Scope(source.study, source.series)
        return [Reference(source.series, one.uids.instance, (), source.study) for one in self._locate(scope)]

    def _pieces(self, page: Page) -> list[tuple[int, Page | None]]:
        """Of each input the frame that lies where the page is; None where there is none."""
        base = self._plan.base
        return [(own, page if own == base else self._nearest(own, page)) for own in self._plan.inputs]

    def _nearest(self, own: int, page: Page) -> Page | None:
        plane = plane_of(page.image.dataset, page.frame)
        placed = [(one, found) for one in self._frames[own] if (found := plane_of(one.image.dataset, one.frame)) is not None]
        if plane is None or not placed:
            # Without geometry frames belong to each other by their order.
            order = [(one.image.located.uids.instance, one.frame) for one in self._frames[self._plan.base]]
            at = order.index((page.image.located.uids.instance, page.frame))
            return self._frames[own][at] if at < len(self._frames[own]) else None
        where = text(page.image.dataset, FRAME_OF_REFERENCE)
        alike = [(one, found) for one, found in placed if text(one.image.dataset, FRAME_OF_REFERENCE) == where]
        if not alike:
            raise NotAcceptable("the blended images are in different frames of reference; spatial registrations are not applied")
        best, distance = min(((one, _off(found, plane)) for one, found in alike), key=lambda pair: pair[1])
        thickness = number(macro(best.image.dataset, best.frame, PIXEL_MEASURES), SLICE_THICKNESS) or 0.0
        return best if distance <= max(NEAR, thickness / 2) else None

    @cached_property
    def _frames(self) -> dict[int, list[Page]]:
        found = {own: self.listed(self._references(source), MOST_FRAMES + 1) for own, source in self._plan.inputs.items()}
        if any(len(pages) > MOST_FRAMES for pages in found.values()):
            raise NotAcceptable(f"the presentation state blends more than {MOST_FRAMES} frames of a series")
        return found


def _off(plane: Plane, page: Plane) -> float:
    """How far one plane is from another, in mm; those that are not parallel are out of reach."""
    if abs(float(plane.normal @ page.normal)) < 0.999:
        return float("inf")
    return abs(float((plane.origin - page.origin) @ page.normal))
