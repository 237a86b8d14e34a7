"""Values of data elements as text, as rules have them, and as bytes, by VR (PS3.5 6.2)."""

from __future__ import annotations

import re
import struct
from typing import Any, Final

from storage.charsets import TERMS, Charset, charset_of, decode
from storage.coercion.tree import Bytes, DataSet
from storage.errors import NotCoercible
from storage.matching.times import moment

UTF_8: Final = "ISO_IR 192"
CHARACTER_SET: Final = 0x00080005
# VRs in the character set of (0008,0005) (PS3.5 6.1.2.2); the other text is ASCII.
IN_CHARACTER_SET: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_NUMBERS: Final = {"FD": "d", "FL": "f", "SL": "i", "SS": "h", "SV": "q", "UL": "I", "US": "H", "UV": "Q"}
# Most characters of one value (of a name: of one of its groups), and whether there may be several; 0: as many as fit.
TEXT: Final[dict[str, tuple[int, bool]]] = {
    "AE": (16, True), "AS": (4, True), "CS": (16, True), "DA": (8, True), "DS": (16, True), "DT": (26, True),
    "IS": (12, True), "LO": (64, True), "LT": (10240, False), "PN": (64, True), "SH": (16, True), "ST": (1024, False),
    "TM": (14, True), "UC": (0, True), "UI": (64, True), "UR": (0, False), "UT": (0, False),
}  # fmt: skip
_FORMS: Final = {
    "AE": (r"[ -\[\]-~]*", "an AE title"),
    "AS": (r"[0-9]{3}[DWMY]", "an age such as 045Y"),
    "CS": (r"[A-Z0-9_ ]*", "capital letters, digits, spaces and underscores"),
    "DA": (r"[0-9]{8}", "a date as YYYYMMDD"),
    "DS": (r" *[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)? *", "a decimal number"),
    "IS": (r" *[+-]?[0-9]+ *", "a whole number"),
    "TM": (r"([01][0-9]|2[0-3])([0-5][0-9]([0-5][0-9](\.[0-9]{1,6})?)?)?", "a time as HHMMSS"),
    "UI": (r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*", "a UID"),
    "UR": (r"[!-~]*", "a URI"),
}


def problem(vr: str, text: str) -> str:
    """What is wrong with `text` as the value of an attribute of `vr`; empty where nothing is."""
    if vr in _NUMBERS or vr == "AT":
        try:
            to_bytes(vr, text, Charset(), little=True)
        except (ValueError, struct.error, OverflowError):
            return f"is no value for {vr}"
        return ""
    if vr not in TEXT:
        return f"is of {vr}, which has no text that could be set"
    longest, several = TEXT[vr]
    if any(not (letter.isprintable() or (letter in "\r\n\t\f" and not several)) for letter in text):
        return "has control characters"
    for value in text.split("\\") if several else [text]:
        if not value:
            continue
        if vr == "DT" and moment(value) is None:
            return "is no date and time as YYYYMMDDHHMMSS"
        if vr in _FORMS and not re.fullmatch(_FORMS[vr][0], value, re.ASCII):
            return f"is not {_FORMS[vr][1]}, as {vr} wants it"
        if longest and max(map(len, value.split("=") if vr == "PN" else [value])) > longest:
            return f"is longer than the {longest} characters of {vr}"
    return ""


def fits(source: str, target: str) -> bool:
    """Whether every value of one VR is one of another."""
    if source == target:
        return True
    if source not in TEXT or target not in ("LO", "LT", "SH", "ST", "UC", "UT"):
        return False
    (longest, several), (room, many) = TEXT[source], TEXT[target]
    # Where there may be one value only, a backslash is a letter of it, and the other way round it would divide.
    return several == many and (not room or 0 < longest <= room) and source != "PN"


def to_text(vr: str, raw: Bytes, charset: Charset, *, little: bool) -> str:
    """A value, several with backslashes between them; empty for what has no text."""
    raw = bytes(raw)
    if vr in TEXT:
        return decode(raw.rstrip(b" \0") if vr not in ("UI",) else raw.strip(b" \0"), charset if vr in IN_CHARACTER_SET else Charset())[0]
    order = "<" if little else ">"
    if vr in _NUMBERS:
        number = struct.Struct(order + _NUMBERS[vr])
        return "\\".join(str(one) for (one,) in number.iter_unpack(raw[: len(raw) // number.size * number.size]))
    if vr == "AT":
        return "\\".join(f"{group:04X}{element:04X}" for group, element in struct.iter_unpack(order + "HH", raw[: len(raw) // 4 * 4]))
    return ""


def to_bytes(vr: str, text: str, charset: Charset, *, little: bool) -> bytes:
    """The same the other way; padded to even length. Raises UnicodeEncodeError where the character set lacks a letter."""
    order = "<" if little else ">"
    values = [one for one in text.split("\\") if one]
    if vr in _NUMBERS:
        numbers: list[Any] = [float(one) if vr in ("FD", "FL") else int(one) for one in values]
        return struct.pack(f"{order}{len(numbers)}{_NUMBERS[vr]}", *numbers)
    if vr == "AT":
        return b"".join(struct.pack(order + "HH", int(one, 16) >> 16, int(one, 16) & 0xFFFF) for one in values)
    raw = text.encode("ascii" if vr not in IN_CHARACTER_SET else _codec(text, charset))
    return raw + (b"\0" if vr == "UI" else b" ") * (len(raw) % 2)


def _codec(text: str, charset: Charset) -> str:
    """Nothing is switched to by escape sequences: what the first character set cannot say is written in UTF-8."""
    if text.isascii() or (charset.extended and charset.first == "ascii"):
        return "ascii"
    return charset.first


def charset_in(dataset: DataSet, outer: Charset) -> Charset:
    """The character set of a data set's text: its own, or that of what it is in (PS3.5 6.1.2.2)."""
    element = dataset.elements.get(CHARACTER_SET)
    if element is None:
        return outer
    text = bytes(element.value).decode("ascii", "replace").strip(" \0")
    if not text:
        return outer
    return charset_of(text.split("\\")) or outer


def to_utf_8(dataset: DataSet, outer: Charset, *, top: bool = True) -> None:
    """Write all text of a data set in UTF-8, and say so. Raises NotCoercible where some of it cannot be read."""
    charset = charset_in(dataset, outer)
    for element in list(dataset.elements.values()):
        if element.is_sequence:
            for item in element.items():
                to_utf_8(item, charset, top=False)
            element.changed()
        elif element.vr in IN_CHARACTER_SET:
            raw = bytes(element.value)
            if not raw.isascii() or b"\x1b" in raw:
                text, sound = decode(raw.rstrip(b" \0"), charset)
                if not sound:
                    raise NotCoercible(
                        "the data set has text that is not in the character set that it names, so that nothing can be"
                        " set which that character set lacks; correct Specific Character Set at the sender"
                    )
                encoded = text.encode()
                dataset.put(element.tag, element.vr, encoded + b" " * (len(encoded) % 2))
    if top or CHARACTER_SET in dataset.elements:
        dataset.put(CHARACTER_SET, "CS", UTF_8.encode())


def is_term(text: str) -> bool:
    """Whether it is a defined term for (0008,0005)."""
    return text in TERMS
