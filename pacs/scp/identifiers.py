"""Identifiers of query services: data sets to the DICOM JSON model and back, in the syntax and character set agreed.

Pure. Reading is the scanner's own bounded pass; writing is ours, because a query's answers must cost microseconds each.
"""

from __future__ import annotations

import base64
import re
import struct
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR

from storage.charsets import DEFAULT, Charset
from storage.dictionary import EXPLICIT_VRS
from storage.elements import Reader
from storage.errors import Truncated
from storage.levels import Limits
from storage.transfer_syntaxes import lookup
from storage.types import Dataset
from storage.values import BULK_VRS

CHARACTER_SET: Final = "00080005"
UTF_8: Final = "ISO_IR 192"

# Identifiers are small; what is not would be an attack. The data sets of DIMSE-N may be lists of many instances.
_LIMITS: Final = Limits(depth=16, elements=4096, header_bytes=1 << 20)
LARGE: Final = Limits(depth=16, elements=200_000, header_bytes=8 << 20)
_CHARACTER_SET_TAG: Final = 0x00080005
# VRs in the character set of (0008,0005) (PS3.5 6.1.2.2); the others are ASCII.
_IN_CHARACTER_SET: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_NUMBERS: Final = {"FD": "d", "FL": "f", "SL": "i", "SS": "h", "SV": "q", "UL": "I", "US": "H", "UV": "Q"}
# VRs whose explicit length has four bytes (PS3.5 7.1.2).
_LONG: Final = frozenset(vr for vr, is_long in EXPLICIT_VRS.values() if is_long)
_LONGEST_DS: Final = 16
_FIRST_CODEC: Final = "ascii"
_LAST_CODEC: Final = "utf-8"
# VRs of text whose value, where it is one of text, goes out as it is.
_ONE_TEXT: Final = frozenset({"AE", "AS", "CS", "DA", "DT", "IS", "LO", "LT", "SH", "ST", "TM", "UC", "UI", "UR", "UT"})
_KATAKANA: Final = python_encoding["ISO_IR 13"]
_TAG: Final = re.compile("[0-9A-Fa-f]{8}")
# What Python raises for a value that is not as its VR says; base64's error is a ValueError, too deep a nesting is not.
_UNSAYABLE: Final = (ValueError, TypeError, KeyError, AttributeError, LookupError, OverflowError, struct.error)


@dataclass(frozen=True, slots=True)
class Identifier:
    """A request's identifier: its attributes, and the values of its Specific Character Set as they were sent."""

    dataset: Dataset
    character_set: tuple[str, ...]


def decode(
    data: bytes, transfer_syntax_uid: str, limits: Limits = _LIMITS, assumed: Charset = DEFAULT
) -> Identifier:
    """Read an identifier; `assumed` is the character set where it names none. Raises Truncated and LimitExceeded. Implicit VR is recognised even where explicit was agreed."""
    little = lookup(transfer_syntax_uid).little_endian
    explicit = data[4:6] in EXPLICIT_VRS
    reader = Reader(memoryview(data), limits, assumed)
    reader.run(0, explicit=explicit, little=little)
    if reader.truncated:
        raise Truncated("the identifier ends before its last element does; send it again")
    return Identifier(reader.dataset, tuple(_character_set(data, explicit, little)))


def _character_set(data: bytes, explicit: bool, little: bool) -> Iterable[str]:
    """(0008,0005) stands before all else but the group's length, so all elements up to it are short ones."""
    header = struct.Struct(("<" if little else ">") + ("HH2xH" if explicit else "HHI"))
    at = 0
    while at + 8 <= len(data):
        group, element, length = header.unpack_from(data, at)
        tag, at = group << 16 | element, at + 8
        if tag == _CHARACTER_SET_TAG:
            text = data[at : at + length].decode("ascii", "replace")
            return [term.strip(" \0") for term in text.split("\\")] if text.strip(" \0") else []
        if tag > _CHARACTER_SET_TAG:
            break
        at += length
    return []


def text_values(element: Mapping[str, Any]) -> list[str]:
    """The values of an attribute as text, as matching takes them; names with their component groups."""
    return [_as_text(value) for value in element.get("Value") or ()]


def _as_text(value: Any) -> str:
    if type(value) is str:
        return value
    if value is None:
        return ""
    if isinstance(value, dict):
        return _name(value)
    return str(value)


def _name(value: Mapping[str, str]) -> str:
    if len(value) == 1 and "Alphabetic" in value:
        return value["Alphabetic"]
    groups = (value.get("Alphabetic", ""), value.get("Ideographic", ""), value.get("Phonetic", ""))
    return "=".join(groups).rstrip("=")


class Encoder:
    """Writes answers in one transfer syntax.

    Text goes out as ASCII where it is, else in the request's own single-byte or Chinese character set where that can say
    it, else in UTF-8; (0008,0005) is set accordingly, and left out where it says nothing and was not asked for.

    What was stored may be anything: a value that its VR cannot say (a number that is none, text where items belong, more
    than a length can tell) leaves its attribute empty and is named in `odd`; the rest of the answer goes out.
    """

    def __init__(self, transfer_syntax_uid: str, asked: tuple[str, ...] = ()) -> None:
        syntax = lookup(transfer_syntax_uid)
        self._explicit = syntax.explicit_vr
        self._little = syntax.little_endian
        self._order = "<" if syntax.little_endian else ">"
        self._long = struct.Struct(self._order + "I")
        self._short = struct.Struct(self._order + "H")
        # What stands before an element's length, and how that is written; the same for every answer of a query.
        self._heads: dict[tuple[str, str], tuple[bytes, struct.Struct, str]] = {}
        self._last: dict[str, tuple[Mapping[str, Any], str, bytes]] = {}
        self._asked = asked
        # The tags of values that could not be written, in the answers so far.
        self.odd: set[str] = set()
        # With code extensions (several values) we answer in UTF-8, which every reader of those has learnt since.
        term = asked[0] if len(asked) == 1 and not asked[0].startswith("ISO 2022") else ""
        self._codec = python_encoding.get(term, "") if term else ""

    def encode(self, dataset: Dataset) -> bytes:
        """One answer; `dataset` need not be in order and says nothing of (0008,0005)."""
        try:
            return self._whole(dataset, _FIRST_CODEC, self._asked)
        except UnicodeEncodeError:
            pass
        if self._codec:
            try:
                return self._whole(dataset, self._codec, self._asked)
            except UnicodeEncodeError:
                pass
        return self._whole(dataset, _LAST_CODEC, (UTF_8,))

    def _whole(self, dataset: Dataset, codec: str, character_set: tuple[str, ...]) -> bytes:
        if character_set:
            dataset = {**dataset, CHARACTER_SET: {"vr": "CS", "Value": character_set}}
        return self._items(dataset, codec)

    def _items(self, dataset: Dataset, codec: str) -> bytes:
        return b"".join([self._element(tag, dataset[tag], codec) for tag in sorted(dataset)])

    def _element(self, tag: str, element: Mapping[str, Any], codec: str) -> bytes:
        # What all answers have alike, such as the level, is the same object in each.
        last = self._last.get(tag)
        if last is not None and last[0] is element and last[1] == codec:
            return last[2]
        written = self._written(tag, element, codec)
        self._last[tag] = element, codec, written
        return written

    def _written(self, tag: str, element: Mapping[str, Any], codec: str) -> bytes:
        try:
            stored = element["vr"]
            head, length, vr = self._heads.get((tag, stored)) or self._head(tag, stored)
            values = element.get("Value")
            if vr in _ONE_TEXT and codec == _FIRST_CODEC and values and len(values) == 1 and type(values[0]) is str:
                # Most of what is answered: as `_text` writes it, and nothing else to look at.
                raw = values[0].encode(codec, "strict" if vr in _IN_CHARACTER_SET else "replace")
                if len(raw) % 2:
                    raw += b"\0" if vr == "UI" else b" "
                return head + length.pack(len(raw)) + raw
            value = self._value(vr, element, codec)
            return head + length.pack(len(value)) + value
        except _UNSAYABLE as error:
            if isinstance(error, UnicodeEncodeError) and codec != _LAST_CODEC:
                raise  # the whole answer in another character set
            return self._empty(tag, element)

    def _empty(self, tag: str, element: Any) -> bytes:
        """The attribute without a value; nothing at all where not even its tag is one."""
        self.odd.add(tag)
        vr = element.get("vr") if isinstance(element, Mapping) else None
        if not _TAG.fullmatch(tag):
            return b""
        head, length, _ = self._head(tag, vr if isinstance(vr, str) and vr.encode("ascii", "replace") in EXPLICIT_VRS else "UN")
        return head + length.pack(0)

    def _head(self, tag: str, stored: str) -> tuple[bytes, struct.Struct, str]:
        """What stands before the value, how its length is written, and the VR in which it goes out."""
        vr = _said_as(tag, stored)
        head = struct.pack(self._order + "HH", int(tag[:4], 16), int(tag[4:], 16))
        length = self._long
        if self._explicit:
            head += vr.encode("ascii")
            if vr in _LONG:
                head += b"\0\0"
            else:
                length = self._short
        self._heads[tag, stored] = head, length, vr
        return head, length, vr

    def _value(self, vr: str, element: Mapping[str, Any], codec: str) -> bytes:
        if vr in BULK_VRS:
            return self._binary(vr, element)
        values = element.get("Value")
        if not values:
            if element.get("InlineBinary"):
                raise ValueError("a binary value where none belongs")
            return b""
        if vr == "SQ":
            return b"".join(self._item(item, codec) for item in values)
        if vr in _NUMBERS:
            numbers = [float(value) if vr[0] == "F" else int(value) for value in values if value is not None]
            return struct.pack(f"{self._order}{len(numbers)}{_NUMBERS[vr]}", *numbers)
        if vr == "AT":
            halves = [int(half, 16) for value in values if value for half in (value[:4], value[4:])]
            return struct.pack(f"{self._order}{len(halves)}H", *halves)
        return _text(vr, values, codec if vr in _IN_CHARACTER_SET else "ascii")

    def _item(self, item: Dataset, codec: str) -> bytes:
        value = self._items(item, codec)
        return struct.pack(self._order + "HHI", 0xFFFE, 0xE000, len(value)) + value

    def _binary(self, vr: str, element: Mapping[str, Any]) -> bytes:
        """InlineBinary is little endian whatever the syntax (PS3.18 F.2.7); what is only referred to is not sent."""
        if element.get("Value"):
            raise ValueError("a value that is no binary one")
        raw = base64.b64decode(element.get("InlineBinary", ""))
        size = BULK_VRS[vr]
        if size > 1 and not self._little:
            words = array({2: "H", 4: "I", 8: "Q"}[size], raw)
            words.byteswap()
            raw = words.tobytes()
        return raw + b"\0" * (len(raw) % 2)


def _said_as(tag: str, stored: str) -> str:
    """The VR in which an attribute goes out: the dictionary's, whatever the file that it comes from says (PS3.5 6.2).

    A reader of Implicit VR knows no other; what cannot be said in it is left empty like any odd value.
    """
    try:
        known = dictionary_VR(int(tag, 16)).split(" or ")
    except (KeyError, ValueError):
        return stored
    return stored if stored in known or stored == "UN" else known[0]


def _text(vr: str, values: Sequence[Any], codec: str) -> bytes:
    written = _decimal if vr == "DS" else _whole if vr == "DA" else _as_text
    text = written(values[0]) if len(values) == 1 else "\\".join(map(written, values))
    # Only text in the answer's character set may ask for another one; elsewhere a stray character is replaced.
    raw = text.encode(codec, "strict" if vr in _IN_CHARACTER_SET else "replace")
    if codec == _KATAKANA and len(raw) != len(text):
        # ISO_IR 13 has characters of one byte alone; Python's codec for it has kanji too.
        raise UnicodeEncodeError(codec, text, 0, len(text), "no character of JIS X 0201")
    if len(raw) % 2:
        raw += b"\0" if vr == "UI" else b" "
    return raw


def _whole(value: Any) -> str:
    """A date that was stored as a number."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else _as_text(value)


def _decimal(value: Any) -> str:
    """A DS has at most 16 characters (PS3.5 6.2): as many digits as go into them."""
    if value is None:
        return ""
    text = str(value)
    digits = _LONGEST_DS
    while len(text) > _LONGEST_DS and digits and isinstance(value, float):
        digits -= 1
        text = f"{value:.{digits}g}"
    return text
