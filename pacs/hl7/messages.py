"""One HL7 v2 message: its text by the character set that it says (MSH-18), its fields, and its acknowledgement. Pure.

Splitting is the library's (python-hl7); escapes are ours, for the library's write what it does not know into logs and let a
message ask for any number of spaces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import hl7

# Table 0211 and what else is seen in MSH-18.
CHARACTER_SETS: Final[Mapping[str, str]] = {
    "ASCII": "ascii",
    "8859/1": "latin-1",
    **{f"8859/{part}": f"iso8859-{part}" for part in (2, 3, 4, 5, 6, 7, 8, 9, 15)},
    "UNICODE UTF-8": "utf-8",
    "UTF-8": "utf-8",
    "ISO IR6": "ascii",
    "ISO IR14": "shift_jis",
    "ISO IR87": "iso2022_jp",
    "ISO IR159": "iso2022_jp_2",
    "GB 18030-2000": "gb18030",
    "KS X 1001": "euc_kr",
    "BIG-5": "big5",
}
# Those that switch by escape sequences, wherever they stand in the list.
_SWITCHING: Final = ("ISO IR159", "ISO IR87")
# Segments and separators: what a message of many would cost to take apart.
_MOST_PARTS: Final = 20_000
_ESCAPE_END: Final = 64


class Rejected(ValueError):
    """A message that is answered with AR or AE: `code` of table 0357, and where it was seen as SEGMENT^1^FIELD."""

    def __init__(self, code: int, text: str, where: str = "", *, application: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.where = where
        # AE: we understand such messages and cannot do what this one says. AR: we do not take such messages.
        self.application = application


MEANINGS: Final[Mapping[int, str]] = {
    100: "Segment sequence error",
    101: "Required field missing",
    102: "Data type error",
    103: "Table value not found",
    200: "Unsupported message type",
    201: "Unsupported event code",
    203: "Unsupported version id",
    204: "Unknown key identifier",
    205: "Duplicate key identifier",
    207: "Application internal error",
}


@dataclass(frozen=True, slots=True)
class Head:
    """What an acknowledgement needs of a message, which is read even where the rest cannot be."""

    application: str = ""
    facility: str = ""
    receiver: str = ""
    receiving_facility: str = ""
    kind: str = ""
    event: str = ""
    control_id: str = ""
    processing_id: str = "P"
    version: str = "2.5"
    character_sets: tuple[str, ...] = ()

    @property
    def sender(self) -> str:
        """Who sent it, as application and facility."""
        return f"{self.application}|{self.facility}"


def head_of(raw: bytes) -> Head:
    """The header of a message, as far as it can be read."""
    first = re.split(rb"[\r\n]", raw.lstrip(b"\r\n "), maxsplit=1)[0].decode("latin-1")
    if not first.startswith("MSH") or len(first) < 8:
        return Head()
    fields = first[3:].split(first[3])

    def field(number: int) -> str:
        found = fields[number - 1] if number - 1 < len(fields) else ""
        return "".join(letter for letter in found[:200] if letter.isascii() and letter.isprintable())

    kind, _, event = field(9).partition(first[4])
    return Head(
        application=field(3),
        facility=field(4),
        receiver=field(5),
        receiving_facility=field(6),
        kind=kind,
        event=event.split(first[4])[0],
        control_id=field(10),
        processing_id=field(11) or "P",
        version=field(12).split(first[4])[0] or "2.5",
        character_sets=tuple(one for one in re.split(f"[{re.escape(first[5])}{re.escape(first[4])}]", field(18)) if one),
    )


class Message:
    """A message of which the fields can be read. Numbers are those of the standard, from 1."""

    def __init__(self, raw: bytes) -> None:
        """Raises Rejected for what is no HL7 v2 message, or not in the character set that it says."""
        self.head = head_of(raw)
        _check(self.head, raw)
        text = _text(raw, self.head.character_sets)
        separators = text[3:8]
        if sum(text.count(one) for one in {*separators[:3], "\r"}) > _MOST_PARTS:
            raise Rejected(102, f"the message has more than {_MOST_PARTS} fields and segments; send less in one", "MSH")
        self._escape = separators[3] if len(separators) > 3 else "\\"
        self._unescaped = {
            "F": separators[0],
            "S": separators[1],
            "R": separators[2],
            "E": self._escape,
            "T": separators[4] if len(separators) > 4 else "&",
        }
        try:
            self._parsed: Any = hl7.parse(text)
        except Exception as error:
            raise Rejected(100, "the message cannot be taken apart: it begins with no sound MSH segment", "MSH") from error

    @property
    def segments(self) -> list[Segment]:
        """All segments, in their order."""
        return [Segment(str(one[0]), one, self._plain) for one in self._parsed]

    def segment(self, name: str) -> Segment:
        """The first segment of a name; an empty one where there is none."""
        return next((one for one in self.segments if one.name == name), Segment(name, (), self._plain))

    def _plain(self, text: str) -> str:
        """Text without escape sequences (HL7 2.5.1 2.7): those for letters are taken, those for the look of text left out."""
        if self._escape not in text:
            return text
        sign = re.escape(self._escape)
        return re.sub(f"{sign}([^{sign}]{{0,{_ESCAPE_END}}}){sign}", lambda found: self._meant(found.group(1)), text)

    def _meant(self, sequence: str) -> str:
        if sequence in self._unescaped:
            return self._unescaped[sequence]
        if sequence.startswith("X") and re.fullmatch("X([0-9A-Fa-f]{2})+", sequence):
            return bytes.fromhex(sequence[1:]).decode("latin-1")
        return " " if sequence.startswith((".br", ".sp", ".ce")) else ""


class Segment:
    """A segment; what it has not got is empty."""

    def __init__(self, name: str, fields: Sequence[Any], plain: Any) -> None:
        self.name = name
        self._fields = fields
        self._plain = plain

    def __bool__(self) -> bool:
        return bool(self._fields)

    def get(self, field: int, component: int = 1, subcomponent: int = 1, repetition: int = 1) -> str:
        """Text of one part of a field. A single quotation in pairs (`""`), which deletes, is empty too."""
        part = _at(_at(_at(self._repetitions(field), repetition), component), subcomponent)
        while isinstance(part, list):
            part = _at(part, 1)
        text: str = self._plain(str(part or "")).strip()
        return "" if text == '""' else text

    def deletes(self, field: int) -> bool:
        """Whether a field is to be emptied: it is `""`."""
        return str(_at(self._fields, field + 1) or "") == '""'

    def repetitions(self, field: int) -> range:
        """Numbers of the repetitions that a field has."""
        return range(1, len(self._repetitions(field)) + 1)

    def _repetitions(self, field: int) -> Sequence[Any]:
        found = _at(self._fields, field + 1)
        return found if isinstance(found, list) else []


def _at(parts: Any, number: int) -> Any:
    """The part of that number; text without separators is its own first part."""
    if isinstance(parts, list | tuple):
        return parts[number - 1] if 0 < number <= len(parts) else None
    return parts if number == 1 else None


def _check(head: Head, raw: bytes) -> None:
    if not raw.lstrip(b"\r\n ").startswith(b"MSH"):
        raise Rejected(100, "the message does not begin with MSH", "MSH")
    if not head.kind:
        raise Rejected(101, "MSH-9 says no message type", "MSH^1^9")
    if not head.control_id:
        raise Rejected(101, "MSH-10 has no message control id", "MSH^1^10")
    if not head.version.startswith("2."):
        raise Rejected(203, "MSH-12 is no version of HL7 v2", "MSH^1^12")


def _text(raw: bytes, character_sets: Sequence[str]) -> str:
    """The message as text, its segments ended by carriage returns whatever ended them. Raises Rejected."""
    unknown = next((one for one in character_sets if one not in CHARACTER_SETS), None)
    if unknown is not None:
        raise Rejected(103, f"MSH-18 names a character set that is not known; use {', '.join(CHARACTER_SETS)}", "MSH^1^18")
    named = next((one for one in _SWITCHING if one in character_sets), next(iter(character_sets), None))
    try:
        # Nothing is said: UTF-8 can be told from everything else, and Latin-1 is the commonest of that.
        text = raw.decode(CHARACTER_SETS[named] if named else "utf-8")
    except UnicodeDecodeError:
        if named:
            raise Rejected(102, "the message is not in the character set that MSH-18 says", "MSH^1^18") from None
        text = raw.decode("latin-1")
    return text.replace("\r\n", "\r").replace("\n", "\r").lstrip("\r ")


def acknowledgement(head: Head, code: str, control_id: str, now: str, refused: Rejected | None = None) -> bytes:
    """The ACK of a message: `code` is AA, AE or AR, `control_id` its own, `now` YYYYMMDDHHMMSS. In ASCII.

    A refusal is in MSA-3 for versions before 2.5, and in ERR as those after it have it.
    """
    kind = f"ACK^{head.event}^ACK" if head.event else "ACK"
    msh = ["MSH", "^~\\&", head.receiver, head.receiving_facility, head.application, head.facility, now, "", kind]
    lines = ["|".join([*msh, control_id, head.processing_id, head.version])]
    text = _escaped(str(refused)) if refused else ""
    lines.append("|".join(["MSA", code, head.control_id, *([text[:80]] if refused else [])]))
    if refused:
        meaning = f"{refused.code}^{MEANINGS[refused.code]}^HL70357"
        lines.append("|".join(["ERR", "", refused.where, meaning, "E", "", "", "", text]))
    return ("\r".join(lines) + "\r").encode("ascii", "replace")


def _escaped(text: str) -> str:
    for letter, sequence in (("\\", "\\E\\"), ("|", "\\F\\"), ("^", "\\S\\"), ("~", "\\R\\"), ("&", "\\T\\")):
        text = text.replace(letter, sequence)
    return text
