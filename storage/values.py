"""Values of data elements, from bytes to the DICOM JSON model, one decoder per VR (PS3.5 6.2, PS3.18 F.2)."""

from __future__ import annotations

import math
import struct
from array import array
from base64 import b64encode
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from storage.charsets import Charset, decode


class Text(NamedTuple):
    """What a decoder needs to know besides the bytes."""

    charset: Charset
    little: bool


# Values for the JSON (None: the attribute has none), and the code of what was odd about them. A plain tuple: one is
# made for each element of each instance.
Decoded = tuple[list[Any] | None, str]
Decoder = Callable[[bytes, Text], Decoded]

_EMPTY: Decoded = (None, "")
_PAD = b" \0"


def _codes(raw: bytes, _text: Text) -> Decoded:
    """AE, AS, CS, DA, DT, TM, UI: several values in the default repertoire, spaces around them not significant."""
    raw = raw.strip(_PAD)
    if not raw:
        return _EMPTY
    odd = ""
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError:
        text, odd = raw.decode("latin-1"), "unreadable-text"
    if "\\" not in text:
        return [text], odd
    return [part.strip(" \0") or None for part in text.split("\\")], odd


def _strings(raw: bytes, text: Text) -> Decoded:
    """LO, SH, UC: several values in the Specific Character Set."""
    raw = raw.rstrip(_PAD)
    if not raw:
        return _EMPTY
    if raw.isascii() and b"\x1b" not in raw:
        decoded, sound = raw.decode("ascii"), True
    else:
        decoded, sound = decode(raw, text.charset)
    values = [decoded] if "\\" not in decoded else [part.rstrip(" \0") or None for part in decoded.split("\\")]
    return values, "" if sound else "unreadable-text"


def _prose(raw: bytes, text: Text) -> Decoded:
    """ST, LT, UT, UR: one value, in which a backslash is a backslash; leading spaces are significant."""
    raw = raw.rstrip(_PAD)
    if not raw:
        return _EMPTY
    decoded, sound = decode(raw, text.charset)
    return [decoded], "" if sound else "unreadable-text"


def _names(raw: bytes, text: Text) -> Decoded:
    """PN: objects with their component groups (PS3.18 F.2.2)."""
    raw = raw.rstrip(_PAD)
    if not raw:
        return _EMPTY
    decoded, sound = decode(raw, text.charset)
    values = [_name(part) for part in decoded.split("\\")]
    if not any(values):
        return _EMPTY
    return values, "" if sound else "unreadable-text"


def _name(text: str) -> dict[str, str] | None:
    groups = (group.rstrip(" \0") for group in text.split("="))
    named = zip(("Alphabetic", "Ideographic", "Phonetic"), groups, strict=False)
    return {kind: group for kind, group in named if group} or None


def _number(text: bytes, whole: bool) -> Any:
    """An IS or DS as a number, or as the text that it is when it is none (flagged by its type)."""
    # DS has 16 characters at most, IS 12; what is longer is not worth remembering, and may be huge.
    return _remembered(text, whole) if len(text) <= 32 else _read(text, whole)


def _read(text: bytes, whole: bool) -> Any:
    text = text.strip(_PAD)
    if not text:
        return None
    try:
        number = int(text) if whole else float(text)
    except ValueError:
        return _nearly(text, whole)
    # Underscores are Python's, not the standard's; an IS is 12 characters, but more are read as long as JSON has them.
    if b"_" in text or (whole and abs(number) >= 1 << 53) or not math.isfinite(number):
        return text.decode("latin-1")
    return number


_remembered = lru_cache(4096)(_read)


def _nearly(text: bytes, whole: bool) -> Any:
    """IS written as `1.0` is seen in the field and means 1."""
    if whole:
        try:
            number = float(text)
        except ValueError:
            return text.decode("latin-1")
        if number.is_integer():
            return int(number)
    return text.decode("latin-1")


def _numbers(whole: bool) -> Decoder:
    def decoder(raw: bytes, _text: Text) -> Decoded:
        values = [_number(part, whole) for part in raw.split(b"\\")]
        if values == [None]:
            return _EMPTY
        return values, "bad-number" if any(type(value) is str for value in values) else ""

    return decoder


def _binary(code: str, spelled: Callable[[Any], Any] | None = None) -> Decoder:
    """Numbers of this `struct` code; `spelled` is how JSON has one, where not every one of them is a number there."""
    little, big = struct.Struct("<" + code), struct.Struct(">" + code)
    size = little.size
    typecode = {"h": "h", "H": "H", "i": "i", "I": "I", "q": "q", "Q": "Q", "f": "f", "d": "d"}[code]

    def decoder(raw: bytes, text: Text) -> Decoded:
        if len(raw) == size:
            (value,) = (little if text.little else big).unpack(raw)
            return [spelled(value) if spelled else value], ""
        usable = len(raw) // size * size
        if not usable:
            return None, "bad-length" if raw else ""
        numbers = array(typecode, raw[:usable])
        if text.little != _NATIVE_LITTLE:
            numbers.byteswap()
        values = list(map(spelled, numbers)) if spelled else numbers.tolist()
        return values, "" if usable == len(raw) else "bad-length"

    return decoder


_NATIVE_LITTLE = struct.pack("=H", 1) == b"\x01\x00"


def _real(value: float) -> float | str:
    """JSON has no infinities: PS3.18 F.2.3 has them as strings."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _long(value: int) -> int | str:
    """Most readers of JSON have numbers of 53 bits (RFC 8259 6): what is larger is a string (PS3.18 F.2.3)."""
    return value if -(1 << 53) < value < 1 << 53 else str(value)


def _tags(raw: bytes, text: Text) -> Decoded:
    """AT: eight hexadecimal digits each."""
    pairs = struct.unpack(f"{'<' if text.little else '>'}{len(raw) // 4 * 2}H", raw[: len(raw) // 4 * 4])
    values = [f"{pairs[at]:04X}{pairs[at + 1]:04X}" for at in range(0, len(pairs), 2)]
    return values or None, "bad-length" if len(raw) % 4 else ""


DECODERS: dict[str, Decoder] = {
    **dict.fromkeys(("AE", "AS", "CS", "DA", "DT", "TM", "UI"), _codes),
    **dict.fromkeys(("LO", "SH", "UC"), _strings),
    **dict.fromkeys(("ST", "LT", "UT", "UR"), _prose),
    "PN": _names,
    "IS": _numbers(whole=True),
    "DS": _numbers(whole=False),
    "SS": _binary("h"),
    "US": _binary("H"),
    "SL": _binary("i"),
    "UL": _binary("I"),
    "SV": _binary("q", _long),
    "UV": _binary("Q", _long),
    "FL": _binary("f", _real),
    "FD": _binary("d", _real),
    "AT": _tags,
}

# Bytes that the JSON carries as base64 or refers to (PS3.18 F.2.6, F.2.7), and the size of the words in them.
BULK_VRS: dict[str, int] = {"OB": 1, "UN": 1, "OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}


def inline(raw: bytes, vr: str, little: bool) -> str:
    """InlineBinary: base64 of the value in little endian order (PS3.18 F.2.7)."""
    size = BULK_VRS[vr]
    if size > 1 and not little:
        words = array({2: "H", 4: "I", 8: "Q"}[size], raw[: len(raw) // size * size])
        words.byteswap()
        raw = words.tobytes()
    return b64encode(raw).decode("ascii")
