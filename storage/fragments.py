"""The items of encapsulated pixel data (PS3.5 A.4): walked from header to header, their contents not touched."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from typing import Final, overload

import numpy as np
import numpy.typing as npt

from storage.errors import LimitExceeded

# Offset and length of the value of an item of encapsulated pixel data.
Fragment = tuple[int, int]
Numbers = npt.NDArray[np.uint64]

_HEADER = struct.Struct("<HHI")
_ITEM, _END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)


class Fragments(Sequence[Fragment]):
    """Fragments of pixel data, sixteen bytes each in memory: there may be a million of them."""

    def __init__(self, offsets: Numbers, lengths: Numbers) -> None:
        self.offsets, self.lengths = offsets, lengths

    def __len__(self) -> int:
        return len(self.offsets)

    @overload
    def __getitem__(self, index: int) -> Fragment: ...
    @overload
    def __getitem__(self, index: slice) -> Fragments: ...
    def __getitem__(self, index: int | slice) -> Fragment | Fragments:
        if isinstance(index, slice):
            return Fragments(self.offsets[index], self.lengths[index])
        return int(self.offsets[index]), int(self.lengths[index])

    def __iter__(self) -> Iterator[Fragment]:
        return zip(self.offsets.tolist(), self.lengths.tolist(), strict=True)

    def filled(self) -> Fragments:
        """Those of any length."""
        some = self.lengths > 0
        return self if some.all() else Fragments(self.offsets[some], self.lengths[some])


NO_FRAGMENTS: Final = Fragments(np.empty(0, np.uint64), np.empty(0, np.uint64))


def walk_fragments(data: memoryview, begin: int, most: int) -> tuple[Fragments, int, str]:
    """(offset and length of each item, where the walk ended, the code of what was wrong or an empty text).

    The first item is the Basic Offset Table. Encapsulated pixel data is little endian always. Raises LimitExceeded for
    more than `most` items.
    """
    offsets, lengths = array("Q"), array("Q")
    pos, problem = _walked(data, begin, most, offsets, lengths)
    return Fragments(np.frombuffer(offsets, np.uint64), np.frombuffer(lengths, np.uint64)), pos, problem


def _walked(data: memoryview, pos: int, most: int, offsets: array[int], lengths: array[int]) -> tuple[int, str]:
    size = len(data)
    while pos + 8 <= size:
        group, element, length = _HEADER.unpack_from(data, pos)
        if (group, element) == _END:
            return pos + 8, ""
        if (group, element) != _ITEM:
            return pos, "bad-fragments"
        pos += 8
        if pos + length > size:
            offsets.append(pos)
            lengths.append(size - pos)
            return size, "truncated"
        if len(offsets) > most:
            raise LimitExceeded(f"the pixel data has more than {most} fragments; send the frames in fewer pieces")
        offsets.append(pos)
        lengths.append(length)
        pos += length
    return size, "truncated"
