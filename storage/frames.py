"""Where each frame of an instance lies: arithmetic for native pixel data, packed offsets for encapsulated."""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from storage.errors import NotFound

# kind, count, first, bits, available, number of fragments, fragments are grouped
_HEAD = struct.Struct("<BIQQQIB")
_NONE, _NATIVE, _FRAGMENTS = 0, 1, 2

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class FrameTable:
    """Byte ranges of frames, numbered from 1 (PS3.18 10.4.1.1.6).

    Native frames are `bits` long each and follow one another without padding (PS3.5 8.1.1), so that frames of single-bit
    pixels may begin inside a byte. Encapsulated frames are one fragment each, or groups of fragments whose firsts
    `groups` counts.
    """

    count: int = 0
    first: int = 0
    bits: int = 0
    available: int = 0
    starts: bytes = b""
    lengths: bytes = b""
    groups: bytes = b""

    EMPTY: ClassVar[FrameTable]

    @classmethod
    def native(cls, count: int, first: int, bits: int, available: int) -> FrameTable:
        """`count` frames of `bits` bits from the byte `first` on, of which `available` bytes are there."""
        return cls(count=count, first=first, bits=bits, available=available)

    @classmethod
    def fragments(cls, frames: list[Ranges]) -> FrameTable:
        """Encapsulated frames, each given as the (offset, length) of its fragments."""
        starts, lengths = array("Q"), array("Q")
        groups = array("I", [0])
        for frame in frames:
            for offset, length in frame:
                starts.append(offset)
                lengths.append(length)
            groups.append(len(starts))
        single = len(starts) == len(frames) and all(len(frame) == 1 for frame in frames)
        return cls(
            count=len(frames),
            starts=_little(starts),
            lengths=_little(lengths),
            groups=b"" if single else _little(groups),
        )

    @classmethod
    def single(cls, starts: npt.NDArray[np.uint64], lengths: npt.NDArray[np.uint64]) -> FrameTable:
        """Encapsulated frames of one fragment each."""
        return cls(count=len(starts), starts=starts.astype("<u8").tobytes(), lengths=lengths.astype("<u8").tobytes())

    def ranges(self, number: int) -> Ranges:
        """The (offset, length) of each piece of frame `number`; raises NotFound outside 1..count.

        Of native pixel data that is cut short the last ranges are shorter than a frame, or of no length.
        """
        if not 1 <= number <= self.count:
            raise NotFound(f"there is no frame {number}: the instance has {self.count}")
        if self.bits:
            begin = (number - 1) * self.bits // 8
            end = min((number * self.bits + 7) // 8, self.available)
            return ((self.first + begin, max(0, end - begin)),)
        low, high = number - 1, number
        if self.groups:
            low, high = struct.unpack_from("<II", self.groups, 4 * low)
        return tuple(
            zip(
                struct.unpack_from(f"<{high - low}Q", self.starts, 8 * low),
                struct.unpack_from(f"<{high - low}Q", self.lengths, 8 * low),
                strict=True,
            )
        )

    def bit_offset(self, number: int) -> int:
        """How many bits of the first byte of frame `number` belong to the frame before it: 0 unless pixels are bits."""
        return (number - 1) * self.bits % 8

    def to_bytes(self) -> bytes:
        """Packed, for the index."""
        kind = _NATIVE if self.bits else _FRAGMENTS if self.count else _NONE
        head = _HEAD.pack(
            kind, self.count, self.first, self.bits, self.available, len(self.starts) // 8, bool(self.groups)
        )
        return head + self.starts + self.lengths + self.groups

    @classmethod
    def from_bytes(cls, packed: bytes) -> FrameTable:
        """The reverse of `to_bytes`."""
        _, count, first, bits, available, pieces, grouped = _HEAD.unpack_from(packed)
        at = _HEAD.size
        starts, lengths = packed[at : at + 8 * pieces], packed[at + 8 * pieces : at + 16 * pieces]
        groups = packed[at + 16 * pieces :] if grouped else b""
        return cls(count, first, bits, available, starts, lengths, groups)


def _little(numbers: array[int]) -> bytes:
    if struct.pack("=H", 1) != b"\x01\x00":
        numbers = array(numbers.typecode, numbers)
        numbers.byteswap()
    return numbers.tobytes()


FrameTable.EMPTY = FrameTable()
