"""The places for associations of one server, and that no address has all of them.

When none is left, whoever calls from an address that has fewer than another takes the place of an association of that other which
is at rest: the one that has been so longest, of the address that has most. What is at work is never disturbed, and one address
alone may have every place until somebody else comes.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from pacs.scp.settings import Load
from pacs.scp.transport import Transport

# A sender that has just finished one thing often begins the next.
RESTED_SECONDS: Final = 5.0


class Places:
    """Thread-safe. `clock` is that of the transports."""

    def __init__(
        self, most: int, load: Load, *, rested_seconds: float = RESTED_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._load = load
        self._rested = rested_seconds
        self._clock = clock
        self._taken: Counter[str] = Counter()
        self._open: dict[Transport, str] = {}
        # Whose places are others' already, and who will learn of it within a tick.
        self._leaving: set[Transport] = set()
        self._changed = threading.Condition()

    def take(self, address: str) -> bool:
        """Reserve a place for one more association; False when there is none. Given back with `leave`."""
        with self._changed:
            if self._taken.total() >= self._most and not self._make_room(address):
                return False
            self._taken[address] += 1
        self._load.add(1)
        return True

    def occupy(self, transport: Transport, address: str) -> None:
        """An association is being served on `transport`, in a place that was taken."""
        with self._changed:
            self._open[transport] = address

    def leave(self, transport: Transport | None, address: str) -> None:
        """It is over; None where it came to nothing."""
        self._load.add(-1)
        with self._changed:
            if transport in self._leaving:
                self._leaving.discard(transport)
            else:
                self._free(address)
            if transport:
                self._open.pop(transport, None)
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait until there is nobody; whether that came to pass."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._taken and not self._leaving, timeout=max(0.0, seconds))

    def cut(self) -> None:
        """Cut every connection that is still open."""
        with self._changed:
            for transport in self._open:
                transport.cut()

    @property
    def taken(self) -> int:
        """How many places are taken now."""
        with self._changed:
            return self._taken.total()

    def _free(self, address: str) -> None:
        self._taken[address] -= 1
        if not self._taken[address]:
            del self._taken[address]

    def _make_room(self, address: str) -> bool:
        """Send one away that rests, of an address that has more than `address` would have."""
        before = self._clock() - self._rested
        resting = [
            (-self._taken[of], since, transport)
            for transport, of in self._open.items()
            if transport not in self._leaving
            and self._taken[of] > self._taken[address] + 1
            and (since := transport.rests_since) is not None
            and since <= before
        ]
        if not resting:
            return False
        _, _, chosen = min(resting, key=lambda one: one[:2])
        self._leaving.add(chosen)
        self._free(self._open[chosen])
        chosen.send_away()
        return True
