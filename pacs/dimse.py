"""DIMSE command sets, statuses and the order of a message's fragments (PS3.7); no sockets.

A command set is a dict of the standard's keywords (`MessageID`, `AffectedSOPClassUID`, …) with plain values: integers for
US and UL, text without padding for the others, tuples of tags for AT. Tags and VRs come from pydicom's dictionary.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

Command = dict[str, Any]

# CommandDataSetType (0000,0800): this value says that no data set follows, any other that one does (PS3.7 annex E.1).
NO_DATA_SET: Final = 0x0101
_DATA_SET: Final = 0x0001
RESPONSE_BIT: Final = 0x8000
# LO: at most 64 characters (PS3.5 6.2).
LONGEST_COMMENT: Final = 64


class CommandField(IntEnum):
    """(0000,0100) of the requests (PS3.7 table E.1-1 ff.); a response has `RESPONSE_BIT` too."""

    C_STORE = 0x0001
    C_GET = 0x0010
    C_FIND = 0x0020
    C_MOVE = 0x0021
    C_ECHO = 0x0030
    N_EVENT_REPORT = 0x0100
    N_GET = 0x0110
    N_SET = 0x0120
    N_ACTION = 0x0130
    N_CREATE = 0x0140
    N_DELETE = 0x0150
    C_CANCEL = 0x0FFF


_NORMALIZED: Final = frozenset(
    {
        CommandField.N_EVENT_REPORT,
        CommandField.N_GET,
        CommandField.N_SET,
        CommandField.N_ACTION,
        CommandField.N_CREATE,
        CommandField.N_DELETE,
    }
)


class Status(IntEnum):
    """(0000,0900): those that are the same for every service (PS3.7 annex C), and C-FIND's (PS3.4 table C.4-1)."""

    SUCCESS = 0x0000
    INVALID_ATTRIBUTE_VALUE = 0x0106
    PROCESSING_FAILURE = 0x0110
    DUPLICATE_SOP_INSTANCE = 0x0111
    NO_SUCH_SOP_INSTANCE = 0x0112
    NO_SUCH_EVENT_TYPE = 0x0113
    INVALID_ARGUMENT_VALUE = 0x0115
    INVALID_SOP_INSTANCE = 0x0117
    MISSING_ATTRIBUTE = 0x0120
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NO_SUCH_ACTION_TYPE = 0x0123
    NOT_AUTHORIZED = 0x0124
    UNRECOGNIZED_OPERATION = 0x0211
    MISTYPED_ARGUMENT = 0x0212
    RESOURCE_LIMITATION = 0x0213
    COERCION = 0xB000
    CANCEL = 0xFE00
    PENDING = 0xFF00
    PENDING_WITHOUT_SOME_KEYS = 0xFF01


# The status class Pending: other responses follow (PS3.7 annex C).
PENDING: Final = frozenset({Status.PENDING, Status.PENDING_WITHOUT_SOME_KEYS})


class Malformed(ValueError):
    """A command set that cannot be read, or a message whose fragments are out of order; the text says where."""


def encode(command: Mapping[str, Any]) -> bytes:
    """A command set in Implicit VR Little Endian with its group length first (PS3.7 6.3.1). None values are left out."""
    elements: list[tuple[int, bytes]] = []
    for keyword, value in command.items():
        if value is not None:
            tag, vr = _element(keyword)
            elements.append((tag, _encode_value(vr, value)))
    elements.sort()
    body = b"".join(struct.pack("<HHI", 0, tag, len(value)) + value for tag, value in elements)
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


@functools.cache
def _element(keyword: str) -> tuple[int, str]:
    tag = tag_for_keyword(keyword)
    if tag is None or tag > 0xFFFF:
        raise KeyError(keyword)
    return tag, dictionary_VR(tag)


def _encode_value(vr: str, value: Any) -> bytes:
    if vr == "US":
        return struct.pack("<H", value)
    if vr == "UL":
        return struct.pack("<I", value)
    if vr == "AT":
        return b"".join(struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in value)
    text = str(value).encode("ascii", "replace")
    return text + (b"\0" if vr == "UI" else b" ") * (len(text) % 2)


def decode(data: bytes | bytearray | memoryview) -> Command:
    """Read a command set. Raises Malformed; elements that the dictionary does not know are passed over."""
    command: Command = {}
    at, end = 0, len(data)
    while at < end:
        if end - at < 8:
            raise Malformed(f"{end - at} bytes are left at byte {at} of the command set, too few for an element")
        group, element, length = struct.unpack_from("<HHI", data, at)
        if group:
            raise Malformed(f"element ({group:04X},{element:04X}) at byte {at} is not one of a command set")
        at += 8
        if length > end - at:
            raise Malformed(f"element (0000,{element:04X}) says {length} bytes, and {end - at} are left")
        keyword, vr = _known(element)
        if keyword:
            command[keyword] = _decode_value(element, vr, bytes(data[at : at + length]))
        at += length
    _check(command)
    return command


_NUMBERS: Final = {"US": struct.Struct("<H"), "UL": struct.Struct("<I")}


@functools.cache
def _known(element: int) -> tuple[str, str]:
    """Keyword and VR of an element of group 0000; both empty where there is none. There are 65,536 at most."""
    keyword = keyword_for_tag(element)
    return (keyword, dictionary_VR(element)) if keyword else ("", "")


def _decode_value(element: int, vr: str, value: bytes) -> Any:
    if vr in _NUMBERS:
        number = _NUMBERS[vr]
        if len(value) % number.size or not value:
            raise Malformed(f"element (0000,{element:04X}) has {len(value)} bytes, which is no {vr} value")
        return number.unpack_from(value)[0]
    if vr == "AT":
        pairs = struct.iter_unpack("<HH", value[: len(value) // 4 * 4])
        return tuple(group << 16 | element for group, element in pairs)
    # Some senders pad UIDs with spaces, and text with nulls (PS3.5 6.2 has it the other way round).
    text = value.strip(b" \0").decode("ascii", "backslashreplace")
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _check(command: Command) -> None:
    """What every message must have to be understood and answered (PS3.7 annex E)."""
    for keyword in ("CommandField", "CommandDataSetType"):
        if keyword not in command:
            raise Malformed(f"the command set has no {keyword}")
    field = command["CommandField"]
    identifier = "MessageIDBeingRespondedTo" if field & RESPONSE_BIT or field == CommandField.C_CANCEL else "MessageID"
    if identifier not in command:
        raise Malformed(f"the command set has no {identifier}")


def is_normalized(command: Command) -> bool:
    """Whether it is of DIMSE-N (PS3.7 10), request or response."""
    return int(command["CommandField"]) & ~RESPONSE_BIT in _NORMALIZED


def has_data_set(command: Command) -> bool:
    """Whether a data set follows the command set."""
    return bool(command["CommandDataSetType"] != NO_DATA_SET)


def request(field: CommandField, message_id: int, *, data_set: bool, **more: Any) -> Command:
    """A request (PS3.7 9.3, 10.3); `more` are further elements, None where there is none."""
    return {
        "CommandField": field,
        "MessageID": message_id,
        "CommandDataSetType": _DATA_SET if data_set else NO_DATA_SET,
        **more,
    }


def respond(request: Command, status: int, *, data_set: bool = False, **more: Any) -> Command:
    """The response to a request (PS3.7 9.3, 10.3): its SOP Class UID is echoed; `more` are further elements.

    That of a DIMSE-N request also names its instance, and the type of event or action. An ErrorComment is cut, between two
    words, to the 64 characters that LO may have.
    """
    if more.get("ErrorComment"):
        more["ErrorComment"] = _shortened(str(more["ErrorComment"]))
    if is_normalized(request):
        instance = request.get("AffectedSOPInstanceUID") or request.get("RequestedSOPInstanceUID")
        echoed = {keyword: request.get(keyword) for keyword in ("EventTypeID", "ActionTypeID")}
        more = {"AffectedSOPInstanceUID": instance or None, **echoed, **more}
    return {
        "AffectedSOPClassUID": request.get("AffectedSOPClassUID") or request.get("RequestedSOPClassUID") or None,
        "CommandField": request["CommandField"] | RESPONSE_BIT,
        "MessageIDBeingRespondedTo": request["MessageID"],
        "CommandDataSetType": _DATA_SET if data_set else NO_DATA_SET,
        "Status": int(status),
        **more,
    }


def _shortened(comment: str) -> str:
    if len(comment) <= LONGEST_COMMENT:
        return comment
    cut = comment[: LONGEST_COMMENT - 3]
    return f"{cut.rpartition(' ')[0].rstrip(',;:') or cut}..."


class CommandAssembly:
    """Puts the fragments of a command set together, within a limit (PS3.8 annex E: command first, then data set)."""

    __slots__ = ("_bytes", "_context_id", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = bytearray()
        self._context_id = 0

    @property
    def begun(self) -> bool:
        """Whether a part of a command set is here."""
        return self._context_id != 0

    def add(self, context_id: int, command: bool, last: bool, data: bytes | memoryview) -> Command | None:
        """Take a fragment; the command set when it was the last. Raises Malformed."""
        if not command:
            raise Malformed("data set bytes came where a command set begins")
        if self._context_id not in (0, context_id):
            raise Malformed(f"a command set goes on in presentation context {context_id}, not {self._context_id}")
        if len(self._bytes) + len(data) > self._limit:
            raise Malformed(f"a command set is over the limit of {self._limit} bytes")
        self._context_id = context_id
        self._bytes += data
        if not last:
            return None
        whole, self._bytes, self._context_id = self._bytes, bytearray(), 0
        return decode(whole)
