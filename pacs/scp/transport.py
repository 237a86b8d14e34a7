"""One connected socket of an association: large blocking reads, quick acknowledgements, and limits on waiting.

A blocking read wakes up every `TICK` seconds at the latest (SO_RCVTIMEO, which costs no system call per read), so that idle limits and a
stopping server are noticed; nothing else watches over a thread that waits for its peer.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from enum import Enum, auto
from typing import Final

from pacs.scp.reasons import MADE_ROOM, NOTHING_ASKED
from pacs.scp.secured import Channel, Secrecy, Secured
from pacs.scp.settings import DimseSettings

TICK: Final = 1.0
# Without it a Linux receiver holds acknowledgements back, and a sender with Nagle's algorithm on waits for them: 20 to 60
# objects a second from a stock modality instead of hundreds. The kernel forgets it, so it is set after each read.
_QUICK_ACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 30), ("TCP_KEEPALIVE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
# Buffers that one system call may take (IOV_MAX is 1,024 everywhere that matters).
_AT_ONCE: Final = 1024
# How long, and how much, is still read after our last word, so that closing does not destroy it on its way to the peer.
_LINGER_SECONDS: Final = 2.0
_SHORT_LINGER_SECONDS: Final = 0.2
_LINGER_BYTES: Final = 8 << 20


class Ended(Exception):
    """There is no association any more; `how` is a word for the log and the counters."""

    def __init__(self, how: str, text: str = "") -> None:
        super().__init__(text or how)
        self.how = how


class Silent(Exception):
    """The data set that a command has announced does not begin to come; the association goes on."""


class Wait(Enum):
    """What is waited for: a peer that owes nothing, the rest of a message, the first of its data set, or the answer to what
    we have asked."""

    REST = auto()
    MESSAGE = auto()
    DATA_SET = auto()
    ANSWER = auto()


class Stopping:
    """Whether the server is stopping (idle associations should end), and whether its patience is over."""

    __slots__ = ("begun", "over")

    def __init__(self) -> None:
        self.begun = False
        self.over = False


class Transport:
    """Reads and writes of one association's socket. Raises Ended for everything that ends it."""

    def __init__(self, sock: Channel, settings: DimseSettings, stopping: Stopping) -> None:
        self._socket = sock
        self._settings = settings
        self._stopping = stopping
        self._quiet_since = time.monotonic()
        self._waited = 0.0
        self._came = 0
        # Whether the last tick has found that nobody owes anybody anything; and whether another has got its place.
        self._resting = self._sent_away = False
        # Bytes written so far.
        self.sent = 0
        sock.setblocking(True)
        _set(sock, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _set(sock, socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            if hasattr(socket, name):
                _set(sock, socket.IPPROTO_TCP, getattr(socket, name), value)
        waits = (settings.message_idle_seconds, settings.data_set_seconds, settings.idle_seconds, settings.answer_seconds)
        tick = min(TICK, *waits)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(tick))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(settings.message_idle_seconds))

    @property
    def secrecy(self) -> Secrecy | None:
        """What TLS has agreed with the peer; None without TLS."""
        return self._socket.secrecy if isinstance(self._socket, Secured) else None

    def wait_for_answers(self, seconds: float) -> None:
        """How long what the peer owes us is waited for from now on."""
        self._settings = replace(self._settings, answer_seconds=seconds)

    def message_begins(self) -> None:
        """From now on the peer owes us the rest of a message: `receive` holds it to the least rate."""
        self._waited, self._came = 0.0, 0
        self._resting = False

    def message_ended(self) -> None:
        """We have answered: the peer may rest."""
        self._quiet_since = time.monotonic()

    @property
    def rests_since(self) -> float | None:
        """When the last message was over (monotonic); None while one is under way. From any thread, a tick old at most."""
        return self._quiet_since if self._resting else None

    def send_away(self) -> None:
        """From another thread: end it at the next tick that finds it at rest."""
        self._sent_away = True

    def receive(self, space: memoryview, wait: Wait) -> int:
        """Read what is there, at least a byte. Raises Silent for a data set that does not begin."""
        begun = time.monotonic()
        if wait is not Wait.REST:
            self._resting = False
        elif self._sent_away and not self._is_there(0):
            # It began once more after another had got its place, and has its answer.
            raise Ended("crowded out", MADE_ROOM)
        while True:
            try:
                count = self._socket.recv_into(space)
                break
            except BlockingIOError:
                self._check_patience(begun, wait)
            except OSError as error:
                raise Ended("lost", f"the connection is gone ({error.strerror})") from error
        if not count:
            raise Ended("lost", "the peer closed the connection without release")
        if _QUICK_ACK is not None:
            _set(self._socket, socket.IPPROTO_TCP, _QUICK_ACK, 1)
        if wait in (Wait.MESSAGE, Wait.DATA_SET):
            self._check_rate(time.monotonic() - begun, count)
        return count

    def receive_now(self, space: memoryview) -> int:
        """Read what is there without waiting; 0 when there is nothing."""
        try:
            count = self._socket.recv_into(space, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise Ended("lost", f"the connection is gone ({error.strerror})") from error
        if not count:
            raise Ended("lost", "the peer closed the connection without release")
        return count

    def is_quiet(self, seconds: float, *, patient: bool) -> bool:
        """Whether nothing comes for so long (a tick at most); `patient`: the peer may be silent as long as it likes."""
        if self._is_there(min(seconds, TICK)):
            return False
        self._check_patience(time.monotonic(), Wait.REST, patient=patient)
        return True

    def _is_there(self, seconds: float) -> bool:
        """Whether there is something to read, or is before so long has passed."""
        if isinstance(self._socket, Secured) and self._socket.pending:
            return True
        waiting = select.poll()
        waiting.register(self._socket.fileno(), select.POLLIN)
        return bool(waiting.poll(seconds * 1000))

    def send(self, data: bytes) -> None:
        """Write all of it. A peer that does not read for as long as a message may be idle is given up."""
        try:
            self._socket.sendall(data)
            self.sent += len(data)
        except BlockingIOError as error:
            raise Ended("idle", "the peer does not read what is sent to it") from error
        except OSError as error:
            raise Ended("lost", f"the connection is gone ({error.strerror})") from error

    def send_buffers(self, buffers: Sequence[bytes | memoryview]) -> None:
        """Write all of them, one after the other, as if they were one, without putting them together first."""
        waiting = [one for one in buffers if len(one)]
        first = 0
        try:
            while first < len(waiting):
                sent = self._socket.sendmsg(waiting[first : first + _AT_ONCE])
                self.sent += sent
                while first < len(waiting) and sent >= len(waiting[first]):
                    sent -= len(waiting[first])
                    first += 1
                if sent:
                    waiting[first] = memoryview(waiting[first])[sent:]
        except BlockingIOError as error:
            raise Ended("idle", "the peer does not read what is sent to it") from error
        except OSError as error:
            raise Ended("lost", f"the connection is gone ({error.strerror})") from error

    def linger(self) -> None:
        """Say that no more comes, read on for a moment, and close."""
        seconds = _SHORT_LINGER_SECONDS if self._stopping.begun else _LINGER_SECONDS
        deadline = time.monotonic() + seconds
        left = _LINGER_BYTES
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(_SHORT_LINGER_SECONDS))
            while left > 0 and time.monotonic() < deadline:
                try:
                    count = len(self._socket.recv(65536))
                except BlockingIOError:
                    continue
                if not count:
                    break
                left -= count
        self.close()

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def cut(self) -> None:
        """End it from another thread: whoever reads or writes gets an error at once."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _check_patience(self, begun: float, wait: Wait, *, patient: bool = False) -> None:
        """Called at each tick without a byte."""
        if self._stopping.over or (self._stopping.begun and wait is Wait.REST):
            raise Ended("stopped", "the server is stopping")
        now = time.monotonic()
        if wait is Wait.MESSAGE and now - begun >= self._settings.message_idle_seconds:
            raise Ended("idle", "a message stopped in the middle")
        if wait is Wait.DATA_SET and now - begun >= self._settings.data_set_seconds:
            raise Silent
        if wait is Wait.ANSWER and now - begun >= self._settings.answer_seconds:
            raise Ended("idle", f"no answer came within {self._settings.answer_seconds:g} s")
        if wait is not Wait.REST:
            return
        self._resting = True
        if self._sent_away:
            raise Ended("crowded out", MADE_ROOM)
        if not patient and now - self._quiet_since >= self._settings.idle_seconds:
            raise Ended("idle", NOTHING_ASKED)

    def _check_rate(self, waited: float, count: int) -> None:
        self._waited += waited
        self._came += count
        if self._waited < self._settings.message_idle_seconds:
            if self._stopping.over:
                raise Ended("stopped", "the server is stopping")
            return
        if self._came < self._settings.min_bytes_per_second * self._waited:
            raise Ended("idle", "a message comes too slowly")
        self._waited, self._came = 0.0, 0


def _set(sock: Channel, level: int, option: int, value: int) -> None:
    """Options that help but are not needed; some systems refuse them on a connection that is just being closed."""
    with suppress(OSError):
        sock.setsockopt(level, option, value)


def _timeval(seconds: float) -> bytes:
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000))
