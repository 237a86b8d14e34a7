"""The worker: every job ends in one way or another, what fails is tried three times, and a stop waits for what runs."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from pacs import processing
from pacs.settings import Settings
from pacs.worker import Lane, Periodic, Run, Worker
from storage.archive import Archive
from storage.errors import BadRequest, LightboxError, StoreUnavailable
from storage.index import Index
from storage.jobs import Claimed, JobQueue
from storage.types import Job
from tests.support import made
from tests.support.archive import ingest
from tests.support.dimse_server import wait_until


class Counted:
    def __init__(self) -> None:
        self.outcomes: list[tuple[str, str]] = []

    def worked(self, kind: str, outcome: str, seconds: float) -> None:
        assert seconds >= 0
        self.outcomes.append((kind, outcome))


class Ticking:
    """Every look at it is an hour later, so that nothing has to be waited for."""

    def __init__(self) -> None:
        self._now = datetime(2024, 1, 1, tzinfo=UTC).timestamp()
        self._lock = threading.Lock()

    def __call__(self) -> float:
        with self._lock:
            self._now += 3600
            return self._now


@contextmanager
def working(queue: JobQueue, counted: Counted, threads: int = 2, lease: float = 300.0, **kinds: Run) -> Iterator[Worker]:
    worker = Worker(queue, kinds, threads=threads, observer=counted, idle_seconds=0.01, lease_seconds=lease)
    worker.start()
    try:
        yield worker
    finally:
        assert worker.stop(10)


def done(_job: Claimed) -> None:
    return None


def failing(error: Exception) -> Run:
    def run(_job: Claimed) -> None:
        raise error

    return run


def empty(queue: JobQueue) -> Callable[[], bool]:
    return lambda: sum(queue.counts().values()) == 0


def dead(queue: JobQueue) -> Callable[[], bool]:
    return lambda: queue.counts()["dead"] == 1


def test_jobs_are_run_and_forgotten(index: Index) -> None:
    queue, counted = JobQueue(index), Counted()
    seen: list[int] = []
    queue.enqueue([Job("k", {"n": n}) for n in range(20)])
    with working(queue, counted, k=lambda job: seen.append(job.payload["n"])):
        wait_until(empty(queue))
    assert sorted(seen) == list(range(20))
    assert counted.outcomes == [("k", "done")] * 20


def test_a_kind_that_this_release_does_not_know_waits_for_one_that_does(index: Index) -> None:
    queue, counted = JobQueue(index), Counted()
    queue.enqueue([Job("newer"), Job("k")])
    with working(queue, counted, k=done):
        wait_until(lambda: queue.counts()["waiting"] == 1)
    assert counted.outcomes == [("k", "done")]


@pytest.mark.parametrize(
    ("error", "tries", "text"),
    [
        (StoreUnavailable("the store is away"), 3, "the store is away"),
        (LightboxError("no"), 3, "no"),
        # The text of what nobody foresaw may quote a patient.
        (ValueError("Doe^Jane"), 3, "ValueError"),
        (BadRequest("the payload names no study"), 1, "the payload names no study"),
    ],
)
def test_what_fails_is_tried_three_times_unless_that_is_in_vain(
    index: Index, error: Exception, tries: int, text: str
) -> None:
    queue, counted = JobQueue(index, clock=Ticking()), Counted()
    queue.enqueue([Job("k")])
    with working(queue, counted, threads=1, k=failing(error)):
        wait_until(dead(queue))
    assert counted.outcomes == [("k", "failed")] * tries
    (given_up,) = queue.dead()
    assert (given_up.attempts, given_up.error) == (tries, text)


def test_one_that_failed_once_does_not_fail_for_ever(index: Index) -> None:
    queue, counted = JobQueue(index, clock=Ticking()), Counted()

    def second_time(job: Claimed) -> None:
        if job.attempt == 1:
            raise StoreUnavailable("away")

    queue.enqueue([Job("k")])
    with working(queue, counted, threads=1, k=second_time):
        wait_until(empty(queue))
    assert counted.outcomes == [("k", "failed"), ("k", "done")]


def test_a_stop_waits_for_what_runs_and_takes_nothing_more(index: Index) -> None:
    queue, counted = JobQueue(index), Counted()
    begun, go_on = threading.Event(), threading.Event()

    def slow(_job: Claimed) -> None:
        begun.set()
        assert go_on.wait(10)

    queue.enqueue([Job("k"), Job("k")])
    worker = Worker(queue, {"k": slow}, threads=1, observer=counted)
    worker.start()
    assert begun.wait(10)
    assert not worker.stop(0.05)
    go_on.set()
    assert worker.stop(10)
    assert counted.outcomes == [("k", "done")]
    assert queue.counts() == {"waiting": 1, "running": 0, "dead": 0}


def test_the_lease_of_a_long_job_is_renewed(index: Index) -> None:
    queue, counted = JobQueue(index), Counted()
    go_on = threading.Event()
    queue.enqueue([Job("k")])
    with working(queue, counted, threads=1, lease=0.3, k=lambda _job: assert_(go_on.wait(10))):
        wait_until(lambda: queue.counts()["running"] == 1)
        threading.Event().wait(0.9)
        assert queue.claim("another") == []
        go_on.set()
        wait_until(empty(queue))
    assert counted.outcomes == [("k", "done")]


def assert_(true: bool) -> None:
    assert true


def test_periodic_work_comes_round_whatever_happens_to_it(index: Index) -> None:
    times: list[int] = []

    def run() -> None:
        times.append(1)
        raise (ValueError("Doe^Jane") if len(times) % 2 else StoreUnavailable("away"))

    worker = Worker(JobQueue(index), {}, periodic=(Periodic("sweep", 0.01, run),))
    worker.start()
    wait_until(lambda: len(times) >= 4)
    assert worker.stop(10)


def test_an_additional_attribute_is_indexed_by_its_job(archive: Archive) -> None:
    """The job as `pacs attributes add` enqueues it, run as a worker process runs it."""
    ingest(archive, made.instance(1, KVP="120"))
    archive.index.searchables.add(("00180060",), "DS")
    work = processing.Work(archive, Settings())
    later = datetime.now(UTC).timestamp() + 3600
    queue, counted = JobQueue(archive.index, clock=lambda: later), Counted()
    worker = Worker(queue, processing.kinds(work), observer=counted, idle_seconds=0.01)
    worker.start()
    wait_until(empty(queue))
    assert worker.stop(10)
    (one,) = archive.index.searchables.all()
    assert (counted.outcomes, one.ready, one.done) == ([("index-attribute", "done")], True, 1)


def test_a_worker_outlives_what_nobody_foresaw(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    queue, counted = JobQueue(index), Counted()
    queue.enqueue([Job("k")])
    claim, calls = queue.claim, list[int]()

    def once_broken(*arguments: Any, **named: Any) -> list[Claimed]:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("no descriptors")
        return claim(*arguments, **named)

    monkeypatch.setattr("pacs.worker._PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(queue, "claim", once_broken)
    with working(queue, counted, threads=1, k=done):
        wait_until(empty(queue))
    assert counted.outcomes == [("k", "done")]


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priorities of their own elsewhere")
def test_a_lane_may_come_after_all_else(index: Index) -> None:
    queue, found = JobQueue(index), dict[str, int]()

    def look(job: Claimed) -> None:
        found[job.kind] = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    queue.enqueue([Job("later"), Job("now")])
    worker = Worker(queue, {"later": look, "now": look}, lanes=(Lane(("later",), threads=1, niceness=before + 5),), idle_seconds=0.01)
    worker.start()
    wait_until(lambda: len(found) == 2)
    assert worker.stop(10)
    assert found == {"later": before + 5, "now": before}
