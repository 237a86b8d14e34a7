"""One association from its request to its end: negotiate, hand each message to its service, and tell how it went."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final, TypeAlias

import structlog

from pacs.ae_titles import RIGHT_OF, Verdict
from pacs.dimse import CommandField, Status
from pacs.scp import reasons
from pacs.scp.association import LEAST_LENGTH, Association, Message, Peer
from pacs.scp.identity import Identified
from pacs.scp.negotiation import negotiate, rejection
from pacs.scp.provider import Provider
from pacs.scp.secured import Channel
from pacs.scp.services import SERVICES, Answer
from pacs.scp.sop_classes import Kind, kind_of
from pacs.scp.transport import Ended, Transport
from pacs.scp.watching import Watch, takes_events
from pacs.upper_layer import (
    APPLICATION_CONTEXT_NOT_SUPPORTED,
    CALLED_AE_NOT_RECOGNIZED,
    CALLING_AE_NOT_RECOGNIZED,
    IDENTITY_NOT_ACCEPTED,
    LOCAL_LIMIT_EXCEEDED,
    PROTOCOL_VERSION_NOT_SUPPORTED,
    AbortReason,
    AbortSource,
    Acceptor,
    AssociateAnswer,
    AssociateRequest,
    Reject,
    Violation,
)
from storage.index.ae import EVERY_RIGHT
from storage.index.associations import Entry, Proposed

Services: TypeAlias = Mapping[tuple[CommandField, Kind], Answer]

_log = structlog.get_logger(__name__)

REJECTED: Final[dict[Reject, str]] = {
    APPLICATION_CONTEXT_NOT_SUPPORTED: "application context",
    CALLED_AE_NOT_RECOGNIZED: "called AE",
    CALLING_AE_NOT_RECOGNIZED: "calling AE",
    IDENTITY_NOT_ACCEPTED: "user identity",
    LOCAL_LIMIT_EXCEEDED: "limit",
    PROTOCOL_VERSION_NOT_SUPPORTED: "protocol version",
}


def serve(
    sock: Channel,
    machine: Acceptor,
    address: str,
    provider: Provider,
    services: Services = SERVICES,
) -> None:
    """Serve a socket whose A-ASSOCIATE-RQ is complete in `machine`, until its end. Closes the socket; never raises."""
    try:
        transport = Transport(sock, provider.settings, provider.stopping)
    except OSError:
        sock.close()
        provider.places.leave(None, address)
        return
    provider.places.occupy(transport, address)
    session = _Session(transport, machine, address, provider, services)
    try:
        session.run()
    finally:
        transport.linger()
        provider.places.leave(transport, address)


class _Session:
    """One association, and what the log is told of it."""

    def __init__(
        self, transport: Transport, machine: Acceptor, address: str, provider: Provider, services: Services
    ) -> None:
        self._transport = transport
        self._machine = machine
        self._address = address
        self._provider = provider
        self._services = services
        self._begun = time.monotonic()
        self._rights = EVERY_RIGHT
        self._who = Identified()
        self._association: Association | None = None
        self._entry: Entry | None = None
        self._watch: Watch | None = None

    def run(self) -> None:
        """From the request to the end. Never raises."""
        try:
            self._association = self._establish()
            if self._association:
                self._serve(self._association)
        except Ended as ended:
            self._ended(ended)
        except Exception:  # noqa: BLE001
            # Ours, whatever it is: the other associations go on, and this peer is told that it is over.
            _log.exception("association.failed", address=self._address)
            if self._association:
                self._association.aborted("error", "an error of ours")
                self._provider.observer.association_ended("error", time.monotonic() - self._begun)
                self._tell_end(self._association, "error", reasons.DROPPED["error"])
        finally:
            if self._watch:
                self._watch.end()

    def _serve(self, association: Association) -> None:
        association.on_request = lambda message: self._dispatch(association, message)
        entry = self._entry
        assert entry is not None
        entry.operations = association.operations
        events = takes_events(association.contexts)
        self._watch = Watch(association, events, self._provider) if events else None
        while True:
            if self._watch:
                self._watch.wait()
            self._dispatch(association, association.next_message())
            entry.received, entry.sent = association.received, association.sent

    def _establish(self) -> Association | None:
        """Answer the request. None when the association is rejected; a request that cannot be read is aborted."""
        transport, machine, provider = self._transport, self._machine, self._provider
        try:
            request = machine.next_event()
            assert isinstance(request, AssociateRequest)
            # Nothing may come before our answer but an abort (PS3.8 table 9-10, Sta3).
            if machine.next_event():
                raise Ended("aborted by peer")
            _check_length(request)
        except Violation as error:
            transport.send(error.pdu)
            provider.observer.connection_dropped("violation")
            first = provider.journal.dropped(self._address, reasons.violation(str(error)), how="violation")
            tell = _log.warning if first else _log.debug
            tell("connection.violation", address=self._address, reason=str(error))
            return None
        who = self._who = provider.verifier.identify(request.user.identity)
        peer = Peer(request.calling_ae, request.called_ae, self._address, request.user.maximum_length, who.user)
        verdict = self._judge(request)
        if verdict.reject:
            self._reject(request, verdict)
            return None
        self._rights = verdict.rights
        answer, contexts = negotiate(request, provider.settings.max_pdu_bytes, self._may, who.answer)
        transport.send(machine.accept(answer))
        provider.observer.association_accepted()
        told = {**_named(peer), **_secrecy(transport)}
        _log.info("association.accepted", contexts=len(contexts), proposed=len(request.contexts), **told)
        self._entry = self._accepted(request, answer)
        association = Association(transport, machine, peer, contexts, provider.settings)
        association.assumed = verdict.quirks.charset
        association.own_ae = verdict.own_ae or provider.settings.ae_title
        association.coercion = verdict.coercion
        return association

    def _judge(self, request: AssociateRequest) -> Verdict:
        why = rejection(request, None)
        if why:
            return Verdict(reject=why, reason=reasons.REJECTIONS[why])
        if self._who.refused:
            return Verdict(reject=IDENTITY_NOT_ACCEPTED, reason=self._who.refused)
        agreed = self._transport.secrecy
        shown = None if agreed is None else agreed.fingerprint
        return self._provider.registry.judge(request.calling_ae, request.called_ae, self._address, shown)

    def _may(self, kind: Kind) -> bool:
        return RIGHT_OF[kind] in self._rights

    def _reject(self, request: AssociateRequest, verdict: Verdict) -> None:
        assert verdict.reject is not None
        self._transport.send(self._machine.reject(verdict.reject))
        word = REJECTED[verdict.reject]
        self._provider.observer.association_rejected(word)
        peer = Peer(request.calling_ae, request.called_ae, self._address)
        agreed = self._transport.secrecy
        first = self._provider.journal.refused(
            self._address,
            verdict.reason,
            calling_ae=request.calling_ae,
            called_ae=request.called_ae,
            contexts=tuple(Proposed(one.abstract_syntax, one.transfer_syntaxes, -1) for one in request.contexts),
            asks=verdict.asks,
            rights=frozenset(RIGHT_OF[kind] for kind in reasons.kinds_of(request)),
            certificate=agreed.fingerprint if agreed else "",
        )
        tell = _log.warning if first else _log.debug
        tell("association.rejected", reason=word, text=verdict.reason, **_named(peer))

    def _accepted(self, request: AssociateRequest, answer: AssociateAnswer) -> Entry:
        contexts = tuple(
            Proposed(one.abstract_syntax, one.transfer_syntaxes, given.result, given.transfer_syntax if not given.result else "")
            for one, given in zip(request.contexts, answer.contexts, strict=True)
        )
        wanted = {RIGHT_OF[kind] for kind in reasons.kinds_of(request)}
        secrecy = self._transport.secrecy
        soon = reasons.certificate_ending(secrecy.ends if secrecy else None, time.time())
        refused = reasons.refused_contexts(request, answer.contexts, sorted(wanted - self._rights))
        return self._provider.journal.accepted(
            self._address,
            self._who.told("; ".join(part for part in (soon, refused) if part)),
            calling_ae=request.calling_ae,
            called_ae=request.called_ae,
            contexts=contexts,
        )

    def _dispatch(self, association: Association, message: Message) -> None:
        field = message.command["CommandField"]
        if field == CommandField.C_CANCEL:
            # For an operation that is over already (PS3.7 9.3.2.3): nothing to do and nothing to answer.
            association.drain(message)
            return
        if message.is_response:
            raise association.aborted("violation", f"a response {field:04X}H to nothing that was asked")
        kind = kind_of(message.context.abstract_syntax)
        answer = self._services.get((field, kind))
        if answer is not None and not self._may(kind):
            # A context that was accepted for the other role (PS3.7 C.5, Refused: Not authorized).
            text = f"no right to {RIGHT_OF[kind]}; ask the administrator for it"
            association.respond(message, Status.NOT_AUTHORIZED, ErrorComment=text)
        # Who reports is the provider (PS3.7 10.1.1); that it may be, not all negotiate.
        elif answer is not None and (message.context.peer_uses or field == CommandField.N_EVENT_REPORT):
            answer(association, message, self._provider)
        elif any(field == served for served, _ in self._services):
            association.respond(message, Status.SOP_CLASS_NOT_SUPPORTED)
        else:
            association.respond(message, Status.UNRECOGNIZED_OPERATION)

    def _ended(self, ended: Ended) -> None:
        seconds = time.monotonic() - self._begun
        association, provider = self._association, self._provider
        if association is None:
            provider.observer.connection_dropped(ended.how)
            text = f"it ended before its request was answered: {ended}"
            tell = _log.info if provider.journal.dropped(self._address, text, how=ended.how) else _log.debug
            tell("connection.dropped", address=self._address, how=ended.how, reason=str(ended))
            return
        provider.observer.association_ended(ended.how, seconds)
        tell = _log.info if ended.how in ("released", "stopped") else _log.warning
        named = _named(association.peer)
        tell("association.ended", how=ended.how, reason=str(ended), seconds=round(seconds, 3), **named)
        self._tell_end(association, ended.how, reasons.end(ended.how, str(ended)))

    def _tell_end(self, association: Association, how: str, reason: str) -> None:
        if self._entry:
            self._entry.received, self._entry.sent = association.received, association.sent
            self._entry.operations = association.operations
            # A sender of which nothing was accepted hangs up, as it should: why is said already.
            why = "; ".join(part for part in (reasons.remarks(association.remarks), reason if association.contexts else "") if part)
            self._provider.journal.ended(self._entry, how, why)


def _check_length(request: AssociateRequest) -> None:
    if 0 < request.user.maximum_length < LEAST_LENGTH:
        raise Violation(
            f"P-DATA PDUs of at most {request.user.maximum_length} bytes can carry nothing",
            0,
            AbortSource.PROVIDER,
            AbortReason.INVALID_PARAMETER,
        )


def _named(peer: Peer) -> dict[str, str]:
    named = {"calling_ae": peer.calling_ae, "called_ae": peer.called_ae, "address": peer.address}
    return {**named, "user": peer.user} if peer.user else named


def _secrecy(transport: Transport) -> dict[str, str]:
    """How TLS protects it, and whose certificate was shown."""
    agreed = transport.secrecy
    if agreed is None:
        return {}
    shown = {"certificate": agreed.subject, "fingerprint": agreed.fingerprint} if agreed.fingerprint else {}
    return {"tls": f"{agreed.version} {agreed.suite}", **shown}
