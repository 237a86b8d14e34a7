"""A data set as the elements that lie in its bytes: what is changed is written anew, all the rest stays byte for byte.

Any encoding stays what it is (PS3.5 annex A), pixel data is walked over and never read, and sequences are taken apart only
when somebody asks for their items. What cannot be understood well enough for that is refused: see `NotCoercible`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from storage.dictionary import EXPLICIT_VRS, vr_of
from storage.errors import NotCoercible

Bytes = bytes | memoryview

UNDEFINED: Final = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_DATA, _PIXEL_REPRESENTATION = 0x7FE00010, 0x00280103
_LONG_VRS: Final = frozenset(vr for vr, is_long in EXPLICIT_VRS.values() if is_long)
# A short VR's length has 16 bits and is even; a longer value can only be written as UN (PS3.5 6.2.2).
_LONGEST_SHORT: Final = 0xFFFE
_DEEPEST: Final = 64


class Encoding(NamedTuple):
    """How a data set is written (PS3.5 annex A)."""

    explicit: bool
    little: bool


# What is UN and yet has items is in implicit VR, little endian (PS3.5 6.2.2).
_UNKNOWN: Final = Encoding(explicit=False, little=True)


class Element:
    """One element. `whole` is how it came, header and all, and None once it is changed; `value` lacks any delimiter."""

    __slots__ = ("_encoding", "_items", "_signed", "tag", "value", "vr", "whole")

    def __init__(
        self,
        tag: int,
        vr: str,
        value: Bytes = b"",
        *,
        whole: memoryview | None = None,
        encoding: Encoding = _UNKNOWN,
        signed: bool = False,
    ) -> None:
        self.tag, self.vr, self.value, self.whole = tag, vr, value, whole
        self._encoding, self._signed = encoding, signed
        self._items: list[DataSet] | None = None

    @property
    def is_sequence(self) -> bool:
        """Whether it has items, by its VR or, where that is not known, by the dictionary."""
        return self.vr == "SQ" or self._unknown

    @property
    def _unknown(self) -> bool:
        return self.vr == "UN" and vr_of(self.tag, None, signed=False) == "SQ"

    def items(self) -> list[DataSet]:
        """Its items, to be read or changed; after a change, call `changed`. Raises NotCoercible."""
        if self._items is None:
            encoding = _UNKNOWN if self.vr == "UN" else self._encoding
            self._items = list(_items(memoryview(self.value), encoding, self._signed))
        return self._items

    def changed(self) -> None:
        """It is to be written anew."""
        self.whole = None

    def replaced(self, items: list[DataSet]) -> None:
        """It has these items instead."""
        self._items, self.whole = items, None

    def content(self) -> Bytes:
        """The value as it is now, without a delimiter."""
        if self.whole is not None or self._items is None:
            return self.value
        return b"".join(map(_item_bytes, self._items))

    def written(self, encoding: Encoding) -> Iterator[Bytes]:
        """Header and value."""
        if self.whole is not None:
            yield self.whole
            return
        value = self.content()
        yield header(self.tag, self.vr, len(value), encoding)
        yield value


class DataSet:
    """The elements of a data set by their tag."""

    __slots__ = ("elements", "encoding")

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        self.elements: dict[int, Element] = {}

    def put(self, tag: int, vr: str, value: Bytes) -> None:
        """Set an element's value."""
        self.elements[tag] = Element(tag, vr, value, encoding=self.encoding)

    def put_items(self, tag: int, items: list[DataSet]) -> Element:
        """Set a sequence."""
        made = self.elements[tag] = Element(tag, "SQ", encoding=self.encoding)
        made.replaced(items)
        return made

    def written(self) -> Iterator[Bytes]:
        """The data set, its elements in order; without group lengths, which would be untrue (PS3.5 7.2)."""
        for tag in sorted(self.elements):
            if tag & 0xFFFF:
                yield from self.elements[tag].written(self.encoding)

    def walk(self) -> Iterator[DataSet]:
        """This data set, and those in its sequences."""
        yield self
        for element in list(self.elements.values()):
            if element.is_sequence:
                for item in element.items():
                    yield from item.walk()


def _item_bytes(item: DataSet) -> bytes:
    value = b"".join(item.written())
    return struct.pack("<HHI" if item.encoding.little else ">HHI", 0xFFFE, 0xE000, len(value)) + value


def header(tag: int, vr: str, length: int, encoding: Encoding) -> bytes:
    """What stands before a value."""
    order = "<" if encoding.little else ">"
    group, element = tag >> 16, tag & 0xFFFF
    if not encoding.explicit:
        return struct.pack(order + "HHI", group, element, length)
    if vr not in _LONG_VRS and length <= _LONGEST_SHORT:
        return struct.pack(order + "HH2sH", group, element, vr.encode("ascii"), length)
    kind = vr if vr in _LONG_VRS else "UN"
    return struct.pack(order + "HH2sHI", group, element, kind.encode("ascii"), 0, length)


def parse(data: memoryview, start: int, end: int, encoding: Encoding, *, signed: bool = False) -> DataSet:
    """The data set between `start` and `end`; of an element that stands twice the last counts. Raises NotCoercible."""
    found = DataSet(encoding)
    creators: dict[int, str] = {}
    at = start
    while at < end:
        if end - at < 8 or not any(data[at : at + 8]):
            _padding(data, at, end)
            break
        tag, vr, length, value_at = _header(data, at, end, encoding, creators, signed)
        if length == UNDEFINED:
            value_end, following = _delimited(data, value_at, end, tag, vr, encoding)
            vr = "SQ" if vr not in ("SQ", "UN") and tag != _PIXEL_DATA else vr
        else:
            value_end = following = value_at + length
        if following > end:
            raise _damaged("ends in the middle of a value")
        value = data[value_at:value_end]
        found.elements[tag] = Element(
            tag, vr, value, whole=data[at:following], encoding=encoding, signed=signed
        )
        if tag == _PIXEL_REPRESENTATION and length == 2:
            signed = int.from_bytes(value, "little" if encoding.little else "big") == 1
        elif tag >> 16 & 1 and 0x10 <= tag & 0xFFFF <= 0xFF:
            creators[tag] = value.tobytes().strip(b" \0").decode("ascii", "replace")
        at = following
    return found


def _padding(data: memoryview, at: int, end: int) -> None:
    """Some writers fill the last block with zeros; they are left out."""
    if any(data[at:end]):
        raise _damaged("ends inside the header of an element")


def _header(
    data: memoryview, at: int, end: int, encoding: Encoding, creators: dict[int, str], signed: bool
) -> tuple[int, str, int, int]:
    """Tag, VR, length, and where the value begins."""
    order = "<" if encoding.little else ">"
    group, element, length = struct.unpack_from(order + "HHI", data, at)
    tag = group << 16 | element
    if group == 0xFFFE:
        raise _damaged("has an item where an element should be")
    if not encoding.explicit:
        creator = creators.get(tag & 0xFFFF0000 | (tag & 0xFF00) >> 8) if group & 1 else None
        vr = vr_of(tag, creator, signed=signed)
        # What has no length is a sequence, whether or not it is known (PS3.5 7.5.1).
        return tag, "SQ" if length == UNDEFINED and vr == "UN" else vr, length, at + 8
    known = EXPLICIT_VRS.get(data[at + 4 : at + 6].tobytes())
    if known is None:
        raise _damaged(f"has no VR of the standard at ({group:04X},{element:04X})")
    vr, is_long = known
    if not is_long:
        return tag, vr, struct.unpack_from(order + "H", data, at + 6)[0], at + 8
    if end - at < 12:
        raise _damaged("ends inside the header of an element")
    return tag, vr, struct.unpack_from(order + "I", data, at + 8)[0], at + 12


def _delimited(data: memoryview, at: int, end: int, tag: int, vr: str, encoding: Encoding) -> tuple[int, int]:
    """Where a value of undefined length ends, and where what follows it begins."""
    if tag == _PIXEL_DATA and vr in ("OB", "OW", "UN"):
        return _end_of_fragments(data, at, end)
    if vr not in ("SQ", "UN"):
        raise _damaged(f"has no length at ({tag >> 16:04X},{tag & 0xFFFF:04X})")
    return _end_of_items(data, at, end, _UNKNOWN if vr == "UN" else encoding, 0)


def _end_of_fragments(data: memoryview, at: int, end: int) -> tuple[int, int]:
    """Encapsulated pixel data is little endian (PS3.5 A.4)."""
    while at + 8 <= end:
        group, element, length = struct.unpack_from("<HHI", data, at)
        tag = group << 16 | element
        if tag == _SEQUENCE_END:
            return at, at + 8
        if tag != _ITEM or length == UNDEFINED:
            break
        at += 8 + length
    raise _damaged("has fragments of pixel data that do not end")


def _item_header(data: memoryview, at: int, end: int, encoding: Encoding) -> tuple[int, int]:
    if at + 8 > end:
        raise _damaged("ends inside a sequence")
    group, element, length = struct.unpack_from("<HHI" if encoding.little else ">HHI", data, at)
    return group << 16 | element, length


def _end_of_items(data: memoryview, at: int, end: int, encoding: Encoding, depth: int) -> tuple[int, int]:
    if depth > _DEEPEST:
        raise _damaged(f"has sequences in each other more than {_DEEPEST} deep")
    while True:
        tag, length = _item_header(data, at, end, encoding)
        if tag == _SEQUENCE_END:
            return at, at + 8
        if tag != _ITEM:
            raise _damaged("has a sequence that does not end")
        at += 8
        at = at + length if length != UNDEFINED else _end_of_item(data, at, end, encoding, depth)[1]


def _end_of_item(data: memoryview, at: int, end: int, outer: Encoding, depth: int) -> tuple[int, int]:
    encoding = _encoding_of_item(data, at, end, outer)
    while True:
        tag, length = _item_header(data, at, end, encoding)
        if tag == _ITEM_END:
            return at, at + 8
        tag, vr, length, at = _header(data, at, end, encoding, {}, False)
        if length != UNDEFINED:
            at += length
        elif vr in ("SQ", "UN") or not encoding.explicit:
            at = _end_of_items(data, at, end, _UNKNOWN if vr == "UN" else encoding, depth + 1)[1]
        else:
            raise _damaged(f"has no length at ({tag >> 16:04X},{tag & 0xFFFF:04X})")


def _encoding_of_item(data: memoryview, at: int, end: int, outer: Encoding) -> Encoding:
    """Some writers put items in implicit VR into data sets in explicit VR; the first header tells."""
    if not outer.explicit or end - at < 8 or data[at + 4 : at + 6].tobytes() in EXPLICIT_VRS:
        return outer
    return outer if _item_header(data, at, end, outer)[0] >> 16 == 0xFFFE else outer._replace(explicit=False)


def _items(value: memoryview, outer: Encoding, signed: bool) -> Iterator[DataSet]:
    at, end = 0, len(value)
    while at < end:
        tag, length = _item_header(value, at, end, outer)
        if tag == _SEQUENCE_END:
            return
        if tag != _ITEM:
            raise _damaged("has a sequence with something else than items")
        at += 8
        if length == UNDEFINED:
            stop, following = _end_of_item(value, at, end, outer, 0)
        else:
            stop = following = at + length
        if following > end:
            raise _damaged("ends inside an item")
        yield parse(value, at, stop, _encoding_of_item(value, at, stop, outer), signed=signed)
        at = following


def _damaged(how: str) -> NotCoercible:
    return NotCoercible(
        f"the data set {how}, so that it cannot be changed as the AE title's policy wants; send it as the standard has it"
    )
