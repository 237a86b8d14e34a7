"""WADO-RS studies, series and instances (PS3.18 10.4.1.1.1): Part 10 files, one or many or in a ZIP file, as stored or in plain bytes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from itertools import chain

from dicomweb import negotiation
from dicomweb.bodies import CACHE_CONTROL, Body, respond, settled, stream, unchanged
from dicomweb.errors import note
from dicomweb.exchange import Answer, Call
from dicomweb.file_sets import file_name, zipped
from dicomweb.frames import scope_of
from dicomweb.media_types import DICOM, ZIP, MediaType
from dicomweb.multipart import boundary_for, closing, part_head
from dicomweb.negotiation import Offer
from storage import part10
from storage.archive import Archive
from storage.errors import LightboxError, NotFound
from storage.pieces import Extent, Piece
from storage.transcoding import transcoded
from storage.types import Located, Scope


class Instances:
    """GET /studies/{study}, …/series/{series} and …/instances/{instance}."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def one(self, call: Call) -> Answer:
        """One instance, with Range. Raises NotFound, NotAcceptable, CannotDecode."""
        located = self._first(scope_of(call))
        offer = _offer(call.accepted(), located.transfer_syntax_uid, single=True)
        if offer.media_type == ZIP:
            return self._zip(call)
        syntax = offer.transfer_syntax
        etag = located.sha256
        if syntax != located.transfer_syntax_uid:
            etag += f"-{syntax}"
        if offer.made and unchanged(call, tag := f'"{etag}{"-related" * offer.related}"'):
            # Known without encoding anything.
            return respond(call, self._archive.blobs, Body(()), {}, tag)
        body = Body(self._file(located, syntax))
        kind = f"{DICOM}; transfer-syntax={syntax}"
        if not offer.related:
            return respond(call, self._archive.blobs, body, {"Content-Type": kind}, f'"{etag}"')
        boundary = boundary_for(etag)
        body = Body((part_head(boundary, _headers(kind, body.length), first=True), *body.pieces, closing(boundary)))
        headers = {"Content-Type": _related(boundary, syntax)}
        return respond(call, self._archive.blobs, body, headers, f'"{etag}-related"')

    def many(self, call: Call) -> Answer:
        """A series or a study, streamed: memory does not depend on its size. Raises NotFound, NotAcceptable."""
        scope = scope_of(call)
        if self._acceptable(call, scope).media_type == ZIP:
            return self._zip(call)
        boundary = uuid.uuid4().hex
        headers = {"Content-Type": _related(boundary, ""), "Cache-Control": CACHE_CONTROL}
        if call.method == "HEAD":
            return Answer(200, headers, iter(()))
        return Answer(200, headers, settled(self._parts(scope, boundary, call.accepted())))

    def _zip(self, call: Call) -> Answer:
        scope, accepted = scope_of(call), negotiation.inside_zip(call.accepted())
        headers = {
            "Content-Type": ZIP,
            "Content-Disposition": f'attachment; filename="{file_name(scope)}"',
            "Cache-Control": CACHE_CONTROL,
            "Vary": "Accept",
        }
        if call.method == "HEAD":
            return Answer(200, headers, iter(()))
        layouts = self._archive.index.layouts_in(scope)
        return Answer(200, headers, settled(zipped(layouts, lambda located: self._part(located, accepted))))

    def _acceptable(self, call: Call, scope: Scope) -> Offer:
        """What the client gets; found out before the first byte for every instance. Raises NotFound, NotAcceptable."""
        accepted = call.accepted()
        first = self._first(scope)
        syntaxes = {first.transfer_syntax_uid}
        if any(wanted.transfer_syntax not in ("", "*") for wanted in accepted):
            syntaxes = {located.transfer_syntax_uid for located in self._archive.index.locate(scope)}
        offers = [_offer(accepted, syntax, single=False) for syntax in sorted(syntaxes)]
        return offers[0]

    def _first(self, scope: Scope) -> Located:
        found = next(iter(self._archive.index.locate(scope)), None)
        if found is None:
            raise NotFound(_nothing(scope))
        return found

    def _parts(self, scope: Scope, boundary: str, accepted: Sequence[MediaType]) -> Iterator[bytes]:
        first = True
        for located in self._archive.index.locate(scope):
            syntax, size, pieces = self._part(located, accepted)
            kind = f"{DICOM}; transfer-syntax={syntax}"
            yield part_head(boundary, _headers(kind, size), first=first) + next(pieces)
            yield from pieces
            first = False
        yield closing(boundary)

    def _part(self, located: Located, accepted: Sequence[MediaType]) -> tuple[str, int, Iterator[bytes]]:
        """An instance among others: its transfer syntax, its length and its bytes.

        One that turns out not to be readable comes as it is stored rather than cost its neighbours their place.
        """
        syntax = _offer(accepted, located.transfer_syntax_uid, single=False).transfer_syntax
        if syntax != located.transfer_syntax_uid:
            try:
                body = Body(self._transcoded(located, syntax))
            except LightboxError as error:
                note(error, "retrieve")
            else:
                return syntax, body.length, stream(self._archive.blobs, body)
        pieces = self._whole(located)
        head = next(pieces)
        size = len(head) + located.size - located.dataset_offset
        return located.transfer_syntax_uid, size, chain((head,), pieces)

    def _whole(self, located: Located) -> Iterator[bytes]:
        """The head as it may go out, then the data set in pieces; the object is opened once."""
        start = located.dataset_offset
        pieces = self._archive.blobs.stream(located.object_key)
        data = next(pieces, b"")
        while len(data) < start:
            data += next(pieces)
        yield _head(data[:start], located)
        yield data[start:]
        yield from pieces

    def _file(self, located: Located, syntax: str) -> tuple[Piece, ...]:
        if syntax != located.transfer_syntax_uid:
            return self._transcoded(located, syntax)
        start = located.dataset_offset
        stored = self._archive.blobs.read(located.object_key, 0, start)
        head = _head(stored, located)
        if head == stored:
            return (Extent(located.object_key, 0, located.size),)
        return (head, Extent(located.object_key, start, located.size - start))

    def _transcoded(self, located: Located, syntax: str) -> tuple[Piece, ...]:
        layout = self._archive.index.layout(located.scope)
        if layout is None:
            raise NotFound(f"instance {located.uids.instance} was deleted a moment ago")
        return transcoded(layout, self._archive.blobs, syntax, self._archive.spool).part10


def _offer(accepted: Sequence[MediaType], stored: str, *, single: bool) -> Offer:
    offers = (*negotiation.instances(stored, single=single), *negotiation.zips(stored))
    return negotiation.choose(accepted, offers)


def _head(stored: bytes, located: Located) -> bytes:
    return part10.outgoing_head(
        stored, located.sop_class_uid, located.uids.instance, located.transfer_syntax_uid
    )


def _headers(kind: str, length: int) -> dict[str, str]:
    return {"Content-Type": kind, "Content-Length": str(length)}


def _related(boundary: str, syntax: str) -> str:
    return f"{Offer(DICOM, syntax, related=True)}; boundary={boundary}"


def _nothing(scope: Scope) -> str:
    names = (("study", scope.study), ("series", scope.series), ("instance", scope.instance))
    return "nothing is stored for " + ", ".join(f"{name} {uid}" for name, uid in names if uid)
