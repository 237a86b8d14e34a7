"""One association: messages in, responses out, over a transport; what ends it is an exception that services need not know."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import structlog

from pacs import dimse
from pacs.dimse import Command, CommandField
from pacs.scp.negotiation import Context
from pacs.scp.settings import DimseSettings
from pacs.scp.transport import Ended, Transport
from pacs.upper_layer import (
    Aborted,
    AbortReason,
    AbortSource,
    Acceptor,
    Fragment,
    Received,
    ReleaseRequested,
    Violation,
)

_log = structlog.get_logger(__name__)
# PDUs are not made larger than this, however much the peer says it takes.
_MOST_SENT: Final = 1 << 17
# Pending responses are sent together while less than this waits, and for no longer.
_TOGETHER_BYTES: Final = 1 << 15
_TOGETHER_SECONDS: Final = 0.01
# What a peer must at least take: a PDV's header and one byte of it.
LEAST_LENGTH: Final = 7


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is on the other end, as Source and logs have it."""

    calling_ae: str
    called_ae: str
    address: str
    # Largest P-DATA PDU it takes; 0 means no limit (PS3.8 annex D.1).
    max_length: int = 0


@dataclass(slots=True)
class Message:
    """A request as it came: its command set, and whether its data set is still to be read."""

    context: Context
    command: Command
    data_pending: bool

    @property
    def id(self) -> int:
        return int(self.command.get("MessageID", 0))


class Association:
    """An accepted association, used by the one thread that serves it.

    Raises Ended when it is over, however that came; what had to be said to the peer has been said by then.
    """

    def __init__(
        self,
        transport: Transport,
        machine: Acceptor,
        peer: Peer,
        contexts: dict[int, Context],
        settings: DimseSettings,
    ) -> None:
        self.peer = peer
        self.contexts = contexts
        self._transport = transport
        self._machine = machine
        self._assembly = dimse.CommandAssembly(settings.max_command_bytes)
        # What came while an operation was going on, and is not a cancel: taken when that is over.
        self._ahead: Message | ReleaseRequested | None = None
        self._max_length = min(peer.max_length or _MOST_SENT, _MOST_SENT)

    def next_message(self) -> Message:
        """Wait for the next request. A release is answered here, and ends the association."""
        self._transport.message_ended()
        while True:
            event, self._ahead = self._ahead, None
            if isinstance(event, Message):
                return event
            received = event or self._event(inside=self._assembly.begun)
            if isinstance(received, Fragment):
                message = self._command(received)
                if message:
                    return message
            else:
                self._not_data(received)

    def data(self, message: Message) -> Iterator[memoryview]:
        """The pieces of the message's data set as they come; each is valid until the next. To be read to its end."""
        next_event, context_id = self._machine.next_event, message.context.id
        while message.data_pending:
            try:
                event = next_event()
            except Violation as error:
                raise self._violated(error) from error
            if event is None:
                self._read(inside=True)
                continue
            if not isinstance(event, Fragment):
                self._not_data(event)
                continue
            if event.command or event.context_id != context_id:
                raise self.aborted("violation", "a data set is interrupted by another command or context")
            message.data_pending = not event.last
            yield event.data

    def read_data(self, message: Message, limit: int) -> bytes | None:
        """The whole data set, or None when it is over the limit (then all of it has been passed over)."""
        whole = bytearray()
        for piece in self.data(message):
            if len(whole) + len(piece) > limit:
                self.drain(message)
                return None
            whole += piece
        return bytes(whole)

    def drain(self, message: Message) -> None:
        """Pass over what is left of the data set, so that the next thing to come is a command."""
        for _ in self.data(message):
            pass

    def respond(self, message: Message, status: int, **more: Any) -> None:
        """Send a response without a data set, after the request's own has been read to its end."""
        self.drain(message)
        command = dimse.encode(dimse.respond(message.command, status, **more))
        self._transport.send(b"".join(self._pdus(message, command, command=True)))

    def pending(self, message: Message, status: int) -> Pending:
        """Begin to answer `message` with pending responses (PS3.7 9.3.2.2), each with an identifier."""
        command = dimse.encode(dimse.respond(message.command, status, data_set=True))
        return Pending(self, message, b"".join(self._pdus(message, command, command=True)))

    def write_pending(self, message: Message, head: bytes, identifiers: list[bytes]) -> None:
        """Send some pending responses at once, each a command that is encoded already and an identifier."""
        pdus: list[bytes | memoryview] = []
        for data in identifiers:
            pdus.append(head)
            pdus += self._pdus(message, data, command=False)
        self._transport.send(b"".join(pdus))

    def _pdus(self, message: Message, payload: bytes, *, command: bool) -> list[bytes | memoryview]:
        return self._machine.data(message.context.id, payload, command=command, max_length=self._max_length)

    def cancelled(self, message: Message) -> bool:
        """Whether the peer has sent a C-CANCEL for `message`, or wants release; looks, and does not wait."""
        if isinstance(self._ahead, ReleaseRequested):
            return True
        if self._ahead or not (count := self._transport.receive_now(self._machine.space())):
            return False
        self._machine.filled(count)
        while self._ahead is None and (event := self._next_event()) is not None:
            if isinstance(event, ReleaseRequested):
                self._ahead = event
                return True
            if not isinstance(event, Fragment):
                self._not_data(event)
            elif (other := self._command(event)) is not None:
                if other.command["CommandField"] != CommandField.C_CANCEL:
                    # Asynchronous operations were not negotiated, but no harm is done by letting it wait its turn.
                    self._ahead = other
                elif other.command["MessageIDBeingRespondedTo"] == message.id:
                    return True
        return False

    def aborted(self, how: str, text: str) -> Ended:
        """Send A-ABORT, as the user of the upper layer, when there is still somebody to get it; gives what to raise."""
        self._send_last(self._machine.abort(AbortSource.USER, AbortReason.NOT_SPECIFIED))
        return Ended(how, text)

    # Events

    def _event(self, *, inside: bool) -> Received:
        while (event := self._next_event()) is None:
            self._read(inside=inside)
        return event

    def _next_event(self) -> Received | None:
        try:
            return self._machine.next_event()
        except Violation as error:
            raise self._violated(error) from error

    def _read(self, *, inside: bool) -> None:
        machine, transport = self._machine, self._transport
        try:
            machine.filled(transport.receive(machine.space(), inside=inside))
        except Ended as error:
            if error.how == "lost":
                machine.closed()
                raise
            raise self.aborted(error.how, str(error)) from error

    def _command(self, fragment: Fragment) -> Message | None:
        context = self.contexts[fragment.context_id]
        if not self._assembly.begun:
            self._transport.message_begins()
        try:
            command = self._assembly.add(*fragment)
        except dimse.Malformed as error:
            raise self.aborted("violation", str(error)) from error
        return Message(context, command, dimse.has_data_set(command)) if command else None

    def _not_data(self, event: Received) -> None:
        """A release or an abort; both end the association."""
        if isinstance(event, ReleaseRequested):
            self._send_last(self._machine.release())
            raise Ended("released")
        if isinstance(event, Aborted):
            raise Ended("aborted by peer", f"A-ABORT with source {event.source} and reason {event.reason}")
        raise AssertionError(event)

    def _violated(self, error: Violation) -> Ended:
        self._send_last(error.pdu)
        return Ended("violation", str(error))

    def _send_last(self, pdu: bytes) -> None:
        try:
            self._transport.send(pdu)
        except Ended:
            _log.debug("association.last_word_lost", address=self.peer.address)


class Pending:
    """The pending responses to one request: sent a few at a time, since one by one costs a system call each."""

    def __init__(self, association: Association, message: Message, head: bytes) -> None:
        self._association = association
        self._message = message
        self._head = head
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._sent_at = 0.0

    def add(self, identifier: bytes) -> bool:
        """Send it now, or with the next ones while those come fast; whether the peer has cancelled meanwhile."""
        self._waiting.append(identifier)
        self._bytes += len(identifier)
        if self._bytes < _TOGETHER_BYTES and time.monotonic() - self._sent_at < _TOGETHER_SECONDS:
            return False
        return self.flush()

    def flush(self) -> bool:
        """Send what waits; whether the peer has cancelled."""
        if self._waiting:
            self._association.write_pending(self._message, self._head, self._waiting)
            self._waiting, self._bytes = [], 0
        self._sent_at = time.monotonic()
        return self._association.cancelled(self._message)
