"""The bytes of a data set in Explicit VR Little Endian, element by element: some exchanged, or all put into Implicit VR (PS3.5 7.1, A.1).

Nothing is decoded: values are copied as they are, so that what comes out says to the letter what went in. Sequences get
undefined lengths in Implicit VR, because theirs change. Iterative and bounded: sequences may be nested as deep as they like.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from storage.dictionary import EXPLICIT_VRS
from storage.errors import CannotDecode

PIXEL_DATA: Final = 0x7FE00010
_EXTENDED_OFFSETS: Final = frozenset({0x7FE00001, 0x7FE00002})
_UNDEFINED: Final = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_SHORT: Final = struct.Struct("<HH2sH")
_LONG: Final = struct.Struct("<HH2s2xI")
_PLAIN: Final = struct.Struct("<HHI")


class Element(NamedTuple):
    """Where an element lies: its first byte, its value, and the byte behind it. `length` is undefined or that of the value."""

    tag: int
    vr: bytes
    start: int
    value: int
    stop: int
    length: int


def elements(data: memoryview, start: int, end: int) -> Iterator[Element]:
    """The elements of one level, sequences whole. Raises CannotDecode where the bytes are no such data set."""
    at = start
    while at < end:
        one = _element(data, at, end)
        if one.length == _UNDEFINED and one.tag != PIXEL_DATA:
            one = one._replace(stop=_behind_sequence(data, one.value, end, explicit=one.vr != b"UN"))
        yield one
        at = one.stop


def behind_fragments(data: memoryview) -> int:
    """The byte behind encapsulated pixel data (PS3.5 A.4), from behind any of its fragments on; the end where it is not closed."""
    at = 0
    while at + 8 <= len(data) and _tag(data, at, len(data)) == _ITEM:
        at += 8 + _length(data, at, len(data))
    closed = at + 8 <= len(data) and _tag(data, at, len(data)) == _SEQUENCE_END
    return at + 8 if closed else len(data)


def with_values(data: memoryview, start: int, end: int, exchanged: Mapping[int, tuple[bytes, bytes]]) -> bytes:
    """The data set before its pixel data, with the elements `exchanged` (tag -> VR and value) in place of its own.

    Group lengths and offset tables are left out: they would no longer be true.
    """
    pieces: list[bytes] = []
    waiting = sorted(exchanged)
    for one in elements(data, start, end):
        if one.tag == PIXEL_DATA:
            break
        while waiting and waiting[0] <= one.tag:
            pieces.append(explicit(waiting[0], *exchanged[waiting.pop(0)]))
        if one.tag not in exchanged and _is_kept(one.tag):
            pieces.append(bytes(data[one.start : one.stop]))
    pieces += (explicit(tag, *exchanged[tag]) for tag in waiting)
    return b"".join(pieces)


def explicit(tag: int, vr: bytes, value: bytes) -> bytes:
    """One element in Explicit VR Little Endian; `value` has an even number of bytes."""
    form = _LONG if EXPLICIT_VRS[vr][1] else _SHORT
    return form.pack(tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def implicit(tag: int, length: int) -> bytes:
    """The header of an element in Implicit VR Little Endian."""
    return _PLAIN.pack(tag >> 16, tag & 0xFFFF, length)


def to_implicit(data: memoryview, start: int, end: int) -> bytes:
    """The data set before its pixel data in Implicit VR Little Endian."""
    pieces: list[bytes] = []
    # What is being read: where it ends (None: at its delimiter), and what then closes it in the output (0: nothing).
    stack: list[tuple[int | None, int]] = [(end, 0)]
    at = start
    while stack:
        stop, closing = stack[-1]
        if stop is not None and at >= stop:
            stack.pop()
            if closing:
                pieces.append(implicit(closing, 0))
            continue
        if closing == _SEQUENCE_END or _tag(data, at, end) in (_ITEM_END, _SEQUENCE_END):
            at = _delimiter(data, at, end, stack, pieces)
            continue
        one = _element(data, at, end)
        if one.tag == PIXEL_DATA and len(stack) == 1:
            break
        at = _converted(data, one, end, stack, pieces)
    return b"".join(pieces)


def _delimiter(
    data: memoryview, at: int, end: int, stack: list[tuple[int | None, int]], pieces: list[bytes]
) -> int:
    """An item, or the end of an item or of a sequence."""
    tag, length = _tag(data, at, end), _length(data, at, end)
    if tag == _ITEM and stack[-1][1] == _SEQUENCE_END:
        pieces.append(implicit(_ITEM, _UNDEFINED))
        stack.append((None if length == _UNDEFINED else at + 8 + length, _ITEM_END))
    elif len(stack) > 1 and stack[-1] == (None, tag):
        pieces.append(implicit(tag, 0))
        stack.pop()
    else:
        raise CannotDecode(f"item or delimiter at byte {at} is out of place")
    return at + 8


def _converted(
    data: memoryview, one: Element, end: int, stack: list[tuple[int | None, int]], pieces: list[bytes]
) -> int:
    """One element; of a sequence only its beginning, and it is what is read next."""
    if one.vr == b"SQ":
        pieces.append(implicit(one.tag, _UNDEFINED))
        stack.append((None if one.length == _UNDEFINED else one.stop, _SEQUENCE_END))
        return one.value
    stop = one.stop
    if one.length == _UNDEFINED:
        # UN of undefined length is a sequence in Implicit VR already (PS3.5 6.2.2).
        stop = _behind_sequence(data, one.value, end, explicit=False)
    if _is_kept(one.tag):
        pieces += (implicit(one.tag, one.length), bytes(data[one.value : stop]))
    return stop


def _is_kept(tag: int) -> bool:
    return tag & 0xFFFF != 0 and tag not in _EXTENDED_OFFSETS


def _element(data: memoryview, at: int, end: int) -> Element:
    if at + 8 > end:
        raise CannotDecode(f"the data set breaks off at byte {at}")
    group, number, vr, length = _SHORT.unpack_from(data, at)
    value = at + 8
    known = EXPLICIT_VRS.get(vr)
    if known is None:
        raise CannotDecode(f"there is no value representation at byte {at + 4}")
    if known[1]:
        if at + 12 > end:
            raise CannotDecode(f"the data set breaks off at byte {at}")
        length, value = _LONG.unpack_from(data, at)[3], at + 12
    stop = value if length == _UNDEFINED else value + length
    if stop > end:
        raise CannotDecode(f"the element at byte {at} is longer than its data set")
    return Element(group << 16 | number, vr, at, value, stop, length)


def _behind_sequence(data: memoryview, start: int, end: int, *, explicit: bool) -> int:
    """The byte behind a sequence of undefined length whose items begin at `start`."""
    # What is open: True for an item, False for a sequence; and whether its elements are in Explicit VR.
    stack = [(False, explicit)]
    at = start
    while stack:
        in_item, is_explicit = stack[-1]
        tag, length = _tag(data, at, end), _length(data, at, end)
        if tag >> 16 == 0xFFFE:
            at += 8
            if tag == _ITEM and not in_item:
                if length == _UNDEFINED:
                    stack.append((True, is_explicit))
                else:
                    at += length
            else:
                stack.pop()
            continue
        if not in_item:
            raise CannotDecode(f"something else stands at byte {at} where an item begins")
        if is_explicit:
            one = _element(data, at, end)
            at, undefined, inner = one.stop, one.length == _UNDEFINED, one.vr != b"UN"
        else:
            undefined, inner = length == _UNDEFINED, False
            at += 8 if undefined else 8 + length
        if undefined:
            stack.append((False, inner))
    return at


def _tag(data: memoryview, at: int, end: int) -> int:
    if at + 8 > end:
        raise CannotDecode(f"the data set breaks off at byte {at}")
    group, number = struct.unpack_from("<HH", data, at)
    return int(group << 16 | number)


def _length(data: memoryview, at: int, end: int) -> int:
    if at + 8 > end:
        raise CannotDecode(f"the data set breaks off at byte {at}")
    return int(struct.unpack_from("<I", data, at + 4)[0])
