"""The PDUs of PS3.8 9.3 that are short or only framed: types, reasons, and the bytes of release, reject, abort and data."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from pacs.upper_layer.states import Event

HEADER: Final = struct.Struct(">BxI")
PDV_HEADER: Final = struct.Struct(">IBB")
_P_DATA_HEAD: Final = struct.Struct(">BxIIBB")

# The message control header's bits (annex E.2).
COMMAND_BIT: Final = 0x01
LAST_BIT: Final = 0x02


class PduType(IntEnum):
    """PS3.8 9.3.1."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


EVENT_OF: Final[dict[int, Event]] = {
    PduType.ASSOCIATE_RQ: Event.ASSOCIATE_RQ_RECEIVED,
    PduType.ASSOCIATE_AC: Event.ASSOCIATE_AC_RECEIVED,
    PduType.ASSOCIATE_RJ: Event.ASSOCIATE_RJ_RECEIVED,
    PduType.P_DATA: Event.P_DATA_RECEIVED,
    PduType.RELEASE_RQ: Event.RELEASE_RQ_RECEIVED,
    PduType.RELEASE_RP: Event.RELEASE_RP_RECEIVED,
    PduType.ABORT: Event.ABORT_RECEIVED,
}
# What follows the six bytes of the header of A-RELEASE-RQ, -RP, A-ASSOCIATE-RJ and A-ABORT (9.3.4, 9.3.6 to 9.3.8).
SHORT_LENGTH: Final = 4


class AbortSource(IntEnum):
    """PS3.8 table 9-26."""

    USER = 0
    PROVIDER = 2


class AbortReason(IntEnum):
    """PS3.8 table 9-26; of no meaning when the source is the user."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNIZED_PARAMETER = 4
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER = 6


class Reject(NamedTuple):
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""

    result: int
    source: int
    reason: int


NO_REASON: Final = Reject(1, 1, 1)
APPLICATION_CONTEXT_NOT_SUPPORTED: Final = Reject(1, 1, 2)
CALLING_AE_NOT_RECOGNIZED: Final = Reject(1, 1, 3)
CALLED_AE_NOT_RECOGNIZED: Final = Reject(1, 1, 7)
PROTOCOL_VERSION_NOT_SUPPORTED: Final = Reject(1, 2, 2)
# Authorisation by user identity has failed: by the service provider (ACSE), permanently, and without a reason (PS3.7 D.3.3.7.3).
IDENTITY_NOT_ACCEPTED: Final = Reject(1, 2, 1)
TEMPORARY_CONGESTION: Final = Reject(2, 3, 1)
LOCAL_LIMIT_EXCEEDED: Final = Reject(2, 3, 2)


class Violation(Exception):
    """A peer broke PS3.8: what, and at which byte of everything that it sent. `pdu` is the A-ABORT to send it."""

    def __init__(self, text: str, at: int, source: AbortSource, reason: AbortReason) -> None:
        super().__init__(f"{text} (at byte {at})")
        self.text = text
        self.at = at
        self.source = source
        self.reason = reason

    @property
    def pdu(self) -> bytes:
        """The A-ABORT that answers it."""
        return abort(self.source, self.reason)


class Foreign(Violation):
    """The peer speaks another protocol altogether."""


def reject(why: Reject) -> bytes:
    """A-ASSOCIATE-RJ (9.3.4)."""
    return bytes((PduType.ASSOCIATE_RJ, 0, 0, 0, 0, SHORT_LENGTH, 0, *why))


def release_request() -> bytes:
    """A-RELEASE-RQ (9.3.6)."""
    return bytes((PduType.RELEASE_RQ, 0, 0, 0, 0, SHORT_LENGTH, 0, 0, 0, 0))


def release_reply() -> bytes:
    """A-RELEASE-RP (9.3.7)."""
    return bytes((PduType.RELEASE_RP, 0, 0, 0, 0, SHORT_LENGTH, 0, 0, 0, 0))


def abort(source: AbortSource, reason: AbortReason = AbortReason.NOT_SPECIFIED) -> bytes:
    """A-ABORT (9.3.8)."""
    given = AbortReason.NOT_SPECIFIED if source is AbortSource.USER else reason
    return bytes((PduType.ABORT, 0, 0, 0, 0, SHORT_LENGTH, 0, 0, source, given))


def p_data(
    context_id: int, payload: bytes | memoryview, *, command: bool, max_length: int, last: bool = True
) -> Iterator[bytes | memoryview]:
    """P-DATA-TF PDUs (9.3.5) that carry `payload`, one PDV each, as buffers to be sent one after the other.

    `max_length` is the peer's limit on the PDU's variable field (annex D.1); it must be at least 7. An empty payload
    still makes one PDU. `last` False: more of the same message follows.
    """
    # A fragment has an even number of bytes, where it can (annex E.1).
    most = (max_length - PDV_HEADER.size) & ~1 or 1
    size = len(payload)
    whole = memoryview(payload)
    at = 0
    while True:
        piece = whole[at : at + most]
        at += len(piece)
        control = (COMMAND_BIT if command else 0) | (LAST_BIT if last and at >= size else 0)
        length = len(piece)
        yield _P_DATA_HEAD.pack(PduType.P_DATA, length + 6, length + 2, context_id, control)
        yield piece
        if at >= size:
            return
