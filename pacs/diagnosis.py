"""Why another DICOM node does not answer: its name, its port, the association and the echo, one after the other."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ

_SECONDS = 5.0
# Verification SOP Class (PS3.4 A.4).
_VERIFICATION = "1.2.840.10008.1.1"
# PS3.8 9.3.4, (source, reason) of an A-ASSOCIATE-RJ, as far as it says what to change.
_REJECTED = {
    (1, 2): "it does not know the application context: is it a DICOM node?",
    (1, 3): "it does not know our AE title {ours!r}: add it to its list of known nodes",
    (1, 7): "it is not called {theirs!r}: ask for its AE title (letters' case counts) and correct it here",
    (2, 2): "it speaks another version of the protocol",
    (3, 1): "it is too busy now: try again later",
    (3, 2): "it has as many associations as it allows: try again later",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the diagnosis. After one that is not `ok` there is no other."""

    name: str
    ok: bool
    text: str
    milliseconds: float


def echo(title: str, host: str, port: int, *, calling: str) -> Iterator[Step]:
    """C-ECHO (PS3.4 annex A) to `title` at `host`:`port`, told step by step; the last step says how it ended."""
    attempts: dict[str, Callable[[], tuple[bool, str]]] = {
        "name": lambda: _name(host),
        "port": lambda: _port(host, port),
        "association and echo": lambda: _echo(title, host, port, calling),
    }
    for name, attempt in attempts.items():
        begun = time.perf_counter()
        ok, text = attempt()
        yield Step(name, ok, text, round((time.perf_counter() - begun) * 1000, 1))
        if not ok:
            return


def _name(host: str) -> tuple[bool, str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False, f"there is no host {host!r}: check its spelling, or give its address"
    addresses = sorted({str(entry[4][0]) for entry in found})
    return True, f"{host} is {', '.join(addresses)}"


def _port(host: str, port: int) -> tuple[bool, str]:
    try:
        socket.create_connection((host, port), timeout=_SECONDS).close()
    except TimeoutError:
        return (
            False,
            f"no answer within {_SECONDS:.0f} s: is the host up, and does a firewall let port {port} through?",
        )
    except ConnectionRefusedError:
        return False, f"nothing listens on port {port}: is the DICOM service running, and is the port right?"
    except OSError as error:
        return False, f"cannot be reached ({error.strerror})"
    return True, f"something listens on port {port}"


def _echo(title: str, host: str, port: int, calling: str) -> tuple[bool, str]:
    entity: Any = ApplicationEntity
    entity = entity(ae_title=calling)
    entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _SECONDS
    entity.add_requested_context(_VERIFICATION)
    received: list[Any] = []
    # Seen as they come: a peer that rejects and hangs up at once leaves the association itself without a reason.
    watch = [(evt.EVT_PDU_RECV, lambda event: received.append(event.pdu))]
    association = entity.associate(host, port, ae_title=title, evt_handlers=watch)
    if not association.is_established:
        return False, _refusal(received, title, calling)
    try:
        status = association.send_c_echo()
    finally:
        association.release()
    if "Status" not in status:
        return False, "the association was accepted, and then the echo was not answered"
    return status.Status == 0, f"answered with status 0x{status.Status:04X}"


def _refusal(received: list[Any], title: str, calling: str) -> str:
    for pdu in received:
        if isinstance(pdu, A_ASSOCIATE_RJ):
            source, reason = int(pdu.source or 0), int(pdu.reason_diagnostic or 0)
            why = _REJECTED.get((source, reason), "it gives reason {source}.{reason} (PS3.8 9.3.4)")
            return "rejected: " + why.format(ours=calling, theirs=title, source=source, reason=reason)
        if isinstance(pdu, A_ASSOCIATE_AC):
            return "it accepts associations, but no verification (C-ECHO)"
    return "it closed the connection or did not answer: is it a DICOM node, and does it expect TLS?"
