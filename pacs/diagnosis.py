"""Why another DICOM node does not answer: its name, its port, TLS, the association and the echo, one after the other."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from pacs.dimse import CommandField, Status
from pacs.scp.identity import KINDS
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
from pacs.scu.nodes import destination_at
from pacs.scu.web import asked, web_destination_of
from pacs.tls import Credentials, TlsSettings
from storage.errors import LightboxError
from storage.index.ae import AeTitle
from storage.index.identities import Identity

_SECONDS: Final = 5.0
# Of the kinds of user identity the one without a secret (PS3.7 D.3.3.7.1).
_NAME_ALONE: Final = 1


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the diagnosis. After one that is not `ok` there is no other."""

    name: str
    ok: bool
    text: str
    milliseconds: float


def echo(destination: Destination) -> Iterator[Step]:
    """C-ECHO (PS3.4 annex A) to a node, told step by step; the last step says how it ended."""
    found = _Diagnosis(replace(destination, connect_seconds=_SECONDS, answer_seconds=_SECONDS))
    steps = {
        "name": found.name,
        "port": found.port,
        "TLS": found.secure if destination.tls else None,
        "association": found.associate,
        "user identity": found.identify if destination.identity else None,
        "echo": found.echo,
    }
    try:
        for name, attempt in steps.items():
            if attempt is None:
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


def echo_node(
    node: AeTitle, identity: Identity | None = None, *, calling: str, credentials: Credentials
) -> Iterator[Step]:
    """The same to a node of the registry, to which we are `identity`, over TLS with our `credentials` where that is so; a search
    over the web, where it is sent to by STOW-RS."""
    if over_web := web_destination_of(node):
        begun = time.perf_counter()
        ok, text = asked(over_web)
        yield Step("DICOMweb", ok, text, (time.perf_counter() - begun) * 1000)
        return
    try:
        destination = destination_at(node, identity, calling_ae=calling, credentials=credentials)
    except TlsSettings as error:
        yield Step("TLS", ok=False, text=str(error), milliseconds=0.0)
        return
    yield from echo(destination)


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

    def identify(self) -> str:
        """It may ask for less than we say (PS3.7 D.3.3.7): an association is none the worse for it."""
        assert self._association is not None
        identity = self._destination.identity
        assert identity is not None
        if self._association.unconfirmed:
            said = "was told, and does not confirm it as asked: it may not check it at all"
        else:
            said = "confirms it" if identity.answer_wanted else "was told, and not asked to confirm it"
        exposed = "" if self._destination.tls or identity.kind == _NAME_ALONE else "; without TLS who listens on the way can read it"
        return f"{KINDS[identity.kind]}: {self._destination.title} {said}{exposed}"

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
