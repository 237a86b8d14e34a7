"""Bytes of a stored object that is a file, for whoever can give a file to a socket without reading it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Final

from storage.blobs.keys import PIECE
from storage.blobs.reading import read_now, read_range
from storage.disk import unavailable
from storage.pieces import complete

# The name of the ASGI extension by which a server says that it takes a whole stream of bytes and of these, in one message of
# this type: `body` is the iterator, and `idle` the seconds after which a client that takes nothing is gone.
EXTENSION: Final = "lightbox.stream"


class InFile:
    """`length` bytes from `offset` of an open file. The file is closed with this; a delete meanwhile does not hurt."""

    def __init__(self, descriptor: int, offset: int, length: int) -> None:
        """Takes over `descriptor`."""
        self.descriptor = descriptor
        self.offset = offset
        self._length = length

    def __len__(self) -> int:
        return self._length

    def available(self) -> int:
        """How many bytes the whole file has."""
        return os.fstat(self.descriptor).st_size

    def before(self) -> tuple[bytes, bool]:
        """The bytes of the file before these, and whether the system had to be waited for to have them. Raises StoreUnavailable."""
        try:
            there = read_now(self.descriptor, 0, self.offset)
            return (read_range(self.descriptor, 0, self.offset), True) if there is None else (there, False)
        except OSError as error:
            raise unavailable(error, "read an object") from error

    def wanted_soon(self) -> None:
        """Have the system begin to read what it has not in memory."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.descriptor, 0, self.offset + self._length, os.POSIX_FADV_WILLNEED)

    def passed(self, size: int) -> None:
        """The next `size` bytes have gone. Raises ObjectMissing when there are none though there should be."""
        if not size:
            complete(0, self._length)
        self.offset += size
        self._length -= size

    def read(self) -> Iterator[bytes]:
        """What is left, in pieces. Raises ObjectMissing where the file ends early, StoreUnavailable."""
        while self._length:
            try:
                data = read_range(self.descriptor, self.offset, min(PIECE, self._length))
            except OSError as error:
                raise unavailable(error, "read an object") from error
            self.passed(len(data))
            yield data
        self.close()

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __del__(self) -> None:
        self.close()


def in_hand(pieces: Iterable[bytes | InFile]) -> Iterator[bytes]:
    """The same bytes, read where they are in files."""
    for piece in pieces:
        if isinstance(piece, InFile):
            yield from piece.read()
        else:
            yield piece
