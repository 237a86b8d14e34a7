"""A stored data set written anew in Implicit or Explicit VR Little Endian (PS3.5 annex A), as pieces, in one bounded pass.

Values that are long stay where they are and become extents of the object; of what is between them no more than a window is
in memory. Sequences and items get undefined lengths (PS3.5 7.5.1), so that nothing has to be known before it is written.
Group lengths and trailing padding, which would be untrue, are left out (PS3.5 7.2, PS3.10 7.2).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from storage.dictionary import EXPLICIT_VRS, vr_of
from storage.errors import CannotDecode, LimitExceeded
from storage.pieces import Piece, length_of

_UNDEFINED: Final = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_BEGIN_ITEM: Final = struct.pack("<HHI", 0xFFFE, 0xE000, _UNDEFINED)
_END_ITEM: Final = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
_END_SEQUENCE: Final = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
_PADDING, _PIXEL_REPRESENTATION = 0xFFFCFFFC, 0x00280103
# A short VR's length has 16 bits; a longer value can only be written as UN (PS3.5 6.2.2).
_LONGEST_SHORT: Final = 0xFFFE
_LONG_VRS: Final = frozenset(vr for vr, is_long in EXPLICIT_VRS.values() if is_long)
# Bytes that change places between byte orders, by VR (PS3.5 7.3). UN is little endian in every syntax (6.2.2).
WORDS: Final = {
    **dict.fromkeys(("US", "SS", "OW", "AT"), 2),
    **dict.fromkeys(("UL", "SL", "FL", "OF", "OL"), 4),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8),
}
_DEEPEST: Final = 64


class Source(Protocol):
    """Where the stored data set is; offsets as in its object."""

    def read(self, offset: int, length: int) -> bytes:
        """So many bytes, fewer only at the end."""

    def value(self, offset: int, length: int, word: int) -> Iterable[Piece]:
        """A long value in pieces; its words of `word` bytes are to be turned round where that is over 1."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """An element to be written in place of the stored one, or where it is missing; without pieces it is left out.

    `undefined`: its length is said to be so, and its pieces end with the delimiter (encapsulated pixel data, PS3.5 A.4).
    """

    vr: str
    pieces: tuple[Piece, ...] = ()
    undefined: bool = False


@dataclass(slots=True)
class _Level:
    """A data set (`items` False) or the items of a sequence, up to `end` or, when that is None, to its delimiter.

    `bound`: nothing in it may go beyond this. `tag`: of a sequence.
    """

    items: bool
    end: int | None
    bound: int
    explicit: bool
    little: bool
    signed: bool
    tag: int = 0
    creators: dict[int, str] = field(default_factory=dict)


class Rewriting:
    """One pass over the data set that begins at `start` and ends before `end`.

    `keep_inline`: values up to this length are copied through memory. `replaced` is by tag, of the top level, and says
    also where to go on behind an element of undefined length that is no sequence: `ends`, by the offset of its value.
    `changed` makes another value of one that is stored, by tag, and `inside` of those in items; `appended` are items that
    sequences of the top level get at their end, in the encoding that is written. None of them adds an element.
    """

    def __init__(
        self,
        source: Source,
        start: int,
        end: int,
        *,
        stored: tuple[bool, bool],
        explicit: bool,
        replaced: Mapping[int, Replacement],
        ends: Mapping[int, int],
        changed: Mapping[int, Callable[[bytes], bytes]] | None = None,
        inside: Mapping[int, Callable[[bytes], bytes]] | None = None,
        appended: Mapping[int, bytes] | None = None,
        keep_inline: int = 1 << 14,
    ) -> None:
        self._source = source
        self._pos, self._end = start, end
        self._to_explicit = explicit
        self._replaced = sorted(replaced.items())
        self._replaced_tags = replaced.keys()
        self._ends = ends
        self._changed, self._inside, self._appended = changed or {}, inside or {}, appended or {}
        self._keep_inline = keep_inline
        self._out = bytearray()
        # What is written while a sequence is read that is left out goes nowhere; this is what was written before.
        self._before: bytearray | None = None
        self._levels = [_Level(False, end, end, *stored, signed=False)]

    def pieces(self) -> Iterator[Piece]:
        """What to send. Raises CannotDecode where the stored bytes cannot be understood well enough to be written anew."""
        while self._levels:
            level = self._levels[-1]
            if self._pos + 8 > self._end:
                # Too little for another element; and the end of the file ends whatever has no delimiter.
                self._pos = self._end
            if self._pos >= (level.bound if level.end is None else level.end):
                self._close()
            elif level.items:
                self._item(level)
            else:
                yield from self._element(level)
            if self._before is not None:
                self._out.clear()
            elif len(self._out) >= 1 << 16:
                yield self._flushed()
        yield from self._inserted(None)
        if self._out:
            yield self._flushed()

    def _flushed(self) -> bytes:
        out, self._out = bytes(self._out), bytearray()
        return out

    def _close(self) -> None:
        """The innermost container ends here."""
        level = self._levels.pop()
        if level.items and len(self._levels) == 1:
            self._out += self._appended.get(level.tag, b"")
        if self._levels:
            self._out += _END_SEQUENCE if level.items else _END_ITEM
        if len(self._levels) == 1 and self._before is not None:
            self._out, self._before = self._before, None

    def _item(self, level: _Level) -> None:
        tag, length = self._item_header(level.little)
        if tag == _ITEM:
            self._pos += 8
            end, bound = self._within(level, self._pos, length)
            self._out += _BEGIN_ITEM
            self._push(_Level(False, end, bound, level.explicit, level.little, level.signed))
            return
        if tag == _SEQUENCE_END:
            self._pos += 8
        # Whatever else stands here ends the sequence, as it did when the object was scanned.
        self._close()

    def _within(self, level: _Level, at: int, length: int) -> tuple[int | None, int]:
        """The end of what begins in `level`, if that is known, and its bound.

        What goes beyond what it lies in leaves open to which of the two the elements behind belong: it is refused.
        """
        if length == _UNDEFINED:
            return None, level.bound
        if at + length > level.bound:
            where = "data set" if level.bound == self._end else "sequence or item that it lies in"
            raise CannotDecode(f"the {where} ends in the middle of a value; get the instance as it is stored")
        return at + length, at + length

    def _item_header(self, little: bool) -> tuple[int, int]:
        group, element, length = struct.unpack("<HHI" if little else ">HHI", self._bytes(self._pos, 8))
        return group << 16 | element, length

    def _push(self, level: _Level) -> None:
        if len(self._levels) > 2 * _DEEPEST:
            raise LimitExceeded(f"the data set has sequences in each other more than {_DEEPEST} deep")
        self._levels.append(level)

    def _element(self, level: _Level) -> Iterator[Piece]:
        tag, vr, length, at = self._header(level)
        if tag >> 16 == 0xFFFE:
            self._delimiter(tag)
            return
        top = len(self._levels) == 1
        if top:
            yield from self._inserted(tag)
        self._pos = at
        left_out = top and tag in self._replaced_tags
        if vr == "SQ" or (vr == "UN" and length == _UNDEFINED):
            end, bound = self._within(level, at, length)
            if left_out:
                self._before, self._out = self._out, bytearray()
            self._write_header(tag, "SQ", _UNDEFINED)
            # What is UN and yet has items is in implicit VR, little endian (PS3.5 6.2.2).
            unknown = vr == "UN"
            self._push(_Level(True, end, bound, level.explicit and not unknown, level.little or unknown, level.signed, tag))
            return
        if length == _UNDEFINED:
            if at not in self._ends or not top:
                raise CannotDecode(
                    f"({tag >> 16:04X},{tag & 0xFFFF:04X}) is encapsulated, which only pixel data can be; get the"
                    " instance as it is stored"
                )
            self._pos = self._ends[at]
        else:
            self._within(level, at, length)
            self._pos = at + length
        if not tag & 0xFFFF or tag == _PADDING or left_out:
            return
        yield from self._value(level, tag, vr, at, length)

    def _value(self, level: _Level, tag: int, vr: str, at: int, length: int) -> Iterator[Piece]:
        word = 1 if level.little else WORDS.get(vr, 1)
        change = (self._changed if len(self._levels) == 1 else self._inside).get(tag)
        if change is not None:
            value = change(self._bytes(at, length))
            self._write_header(tag, vr, len(value))
            self._out += value
            return
        self._write_header(tag, vr, length)
        if length > self._keep_inline:
            if self._before is None:
                yield self._flushed()
                yield from self._source.value(at, length, word)
            return
        value = turned(self._bytes(at, length), word)
        self._out += value
        if tag == _PIXEL_REPRESENTATION and length == 2:
            level.signed = value == b"\1\0"
        elif tag >> 16 & 1 and 0x10 <= tag & 0xFFFF <= 0xFF:
            level.creators[tag] = value.strip(b" \0").decode("ascii", "replace")

    def _inserted(self, before: int | None) -> Iterator[Piece]:
        """The replacements whose place is here, in the order of their tags."""
        while self._replaced and (before is None or self._replaced[0][0] <= before):
            tag, replacement = self._replaced.pop(0)
            if not replacement.pieces:
                continue
            length = _UNDEFINED if replacement.undefined else sum(map(length_of, replacement.pieces))
            self._write_header(tag, replacement.vr, length)
            yield self._flushed()
            yield from replacement.pieces

    def _delimiter(self, tag: int) -> None:
        """At the place of an element: of an item of undefined length, or stray."""
        self._pos += 8
        if tag == _ITEM_END and len(self._levels) > 1:
            if self._levels[-1].end is None:
                self._close()
        elif tag == _SEQUENCE_END and len(self._levels) > 2 and self._levels[-1].end is None:
            self._close()
            self._close()

    def _header(self, level: _Level) -> tuple[int, str, int, int]:
        """Tag, VR, length, and where the value begins."""
        order = "<" if level.little else ">"
        raw = self._bytes(self._pos, 8)
        group, element, length = struct.unpack(order + "HHI", raw)
        tag = group << 16 | element
        if group == 0xFFFE:
            return tag, "", 0, self._pos + 8
        if not level.explicit:
            creator = level.creators.get(tag & 0xFFFF0000 | (tag & 0xFF00) >> 8) if group & 1 else None
            return tag, vr_of(tag, creator, signed=level.signed), length, self._pos + 8
        known = EXPLICIT_VRS.get(raw[4:6])
        if raw == bytes(8):
            # Zeros that fill the last block: the data set is over.
            return tag, "UL", 0, level.bound
        if known is None:
            raise CannotDecode(
                f"({group:04X},{element:04X}) has no VR of the standard; get the instance as it is stored"
            )
        vr, is_long = known
        if not is_long:
            return tag, vr, struct.unpack_from(order + "H", raw, 6)[0], self._pos + 8
        return tag, vr, struct.unpack(order + "I", self._bytes(self._pos + 8, 4))[0], self._pos + 12

    def _write_header(self, tag: int, vr: str, length: int) -> None:
        group, element = tag >> 16, tag & 0xFFFF
        if not self._to_explicit:
            self._out += struct.pack("<HHI", group, element, length)
            return
        if vr not in _LONG_VRS and length <= _LONGEST_SHORT:
            self._out += struct.pack("<HH2sH", group, element, vr.encode("ascii"), length)
            return
        kind = vr if vr in _LONG_VRS else "UN"
        self._out += struct.pack("<HH2sHI", group, element, kind.encode("ascii"), 0, length)

    def _bytes(self, offset: int, length: int) -> bytes:
        found = self._source.read(offset, length)
        if len(found) < length:
            raise CannotDecode("the data set ends in the middle of an element; get the instance as it is stored")
        return found


def turned(value: bytes, word: int) -> bytes:
    """`value` with the bytes of each word in the other order; what is left over at the end stays."""
    if word == 1:
        return value
    whole = len(value) - len(value) % word
    out = bytearray(value)
    for at in range(word):
        out[at:whole:word] = value[word - 1 - at : whole : word]
    return bytes(out)
