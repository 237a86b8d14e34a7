"""One association: messages in, responses and requests out, over a transport; its end is an exception that services need not know."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog

from pacs import dimse
from pacs.dimse import Command, CommandField
from pacs.scp import reasons
from pacs.scp.negotiation import Context
from pacs.scp.pending import Pending
from pacs.scp.settings import DimseSettings
from pacs.scp.tally import Tally, operation
from pacs.scp.transport import Ended, Silent, Transport, Wait
from pacs.upper_layer import (
    Aborted,
    AbortReason,
    AbortSource,
    Fragment,
    Machine,
    Received,
    Released,
    ReleaseRequested,
    Violation,
)
from storage.charsets import DEFAULT
from storage.coercing import Coercion
from storage.errors import BadRequest

_log = structlog.get_logger(__name__)
# PDUs are not made larger than this, however much the peer says it takes.
_MOST_SENT: Final = 1 << 17
# What a peer must at least take: a PDV's header and one byte of it.
LEAST_LENGTH: Final = 7
# Requests and cancels that came while an operation was going on, and are still to be looked at.
_MOST_AHEAD: Final = 64

Buffers = list[bytes | memoryview]


class NoDataSet(BadRequest):
    """A request without the data set that it needs, or announces."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is on the other end, as Source and logs have it."""

    calling_ae: str
    called_ae: str
    address: str
    # Largest P-DATA PDU it takes; 0 means no limit (PS3.8 annex D.1).
    max_length: int = 0
    # Who it says its user is, checked or not (`pacs.scp.identity`).
    user: str = ""


@dataclass(slots=True)
class Message:
    """A request or a response as it came: its command set, and whether its data set is still to be read."""

    context: Context
    command: Command
    data_pending: bool

    @property
    def id(self) -> int:
        return int(self.command.get("MessageID", 0))

    @property
    def is_response(self) -> bool:
        return bool(self.command["CommandField"] & dimse.RESPONSE_BIT)

    @property
    def status(self) -> int:
        """Of a response; one that has none counts as a failure."""
        return int(self.command.get("Status", dimse.Status.PROCESSING_FAILURE))


class Association:
    """An association that is established, used by the one thread that serves it, whichever side has asked for it.

    Raises Ended when it is over, however that came; what had to be said to the peer has been said by then.
    """

    def __init__(
        self,
        transport: Transport,
        machine: Machine,
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
        self._ahead: deque[Message] = deque()
        self._release_asked = False
        # The context of a data set that was waited for in vain: should it come after all, nobody wants it any more.
        self._given_up: int | None = None
        # Operations that the peer wants no more of.
        self._cancels: set[int] = set()
        # What is sent together with what is sent next.
        self._outbox: Buffers = []
        self._last_id = 0
        self._max_length = min(peer.max_length or _MOST_SENT, _MOST_SENT)
        # What serves requests of the peer that come while we wait for an answer; and whether it is at it, which is no time
        # for a request of ours.
        self.on_request: Callable[[Message], None] | None = None
        self.busy = False
        # The character set of identifiers that name none; and which of our AE titles the peer has called.
        self.assumed = DEFAULT
        self.own_ae = settings.ae_title
        # What becomes of instances that the peer sends; None: they are kept as they come.
        self.coercion: Coercion | None = None
        self._tally = Tally()
        self.operations, self.remarks = self._tally.operations, self._tally.remarks

    def next_message(self, wait: Wait = Wait.REST) -> Message:
        """Wait for the next message. A release is answered here, and ends the association."""
        self.flush()
        self._transport.message_ended()
        if self._ahead:
            return self._ahead.popleft()
        self._cancels.clear()
        if self._release_asked:
            self._not_data(ReleaseRequested())
        return self._message(wait)

    def _message(self, wait: Wait) -> Message:
        while True:
            received = self._event(Wait.MESSAGE if self._assembly.begun else wait)
            if isinstance(received, Fragment):
                message = self._command(received)
                if message:
                    return message
            else:
                self._not_data(received)

    def data(self, message: Message, first: Wait = Wait.MESSAGE) -> Iterator[memoryview]:
        """The pieces of the message's data set as they come; each is valid until the next. To be read to its end.

        `first` is how its first byte is waited for.
        """
        next_event, context_id = self._machine.next_event, message.context.id
        while message.data_pending:
            try:
                event = next_event()
            except Violation as error:
                raise self._violated(error) from error
            if event is None:
                self._read(first)
                continue
            first = Wait.MESSAGE
            if not isinstance(event, Fragment):
                self._not_data(event)
                continue
            if event.command or event.context_id != context_id:
                raise self.aborted("violation", "a data set is interrupted by another command or context")
            message.data_pending = not event.last
            yield event.data

    def read_data(self, message: Message, limit: int) -> bytes | None:
        """The whole data set, or None when it is over the limit (then all of it has been passed over).

        Raises NoDataSet where a request has announced one that does not come: some senders say so of an empty one, and
        wait for our answer. Which it is must not be guessed, for it may only be late.
        """
        whole, over = bytearray(), False
        try:
            for piece in self._begun_in_time(message):
                over = over or len(whole) + len(piece) > limit
                if not over:
                    whole += piece
        except Silent as silent:
            raise NoDataSet("a data set is announced and none came; (0000,0800) 0101H is none") from silent
        return None if over else bytes(whole)

    def drain(self, message: Message) -> None:
        """Pass over what is left of the data set, so that the next thing to come is a command; one that is announced and does
        not come is not waited for any longer than `read_data` waits."""
        with suppress(Silent):
            for _ in self._begun_in_time(message):
                pass

    def _begun_in_time(self, message: Message) -> Iterator[memoryview]:
        """`data`, given up with Silent where a request's does not begin; that of a C-STORE may have begun before."""
        patient = message.is_response or message.command["CommandField"] == CommandField.C_STORE
        try:
            yield from self.data(message, Wait.MESSAGE if patient else Wait.DATA_SET)
        except Silent:
            message.data_pending, self._given_up = False, message.context.id
            raise

    # Responses

    def respond(self, message: Message, status: int, *, data: bytes | None = None, **more: Any) -> None:
        """Send a response, after the request's own data set has been read to its end."""
        self.respond_later(message, status, data=data, **more)
        self.flush()

    def respond_later(self, message: Message, status: int, *, data: bytes | None = None, **more: Any) -> None:
        """The same, but sent only with what is sent next: a pending response, and the sub-operation after it."""
        self.drain(message)
        field = message.command["CommandField"]
        self._tally.count(field, status)
        if "ErrorComment" in more:
            self._tally.note(f"{operation(field, status)}: {more['ErrorComment']}")
        command = dimse.encode(dimse.respond(message.command, status, data_set=data is not None, **more))
        self._outbox += self._pdus(message, command, command=True)
        if data is not None:
            self._outbox += self._pdus(message, data, command=False)

    def flush(self) -> None:
        """Send what waits to be sent with the next."""
        if self._outbox:
            self._send([])

    def pending(self, message: Message, status: int) -> Pending:
        """Begin to answer `message` with pending responses (PS3.7 9.3.2.2), each with an identifier."""
        command = dimse.encode(dimse.respond(message.command, status, data_set=True))
        return Pending(self, message, b"".join(self._pdus(message, command, command=True)))

    def write_pending(self, message: Message, head: bytes, identifiers: list[bytes]) -> None:
        """Send some pending responses at once, each a command that is encoded already and an identifier."""
        pdus: Buffers = []
        for data in identifiers:
            pdus.append(head)
            pdus += self._pdus(message, data, command=False)
        self._transport.send(b"".join(pdus))

    def _pdus(self, message: Message, payload: bytes, *, command: bool) -> Buffers:
        return self._machine.data(message.context.id, payload, command=command, max_length=self._max_length)

    # Requests of ours

    def request(
        self, context: Context, field: CommandField, data: Iterable[bytes] | None = None, **elements: Any
    ) -> Message:
        """Send a request and wait for its response, whose data set, if it has one, is still to be read.

        `data` are the pieces of the data set in the context's transfer syntax; two at a time are held. Whatever they raise
        before the first two are there, leaves the association as it was; later it must be aborted, and is.
        """
        message_id = self.begin(context, field, data, **elements)
        return self.response_to(message_id)

    def begin(
        self, context: Context, field: CommandField, data: Iterable[bytes] | None = None, **elements: Any
    ) -> int:
        """The same without waiting; gives the message's ID, for `response_to` and cancels."""
        if self.busy:
            raise self.aborted("violation", "an operation of the peer's within ours asks for one of ours again")
        message_id = self._last_id = self._last_id % 0xFFFF + 1
        command = dimse.encode(dimse.request(field, message_id, data_set=data is not None, **elements))
        pieces = _marked(data) if data is not None else iter(())
        first = next(pieces, (b"", True)) if data is not None else None
        buffers = self._machine.data(context.id, command, command=True, max_length=self._max_length)
        self._transport.message_ended()
        if first is None:
            self._send(buffers)
            return message_id
        try:
            self._send_data(context.id, first, pieces, buffers)
        except Ended:
            raise
        except BaseException as error:
            raise self.aborted("error", "a data set broke off in the middle") from error
        return message_id

    def _send_data(
        self, context_id: int, first: tuple[bytes, bool], pieces: Iterator[tuple[bytes, bool]], buffers: Buffers
    ) -> None:
        piece, last = first
        while True:
            buffers += self._machine.data(
                context_id, piece, command=False, max_length=self._max_length, last=last
            )
            self._send(buffers)
            if last:
                return
            buffers = []
            piece, last = next(pieces)

    def response_to(self, message_id: int) -> Message:
        """Wait for the response to a request of ours.

        Each side may have an operation of its own going on (PS3.7 D.3.3.3): the peer's requests are served meanwhile by
        `on_request`, and its cancels noted.
        """
        while True:
            message = self._ahead.popleft() if self._ahead else self._message(Wait.ANSWER)
            if not message.is_response:
                self._meanwhile(message)
            elif message.command["MessageIDBeingRespondedTo"] == message_id:
                field, status = message.command["CommandField"], message.status
                self._tally.count(field, status, "sent ")
                if status != dimse.Status.SUCCESS and status not in dimse.PENDING:
                    self._tally.note(f"sent {operation(field, status)}: {reasons.answered(status)}; its own log says more")
                return message
            else:
                raise self.aborted("violation", "a response to nothing that was asked")

    def _meanwhile(self, message: Message) -> None:
        if message.command["CommandField"] == CommandField.C_CANCEL:
            self._keep(message)
            return
        if self.on_request is None:
            raise self.aborted("violation", "a request came where only responses are expected")
        self.busy = True
        try:
            self.on_request(message)
        finally:
            self.busy = False

    def cancel(self, context: Context, message_id: int) -> None:
        """Ask the peer to end an operation of ours (PS3.7 9.3.2.3)."""
        command = {
            "CommandField": CommandField.C_CANCEL,
            "MessageIDBeingRespondedTo": message_id,
            "CommandDataSetType": dimse.NO_DATA_SET,
        }
        self._send(
            self._machine.data(context.id, dimse.encode(command), command=True, max_length=self._max_length)
        )

    @property
    def received(self) -> int:
        """Bytes of the association so far."""
        return self._machine.received

    @property
    def sent(self) -> int:
        """Bytes that we have sent so far."""
        return self._transport.sent

    def _send(self, buffers: Buffers) -> None:
        waiting, self._outbox = self._outbox, []
        self._transport.send_buffers([*waiting, *buffers] if waiting else buffers)

    # Cancels

    def cancelled(self, message: Message) -> bool:
        """Whether the peer has sent a C-CANCEL for `message`, or wants release; looks, and does not wait."""
        if not self._is_over(message):
            self._look()
        return self._is_over(message)

    def is_quiet(self, seconds: float, *, patient: bool) -> bool:
        """Whether the peer says nothing for so long, between two operations; `patient`: it may as long as it likes."""
        self.flush()
        if not self._ahead:
            # They were for what is over.
            self._cancels.clear()
        self._look()
        if self._ahead or self._release_asked or self._assembly.begun:
            return False
        try:
            return self._transport.is_quiet(seconds, patient=patient)
        except Ended as error:
            raise self.aborted(error.how, str(error)) from error

    def is_ending(self) -> bool:
        """Whether the peer wants release; looks, and does not wait."""
        self._look()
        return self._release_asked

    def _is_over(self, message: Message) -> bool:
        return self._release_asked or message.id in self._cancels

    def _look(self) -> None:
        """Take what has come, up to a message that waits for its turn."""
        if self._ahead or self._release_asked:
            return
        # What came with the request itself is in the machine already.
        if count := self._transport.receive_now(self._machine.space()):
            self._machine.filled(count)
        while not self._ahead and (event := self._next_event()) is not None:
            if isinstance(event, ReleaseRequested):
                self._release_asked = True
            elif not isinstance(event, Fragment):
                self._not_data(event)
            elif (other := self._command(event)) is not None:
                self._keep(other)

    def _keep(self, other: Message) -> None:
        """What came in the middle of an operation: a cancel, or what waits until that is over."""
        if other.command["CommandField"] == CommandField.C_CANCEL:
            if len(self._cancels) < _MOST_AHEAD:
                self._cancels.add(other.command["MessageIDBeingRespondedTo"])
            return
        if len(self._ahead) == _MOST_AHEAD:
            raise self.aborted("violation", "too many requests before the end of an operation")
        self._ahead.append(other)

    def aborted(self, how: str, text: str) -> Ended:
        """Send A-ABORT, as the user of the upper layer, when there is still somebody to get it; gives what to raise."""
        self._send_last(self._machine.abort(AbortSource.USER, AbortReason.NOT_SPECIFIED))
        return Ended(how, text)

    # Events

    def _event(self, wait: Wait) -> Received:
        while (event := self._next_event()) is None:
            self._read(wait)
        return event

    def _next_event(self) -> Received | None:
        try:
            return self._machine.next_event()
        except Violation as error:
            raise self._violated(error) from error

    def _read(self, wait: Wait) -> None:
        machine, transport = self._machine, self._transport
        try:
            machine.filled(transport.receive(machine.space(), wait))
        except Ended as error:
            if error.how == "lost":
                machine.closed()
                raise
            raise self.aborted(error.how, str(error)) from error

    def _command(self, fragment: Fragment) -> Message | None:
        context = self.contexts[fragment.context_id]
        if self._given_up == fragment.context_id and not fragment.command:
            self._given_up = None if fragment.last else self._given_up
            return None
        self._given_up = None
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
        if isinstance(event, Released):
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


def _marked(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Each piece, and whether it is the last: one is read ahead."""
    before: bytes | None = None
    for piece in pieces:
        if before is not None:
            yield before, False
        before = piece
    if before is not None:
        yield before, True
