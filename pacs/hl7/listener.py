"""The MLLP port: a guarded socket, a thread for each of a few connections, one answer for each message in its order.

Limits are on the size of a message, on the time that it may take to come, on silence and on the number of connections.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass
from typing import Final

import structlog

from pacs.hl7.framing import Framing, TooLong, framed
from pacs.hl7.receiving import Receiver

_log = structlog.get_logger(__name__)
_READ: Final = 1 << 16
# How often a thread that waits for bytes looks whether it is over.
_LOOK_SECONDS: Final = 0.5
# When accepting fails because the system has no room for a socket.
_PAUSE_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class HL7Limits:
    """What a sender may do. Interface engines keep a connection open for days and are silent in the night."""

    message_bytes: int = 1 << 18
    message_seconds: float = 30.0
    idle_seconds: float = 86_400.0
    connections: int = 32
    connections_per_address: int = 8


class Listener:
    """Serves a listening socket from `start` to `stop`."""

    def __init__(self, receiver: Receiver, sock: socket.socket, limits: HL7Limits | None = None) -> None:
        self._receiver = receiver
        self._socket = sock
        self._limits = limits or HL7Limits()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, str] = {}
        self._accepting = threading.Thread(target=self._accept, name="hl7-accept", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._socket.getsockname()[1]
        return port

    def start(self) -> None:
        """Begin to accept."""
        self._socket.settimeout(_LOOK_SECONDS)
        self._accepting.start()
        _log.info("hl7.listening", port=self.port)

    def stop(self, seconds: float) -> bool:
        """Accept no more, finish the messages in hand; whether that was done in time."""
        self._over.set()
        deadline = time.monotonic() + seconds
        self._accepting.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            waiting = list(self._open)
        for thread in waiting:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in waiting)

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                sock, address = self._socket.accept()
            except TimeoutError:
                continue
            except OSError as error:
                _log.warning("hl7.accepting", reason=str(error))
                self._over.wait(_PAUSE_SECONDS)
                continue
            self._begin(sock, str(address[0]))
        self._socket.close()

    def _begin(self, sock: socket.socket, address: str) -> None:
        thread = threading.Thread(target=self._serve, args=(sock, address), name="hl7-connection", daemon=True)
        with self._lock:
            mine = sum(other == address for other in self._open.values())
            if len(self._open) >= self._limits.connections or mine >= self._limits.connections_per_address:
                sock.close()
                _log.warning("hl7.refused", reason="too many connections", address=address)
                return
            self._open[thread] = address
        thread.start()

    def _serve(self, sock: socket.socket, address: str) -> None:
        why = "an error of ours"
        try:
            with sock:
                sock.settimeout(_LOOK_SECONDS)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                why = self._converse(sock, address)
        except OSError as error:
            why = error.strerror or type(error).__name__
        except Exception:  # noqa: BLE001 - logged; the other connections go on
            _log.exception("hl7.failed", address=address)
        finally:
            with self._lock:
                del self._open[threading.current_thread()]
            _log.info("hl7.ended", reason=why, address=address)

    def _converse(self, sock: socket.socket, address: str) -> str:
        """Answer messages until the connection ends; gives why it did."""
        framing = Framing(self._limits.message_bytes)
        quiet_since = time.monotonic()
        begun = quiet_since
        while not self._over.is_set():
            data = self._read(sock)
            if data == b"":
                return "closed by the sender"
            now = time.monotonic()
            if data is not None:
                quiet_since = now
                was_inside = framing.inside
                try:
                    for message in framing.feed(data):
                        self._send(sock, self._receiver.receive(message, address))
                        was_inside = False
                except TooLong as error:
                    self._send(sock, self._receiver.too_long(error.head, self._limits.message_bytes, address))
                    return "a message over the limit"
                begun = begun if was_inside else time.monotonic()
            if framing.inside and now - begun > self._limits.message_seconds:
                return "a message that did not end"
            if now - quiet_since > self._limits.idle_seconds:
                return "silence"
        return "stopped"

    def _read(self, sock: socket.socket) -> bytes | None:
        """What comes; empty at the end, None where nothing comes for a while."""
        with contextlib.suppress(TimeoutError):
            return sock.recv(_READ)
        return None

    def _send(self, sock: socket.socket, message: bytes) -> None:
        sock.settimeout(self._limits.message_seconds)
        try:
            sock.sendall(framed(message))
        finally:
            sock.settimeout(_LOOK_SECONDS)
