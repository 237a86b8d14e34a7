"""The state machine of PS3.8 9.2 as data: the whole of table 9-10.

What each action does is in `machine`, `acceptor` and `requestor`; that the table is the standard's is tested cell by cell.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple


class State(IntEnum):
    """PS3.8 table 9-1 to 9-5, by the standard's numbers."""

    IDLE = 1
    AWAITING_REQUEST = 2
    AWAITING_ANSWER = 3
    CONNECTING = 4
    AWAITING_ACCEPTANCE = 5
    DATA_TRANSFER = 6
    AWAITING_RELEASE_REPLY = 7
    AWAITING_RELEASE_ANSWER = 8
    COLLISION_REQUESTOR_ANSWERS = 9
    COLLISION_ACCEPTOR_WAITS = 10
    COLLISION_REQUESTOR_WAITS = 11
    COLLISION_ACCEPTOR_ANSWERS = 12
    AWAITING_CLOSE = 13


class Event(IntEnum):
    """PS3.8 table 9-10, by the standard's numbers: what a peer sends, what we decide, what the transport does."""

    ASSOCIATE = 1
    CONNECTION_CONFIRMED = 2
    ASSOCIATE_AC_RECEIVED = 3
    ASSOCIATE_RJ_RECEIVED = 4
    CONNECTED = 5
    ASSOCIATE_RQ_RECEIVED = 6
    ACCEPT = 7
    REJECT = 8
    SEND_DATA = 9
    P_DATA_RECEIVED = 10
    REQUEST_RELEASE = 11
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

    AE_1 = 1
    AE_2 = 2
    AE_3 = 3
    AE_4 = 4
    AE_5 = 5
    AE_6 = 6
    AE_7 = 7
    AE_8 = 8
    DT_1 = 21
    DT_2 = 22
    AR_1 = 31
    AR_2 = 32
    AR_3 = 33
    AR_4 = 34
    AR_5 = 35
    AR_6 = 36
    AR_7 = 37
    AR_8 = 38
    AR_9 = 39
    AR_10 = 40
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


_IDLE, _S2, _S3, _S4, _S5, _S6, _S7, _S8, _S9, _S10, _S11, _S12, _S13 = State
# The states of an association that has been asked for, and is not over yet.
_ASSOCIATED: Final = (_S3, _S5, _S6, _S7, _S8, _S9, _S10, _S11, _S12)
_UNEXPECTED: Final = {
    _S2: Step(Action.AA_1, _S13),
    **dict.fromkeys(_ASSOCIATED, Step(Action.AA_8, _S13)),
    _S13: Step(Action.AA_6, _S13),
}

# PS3.8 table 9-10: event -> state -> step. AE-6 goes to Sta13 instead when the protocol version is not supported; AR-8 to Sta10
# on the acceptor's side.
TABLE: Final[dict[Event, dict[State, Step]]] = {
    Event.ASSOCIATE: {_IDLE: Step(Action.AE_1, _S4)},
    Event.CONNECTION_CONFIRMED: {_S4: Step(Action.AE_2, _S5)},
    Event.ASSOCIATE_AC_RECEIVED: {**_UNEXPECTED, _S5: Step(Action.AE_3, _S6)},
    Event.ASSOCIATE_RJ_RECEIVED: {**_UNEXPECTED, _S5: Step(Action.AE_4, _IDLE)},
    Event.CONNECTED: {_IDLE: Step(Action.AE_5, _S2)},
    Event.ASSOCIATE_RQ_RECEIVED: {
        **_UNEXPECTED,
        _S2: Step(Action.AE_6, _S3),
        _S13: Step(Action.AA_7, _S13),
    },
    Event.ACCEPT: {_S3: Step(Action.AE_7, _S6)},
    Event.REJECT: {_S3: Step(Action.AE_8, _S13)},
    Event.SEND_DATA: {_S6: Step(Action.DT_1, _S6), _S8: Step(Action.AR_7, _S8)},
    Event.P_DATA_RECEIVED: {**_UNEXPECTED, _S6: Step(Action.DT_2, _S6), _S7: Step(Action.AR_6, _S7)},
    Event.REQUEST_RELEASE: {_S6: Step(Action.AR_1, _S7)},
    Event.RELEASE_RQ_RECEIVED: {**_UNEXPECTED, _S6: Step(Action.AR_2, _S8), _S7: Step(Action.AR_8, _S9)},
    Event.RELEASE_RP_RECEIVED: {
        **_UNEXPECTED,
        _S7: Step(Action.AR_3, _IDLE),
        _S10: Step(Action.AR_10, _S12),
        _S11: Step(Action.AR_3, _IDLE),
    },
    Event.RELEASE: {
        _S8: Step(Action.AR_4, _S13),
        _S9: Step(Action.AR_9, _S11),
        _S12: Step(Action.AR_4, _S13),
    },
    Event.ABORT: {
        _S4: Step(Action.AA_2, _IDLE),
        **dict.fromkeys(_ASSOCIATED, Step(Action.AA_1, _S13)),
    },
    Event.ABORT_RECEIVED: {
        _S2: Step(Action.AA_2, _IDLE),
        **dict.fromkeys(_ASSOCIATED, Step(Action.AA_3, _IDLE)),
        _S13: Step(Action.AA_2, _IDLE),
    },
    Event.CLOSED: {
        _S2: Step(Action.AA_5, _IDLE),
        _S4: Step(Action.AA_4, _IDLE),
        **dict.fromkeys(_ASSOCIATED, Step(Action.AA_4, _IDLE)),
        _S13: Step(Action.AR_5, _IDLE),
    },
    Event.ARTIM_EXPIRED: {_S2: Step(Action.AA_2, _IDLE), _S13: Step(Action.AA_2, _IDLE)},
    Event.INVALID_PDU: {**_UNEXPECTED, _S13: Step(Action.AA_7, _S13)},
}
