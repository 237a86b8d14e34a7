"""Who may send HL7 messages: from which addresses, and over TLS with which certificates; a refusal says what to do."""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pacs.ae_titles import is_within
from pacs.tls import explained

# For the whole of it, however many bytes it comes in.
_HANDSHAKE_SECONDS: Final = 10.0
# The first byte of a TLS handshake (RFC 8446 5.1).
_HANDSHAKE: Final = 0x16


class NotASender(Exception):
    """Whoever connects may not send; the text says why, and what to set if it may."""


@dataclass(frozen=True, slots=True)
class Senders:
    """`addresses` are addresses and networks, any may send where there are none; `certificates` are the SHA-256 fingerprints
    of those that may be shown over TLS, any that the settings trust where there are none."""

    addresses: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()

    def admit(self, address: str) -> None:
        """Raises NotASender for an address that is not allowed."""
        if not is_within(address, self.addresses):
            raise NotASender(f"{address} may not send HL7 messages: add it to PACS_HL7_SENDERS if it may")

    def admit_certificate(self, der: bytes | None) -> None:
        """The same for the certificate that was shown, None for none; a TLS handshake has looked whether it is trusted."""
        if not self.certificates:
            return
        if not der:
            raise NotASender("it shows no certificate, and must show one of PACS_HL7_SENDER_CERTIFICATES: give it one, with its key")
        found = hashlib.sha256(der).hexdigest()
        if found not in self.certificates:
            raise NotASender(
                f"it shows another certificate (SHA-256 {found}) than PACS_HL7_SENDER_CERTIFICATES has: if it was renewed, add it there"
            )


def refuse_tls(data: bytes, *, first: bool) -> None:
    """Raises NotASender where the `first` bytes are those of a TLS handshake: its peer would wait for an answer to it."""
    if first and data[0] == _HANDSHAKE:
        raise NotASender("it speaks TLS, and this port is without: use PACS_HL7_TLS_PORT, or turn TLS off there")


@dataclass(frozen=True, slots=True, eq=False)
class Door:
    """A listening socket, and what makes it one for TLS: gives the context for a connection that comes now."""

    sock: socket.socket
    secure: Callable[[], ssl.SSLContext] | None = None

    def open(self, sock: socket.socket, senders: Senders) -> socket.socket:
        """The socket of a connection that was accepted, in TLS where that is spoken here. Raises NotASender, OSError."""
        if self.secure is None:
            return sock
        sock.settimeout(_HANDSHAKE_SECONDS)
        try:
            secured = self.secure().wrap_socket(sock, server_side=True)
        except ssl.SSLError as error:
            raise NotASender(f"no TLS with it: {explained(error)}") from error
        except TimeoutError:
            raise NotASender("no TLS with it: it did not finish its handshake in time; does it speak TLS?") from None
        try:
            senders.admit_certificate(secured.getpeercert(binary_form=True))
        except NotASender:
            secured.close()
            raise
        return secured
