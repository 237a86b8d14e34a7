"""Text of data elements in any Specific Character Set (PS3.3 C.12.1.1.2, PS3.5 6.1), decoded without raising."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pydicom.charset import CODES_TO_ENCODINGS, python_encoding

_ESCAPE = b"\x1b"
# Character sets of several bytes that are switched to by an escape sequence and keep it for Python's decoder.
_KEEP_ESCAPE = frozenset({"iso2022_jp", "iso2022_jp_2", "iso-2022-jp"})
# The character set in force falls back to the first one after these (PS3.5 6.1.2.5.3).
_RESETS = frozenset(b"\\\r\n\f\t^=")
_CODES = sorted(CODES_TO_ENCODINGS.items(), key=lambda pair: -len(pair[0]))


class Charset(NamedTuple):
    """A Specific Character Set as Python's decoders know it: the first, and whether others are switched to."""

    first: str = "ascii"
    extended: bool = False


DEFAULT = Charset()


def charset_of(values: Sequence[str]) -> Charset | None:
    """The character set for the values of (0008,0005); None when one of its terms is not in the standard."""
    terms = [value.strip() for value in values]
    try:
        codecs = [_codec(term) for term in terms]
    except KeyError:
        return None
    if not codecs:
        return DEFAULT
    return Charset(codecs[0], len(codecs) > 1 or terms[0].startswith("ISO 2022"))


def _codec(term: str) -> str:
    if term in python_encoding:
        return _strict(python_encoding[term])
    # Seen in the field: "ISO IR 100", "ISO-IR 100", "ISO_IR_100", "iso_ir 100", "ISO 2022 IR100", "ISO 2022_IR 100".
    plain = term.upper().replace("_", " ").replace("-", " ").split()
    for written in ("ISO_IR " + plain[-1].removeprefix("IR"), "ISO 2022 IR " + plain[-1].removeprefix("IR")) if plain else ():
        if written in python_encoding and (written.startswith("ISO 2022") == ("2022" in plain)):
            return _strict(python_encoding[written])
    raise KeyError(term)


def _strict(codec: str) -> str:
    """The default repertoire is ASCII (ISO-IR 6); pydicom reads it as Latin-1, which hides wrong bytes."""
    return "ascii" if codec == "iso8859" else codec


def decode(raw: bytes, charset: Charset) -> tuple[str, bool]:
    """The text, and whether every byte of it could be read; what could not is U+FFFD, or Latin-1 under ASCII."""
    if raw.isascii() and _ESCAPE not in raw:
        return raw.decode("ascii"), True
    if _ESCAPE in raw and charset.extended:
        return _switching(raw, charset)
    return _plain(raw, charset.first)


def _plain(raw: bytes, codec: str) -> tuple[str, bool]:
    try:
        return raw.decode(codec), True
    except (UnicodeDecodeError, LookupError):
        pass
    if codec == "ascii":
        # No character set declared but used: UTF-8 is recognisable, else Latin-1 is the commonest guess.
        try:
            return raw.decode("utf-8"), False
        except UnicodeDecodeError:
            return raw.decode("latin-1"), False
    return raw.decode(codec, "replace"), False


def _switching(raw: bytes, charset: Charset) -> tuple[str, bool]:
    head, *rest = raw.split(_ESCAPE)
    text, sound = _plain(head, charset.first) if head else ("", True)
    pieces = [text]
    for piece in rest:
        text, good = _fragment(_ESCAPE + piece, charset)
        pieces.append(text)
        sound = sound and good
    return "".join(pieces), sound


def _fragment(piece: bytes, charset: Charset) -> tuple[str, bool]:
    """One run that begins with an escape sequence."""
    known = next((pair for pair in _CODES if piece.startswith(pair[0])), None)
    if known is None:
        return _plain(piece[1:], charset.first)[0], False
    code, codec = known[0], _strict(known[1])
    if codec in _KEEP_ESCAPE:
        return _plain(piece, codec)
    body = piece[len(code) :]
    # Two-byte sets in the right half (Korean, Simplified Chinese) end at a delimiter; the first set is back then.
    cut = next((at for at, byte in enumerate(body) if byte in _RESETS), len(body))
    text, good = _plain(body[:cut], codec)
    tail, fine = _plain(body[cut:], charset.first) if cut < len(body) else ("", True)
    return text + tail, good and fine
