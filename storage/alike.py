"""Items of one sequence that are alike but for their values: the bytes between the values are compared as a whole, and only these read.

A slide has an item for each of its tiles, all written by one program: what is not a value in them is nearly always that of an item
before. What such an item is in JSON is put together of what is between its values, and of these; it is nothing else than reading it
would have given, which is made sure of when an item is learnt.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final, NamedTuple

import orjson

from storage.dictionary import EXPLICIT_VRS, KEYS, spell
from storage.recurring import LONGEST_KNOWN
from storage.values import DECODERS, Text

_HEADER: Final = struct.Struct("<HH2sH")
_ITEM_HEADER: Final = struct.Struct("<HHI")
_LONG: Final = struct.Struct("<I")
_UNDEFINED: Final = 0xFFFFFFFF
_DELIMITERS: Final = 0xFFFE
_ITEM, _ITEM_END, _SEQUENCE_END = 0xE000, 0xE00D, 0xE0DD
# What other elements are read by, or what is no value: Specific Character Set, Pixel Representation.
_SPECIAL: Final = frozenset({0x00080005, 0x00280103})
# Elements of an item and shapes of one length that are worth it; numbers of different length make different shapes.
_MOST_VALUES: Final = 200
_MOST_SHAPES: Final = 16
_MOST_KNOWN: Final = 4096
# Bytes of items that were learnt: beyond, all are forgotten, so that no slide of items of ever different lengths fills the memory.
_MOST_LEARNT: Final = 1 << 20
_DEEPEST: Final = 8
# How often an item is learnt without being of use.
_CREDIT: Final = 64


class _Strange(Exception):
    """An item that is not worth a shape, or not possible."""


class Like(NamedTuple):
    """An item that was like another: its JSON, and what it counts: bytes with its header, elements and items, bytes of values."""

    json: bytes
    size: int
    elements: int
    value_bytes: int


class _Shape(NamedTuple):
    """`split` gives what is between values and values, by turns; `between` are the former, `json` what is between values in JSON."""

    split: struct.Struct
    between: tuple[bytes, ...]
    json: tuple[bytes, ...]
    vrs: tuple[str, ...]
    elements: int
    value_bytes: int


class _Begun(NamedTuple):
    """An item that is being read: where it begins, and what was counted until then."""

    pos: int
    length: int
    elements: int
    value_bytes: int
    oddities: int


class Alike:
    """What the items of one sequence were like until now; in Explicit VR Little Endian."""

    def __init__(self, data: memoryview, text: Text) -> None:
        self._data = data
        self._text = text
        # By the length that their header says, the latest that was of use first.
        self._shapes: dict[int, list[_Shape]] = {}
        self._learnt = 0
        # By VR: values and the JSON of their elements.
        self._known: dict[str, dict[bytes, bytes]] = {}
        self._credit = _CREDIT
        self._begun: _Begun | None = None

    def find(self, pos: int, length: int, end: int) -> Like | None:
        """The item at `pos`, whose header says `length`, where it is like another and before `end`."""
        shapes = self._shapes.get(length, [])
        for number, shape in enumerate(shapes):
            size = shape.split.size
            if pos + size > end:
                continue
            parts = shape.split.unpack_from(self._data, pos)
            if parts[::2] != shape.between:
                continue
            if number:
                shapes.insert(0, shapes.pop(number))
            values = self._values(shape, parts[1::2])
            if values is None:
                return None
            self._credit = min(self._credit + 1, _CREDIT)
            return Like(_put_together(shape.json, values), size, shape.elements, shape.value_bytes)
        return None

    def begin(self, pos: int, length: int, elements: int, value_bytes: int, oddities: int) -> None:
        """An item begins that is read as any other is; `elements`, `value_bytes` and `oddities` are what was counted before it."""
        self._credit -= 1
        self._begun = _Begun(pos, length, elements, value_bytes, oddities) if self._credit > 0 else None

    def ended(self, pos: int, item: Any, elements: int, value_bytes: int, oddities: int) -> None:
        """The item that has begun, if one has, ends before `pos`: it is learnt, if putting it together is the same as reading it."""
        begun, self._begun = self._begun, None
        if begun is None or oddities != begun.oddities:
            return
        raw = self._data[begun.pos : pos].tobytes()
        try:
            shape = _Learning(raw).shape()
        except (_Strange, struct.error):
            return
        values = self._values(shape, shape.split.unpack(raw)[1::2])
        counted = (elements - begun.elements, value_bytes - begun.value_bytes)
        if values is not None and counted == (shape.elements, shape.value_bytes) and _put_together(shape.json, values) == orjson.dumps(item):
            self._learn(begun.length, shape, len(raw))

    def _learn(self, length: int, shape: _Shape, size: int) -> None:
        self._learnt += size
        if self._learnt > _MOST_LEARNT:
            self._shapes.clear()
            self._learnt = size
        self._shapes[length] = [shape, *self._shapes.get(length, ())][:_MOST_SHAPES]

    def _values(self, shape: _Shape, raws: tuple[bytes, ...]) -> list[bytes] | None:
        """The JSON of elements; None where one is odd, which is for others to say."""
        found = []
        for vr, raw in zip(shape.vrs, raws, strict=True):
            known = self._known.get(vr)
            json = known.get(raw) if known is not None else None
            if json is None:
                values, odd = DECODERS[vr](raw, self._text)
                if odd:
                    return None
                # Copied, because bytes of the encoder keep the room that it had for them: four kilobytes.
                json = bytes(memoryview(orjson.dumps({"vr": vr} if values is None else {"vr": vr, "Value": values})))
                if len(raw) <= LONGEST_KNOWN:
                    if known is None or len(known) >= _MOST_KNOWN:
                        known = self._known[vr] = {}
                    known[raw] = json
            found.append(json)
        return found


def _put_together(between: tuple[bytes, ...], values: list[bytes]) -> bytes:
    pieces = [b""] * (len(between) + len(values))
    pieces[::2], pieces[1::2] = between, values
    return b"".join(pieces)


class _Learning:
    """One item, taken apart."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._elements = 0
        # VR, place and length of each value; pieces of JSON, None for the JSON of an element's value.
        self._values: list[tuple[str, int, int]] = []
        self._json: list[bytes | None] = []

    def shape(self) -> _Shape:
        """Raises _Strange, and struct.error for what ends too early."""
        if self._item(0, 0) != len(self._raw) or not self._values:
            raise _Strange
        places = [(0, 0), *((at, length) for _vr, at, length in self._values), (len(self._raw), 0)]
        between = [(at + length, until) for (at, length), (until, _) in pairwise(places)]
        lengths = [f"{until - begin}s{length}s" for (begin, until), (_, length) in zip(between, places[1:], strict=True)]
        # The last value is the end, of no length.
        split = struct.Struct("<" + "".join(lengths).removesuffix("0s"))
        return _Shape(
            split=split,
            between=tuple(self._raw[begin:until] for begin, until in between),
            json=tuple(_between_values(self._json)),
            vrs=tuple(vr for vr, _at, _length in self._values),
            elements=self._elements,
            value_bytes=sum(length for _vr, _at, length in self._values),
        )

    def _item(self, pos: int, depth: int) -> int:
        """The item at `pos`, and where it ends."""
        group, element, length = _ITEM_HEADER.unpack_from(self._raw, pos)
        if (group, element) != (_DELIMITERS, _ITEM) or depth > _DEEPEST:
            raise _Strange
        self._elements += 1
        pos += 8
        end = pos + length if length != _UNDEFINED else len(self._raw)
        before = b"{"
        while pos < end:
            if length == _UNDEFINED and _ITEM_HEADER.unpack_from(self._raw, pos) == (_DELIMITERS, _ITEM_END, 0):
                pos += 8
                break
            self._json.append(before)
            pos = self._element(pos, depth)
            before = b","
        self._json.append(b"}" if before == b"," else b"{}")
        return pos

    def _element(self, pos: int, depth: int) -> int:
        group, element, code, length = _HEADER.unpack_from(self._raw, pos)
        tag = group << 16 | element
        vr, is_long = EXPLICIT_VRS.get(code, ("", False))
        if group == _DELIMITERS or tag in _SPECIAL or not element or (group & 1 and element < 0x100) or len(self._values) >= _MOST_VALUES:
            raise _Strange
        self._elements += 1
        self._json.append(f'"{KEYS.get(tag) or spell(tag)}":'.encode())
        pos += 8
        if is_long:
            (length,) = _LONG.unpack_from(self._raw, pos)
            pos += 4
        if vr == "SQ":
            return self._sequence(pos, length, depth)
        if vr not in DECODERS or length == _UNDEFINED:
            raise _Strange
        self._json.append(None)
        self._values.append((vr, pos, length))
        return pos + int(length)

    def _sequence(self, pos: int, length: int, depth: int) -> int:
        end = pos + length if length != _UNDEFINED else len(self._raw)
        before = b'{"vr":"SQ","Value":['
        while pos < end:
            if length == _UNDEFINED and _ITEM_HEADER.unpack_from(self._raw, pos) == (_DELIMITERS, _SEQUENCE_END, 0):
                pos += 8
                break
            self._json.append(before)
            pos = self._item(pos, depth + 1)
            before = b","
        self._json.append(b"]}" if before == b"," else b'{"vr":"SQ"}')
        return pos


def _between_values(json: list[bytes | None]) -> Iterator[bytes]:
    waiting = []
    for piece in json:
        if piece is not None:
            waiting.append(piece)
        else:
            yield b"".join(waiting)
            waiting = []
    yield b"".join(waiting)
