"""What identifiers are replaced by: the same each time, and not to be found out without the secret."""

from __future__ import annotations

import hashlib
import hmac
from datetime import date, timedelta
from typing import Final

_MOST_DAYS: Final = 3650
# UIDs of the standard's own name kinds of things, and nothing that anybody has.
_STANDARD: Final = "1.2.840.10008."
_WORD: Final = "DEIDENTIFIED"
_DUMMIES: Final = {
    "AE": _WORD, "AS": "000Y", "CS": _WORD, "DA": "19000101", "DS": "0", "DT": "19000101000000", "IS": "0", "LO": _WORD,
    "LT": _WORD, "PN": _WORD, "SH": _WORD, "ST": _WORD, "TM": "000000", "UC": _WORD, "UR": "deidentified", "UT": _WORD,
}  # fmt: skip


class Replacing:
    """Replacements for one patient's identifiers under one secret. `patient` is what tells this patient from others."""

    def __init__(self, secret: bytes, patient: str) -> None:
        self._secret = secret
        self._patient = patient
        self._days = int.from_bytes(self._digest("days", patient)[:8], "big") % _MOST_DAYS + 1

    @property
    def pseudonym(self) -> str:
        """A name and an ID for the patient: 16 letters and digits, the same for all that is sent of it."""
        return "P" + self._digest("patient", self._patient).hex()[:15].upper()

    def uid(self, uid: str) -> str:
        """Another UID, made of a UUID (PS3.5 B.2) of version 8 (RFC 9562 5.8); what the standard has registered stays."""
        if not uid or uid.startswith(_STANDARD):
            return uid
        number = int.from_bytes(self._digest("uid", uid)[:16], "big")
        return f"2.25.{number & ~(0xF << 76 | 0x3 << 62) | 0x8 << 76 | 0x2 << 62}"

    def moved(self, vr: str, text: str) -> str:
        """A date, or date and time, some days earlier, a time as it is; empty where it cannot be read."""
        if vr == "TM":
            return text
        return "\\".join(self._moved(one.strip()) for one in text.split("\\"))

    def _moved(self, text: str) -> str:
        try:
            day = date(int(text[:4]), int(text[4:6]), int(text[6:8])) - timedelta(days=self._days)
        except (ValueError, OverflowError):
            return ""
        return f"{day.year:04}{day.month:02}{day.day:02}{text[8:]}"

    def _digest(self, kind: str, text: str) -> bytes:
        return hmac.new(self._secret, f"{kind}\0{text}".encode("utf-8", "surrogatepass"), hashlib.sha256).digest()


def dummy(vr: str) -> bytes:
    """A value that says nothing, of even length."""
    raw = _DUMMIES.get(vr, "").encode("ascii") if vr in _DUMMIES else bytes(8)
    return raw + b" " * (len(raw) % 2)
