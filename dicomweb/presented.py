"""Presentation states as pictures of the images that they show (PS3.18 8.3.5, 10.4.1.1.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from dicomweb import negotiation
from dicomweb.exchange import Answer, Call
from dicomweb.frames import frame_numbers, scope_of
from dicomweb.instance import Instance
from dicomweb.negotiation import Offer
from dicomweb.picture_answers import MOST_PICTURES, PictureAnswers, at_most
from dicomweb.rendering import Picture, RenderRequest, is_image, not_applied, parse_request, placeholder
from dicomweb.rendering.annotations import annotated
from dicomweb.rendering.encode import encode
from dicomweb.rendering.presentation import Shown, presented
from dicomweb.rendering.profiles import ICC_PROFILE, carrying, converted, is_colour, own_profile
from dicomweb.rendering.references import DRAWN, IN_COLOUR, is_state, references, sop_class
from dicomweb.rendering.request import THUMBNAIL_SIDE, Viewport
from storage import codecs
from storage.codecs import PixelDescription
from storage.codecs.keeping import with_every_bit
from storage.errors import BadRequest, CannotDecode, NotAcceptable, NotFound
from storage.types import Scope

# An instance that is stored, by its UIDs. Raises NotFound.
Open = Callable[[Scope], Instance]


class Page(NamedTuple):
    """A frame of an image that a state shows."""

    image: Instance
    frame: int

    @property
    def key(self) -> tuple[str, int]:
        """What of the image the picture depends on."""
        return self.image.located.sha256, self.frame


class Presentation:
    """A presentation state, and the images that it shows; they are opened when they are needed."""

    def __init__(self, state: Instance, scope: Scope, open_instance: Open) -> None:
        """`scope` is where the state is, its images are in the same study. Raises NotAcceptable for states that cannot be drawn."""
        if sop_class(state.dataset) not in DRAWN:
            raise NotAcceptable(
                f"presentation states of class {sop_class(state.dataset)} are not drawn, only those of greyscale, colour and"
                " pseudo-colour; get …/rendered of the images, or …/metadata of the state"
            )
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
        shown = [one for one in references(self.state.dataset) if one.instance == image.located.uids.instance]
        if not shown:
            raise BadRequest("presentationUID names a presentation state that does not show this image; name one that refers to it")
        frames = shown[0].frames
        if frame is not None and frames and frame not in frames:
            raise BadRequest(f"the presentation state does not show frame {frame} of this image, but {', '.join(map(str, frames[:20]))}")
        return self._page(image, frame or (frames[0] if frames else 1))

    def draw(self, page: Page, request: RenderRequest) -> Picture:
        """One picture, placed. Raises CannotDecode."""
        image, frame = page

        def samples(pixels: PixelDescription, every_bit: bool) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
            stored, bit_offset = image.frame_bits(frame)
            return codecs.decode(stored, with_every_bit(pixels) if every_bit else pixels, bit_offset=bit_offset)

        shown = Shown(
            image.dataset,
            image.located.uids.instance,
            image.syntax.uid,
            frame,
            samples,
            image.little_endian_bulk,
            self.state.little_endian_bulk,
            self._recoloured(page, request.icc_profile),
        )
        picture = presented(self.state.dataset, shown, request)
        return annotated(picture, image.dataset, frame, request, windowed=False)

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
        return sop_class(self.state.dataset) in IN_COLOUR or is_colour(page.image.dataset)

    def profile(self, page: Page) -> bytes:
        """That of the state, else of the image (PS3.4 N.2.2.1)."""
        image, frame = page
        holder = self.state if ICC_PROFILE in self.state.dataset else image
        return own_profile(holder.dataset, frame, holder.little_endian_bulk)

    def _recoloured(self, page: Page, wanted: str) -> Callable[[Picture], Picture] | None:
        if wanted == "no" or not self.colour(page):
            return None
        return partial(converted, own=self.profile(page), wanted=wanted, convert=codecs.convert)

    def _pages(self, most: int) -> list[Page]:
        found = list[Page]()
        for one in references(self.state.dataset):
            try:
                image = self._open(replace(self._scope, series=one.series, instance=one.instance))
            except NotFound as error:
                raise NotFound(
                    f"the presentation state shows image {one.instance} of series {one.series}, which is not stored here; send it, then ask again"
                ) from error
            for frame in one.frames or range(1, max(image.frames, 1) + 1):
                found.append(self._page(image, frame))
                if len(found) >= most:
                    return found
        if not found:
            raise NotFound("the presentation state refers to no image (Referenced Series Sequence): there is nothing to show")
        return found

    def _page(self, image: Instance, frame: int) -> Page:
        if not is_image(image.dataset, image.syntax.uid) or frame > image.frames:
            raise NotFound(f"the presentation state shows frame {frame} of {image.located.uids.instance}, which has {image.frames} that can be shown")
        return Page(image, frame)


class PresentedStates:
    """GET …/rendered and …/thumbnail of a presentation state, or of an image through one."""

    def __init__(self, answers: PictureAnswers, open_instance: Open) -> None:
        self._answers = answers
        self._open = open_instance

    def picture(self, call: Call, instance: Instance) -> Answer:
        """The first image that the state shows, those named by number, or all where multipart/related is asked for."""
        if call.parameter("window") is not None:
            raise BadRequest("the window is that of the presentation state; leave window out, or get …/rendered of the image")
        state = self._state(call, instance)
        numbers = at_most(frame_numbers(call.path["frames"])) if "frames" in call.path else []
        pages: list[Page] = []
        if "presentation" in call.path:
            pages = [state.of(instance, numbers[0] if numbers else None)]
        elif numbers:
            pages = state.numbered(numbers)
        several = [len(pages) > 1] if pages else [False, True]
        offers = [replace(one, related=many) for many in several for one in negotiation.PICTURES]
        offer = negotiation.choose(call.accepted(), offers)
        pages = pages or (state.pages(MOST_PICTURES) if offer.related else [state.first()])
        return self._pages(call, state, pages, offer, parse_request(call.query, offer.media_type))

    def thumbnail(self, call: Call, instance: Instance) -> Answer:
        """A small picture of the first image, or an icon where that cannot be shown."""
        offer = negotiation.choose(call.accepted(), negotiation.PICTURES)
        request = parse_request(call.query, offer.media_type)
        request = replace(request, viewport=request.viewport or Viewport(THUMBNAIL_SIDE, THUMBNAIL_SIDE, enlarge=False))
        try:
            state = self._state(call, instance)
            return self._pages(call, state, [state.first()], offer, request)
        except (NotFound, NotAcceptable, CannotDecode):
            # Known by what it is: when the image comes, another picture takes its place.
            known = (instance.located.sha256, "icon", repr(request))
            if self._answers.unchanged(call, known):
                return self._answers.same(known)
            return self._answers.send(call, [placeholder(instance.dataset, request).body], offer, known, {})

    def _state(self, call: Call, instance: Instance) -> Presentation:
        """The state that the URL names: the instance itself, or one in the same study (PS3.18 9.5.1.2.7)."""
        scope = replace(scope_of(call), series=instance.located.uids.series, instance=instance.located.uids.instance)
        if "presentation" in call.path:
            scope = replace(scope, series=call.path["presentation series"], instance=call.path["presentation"])
            instance = self._open(scope)
            if not is_state(instance.dataset):
                raise BadRequest("presentationUID names an instance that is no presentation state")
        return Presentation(instance, scope, self._open)

    def _pages(self, call: Call, state: Presentation, pages: Sequence[Page], offer: Offer, request: RenderRequest) -> Answer:
        digest = state.state.located.sha256
        known = (digest, *(f"{image}/{frame}" for page in pages for image, frame in (page.key,)), repr(request), str(offer))
        if self._answers.unchanged(call, known):
            return self._answers.same(known)
        keys = [(digest, *page.key, request) for page in pages]
        pictures = [self._answers.once(key, partial(_drawn, state, page, request)) for key, page in zip(keys, pages, strict=True)]
        missing = state.not_applied(call, pages[0], offer.media_type)
        warning = {"Warning": f"299 {call.root}: not applied to the picture: {', '.join(missing)}"} if missing else {}
        return self._answers.send(call, pictures, offer, known, warning)


def _drawn(state: Presentation, page: Page, request: RenderRequest) -> bytes:
    body = encode(state.draw(page, request), request.media_type, request.quality)
    if request.icc_profile == "no" or not state.colour(page):
        return body
    return carrying(body, state.profile(page), request.icc_profile, request.media_type)
