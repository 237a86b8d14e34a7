"""The worker: takes jobs from the queue, runs each by its kind, and says how it ended; any number of them side by side.

A job is tried three times with growing pauses, then it is dead and waits for an administrator (`storage.jobs`). While it
runs its lease is renewed, so that a job may take long and yet comes back soon when its worker dies.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog

from storage.errors import LightboxError, Refused
from storage.jobs import LEASE_SECONDS, Claimed, JobQueue

_log = structlog.get_logger(__name__)
# How long an idle worker rests between two looks: what a job waits at most beside the work before it.
IDLE_SECONDS: Final = 0.5
# Between the beginnings of two threads: what one look at the database takes, and more.
_APART_SECONDS: Final = 0.02
# After the database was away.
_PAUSE_SECONDS: Final = 5.0

# What runs a job of one kind; what it raises is why it failed. LightboxError's text is shown, and Refused is not tried again.
Run = Callable[[Claimed], None]


class Postponed(Exception):
    """A job cannot be done now, which is nobody's failure: it is due again in `seconds`, and this was no try."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"again in {seconds:.0f} s")
        self.seconds = seconds


class Observer(Protocol):
    """Who counts."""

    def worked(self, kind: str, outcome: str, seconds: float) -> None:
        """A job was run: `done`, `failed` (and will be tried again, or is dead by now), `postponed`, or `lost` to another worker."""


@dataclass(frozen=True, slots=True)
class Lane:
    """Kinds of jobs that have threads of their own, so that those that wait for other machines hold up no others.

    `waits` are the seconds before the second try and before the third. `niceness` is counted as that of processes (nice(1)): above 0
    for what is to come after those that receive and answer.
    """

    kinds: tuple[str, ...]
    threads: int
    waits: tuple[float, ...] = ()
    niceness: int = 0


@dataclass(frozen=True, slots=True)
class Periodic:
    """Work that comes round by itself, every `seconds` after it last ended; harmless when two workers do it at once."""

    name: str
    seconds: float
    run: Callable[[], None]


class Worker:
    """Runs jobs of the given kinds from `start` to `stop`: those of a lane in its threads, all others in `threads` threads.

    `over` is set by `stop`: what takes long looks at it.
    """

    def __init__(
        self,
        queue: JobQueue,
        kinds: Mapping[str, Run],
        *,
        periodic: tuple[Periodic, ...] = (),
        lanes: tuple[Lane, ...] = (),
        threads: int = 2,
        over: threading.Event | None = None,
        observer: Observer | None = None,
        lease_seconds: float = LEASE_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._queue = queue
        self._kinds = kinds
        self._observer = observer
        self._lease = lease_seconds
        self._idle = idle_seconds
        self._over = over or threading.Event()
        self._running: dict[int, Claimed] = {}
        self._lock = threading.Lock()
        name = f"{socket.gethostname()}:{os.getpid()}"
        special = {kind for lane in lanes for kind in lane.kinds}
        usual = Lane(tuple(kind for kind in kinds if kind not in special), threads)
        self._waits = {kind: lane.waits for lane in lanes for kind in lane.kinds}
        everywhere = [lane for lane in (usual, *lanes) for _ in range(lane.threads) if lane.kinds]
        # Each begins a little later than the one before, so that they do not all ask the database at once, for ever after: every
        # connection that is open at a time takes its memory for good.
        after = itertools.count()
        self._threads = [
            self._thread(f"worker-{number}", next(after), self._work, f"{name}:{number}", lane)
            for number, lane in enumerate(everywhere)
        ]
        self._threads += [self._thread(f"worker-{one.name}", next(after), self._repeat, one) for one in periodic]
        self._threads.append(self._thread("worker-leases", 0, self._renew))

    def _thread(self, name: str, after: int, run: Callable[..., None], *given: Any) -> threading.Thread:
        def begin() -> None:
            if not self._over.wait(after * _APART_SECONDS):
                run(*given)

        return threading.Thread(target=begin, name=name, daemon=True)

    def start(self) -> None:
        """Begin to look for jobs."""
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float) -> bool:
        """Take no more jobs; whether those that run ended in time. One that did not comes back when its lease ends."""
        self._over.set()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self, name: str, lane: Lane) -> None:
        if lane.niceness:
            # Where threads have no priorities of their own (macOS) it is as any other.
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), lane.niceness)
        while not self._over.is_set():
            try:
                claimed = self._queue.claim(name, kinds=lane.kinds, lease=self._lease)
            except Exception as error:  # noqa: BLE001 - logged; a worker that ended would be missed by nobody
                _log.warning("worker.waiting", reason=_text(error))
                self._over.wait(_PAUSE_SECONDS)
                continue
            for one in claimed:
                self._run(one)
            if not claimed:
                self._over.wait(self._idle)

    def _run(self, job: Claimed) -> None:
        begun = time.perf_counter()
        with self._lock:
            self._running[job.id] = job
        try:
            failure = self._failure(job)
        finally:
            with self._lock:
                del self._running[job.id]
        outcome = self._tell(job, failure)
        if self._observer is not None:
            self._observer.worked(job.kind, outcome, time.perf_counter() - begun)

    def _failure(self, job: Claimed) -> Exception | None:
        try:
            self._kinds[job.kind](job)
        except Exception as error:  # noqa: BLE001 - told to the queue, which keeps it with the job
            return error
        return None

    def _tell(self, job: Claimed, failure: Exception | None) -> str:
        """Say how it ended. Where the database is away now, the lease's end says it: the job is tried once more."""
        try:
            if failure is None:
                return "done" if self._queue.done(job) else "lost"
            if isinstance(failure, Postponed):
                return "postponed" if self._queue.postpone(job, failure.seconds) else "lost"
            self._note(job, failure)
            waits = self._waits.get(job.kind, ())
            kept = self._queue.fail(job, _text(failure), retry=not isinstance(failure, Refused), waits=waits)
            return "failed" if kept else "lost"
        except Exception as error:  # noqa: BLE001 - logged; the end of its lease says it
            _log.warning("job.untold", kind=job.kind, job=job.id, reason=_text(error))
            return "lost"

    def _note(self, job: Claimed, failure: Exception) -> None:
        # An unforeseen exception's own text may quote an attribute: its type and place are what a log may have.
        trace = failure.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
        _log.warning(
            "job.failed", kind=job.kind, job=job.id, attempt=job.attempt, reason=_text(failure), where=where
        )

    def _renew(self) -> None:
        while not self._over.wait(self._lease / 3):
            with self._lock:
                running = list(self._running.values())
            for job in running:
                try:
                    self._queue.renew(job, lease=self._lease)
                except Exception as error:  # noqa: BLE001 - logged; it is tried again before the lease ends
                    _log.warning("worker.waiting", reason=_text(error))

    def _repeat(self, one: Periodic) -> None:
        while not self._over.is_set():
            try:
                one.run()
            except LightboxError as error:
                _log.warning("periodic.failed", name=one.name, reason=str(error))
            except Exception as error:  # noqa: BLE001 - logged; it comes round again
                _log.exception("periodic.failed", name=one.name, reason=type(error).__name__)
            self._over.wait(one.seconds)


def _text(failure: Exception) -> str:
    return str(failure) if isinstance(failure, LightboxError) else type(failure).__name__
