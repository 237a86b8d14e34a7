"""The one pass over a data set: iterative, bounded, any encoding; gives the DICOM JSON model and where bulk data lies.

Nothing here raises for odd bytes: what can be read is kept and what is odd is flagged, because a PACS that refuses
what a modality sends has lost it. Only limits (PS3.5 sets none, attackers know that) end the pass with an error.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import orjson

from storage.alike import Alike
from storage.charsets import DEFAULT, Charset, charset_of
from storage.dictionary import EXPLICIT_VRS, KEYS, is_vr_like, spell, vr_of
from storage.errors import LimitExceeded
from storage.findings import Findings
from storage.fragments import Fragments, walk_fragments
from storage.item_parts import ITEMS
from storage.levels import ODD, DataSet, Limits, Pixels, SequenceLevel
from storage.recurring import LONGEST_KNOWN, MOST_KNOWN, MOST_VALUES, Place, Recurring, known_elements
from storage.values import BULK_VRS, DECODERS, Text

# (explicit, little endian) -> readers of an element's first eight bytes and of a 32-bit length behind them (PS3.5 7.1).
_HEADERS: Final = {
    (explicit, little): (struct.Struct(order + fields).unpack_from, struct.Struct(order + "I").unpack_from)
    for explicit, fields in ((True, "HH2sH"), (False, "HHI"))
    for little, order in ((True, "<"), (False, ">"))
}
_UNDEFINED: Final = 0xFFFFFFFF
# Bytes of the smallest frame there may be: more of them than there is room for are a lie.
_LEAST_FRAME: Final = 8
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

_CHARSET, _PIXEL_REPRESENTATION, _PADDING = 0x00080005, 0x00280103, 0xFFFCFFFC
_OFFSETS, _OFFSET_LENGTHS = 0x7FE00001, 0x7FE00002
# Pixel Data, Float Pixel Data, Double Float Pixel Data.
PIXEL_TAGS: Final = frozenset({0x7FE00010, 0x7FE00008, 0x7FE00009})
_SPECIAL: Final = frozenset({_CHARSET, _PIXEL_REPRESENTATION, _PADDING, _OFFSETS, _OFFSET_LENGTHS}) | PIXEL_TAGS


class Reader(Findings):
    """One pass. After `run` it is what has been found."""

    def __init__(self, data: memoryview, limits: Limits, assumed: Charset = DEFAULT) -> None:
        super().__init__(data, limits)
        self._size = len(data)
        # The character set where the data set names none that is known.
        self._assumed = assumed
        self._pos = 0
        self._count = 0
        self._stack: list[DataSet | SequenceLevel] = []
        # Of the top data set: what earlier ones had too, and the sequence that is being read.
        self._recurring = Recurring(data)
        self._sequence = ""

    def run(self, start: int, *, explicit: bool, little: bool) -> None:
        """Read from `start` to the end of the data. Raises LimitExceeded."""
        self._pos = start
        top = DataSet(self._size, True, explicit, little, self._assumed, False, "")
        self.dataset = top.values
        self._stack.append(top)
        while self._stack:
            level = self._stack[-1]
            if type(level) is DataSet:
                self._elements(level)
            else:
                self._items(level)  # type: ignore[arg-type]

    # ---- data sets

    def _elements(self, level: DataSet) -> None:
        """Read elements until a sequence begins or the data set ends. The hot loop: one turn an element."""
        data, end, size = self._data, level.end, self._size
        explicit, out, text = level.explicit, level.values, level.text
        remembered = known_elements(text)
        header, long_length = _HEADERS[explicit, level.little]
        vrs, decoders, keys = EXPLICIT_VRS, DECODERS, KEYS
        top = explicit and not level.path
        if top:
            self._resume(level)
        pos = self._pos
        while pos < end:
            if pos + 8 > size:
                pos = self._cut_short(pos)
                break
            if explicit:
                group, element, code, length = header(data, pos)
                tag = group << 16 | element
                at = pos + 8
                spelt = vrs.get(code)
                if spelt is None or group == 0xFFFE:
                    if group == 0xFFFE:
                        self._pos = pos
                        if self._delimiter(level, tag):
                            return
                        pos = self._pos
                        continue
                    vr, at, length = self._unknown_vr(pos, tag, code, length, level)
                else:
                    vr, is_long = spelt
                    if is_long:
                        if pos + 12 > size:
                            pos = self._cut_short(pos)
                            break
                        (length,) = long_length(data, at)
                        at = pos + 12
            else:
                group, element, length = header(data, pos)
                tag = group << 16 | element
                at = pos + 8
                if group == 0xFFFE:
                    self._pos = pos
                    if self._delimiter(level, tag):
                        return
                    pos = self._pos
                    continue
                vr = vr_of(tag, self._creator(level, tag), signed=level.signed)
            self._count += 1
            if not self._count & 1023:
                self._check_limits()
            if vr == "SQ" or vr == "UN" or length == _UNDEFINED or tag in _SPECIAL or not element or (group & 1 and element < 0x100):
                if top:
                    # A sequence may go on with what recurs, anything else here ends it.
                    self._sequence = spell(tag) if vr == "SQ" else self._recurring.end(out)
                self._pos = at
                if self._unusual(level, tag, vr, length):
                    return
                pos = self._pos
                if top and tag in _SPECIAL:
                    self._resume(level)
                if text is not level.text:
                    text = level.text
                    remembered = known_elements(text)
                continue
            stop = at + length
            if stop > size:
                pos = self._cut_off(level, tag, vr, at)
                break
            raw = b""
            # A VR that was guessed may be another in the next data set.
            if explicit and spelt is not None and length <= LONGEST_KNOWN:
                raw = data[pos:stop].tobytes()
                found = remembered.get(raw)
                if found is not None and found[0] not in out:
                    key, out[key] = found
                    self._bytes += length
                    pos = self._passed(level, key, stop) if top else stop
                    continue
            decoder = decoders.get(vr)
            key = keys.get(tag) or spell(tag)
            if decoder is None:
                if key in out:
                    self.flag("repeated-element", "an attribute stands twice in the data set; the last is taken", key)
                self._binary(level, key, tag, vr, at, length)
            else:
                self._bytes += length
                values, odd = decoder(data[at:stop].tobytes(), text)
                if key in out:
                    self.flag("repeated-element", "an attribute stands twice in the data set; the last is taken", key)
                out[key] = {"vr": vr} if values is None else {"vr": vr, "Value": values}
                if odd:
                    self.flag(odd, ODD[odd], key)
                elif raw and (values is None or len(values) <= MOST_VALUES):
                    if len(remembered) >= MOST_KNOWN:
                        remembered.clear()
                    remembered[raw] = key, out[key]
            pos = self._passed(level, key, stop) if top else stop
        if top:
            self._recurring.end(out)
        self._pos = pos
        self._end_data_set(level)

    def _passed(self, level: DataSet, key: str, pos: int) -> int:
        """An element ended at `pos`: where to go on, there or behind what is known to follow it."""
        out = level.values
        stretch = self._recurring.passed(out, key, Place(pos, len(out), self._count, self._bytes), self._oddities)
        if stretch is None:
            return pos
        out.update(stretch.values)
        size, _, number, value_bytes = stretch.ends[-1]
        self._count, self._bytes = self._count + number, self._bytes + value_bytes
        self._check_limits()
        return pos + size

    def _resume(self, level: DataSet) -> None:
        """At the beginning of the top data set, behind each sequence in it, and where the way of reading has changed."""
        self._recurring.read_by(level.text, self._assumed, signed=level.signed, inline_bytes=self._limits.inline_bytes)
        if self._sequence:
            self._pos, self._sequence = self._passed(level, self._sequence, self._pos), ""

    def _end_data_set(self, level: DataSet) -> None:
        if not level.defined:
            self.flag("undelimited", "an item of undefined length is not delimited")
        self._check_limits()
        self._stack.pop()

    def _check_limits(self) -> None:
        limits = self._limits
        if self._count > limits.elements:
            raise LimitExceeded(f"the data set has more than {limits.elements} elements")
        if self._bytes > limits.header_bytes:
            raise LimitExceeded(f"the data set has more than {limits.header_bytes} bytes outside pixel and bulk data")

    def _delimiter(self, level: DataSet, tag: int) -> bool:
        """An item or delimiter tag at the place of an element; True when it ended the data set."""
        if tag == _ITEM_END and len(self._stack) > 1:
            self._pos += 8
            if not level.defined:
                self._check_limits()
                self._stack.pop()
                return True
            self.flag("stray-delimiter", "an item of defined length is delimited too")
            return False
        if tag == _SEQUENCE_END and len(self._stack) > 1 and not level.defined:
            self.flag("stray-delimiter", "a sequence ends before its last item does")
            self._stack.pop()
            return True
        self._pos += 8
        self.flag("stray-delimiter", "an item tag stands where an element should")
        return False

    def _unusual(self, level: DataSet, tag: int, vr: str, length: int) -> bool:
        """Everything that is not an ordinary value; True when the caller's loop must end (a container began or ended)."""
        if vr == "UN":
            vr = self._known_instead(level, tag, length)
        at, key = self._pos, spell(tag)
        if length == _UNDEFINED:
            return self._undefined(level, tag, key, vr)
        stop = at + length
        if vr == "SQ":
            self._begin_sequence(level, key, min(stop, self._size), True, level.explicit and not self._was_un)
            if stop > self._size:
                self.truncated = True
            return True
        if stop > self._size:
            self._pos = self._cut_off(level, tag, vr, at)
            return False
        self._pos = stop
        if not tag & 0xFFFF or tag == _PADDING:
            if not tag and not length:
                self._pos = self._trailing(level)
            return False
        if key in level.values:
            self.flag("repeated-element", "an attribute stands twice in the data set; the last is taken", key)
        if tag in PIXEL_TAGS and not level.path:
            self._pixel_data(level, key, tag, vr, at, length)
        elif tag in (_OFFSETS, _OFFSET_LENGTHS):
            self._offset_table(tag, at, stop)
        else:
            self._value(level, key, tag, vr, at, length)
            self._remember(level, key, tag)
        return False

    def _known_instead(self, level: DataSet, tag: int, length: int) -> str:
        """UN is written by those who did not know the VR; where we know it, it is read as implicit VR (PS3.5 6.2.2)."""
        self._was_un = True
        if length == _UNDEFINED:
            return "SQ"
        return vr_of(tag, self._creator(level, tag), signed=level.signed)

    def _value(self, level: DataSet, key: str, tag: int, vr: str, at: int, length: int) -> None:
        decoder = DECODERS.get(vr)
        was_un, self._was_un = self._was_un, False
        if decoder is None:
            self._binary(level, key, tag, vr, at, length)
            return
        self._bytes += length
        text = level.text._replace(little=True) if was_un else level.text
        values, odd = decoder(self._data[at : at + length].tobytes(), text)
        level.values[key] = {"vr": vr} if values is None else {"vr": vr, "Value": values}
        if odd:
            self.flag(odd, ODD[odd], key)

    def _remember(self, level: DataSet, key: str, tag: int) -> None:
        """What later elements of the data set are read by: character set, sign, private creators."""
        found = level.values[key].get("Value")
        if tag == _CHARSET:
            self._use_charset(level, key, [value or "" for value in found or []])
        elif tag == _PIXEL_REPRESENTATION:
            level.signed = bool(found and found[0] == 1)
        elif tag >> 16 & 1 and 0x10 <= tag & 0xFFFF <= 0xFF and found:
            level.creators[tag] = str(found[0]).strip()

    def _use_charset(self, level: DataSet, key: str, terms: list[str]) -> None:
        charset = charset_of(terms) if any(terms) else self._assumed
        if charset is None:
            self.flag("unknown-charset", "Specific Character Set names none of the standard", key)
            charset = self._assumed
        level.charset, level.text = charset, Text(charset, level.little)
        # The JSON is UTF-8 whatever the object was (PS3.18 F.2); an attribute that said otherwise would be untrue.
        level.values[key] = {"vr": "CS", "Value": ["ISO_IR 192"]}

    def _creator(self, level: DataSet, tag: int) -> str | None:
        if not tag >> 16 & 1:
            return None
        return level.creators.get(tag & 0xFFFF0000 | (tag & 0xFF00) >> 8)

    def _undefined(self, level: DataSet, tag: int, key: str, vr: str) -> bool:
        """Undefined length: a sequence, or fragments of encapsulated pixel data (PS3.5 7.5, A.4)."""
        if vr in BULK_VRS or tag in PIXEL_TAGS:
            self._was_un = False
            begun = self._pos
            fragments = self._fragments()
            vr = vr if vr in BULK_VRS else "OB"
            if tag in PIXEL_TAGS and not level.path:
                self.pixels = Pixels(tag, begun, -1, fragments)
                self._refer(level, key, vr, begun, -1)
            else:
                self._refer(level, key, vr, begun, self._pos - begun)
            return False
        self._begin_sequence(level, key, self._size, False, level.explicit and not self._was_un)
        return True

    def _fragments(self) -> Fragments:
        """Walk the items of encapsulated pixel data; leaves the position behind them."""
        found, self._pos, problem = walk_fragments(self._data, self._pos, self._limits.fragments)
        if problem:
            self.flag(problem, ODD[problem], "7FE00010")
            self.truncated = self.truncated or problem == "truncated"
        return found

    # ---- sequences

    def _begin_sequence(self, owner: DataSet, key: str, end: int, defined: bool, explicit: bool) -> None:
        little = owner.little or self._was_un
        self._was_un = False
        if len(self._stack) >= 2 * self._limits.depth:
            raise LimitExceeded(f"sequences are nested more than {self._limits.depth} deep")
        items: list[Any] = []
        owner.values[key] = {"vr": "SQ", "Value": items}
        level = SequenceLevel(owner, key, items, end, defined, explicit, little)
        if level.of_frames:
            # Behind the sequence are the frames; where it ends is not always known.
            behind = self._size - end if defined else (self._size - self._pos) // 2
            frames = min(self.integer("00280008", 0), behind // _LEAST_FRAME)
            self.frame_items.begin(frames, self._count, self._bytes, len(self.references))
        self._stack.append(level)

    def _items(self, level: SequenceLevel) -> None:
        """Begin the next item, or end the sequence."""
        if level.of_frames:
            self._set_aside(level)
        pos, size = self._pos, self._size
        if pos + 8 > size or pos >= level.end:
            if not level.defined:
                self.flag("truncated", "a sequence is not delimited")
                self.truncated = True
            self._end_sequence(level)
            return
        group, element, length = struct.unpack_from("<HHI" if level.little else ">HHI", self._data, pos)
        tag = group << 16 | element
        if tag == _ITEM:
            if level.alike is None or not self._like_another(level, level.alike, length):
                self._pos = pos + 8
                self._begin_item(level, length)
            return
        if tag == _SEQUENCE_END:
            self._pos = pos + 8
            if level.defined:
                self.flag("stray-delimiter", "a sequence of defined length is delimited too")
        else:
            self.flag("bad-sequence", "a sequence holds something that is not an item", level.key)
            self._pos = level.end if level.defined else pos
        self._end_sequence(level)

    def _set_aside(self, level: SequenceLevel) -> None:
        """Items of frames that are read are put away, as many as make a part; of then on others may be like them."""
        if level.alike is not None:
            level.alike.ended(self._pos, level.items and level.items[-1], self._count, self._bytes, self._oddities)
        if len(level.items) < ITEMS:
            return
        self._count, self._bytes = self.frame_items.take(level.items, self._count, self._bytes, len(self.references))
        if not level.items:
            level.set_aside += ITEMS
            if level.alike is None and level.explicit and level.little:
                level.alike = Alike(self._data, level.owner.text)

    def _like_another(self, level: SequenceLevel, alike: Alike, length: int) -> bool:
        """Whether the item that begins here is like one before it, and so read already."""
        found = alike.find(self._pos, length, min(level.end, self._size))
        if found is None:
            alike.begin(self._pos, length, self._count, self._bytes, self._oddities)
            return False
        level.items.append(orjson.Fragment(found.json))
        self._pos += found.size
        self._count, self._bytes = self._count + found.elements, self._bytes + found.value_bytes
        self._check_limits()
        return True

    def _begin_item(self, level: SequenceLevel, length: int) -> None:
        defined = length != _UNDEFINED
        end = self._pos + length if defined else self._size
        if end > self._size:
            self.flag("truncated", "an item is longer than the data")
            self.truncated = True
            end = self._size
        owner = level.owner
        explicit = self._item_explicit(level, end)
        path = f"{owner.path}{level.key}/{level.set_aside + len(level.items)}/"
        item = DataSet(end, defined, explicit, level.little, owner.charset, owner.signed, path)
        level.items.append(item.values)
        self._count += 1
        self._stack.append(item)

    def _item_explicit(self, level: SequenceLevel, end: int) -> bool:
        """Some writers switch between implicit and explicit VR inside a sequence; the first header tells."""
        if self._pos + 8 > end:
            return level.explicit
        group, _, code = struct.unpack_from("<HH2s" if level.little else ">HH2s", self._data, self._pos)
        if group == 0xFFFE:
            return level.explicit
        explicit = code in EXPLICIT_VRS
        if level.explicit and not explicit and not is_vr_like(code):
            self.flag("mixed-vr", "an item is in implicit VR inside a data set in explicit VR", level.key)
            return False
        if not level.explicit and explicit and self._fits_explicit(level.little, end):
            self.flag("mixed-vr", "an item is in explicit VR inside a data set in implicit VR", level.key)
            return True
        return level.explicit

    def _fits_explicit(self, little: bool, end: int) -> bool:
        """Whether an implicit reading of the first element cannot be right, because it is longer than the item."""
        (length,) = struct.unpack_from("<I" if little else ">I", self._data, self._pos + 4)
        return bool(length != _UNDEFINED and self._pos + 8 + length > end)

    def _end_sequence(self, level: SequenceLevel) -> None:
        if level.of_frames:
            self.frame_items.ended(level.items)
        if not level.items and not level.set_aside:
            level.owner.values[level.key] = {"vr": "SQ"}
        self._stack.pop()

    # ---- damage

    def _unknown_vr(self, pos: int, tag: int, code: bytes, short: int, level: DataSet) -> tuple[str, int, int]:
        """(VR, offset, length) of an element whose VR is none of the standard.

        Two letters are a VR of a later edition, which has a 32-bit length (PS3.5 7.1.2), or a slip of the writer's; anything
        else is an element in implicit VR, if its length makes sense.
        """
        if not tag and code == b"\0\0" and not short:
            return "UL", self._trailing(level), 0
        self.flag("bad-vr", "an element has a VR that the standard does not know", spell(tag))
        order = "<I" if level.little else ">I"
        if not is_vr_like(code):
            (length,) = struct.unpack_from(order, self._data, pos + 4)
            if length == _UNDEFINED or pos + 8 + length <= self._size:
                return vr_of(tag, self._creator(level, tag), signed=level.signed), pos + 8, length
        elif not short and pos + 12 <= self._size:
            (length,) = struct.unpack_from(order, self._data, pos + 8)
            if pos + 12 + length <= level.end:
                return "UN", pos + 12, length
        return "UN", pos + 8, short

    def _trailing(self, level: DataSet) -> int:
        """Where to go on behind zeros that some writers fill the last block with: at the end of the data set."""
        self.flag("trailing-zeros", "the data set is followed by zeros")
        return level.end

    def _cut_short(self, pos: int) -> int:
        """Too few bytes for another header: trailing padding of zeros is common and harmless, anything else is damage."""
        if any(self._data[pos:]):
            self.flag("truncated", "the data ends inside the header of an element")
            self.truncated = True
        return self._size

    def _cut_off(self, level: DataSet, tag: int, vr: str, at: int) -> int:
        """A value that is longer than the data: pixel and bulk data are kept as far as they go."""
        self.truncated = True
        key, rest = spell(tag), self._size - at
        self.flag("truncated", "the data ends inside a value", key)
        if tag in PIXEL_TAGS and not level.path:
            self._pixel_data(level, key, tag, vr, at, rest)
        elif vr in BULK_VRS and rest > self._limits.inline_bytes:
            self._refer(level, key, vr, at, rest)
        return self._size
