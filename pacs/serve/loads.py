"""How busy each of the processes is that share a listening socket, in memory that all of them see.

The kernel wakes every process that waits for a connection, and whichever is faster gets it: four of them may all fall
to one process while another is idle. So each tells how much it has, and one that has more than another lets it go first.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
from typing import Final

# Of a process that is not there, or accepts nothing more: nobody lets it go first.
AWAY: Final = 0xFFFFFFFF
_SIZE: Final = 4
# How long a less busy process is given to accept first: it is awake already, and needs well under a millisecond.
_DEFERENCE_SECONDS: Final = 0.004


def shared(slots: int) -> int:
    """A descriptor for the loads of `slots` processes, all of them away; to be inherited by these."""
    with tempfile.TemporaryFile() as file:
        file.write(AWAY.to_bytes(_SIZE, "little") * slots)
        file.flush()
        return os.dup(file.fileno())


class Loads:
    """The loads behind a descriptor of `shared`, of which `slot` is ours. Thread-safe; the others are other processes."""

    def __init__(self, descriptor: int, slot: int) -> None:
        self._loads = memoryview(mmap.mmap(descriptor, 0)).cast("I")
        self._slot = slot
        self._lock = threading.Lock()
        self._own = 0
        # Whether we have just let others go first: what is still there then is ours, whoever is busier.
        self._deferred = False

    def begin(self) -> None:
        """We are there, and have nothing to do."""
        self._loads[self._slot] = self._own

    def end(self) -> None:
        """We take nothing more, or are gone: said by the supervisor too."""
        self._loads[self._slot] = AWAY

    def add(self, number: int) -> None:
        """We have so many more to serve, or fewer."""
        with self._lock:
            self._own += number
            if self._loads[self._slot] != AWAY:
                self._loads[self._slot] = self._own

    def deference(self) -> float:
        """Seconds to accept nothing, so that a process with less to do goes first: 0 where there is none, or just was one."""
        self._deferred = self.busier and not self._deferred
        return _DEFERENCE_SECONDS if self._deferred else 0.0

    @property
    def busier(self) -> bool:
        """Whether some other process has less to do."""
        return self._own > min((load for slot, load in enumerate(self._loads) if slot != self._slot), default=AWAY)
