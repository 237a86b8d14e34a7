"""One association from its request to its end: negotiate, hand each message to its service, and tell how it went."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from typing import Final

import structlog

from pacs.dimse import CommandField, Status
from pacs.scp.association import LEAST_LENGTH, Association, Message, Peer
from pacs.scp.negotiation import negotiate, rejection
from pacs.scp.provider import Provider
from pacs.scp.services import SERVICES, Answer
from pacs.scp.sop_classes import Kind, kind_of
from pacs.scp.transport import Ended, Transport
from pacs.upper_layer import (
    APPLICATION_CONTEXT_NOT_SUPPORTED,
    CALLED_AE_NOT_RECOGNIZED,
    CALLING_AE_NOT_RECOGNIZED,
    LOCAL_LIMIT_EXCEEDED,
    PROTOCOL_VERSION_NOT_SUPPORTED,
    AbortReason,
    AbortSource,
    Acceptor,
    AssociateRequest,
    Reject,
    Violation,
)

_log = structlog.get_logger(__name__)

REJECTED: Final[dict[Reject, str]] = {
    APPLICATION_CONTEXT_NOT_SUPPORTED: "application context",
    CALLED_AE_NOT_RECOGNIZED: "called AE",
    CALLING_AE_NOT_RECOGNIZED: "calling AE",
    LOCAL_LIMIT_EXCEEDED: "limit",
    PROTOCOL_VERSION_NOT_SUPPORTED: "protocol version",
}


def serve(
    sock: socket.socket,
    machine: Acceptor,
    address: str,
    provider: Provider,
    services: Mapping[tuple[CommandField, Kind], Answer] = SERVICES,
) -> None:
    """Serve a socket whose A-ASSOCIATE-RQ is complete in `machine`, until its end. Closes the socket; never raises."""
    try:
        transport = Transport(sock, provider.settings, provider.stopping)
    except OSError:
        sock.close()
        provider.closed(None)
        return
    provider.opened(transport)
    begun = time.monotonic()
    association: Association | None = None
    try:
        association = _establish(transport, machine, address, provider)
        if association:
            _serve(association, provider, services)
    except Ended as ended:
        _ended(ended, association, address, provider, time.monotonic() - begun)
    except Exception:  # noqa: BLE001
        # Ours, whatever it is: the other associations go on, and this peer is told that it is over.
        _log.exception("association.failed", address=address)
        if association:
            association.aborted("error", "an error of ours")
            provider.observer.association_ended("error", time.monotonic() - begun)
    finally:
        transport.linger()
        provider.closed(transport)


def _serve(
    association: Association, provider: Provider, services: Mapping[tuple[CommandField, Kind], Answer]
) -> None:
    association.on_request = lambda message: _dispatch(association, message, provider, services)
    while True:
        _dispatch(association, association.next_message(), provider, services)


def _establish(transport: Transport, machine: Acceptor, address: str, provider: Provider) -> Association | None:
    """Answer the request. None when the association is rejected; a request that cannot be read is aborted."""
    settings = provider.settings
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
        _log.warning("connection.violation", address=address, reason=str(error))
        return None
    peer = Peer(request.calling_ae, request.called_ae, address, request.user.maximum_length)
    why = rejection(request, None if settings.any_called_ae else (settings.ae_title,))
    if why:
        transport.send(machine.reject(why))
        provider.observer.association_rejected(REJECTED[why])
        _log.warning("association.rejected", reason=REJECTED[why], **_named(peer))
        return None
    answer, contexts = negotiate(request, settings.max_pdu_bytes)
    transport.send(machine.accept(answer))
    provider.observer.association_accepted()
    _log.info("association.accepted", contexts=len(contexts), proposed=len(request.contexts), **_named(peer))
    return Association(transport, machine, peer, contexts, settings)


def _check_length(request: AssociateRequest) -> None:
    if 0 < request.user.maximum_length < LEAST_LENGTH:
        raise Violation(
            f"P-DATA PDUs of at most {request.user.maximum_length} bytes can carry nothing",
            0,
            AbortSource.PROVIDER,
            AbortReason.INVALID_PARAMETER,
        )


def _dispatch(
    association: Association,
    message: Message,
    provider: Provider,
    services: Mapping[tuple[CommandField, Kind], Answer],
) -> None:
    field = message.command["CommandField"]
    if field == CommandField.C_CANCEL:
        # For an operation that is over already (PS3.7 9.3.2.3): nothing to do and nothing to answer.
        association.drain(message)
        return
    if message.is_response:
        raise association.aborted("violation", f"a response {field:04X}H to nothing that was asked")
    answer = services.get((field, kind_of(message.context.abstract_syntax)))
    if answer is not None and message.context.peer_uses:
        answer(association, message, provider)
    elif any(field == served for served, _ in services):
        association.respond(message, Status.SOP_CLASS_NOT_SUPPORTED)
    else:
        association.respond(message, Status.UNRECOGNIZED_OPERATION)


def _ended(
    ended: Ended, association: Association | None, address: str, provider: Provider, seconds: float
) -> None:
    if association is None:
        provider.observer.connection_dropped(ended.how)
        _log.info("connection.dropped", address=address, how=ended.how, reason=str(ended))
        return
    provider.observer.association_ended(ended.how, seconds)
    tell = _log.info if ended.how in ("released", "stopped") else _log.warning
    tell("association.ended", how=ended.how, reason=str(ended), seconds=round(seconds, 3), **_named(association.peer))


def _named(peer: Peer) -> dict[str, str]:
    return {"calling_ae": peer.calling_ae, "called_ae": peer.called_ae, "address": peer.address}
