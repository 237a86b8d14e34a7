"""What a server costs while something is asked of it: CPU seconds and peak memory of its processes (Linux, /proc)."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

# Reading what processes share costs the kernel a walk through their pages: a few milliseconds each.
_SAMPLE_SECONDS: Final = 0.5
# Above this share of the machine, rates say as much about others as about the server.
BUSY: Final = 0.15


class Meter:
    """Measures the process trees below `roots()` while it is entered.

    Afterwards: `wall` and `cpu` in seconds, `peak` memory in MB, where pages that processes share count once, and `foreign`:
    the share of the machine that neither the server nor we and our children used.
    """

    def __init__(self, roots: Callable[[], list[int]]) -> None:
        self._roots = roots
        self.wall = self.cpu = self.peak = self.foreign = 0.0

    def __enter__(self) -> Self:
        self.peak = 0.0
        self._done = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()
        self._before = (time.perf_counter(), cpu_of(self._roots()), _own(), _machine())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        begun, cpu, own, machine = self._before
        self.wall = time.perf_counter() - begun
        self.cpu = cpu_of(self._roots()) - cpu
        others = _machine() - machine - self.cpu - (_own() - own)
        self.foreign = max(0.0, others) / (self.wall * (psutil.cpu_count() or 1))
        self._done.set()
        self._sampler.join()
        self.peak = max(self.peak, share_of(self._roots()))

    def _sample(self) -> None:
        while not self._done.wait(_SAMPLE_SECONDS):
            self.peak = max(self.peak, share_of(self._roots()))


def cpu_of(roots: list[int]) -> float:
    """CPU seconds, user and system, of these processes, their children, and children that have ended."""
    total = 0.0
    for process in _trees(roots):
        with contextlib.suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])
    return total


def share_of(roots: list[int]) -> float:
    """Proportional memory in MB: what processes share counts once (proc(5), smaps_rollup)."""
    total = 0
    for process in _trees(roots):
        with contextlib.suppress(OSError):
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text("ascii")
            total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total * 1024 / 1e6


def settle(patience: float = 20.0) -> None:
    """Wait until the machine is nearly idle, at most `patience` seconds."""
    end = time.monotonic() + patience
    while time.monotonic() < end and psutil.cpu_percent(0.5) > 100 * BUSY:
        pass


def _trees(roots: list[int]) -> list[psutil.Process]:
    found = []
    for root in roots:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(root)
            found += [process, *process.children(recursive=True)]
    return found


def _own() -> float:
    return float(sum(psutil.Process().cpu_times()[:4]))


def _machine() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + getattr(times, "irq", 0) + getattr(times, "softirq", 0))
