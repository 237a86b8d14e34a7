"""One server at a time on a data folder: a lock that the kernel lets go of however its holder ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

from storage.errors import LightboxError


class AlreadyServing(LightboxError):
    """Another process serves from this data folder."""


class FolderLock:
    """Locks one file in `folder` for each kind of process, so that `web` and `dimse` may be served by two starts.

    Raises AlreadyServing, with the other's pid, when one of them is held. Not inherited by child processes.
    """

    def __init__(self, folder: Path, kinds: Iterable[str]) -> None:
        self._held: list[int] = []
        try:
            for kind in kinds:
                self._take(folder / f"{kind}.lock", kind)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let go. The files stay: removing one could take it from under the next holder."""
        while self._held:
            os.close(self._held.pop())

    def _take(self, file: Path, kind: str) -> None:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._held.append(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(descriptor, 20).decode("ascii", "replace").strip()
            holder = f"process {pid}" if pid else "another process"
            raise AlreadyServing(
                f"{holder} already serves {kind} from {file.parent.parent}: stop it first"
                f"{f' (kill {pid})' if pid else ''}, or give this one a PACS_DATA_DIR of its own"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
