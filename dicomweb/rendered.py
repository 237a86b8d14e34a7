"""WADO-RS rendered resources and thumbnails (PS3.18 10.4.1.1.3 and .4): pictures, reports, documents, videos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from functools import partial
from pathlib import Path

from dicomweb import negotiation, rendering
from dicomweb.bodies import Body, read, respond, unchanged
from dicomweb.exchange import Answer, Call
from dicomweb.frames import frame_numbers, scope_of
from dicomweb.instance import Instance
from dicomweb.layouts import Layouts
from dicomweb.loops import Loop, in_motion, placed, steady_window
from dicomweb.media_types import HTML, MP4, SVG, TEXT, XML
from dicomweb.multipart import boundary_for
from dicomweb.negotiation import Offer
from dicomweb.picture_answers import PictureAnswers, at_most
from dicomweb.presented import PresentedStates
from dicomweb.rendering.animation import MOST_FRAMES
from dicomweb.rendering.content_html import POLICY
from dicomweb.rendering.references import is_state
from dicomweb.rendering.voi import impossible_width
from dicomweb.shown import shown_of
from dicomweb.shown_kinds import Shown
from dicomweb.videos import can_film
from storage import thumbnails
from storage.archive import Archive
from storage.errors import BadRequest, CannotDecode, NotAcceptable, NotFound, ObjectMissing
from storage.index import Layout
from storage.index.presets import KnownPresets
from storage.types import Scope

# What a browser would run or fetch things from, if it were let.
ACTIVE = frozenset({HTML, XML, SVG})
JPEG = "image/jpeg"

Draw = Callable[[Instance, int, rendering.RenderRequest], rendering.Rendered]


class ThumbnailsKept(Enum):
    """Whether thumbnails are kept in the store: not, by somebody else, or by whoever draws them here."""

    NOT = 0
    ELSEWHERE = 1
    HERE = 2


class Rendered:
    """GET …/rendered and …/thumbnail of a study, a series, an instance or frames."""

    def __init__(self, archive: Archive, layouts: Layouts, presets: KnownPresets, *, max_bytes: int, thumbnails: ThumbnailsKept = ThumbnailsKept.NOT) -> None:
        """`max_bytes`: memory for pictures that have been drawn; `thumbnails`: whether any are kept in the store, and by whom."""
        self._archive = archive
        self._layouts = layouts
        self._presets = presets
        self._thumbnails = thumbnails
        self._answers = PictureAnswers(archive.blobs, max_bytes)
        self._states = PresentedStates(self._answers, self._instance, archive.index.locate, archive.spool_folder)

    def picture(self, call: Call) -> Answer:
        """What a person can look at. Raises NotFound, BadRequest, NotAcceptable, CannotDecode."""
        instance = self._instance(scope_of(call))
        if "presentation" in call.path or is_state(instance.dataset):
            return self._states.picture(call, instance)
        shown = shown_of(instance, call.mount, self._archive, self._layouts)
        if shown is not None:
            return self._shown(call, instance, shown)
        if not rendering.is_image(instance.dataset, instance.syntax.uid) or not instance.frames:
            raise NotAcceptable(f"{instance.syntax.name} without frames cannot be a picture; get …/metadata or the instance")
        if "series" in call.path and "instance" not in call.path and (answer := self._loop(call, instance)) is not None:
            return answer
        moves = "frames" not in call.path and instance.frames > 1
        offers = (*negotiation.PICTURES, negotiation.FILM) if moves and can_film() else negotiation.PICTURES
        return self._pictures(call, instance, _numbers(call, instance, 1), draw_one, offers)

    def thumbnail(self, call: Call) -> Answer:
        """A small picture of the middle of what the URL names; an icon for what has no pixels."""
        instance = self._instance(scope_of(call))
        if is_state(instance.dataset):
            return self._states.thumbnail(call, instance)
        shown = shown_of(instance, call.mount, self._archive, self._layouts)
        if shown is not None:
            return self._pictures(call, instance, [_page_of(call, shown)], partial(draw_small_page, shown), basis=shown.basis)
        middle = _numbers(call, instance, max(1, (instance.frames + 1) // 2))
        return self._pictures(call, instance, middle[:1], draw_small)

    def alone(self, call: Call, layout: Layout) -> bool:
        """Whether what is shown of an instance is told by that instance alone: a presentation state shows others' frames."""
        instance = Instance(layout, self._archive.blobs)
        if "presentation" in call.path or is_state(instance.dataset):
            return False
        return shown_of(instance, call.mount, self._archive, self._layouts) is None

    def _instance(self, scope: Scope) -> Instance:
        """The instance that the URL names, or the middle one of a study or series, images first."""
        if scope.instance is None:
            found = [located.uids for located in self._archive.index.locate(scope) if located.number_of_frames]
            found = found or [located.uids for located in self._archive.index.locate(scope)]
            if not found:
                raise NotFound("nothing is stored under the UIDs of this URL")
            middle = found[len(found) // 2]
            scope = Scope(middle.study, middle.series, middle.instance)
        return Instance(self._layouts.get(scope), self._archive.blobs)

    def _loop(self, call: Call, middle: Instance) -> Answer | None:
        """All images of a series, for who likes best what moves; None for who does not, or where it has but one."""
        scope = scope_of(call)
        found = [located for located in self._archive.index.locate(scope) if located.number_of_frames]
        offers = (*negotiation.PICTURES, negotiation.FILM) if can_film() else negotiation.PICTURES
        kind = negotiation.choose(call.accepted(), offers).media_type
        if len(found) < 2 or not (kind in rendering.MOVING or kind == MP4):
            return None
        if sum(one.number_of_frames or 0 for one in found) > MOST_FRAMES:
            raise BadRequest(f"the series has more than {MOST_FRAMES} frames, too many for a moving picture; ask for …/rendered of its instances")
        opened = (Instance(self._layouts.get(replace(scope, instance=one.uids.instance)), self._archive.blobs) for one in found)
        loop = Loop([one for one in opened if rendering.is_image(one.dataset, one.syntax.uid)], middle)
        request = rendering.parse_request(call.query, kind, self._presets.now(call.parameter("user") or ""), middle.dataset)
        known = ("loop", middle.located.sha256, *loop.known, repr(request))
        if self._answers.unchanged(call, known):
            return self._answers.same(known)
        body = self._answers.once(known, lambda: loop.drawn(request, self._archive.spool_folder))
        return self._answers.send(call, [body], Offer(kind), known, _warning(call, middle, 1, "", written=True, plain=True))

    def _shown(self, call: Call, instance: Instance, shown: Shown) -> Answer:
        """What is not an image: the whole of it in a media type of its own, or pictures of its pages."""
        pictures = tuple(offer for offer in shown.offers if offer in negotiation.PICTURES)
        numbers = at_most(frame_numbers(call.path["frames"])) if "frames" in call.path else [shown.first]
        if max(numbers) > 1 and pictures and max(numbers) > (count := shown.pages):
            raise NotFound(f"there is no picture {max(numbers)}: the instance has {count}")
        if len(numbers) == 1:
            # Of a page there are pictures and drawings, of the whole also what is neither.
            offers = [one for one in shown.offers if "frames" not in call.path or one in pictures or one.media_type == SVG]
            kind = negotiation.choose(call.accepted(), offers).media_type
            if kind not in {offer.media_type for offer in pictures}:
                return self._whole(call, instance, shown, kind, numbers[0])
        return self._pictures(call, instance, numbers, partial(drawn_page, shown), pictures, basis=shown.basis)

    def _whole(self, call: Call, instance: Instance, shown: Shown, kind: str, number: int) -> Answer:
        """As it is stored, with Range (browsers play videos by it), or written anew: a report's links know the mount point."""
        etag = f'"{boundary_for(instance.located.sha256, kind, call.mount, str(number))}"'
        if unchanged(call, etag):
            return respond(call, self._archive.blobs, Body(()), {}, etag)
        headers = {"Content-Type": f"{kind}; charset=utf-8" if kind in (HTML, TEXT) else kind}
        if kind in ACTIVE:
            headers["Content-Security-Policy"] = POLICY
        if kind == shown.stored:
            return respond(call, self._archive.blobs, Body(shown.whole(kind, number)), headers, etag)

        def make() -> bytes:
            return b"".join(read(self._archive.blobs, Body(shown.whole(kind, number))))

        # Kept, because a browser that plays a film asks for it range by range.
        body = self._answers.once((instance.located.sha256, kind, call.mount, number), make)
        return respond(call, self._archive.blobs, Body((body,)), headers, etag)

    def _pictures(
        self,
        call: Call,
        instance: Instance,
        numbers: Sequence[int],
        draw: Draw,
        offers: Sequence[Offer] = negotiation.PICTURES,
        basis: Callable[[int], str] = lambda _number: "",
    ) -> Answer:
        several = len(numbers) > 1
        offers = [replace(offer, related=several) for offer in offers]
        kind = negotiation.choose(call.accepted(), offers).media_type
        presets = self._presets.now(call.parameter("user") or "")
        request = rendering.parse_request(call.query, kind, presets, instance.dataset)
        # Of the whole of an instance with frames there is a picture that moves.
        moving = (kind in rendering.MOVING or kind == MP4) and "frames" not in call.path and instance.frames > 1 and draw is draw_one
        named = "moving" if moving else ",".join(map(str, numbers))
        below = tuple(map(basis, numbers))
        known = (instance.located.sha256, *below, _name(draw), named, repr(request))
        etag = f'"{boundary_for(*known)}"'
        if unchanged(call, etag):
            return self._answers.same(known)
        frames = draw in (draw_one, draw_small)
        warning = _warning(call, instance, numbers[0], "" if moving else kind, written=frames, plain=frames)
        if moving:
            body = self._answers.once(known, lambda: draw_moving(instance, request, self._archive.spool_folder))
            return respond(call, self._archive.blobs, Body((body,)), {"Content-Type": kind, **warning}, etag)
        pictures = [
            self._answers.once(
                (instance.located.sha256, base, _name(draw), number, request),
                self._making(instance, etag, draw, request, partial(_body, draw, instance, number, request)),
            )
            for number, base in zip(numbers, below, strict=True)
        ]
        return self._answers.send(call, pictures, Offer(kind, related=several), known, warning)

    def _making(
        self, instance: Instance, etag: str, draw: Draw, request: rendering.RenderRequest, make: Callable[[], bytes]
    ) -> Callable[[], bytes]:
        """How a picture is made: a thumbnail as everybody asks for it may lie in the store."""
        small = _name(draw) in (draw_small.__name__, draw_small_page.__name__)
        usual = request.media_type == JPEG and request.viewport is None and request.window is None
        if self._thumbnails is ThumbnailsKept.NOT or not (small and usual):
            return make
        key = instance.located.object_key

        def found() -> bytes:
            kept = thumbnails.find(self._archive.blobs, key, etag)
            if kept is None:
                kept = make()
                if self._thumbnails is ThumbnailsKept.HERE:
                    thumbnails.keep(self._archive, key, etag, kept)
            return kept

        return found


def _body(draw: Draw, instance: Instance, number: int, request: rendering.RenderRequest) -> bytes:
    return draw(instance, number, request).body


def _name(draw: Draw) -> str:
    """How a picture is drawn, as part of the key under which it is kept."""
    return str(getattr(getattr(draw, "func", draw), "__name__", ""))


def _warning(call: Call, instance: Instance, number: int, kind: str, *, written: bool, plain: bool) -> dict[str, str]:
    """Says that the picture is not all that was asked for (RFC 7234 5.5.7). `plain`: it is a frame, and not drawn by us."""
    missing = rendering.not_applied(
        call.query,
        instance.dataset,
        kind,
        written=written,
        frame=number,
        bulk=instance.little_endian_bulk,
        colour=None if plain else False,
    )
    said = [f"not applied to the picture: {', '.join(missing)}"] if missing else []
    if plain and "window" not in dict(call.query) and (width := _impossible_width(instance, number)) is not None:
        said.append(f"Window Width (0028,1051) of the image is {width:g}, which cannot be: the picture is in an automatic window")
    return {"Warning": ", ".join(f"299 {call.root}: {one}" for one in said)} if said else {}


def _impossible_width(instance: Instance, number: int) -> float | None:
    """Of the image's own windows; None for what is no image, or is described so that it is none: that has an icon."""
    if not rendering.is_image(instance.dataset, instance.syntax.uid):
        return None
    try:
        return impossible_width(instance.dataset, number, instance.pixels)
    except CannotDecode:
        return None


def draw_one(instance: Instance, number: int, request: rendering.RenderRequest) -> rendering.Rendered:
    """The picture of one frame (PS3.18 8.3.5)."""
    frame, bit_offset = instance.frame_bits(number)
    return rendering.render_frame(
        frame,
        instance.dataset,
        instance.syntax.uid,
        number,
        request,
        bit_offset=bit_offset,
        bulk=instance.little_endian_bulk,
        frames=instance.frame_bits,
    )


def draw_moving(instance: Instance, request: rendering.RenderRequest, folder: Path) -> bytes:
    """All frames of an instance in a GIF, WebP or MP4, at the pace and in the window of the data set."""
    count, uid = instance.frames, instance.syntax.uid
    # Of frames with their mask subtracted, and of those without.
    alike = [rendering.is_subtracted(instance.dataset, uid, number) for number in range(1, count + 1)]
    steady = {kind: request.steady or _steady(instance, alike, kind, request) for kind in set(alike)}
    pictures = (placed(instance, number, replace(request, window=steady[kind])) for number, kind in enumerate(alike, 1))
    return in_motion(pictures, rendering.frame_times(instance.dataset, count), request, folder)


def _steady(instance: Instance, alike: Sequence[bool], kind: bool, request: rendering.RenderRequest) -> rendering.Window | None:
    """The window for all frames of a kind, made of the one in their middle."""
    numbers = [number for number, one in enumerate(alike, 1) if one is kind]
    return steady_window(instance, numbers[(len(numbers) - 1) // 2], request)


def draw_small_page(
    shown: Shown, instance: Instance, number: int, request: rendering.RenderRequest
) -> rendering.Rendered:
    """The thumbnail of a page, of what can be made out when it is small; else an icon."""
    viewport = request.viewport or rendering.Viewport(rendering.THUMBNAIL_SIDE, rendering.THUMBNAIL_SIDE, enlarge=False)
    request = replace(request, viewport=viewport)
    if shown.small:
        with suppress(CannotDecode, NotAcceptable, ObjectMissing):
            return drawn_page(shown, instance, number, request)
    return rendering.placeholder(instance.dataset, request)


def drawn_page(
    shown: Shown, _instance: Instance, number: int, request: rendering.RenderRequest
) -> rendering.Rendered:
    """The picture of a page."""
    body = rendering.encode(shown.picture(number, request), request.media_type, request.quality)
    return rendering.Rendered(request.media_type, body)


def draw_small(instance: Instance, number: int, request: rendering.RenderRequest) -> rendering.Rendered:
    """The thumbnail of one frame, or an icon."""
    frame, bit_offset = _pixels(instance, number)
    return rendering.thumbnail(
        frame,
        instance.dataset,
        instance.syntax.uid,
        number,
        request,
        bit_offset=bit_offset,
        bulk=instance.little_endian_bulk,
        frames=instance.frame_bits,
    )


def _pixels(instance: Instance, number: int) -> tuple[bytes | None, int]:
    """What a thumbnail is made from; nothing where an icon is to stand for it."""
    if number > instance.frames or not rendering.is_image(instance.dataset, instance.syntax.uid):
        return None, 0
    try:
        return instance.frame_bits(number)
    except (CannotDecode, ObjectMissing):
        return b"", 0


def _numbers(call: Call, instance: Instance, otherwise: int) -> list[int]:
    if "frames" not in call.path:
        return [otherwise]
    numbers = at_most(frame_numbers(call.path["frames"]))
    if max(numbers) > instance.frames:
        raise NotFound(f"there is no frame {max(numbers)}: the instance has {instance.frames}")
    return numbers


def _page_of(call: Call, shown: Shown) -> int:
    return frame_numbers(call.path["frames"])[0] if "frames" in call.path else shown.first
