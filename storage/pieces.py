"""What bytes are made of before anybody reads them: those in hand, those of stored objects, and those still to be made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from storage.errors import CannotDecode, ObjectMissing
from storage.types import Blobs


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes of one stored object."""

    key: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Made:
    """Bytes that are made when their turn comes, of known length: a decoded frame, for one."""

    length: int
    make: Callable[[], bytes]

    def bytes(self) -> bytes:
        """Make them. Raises CannotDecode when they have another length than was announced."""
        made = self.make()
        if len(made) != self.length:
            raise CannotDecode(
                f"what was made of the stored bytes has {len(made)} bytes where {self.length} were announced"
            )
        return made


Piece = bytes | Extent | Made


def length_of(piece: Piece) -> int:
    """How many bytes a piece is."""
    return len(piece) if isinstance(piece, bytes) else piece.length


def streamed(blobs: Blobs, pieces: Iterable[Piece]) -> Iterator[bytes]:
    """The bytes of the pieces one after the other, long extents in parts. Raises ObjectMissing, CannotDecode."""
    for piece in pieces:
        if isinstance(piece, Extent):
            yield from _extent(blobs, piece)
        else:
            yield piece if isinstance(piece, bytes) else piece.bytes()


def _extent(blobs: Blobs, extent: Extent) -> Iterator[bytes]:
    sent = 0
    for data in blobs.stream(extent.key, extent.offset, extent.length):
        sent += len(data)
        yield data
    complete(sent, extent.length)


def complete(found: int, expected: int) -> None:
    """A shorter object than the index says is damage: never serve part of it as if it were all. Raises ObjectMissing."""
    if found != expected:
        raise ObjectMissing(
            f"the stored object ends {expected - found} bytes early; send the instance again, which repairs it"
        )
