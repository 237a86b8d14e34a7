"""One association without a socket, whichever side asked for it: received bytes in, events out; what to send as bytes.

The owner reads from the network straight into `space()`, says how much came with `filled()`, and takes events with
`next_event()` until that gives None. A data set's fragments are views of the very buffer that was read into, passed on
as they come and never put together here: memory does not depend on what a peer sends. A view is valid until the next
`space()`. `acceptor` and `requestor` add how an association begins and ends on their side.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from pacs.upper_layer.associate import (
    AnsweredContext,
    AssociateAnswer,
    AssociateRequest,
    Malformed,
    parse_answer,
    parse_request,
)
from pacs.upper_layer.pdus import (
    COMMAND_BIT,
    EVENT_OF,
    HEADER,
    LAST_BIT,
    PDV_HEADER,
    SHORT_LENGTH,
    AbortReason,
    AbortSource,
    Foreign,
    PduType,
    Reject,
    Violation,
    abort,
    p_data,
    release_reply,
)
from pacs.upper_layer.states import TABLE, Action, Event, State

_FIRST_BUFFER = 4096
_SOURCE_OF = {Action.AA_1: AbortSource.USER, Action.AA_8: AbortSource.PROVIDER}
# Where an A-ASSOCIATE-RQ or -AC is waited for, whose size only its header tells; and where P-DATA may come.
_NEGOTIATING = frozenset({State.AWAITING_REQUEST, State.AWAITING_ACCEPTANCE})
_TAKING_DATA = frozenset({State.DATA_TRANSFER, State.AWAITING_RELEASE_REPLY})
_NEGOTIATION_PDUS = {
    Event.ASSOCIATE_RQ_RECEIVED: "A-ASSOCIATE-RQ",
    Event.ASSOCIATE_AC_RECEIVED: "A-ASSOCIATE-AC",
}
_HTTP = "it speaks HTTP, and this is DICOM"
# Other protocols by their first byte: TLS records (RFC 8446 5.1), and the letters of HTTP's methods and answers.
_FIRST_BYTES = {
    0x16: "it speaks TLS, and this is DICOM without TLS: turn TLS off there, or use the port for TLS",
    0x15: "it expects TLS, and this is DICOM without TLS",
    **dict.fromkeys(b"GHPOD", _HTTP),
}


class Fragment(NamedTuple):
    """Some bytes of a message (PS3.8 annex E); `last` with the last bytes of its command or data set."""

    context_id: int
    command: bool
    last: bool
    data: memoryview


@dataclass(frozen=True, slots=True)
class ReleaseRequested:
    """The peer wants to end: answer with `release()`."""


@dataclass(frozen=True, slots=True)
class Aborted:
    """The peer has aborted (9.3.8); there is nothing to answer."""

    source: int
    reason: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """The peer has rejected the association (9.3.4)."""

    why: Reject


@dataclass(frozen=True, slots=True)
class Released:
    """The peer agrees to the end that we asked for (9.3.7)."""


Received: TypeAlias = (
    Fragment | AssociateRequest | AssociateAnswer | Rejected | ReleaseRequested | Released | Aborted
)


class Machine:
    """One association from `begins` to its end; see the module.

    `max_length` is the largest variable field of a P-DATA-TF that is taken (annex D.1), `max_request` that of an
    A-ASSOCIATE-RQ or -AC, `buffer_size` how many bytes a single read may bring once there is an association.
    """

    def __init__(
        self,
        begins: Event,
        *,
        max_length: int = 1 << 17,
        max_request: int = 1 << 20,
        buffer_size: int = 1 << 18,
    ) -> None:
        self.state = TABLE[begins][State.IDLE].state
        self.max_length = max_length
        self._max_request = max_request
        self._buffer_size = buffer_size
        self._buffer = bytearray(_FIRST_BUFFER)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        # Bytes of the stream that lay before the buffer's beginning: where a violation is, is told from there.
        self._before = 0
        self._request: AssociateRequest | None = None
        self._accepted: frozenset[int] = frozenset()
        self._pdu_left = 0
        self._pdv_left = 0
        self._in_pdv = False
        self._context_id = 0
        self._control = 0

    @property
    def buffered(self) -> int:
        """Memory that this association's buffer takes, in bytes."""
        return len(self._buffer)

    @property
    def received(self) -> int:
        """Bytes that have come from the peer."""
        return self._before + self._end

    # Bytes in

    def space(self) -> memoryview:
        """Where to read the next bytes into; never empty. Ends the validity of earlier fragments."""
        if self._start == self._end:
            self._before += self._end
            self._start = self._end = 0
        elif self._end == len(self._buffer):
            self._make_room()
        return self._view[self._end :]

    def filled(self, count: int) -> None:
        """`count` bytes were read into `space()`. While the connection is being closed, they are forgotten (AA-6)."""
        self._end += count
        if self.state in (State.AWAITING_CLOSE, State.IDLE):
            self._start = self._end

    def feed(self, data: bytes | memoryview) -> None:
        """Copy bytes in; for whoever has them already. All of it fits only if events are taken in between."""
        rest = memoryview(data)
        while rest:
            space = self.space()
            count = min(len(space), len(rest))
            space[:count] = rest[:count]
            self.filled(count)
            rest = rest[count:]

    def _make_room(self) -> None:
        """Move an unfinished header to the front; let the buffer of an unfinished request grow as its bytes come."""
        old, start, end = self._view, self._start, self._end
        if start == 0:
            if self.state not in _NEGOTIATING:
                raise BufferError("take the events that are here before reading more")
            self._new_buffer(min(2 * len(self._buffer), max(HEADER.size + self._max_request, 2 * _FIRST_BUFFER)))
        self._before += start
        self._start, self._end = 0, end - start
        self._view[: self._end] = old[start:end]

    def _new_buffer(self, size: int) -> None:
        self._buffer = bytearray(size)
        self._view = memoryview(self._buffer)

    # Events out

    def next_event(self) -> Received | None:
        """What the received bytes mean next, or None when more must be read. Raises Violation; then send its `pdu`."""
        if self.state not in _TAKING_DATA:
            return self._next_pdu()
        while True:
            available = self._end - self._start
            if self._in_pdv:
                return self._piece(available)
            if self._pdu_left:
                if available < PDV_HEADER.size:
                    return None
                self._begin_pdv()
            elif available < HEADER.size:
                return None
            elif self._view[self._start] == PduType.P_DATA:
                self._begin_p_data()
            else:
                return self._next_pdu()

    def _piece(self, available: int) -> Fragment | None:
        left = self._pdv_left
        if available < left:
            if not available:
                return None
            count, last = available, False
        else:
            count, last = left, self._control & LAST_BIT != 0
            self._in_pdv = False
        start = self._start
        self._start = start + count
        self._pdv_left = left - count
        return Fragment(
            self._context_id, self._control & COMMAND_BIT != 0, last, self._view[start : start + count]
        )

    def _begin_p_data(self) -> None:
        _, length = self._header()
        if length > self.max_length:
            raise self._invalid(
                f"a P-DATA-TF of {length} bytes is over the negotiated maximum of {self.max_length}"
            )
        if length < PDV_HEADER.size:
            raise self._invalid(f"a P-DATA-TF of {length} bytes has no presentation data value")
        self._start += HEADER.size
        self._pdu_left = length

    def _begin_pdv(self) -> None:
        length, context_id, control = PDV_HEADER.unpack_from(self._view, self._start)
        if length < 2 or length + 4 > self._pdu_left:
            raise self._invalid(f"a PDV item says {length} bytes, and {self._pdu_left - 4} are left in its PDU")
        rest = self._pdu_left - length - 4
        if 0 < rest < PDV_HEADER.size:
            raise self._invalid(f"{rest} bytes are left after the last PDV item of a PDU")
        if context_id not in self._accepted:
            reason = AbortReason.UNEXPECTED_PARAMETER if context_id % 2 else AbortReason.INVALID_PARAMETER
            raise self._invalid(f"presentation context {context_id} was not accepted", reason)
        self._start += PDV_HEADER.size
        self._pdu_left = rest
        self._pdv_left = length - 2
        self._context_id = context_id
        self._control = control
        self._in_pdv = True

    def _next_pdu(self) -> Received | None:
        """A PDU that is not P-DATA in its place: checked by its header alone, so that a wrong one is never waited for."""
        if self.state in (State.IDLE, State.AWAITING_CLOSE) or self._end - self._start < HEADER.size:
            return None
        kind, length = self._header()
        event = EVENT_OF.get(kind)
        if event is None:
            raise self._unrecognized(kind)
        step = TABLE[event][self.state]
        if step.action in (Action.AA_1, Action.AA_8):
            raise self._violation(event, f"a PDU of type {kind:02X}H is out of place", AbortReason.UNEXPECTED_PDU)
        self._check_length(event, length)
        if self._end - self._start < HEADER.size + length:
            return None
        return self._take(event, length)

    def _unrecognized(self, kind: int) -> Violation:
        """What a byte that begins no PDU may be the beginning of, when it is the first of all."""
        first = self.state in _NEGOTIATING and self._before + self._start == 0
        error = self._invalid(f"PDU type {kind:02X}H is not one of PS3.8", AbortReason.UNRECOGNIZED_PDU)
        if first and kind in _FIRST_BYTES:
            return Foreign(_FIRST_BYTES[kind], error.at, error.source, error.reason)
        return error

    def _header(self) -> tuple[int, int]:
        kind, length = HEADER.unpack_from(self._view, self._start)
        return int(kind), int(length)

    def _check_length(self, event: Event, length: int) -> None:
        if event in _NEGOTIATION_PDUS:
            if length > self._max_request:
                name = _NEGOTIATION_PDUS[event]
                raise self._invalid(f"an {name} of {length} bytes is over the limit of {self._max_request}")
        elif length != SHORT_LENGTH:
            raise self._invalid(f"an A-RELEASE or A-ABORT PDU has {SHORT_LENGTH} bytes, not {length}")

    def _take(self, event: Event, length: int) -> Received:
        first = self._start + HEADER.size
        body = self._view[first : first + length]
        try:
            taken = self._read(event, body)
        except Malformed as error:
            self._start = first + error.at
            raise self._invalid(str(error)) from error
        self._start = first + length
        self.state = TABLE[event][self.state].state
        return taken

    def _read(self, event: Event, body: memoryview) -> Received:
        if event is Event.ASSOCIATE_RQ_RECEIVED:
            self._request = parse_request(body)
            return self._request
        if event is Event.ASSOCIATE_AC_RECEIVED:
            return parse_answer(body)
        if event is Event.ASSOCIATE_RJ_RECEIVED:
            return Rejected(Reject(body[1], body[2], body[3]))
        if event is Event.RELEASE_RQ_RECEIVED:
            return ReleaseRequested()
        if event is Event.RELEASE_RP_RECEIVED:
            return Released()
        return Aborted(body[2], body[3])

    def _invalid(self, text: str, reason: AbortReason = AbortReason.INVALID_PARAMETER) -> Violation:
        return self._violation(Event.INVALID_PDU, text, reason)

    def _violation(self, event: Event, text: str, reason: AbortReason) -> Violation:
        step = TABLE[event][self.state]
        at = self._before + self._start
        self.state = step.state
        self._start = self._end
        return Violation(text, at, _SOURCE_OF[step.action], reason)

    # Bytes out

    def data(
        self, context_id: int, payload: bytes | memoryview, *, command: bool, max_length: int, last: bool = True
    ) -> list[bytes | memoryview]:
        """P-DATA-TF PDUs (DT-1, AR-7); see `pdus.p_data`."""
        self._to(Event.SEND_DATA)
        return list(p_data(context_id, payload, command=command, max_length=max_length, last=last))

    def release(self) -> bytes:
        """A-RELEASE-RP (AR-4, AR-9)."""
        self._to(Event.RELEASE)
        return release_reply()

    def abort(
        self, source: AbortSource = AbortSource.USER, reason: AbortReason = AbortReason.NOT_SPECIFIED
    ) -> bytes:
        """A-ABORT of our own (AA-1); nothing, when the association is over already."""
        step = TABLE[Event.ABORT].get(self.state)
        if step is None:
            return b""
        self.state = step.state
        return abort(source, reason)

    def closed(self) -> bool:
        """The transport connection is gone (Evt17). Whether an association was lost by it (AA-4)."""
        step = TABLE[Event.CLOSED].get(self.state)
        self.state = State.IDLE
        return step is not None and step.action is Action.AA_4

    def _associated(self, contexts: Iterable[AnsweredContext]) -> None:
        """From now on data may come, on the accepted ones of `contexts`: into a buffer of the size for that."""
        self._accepted = frozenset(context.id for context in contexts if context.result == 0)
        ahead = bytes(self._view[self._start : self._end])
        self._before += self._start
        self._new_buffer(max(self._buffer_size, len(ahead) + HEADER.size))
        self._view[: len(ahead)] = ahead
        self._start, self._end = 0, len(ahead)

    def _to(self, event: Event) -> None:
        self.state = TABLE[event][self.state].state
