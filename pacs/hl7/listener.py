"""The MLLP port: a guarded socket, a thread for each of a few connections, one answer for each message in its order.

Limits are on the size of a message, on the time that it may take to come, on silence and on the number of connections. Who may
send is asked before anything is read (`pacs.hl7.senders`), and why somebody may not is in the log.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from pacs.hl7.framing import Framing, TooLong, framed
from pacs.hl7.receiving import Receiver
from pacs.hl7.senders import Door, NotASender, Senders, refuse_tls
from storage.index.ae import address_of

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
    """Serves listening sockets from `start` to `stop`.

    `told` learns of each connection that is not let in, with its address and why, and says whether that is the first for a
    while: only then it is logged too, or a flood would fill the log.
    """

    def __init__(
        self,
        receiver: Receiver,
        *doors: Door,
        limits: HL7Limits | None = None,
        senders: Senders = Senders(),  # noqa: B008 - frozen
        told: Callable[[str, str], bool] = lambda _address, _reason: True,
    ) -> None:
        self._receiver = receiver
        self._doors = doors
        self._limits = limits or HL7Limits()
        self._senders = senders
        self._told = told
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, str] = {}
        self._accepting = [
            threading.Thread(target=self._accept, args=(door,), name="hl7-accept", daemon=True) for door in doors
        ]

    @property
    def ports(self) -> tuple[int, ...]:
        """Where it listens."""
        return tuple(int(door.sock.getsockname()[1]) for door in self._doors)

    def start(self) -> None:
        """Begin to accept."""
        for door, port in zip(self._doors, self.ports, strict=True):
            door.sock.settimeout(_LOOK_SECONDS)
            _log.info("hl7.listening", port=port, tls=door.secure is not None)
        for thread in self._accepting:
            thread.start()

    def stop(self, seconds: float) -> bool:
        """Accept no more, finish the messages in hand; whether that was done in time."""
        self._over.set()
        deadline = time.monotonic() + seconds
        for thread in self._accepting:
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            waiting = list(self._open)
        for thread in waiting:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in waiting)

    def _accept(self, door: Door) -> None:
        while not self._over.is_set():
            try:
                sock, address = door.sock.accept()
            except TimeoutError:
                continue
            except OSError as error:
                _log.warning("hl7.accepting", reason=str(error))
                self._over.wait(_PAUSE_SECONDS)
                continue
            try:
                self._begin(door, sock, address_of(str(address[0])))
            except NotASender as error:
                sock.close()
                self._refused(address_of(str(address[0])), str(error))
        door.sock.close()

    def _begin(self, door: Door, sock: socket.socket, address: str) -> None:
        self._senders.admit(address)
        thread = threading.Thread(target=self._serve, args=(door, sock, address), name="hl7-connection", daemon=True)
        with self._lock:
            mine = sum(other == address for other in self._open.values())
            if len(self._open) >= self._limits.connections or mine >= self._limits.connections_per_address:
                raise NotASender(
                    f"too many connections: {self._limits.connections} there may be, {self._limits.connections_per_address} of one"
                    " address; have it keep one open, or end those that it has forgotten"
                )
            self._open[thread] = address
        thread.start()

    def _refused(self, address: str, why: str) -> None:
        tell = _log.warning if self._told(address, why) else _log.debug
        tell("hl7.refused", reason=why, address=address)

    def _serve(self, door: Door, accepted: socket.socket, address: str) -> None:
        why = "an error of ours"
        try:
            with accepted, door.open(accepted, self._senders) as sock:
                sock.settimeout(_LOOK_SECONDS)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                why = self._converse(sock, address)
        except NotASender as error:
            why = "it was not let in"
            self._refused(address, str(error))
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
        begun, first = quiet_since, True
        while not self._over.is_set():
            data = self._read(sock)
            if data == b"":
                return "closed by the sender"
            now = time.monotonic()
            if data is not None:
                refuse_tls(data, first=first)
                quiet_since, first = now, False
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
