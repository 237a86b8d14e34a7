"""Processes made by fork from one that has loaded everything: they begin at once, and share the memory of what is loaded.

Only for a parent with one thread of its own that holds no connection and no archive: the supervisor.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Final

# What a shell reports for a program that Python ends with an exception.
_FAILED: Final = 1
# Looked at where the system sets no limit.
_MOST_FILES: Final = 1 << 20


class Forked:
    """A child process: asked how it is, sent signals to, and waited for."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """None while it runs; else its exit status, negative for the signal that ended it."""
        return self._ended(os.WNOHANG)

    def wait(self) -> int:
        """Wait for its end."""
        status = self._ended(0)
        assert status is not None
        return status

    def send_signal(self, number: int) -> None:
        """Nothing happens when it has ended: until it is waited for, nobody else can have its pid."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def fork(run: Callable[[], int], keep: Iterable[int]) -> Forked:
    """Run this in a new process, whose exit status is what it returns; of our descriptors it has `keep` and the first three.

    The child is in a process group of its own and has no signal handlers; it never returns into the caller.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    # What is loaded is not garbage, and looking whether it is would copy every page of it.
    gc.freeze()
    pid = os.fork()
    if pid:
        return Forked(pid)
    status = _FAILED
    try:
        _alone(sorted({0, 1, 2, *keep}))
        status = _said(run)
    finally:
        # Not the interpreter's usual end, which would close the parent's objects under numbers that are ours now.
        os._exit(status)


def _said(run: Callable[[], int]) -> int:
    """What it returns; an exception is told as Python would."""
    try:
        return run()
    except BaseException:  # noqa: BLE001 - there is nobody above us
        traceback.print_exc()
        return _FAILED
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _alone(keep: list[int]) -> None:
    """Let go of everything that is the parent's."""
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    most = os.sysconf("SC_OPEN_MAX")
    for low, high in pairwise([*keep, most if most > 0 else _MOST_FILES]):
        os.closerange(low + 1, high)
