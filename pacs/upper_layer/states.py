"""The state machine of PS3.8 9.2 as data: the states, events and actions that occur for an association's acceptor.

Only the acceptor's side is here, and an acceptor never asks for release: Sta4, 5, 7 and 9 to 12 cannot occur, nor can the
events that begin them. What each action does is in `acceptor`; that the table is the standard's is tested cell by cell.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple


class State(IntEnum):
    """PS3.8 table 9-1 to 9-5, by the standard's numbers."""

    IDLE = 1
    AWAITING_REQUEST = 2
    AWAITING_ANSWER = 3
    DATA_TRANSFER = 6
    AWAITING_RELEASE_ANSWER = 8
    AWAITING_CLOSE = 13


class Event(IntEnum):
    """PS3.8 table 9-10, by the standard's numbers: what a peer sends, what we decide, what the transport does."""

    ASSOCIATE_AC_RECEIVED = 3
    ASSOCIATE_RJ_RECEIVED = 4
    CONNECTED = 5
    ASSOCIATE_RQ_RECEIVED = 6
    ACCEPT = 7
    REJECT = 8
    SEND_DATA = 9
    P_DATA_RECEIVED = 10
    RELEASE_RQ_RECEIVED = 12
    RELEASE_RP_RECEIVED = 13
    RELEASE = 14
    ABORT = 15
    ABORT_RECEIVED = 16
    CLOSED = 17
    ARTIM_EXPIRED = 18
    INVALID_PDU = 19


class Action(IntEnum):
    """PS3.8 tables 9-6 to 9-9."""

    AE_5 = 5
    AE_6 = 6
    AE_7 = 7
    AE_8 = 8
    DT_1 = 21
    DT_2 = 22
    AR_2 = 32
    AR_4 = 34
    AR_5 = 35
    AR_7 = 37
    AA_1 = 41
    AA_2 = 42
    AA_3 = 43
    AA_4 = 44
    AA_5 = 45
    AA_6 = 46
    AA_7 = 47
    AA_8 = 48


class Step(NamedTuple):
    """What to do, and the state that follows."""

    action: Action
    state: State


_S2, _S3, _S6 = State.AWAITING_REQUEST, State.AWAITING_ANSWER, State.DATA_TRANSFER
_S8, _S13, _IDLE = State.AWAITING_RELEASE_ANSWER, State.AWAITING_CLOSE, State.IDLE
_UNEXPECTED: Final = {
    _S2: Step(Action.AA_1, _S13),
    _S3: Step(Action.AA_8, _S13),
    _S6: Step(Action.AA_8, _S13),
    _S8: Step(Action.AA_8, _S13),
    _S13: Step(Action.AA_6, _S13),
}
_ABORTED: Final = Step(Action.AA_3, _IDLE)
_LOST: Final = Step(Action.AA_4, _IDLE)
_ABORTING: Final = Step(Action.AA_1, _S13)

# PS3.8 table 9-10: event -> state -> step. AE-6 goes to Sta13 instead when the protocol version is not supported.
TABLE: Final[dict[Event, dict[State, Step]]] = {
    Event.ASSOCIATE_AC_RECEIVED: _UNEXPECTED,
    Event.ASSOCIATE_RJ_RECEIVED: _UNEXPECTED,
    Event.CONNECTED: {_IDLE: Step(Action.AE_5, _S2)},
    Event.ASSOCIATE_RQ_RECEIVED: {
        **_UNEXPECTED,
        _S2: Step(Action.AE_6, _S3),
        _S13: Step(Action.AA_7, _S13),
    },
    Event.ACCEPT: {_S3: Step(Action.AE_7, _S6)},
    Event.REJECT: {_S3: Step(Action.AE_8, _S13)},
    Event.SEND_DATA: {_S6: Step(Action.DT_1, _S6), _S8: Step(Action.AR_7, _S8)},
    Event.P_DATA_RECEIVED: {**_UNEXPECTED, _S6: Step(Action.DT_2, _S6)},
    Event.RELEASE_RQ_RECEIVED: {**_UNEXPECTED, _S6: Step(Action.AR_2, _S8)},
    Event.RELEASE_RP_RECEIVED: _UNEXPECTED,
    Event.RELEASE: {_S8: Step(Action.AR_4, _S13)},
    Event.ABORT: {_S3: _ABORTING, _S6: _ABORTING, _S8: _ABORTING},
    Event.ABORT_RECEIVED: {
        _S2: Step(Action.AA_2, _IDLE),
        _S3: _ABORTED,
        _S6: _ABORTED,
        _S8: _ABORTED,
        _S13: Step(Action.AA_2, _IDLE),
    },
    Event.CLOSED: {
        _S2: Step(Action.AA_5, _IDLE),
        _S3: _LOST,
        _S6: _LOST,
        _S8: _LOST,
        _S13: Step(Action.AR_5, _IDLE),
    },
    Event.ARTIM_EXPIRED: {_S2: Step(Action.AA_2, _IDLE), _S13: Step(Action.AA_2, _IDLE)},
    Event.INVALID_PDU: {**_UNEXPECTED, _S13: Step(Action.AA_7, _S13)},
}
