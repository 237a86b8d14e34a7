"""The DICOM JSON model (PS3.18 F.2) -> Explicit VR Little Endian (PS3.5 A.2), with holes where bulk data is to stand."""

from __future__ import annotations

import binascii
import struct
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from storage.dictionary import EXPLICIT_VRS, spell, vr_of
from storage.errors import BadRequest, LimitExceeded
from storage.levels import Limits

_LONG: Final = dict(EXPLICIT_VRS.values())
# VRs in the Specific Character Set (PS3.5 6.1.2.2); the others are ASCII.
_TEXTS: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_CODES: Final = frozenset({"AE", "AS", "CS", "DA", "DT", "TM", "UI", "UR"})
_STRUCTS: Final = {"FD": "d", "FL": "f", "SL": "i", "SS": "h", "SV": "q", "UL": "I", "US": "H", "UV": "Q"}
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_CHARSET, _PADDING = 0x00080005, 0xFFFCFFFC
_UTF_8: Final = "ISO_IR 192"
# What PS3.18 F.2.3 has strings for, because JSON has no such numbers.
_NOT_FINITE: Final = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_UNDEFINED: Final = b"\xff\xff\xff\xff"
_ITEM, _ITEM_END = b"\xfe\xff\x00\xe0" + _UNDEFINED, b"\xfe\xff\x0d\xe0\0\0\0\0"
_SEQUENCE_END: Final = b"\xfe\xff\xdd\xe0\0\0\0\0"
# A DS has at most 16 characters, and a short VR less than 64 KiB (PS3.5 6.2, 7.1.2).
_LONGEST_DS, _LONGEST_SHORT = 16, 0xFFFE


@dataclass(frozen=True, slots=True)
class Hole:
    """Where a value goes that comes in a part of its own; `path` names the element, as in a BulkDataURI of ours."""

    tag: int
    vr: str
    uri: str
    path: str


Piece = bytes | Hole


@dataclass(frozen=True, slots=True)
class Encoded:
    """A data set in pieces: per top-level element, or run of elements, its first tag and what stands there.

    Elements of the groups in `apart` are entries of their own. `meta` is what group 0002 says, by keyword-less tag.
    """

    elements: tuple[tuple[int, tuple[Piece, ...]], ...]
    meta: Mapping[int, str]
    size: int

    def holes(self) -> Iterator[Hole]:
        """Every hole, in order."""
        return (piece for _, pieces in self.elements for piece in pieces if isinstance(piece, Hole))


def encode(dataset: Mapping[str, Any], limits: Limits, *, apart: frozenset[int] = frozenset()) -> Encoded:
    """The data set in UTF-8 (PS3.18 8.8 has all JSON in it). Raises BadRequest, naming the attribute, and LimitExceeded."""
    writer = _Writer(limits)
    elements: list[tuple[int, list[Piece]]] = []
    run = -1
    for tag, pieces in writer.elements(dataset, ""):
        # A run ends at each of the groups, so that what is added to one finds its place.
        place = -1 if tag >> 16 in apart else sum(tag >> 16 > group for group in apart)
        if place >= 0 and place == run:
            elements[-1][1].extend(pieces)
        else:
            elements.append((tag, list(pieces)))
        run = place
    joined = tuple((tag, tuple(_joined(pieces))) for tag, pieces in elements)
    return Encoded(joined, _meta(dataset), sum(len(piece) for _, pieces in joined for piece in pieces if isinstance(piece, bytes)))


def element(tag: int, vr: str, value: bytes) -> bytes:
    """One element with its value, padded to an even length (PS3.5 7.1.1)."""
    if len(value) % 2:
        value += b"\0" if vr in ("UI", "OB", "UN") else b" "
    return header(tag, vr, len(value)) + value


def header(tag: int, vr: str, length: int) -> bytes:
    """What stands before a value of `length` bytes; a value too long for its VR is UN (PS3.5 6.2.2)."""
    if not _LONG[vr] and length > _LONGEST_SHORT:
        vr = "UN"
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    return head + (struct.pack("<HI", 0, length) if _LONG[vr] else struct.pack("<H", length))


def _joined(pieces: Sequence[Piece]) -> Iterator[Piece]:
    run: list[bytes] = []
    for piece in pieces:
        if isinstance(piece, bytes):
            run.append(piece)
            continue
        if run:
            yield b"".join(run)
            run = []
        yield piece
    if run:
        yield b"".join(run)


def _meta(dataset: Mapping[str, Any]) -> dict[int, str]:
    found: dict[int, str] = {}
    for key, value in dataset.items():
        if key.startswith("0002") and isinstance(value, dict):
            values = value.get("Value")
            if isinstance(values, list) and values and isinstance(values[0], str):
                found[int(key, 16)] = values[0].strip()
    return found


class _Writer:
    """One data set being written: counts elements and holds depth, as the scanner does."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._count = 0

    def elements(self, dataset: Mapping[str, Any], path: str) -> Iterator[tuple[int, tuple[Piece, ...]]]:
        """The elements in order of their tags, without group 0002, group lengths and padding."""
        signed = _signed(dataset)
        found = {_tag(key): key for key in dataset}
        if len(found) < len(dataset):
            raise BadRequest("an attribute stands twice in one data set, in two spellings; send it once")
        # All is written in UTF-8, which is said once, for the items too.
        found.pop(_CHARSET, None)
        for tag in sorted(found if path else {*found, _CHARSET}):
            self._count += 1
            if self._count > self._limits.elements:
                raise LimitExceeded(f"the data set has more than {self._limits.elements} elements")
            if tag == _CHARSET:
                yield tag, (element(tag, "CS", _UTF_8.encode()),)
            elif tag >> 16 == 2 or not tag & 0xFFFF or tag == _PADDING:
                continue
            elif tag < 0x00080000 or tag >> 16 == 0xFFFE:
                raise BadRequest(f"{spell(tag)} is no attribute of a data set; leave it out")
            else:
                yield tag, self._element(tag, dataset[found[tag]], path, signed)

    def _element(self, tag: int, described: Any, path: str, signed: bool) -> tuple[Piece, ...]:
        if not isinstance(described, dict):
            raise BadRequest(f"{spell(tag)} is not an object with vr and Value (PS3.18 F.2.2)")
        vr = described.get("vr") or vr_of(tag, None, signed=signed)
        if not isinstance(vr, str) or vr not in _LONG:
            raise BadRequest(f"the vr of {spell(tag)} is none (PS3.5 6.2)")
        if sum(name in described for name in ("Value", "InlineBinary", "BulkDataURI")) > 1:
            raise BadRequest(f"{spell(tag)} has more than one of Value, InlineBinary and BulkDataURI (PS3.18 F.2.2)")
        if described.get("BulkDataURI"):
            uri = described["BulkDataURI"]
            if not isinstance(uri, str) or vr == "SQ":
                raise BadRequest(f"the BulkDataURI of {spell(tag)} is none, or cannot be for its vr")
            return (Hole(tag, vr, uri, path + spell(tag)),)
        if "InlineBinary" in described:
            return (element(tag, vr, _inline(tag, vr, described["InlineBinary"])),)
        values = described.get("Value") or []
        if not isinstance(values, list):
            raise BadRequest(f"the Value of {spell(tag)} is not a list (PS3.18 F.2.2)")
        if vr == "SQ":
            return tuple(self._sequence(tag, values, path))
        return (element(tag, vr, _value(tag, vr, values)),)

    def _sequence(self, tag: int, items: list[Any], path: str) -> Iterator[Piece]:
        """Undefined lengths, so that a hole inside does not change what stands around it."""
        if path.count("/") >= 2 * self._limits.depth:
            raise LimitExceeded(f"sequences are nested more than {self._limits.depth} deep")
        if not items:
            yield header(tag, "SQ", 0)
            return
        yield header(tag, "SQ", 0xFFFFFFFF)
        for number, item in enumerate(items):
            if not isinstance(item, dict):
                raise BadRequest(f"an item of {spell(tag)} is not a data set (PS3.18 F.2.2)")
            yield _ITEM
            for _, pieces in self.elements(item, f"{path}{spell(tag)}/{number}/"):
                yield from pieces
            yield _ITEM_END
        yield _SEQUENCE_END


def _tag(key: str) -> int:
    try:
        tag = int(key, 16)
    except ValueError:
        tag = -1
    if len(key) != 8 or tag < 0 or not key.isalnum():
        raise BadRequest("an attribute's name is not eight hexadecimal digits (PS3.18 F.2.2)")
    return tag


def _signed(dataset: Mapping[str, Any]) -> bool:
    found = dataset.get("00280103")
    return isinstance(found, dict) and found.get("Value") == [1]


def _inline(tag: int, vr: str, text: Any) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise BadRequest(f"the InlineBinary of {spell(tag)} is not base64 (PS3.18 F.2.7)") from error


def _value(tag: int, vr: str, values: list[Any]) -> bytes:
    if not values:
        return b""
    try:
        if vr in _STRUCTS:
            return b"".join(struct.pack("<" + _STRUCTS[vr], _number(vr, value)) for value in values if value is not None)
        if vr == "AT":
            return b"".join(struct.pack("<HH", int(value[:4], 16), int(value[4:], 16)) for value in values if value)
        if vr == "PN":
            return "\\".join(map(_name, values)).encode("utf-8")
        if vr in _TEXTS or vr in _CODES or vr in ("DS", "IS"):
            return "\\".join(_text(vr, value) for value in values).encode("utf-8" if vr in _TEXTS else "ascii")
    except (ArithmeticError, AttributeError, TypeError, ValueError, struct.error) as error:
        raise BadRequest(f"a value of {spell(tag)} is not one that {vr} can hold (PS3.5 6.2, PS3.18 F.2.3)") from error
    raise BadRequest(f"{spell(tag)} is {vr}, which has InlineBinary or BulkDataURI and no Value (PS3.18 F.2.2)")


def _number(vr: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    if vr in ("FD", "FL"):
        return _NOT_FINITE[value] if isinstance(value, str) and value in _NOT_FINITE else float(value)
    if isinstance(value, float) and not value.is_integer():
        raise ValueError
    return int(value)


def _name(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return "=".join(str(value.get(group) or "") for group in _GROUPS).rstrip("=")


def _text(vr: str, value: Any) -> str:
    if value is None:
        return ""
    if vr in ("DS", "IS"):
        return _decimal(value) if vr == "DS" else str(_number(vr, value) if not isinstance(value, str) else value)
    if not isinstance(value, str):
        raise TypeError
    return value


def _decimal(value: Any) -> str:
    """As many digits as go into the 16 characters of a DS."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        raise TypeError
    text = str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))
    digits = _LONGEST_DS
    while len(text) > _LONGEST_DS and digits:
        digits -= 1
        text = f"{float(value):.{digits}g}"
    return text
