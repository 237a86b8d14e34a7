"""Presentation states as pictures of the images that they show (PS3.18 8.3.5, 10.4.1.1.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from dicomweb import negotiation
from dicomweb.blended import BlendedPresentation, Locate
from dicomweb.exchange import Answer, Call
from dicomweb.frames import frame_numbers, scope_of
from dicomweb.instance import Instance
from dicomweb.media_types import MP4
from dicomweb.negotiation import Offer
from dicomweb.picture_answers import MOST_PICTURES, PictureAnswers, at_most
from dicomweb.presented_films import filmed_state, in_film
from dicomweb.presented_pages import Open, Page, Presentation
from dicomweb.rendering import MOVING, RenderRequest, parse_request, placeholder
from dicomweb.rendering.animation import MOST_FRAMES
from dicomweb.rendering.encode import encode
from dicomweb.rendering.profiles import carrying
from dicomweb.rendering.references import BLENDED, is_state, sop_class
from dicomweb.rendering.request import THUMBNAIL_SIDE, Viewport
from dicomweb.videos import can_film
from storage.errors import BadRequest, CannotDecode, NotAcceptable, NotFound


class PresentedStates:
    """GET …/rendered and …/thumbnail of a presentation state, or of an image through one."""

    def __init__(self, answers: PictureAnswers, open_instance: Open, locate: Locate, folder: Path) -> None:
        """Films are encoded in files of `folder`."""
        self._folder = folder
        self._answers = answers
        self._open = open_instance
        self._locate = locate

    def picture(self, call: Call, instance: Instance) -> Answer:
        """The first image that the state shows, those named by number, or all where multipart/related or what moves is asked for."""
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
        offer = negotiation.choose(call.accepted(), [*offers, negotiation.FILM] if not pages and can_film() else offers)
        request = parse_request(call.query, offer.media_type)
        if not pages and not offer.related and (offer.media_type in MOVING or offer.media_type == MP4):
            found = in_film(state, state.pages(MOST_FRAMES))
            if len(found) > 1 or offer.media_type == MP4:
                return self._film(call, state, found, offer, request)
            pages = found
        pages = pages or (state.pages(MOST_PICTURES) if offer.related else [state.first()])
        return self._pages(call, state, pages, offer, request)

    def _film(self, call: Call, state: Presentation, pages: Sequence[Page], offer: Offer, request: RenderRequest) -> Answer:
        """All that the state shows in one picture that moves, for who likes best what does."""
        known = (state.state.located.sha256, "moving", *("/".join(state.key(page)) for page in pages), repr(request), str(offer))
        if self._answers.unchanged(call, known):
            return self._answers.same(known)
        body = self._answers.once(known, partial(filmed_state, state, pages, request, self._folder))
        return self._answers.send(call, [body], offer, known, _warning(call, state.not_applied(call, pages[0], "")))

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
        if sop_class(instance.dataset) in BLENDED:
            return BlendedPresentation(instance, scope, self._open, self._locate)
        return Presentation(instance, scope, self._open)

    def _pages(self, call: Call, state: Presentation, pages: Sequence[Page], offer: Offer, request: RenderRequest) -> Answer:
        digest = state.state.located.sha256
        below = [state.key(page) for page in pages]
        known = (digest, *("/".join(one) for one in below), repr(request), str(offer))
        if self._answers.unchanged(call, known):
            return self._answers.same(known)
        keys = [(digest, *one, request) for one in below]
        pictures = [self._answers.once(key, partial(_drawn, state, page, request)) for key, page in zip(keys, pages, strict=True)]
        return self._answers.send(call, pictures, offer, known, _warning(call, state.not_applied(call, pages[0], offer.media_type)))


def _warning(call: Call, missing: Sequence[str]) -> dict[str, str]:
    return {"Warning": f"299 {call.root}: not applied to the picture: {', '.join(missing)}"} if missing else {}


def _drawn(state: Presentation, page: Page, request: RenderRequest) -> bytes:
    body = encode(state.draw(page, request), request.media_type, request.quality)
    if request.icc_profile == "no" or not state.colour(page):
        return body
    return carrying(body, state.profile(page), request.icc_profile, request.media_type)
