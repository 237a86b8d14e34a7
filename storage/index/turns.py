"""Writers of one SQLite file take turns by a lock of the operating system, in whichever process they are.

SQLite's own waiting sleeps longer and longer, up to a tenth of a second, while the lock comes free a thousand times a
second; here whoever lets go rings a bell for those who wait, and the threads of a process are one waiter together. The
lock alone decides: it falls open when its holder is killed, and a bell that nobody hears costs three milliseconds.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from storage.disk import unavailable
from storage.errors import IndexUnavailable

_LOOK_SECONDS: Final = 0.003


class Turns:
    """The right to write to a file, one holder at a time. Belongs to the process that made it."""

    def __init__(self, path: Path, wait_seconds: float) -> None:
        self._path = path
        self._wait_seconds = wait_seconds
        self._inside = threading.Lock()
        self._descriptor: int | None = None
        self._bell: int | None = None
        self._holder = 0

    @contextlib.contextmanager
    def take(self) -> Iterator[None]:
        """Hold the right for the block; a thread that has it already goes on. Raises IndexUnavailable when others have
        kept it for too long.
        """
        if self._holder == threading.get_ident():
            yield
            return
        until = time.monotonic() + self._wait_seconds
        if not self._inside.acquire(timeout=self._wait_seconds):
            raise _too_long()
        try:
            descriptor = self._locked_by(until)
            self._holder = threading.get_ident()
            try:
                yield
            finally:
                self._holder = 0
                fcntl.flock(descriptor, fcntl.LOCK_UN)
                self._ring()
        finally:
            self._inside.release()

    def _locked_by(self, until: float) -> int:
        """The lock file's descriptor, once we have its lock."""
        try:
            descriptor = self._open()
            while not _locked(descriptor):
                if time.monotonic() > until:
                    raise _too_long()
                self._listen()
        except OSError as error:
            raise unavailable(error, "lock the file by which writers of the index take turns") from error
        return descriptor

    def close(self) -> None:
        """Let go of the lock file, when nobody has the turn; it is opened again when it is needed."""
        if self._holder == threading.get_ident():
            raise RuntimeError("the turn is being held by who closes it")
        with self._inside:
            for descriptor in (self._descriptor, self._bell):
                if descriptor is not None:
                    os.close(descriptor)
            self._descriptor = self._bell = None

    def _open(self) -> int:
        if self._descriptor is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o600)
            self._bell = _bell(self._path.with_name(f"{self._path.name}-bell"))
        return self._descriptor

    def _listen(self) -> None:
        """Until the bell rings, or for a moment."""
        if self._bell is None:
            time.sleep(_LOOK_SECONDS)
            return
        waiting = select.poll()
        waiting.register(self._bell, select.POLLIN)
        if waiting.poll(_LOOK_SECONDS * 1000):
            with contextlib.suppress(BlockingIOError):
                os.read(self._bell, 4096)

    def _ring(self) -> None:
        if self._bell is not None:
            # A full pipe rings as loudly.
            with contextlib.suppress(BlockingIOError):
                os.write(self._bell, b"!")


def _bell(path: Path) -> int | None:
    """A pipe with a name, open at both ends so that it never closes; None where the file system has no such thing."""
    try:
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _too_long() -> IndexUnavailable:
    return IndexUnavailable("others have been writing to the database for too long; send again later")
