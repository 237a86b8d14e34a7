"""WADO-RS studies, series and instances (PS3.18 10.4.1.1.1): Part 10 files, one or many or in a ZIP file, as stored or in plain bytes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

from dicomweb import negotiation
from dicomweb.ahead import Ahead
from dicomweb.bodies import CACHE_CONTROL, IN_FILE, Body, respond, settled, stream, unchanged
from dicomweb.errors import note
from dicomweb.exchange import Answer, Call, Stream
from dicomweb.file_sets import file_name, zipped
from dicomweb.frames import scope_of
from dicomweb.media_types import DICOM, ZIP, MediaType
from dicomweb.multipart import boundary_for, closing, part_head
from dicomweb.negotiation import Offer
from storage import part10
from storage.archive import Archive
from storage.blobs.in_file import InFile
from storage.errors import CannotDecode, LightboxError, NotAcceptable, NotFound, ObjectMissing
from storage.pieces import Extent, Piece, complete
from storage.spool import through
from storage.transcoding import transcoded
from storage.transfer_syntaxes import lookup
from storage.types import Located, Scope

# Transfer syntax, length and bytes.
_Part = tuple[str, int, Stream]


class Instances:
    """GET /studies/{study}, …/series/{series} and …/instances/{instance}."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def one(self, call: Call) -> Answer:
        """One instance, with Range. Raises NotFound, NotAcceptable, CannotDecode."""
        located = self._first(scope_of(call))
        accepted = call.accepted()
        offer = _offer(accepted, located.transfer_syntax_uid, single=True)
        if offer.media_type == ZIP:
            return self._zip(call)
        try:
            return self._alone(call, located, offer)
        except (CannotDecode, NotAcceptable) as error:
            if any(wanted.transfer_syntax == offer.transfer_syntax for wanted in accepted):
                raise
            # Who names no transfer syntax gets it as the others of its series come: as it is stored.
            note(error, "retrieve")
            answer = self._alone(call, located, replace(offer, transfer_syntax=located.transfer_syntax_uid))
            warning = f"299 {call.root}: as stored, because the default transfer syntax cannot be made: {error}"
            return replace(answer, headers={**answer.headers, "Warning": warning})

    def _alone(self, call: Call, located: Located, offer: Offer) -> Answer:
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
        headers = {"Content-Type": _related(boundary, ""), "Cache-Control": CACHE_CONTROL, "Vary": "Accept"}
        if call.method == "HEAD":
            return Answer(200, headers, iter(()))
        unread = _Unread()
        return unread.answer(call, headers, settled(self._parts(scope, boundary, call.accepted(), unread)))

    def _zip(self, call: Call) -> Answer:
        scope, offers = scope_of(call), _Offers(negotiation.inside_zip(call.accepted()))
        headers = {
            "Content-Type": ZIP,
            "Content-Disposition": f'attachment; filename="{file_name(scope)}"',
            "Cache-Control": CACHE_CONTROL,
            "Vary": "Accept",
        }
        if call.method == "HEAD":
            return Answer(200, headers, iter(()))
        unread = _Unread()
        layouts = self._archive.index.layouts_in(scope)
        pieces = zipped(layouts, lambda located: unread.without(lambda: self._part(located, offers)))
        return unread.answer(call, headers, settled(pieces))

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

    def _parts(
        self, scope: Scope, boundary: str, accepted: Sequence[MediaType], unread: _Unread
    ) -> Iterator[bytes | InFile]:
        first, offers, heads = True, _Offers(accepted), _Heads()

        def in_file(located: Located) -> bool:
            return located.size - located.dataset_offset >= IN_FILE and offers.as_stored(located)

        ahead = Ahead(self._archive.blobs, self._archive.index.locate(scope), in_file)
        for located, file in ahead:
            if file is not None:
                part = unread.without(partial(_in_file, located, file, ahead, heads))
            else:
                part = unread.without(partial(self._part, located, offers))
            if part is None:
                continue
            syntax, size, pieces = part
            kind = f"{DICOM}; transfer-syntax={syntax}"
            yield part_head(boundary, _headers(kind, size), first=first)
            yield from pieces
            first = False
        yield closing(boundary)

    def _part(self, located: Located, offers: _Offers) -> _Part:
        """An instance among others: its transfer syntax, its length and its bytes, of which the first are there.

        One that turns out not to be decodable comes as it is stored. Raises ObjectMissing.
        """
        syntax = offers[located.transfer_syntax_uid].transfer_syntax
        if syntax != located.transfer_syntax_uid:
            try:
                return self._remade(located, syntax)
            except ObjectMissing:
                raise
            except LightboxError as error:
                note(error, "retrieve")
        return (located.transfer_syntax_uid, *self._whole(located))

    def _remade(self, located: Located, syntax: str) -> _Part:
        body = Body(self._transcoded(located, syntax))
        pieces = stream(self._archive.blobs, body)
        if lookup(located.transfer_syntax_uid).encapsulated and not lookup(syntax).encapsulated:
            # A frame that cannot be decoded must be known before the first byte goes out: that cannot be taken back.
            pieces = through(pieces, self._archive.spool())
        return syntax, body.length, chain((next(pieces),), pieces)

    def _whole(self, located: Located) -> tuple[int, Iterator[bytes]]:
        """Its length, and its bytes with the head as it may go out; the object is opened once. Raises ObjectMissing."""
        start = located.dataset_offset
        pieces = self._archive.blobs.stream(located.object_key, 0, located.size)
        data = b""
        while len(data) < start and (piece := next(pieces, b"")):
            data += piece
        complete(min(len(data), start), start)
        stored = data[:start]
        head = _head(stored, located)
        # As a rule the head goes out as it came, and half a megabyte need not be copied to leave it out.
        begun = (data,) if head == stored else (head, data[start:])
        return located.size - start + len(head), _all(begun, len(data), pieces, located.size)

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
        return transcoded(layout, self._archive.blobs, syntax, self._archive.spool, lossy=True).part10


class _Unread:
    """Counts the instances of an answer that cannot be read, and so are not in it: their neighbours are, and it is said.

    Before the first byte by 206 and a Warning (PS3.18 table 10.4.3-1); after it only by an answer that does not come to its end.
    """

    def __init__(self) -> None:
        self._count = self._sent = 0

    def without(self, part: Callable[[], _Part]) -> _Part | None:
        """The part; None where its object is not there, or not whole as far as that has been seen."""
        try:
            found = part()
        except ObjectMissing as error:
            note(error, "retrieve")
            self._count += 1
            return None
        self._sent += 1
        return found

    def answer(self, call: Call, headers: Mapping[str, str], body: tuple[bytes, ...] | Stream) -> Answer:
        """The answer with this body, of which nothing has been sent yet. Raises ObjectMissing where nothing is left of it."""
        if not isinstance(body, tuple):
            return Answer(200, headers, self._cut(body))
        if not self._count:
            return Answer(200, headers, body)
        if not self._sent:
            raise ObjectMissing("the store has not got any of these instances whole; send them again, which repairs it")
        return Answer(206, {**headers, "Warning": f"299 {call.root}: {self._text}"}, body)

    def _cut(self, body: Stream) -> Iterator[bytes | InFile]:
        try:
            yield from body
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()
        if self._count:
            raise ObjectMissing(self._text)

    @property
    def _text(self) -> str:
        return f"instances left out because the store has not got them whole: {self._count}"


class _Offers(dict[str, Offer]):
    """What is sent of an instance among others, by the transfer syntax that it is stored in: chosen once for each.

    Raises NotAcceptable.
    """

    def __init__(self, accepted: Sequence[MediaType]) -> None:
        super().__init__()
        self._accepted = accepted

    def as_stored(self, located: Located) -> bool:
        """Whether it goes out in the transfer syntax that it is stored in."""
        return self[located.transfer_syntax_uid].transfer_syntax == located.transfer_syntax_uid

    def __missing__(self, stored: str) -> Offer:
        found = self[stored] = _offer(self._accepted, stored, single=False)
        return found


class _Heads(set[tuple[bytes, bytes, str]]):
    """The heads that go out as they are stored, but for the one UID in them: those of a series differ in nothing else."""

    def of(self, stored: bytes, located: Located) -> bytes:
        """What to send in place of `stored`."""
        uid = located.uids.instance.encode("ascii", "replace")
        before, found, after = stored.partition(uid)
        known = (before, after, located.transfer_syntax_uid)
        if found and known in self:
            return stored
        head = _head(stored, located)
        if head == stored:
            self.add(known)
        return head


def _in_file(located: Located, file: InFile, ahead: Ahead, heads: _Heads) -> _Part:
    """An instance as it is stored, the most of it left in its file. Raises ObjectMissing, StoreUnavailable."""
    complete(min(file.available(), located.size), located.size)
    head = heads.of(ahead.head(file), located)
    return located.transfer_syntax_uid, len(head) + len(file), iter((head, file))


def _all(begun: tuple[bytes, ...], read: int, pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """What was begun and what follows. Raises ObjectMissing where that is not all of the object."""
    yield from begun
    for piece in pieces:
        read += len(piece)
        yield piece
    complete(read, size)


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
