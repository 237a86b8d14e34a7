"""Folders of the file store, made durable before anything is named in them, and flushed together by who waits."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections import OrderedDict
from pathlib import Path

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

# Folders kept open; each costs a descriptor. A series that is being received needs one.
_KEPT = 256

# A folder can be removed by a delete between being made and being used; then it is made again.
_ATTEMPTS = 8


class Folder:
    """An open folder. Names are made through its descriptor, so that one which was removed meanwhile says so (ENOENT).

    Once opened by `Folders` its own name is durable, and stays so as long as the folder exists.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._condition = threading.Condition()
        self._asked = 0
        self._done = 0
        self._running = False
        self._error: OSError | None = None

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.descriptor)

    def sync(self) -> None:
        """Make every name given before this call durable. Threads that wait at the same time share an fsync."""
        with self._condition:
            self._asked += 1
            ticket = self._asked
            while self._running and self._done < ticket:
                self._condition.wait()
            # The kernel tells of a failure once, so nothing more is believed of this descriptor.
            if self._error is not None:
                raise OSError(self._error.errno, self._error.strerror)
            if self._done >= ticket:
                return
            self._running = True
            covered = self._asked
        self._flush(covered)

    def _flush(self, covered: int) -> None:
        """fsync for the first `covered` callers; who came later waits for the next one."""
        failure: OSError | None = OSError("interrupted")
        try:
            os.fsync(self.descriptor)
            failure = None
        except OSError as error:
            failure = error
            raise
        finally:
            with self._condition:
                self._running = False
                self._error = failure
                self._done = covered
                self._condition.notify_all()


class Folders:
    """The folders below `root`, by relative path: made where missing, each durable in its parent, the latest kept open.

    Thread-safe. Other processes may make and remove the same folders; nothing is assumed of a folder that this process
    has not itself found and flushed.
    """

    def __init__(self, root: Path) -> None:
        _make_root(root)
        self._root = root
        self._open: OrderedDict[str, Folder] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: str) -> Folder:
        """The folder at `path` (segments divided by `/`), made and durable. Raises OSError."""
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(FileNotFoundError):
                return self._get(path)
        raise FileNotFoundError(errno.ENOENT, f"the folder {path} is gone as soon as it is made")

    def forget(self, path: str) -> None:
        """Do not hand out this folder or those above it again: one was removed, or an fsync of it failed."""
        with self._lock:
            while path:
                self._open.pop(path, None)
                path = path.rpartition("/")[0]
            self._open.pop("", None)

    def close(self) -> None:
        """Close what is open, as soon as whoever uses it is done."""
        with self._lock:
            self._open.clear()

    def _get(self, path: str) -> Folder:
        with self._lock:
            folder = self._open.get(path)
            if folder is not None:
                self._open.move_to_end(path)
                return folder
        try:
            folder = self._make(path)
        except OSError:
            self.forget(path)
            raise
        with self._lock:
            self._open[path] = folder
            while len(self._open) > _KEPT:
                self._open.popitem(last=False)
        return folder

    def _make(self, path: str) -> Folder:
        if not path:
            # Never made again: where a mount has gone, the folder under it is not the archive.
            return Folder(os.open(self._root, _FLAGS))
        parent_path, _, name = path.rpartition("/")
        parent = self._get(parent_path)
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, mode=0o700, dir_fd=parent.descriptor)
        folder = Folder(os.open(name, _FLAGS, dir_fd=parent.descriptor))
        # Also when it was there already: whoever made it may not have flushed it yet.
        parent.sync()
        return folder


def _make_root(root: Path) -> None:
    """Make `root` with every folder above it that is missing, each durable in its parent."""
    missing = [folder for folder in (root, *root.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
        Folder(os.open(folder.parent, _FLAGS)).sync()
    # Another process may have made it a moment ago. A parent that may not be read is an administrator's own.
    with contextlib.suppress(PermissionError):
        Folder(os.open(root.parent, _FLAGS)).sync()
