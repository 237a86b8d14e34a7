"""The items of a sequence as JSON in parts, each compressed by itself: who wants one of a hundred thousand has one part undone.

So are kept the items of the Per-Frame Functional Groups Sequence (PS3.3 C.7.6.16) of objects of many frames: a slide has megabytes
of them, and who shows a tile needs one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final

import orjson
import zstandard

# Items of a part, but of the last. A hundred kilobytes of JSON of a slide, which are undone in a tenth of a millisecond.
ITEMS: Final = 256
# No line ends inside: strings in JSON have none.
_BETWEEN: Final = b",\n"
_LEVEL: Final = 1
# A skippable frame (RFC 8878 3.1.2) in front: whatever undoes Zstandard undoes the rest as one. It has how many items there are,
# and the length of what is before them, of each part, and of what is behind.
_MAGIC: Final = struct.pack("<I", 0x184D2A57)
_WORD: Final = struct.Struct("<I")
_HEAD: Final = len(_MAGIC) + _WORD.size

Piece = bytes | memoryview


@dataclass(frozen=True, slots=True)
class ItemParts:
    """`count` items in parts of ITEMS, the last of fewer perhaps."""

    parts: tuple[Piece, ...]
    count: int

    def item(self, number: int) -> bytes:
        """The JSON of item `number`, from 0."""
        part, within = divmod(number, ITEMS)
        return self._split(part)[within]

    def items(self) -> Iterator[bytes]:
        """The JSON of each item."""
        for number in range(len(self.parts)):
            yield from self._split(number)

    def pieces(self) -> Iterator[bytes]:
        """The JSON of all, as it is between the brackets of a list."""
        return map(self._undone, range(len(self.parts)))

    @property
    def size(self) -> int:
        """How many bytes they take."""
        return sum(map(len, self.parts))

    def _split(self, part: int) -> list[bytes]:
        return self._undone(part).removeprefix(_BETWEEN).split(_BETWEEN)

    def _undone(self, part: int) -> bytes:
        return zstandard.ZstdDecompressor().decompress(self.parts[part])


def part_of(items: Sequence[Any], *, first: bool) -> bytes:
    """Items as a part, the first or another."""
    made = zstandard.ZstdCompressor(level=_LEVEL).compress((b"" if first else _BETWEEN) + _BETWEEN.join(map(orjson.dumps, items)))
    # Copied, because the compressor's own bytes keep the room that it had for them, which is that of the items.
    return bytes(memoryview(made))


def packed(before: bytes, items: ItemParts, behind: bytes) -> bytes:
    """The JSON of a data set as it is stored: items, what is before them and what is behind."""
    compressor = zstandard.ZstdCompressor(level=_LEVEL)
    frames = (compressor.compress(before), *items.parts, compressor.compress(behind))
    table = b"".join(map(_WORD.pack, (items.count, *map(len, frames))))
    return b"".join((_MAGIC, _WORD.pack(len(table)), table, *frames))


def is_packed(stored: bytes) -> bool:
    """Whether what is stored has items in parts."""
    return stored[: len(_MAGIC)] == _MAGIC


def unpacked(stored: bytes) -> tuple[bytes, ItemParts]:
    """The reverse of `packed`: the JSON without the items, and these."""
    (size,) = _WORD.unpack_from(stored, len(_MAGIC))
    count, *lengths = struct.unpack_from(f"<{size // _WORD.size}I", stored, _HEAD)
    whole = memoryview(stored)
    first, *parts, last = [whole[begin:end] for begin, end in pairwise(accumulate(lengths, initial=_HEAD + size))]
    before, behind = (zstandard.ZstdDecompressor().decompress(one) for one in (first, last))
    return before + behind, ItemParts(tuple(parts), count)


def chunks(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Items as many at a time as belong in a part."""
    return (items[at : at + ITEMS] for at in range(0, len(items), ITEMS))
