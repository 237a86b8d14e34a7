"""Look-up tables of a data set: modality, VOI and palette (PS3.3 C.11.1, C.11.2, C.7.6.3.1.5), segmented ones too."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicomweb.rendering.values import Bulk, numbers, words
from storage.errors import CannotDecode
from storage.types import Dataset

MAX_ENTRIES = 1 << 16
DISCRETE, LINEAR, INDIRECT = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Lut:
    """A table: the input that its first entry is for, its entries as bytes of uint16, how many bits they use."""

    first: int
    entries: bytes
    bits: int

    @property
    def table(self) -> NDArray[np.uint16]:
        return np.frombuffer(self.entries, np.uint16)

    def look_up(self, inputs: NDArray[Any]) -> NDArray[np.uint16]:
        """Entries for `inputs`; those outside take the first or the last entry (PS3.3 C.11.1.1.1)."""
        found: NDArray[np.uint16] = self.table[
            np.clip(np.rint(inputs).astype(np.int64) - self.first, 0, len(self.table) - 1)
        ]
        return found


def lut(
    item: Dataset, descriptor: str, data: str, bulk: Bulk | None, *, signed: bool, segmented: bool = False
) -> Lut:
    """Read a descriptor (entries, first input, bits) and its data. Raises CannotDecode where they do not fit together.

    `signed`: whether the inputs are, which decides how the first input is to be read (PS3.3 C.11.1.1).
    """
    described = [int(value) for value in numbers(item, descriptor)]
    if len(described) != 3:
        raise CannotDecode(f"the LUT descriptor ({descriptor[:4]},{descriptor[4:]}) has not three values")
    count, first, bits = (described[0] & 0xFFFF) or MAX_ENTRIES, described[1], described[2]
    if abs(first) > 0xFFFF:
        raise CannotDecode(f"the LUT descriptor ({descriptor[:4]},{descriptor[4:]}) begins at {first:.6g}, which no sample of 16 bits can be")
    if signed and first >= 1 << 15:
        first -= 1 << 16
    elif not signed and first < 0:
        first += 1 << 16
    raw = words(item, data, bulk)
    entries = _expanded(raw, bits, count) if segmented else _entries(raw, count)
    highest = int(entries.max(initial=0))
    if len(entries) < count or highest >= 1 << 16:
        raise CannotDecode(f"the LUT has {len(entries)} entries where its descriptor says {count}")
    return Lut(first, entries[:count].astype(np.uint16).tobytes(), _bits_used(bits, highest))


def _bits_used(bits: int, highest: int) -> int:
    """What the descriptor says, corrected where the entries show that it cannot be so."""
    if not 1 <= bits <= 16:
        bits = 16
    if highest >> bits:
        return 16
    # Eight-bit tables written in words under a descriptor of 16 would come out black.
    return 8 if bits == 16 and highest < 1 << 8 else bits


def _entries(raw: bytes, count: int) -> NDArray[Any]:
    """A word to an entry; or a byte to an entry, where the length leaves no doubt (PS3.3 C.7.6.3.1.6)."""
    if len(raw) < 2 * count:
        return np.frombuffer(raw, np.uint8)
    return np.frombuffer(raw, "<u2", count=len(raw) // 2)


@functools.lru_cache(maxsize=64)
def _expanded(raw: bytes, bits: int, count: int) -> NDArray[Any]:
    """The entries of segmented LUT data; never more than `count`, whatever the segments say."""
    return _Segments(raw, bits, count).expanded()


class _Segments:
    """Segmented LUT data (PS3.3 C.7.9.2): `bits` of its descriptor is also the size of the words that it is made of.

    Kept as knots, an index and its entry, between which entries lie on straight lines.
    """

    def __init__(self, raw: bytes, bits: int, count: int) -> None:
        self._size = 1 if bits == 8 else 2
        self._code: list[int] = np.frombuffer(raw, f"<u{self._size}", count=len(raw) // self._size).tolist()
        self._count = count
        self._length = 0
        self._places: list[int] = []
        self._values: list[int] = []

    def expanded(self) -> NDArray[Any]:
        """All entries."""
        at = 0
        while at + 2 <= len(self._code) and self._length < self._count:
            at = self._indirect(at) if self._code[at] == INDIRECT else self._direct(at)
        if not self._values:
            return np.zeros(0, np.int64)
        length = min(self._length, self._count)
        return np.rint(np.interp(np.arange(length), self._places, self._values)).astype(np.int64)

    def _direct(self, at: int) -> int:
        """Append one discrete or linear segment; where the next begins."""
        opcode, length = self._code[at], self._code[at + 1]
        if opcode == DISCRETE:
            entries = self._code[at + 2 : at + 2 + length]
            self._places += range(self._length, self._length + len(entries))
            self._values += entries
            self._length += len(entries)
            return at + 2 + length
        if opcode == LINEAR and self._values and at + 2 < len(self._code):
            if length:
                self._length += length
                self._places.append(self._length - 1)
                self._values.append(self._code[at + 2])
            return at + 3
        raise CannotDecode("the segmented LUT has a segment that cannot be")

    def _indirect(self, at: int) -> int:
        """Copy segments from earlier in the data: how many, and their byte offset in 32 bits, lowest word first."""
        words_of_offset = 4 // self._size
        parts = self._code[at + 2 : at + 2 + words_of_offset]
        place = sum(part << (8 * self._size * index) for index, part in enumerate(parts)) // self._size
        for _ in range(self._code[at + 1]):
            if place + 2 > len(self._code) or self._code[place] == INDIRECT or self._length >= self._count:
                break
            place = self._direct(place)
        return at + 2 + words_of_offset


def palette(dataset: Dataset, bulk: Bulk | None, *, signed: bool) -> tuple[Lut, Lut, Lut]:
    """Red, green and blue of the Palette Color LUT module (PS3.3 C.7.9)."""
    colours = []
    for index in (1, 2, 3):
        segmented = f"0028122{index}"
        descriptor, plain = f"0028110{index}", f"0028120{index}"
        found = segmented if plain not in dataset and segmented in dataset else plain
        if found not in dataset:
            raise CannotDecode("the palette's LUT data is missing: the colours of this image are not known")
        colours.append(lut(dataset, descriptor, found, bulk, signed=signed, segmented=found == segmented))
    return colours[0], colours[1], colours[2]
