"""WADO-RS studies, series and instances as stored (PS3.18 10.4.1.1): Part 10 files, one or many."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from dicomweb import negotiation
from dicomweb.bodies import CACHE_CONTROL, Body, Extent, Piece, respond, settled
from dicomweb.exchange import Answer, Call
from dicomweb.frames import scope_of
from dicomweb.media_types import DICOM
from dicomweb.multipart import boundary_for, closing, part_head
from dicomweb.negotiation import Offer
from storage import part10
from storage.archive import Archive
from storage.errors import NotFound
from storage.types import Located, Scope


class Instances:
    """GET /studies/{study}, …/series/{series} and …/instances/{instance}."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def one(self, call: Call) -> Answer:
        """One instance, with Range. Raises NotFound, NotAcceptable."""
        located = self._first(scope_of(call))
        offer = negotiation.choose(
            call.accepted(), negotiation.instances([located.transfer_syntax_uid], single=True)
        )
        body = Body(self._file(located))
        kind = f"{DICOM}; transfer-syntax={located.transfer_syntax_uid}"
        if not offer.related:
            return respond(call, self._archive.blobs, body, {"Content-Type": kind}, f'"{located.sha256}"')
        boundary = boundary_for(located.sha256)
        body = Body((part_head(boundary, _headers(kind, body.length), first=True), *body.pieces, closing(boundary)))
        headers = {"Content-Type": _related(boundary, located.transfer_syntax_uid)}
        return respond(call, self._archive.blobs, body, headers, f'"{located.sha256}-related"')

    def many(self, call: Call) -> Answer:
        """A series or a study, streamed: memory does not depend on its size. Raises NotFound, NotAcceptable."""
        scope = scope_of(call)
        self._acceptable(call, scope)
        boundary = uuid.uuid4().hex
        headers = {"Content-Type": _related(boundary, ""), "Cache-Control": CACHE_CONTROL}
        if call.method == "HEAD":
            return Answer(200, headers, iter(()))
        return Answer(200, headers, settled(self._parts(scope, boundary)))

    def _acceptable(self, call: Call, scope: Scope) -> None:
        """Find out before the first byte whether every instance can be sent as the client accepts it."""
        accepted = call.accepted()
        first = self._first(scope)
        syntaxes = {first.transfer_syntax_uid}
        if any(wanted.transfer_syntax not in ("", "*") for wanted in accepted):
            syntaxes = {located.transfer_syntax_uid for located in self._archive.index.locate(scope)}
        for syntax in sorted(syntaxes):
            negotiation.choose(accepted, negotiation.instances([syntax], single=False))

    def _first(self, scope: Scope) -> Located:
        found = next(iter(self._archive.index.locate(scope)), None)
        if found is None:
            raise NotFound(_nothing(scope))
        return found

    def _parts(self, scope: Scope, boundary: str) -> Iterator[bytes]:
        first = True
        for located in self._archive.index.locate(scope):
            kind = f"{DICOM}; transfer-syntax={located.transfer_syntax_uid}"
            pieces = self._whole(located)
            head = next(pieces)
            size = len(head) + located.size - located.dataset_offset
            yield part_head(boundary, _headers(kind, size), first=first) + head
            yield from pieces
            first = False
        yield closing(boundary)

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

    def _file(self, located: Located) -> tuple[Piece, ...]:
        start = located.dataset_offset
        stored = self._archive.blobs.read(located.object_key, 0, start)
        head = _head(stored, located)
        if head == stored:
            return (Extent(located.object_key, 0, located.size),)
        return (head, Extent(located.object_key, start, located.size - start))


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
