"""Sockets that have not negotiated, apart from real associations: one selector loop, with limits on time, size and number.

A socket costs a small buffer that grows with what it really sends, until its A-ASSOCIATE-RQ is whole; only then it gets a
thread. Where too many wait, the one that has waited longest goes: a peer that means it sends its request at once.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from pacs.scp import reasons
from pacs.scp.journal import Journal
from pacs.scp.secured import HANDSHAKE_BYTES, Channel, NotTls, Secured, TlsFailed
from pacs.scp.settings import DimseSettings, Load, Observer
from pacs.upper_layer import (
    LOCAL_LIMIT_EXCEEDED,
    AbortReason,
    AbortSource,
    Acceptor,
    Foreign,
    Violation,
    abort,
)
from storage.index.ae import address_of

_log = structlog.get_logger(__name__)
# How long a socket that has had its last word may take to read it.
_FAREWELL_SECONDS: Final = 1.0
_ACCEPTS_AT_ONCE: Final = 64
# After the system refused another socket (no descriptors left): give others a chance to end.
_PAUSE_SECONDS: Final = 0.1

_UNFINISHED: Final = {
    "too slow": "it connected to the port for TLS and did not finish its handshake in time: does it speak TLS?",
    "closed": "it connected to the port for TLS and went away before its handshake was over: a port check, or it does not speak TLS",
}

# Takes over a socket whose request is whole, or says that there is no place.
TakeOver = Callable[[Channel, Acceptor, str], bool]


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """A listening socket, and what makes it one for TLS: gives the context for a connection that comes now."""

    sock: socket.socket
    secure: Callable[[], ssl.SSLContext] | None = None


@dataclass(slots=True, eq=False)
class _Waiting:
    sock: Channel
    address: str
    deadline: float
    machine: Acceptor
    # Whether the last word was said, and only the peer's closing is waited for.
    leaving: bool = False

    @property
    def unfinished(self) -> Mapping[str, str]:
        """What to say of its end, where that came in the middle of a TLS handshake."""
        return _UNFINISHED if isinstance(self.sock, Secured) and not self.sock.established else {}

    @property
    def memory(self) -> int:
        """What it takes of ours, in bytes."""
        return self.machine.buffered + (HANDSHAKE_BYTES if isinstance(self.sock, Secured) else 0)


class Front:
    """Accepts connections on `listeners` and gives those that have sent a request to `take_over`.

    A TLS handshake is a part of what a socket has its time for, and goes on as its bytes come, like the request after it.
    """

    def __init__(
        self,
        listeners: Sequence[Listener],
        settings: DimseSettings,
        observer: Observer,
        take_over: TakeOver,
        load: Load,
        journal: Journal,
    ) -> None:
        self._listeners = tuple(listeners)
        self._settings = settings
        self._observer = observer
        self._take_over = take_over
        self._load = load
        self._journal = journal
        # In the order of their coming, which is that of their deadlines too.
        self._waiting: dict[Channel, _Waiting] = {}
        self._leaving: dict[Channel, _Waiting] = {}
        self._per_address: Counter[str] = Counter()
        self._bytes = 0
        self._paused_until = 0.0
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="dimse-front", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        for listener in self._listeners:
            listener.sock.setblocking(False)
            self._selector.register(listener.sock, selectors.EVENT_READ, listener)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread.start()

    def stop(self) -> None:
        """Accept no more, and let go of those that have not negotiated. Returns when that is done."""
        with suppress(OSError):
            self._wake.send(b"!")
        self._thread.join()

    @property
    def waiting(self) -> int:
        """How many sockets have not negotiated."""
        return len(self._waiting)

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except Exception:  # noqa: BLE001
            # Without the front nobody is served: that must be seen.
            _log.exception("front.failed")
        finally:
            self._close()

    def _turn(self) -> bool:
        """Wait for something to happen and deal with it; False when it is time to stop."""
        for key, _ in self._selector.select(self._next_deadline()):
            if key.fileobj is self._woken:
                return False
            if isinstance(key.data, Listener):
                # Not, if an earlier one of this turn has made us pause.
                if not self._paused_until:
                    self._accept(key.data)
            else:
                self._read_safely(key.data)
        self._expire(time.monotonic())
        return True

    def _next_deadline(self) -> float | None:
        deadlines = [next(iter(group.values())).deadline for group in (self._waiting, self._leaving) if group]
        if self._paused_until:
            deadlines.append(self._paused_until)
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    # Coming

    def _accept(self, listener: Listener) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):
            if seconds := self._load.deference():
                self._pause(seconds)
                return
            try:
                sock, address = listener.sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._exhausted(error)
                return
            self._admit(sock, address_of(str(address[0])), listener)

    def _admit(self, sock: socket.socket, address: str, listener: Listener) -> None:
        settings = self._settings
        if self._per_address[address] >= settings.max_waiting_per_address:
            self._drop(next(one for one in self._waiting.values() if one.address == address), "crowded out")
        if len(self._waiting) >= settings.max_waiting:
            self._drop(next(iter(self._waiting.values())), "crowded out")
        sock.setblocking(False)
        machine = Acceptor(
            max_length=settings.max_pdu_bytes, max_request=settings.max_request_bytes, buffer_size=settings.read_bytes
        )
        channel: Channel = Secured(sock, listener.secure()) if listener.secure else sock
        one = _Waiting(channel, address, time.monotonic() + settings.request_seconds, machine)
        self._waiting[channel] = one
        self._per_address[address] += 1
        self._bytes += one.memory
        self._load.add(1)
        self._selector.register(channel, selectors.EVENT_READ, one)

    def _exhausted(self, error: OSError) -> None:
        """No descriptor for another socket: the oldest gives up its own, and we look again in a moment."""
        _log.error("front.exhausted", reason=error.strerror or type(error).__name__)
        if self._waiting:
            self._drop(next(iter(self._waiting.values())), "crowded out")
        self._pause(_PAUSE_SECONDS)

    def _pause(self, seconds: float) -> None:
        """Accept nothing for so long."""
        for listener in self._listeners:
            self._selector.unregister(listener.sock)
        self._paused_until = time.monotonic() + seconds

    # Reading

    def _read_safely(self, one: _Waiting) -> None:
        """One socket's trouble, even of our own making, is nobody else's."""
        try:
            self._read(one)
        except Exception:  # noqa: BLE001
            _log.exception("connection.failed", address=one.address)
            self._drop(one, "error")

    def _read(self, one: _Waiting) -> None:
        if one.sock not in self._waiting and one.sock not in self._leaving:
            return  # dropped earlier in this turn
        try:
            count = self._receive(one)
        except (BlockingIOError, InterruptedError):
            return
        except TlsFailed as error:
            self._not_secure(one, error)
            return
        except OSError:
            count = 0
        if not count:
            self._drop(one, "closed")
        elif not one.leaving:
            self._consider(one)
            if isinstance(one.sock, Secured) and one.sock.pending and one.sock in self._waiting:
                # Received already, so that the selector will not tell of it; a record at most, or a few.
                self._read(one)

    def _receive(self, one: _Waiting) -> int:
        if one.leaving:
            return len(one.sock.recv(65536))
        if isinstance(one.sock, Secured) and not one.sock.handshake():
            raise BlockingIOError
        before = one.machine.buffered
        count = one.sock.recv_into(one.machine.space())
        one.machine.filled(count)
        self._bytes += one.machine.buffered - before
        return count

    def _not_secure(self, one: _Waiting, error: TlsFailed) -> None:
        self._observer.connection_dropped("TLS")
        first = self._journal.dropped(one.address, f"no TLS with it: {error}", how="TLS")
        (_log.warning if first else _log.debug)("connection.not_secure", address=one.address, reason=str(error))
        # TLS has said its own last word; a DICOM peer that knows of no TLS understands ours.
        self._farewell(one, abort(AbortSource.PROVIDER, AbortReason.NOT_SPECIFIED) if isinstance(error, NotTls) else b"")

    def _consider(self, one: _Waiting) -> None:
        if one.machine.request_is_whole:
            self._hand_over(one)
            return
        try:
            # Only a header that is wrong says anything yet; an abort is a peer that changed its mind.
            if one.machine.next_event() is not None:
                self._drop(one, "closed")
        except Violation as error:
            self._observer.connection_dropped("violation")
            text = error.text if isinstance(error, Foreign) else reasons.violation(str(error))
            first = self._journal.dropped(one.address, text, how="violation")
            (_log.warning if first else _log.debug)("connection.violation", address=one.address, reason=str(error))
            self._farewell(one, error.pdu)
        else:
            self._limit_memory()

    def _limit_memory(self) -> None:
        while self._bytes > self._settings.max_waiting_bytes and len(self._waiting) > 1:
            self._drop(max(self._waiting.values(), key=lambda other: other.memory), "crowded out")

    def _hand_over(self, one: _Waiting) -> None:
        self._forget(one)
        self._selector.unregister(one.sock)
        if self._take_over(one.sock, one.machine, one.address):
            return
        self._observer.association_rejected("limit")
        text = reasons.NO_PLACE.format(most=self._settings.max_associations)
        calling, called = one.machine.titles
        first = self._journal.refused(one.address, text, calling_ae=calling, called_ae=called)
        (_log.warning if first else _log.debug)("association.rejected", reason="limit", address=one.address)
        self._selector.register(one.sock, selectors.EVENT_READ, one)
        self._farewell(one, one.machine.refuse(LOCAL_LIMIT_EXCEEDED))

    # Going

    def _farewell(self, one: _Waiting, pdu: bytes) -> None:
        """Send the last word, and leave the socket a moment in which the peer may read it."""
        self._forget(one)
        sock = one.sock.plain if isinstance(one.sock, Secured) and not one.sock.established else one.sock
        with suppress(OSError):
            sock.send(pdu)
            sock.shutdown(socket.SHUT_WR)
        one.leaving = True
        one.deadline = time.monotonic() + _FAREWELL_SECONDS
        if len(self._leaving) >= self._settings.max_waiting:
            self._remove(next(iter(self._leaving.values())))
        self._leaving[one.sock] = one

    def _expire(self, now: float) -> None:
        for group, reason in ((self._waiting, "too slow"), (self._leaving, "")):
            while group and (first := next(iter(group.values()))).deadline <= now:
                self._drop(first, reason)
        if self._paused_until and self._paused_until <= now:
            self._paused_until = 0.0
            for listener in self._listeners:
                self._selector.register(listener.sock, selectors.EVENT_READ, listener)
            for listener in self._listeners:
                if not self._paused_until:
                    self._accept(listener)

    def _drop(self, one: _Waiting, reason: str) -> None:
        """Close it, without a word: the ARTIM timer's AA-2 sends nothing either."""
        if not one.leaving:
            self._observer.connection_dropped(reason)
            cut_off = reason == "closed" and one.machine.received > 0
            text = one.unfinished.get(reason) or reasons.DROPPED["cut off" if cut_off else reason]
            first = self._journal.dropped(one.address, text, how=reason)
            (_log.info if first else _log.debug)("connection.dropped", how=reason, address=one.address)
        self._remove(one)

    def _remove(self, one: _Waiting) -> None:
        self._forget(one)
        self._leaving.pop(one.sock, None)
        with suppress(KeyError, ValueError):
            self._selector.unregister(one.sock)
        one.sock.close()

    def _forget(self, one: _Waiting) -> None:
        if self._waiting.pop(one.sock, None) is None:
            return
        self._load.add(-1)
        self._bytes -= one.memory
        self._per_address[one.address] -= 1
        if not self._per_address[one.address]:
            del self._per_address[one.address]

    def _close(self) -> None:
        for one in (*self._waiting, *self._leaving):
            one.close()
        for sock in (*(listener.sock for listener in self._listeners), self._wake, self._woken):
            sock.close()
        self._waiting.clear()
        self._leaving.clear()
        self._selector.close()
