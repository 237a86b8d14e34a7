"""Associations that we ask for: connect, negotiate, and end in good order (PS3.8 7.1, 7.2)."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, NamedTuple

import structlog

from pacs.scp import reasons
from pacs.scp.association import LEAST_LENGTH, Association, Peer
from pacs.scp.identity import KINDS
from pacs.scp.journal import Journal
from pacs.scp.negotiation import ACCEPTED, APPLICATION_CONTEXT, Context
from pacs.scp.secured import Channel, Secured
from pacs.scp.settings import DimseSettings
from pacs.scp.transport import Ended, Stopping, Transport, Wait
from pacs.upper_layer import (
    APPLICATION_CONTEXT_NOT_SUPPORTED,
    CALLED_AE_NOT_RECOGNIZED,
    CALLING_AE_NOT_RECOGNIZED,
    IDENTITY_NOT_ACCEPTED,
    LOCAL_LIMIT_EXCEEDED,
    NO_REASON,
    PROTOCOL_VERSION_NOT_SUPPORTED,
    TEMPORARY_CONGESTION,
    Aborted,
    AssociateAnswer,
    AssociateRequest,
    Foreign,
    ProposedContext,
    Received,
    Reject,
    Rejected,
    Released,
    ReleaseRequested,
    Requestor,
    Role,
    State,
    UserIdentity,
    UserInformation,
    Violation,
)
from storage.errors import LightboxError, Refused, Unavailable
from storage.index.associations import Direction, Entry, Proposed
from storage.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

_log = structlog.get_logger(__name__)
# Presentation context IDs are the odd numbers of a byte (PS3.8 9.3.2.2).
MOST_CONTEXTS: Final = 128


@dataclass(frozen=True, slots=True)
class Destination:
    """A node that we may call, and how patient we are with it; times in seconds."""

    title: str
    host: str
    port: int
    # What we call ourselves.
    calling_ae: str
    # Transfer syntaxes that it likes better than the stored one, the best first.
    syntaxes: tuple[str, ...] = ()
    connect_seconds: float = 10.0
    answer_seconds: float = 60.0
    # What makes it TLS, and says whose certificate is accepted (`pacs.tls.client_context`).
    tls: ssl.SSLContext | None = None
    # What is told of the associations with it.
    journal: Journal | None = None
    # Who we say that we are (PS3.7 D.3.3.7).
    identity: UserIdentity | None = None

    @property
    def named(self) -> str:
        """For people."""
        return f"{self.title} at {self.host} port {self.port}"

    @property
    def settings(self) -> DimseSettings:
        """The limits of an association with it."""
        return DimseSettings(answer_seconds=self.answer_seconds, idle_seconds=self.answer_seconds)


class Proposal(NamedTuple):
    """One presentation context to ask for."""

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


class NotReached(Unavailable):
    """The node does not answer, or has hung up: later it may."""


class NotSecure(NotReached):
    """There is no TLS with the node; the text says why."""


class Rejection(LightboxError):
    """The node answers, and does not want an association with us; the text says what to change."""

    def __init__(self, text: str, why: Reject) -> None:
        super().__init__(text)
        self.why = why
        # Rejected for now, not for good (PS3.8 9.3.4).
        self.transient = why.result == 2


class NothingAccepted(Refused):
    """The node accepts the association and none of the presentation contexts."""


REJECTIONS: Final = {
    CALLING_AE_NOT_RECOGNIZED: "it does not know our AE title {ours!r}: add it to its list of known nodes",
    CALLED_AE_NOT_RECOGNIZED: "it is not called {theirs!r}: ask for its AE title (letters' case counts) and correct it here",
    APPLICATION_CONTEXT_NOT_SUPPORTED: "it does not know the application context: is it a DICOM node?",
    PROTOCOL_VERSION_NOT_SUPPORTED: "it speaks another version of the protocol",
    NO_REASON: "it gives no reason: its own log may; it may not know {ours!r}, or not this address",
    IDENTITY_NOT_ACCEPTED: "it gives no reason, as who wants to be told the user (user identity) does: have it told with pacs ae identity {theirs}, or allow {ours!r} there without",
    LOCAL_LIMIT_EXCEEDED: "it has as many associations as it allows: try again later",
    TEMPORARY_CONGESTION: "it is too busy now: try again later",
}
# The same from who was told (PS3.7 D.3.3.7.3), for good or, as pynetdicom has it, for now.
IDENTITY_REJECTED: Final = (
    "it gives no reason, as who does not believe the {kind} that it is told does: have it right there, or anew here with pacs ae identity {theirs}"
)


class Requested(Association):
    """An association that we have asked for. Use as a context manager: released at the end, aborted after an error."""

    # Where the end is told, and of what.
    _told: tuple[Journal, Entry] | None = None
    # Whether the peer was asked to confirm who we are, and does not: it is for us to go on or not (PS3.7 D.3.3.7), and we do.
    unconfirmed = False

    def tell(self, journal: Journal, entry: Entry) -> None:
        """Have the end told, and what was done until then."""
        self._told = journal, entry
        entry.operations = self.operations

    def _tell_end(self, how: str, reason: str = "") -> None:
        if self._told is None:
            return
        journal, entry = self._told
        self._told = None
        entry.received, entry.sent, entry.operations = self.received, self.sent, self.operations
        journal.ended(entry, how, "; ".join(part for part in (reasons.remarks(self.remarks), reason) if part))

    def wait_for_answers(self, seconds: float) -> None:
        """From now on have no more patience than that with a peer that owes us something."""
        self._transport.wait_for_answers(seconds)

    def release(self) -> None:
        """End it in good order; whatever the peer makes of that, it is over afterwards."""
        self._tell_end("released")
        machine, transport = self._machine, self._transport
        assert isinstance(machine, Requestor)
        if machine.state is not State.DATA_TRANSFER:
            transport.close()
            return
        try:
            transport.send(machine.request_release())
            while not isinstance(event := self._event(Wait.ANSWER), Released):
                if isinstance(event, ReleaseRequested):
                    transport.send(machine.release())
                elif isinstance(event, Aborted):
                    break
        except Ended as error:
            _log.debug("association.release_failed", to=self.peer.called_ae, reason=str(error))
        finally:
            transport.close()

    def abandon(self, why: BaseException | None = None) -> None:
        """Abort it, where there is still somebody to be told, and close. `why` is for the log of associations."""
        if isinstance(why, Ended):
            self._tell_end(why.how, reasons.requested_end(why.how, str(why)))
        else:
            self._tell_end("error", str(why) if isinstance(why, LightboxError) else "an error of ours, which the server's log describes")
        self.aborted("error", "given up")
        self._transport.close()

    def contexts_for(self, abstract_syntax: str) -> list[Context]:
        """The accepted contexts of a SOP class. Raises NothingAccepted where there is none."""
        found = [one for one in self.contexts.values() if one.abstract_syntax == abstract_syntax]
        if not found:
            raise NothingAccepted(f"{self.peer.called_ae} does not support SOP class {abstract_syntax}")
        return found

    def __enter__(self) -> Requested:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.release()
        else:
            self.abandon(error)


def associate(
    destination: Destination,
    proposals: Sequence[Proposal],
    *,
    roles: Iterable[Role] = (),
    extended: Iterable[tuple[str, bytes]] = (),
    stopping: Stopping | None = None,
) -> Requested:
    """Ask `destination` for an association with at most 128 contexts.

    Raises NotReached, Rejection, and NothingAccepted where no context was accepted at all.
    """
    try:
        channel = secure(reach(destination), destination)
    except NotReached as error:
        _tell_failure(destination, proposals, error)
        raise
    return associate_on(channel, destination, proposals, roles=roles, extended=extended, stopping=stopping)


def associate_on(
    channel: Channel,
    destination: Destination,
    proposals: Sequence[Proposal],
    *,
    roles: Iterable[Role] = (),
    extended: Iterable[tuple[str, bytes]] = (),
    stopping: Stopping | None = None,
) -> Requested:
    """The same on a connection that is there, of which it takes possession."""
    assert len(proposals) <= MOST_CONTEXTS
    try:
        return _associated(channel, destination, proposals, tuple(roles), tuple(extended), stopping or Stopping())
    except LightboxError as error:
        _tell_failure(destination, proposals, error)
        raise


def _associated(
    channel: Channel,
    destination: Destination,
    proposals: Sequence[Proposal],
    roles: tuple[Role, ...],
    extended: tuple[tuple[str, bytes], ...],
    stopping: Stopping,
) -> Requested:
    settings = destination.settings
    machine = Requestor(max_length=settings.max_pdu_bytes, buffer_size=settings.read_bytes)
    try:
        transport = Transport(channel, settings, stopping)
        request = _request(destination, proposals, roles, extended, settings)
        transport.send(machine.request(request))
        answer = _answer(machine, transport, destination)
        return _established(transport, machine, destination, request, answer, settings)
    except Ended as error:
        channel.close()
        raise NotReached(f"{destination.title} gave no answer to the association request: {_why(error, destination)}") from error
    except BaseException:
        channel.close()
        raise


def reach(destination: Destination) -> socket.socket:
    """A connection to the node's port, on which nothing was said yet. Raises NotReached."""
    try:
        return socket.create_connection((destination.host, destination.port), timeout=destination.connect_seconds)
    except TimeoutError as error:
        raise NotReached(f"{destination.named} does not answer within {destination.connect_seconds:g} s") from error
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "unknown host"
        raise NotReached(f"{destination.named} cannot be reached ({reason})") from error


def secure(sock: socket.socket, destination: Destination) -> Channel:
    """The same connection in TLS, where the node speaks it. Raises NotSecure, and has closed it then."""
    if destination.tls is None:
        return sock
    channel = Secured(sock, destination.tls, host=destination.host)
    try:
        channel.handshake_within(destination.connect_seconds)
    except TimeoutError as error:
        channel.close()
        text = f"{destination.named} did not finish the TLS handshake within {destination.connect_seconds:g} s: does it speak TLS?"
        raise NotSecure(text) from error
    except OSError as error:
        channel.close()
        raise NotSecure(f"no TLS with {destination.named}: {error.strerror}") from error
    return channel


def _why(error: Ended, destination: Destination) -> str:
    """What ended it; in TLS 1.3 our certificate is judged only after our side of the handshake."""
    if destination.tls is None or error.how != "lost":
        return str(error)
    return f"{error}; it may not accept our certificate"


def _request(
    destination: Destination,
    proposals: Sequence[Proposal],
    roles: tuple[Role, ...],
    extended: tuple[tuple[str, bytes], ...],
    settings: DimseSettings,
) -> AssociateRequest:
    contexts = tuple(ProposedContext(2 * n + 1, *proposal) for n, proposal in enumerate(proposals))
    user = UserInformation(
        maximum_length=settings.max_pdu_bytes,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version=IMPLEMENTATION_VERSION_NAME,
        roles=roles,
        extended=extended,
        identity=destination.identity,
    )
    return AssociateRequest(
        protocol_version=1,
        called_ae=destination.title,
        calling_ae=destination.calling_ae,
        titles=b"",
        application_context=APPLICATION_CONTEXT,
        contexts=contexts,
        user=user,
    )


def _answer(machine: Requestor, transport: Transport, destination: Destination) -> AssociateAnswer:
    title = destination.title
    try:
        event: Received | None
        while (event := machine.next_event()) is None:
            machine.filled(transport.receive(machine.space(), Wait.ANSWER))
    except Violation as error:
        transport.send(error.pdu)
        text = error.text if isinstance(error, Foreign) else str(error)
        raise NotReached(f"{title} does not speak DICOM: {text}") from error
    if isinstance(event, AssociateAnswer):
        return event
    if isinstance(event, Rejected):
        raise Rejection(f"{title} rejects the association: {_rejected(destination, event.why)}", event.why)
    raise NotReached(f"{title} aborts the association request")


def _rejected(destination: Destination, why: Reject) -> str:
    text = REJECTIONS.get(why, "with result {why.result}, source {why.source}, reason {why.reason} (PS3.8 9.3.4): its own log says more")
    kind = ""
    if (why.source, why.reason) == (IDENTITY_NOT_ACCEPTED.source, IDENTITY_NOT_ACCEPTED.reason):
        text = REJECTIONS[IDENTITY_NOT_ACCEPTED]
        if destination.identity:
            text, kind = IDENTITY_REJECTED, KINDS[destination.identity.kind]
    return text.format(ours=destination.calling_ae, theirs=destination.title, why=why, kind=kind)


def _established(
    transport: Transport,
    machine: Requestor,
    destination: Destination,
    request: AssociateRequest,
    answer: AssociateAnswer,
    settings: DimseSettings,
) -> Requested:
    proposed = {context.id: context for context in request.contexts}
    roles = {role.abstract_syntax: role for role in answer.user.roles}
    contexts = {
        one.id: _context(proposed[one.id], one.transfer_syntax, roles.get(proposed[one.id].abstract_syntax))
        for one in answer.contexts
        if one.result == ACCEPTED and one.transfer_syntax in getattr(proposed.get(one.id), "transfer_syntaxes", ())
    }
    longest = answer.user.maximum_length
    peer = Peer(destination.calling_ae, destination.title, destination.host, longest)
    association = Requested(transport, machine, peer, contexts, settings)
    association.unconfirmed = _is_unconfirmed(destination, answer)
    if destination.journal is not None:
        association.tell(destination.journal, _accepted(destination, destination.journal, request, answer))
    if not contexts or 0 < longest < LEAST_LENGTH:
        wanted = ", ".join(sorted({one.abstract_syntax for one in request.contexts})[:3])
        error = NothingAccepted(f"{destination.title} accepts no presentation context; asked for: {wanted}")
        association.abandon(error)
        raise error
    return association


def _accepted(destination: Destination, journal: Journal, request: AssociateRequest, answer: AssociateAnswer) -> Entry:
    answers = {one.id: one for one in answer.contexts}
    contexts = []
    for one in request.contexts:
        given = answers.get(one.id)
        taken = given.transfer_syntax if given is not None and given.result == ACCEPTED else ""
        contexts.append(Proposed(one.abstract_syntax, one.transfer_syntaxes, -1 if given is None else given.result, taken))
    said = [reasons.not_taken(destination.title, ((one.sop_class, one.result) for one in contexts))]
    if _is_unconfirmed(destination, answer):
        said.append(f"{destination.title} does not confirm who we are (user identity), as it was asked to")
    return journal.accepted(
        destination.host,
        "; ".join(filter(None, said)),
        calling_ae=destination.calling_ae,
        called_ae=destination.title,
        contexts=tuple(contexts),
        direction=Direction.OUT,
    )


def _is_unconfirmed(destination: Destination, answer: AssociateAnswer) -> bool:
    asked = destination.identity is not None and destination.identity.answer_wanted
    return asked and answer.user.identity_answer is None


def _tell_failure(destination: Destination, proposals: Sequence[Proposal], error: LightboxError) -> None:
    journal, ours, theirs = destination.journal, destination.calling_ae, destination.title
    if journal is None or isinstance(error, NothingAccepted):
        # That was an association, and is told as one.
        return
    if isinstance(error, Rejection):
        contexts = tuple(Proposed(one.abstract_syntax, one.transfer_syntaxes, -1) for one in proposals)
        journal.refused(
            destination.host, str(error), calling_ae=ours, called_ae=theirs, contexts=contexts, direction=Direction.OUT
        )
    else:
        how = "TLS" if isinstance(error, NotSecure) else "not reached"
        journal.dropped(
            destination.host, str(error), how=how, calling_ae=ours, called_ae=theirs, direction=Direction.OUT
        )


def _context(proposed: ProposedContext, syntax: str, role: Role | None) -> Context:
    """Without a word on roles the peer is the provider (PS3.7 D.3.3.4)."""
    uses, provides = (False, True) if role is None else (role.scp, role.scu)
    return Context(proposed.id, proposed.abstract_syntax, syntax, peer_uses=uses, peer_provides=provides)
