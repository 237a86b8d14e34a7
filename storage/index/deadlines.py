"""Deadlines for a database server that has stopped answering: its socket is shut down, and whoever waits gets an error.

A server that is gone resets the connection; one that is paused, or behind a link that swallows packets, leaves the client
waiting for ever. Timeouts on the server's side do not help then.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
import time
from collections.abc import Iterator


class Deadlines:
    """One thread per process that shuts down sockets whose time is over. Started when first needed."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._until: dict[int, float] = {}
        self._running = self._asleep = False

    @contextlib.contextmanager
    def within(self, descriptor: int, seconds: float) -> Iterator[None]:
        """Shut down the socket unless the block ends in time. The descriptor must stay open until then."""
        with self._condition:
            self._until[descriptor] = time.monotonic() + seconds
            if not self._running:
                self._running = True
                threading.Thread(target=self._watch, name="database-deadlines", daemon=True).start()
            elif self._asleep:
                self._condition.notify()
        try:
            yield
        finally:
            with self._condition:
                self._until.pop(descriptor, None)

    def _watch(self) -> None:
        with self._condition:
            # Coarse on purpose: a tick costs nothing, and a busy server has to wake this thread for no transaction.
            while self._until or self._woken():
                now = time.monotonic()
                for descriptor in [one for one, until in self._until.items() if until <= now]:
                    del self._until[descriptor]
                    _shut_down(descriptor)
                self._condition.wait(_TICK_SECONDS)
            self._running = False

    def _woken(self) -> bool:
        """Sleep until there is a deadline to watch; False when there has been none for long."""
        self._asleep = True
        woken = self._condition.wait(_IDLE_SECONDS)
        self._asleep = False
        return woken or bool(self._until)


_TICK_SECONDS = 0.5
_IDLE_SECONDS = 60.0


def _shut_down(descriptor: int) -> None:
    # A copy of the descriptor, so that closing it here leaves the driver's own alone.
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as copy:
        copy.shutdown(socket.SHUT_RDWR)


class Budget:
    """The time that a connection's present transaction may take: SQLite asks from time to time whether to go on."""

    def __init__(self) -> None:
        self._until = math.inf

    def begin(self, seconds: float | None) -> None:
        """From now on; None: as long as it takes."""
        self._until = math.inf if seconds is None else time.monotonic() + seconds

    def spent(self) -> bool:
        """Whether it is over."""
        return time.monotonic() > self._until
