"""Why another DICOM node does not answer: its name, its port, TLS, the association and the echo, one after the other."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pacs.dimse import CommandField, Status
from pacs.scp.secured import Channel, Secured
from pacs.scp.sop_classes import PLAIN, VERIFICATION
from pacs.scp.transport import Ended
from pacs.scu.associating import (
    Destination,
    NothingAccepted,
    NotReached,
    Proposal,
    Requested,
    associate_on,
    reach,
    secure,
)
from pacs.scu.nodes import tls_of
from pacs.scu.web import asked, web_destination_of
from pacs.tls import Credentials, TlsSettings
from storage.errors import LightboxError
from storage.index.ae import AeTitle

_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the diagnosis. After one that is not `ok` there is no other."""

    name: str
    ok: bool
    text: str
    milliseconds: float


def echo(
    title: str, host: str, port: int, *, calling: str, tls: ssl.SSLContext | None = None
) -> Iterator[Step]:
    """C-ECHO (PS3.4 annex A) to `title` at `host`:`port`, told step by step; the last step says how it ended.

    With `tls` (`pacs.scu.nodes.tls_of`) it is DICOM over TLS.
    """
    found = _Diagnosis(
        Destination(title, host, port, calling, connect_seconds=_SECONDS, answer_seconds=_SECONDS, tls=tls)
    )
    steps = {"name": found.name, "port": found.port, "TLS": found.secure, "association": found.associate, "echo": found.echo}
    try:
        for name, attempt in steps.items():
            if name == "TLS" and tls is None:
                continue
            begun = time.perf_counter()
            try:
                text, ok = attempt(), True
            except LightboxError as error:
                text, ok = str(error), False
            yield Step(name, ok, text, round((time.perf_counter() - begun) * 1000, 1))
            if not ok:
                return
    finally:
        found.close()


def echo_node(node: AeTitle, *, calling: str, credentials: Credentials) -> Iterator[Step]:
    """The same to a node of the registry, over TLS with our `credentials` where that is so; a search over the web, where it is
    sent to by STOW-RS."""
    if over_web := web_destination_of(node):
        begun = time.perf_counter()
        ok, text = asked(over_web)
        yield Step("DICOMweb", ok, text, (time.perf_counter() - begun) * 1000)
        return
    try:
        tls = tls_of(node, credentials)
    except TlsSettings as error:
        yield Step("TLS", ok=False, text=str(error), milliseconds=0.0)
        return
    yield from echo(node.title, node.host, node.port, calling=calling, tls=tls)


class _Fault(LightboxError):
    """What a step has found."""


class _Diagnosis:
    """One connection on its way to an echo; each step gives what is well, or raises what is not."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._channel: Channel | None = None
        self._association: Requested | None = None

    def name(self) -> str:
        host = self._destination.host
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise _Fault(f"there is no host {host!r}: check its spelling, or give its address") from error
        addresses = sorted({str(entry[4][0]) for entry in found})
        return f"{host} is {', '.join(addresses)}"

    def port(self) -> str:
        port = self._destination.port
        try:
            self._channel = reach(self._destination)
        except NotReached as error:
            if isinstance(error.__cause__, TimeoutError):
                text = f"no answer within {_SECONDS:.0f} s: is the host up, and does a firewall let port {port} through?"
                raise _Fault(text) from error
            if isinstance(error.__cause__, ConnectionRefusedError):
                text = f"nothing listens on port {port}: is the DICOM service running, and is the port right?"
                raise _Fault(text) from error
            raise
        return f"something listens on port {port}"

    def secure(self) -> str:
        assert isinstance(self._channel, socket.socket)
        sock, self._channel = self._channel, None
        self._channel = secure(sock, self._destination)
        assert isinstance(self._channel, Secured)
        agreed = self._channel.secrecy
        return f"{agreed.version} with {agreed.suite}; its certificate is that of {agreed.subject or 'nobody'}"

    def associate(self) -> str:
        assert self._channel is not None
        channel, self._channel = self._channel, None
        try:
            self._association = associate_on(channel, self._destination, [Proposal(VERIFICATION, PLAIN)])
        except NothingAccepted as error:
            raise _Fault("it accepts associations, but no verification (C-ECHO)") from error
        except NotReached as error:
            doubt = "" if self._destination.tls else ": is it a DICOM node, and does it expect TLS?"
            raise _Fault(f"{error}{doubt}") from error
        return f"{self._destination.title} accepts an association with {self._destination.calling_ae}"

    def echo(self) -> str:
        assert self._association is not None
        association, self._association = self._association, None
        try:
            with association:
                (context,) = association.contexts_for(VERIFICATION)
                response = association.request(context, CommandField.C_ECHO, AffectedSOPClassUID=VERIFICATION)
        except Ended as error:
            raise _Fault(f"the association was accepted, and then the echo was not answered: {error}") from error
        if response.status != Status.SUCCESS:
            raise _Fault(f"answered with status 0x{response.status:04X}")
        return "answered with status 0x0000"

    def close(self) -> None:
        if self._association is not None:
            self._association.abandon()
        if self._channel is not None:
            self._channel.close()
