"""Received bytes before they are an instance: in memory while small, then in a temporary file; hashed on the way."""

from __future__ import annotations

import hashlib
import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from storage import rooms
from storage.disk import unavailable
from storage.errors import LightboxError, LimitExceeded

# A CT, an MR or a CR below this never touches a temporary file of its own: the store writes it once, from memory.
MEMORY_LIMIT = rooms.ROOM_BYTES

# What `through` hands out at a time.
_PIECE = 1 << 20

_Writable = bytes | bytearray | memoryview


class Spool:
    """Bytes as they arrive. Write, then read `size`, `sha256` and `view()`; close (or leave the `with`) when done.

    `folder` should lie on the object store's own file system, so that a large object becomes durable by a rename.
    The temporary file is removed at `close` unless the store has taken it away by then.
    """

    def __init__(self, folder: Path, *, limit: int | None = None, memory_limit: int = MEMORY_LIMIT) -> None:
        self._folder = folder
        self._limit = limit
        self._memory_limit = memory_limit
        self._room: mmap.mmap | None = None
        self._file: int | None = None
        self._path: Path | None = None
        self._map: mmap.mmap | None = None
        self._hash = hashlib.sha256()
        self._size = 0
        self._failure: LightboxError | None = None

    @property
    def size(self) -> int:
        return self._size

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    @property
    def path(self) -> Path | None:
        return self._path

    def write(self, data: _Writable) -> None:
        """Append. Raises LimitExceeded past the object limit, StoreFull when the disk has no room, StoreUnavailable
        when it fails; the bytes are then forgotten, their room is free, and every later use raises the same.
        """
        self._check()
        self._size += len(data)
        if self._limit is not None and self._size > self._limit:
            self._fail(LimitExceeded(f"the object is larger than the limit of {self._limit} bytes; raise PACS_MAX_OBJECT_BYTES to accept it"))
        self._hash.update(data)
        if self._file is None and self._size <= self._memory_limit:
            self._put(data)
            return
        try:
            if self._file is None:
                self._spill(self._size - len(data))
            self._write_file(data)
        except OSError as error:
            self._fail(unavailable(error, "spool the bytes that arrive"), error)

    def view(self) -> memoryview:
        """All bytes, read-only. Valid until `close`."""
        self._check()
        if self._file is None:
            return memoryview(self._room or b"")[: self._size].toreadonly()
        if self._map is None or len(self._map) != self._size:
            self._map = mmap.mmap(self._file, self._size, access=mmap.ACCESS_READ)
        return memoryview(self._map)

    def close(self) -> None:
        """Forget the bytes. Safe to call twice; views that are still held keep the memory, not the file name."""
        self._map = None
        self._leave()
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self) -> None:
        """Bytes that lack some in the middle must not pass for an object."""
        if self._failure is not None:
            raise self._failure

    def _fail(self, failure: LightboxError, cause: OSError | None = None) -> NoReturn:
        self._failure = failure
        self.close()
        raise failure from cause

    def _put(self, data: _Writable) -> None:
        if self._room is None:
            self._room = rooms.take(self._memory_limit)
        self._room[self._size - len(data) : self._size] = data

    def _leave(self) -> None:
        if self._room is not None:
            room, self._room = self._room, None
            rooms.give(room)

    def _spill(self, size: int) -> None:
        """The first `size` bytes, which are in memory, go into a file."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file, name = tempfile.mkstemp(dir=self._folder, prefix="spool-")
        self._path = Path(name)
        if self._room is not None:
            with memoryview(self._room) as whole, whole[:size] as there:
                self._write_file(there)
        self._leave()

    def _write_file(self, data: _Writable) -> None:
        assert self._file is not None
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._file, rest) :]


def through(pieces: Iterable[_Writable], spool: Spool) -> Iterator[bytes]:
    """The same bytes, once all of them are there: what goes wrong with them does so before the first. Closes the spool."""
    try:
        for piece in pieces:
            spool.write(piece)
    except BaseException:
        spool.close()
        raise
    yield from read_out(spool)


def read_out(spool: Spool) -> Iterator[bytes]:
    """All that was written, piece by piece; closes the spool."""
    with spool:
        view = spool.view()
        for at in range(0, len(view), _PIECE):
            yield bytes(view[at : at + _PIECE])
