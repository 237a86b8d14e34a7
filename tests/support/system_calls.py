"""System calls of a server, counted by strace while it is asked."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# Calls that wait or wake are left out: how many there are depends on what else the machine does.
TRACED = (
    "openat,close,mkdirat,linkat,unlinkat,read,recvfrom,write,writev,sendmsg,sendto,sendfile,pread64,preadv,preadv2,pwrite64,"
    "fsync,fdatasync,flock,fcntl,fadvise64,newfstatat,mmap,munmap"
)
_CALL = re.compile(r"^\d+ +(?:<\.\.\. )?(\w+)(\(| resumed>)(.*)$")
_WRITES = ("write", "writev", "pwrite64", "sendmsg", "sendto", "sendfile")


class Costs:
    """What strace has written into `log`: `calls` by name, and bytes `written`, each for all of the `measured` that were asked for."""

    def __init__(self, log: Path, measured: int) -> None:
        self.calls: Counter[str] = Counter()
        self.written = 0
        self._measured = measured
        for line in log.read_text().splitlines():
            if call := _CALL.match(line):
                self._count(*call.groups())

    def _count(self, name: str, begun: str, rest: str) -> None:
        if begun == "(":
            self.calls[name] += 1
        result = re.search(r"= (\d+)$", rest)
        if result and name in _WRITES:
            self.written += int(result[1])

    def each(self, *names: str) -> float:
        """Calls of these names for one; without names, of all."""
        return sum(self.calls[name] for name in names or self.calls) / self._measured

    @property
    def bytes(self) -> float:
        """Bytes that were written, for one."""
        return self.written / self._measured

    def __str__(self) -> str:
        return f"{self.each():.1f} calls, {self.bytes:,.0f} bytes each; {dict(self.calls)}"


@contextmanager
def traced(pid: int, log: Path) -> Iterator[None]:
    """strace the process during the block. Skips where there is none, or it may not."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("NOT COUNTED: there is no strace here; apt-get install strace")
    command = [strace, "-f", "-qq", "-e", f"trace={TRACED}", "-e", "signal=none", "-o", str(log), "-p", str(pid)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 10
        while not _is_traced(pid):
            if tracer.poll() is not None or time.monotonic() > deadline:
                tracer.kill()
                pytest.skip(f"NOT COUNTED: strace may not look at our processes here: {tracer.communicate()[1]}")
            time.sleep(0.02)
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=10)


def _is_traced(pid: int) -> bool:
    """Whether all threads of a process are (proc(5))."""
    states = (task.joinpath("status").read_text() for task in Path(f"/proc/{pid}/task").iterdir())
    return all(re.search(r"^TracerPid:\s*[1-9]", state, re.MULTILINE) for state in states)


