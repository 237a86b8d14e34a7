"""How much one worker asks of each node at once, and which nodes it leaves alone for a while."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from pacs.worker import Postponed

# Transfers with the same node side by side: many take one association at a time, and let a second one wait without an answer.
MOST_AT_ONCE: Final = 1
# One that has no place looks again after so long, and so does one whose node is away.
_BUSY_SECONDS: Final = 1.0
AWAY_SECONDS: Final = 30.0


class Nodes:
    """So that a node that is slow or away holds up nobody else: of what waits for it, one looks whether it is back, and the
    rest loses no try. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._busy: Counter[str] = Counter()
        self._away: dict[str, float] = {}

    @contextmanager
    def calling(self, title: str, most: int = MOST_AT_ONCE) -> Iterator[None]:
        """For the block there is one more transfer with the node. Raises Postponed when there is no place, or it is away."""
        with self._lock:
            rest = self._away.get(title, 0.0) - self._clock()
            if rest > 0:
                raise Postponed(rest)
            if self._busy[title] >= most:
                raise Postponed(_BUSY_SECONDS)
            self._busy[title] += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy[title] -= 1

    def away(self, title: str) -> None:
        """It cannot be reached: nobody else needs to try for a while."""
        with self._lock:
            self._away[title] = self._clock() + AWAY_SECONDS
