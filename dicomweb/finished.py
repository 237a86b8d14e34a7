"""Bodies that took work to make, kept compressed: made once, sent in whichever content coding each client takes.

A series' metadata is a hundred times smaller under zstd than as it is, so that hundreds of series are kept in the memory of
one body, and undoing the compression costs less than asking the index again (RFC 9110 8.4, 12.5.3).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Iterator
from typing import Final, NamedTuple, Protocol

import zstandard

from dicomweb.kept import Kept

IDENTITY: Final = "identity"
_ZSTD, _GZIP = "zstd", "gzip"
# In the order of what we like to send; `x-gzip` is the same as `gzip` (RFC 9110 8.4.1.3).
_CODINGS: Final = {_ZSTD: _ZSTD, _GZIP: _GZIP, "x-gzip": _GZIP}
# What an identity body is undone in, and what is pressed at a time: a thread hop for each row would cost more.
_CHUNK: Final = 512 << 10
_LEVEL: Final = 1


class Made(NamedTuple):
    """A finished body: its length before compression, and its bytes in each coding in which it has been asked for."""

    length: int
    zstd: bytes
    gzip: bytes | None


class Body(NamedTuple):
    """A body as it is sent: its length where that is known before its end, and its pieces."""

    length: int | None
    pieces: Iterator[bytes]


class _Press(Protocol):
    """A running compression."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class Finished:
    """Finished bodies, by keys that tell everything that they depend on, their ETag above all. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self.kept: Kept[Made] = Kept(max_bytes, _size)

    def body(self, key: Hashable | None, coding: str, pieces: Callable[[], Iterator[bytes]]) -> Body:
        """The body in a coding of `coding_of`: made of `pieces()` where it is not kept, and kept when it has come to its end.

        Without a key it is made, and not kept.
        """
        made = self.kept.get(key) if key is not None else None
        if made is None:
            return Body(None, self._making(key, coding, pieces()))
        if coding == IDENTITY:
            return Body(made.length, _undone(made.zstd))
        content = made.zstd if coding == _ZSTD else self._gzipped(key, made)
        return Body(len(content), iter((content,)))

    def _gzipped(self, key: Hashable, made: Made) -> bytes:
        if made.gzip is not None:
            return made.gzip
        content = b"".join(_pressed(_undone(made.zstd), _gzip()))
        self.kept.keep(key, made._replace(gzip=content))
        return content

    def _making(self, key: Hashable | None, coding: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """What the client gets, while the same is pressed for those who will ask for it."""
        zstd: _Press = zstandard.ZstdCompressor(level=_LEVEL).compressobj()
        gzip = _gzip() if coding == _GZIP else None
        kept: dict[str, list[bytes]] = {_ZSTD: [], _GZIP: []}
        length = 0
        for piece in _gathered(pieces):
            length += len(piece)
            kept[_ZSTD].append(zstd.compress(piece))
            if gzip is not None:
                kept[_GZIP].append(gzip.compress(piece))
            yield piece if coding == IDENTITY else kept[coding][-1]
        kept[_ZSTD].append(zstd.flush())
        if gzip is not None:
            kept[_GZIP].append(gzip.flush())
        if coding != IDENTITY:
            yield kept[coding][-1]
        if key is not None:
            self.kept.keep(key, Made(length, b"".join(kept[_ZSTD]), b"".join(kept[_GZIP]) if gzip is not None else None))


def coding_of(accept_encoding: str) -> str:
    """The content coding for a client that sent this Accept-Encoding, `identity` for none (RFC 9110 12.5.3)."""
    taken: dict[str, bool] = {}
    for part in accept_encoding.lower().split(","):
        name, _, parameters = part.partition(";")
        taken[name.strip()] = not _is_refused(parameters)
    for name, coding in _CODINGS.items():
        if taken.get(name, False):
            return coding
    # Any coding will do: gzip is the one that every client can undo.
    return _GZIP if taken.get("*", False) and _GZIP not in taken else IDENTITY


def _is_refused(parameters: str) -> bool:
    name, _, value = parameters.partition("=")
    try:
        return name.strip() == "q" and float(value) == 0
    except ValueError:
        return False


def _size(made: Made) -> int:
    return len(made.zstd) + len(made.gzip or b"")


def _gzip() -> _Press:
    return zlib.compressobj(_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)


def _pressed(pieces: Iterator[bytes], press: _Press) -> Iterator[bytes]:
    for piece in pieces:
        yield press.compress(piece)
    yield press.flush()


def _undone(zstd: bytes) -> Iterator[bytes]:
    return zstandard.ZstdDecompressor().read_to_iter(zstd, write_size=_CHUNK)


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _CHUNK:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)
