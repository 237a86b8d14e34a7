"""A connected socket in TLS, with those methods of a socket that the front and a transport use.

The records go through memory (`ssl.MemoryBIO`), so that the socket itself is used as without TLS: large reads, limits on
waiting and quick acknowledgements work on it unchanged, and whoever waits is woken by every byte, also by those that are
not yet a record.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from pacs.tls import explained

Buffer: TypeAlias = bytes | bytearray | memoryview

# What is read from the socket at once: a few of the largest records (RFC 8446 5.1).
_READ_BYTES: Final = 1 << 16
# What is encrypted before it is sent: buffers of our own stay this small.
_SEND_BYTES: Final = 1 << 17
# What OpenSSL keeps for a connection while it is being made, for those who count memory.
HANDSHAKE_BYTES: Final = 1 << 16
# The first byte that a TLS peer sends: of a handshake, or of an alert (RFC 8446 5.1).
_FIRST_OF_TLS: Final = frozenset({0x16, 0x15})
# The first byte of a peer that does not speak it: an A-ASSOCIATE-RQ, or a PDU that answers one; and letters of HTTP's methods.
_FIRST_OF_DICOM: Final = frozenset(range(1, 8))
_FIRST_OF_HTTP: Final = frozenset(b"GHPOD")


class Channel(Protocol):
    """What the front and a transport need of a socket; `socket.socket` has it."""

    def fileno(self) -> int: ...
    def recv(self, bufsize: int, flags: int = ..., /) -> bytes: ...
    def recv_into(self, buffer: memoryview, nbytes: int = ..., flags: int = ...) -> int: ...
    def send(self, data: Buffer, flags: int = ..., /) -> int: ...
    def sendall(self, data: Buffer, flags: int = ..., /) -> None: ...
    def sendmsg(self, buffers: Sequence[Buffer], /) -> int: ...
    def setblocking(self, flag: bool, /) -> None: ...
    def setsockopt(self, level: int, optname: int, value: int | bytes, /) -> None: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...


class TlsFailed(OSError):
    """There is no TLS with this peer, or no more; `strerror` says why, in words about the peer."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.strerror = why


class NotTls(TlsFailed):
    """What comes is not TLS."""


@dataclass(frozen=True, slots=True)
class Secrecy:
    """What was agreed, and the peer's certificate: the SHA-256 of its DER form in hexadecimal, empty where it showed none, and
    its end in seconds since 1970."""

    version: str
    suite: str
    fingerprint: str
    subject: str
    ends: float | None = None


class Secured:
    """TLS on a connected socket, of which it takes possession; for data as soon as `handshake` is through.

    Blocking or not as the socket is; BlockingIOError where there is nothing to read. Raises TlsFailed.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, host: str | None = None) -> None:
        """`host` is whom we connect to; None where the peer has connected to us."""
        self._socket = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=host is None, server_hostname=host)
        self._first = True
        self._ended = False
        self.established = False

    # Beginning

    def handshake(self) -> bool:
        """Go on with what is there, on a non-blocking socket; whether it is through. To be called again when more has come."""
        try:
            while not self._step():
                pass
        except (BlockingIOError, InterruptedError):
            return False
        return True

    def handshake_within(self, seconds: float) -> None:
        """The whole handshake on a blocking socket. Raises TimeoutError, also for one that comes by the byte."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            if self._step():
                return
        raise TimeoutError

    def _step(self) -> bool:
        """As far as it goes with one read of the socket; whether it is through."""
        if self.established:
            return True
        try:
            self._tls.do_handshake()
            self.established = True
        except ssl.SSLWantReadError:
            self._reply()
            if not self._fetch():
                raise TlsFailed("it hung up in the middle of the TLS handshake") from None
            return False
        except ssl.SSLError as error:
            self._last_word()
            raise TlsFailed(explained(error)) from error
        self._reply()
        return True

    @property
    def secrecy(self) -> Secrecy:
        """What was agreed; after the handshake."""
        suite = self._tls.cipher()
        certificate = self._tls.getpeercert(binary_form=True)
        named = self._tls.getpeercert() or {}
        parts = (pair for part in named.get("subject", ()) for pair in part)
        subject = ", ".join(f"{pair[0]}={pair[1]}" for pair in parts)
        digest = hashlib.sha256(certificate).hexdigest() if certificate else ""
        ends = float(ssl.cert_time_to_seconds(str(named["notAfter"]))) if "notAfter" in named else None
        return Secrecy(self._tls.version() or "", suite[0] if suite else "", digest, subject, ends)

    # Reading

    @property
    def pending(self) -> bool:
        """Whether something was received that no read has given yet: a selector does not tell of it."""
        return self._in.pending > 0 or self._tls.pending() > 0

    def recv_into(self, buffer: memoryview, nbytes: int = 0, flags: int = 0) -> int:
        """What is there, by one read of the socket at most; 0 at the end. BlockingIOError while no record is whole."""
        space = buffer[: nbytes or None]
        count = self._decrypted(space)
        if count or self._ended or not self._fetch(flags):
            return count
        count = self._decrypted(space)
        if not count and not self._ended:
            raise BlockingIOError
        return count

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Bytes as they come, encrypted: for those who only wait for the end."""
        return self._socket.recv(bufsize, flags)

    def _decrypted(self, space: memoryview) -> int:
        """As much as is here of whole records, and fits."""
        count = 0
        try:
            while count < len(space) and not self._ended:
                came = self._tls.read(len(space) - count, space[count:])
                count += int(came)
                self._ended = not came
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            # Whether an association is over is said by its own messages: one without close_notify is lost all the same.
            self._ended = True
        except ssl.SSLError as error:
            self._last_word()
            raise TlsFailed(explained(error)) from error
        self._reply()
        return count

    def _fetch(self, flags: int = 0) -> int:
        data = self._socket.recv(_READ_BYTES, flags)
        if self._first and data:
            self._first = False
            if data[0] not in _FIRST_OF_TLS:
                raise NotTls(_spoken(data[0]))
        self._in.write(data)
        return len(data)

    # Writing

    def send(self, data: Buffer, flags: int = 0, /) -> int:
        """All of it."""
        self.sendall(data, flags)
        return len(data)

    def sendall(self, data: Buffer, _flags: int = 0, /) -> None:
        """Encrypt and send all of it."""
        rest = memoryview(data)
        while rest:
            self._encrypt(rest[:_SEND_BYTES])
            self._flush()
            rest = rest[_SEND_BYTES:]

    def sendmsg(self, buffers: Sequence[Buffer], /) -> int:
        """All of them, as one: small ones share a record."""
        together: list[Buffer] = []
        size = total = 0
        for one in buffers:
            together.append(one)
            size += len(one)
            if size >= _SEND_BYTES:
                self.sendall(b"".join(together))
                total, size, together = total + size, 0, []
        self.sendall(b"".join(together))
        return total + size

    def _encrypt(self, data: memoryview) -> None:
        while data:
            try:
                # A record at a time.
                written = self._tls.write(data)
            except ssl.SSLError as error:
                raise TlsFailed(explained(error)) from error
            data = data[written:]

    def _flush(self) -> None:
        if self._out.pending:
            self._socket.sendall(self._out.read())

    def _reply(self) -> None:
        """Send what TLS itself has to say: little, for which there is room where the peer reads."""
        try:
            self._flush()
        except BlockingIOError as error:
            raise TlsFailed("it does not read what is sent to it") from error

    def _last_word(self) -> None:
        """The alert that says why, if the peer takes it."""
        with suppress(OSError):
            self._flush()

    # Ending

    def shutdown(self, how: int, /) -> None:
        """As for a socket; before our side is closed, TLS is too (RFC 8446 6.1)."""
        if how == socket.SHUT_WR and self.established:
            # The peer's own close_notify is not there yet, and need not come.
            with suppress(ssl.SSLError):
                self._tls.unwrap()
            self._last_word()
        self._socket.shutdown(how)

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    @property
    def plain(self) -> socket.socket:
        """The socket itself."""
        return self._socket

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def setblocking(self, flag: bool, /) -> None:
        """The socket's."""
        self._socket.setblocking(flag)

    def setsockopt(self, level: int, optname: int, value: int | bytes, /) -> None:
        """The socket's."""
        self._socket.setsockopt(level, optname, value)


def _spoken(first: int) -> str:
    if first in _FIRST_OF_DICOM:
        return "it speaks DICOM without TLS: turn TLS on there, or use the port without TLS"
    if first in _FIRST_OF_HTTP:
        return "it speaks HTTP, and this is DICOM over TLS"
    return "it does not speak TLS"
