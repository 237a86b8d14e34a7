"""Text of data elements in any Specific Character Set (PS3.3 C.12.1.1.2, PS3.5 6.1), decoded without raising."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from pydicom.charset import CODES_TO_ENCODINGS, python_encoding

_ESCAPE = b"\x1b"
# Character sets of several bytes that are switched to by an escape sequence and keep it for Python's decoder.
_KEEP_ESCAPE = frozenset({"iso2022_jp", "iso2022_jp_2", "iso-2022-jp"})
# The character set in force falls back to the first one after these (PS3.5 6.1.2.5.3).
_RESETS = re.compile(rb"[\\\r\n\f\t^=]")
# Latin alphabet No. 9 came with PS3.3 2023b (CP 2222), after pydicom's table.
TERMS = {**python_encoding, "ISO_IR 203": "iso8859_15", "ISO 2022 IR 203": "iso8859_15"}
_CODES = {**CODES_TO_ENCODINGS, b"\x1b-b": "iso8859_15"}
_SWITCH = re.compile(b"|".join(re.escape(code) for code in sorted(_CODES, key=len, reverse=True)))
# A report in Japanese may switch at every line; a value that does so more often than this is made to waste our time.
_MOST_SWITCHES = 100_000


class Charset(NamedTuple):
    """A Specific Character Set as Python's decoders know it: the first, and whether others are switched to."""

    first: str = "ascii"
    extended: bool = False


DEFAULT = Charset()


def charset_of(values: Iterable[object]) -> Charset | None:
    """The character set for the values of (0008,0005); None when one of its terms is not in the standard."""
    terms = [value.strip() if isinstance(value, str) else "?" for value in values]
    try:
        codecs = [_codec(term) for term in terms]
    except KeyError:
        return None
    if not codecs:
        return DEFAULT
    return Charset(codecs[0], len(codecs) > 1 or terms[0].startswith("ISO 2022"))


def _codec(term: str) -> str:
    if term in TERMS:
        return _strict(TERMS[term])
    # Seen in the field: "ISO IR 100", "ISO-IR 100", "ISO_IR_100", "iso_ir 100", "ISO 2022 IR100", "ISO 2022_IR 100".
    plain = term.upper().replace("_", " ").replace("-", " ").split()
    for written in ("ISO_IR " + plain[-1].removeprefix("IR"), "ISO 2022 IR " + plain[-1].removeprefix("IR")) if plain else ():
        if written in TERMS and (written.startswith("ISO 2022") == ("2022" in plain)):
            return _strict(TERMS[written])
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
    """Code extensions (PS3.5 6.1.2.5): each run of bytes is read by the set that the escape sequence before it names."""
    pieces: list[str] = []
    sound, begun, codec = True, 0, ""
    for times, switch in enumerate(_SWITCH.finditer(raw)):
        if times == _MOST_SWITCHES:
            return _plain(raw, charset.first)[0], False
        text, good = _run(raw[begun : switch.start()], codec, charset)
        pieces.append(text)
        sound = sound and good
        codec = _strict(_CODES[switch.group()])
        begun = switch.start() if codec in _KEEP_ESCAPE else switch.end()
    text, good = _run(raw[begun:], codec, charset)
    pieces.append(text)
    return "".join(pieces), sound and good


def _run(raw: bytes, codec: str, charset: Charset) -> tuple[str, bool]:
    """The bytes between two escape sequences. `codec` is empty before the first."""
    if not codec:
        return _plain(raw, charset.first) if _ESCAPE not in raw else (_plain(raw, charset.first)[0], False)
    if codec in _KEEP_ESCAPE:
        return _plain(raw, codec)
    # Two-byte sets in the right half (Korean, Simplified Chinese) end at a delimiter; the first set is back then.
    reset = _RESETS.search(raw)
    if reset is None:
        return _plain(raw, codec)
    text, good = _plain(raw[: reset.start()], codec)
    tail, fine = _plain(raw[reset.start() :], charset.first)
    return text + tail, good and fine
