"""Reading a file that is open: whole ranges, pieces, and whether it holds what it should."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator

from storage.blobs.keys import PIECE
from storage.disk import flush, unavailable
from storage.types import Content

# What the system says when a file's bytes, or the folder's note of it, can no longer be read from the medium.
DAMAGED = frozenset({errno.EIO, getattr(errno, "EUCLEAN", errno.EIO)})


def read_range(descriptor: int, offset: int, length: int) -> bytes:
    """`length` bytes from `offset`, fewer only at the end of the file. Raises OSError."""
    data = os.pread(descriptor, length, offset)
    if len(data) == length or not data:
        return data
    pieces, got = [data], len(data)
    while data := os.pread(descriptor, length - got, offset + got):
        pieces.append(data)
        got += len(data)
    return b"".join(pieces)


def read_now(descriptor: int, offset: int, length: int) -> bytes | None:
    """A few bytes where the system has them in memory, else None, also where it cannot say. Raises OSError."""
    if not hasattr(os, "RWF_NOWAIT"):
        return None
    room = bytearray(length)
    try:
        got = os.preadv(descriptor, [room], offset, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL):
            return None
        raise
    return bytes(room) if got == length else None


def read_resident(descriptor: int, offset: int, length: int) -> bytes | None:
    """The same where the system has it in memory, else None.

    Asked of the first and the last byte, which come and go with those between them: to read all of it in a way that cannot
    wait would need room that is wiped beforehand, which costs as much as the reading.
    """
    if not hasattr(os, "RWF_NOWAIT"):
        return None
    probe = bytearray(1)
    try:
        there = all(os.preadv(descriptor, [probe], at, os.RWF_NOWAIT) for at in (offset + length - 1, offset))
        return os.pread(descriptor, length, offset) if there else None
    except OSError:
        # Not there (EAGAIN), or a file system that cannot say (EOPNOTSUPP).
        return None


def is_sound(descriptor: int, content: Content) -> bool:
    """Whether the file has the content's size and SHA-256 on the medium itself, past the page cache where that goes.

    Raises OSError for what is not damage.
    """
    if os.fstat(descriptor).st_size != content.size:
        return False
    # Flushed first: the cache gives up only what is on the medium.
    flush(descriptor)
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    digest, offset = hashlib.sha256(), 0
    try:
        while piece := os.pread(descriptor, PIECE, offset):
            digest.update(piece)
            offset += len(piece)
    except OSError as error:
        if error.errno in DAMAGED:
            return False
        raise
    return digest.hexdigest() == content.sha256


class FileStream:
    """Pieces of an open file: a delete meanwhile does not hurt, and the file is closed however the reader ends."""

    def __init__(self, descriptor: int, key: str, offset: int, length: int | None) -> None:
        """Takes over `descriptor`; `key` is for error messages."""
        self._descriptor: int | None = descriptor
        self._key = key
        self._offset = offset
        self._left = length

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece = self._piece(PIECE if self._left is None else min(PIECE, self._left))
        if not piece:
            self.close()
            raise StopIteration
        self._offset += len(piece)
        if self._left is not None:
            self._left -= len(piece)
        return piece

    def forget_cached(self) -> None:
        """Have the system read from the medium: what it has cached of the file is dropped, where it lets us."""
        if self._descriptor is not None and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """Close the file; whoever goes on reading is at the end."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.close()

    def _piece(self, wanted: int) -> bytes:
        if self._descriptor is None or not wanted:
            return b""
        try:
            return read_range(self._descriptor, self._offset, wanted)
        except OSError as error:
            self.close()
            raise unavailable(error, f"read the object {self._key}") from error
