"""A data set in the DICOM JSON model whose Per-Frame Functional Groups Sequence is not read, but looked up by frame (PS3.3 C.7.6.16).

A slide has an item for each of its tiles, megabytes of them, and who shows a tile needs one.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import eq
from typing import Any, Final, overload

import numpy as np
import numpy.typing as npt
import orjson

from storage.item_parts import ItemParts, packed
from storage.types import Dataset

PER_FRAME_GROUPS: Final = "52009230"
_KEY: Final = f'"{PER_FRAME_GROUPS}":'.encode()
# Of any other sequence without items nothing is written but its VR, and no quotation mark is in a string without a backslash.
_LEFT_OUT: Final = _KEY + b'{"vr":"SQ","Value":[]'
_QUOTE, _OPEN, _CLOSE = b'"{}'
# Fewer than so many bytes are read faster than they are looked through.
_LEAST: Final = 8192
_IS_MARK: Final = np.isin(np.arange(256), (_QUOTE, _OPEN, _CLOSE))
# A character of a string after a backslash, which may be a quotation mark.
_ESCAPED: Final = re.compile(rb"\\.", re.DOTALL)

_Places = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Encoded:
    """The JSON of a data set; where it has `parts`, `json` is without the per-frame items: their list is empty there."""

    json: bytes
    parts: ItemParts | None = None

    @property
    def size(self) -> int:
        """How much memory it takes, roughly, in bytes."""
        return len(self.json) + (self.parts.size if self.parts is not None else 0)

    @property
    def checksum(self) -> int:
        """Another one for another data set, most probably."""
        found = zlib.crc32(self.json)
        for part in self.parts.parts if self.parts is not None else ():
            found = zlib.crc32(part, found)
        return found

    def pieces(self) -> Iterator[bytes]:
        """All of it, one part at a time; no piece begins or ends inside an item."""
        if self.parts is None:
            yield self.json
            return
        before, behind = self._halves()
        yield before
        yield from self.parts.pieces()
        yield behind

    def stored(self, compress: Callable[[bytes], bytes]) -> bytes:
        """As it is stored; `compress` is for what has no parts."""
        if self.parts is None:
            return compress(self.json)
        before, behind = self._halves()
        return packed(before, self.parts, behind)

    def _halves(self) -> tuple[bytes, bytes]:
        at = self.json.index(_LEFT_OUT) + len(_LEFT_OUT) - 1
        return self.json[:at], self.json[at:]

    def dataset(self, places: ItemPlaces | None = None) -> dict[str, Any]:
        """It read, but for per-frame items in parts, or where `places` tells where they are: those are read when they are asked for."""
        if self.parts is None:
            return opened(self.json, places)
        return with_items(orjson.loads(self.json), self.parts)

    def without_items(self) -> dict[str, Any]:
        """It read, without the Per-Frame Functional Groups Sequence where that is in parts."""
        found: dict[str, Any] = orjson.loads(self.json)
        if self.parts is not None:
            del found[PER_FRAME_GROUPS]
        return found


def with_items(dataset: Mapping[str, Any], parts: ItemParts) -> dict[str, Any]:
    """A data set with its per-frame items, which are read when they are asked for."""
    return {**dataset, PER_FRAME_GROUPS: {"vr": "SQ", "Value": Items(parts.count, parts.item, parts.items)}}


@dataclass(frozen=True, slots=True)
class ItemPlaces:
    """Where each item of the sequence begins and ends in the JSON of its data set: 8 bytes for a frame."""

    starts: _Places
    ends: _Places


class Items(Sequence[Dataset]):
    """The items of a sequence, each of which is read when it is asked for."""

    def __init__(self, count: int, json_of: Callable[[int], bytes], every: Callable[[], Iterator[bytes]] | None = None) -> None:
        """`json_of` gives the JSON of an item, from 0; `every` that of each, where all of them are had for less than one by one."""
        self._count = count
        self._json_of = json_of
        self._every = every
        self._read: dict[int, Dataset] = {}

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Dataset: ...
    @overload
    def __getitem__(self, index: slice) -> list[Dataset]: ...
    def __getitem__(self, index: int | slice) -> Dataset | list[Dataset]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        found = self._read.get(number)
        if found is None:
            # As many as are asked for are kept: of a picture, those of its frame.
            found = self._read[number] = orjson.loads(self._json_of(number))
        return found

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list | Items):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    def __iter__(self) -> Iterator[Dataset]:
        # None is kept: who goes through all of them is not to have all of them in memory.
        return map(orjson.loads, self._every() if self._every is not None else map(self._json_of, range(self._count)))


def item_places(json: bytes, most: int) -> ItemPlaces | None:
    """Where the items of the Per-Frame Functional Groups Sequence are in a data set's JSON, as it is written in the index.

    None where there are none, or more than `most`, or where it is not worth it: the data set is then to be read as a whole.
    """
    if len(json) < _LEAST or _KEY not in json:
        return None
    # Of the same length, so that places stay what they are.
    plain = _ESCAPED.sub(b"__", json) if b"\\" in json else json
    braces, depths = _braces(plain)
    for key in re.finditer(_KEY, plain):
        first = int(np.searchsorted(braces, key.end()))
        if first and depths[first - 1] == 1:
            return _of_element(json, braces[first:], depths[first:], most)
    return None


def opened(json: bytes, places: ItemPlaces | None) -> dict[str, Any]:
    """The data set, with its per-frame items to be read one by one where `places` tells where they are."""
    if places is None:
        whole: dict[str, Any] = orjson.loads(json)
        return whole
    head: dict[str, Any] = orjson.loads(json[: places.starts[0]] + json[places.ends[-1] :])
    return {**head, PER_FRAME_GROUPS: {**head[PER_FRAME_GROUPS], "Value": Items(len(places.starts), lambda number: json[places.starts[number] : places.ends[number]])}}


def _braces(plain: bytes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Where objects begin and end, and how many are open after that."""
    characters = np.frombuffer(plain, np.uint8)
    marks = np.flatnonzero(_IS_MARK[characters])
    kinds = characters[marks]
    is_quote = kinds == _QUOTE
    # Quotation marks begin and end strings in turn, and what is in a string is no brace.
    inside = np.bitwise_xor.accumulate(is_quote.view(np.uint8)).view(np.bool_)
    is_brace = ~(inside | is_quote)
    steps = np.where(kinds[is_brace] == _OPEN, np.int32(1), np.int32(-1))
    return marks[is_brace], np.cumsum(steps, dtype=np.int32)


def _of_element(json: bytes, braces: npt.NDArray[np.int64], depths: npt.NDArray[np.int32], most: int) -> ItemPlaces | None:
    """The items of the element whose object is the first of `braces`, if there is nothing but commas between them."""
    end = int(np.argmax(depths == 1))
    depths, braces = depths[:end], braces[:end]
    deeper = np.diff(depths, prepend=np.int32(1)) > 0
    starts, ends = braces[deeper & (depths == 3)], braces[~deeper & (depths == 2)] + 1
    if not 0 < len(starts) <= most or len(starts) != len(ends):
        return None
    gapless = bool(np.all(starts[1:] == ends[:-1] + 1))
    if not gapless or json[starts[0] - 1 : starts[0]] != b"[" or json[ends[-1] : ends[-1] + 1] != b"]":
        return None
    return ItemPlaces(starts.astype(np.uint32), ends.astype(np.uint32))
