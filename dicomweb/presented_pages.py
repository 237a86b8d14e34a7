"""A presentation state and the images that it shows, as pages (PS3.18 8.3.5, 10.4.1.1.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
from pydicom.uid import UID

from dicomweb.exchange import Call
from dicomweb.instance import Instance
from dicomweb.rendering import Picture, RenderRequest, is_image, not_applied
from dicomweb.rendering.annotations import annotated
from dicomweb.rendering.presentation import Shown, fetched, presented
from dicomweb.rendering.profiles import ICC_PROFILE, converted, is_colour, own_profile
from dicomweb.rendering.references import DRAWN, IN_COLOUR, VOLUMETRIC, Reference, references, sop_class
from storage import codecs
from storage.codecs import PixelDescription
from storage.codecs.keeping import with_every_bit
from storage.errors import BadRequest, NotAcceptable, NotFound
from storage.types import Dataset, Scope

# An instance that is stored, by its UIDs. Raises NotFound.
Open = Callable[[Scope], Instance]


class Page(NamedTuple):
    """A frame of an image that a state shows."""

    image: Instance
    frame: int


class Presentation:
    """A presentation state, and the images that it shows; they are opened when they are needed."""

    def __init__(self, state: Instance, scope: Scope, open_instance: Open) -> None:
        """`scope` is where the state is, its images are in the same study. Raises NotAcceptable for states that cannot be drawn."""
        if sop_class(state.dataset) not in DRAWN:
            raise NotAcceptable(_not_drawn(sop_class(state.dataset)))
        self.state = state
        self._scope = scope
        self._open = open_instance

    def first(self) -> Page:
        """The first picture. Raises NotFound, naming the image that is not stored."""
        return self._pages(1)[0]

    def pages(self, most: int) -> list[Page]:
        """A picture for every frame that is referred to, in the state's order. Raises BadRequest for more than `most`."""
        found = self._pages(most + 1)
        if len(found) > most:
            raise BadRequest(f"the presentation state shows more than {most} frames; ask for them by …/frames/1,2,3/rendered")
        return found

    def numbered(self, numbers: Sequence[int]) -> list[Page]:
        """Pictures by their numbers, from 1, in the state's order of frames."""
        found = self._pages(max(numbers))
        if len(found) < max(numbers):
            raise NotFound(f"there is no picture {max(numbers)}: the presentation state shows {len(found)} frames")
        return [found[number - 1] for number in numbers]

    def of(self, image: Instance, frame: int | None) -> Page:
        """The picture of one image. Raises BadRequest where the state does not show it."""
        shown = [one for one in self.references() if one.instance == image.located.uids.instance]
        if not shown:
            raise BadRequest("presentationUID names a presentation state that does not show this image; name one that refers to it")
        frames = shown[0].frames
        if frame is not None and frames and frame not in frames:
            raise BadRequest(f"the presentation state does not show frame {frame} of this image, but {', '.join(map(str, frames[:20]))}")
        return self._page(image, frame or (frames[0] if frames else 1))

    def draw(self, page: Page, request: RenderRequest) -> Picture:
        """One picture, placed. Raises CannotDecode."""
        own = self.own_picture(page)
        picture = presented(self.state.dataset, replace(self.shown(page), recoloured=self._recoloured(page, request.icc_profile)), request, own)
        return annotated(picture, page.image.dataset, page.frame, request, windowed=False)

    def own_picture(self, page: Page) -> Picture | None:
        """What takes the place of the image's own pixels."""
        return None

    def key(self, page: Page) -> tuple[str, ...]:
        """What the picture depends on beside the state."""
        return page.image.located.sha256, str(page.frame)

    def references(self) -> list[Reference]:
        """The images that the pages are of."""
        return references(self.state.dataset)

    @cached_property
    def fetched(self) -> Dataset:
        """The state, with every value in it that it has by reference."""
        return fetched(self.state.dataset, self.state.little_endian_bulk)

    def shown(self, page: Page) -> Shown:
        """A frame as the drawing of states wants it."""
        image, frame = page

        def samples(pixels: PixelDescription, every_bit: bool) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
            stored, bit_offset = image.frame_bits(frame)
            return codecs.decode(stored, with_every_bit(pixels) if every_bit else pixels, bit_offset=bit_offset)

        def others(pixels: PixelDescription, number: int) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
            stored, bit_offset = image.frame_bits(number)
            return codecs.decode(stored, pixels, bit_offset=bit_offset)

        return Shown(
            image.dataset,
            image.located.uids.instance,
            image.syntax.uid,
            frame,
            samples,
            image.little_endian_bulk,
            self.state.little_endian_bulk,
            others,
        )

    def not_applied(self, call: Call, page: Page, media_type: str) -> tuple[str, ...]:
        """The parameters of a request that ask for what a picture has not."""
        holder = self.state if ICC_PROFILE in self.state.dataset else page.image
        return not_applied(
            call.query,
            holder.dataset,
            media_type,
            written=True,
            frame=page.frame,
            bulk=holder.little_endian_bulk,
            colour=self.colour(page),
        )

    def colour(self, page: Page) -> bool:
        """Whether a picture is in colours that an ICC profile is for."""
        return sop_class(self.state.dataset) in IN_COLOUR or is_colour(page.image.dataset, page.frame)

    def profile(self, page: Page) -> bytes:
        """That of the state, else of the image (PS3.4 N.2.2.1)."""
        image, frame = page
        holder = self.state if ICC_PROFILE in self.state.dataset else image
        return own_profile(holder.dataset, frame, holder.little_endian_bulk)

    def _recoloured(self, page: Page, wanted: str) -> Callable[[Picture], Picture] | None:
        if wanted == "no" or not self.colour(page):
            return None
        return partial(converted, own=self.profile(page), wanted=wanted, convert=codecs.convert)

    def listed(self, shown: Sequence[Reference], most: int) -> list[Page]:
        """The frames that are referred to, at most so many. Raises NotFound, naming the image that is not stored."""
        found = list[Page]()
        for one in shown:
            try:
                image = self._open(replace(self._scope, study=one.study or self._scope.study, series=one.series, instance=one.instance))
            except NotFound as error:
                raise NotFound(
                    f"the presentation state shows image {one.instance} of series {one.series}, which is not stored here; send it, then ask again"
                ) from error
            for frame in one.frames or range(1, max(image.frames, 1) + 1):
                found.append(self._page(image, frame))
                if len(found) >= most:
                    return found
        return found

    def _pages(self, most: int) -> list[Page]:
        found = self.listed(self.references(), most)
        if not found:
            raise NotFound("the presentation state refers to no image (Referenced Series Sequence): there is nothing to show")
        return found

    def _page(self, image: Instance, frame: int) -> Page:
        if not is_image(image.dataset, image.syntax.uid) or frame > image.frames:
            raise NotFound(f"the presentation state shows frame {frame} of {image.located.uids.instance}, which has {image.frames} that can be shown")
        return Page(image, frame)


def _not_drawn(uid: str) -> str:
    """Why a state of this class is no picture, and what to ask for instead."""
    why = "it is a view into a volume, which is not made here" if uid in VOLUMETRIC else "states of this class are not drawn"
    return f"{UID(uid).name} ({uid}): {why}; get …/rendered of the images that it refers to, or …/metadata of the state"
