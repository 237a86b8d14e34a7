"""Segmentations and structure sets, shown over the images that they were made on (PS3.3 A.51, A.19)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final

import numpy as np

from dicomweb.instance import Instance
from dicomweb.negotiation import PICTURES
from dicomweb.rendering import Picture, RenderRequest, frame_picture
from dicomweb.rendering.colour import palette_colour
from dicomweb.rendering.contours import Contour, contours, drawn_on
from dicomweb.rendering.geometry import fitted, pixel_aspect
from dicomweb.rendering.planes import Plane, plane_of, resampled, same_grid
from dicomweb.rendering.segments import (
    FRACTION,
    Colour,
    Mask,
    SegmentFrame,
    Source,
    colours,
    laid_over,
    segment_frame,
    together,
    turned,
)
from dicomweb.rendering.values import number
from dicomweb.shown_kinds import Shown
from dicomweb.sources import Sources
from storage import codecs
from storage.errors import CannotDecode, NotAcceptable

# Segments in one picture; a label map may have thousands, of which nobody sees more.
MOST_SEGMENTS: Final = 256


class Overlaid(Shown):
    """What is shown over the images that it was made on, which `sources` finds."""

    offers = PICTURES
    small = True
    first = 0

    def __init__(self, instance: Instance, sources: Sources) -> None:
        self._instance = instance
        self._sources = sources


class SegmentationShown(Overlaid):
    """Picture 0 is all segments of the plane that has most of them; n is frame n alone."""

    @property
    def pages(self) -> int:
        return self._instance.frames

    def basis(self, number: int) -> str:
        frames = self._frames(number)
        base = self._base(frames[0]) if frames else None
        return base[0].located.sha256 if base else ""

    def picture(self, number: int, request: RenderRequest) -> Picture:
        frames = self._frames(number)
        if not frames:
            raise NotAcceptable("the segmentation has no frames, so there is nothing to show")
        base = self._base(frames[0])
        if base is None:
            shape = self._instance.pixels.rows, self._instance.pixels.columns
            picture, plane, aspect = np.zeros((*shape, 3), np.uint8), None, pixel_aspect(self._instance.dataset, frames[0].number)
        else:
            image, frame = base
            picture, plane, aspect = below(image, frame, request), plane_of(image.dataset, frame), pixel_aspect(image.dataset, frame)
        for one in frames:
            for mask, colour in self._masks(one):
                picture = laid_over(picture, self._placed(one, mask, plane, picture), colour)
        return fitted(picture, request.viewport, aspect)

    def _frames(self, number: int) -> Sequence[SegmentFrame]:
        if number:
            return (segment_frame(self._instance.dataset, number, self._instance.frames),)
        return self._most

    @cached_property
    def _most(self) -> tuple[SegmentFrame, ...]:
        return together(self._instance.dataset, self._instance.frames)

    def _base(self, frame: SegmentFrame) -> tuple[Instance, int] | None:
        """The image below, and which of its frames: as named, else the nearest."""
        if frame.source is not None:
            image = self._sources.named(frame.source.instance)
            return (image, frame.source.frame) if image is not None and 1 <= frame.source.frame <= image.frames else None
        plane = plane_of(self._instance.dataset, frame.number)
        near = self._sources.near(tuple(plane.origin)) if plane is not None else None
        return (near[0], 1) if near is not None else None

    def _masks(self, frame: SegmentFrame) -> list[tuple[Mask, Colour]]:
        stored, bit_offset = self._instance.frame_bits(frame.number)
        values = codecs.decode(stored, self._instance.pixels, bit_offset=bit_offset)
        if values.ndim != 2:
            raise CannotDecode("a segmentation in colour is none")
        if frame.segment:
            most = number(self._instance.dataset, FRACTION) or float(values.max(initial=0)) or 1.0
            return [(values / most, self._colours.get(frame.segment, turned(frame.segment)))]
        found = [int(label) for label in np.unique(values) if label not in self._background][:MOST_SEGMENTS]
        return [((values == label).astype(np.float64), self._colours.get(label, turned(label))) for label in found]

    @cached_property
    def _background(self) -> frozenset[int]:
        """What is no segment of a label map (PS3.3 C.8.20.2.3.1)."""
        padding = number(self._instance.dataset, "00280120")
        return frozenset({0 if padding is None else int(padding)})

    @cached_property
    def _colours(self) -> Mapping[int, Colour]:
        pixels = self._instance.pixels
        found = dict(colours(self._instance.dataset))
        if pixels.photometric_interpretation != "PALETTE COLOR":
            return found
        labels = np.array([sorted(found)], pixels.dtype)
        table = palette_colour(labels, self._instance.dataset, pixels, self._instance.little_endian_bulk)[0]
        return {int(label): (int(r), int(g), int(b)) for label, (r, g, b) in zip(labels[0], table, strict=True)}

    def _placed(self, frame: SegmentFrame, mask: Mask, plane: Plane | None, picture: Picture) -> Mask:
        """The mask on the pixels of the picture: by where both are in the patient, unless they lie on each other."""
        shape = picture.shape[0], picture.shape[1]
        own = plane_of(self._instance.dataset, frame.number)
        if mask.shape == shape and (own is None or plane is None or same_grid(own, plane)):
            return mask
        if own is None or plane is None:
            raise NotAcceptable("segmentation and image are of different size, and do not say where they are")
        return resampled(mask, own, plane, shape)


class StructuresShown(Overlaid):
    """Contours over images: picture n is that of the n-th image that has any; 0 the one with the most regions."""

    @property
    def pages(self) -> int:
        return len(self._slices)

    def basis(self, number: int) -> str:
        return self._slice(number)[0].located.sha256 if self._slices else ""

    def picture(self, number: int, request: RenderRequest) -> Picture:
        if not self._slices:
            raise NotAcceptable("none of the images that the contours were drawn on is in the archive, or there are no contours")
        image, frame, plane, lines = self._slice(number)
        picture = drawn_on(below(image, frame, request), plane, lines)
        return fitted(picture, request.viewport, pixel_aspect(image.dataset, frame))

    def _slice(self, number: int) -> tuple[Instance, int, Plane, list[Contour]]:
        if number:
            return self._slices[number - 1]
        counts = [len({line.roi for line in one[3]}) for one in self._slices]
        fullest = [one for one, count in zip(self._slices, counts, strict=True) if count == max(counts)]
        return fullest[len(fullest) // 2]

    @cached_property
    def _slices(self) -> list[tuple[Instance, int, Plane, list[Contour]]]:
        """The images that there are, in their order through the patient."""
        found: dict[tuple[str, int], tuple[Instance, int, Plane, list[Contour]]] = {}
        for source, lines in contours(self._instance.dataset).items():
            for placed, line in ((self._place(source, line), line) for line in lines):
                if placed is not None:
                    image, frame, plane = placed
                    found.setdefault((image.located.uids.instance, frame), (image, frame, plane, []))[3].append(line)
        if not found:
            return []
        normal = next(iter(found.values()))[2].normal
        return sorted(found.values(), key=lambda one: float(one[2].origin @ normal))

    def _place(self, source: Source | None, line: Contour) -> tuple[Instance, int, Plane] | None:
        if source is not None:
            return self._named(source)
        middle = line.points.mean(axis=0)
        near = self._sources.near((float(middle[0]), float(middle[1]), float(middle[2])))
        return (near[0], 1, near[1]) if near is not None else None

    def _named(self, source: Source) -> tuple[Instance, int, Plane] | None:
        if source not in self._opened:
            image = self._sources.named(source.instance)
            plane = plane_of(image.dataset, source.frame) if image is not None and 1 <= source.frame <= image.frames else None
            self._opened[source] = (image, source.frame, plane) if image is not None and plane is not None else None
        return self._opened[source]

    @cached_property
    def _opened(self) -> dict[Source, tuple[Instance, int, Plane] | None]:
        return {}


def below(image: Instance, frame: int, request: RenderRequest) -> Picture:
    """A frame of the image below, in RGB, a pixel to a sample, in the window of the request or its own."""
    stored, bit_offset = image.frame_bits(frame)
    picture = frame_picture(
        stored, image.dataset, image.syntax.uid, frame, request, bit_offset=bit_offset, bulk=image.little_endian_bulk, frames=image.frame_bits
    )
    return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=-1)


