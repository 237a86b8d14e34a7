"""WADO-RS frames (PS3.18 10.4.1.1.6): each frame is a ranged read, as stored unless nobody could read that."""

from __future__ import annotations

from collections.abc import Sequence

from dicomweb import negotiation
from dicomweb.bodies import Body, respond, unchanged
from dicomweb.exchange import Answer, Call
from dicomweb.instance import Instance, ResidentInstance, WouldWait
from dicomweb.layouts import Layouts
from dicomweb.media_types import RELATED
from dicomweb.multipart import boundary_for, closing, part_head
from dicomweb.negotiation import Offer
from storage import codecs
from storage.copies import frames_of
from storage.deriving import check_may_lose
from storage.errors import BadRequest, NotFound
from storage.pieces import Extent, Piece
from storage.transfer_syntaxes import EXPLICIT_LITTLE, HTJ2K_RPCL, Coding, lossy_targets
from storage.types import DEFAULT_PARTITION, Blobs, Scope

_MOST_FRAMES = 10_000
# Bytes of samples that one request may have encoded; what comes of them is mostly a third of that.
_MOST_ENCODED = 128 << 20


def scope_of(call: Call) -> Scope:
    """The study, series or instance that the URL names. No path of a route has a `partition`: what answers there adds it."""
    partition = call.path.get("partition", DEFAULT_PARTITION)
    return Scope(call.path["study"], call.path.get("series"), call.path.get("instance"), partition)


def frame_numbers(text: str) -> list[int]:
    """A frame list such as `1,3,2` in the order given (PS3.18 10.4.1.1.6). Raises BadRequest."""
    pieces = text.split(",")
    if len(pieces) > _MOST_FRAMES:
        raise BadRequest(f"the frame list names {len(pieces)} frames; ask for at most {_MOST_FRAMES} at a time")
    if not all(piece.isascii() and piece.isdigit() and len(piece) < 10 and int(piece) > 0 for piece in pieces):
        raise BadRequest("the frame list is not numbers from 1 separated by commas; write for example frames/1,2,3")
    return [int(piece) for piece in pieces]


class Frames:
    """GET …/instances/{instance}/frames/{frames}."""

    def __init__(self, layouts: Layouts, blobs: Blobs, *, copies: bool = False, copies_first: bool = False) -> None:
        """`copies`: there may be HTJ2K copies; `copies_first`: they are liked better than what is stored."""
        self._layouts = layouts
        self._blobs = blobs
        self._copies = copies or copies_first
        self._copies_first = copies_first

    def __call__(self, call: Call) -> Answer:
        """The frames asked for. Raises NotFound, BadRequest, NotAcceptable, CannotDecode."""
        numbers = frame_numbers(call.path["frames"])
        return self._of(call, Instance(self._layouts.get(scope_of(call)), self._blobs), numbers)

    def at_hand(self, call: Call) -> Answer | None:
        """One frame as it is stored, where the system has it in memory; None for all that would have to wait."""
        if self._copies or call.method != "GET":
            # Whether there is a copy has to be looked up.
            return None
        numbers = frame_numbers(call.path["frames"])
        layout = self._layouts.at_hand(scope_of(call)) if len(numbers) == 1 else None
        if layout is None or layout.inflated:
            return None
        try:
            return self._of(call, ResidentInstance(layout, self._blobs), numbers)
        except WouldWait:
            return None

    def _of(self, call: Call, instance: Instance, numbers: Sequence[int]) -> Answer:
        if instance.syntax.coding is Coding.VIDEO:
            raise NotFound("frames of a video are not stored one by one; get the video from …/rendered")
        copied = frames_of(self._blobs, instance.layout, numbers) if self._copies and max(numbers) <= instance.frames else None
        best = HTJ2K_RPCL if self._copies_first and copied is not None else ""
        offer = negotiation.frame(call.accept, instance.syntax, single=len(numbers) == 1, copied=best)
        return frames_as(call, instance, numbers, offer, self._blobs, copied)


def frames_as(
    call: Call,
    instance: Instance,
    numbers: Sequence[int],
    offer: Offer,
    blobs: Blobs,
    copied: Sequence[Extent] | None = None,
) -> Answer:
    """`numbers` of `instance` as `offer` says: multipart/related, or the one frame alone. `copied` is where they are in HTJ2K."""
    locations = [frame_location(call, instance, number) for number in numbers]
    kind = f"{offer.media_type}; transfer-syntax={offer.transfer_syntax}"
    # The location is in the body, and so is what it begins with.
    known = (instance.located.sha256, ",".join(map(str, numbers)), kind, call.mount)
    etag = f'"{boundary_for(*known, str(offer.related))}"'
    if offer.made and unchanged(call, etag):
        # Known without encoding anything.
        return respond(call, blobs, Body(()), {}, etag)
    contents: list[tuple[Piece, ...]]
    if copied is not None and offer.transfer_syntax == HTJ2K_RPCL:
        contents = [(one,) for one in copied]
    elif offer.made:
        contents = _encoded(instance, numbers, offer)
    else:
        contents = [frame_pieces(instance, one, offer) for one in numbers]
    if not offer.related:
        headers = {"Content-Type": kind, "Content-Location": locations[0]}
        return respond(call, blobs, Body(contents[0]), headers, etag)
    boundary = boundary_for(*known)
    headers = {
        "Content-Type": f'{RELATED}; type="{offer.media_type}"; transfer-syntax={offer.transfer_syntax}; boundary={boundary}'
    }
    return respond(call, blobs, _related(contents, locations, kind, boundary), headers, etag)


def frame_location(call: Call, instance: Instance, number: int) -> str:
    """Where one frame alone can be had."""
    return instance.location(call.mount, f"frames/{number}")


def frame_pieces(instance: Instance, number: int, offer: Offer) -> tuple[Piece, ...]:
    """One frame as `offer` says. Raises NotFound, CannotDecode, and NotAcceptable where it cannot be encoded so."""
    pieces = instance.frame(number)
    if offer.made:
        ((made,),) = _encoded(instance, (number,), offer)
        return (made,)
    if offer.transfer_syntax == instance.syntax.uid and instance.syntax.encapsulated:
        return pieces
    native = instance.syntax.coding is Coding.NATIVE and offer.transfer_syntax == EXPLICIT_LITTLE
    if native and not instance.layout.frames.bit_offset(number) and not instance.converted:
        return pieces
    return (instance.decoded(number),)


def _encoded(instance: Instance, numbers: Sequence[int], offer: Offer) -> list[tuple[Piece, ...]]:
    """Frames encoded anew; all in memory, because their lengths go before them, so there must not be too many."""
    pixels = instance.pixels
    if offer.transfer_syntax in lossy_targets(instance.syntax.uid):
        check_may_lose(instance.located.sop_class_uid)
    codecs.described_as(pixels, offer.transfer_syntax)
    if len(numbers) > 1 and len(numbers) * pixels.decoded_size > _MOST_ENCODED:
        raise BadRequest(
            f"encoding {len(numbers)} frames of {pixels.decoded_size} bytes is too much at a time; ask for"
            f" {max(1, _MOST_ENCODED // pixels.decoded_size)} or for the whole instance"
        )
    frames = (instance.frame_bits(number) for number in numbers)
    return [(made,) for made in codecs.encode_all(frames, pixels, offer.transfer_syntax)]


def _related(contents: Sequence[tuple[Piece, ...]], locations: Sequence[str], kind: str, boundary: str) -> Body:
    pieces: list[Piece] = []
    for content, location in zip(contents, locations, strict=True):
        length = Body(content).length
        headers = {"Content-Type": kind, "Content-Length": str(length), "Content-Location": location}
        pieces += [part_head(boundary, headers, first=not pieces), *content]
    return Body((*pieces, closing(boundary)))
