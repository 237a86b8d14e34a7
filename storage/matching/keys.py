"""Stored values made comparable: the same key for what means the same, whichever way it was written."""

from __future__ import annotations

import unicodedata
from typing import Any

from storage.matching.names import LONGEST
from storage.matching.times import date_key, time_key

# Whole numbers (PS3.5 6.2).
WHOLE = frozenset({"IS", "SL", "SS", "SV", "UL", "US", "UV"})
DECIMAL = frozenset({"DS", "FD", "FL"})
# VRs in which `*` and `?` are wildcards (PS3.4 C.2.2.2.4).
WILD = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
# Free text, in which a search that is fuzzy makes no difference between capitals and small letters. Never codes or UIDs.
LOOSE = frozenset({"LO", "LT", "SH", "ST", "UC", "UT"})
# VRs whose value may contain a backslash (PS3.5 6.2): never a list.
UNDIVIDED = frozenset({"LT", "ST", "UR", "UT"})
# VRs in which several values in a key must all be there, where that is asked for (PS3.4 C.2.2.2.8).
MULTIPLE = frozenset({"AE", "AS", "AT", "CS", "LO", "PN", "SH", "UC"})
BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})

# What a column holds in place of nothing: text sorts first (and so last where the newest comes first), numbers last.
NO_TEXT = ""
NO_NUMBER = 2**63 - 1

Key = str | int | float


def text_key(text: str) -> str:
    """Text without padding (PS3.5 6.2: leading and trailing spaces are not significant), in one Unicode form."""
    return unicodedata.normalize("NFC", text.replace("\0", "").strip(" "))[:LONGEST].rstrip(" ")


def fold(text: str) -> str:
    """Text in small letters, of the same length; no other letter becomes one of ASCII, so that databases can narrow by those."""
    return text.lower() if text.isascii() else "".join(map(_small, text))


def _small(letter: str) -> str:
    small = letter.lower()
    return small if len(small) == 1 and small.isascii() == letter.isascii() else letter


def number_key(value: Any) -> int | None:
    """A whole number that 64 bits hold, or None."""
    try:
        number = int(str(value).strip())
    except ValueError:
        return None
    return number if -NO_NUMBER <= number < NO_NUMBER else None


def decimal_key(value: Any) -> float | None:
    """A number, or None."""
    try:
        return float(str(value).strip())
    except ValueError:
        return None


def key_of(vr: str, value: Any) -> Key | None:
    """The key of one value of the DICOM JSON model, person names and DT excepted; None for a value that says nothing."""
    if value is None:
        return None
    if vr in WHOLE:
        return number_key(value)
    if vr in DECIMAL:
        return decimal_key(value)
    text = text_key(str(value))
    if vr == "DA":
        return date_key(text)
    if vr == "TM":
        return time_key(text)
    if vr == "AT":
        text = text.upper()
    return text or None
