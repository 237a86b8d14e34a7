"""All bulk data, or all pixel data, of a study, a series or an instance: one streamed answer of many parts (PS3.18 10.4.3.3.5, 10.4.3.3.6)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from dicomweb import negotiation
from dicomweb.bodies import CACHE_CONTROL, Body, read, settled, stream
from dicomweb.bulkdata import media_type, pieces_of
from dicomweb.errors import note
from dicomweb.exchange import Answer, Call
from dicomweb.frames import frame_location, frame_pieces, scope_of
from dicomweb.instance import Instance
from dicomweb.media_types import RELATED
from dicomweb.multipart import closing, part_head
from dicomweb.negotiation import Offer
from storage.archive import Archive
from storage.errors import LightboxError, NotAcceptable, NotFound
from storage.pieces import Piece
from storage.transfer_syntaxes import Coding
from storage.types import BulkItem

# Pixel data of the data set itself, in its three forms; that of an icon, deeper down, is bulk data.
_PIXEL_DATA: Final = frozenset({"7FE00010", "7FE00008", "7FE00009"})


class _Part(NamedTuple):
    """One value, or one frame of encapsulated pixel data."""

    kind: str
    location: str
    pieces: tuple[Piece, ...]

    def head(self, boundary: str, *, first: bool) -> bytes:
        length = str(Body(self.pieces).length)
        headers = {"Content-Type": self.kind, "Content-Length": length, "Content-Location": self.location}
        return part_head(boundary, headers, first=first)


class BulkCollections:
    """GET …/bulkdata and …/pixeldata of a study, a series or an instance.

    What a client does not accept is left out; nothing is left only where it accepts none of it, and then it is told so.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def bulk(self, call: Call) -> Answer:
        """Every bulk value, those in sequences too. Raises NotFound, NotAcceptable."""
        return self._answer(call, lambda _item: True)

    def pixels(self, call: Call) -> Answer:
        """The pixel data of every instance that has any. Raises NotFound, NotAcceptable."""
        return self._answer(call, lambda item: item.path in _PIXEL_DATA)

    def _answer(self, call: Call, wanted: Callable[[BulkItem], bool]) -> Answer:
        parts = self._parts(call, wanted)
        # Before the first byte goes out, it is known whether there is anything to send.
        first = next(parts)
        boundary = uuid.uuid4().hex
        headers = {
            "Content-Type": f'{RELATED}; type="{first.kind.partition(";")[0]}"; boundary={boundary}',
            "Cache-Control": CACHE_CONTROL,
            "Vary": "Accept",
        }
        if call.method == "HEAD":
            return Answer(200, headers, iter(()))
        return Answer(200, headers, settled(self._body(first, parts, boundary)))

    def _body(self, first: _Part, rest: Iterator[_Part], boundary: str) -> Iterator[bytes]:
        yield first.head(boundary, first=True)
        yield from stream(self._archive.blobs, Body(first.pieces))
        for part in rest:
            yield part.head(boundary, first=False)
            yield from stream(self._archive.blobs, Body(part.pieces))
        yield closing(boundary)

    def _parts(self, call: Call, wanted: Callable[[BulkItem], bool]) -> Iterator[_Part]:
        """At least one, or it raises NotFound or NotAcceptable."""
        accepted = call.accepted()
        sent, refused = 0, None
        for layout in self._archive.index.layouts_in(scope_of(call)):
            instance = Instance(layout, self._archive.blobs)
            for item in filter(wanted, layout.bulk):
                try:
                    offer = negotiation.choose(accepted, _offers(instance, item))
                except NotAcceptable as error:
                    refused = refused or error
                    continue
                for part in self._parts_of(call, instance, item, offer):
                    sent += 1
                    yield part
        if not sent:
            raise refused or NotFound("nothing of this kind is stored under the UIDs of this URL")

    def _parts_of(self, call: Call, instance: Instance, item: BulkItem, offer: Offer) -> Iterator[_Part]:
        if not _framed(instance, item):
            kind = offer.media_type
            yield _Part(kind, instance.location(call.mount, f"bulkdata/{item.path}"), pieces_of(instance, item))
            return
        for number in range(1, instance.frames + 1):
            yield self._frame(call, instance, number, offer)

    def _frame(self, call: Call, instance: Instance, number: int, offer: Offer) -> _Part:
        """One frame, as it was accepted; one that cannot be decoded comes as it is stored, rather than cost the others their place."""
        location = frame_location(call, instance, number)
        try:
            content = read(self._archive.blobs, Body(frame_pieces(instance, number, offer)))
        except LightboxError as error:
            note(error, "retrieve")
            kind = f"{instance.syntax.media_type}; transfer-syntax={instance.syntax.uid}"
            return _Part(kind, location, instance.frame(number))
        return _Part(f"{offer.media_type}; transfer-syntax={offer.transfer_syntax}", location, content)


def _framed(instance: Instance, item: BulkItem) -> bool:
    """Encapsulated pixel data has no bytes of its own but those of its frames; a video is one stream."""
    return item.length < 0 and instance.syntax.coding is not Coding.VIDEO


def _offers(instance: Instance, item: BulkItem) -> Sequence[Offer]:
    if _framed(instance, item):
        return negotiation.frames(instance.syntax, decodable=True, single=False)
    kind = media_type(instance, item)
    return negotiation.bulk(kind, instance.syntax.uid if kind.startswith("video/") else "", single=False)
