"""Answers made of bytes in hand and of extents of stored objects, of known length, so that Range can cut anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from dicomweb.errors import WebRefusal
from dicomweb.exchange import Answer, Call, Stream
from dicomweb.ranges import Span, Unsatisfiable, parse_range
from storage.blobs.in_file import InFile, in_hand
from storage.pieces import Extent, Made, Piece, complete, length_of, streamed
from storage.types import Blobs

# Bodies up to this size are read in the request's one thread hop; larger ones are streamed.
EAGER = 2 << 20
# Less is read: to open a file for the socket costs more than to copy this.
IN_FILE = 64 << 10
# Extents of one object this close together are read at once: one open file, or one request to S3.
_GAP = 64 << 10

# Stored images belong to a patient: never in shared caches, and asked again each time, which costs an ETag and no bytes.
CACHE_CONTROL = "private, no-cache"


@dataclass(frozen=True, slots=True)
class Body:
    """Pieces that follow each other."""

    pieces: tuple[Piece, ...]

    @property
    def length(self) -> int:
        """Bytes in all."""
        return sum(length_of(piece) for piece in self.pieces)

    def first(self, length: int) -> Body:
        """The first `length` bytes."""
        return self.cut(Span(0, length))

    def cut(self, span: Span) -> Body:
        """The pieces, and parts of pieces, that lie in `span`."""
        kept: list[Piece] = []
        at = 0
        for piece in self.pieces:
            size = length_of(piece)
            start, stop = max(span.start - at, 0), min(span.stop - at, size)
            if start < stop:
                kept.append(_part(piece, start, stop))
            at += size
        return Body(tuple(kept))


def respond(
    call: Call, blobs: Blobs, body: Body, headers: Mapping[str, str], etag: str, *, status: int = 200
) -> Answer:
    """`body` as an answer to `call`: 304, 206, 416 or whole; streamed when it is large (RFC 9110 13 and 14)."""
    validators = {"ETag": etag, "Cache-Control": CACHE_CONTROL, "Vary": "Accept"}
    if unchanged(call, etag):
        location = headers.get("Content-Location")
        return Answer(304, validators | ({"Content-Location": location} if location else {}))
    headers = {**headers, **validators, "Accept-Ranges": "bytes"}
    # Range is for GET alone (RFC 9110 14.2).
    span = _span(call, body.length, etag) if call.method == "GET" else None
    if span is not None:
        headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{body.length}"
        body, status = body.cut(span), 206
    if call.method == "HEAD":
        return Answer(status, {**headers, "Content-Length": str(body.length)}, iter(()))
    if body.length <= EAGER:
        return Answer(status, headers, read(blobs, body))
    return Answer(status, {**headers, "Content-Length": str(body.length)}, settled(sent(blobs, body)))


def unchanged(call: Call, etag: str) -> bool:
    """Whether If-None-Match names `etag` (weak comparison, RFC 9110 13.1.2)."""
    header = call.headers.get("if-none-match", "")
    if not header:
        return False
    known = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in known or etag.removeprefix("W/") in known


def read(blobs: Blobs, body: Body) -> tuple[bytes, ...]:
    """Every piece in memory; neighbouring extents of an object share one read."""
    extents = [piece for piece in body.pieces if isinstance(piece, Extent)]
    found = iter(_extents(blobs, extents))
    return tuple(next(found) if isinstance(piece, Extent) else _bytes(piece) for piece in body.pieces)


def stream(blobs: Blobs, body: Body) -> Iterator[bytes]:
    """The pieces one after the other, large extents in parts."""
    return streamed(blobs, body.pieces)


def sent(blobs: Blobs, body: Body) -> Iterator[bytes | InFile]:
    """The same, with what is long left in the files that it lies in. Raises ObjectMissing, CannotDecode."""
    for piece in body.pieces:
        descriptor = blobs.opened(piece.key) if isinstance(piece, Extent) and piece.length >= IN_FILE else None
        if descriptor is None or not isinstance(piece, Extent):
            yield from streamed(blobs, (piece,))
            continue
        file = InFile(descriptor, piece.offset, piece.length)
        complete(max(0, min(file.available() - piece.offset, piece.length)), piece.length)
        yield file


def settled(pieces: Stream) -> tuple[bytes, ...] | Stream:
    """All of `pieces` when they are few enough to hold; otherwise an iterator that begins with those already pulled.

    Either way what goes wrong at the beginning is an error with its own status, and not a broken stream.
    """
    begun: list[bytes | InFile] = []
    size = 0
    for piece in pieces:
        begun.append(piece)
        size += len(piece)
        if size > EAGER:
            return _Resumed(begun, pieces)
    return tuple(in_hand(begun))


class _Resumed(Iterator[bytes | InFile]):
    """An iterator with its first pieces put back, whose `close` closes the one that it wraps."""

    def __init__(self, begun: list[bytes | InFile], rest: Stream) -> None:
        self._all = chain(begun, rest)
        self._rest = rest

    def __next__(self) -> bytes | InFile:
        return next(self._all)

    def close(self) -> None:
        """Let go of what the pieces come from."""
        close = getattr(self._rest, "close", None)
        if close is not None:
            close()


def _bytes(piece: bytes | Made) -> bytes:
    return piece if isinstance(piece, bytes) else piece.bytes()


def _part(piece: Piece, start: int, stop: int) -> Piece:
    if isinstance(piece, Extent):
        return Extent(piece.key, piece.offset + start, stop - start)
    if isinstance(piece, Made):
        return Made(stop - start, lambda: piece.bytes()[start:stop])
    return piece[start:stop]


def _span(call: Call, length: int, etag: str) -> Span | None:
    header = call.headers.get("range")
    if header is None or call.headers.get("if-range", etag) != etag:
        return None
    try:
        return parse_range(header, length)
    except Unsatisfiable as error:
        raise WebRefusal(
            416, str(error), f"ask for bytes between 0 and {length - 1}", {"Content-Range": f"bytes */{length}"}
        ) from error


def _extents(blobs: Blobs, extents: Sequence[Extent]) -> Iterator[bytes]:
    start = 0
    while start < len(extents):
        stop = start + 1
        while stop < len(extents) and _adjoins(extents[stop - 1], extents[stop]):
            stop += 1
        yield from _together(blobs, extents[start:stop])
        start = stop


def _adjoins(before: Extent, after: Extent) -> bool:
    return before.key == after.key and 0 <= after.offset - before.offset - before.length <= _GAP


def _together(blobs: Blobs, extents: Sequence[Extent]) -> Iterator[bytes]:
    base, end = extents[0].offset, extents[-1].offset + extents[-1].length
    data = blobs.read(extents[0].key, base, end - base)
    complete(len(data), end - base)
    if len(extents) == 1:
        yield data
        return
    for extent in extents:
        yield data[extent.offset - base : extent.offset - base + extent.length]
