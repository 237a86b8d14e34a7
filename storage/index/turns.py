"""Writers of one SQLite file take turns by a lock of the operating system, in whichever process they are.

SQLite's own waiting sleeps longer and longer, up to a tenth of a second, while the lock comes free a thousand times a
second; here whoever waits looks every third of a millisecond, and the threads of a process are one waiter together.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from storage.errors import IndexUnavailable

_LOOK_SECONDS: Final = 0.0003


class Turns:
    """The right to write to a file, one holder at a time. Belongs to the process that made it."""

    def __init__(self, path: Path, wait_seconds: float) -> None:
        self._path = path
        self._wait_seconds = wait_seconds
        self._inside = threading.Lock()
        self._descriptor: int | None = None

    @contextlib.contextmanager
    def take(self) -> Iterator[None]:
        """Hold the right for the block. Raises IndexUnavailable when others have kept it for too long."""
        until = time.monotonic() + self._wait_seconds
        if not self._inside.acquire(timeout=self._wait_seconds):
            raise _too_long()
        try:
            descriptor = self._open()
            while not _locked(descriptor):
                if time.monotonic() > until:
                    raise _too_long()
                time.sleep(_LOOK_SECONDS)
            try:
                yield
            finally:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            self._inside.release()

    def close(self) -> None:
        """Let go of the lock file; it is opened again when it is needed."""
        with self._inside:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o600)
        return self._descriptor


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _too_long() -> IndexUnavailable:
    return IndexUnavailable("others have been writing to the database for too long; send again later")
