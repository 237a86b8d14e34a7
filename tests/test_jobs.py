"""The job queue on both engines: nothing lost, nothing taken twice at a time, three tries, then the dead letters."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from storage.index import Index
from storage.jobs import LEASE_SECONDS, WAIT_SECONDS, Claimed, JobQueue
from storage.types import Job
from tests.support.entries import entry

BEGINNING = datetime(2024, 1, 1, tzinfo=UTC)


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = BEGINNING.timestamp()

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(index: Index, clock: Clock) -> JobQueue:
    return JobQueue(index, clock=clock)


def payloads(claimed: list[Claimed]) -> list[object]:
    return [one.payload["n"] for one in claimed]


def enqueue(queue: JobQueue, *numbers: int, kind: str = "k") -> None:
    queue.enqueue([Job(kind, {"n": number}) for number in numbers])


def test_the_oldest_is_claimed_first_and_only_once(queue: JobQueue, clock: Clock) -> None:
    enqueue(queue, 1, 2)
    clock.pass_by(1)
    enqueue(queue, 3)
    (first,) = queue.claim("a")
    assert (first.kind, first.payload, first.attempt, first.worker) == ("k", {"n": 1}, 1, "a")
    assert payloads(queue.claim("b", limit=5)) == [2, 3]
    assert queue.claim("c", limit=5) == []
    assert queue.counts() == {"waiting": 0, "running": 3, "dead": 0}
    assert queue.done(first)
    assert queue.counts()["running"] == 2
    queue.enqueue([])


def test_only_kinds_that_the_worker_knows(queue: JobQueue) -> None:
    enqueue(queue, 1, kind="a")
    enqueue(queue, 2, kind="b")
    assert payloads(queue.claim("w", kinds=["b", "c"], limit=5)) == [2]
    assert queue.claim("w", kinds=[]) == []


def test_a_job_may_begin_later(queue: JobQueue, clock: Clock) -> None:
    queue.enqueue([Job("k", {"n": 1})], not_before=BEGINNING + timedelta(seconds=60))
    assert queue.claim("w") == []
    clock.pass_by(60)
    assert payloads(queue.claim("w")) == [1]


def test_three_tries_then_the_dead_letters(queue: JobQueue, clock: Clock) -> None:
    enqueue(queue, 1)
    for attempt, wait in ((1, WAIT_SECONDS), (2, 2 * WAIT_SECONDS)):
        (one,) = queue.claim("w")
        assert one.attempt == attempt
        assert queue.fail(one, "no route")
        clock.pass_by(wait - 1)
        assert queue.claim("w") == [], "it waits longer after each try"
        clock.pass_by(1)
    (one,) = queue.claim("w")
    assert queue.fail(one, "no route " + "x" * 1000)
    clock.pass_by(10 * LEASE_SECONDS)
    assert queue.claim("w") == []
    (dead,) = queue.dead()
    assert (dead.kind, dead.payload, dead.attempts) == ("k", {"n": 1}, 3)
    assert dead.error.startswith("no route")
    assert len(dead.error) == 500
    assert dead.since == BEGINNING + timedelta(seconds=3 * WAIT_SECONDS)
    assert queue.retry(dead.id)
    assert queue.claim("w")[0].attempt == 1


def test_a_hopeless_job_is_dead_at_once_and_can_be_removed(queue: JobQueue) -> None:
    enqueue(queue, 1)
    (one,) = queue.claim("w")
    assert queue.fail(one, "unknown kind", retry=False)
    (dead,) = queue.dead()
    assert queue.remove(dead.id)
    assert not queue.remove(dead.id)
    assert not queue.retry(dead.id)
    assert queue.counts() == {"waiting": 0, "running": 0, "dead": 0}


def test_what_a_dead_worker_had_comes_back(queue: JobQueue, clock: Clock) -> None:
    enqueue(queue, 1)
    (lost,) = queue.claim("a", lease=30)
    clock.pass_by(29)
    assert queue.claim("b") == []
    clock.pass_by(1)
    (again,) = queue.claim("b", lease=30)
    assert (again.id, again.attempt) == (lost.id, 2)
    # The first worker was only slow: it no longer decides.
    assert not queue.done(lost)
    assert not queue.fail(lost, "late")
    assert not queue.renew(lost)
    assert queue.renew(again, lease=100)
    clock.pass_by(99)
    assert queue.claim("c") == []
    clock.pass_by(1)
    (last,) = queue.claim("c", lease=30)
    assert last.attempt == 3
    clock.pass_by(30)
    assert queue.claim("d") == [], "a job that kills its workers does not go on for ever"
    (dead,) = queue.dead()
    assert "worker" in dead.error


def test_a_worker_with_the_same_name_does_not_finish_an_earlier_claim(queue: JobQueue, clock: Clock) -> None:
    enqueue(queue, 1)
    (lost,) = queue.claim("w", lease=1)
    clock.pass_by(1)
    (again,) = queue.claim("w")
    assert not queue.done(lost)
    assert queue.done(again)


def test_an_ingest_brings_its_jobs(index: Index) -> None:
    queue = JobQueue(index)
    index.add([entry(jobs=(Job("thumbnail", {"n": 7}), Job("route", {"n": 8})))])
    assert payloads(queue.claim("w", limit=5)) == [7, 8]


def test_many_workers_share_the_work(index: Index) -> None:
    queue = JobQueue(index)
    enqueue(queue, *range(60))
    done: list[object] = []

    def work(name: str) -> None:
        while claimed := queue.claim(name, limit=3):
            for one in claimed:
                done.append(one.payload["n"])
                assert queue.done(one)

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    # A worker that finds everything being claimed at this moment may leave early; nothing is left behind.
    work("last")
    assert sorted(done) == list(range(60))  # type: ignore[type-var]
    assert queue.counts() == {"waiting": 0, "running": 0, "dead": 0}


def test_what_its_maker_begins_itself(queue: JobQueue, clock: Clock) -> None:
    """Nobody else has it meanwhile; where its maker fails or dies, workers have all their tries."""
    done, failed, lost = (queue.begin(Job("k", {"n": number}), "maker", lease=60) for number in (1, 2, 3))
    assert queue.claim("a", limit=5) == []
    assert queue.done(done)
    assert queue.fail(failed, "not today")
    clock.pass_by(WAIT_SECONDS)
    (again,) = queue.claim("a", limit=5, lease=1000)
    assert (again.payload, again.attempt) == ({"n": 2}, 1)
    clock.pass_by(60)
    (taken,) = queue.claim("b", limit=5)
    assert (taken.payload, taken.attempt) == ({"n": 3}, 1)
    assert not queue.done(lost), "its lease had ended"
    assert queue.done(taken)


def test_what_cannot_be_done_now_is_no_try(index: Index) -> None:
    now = [1_000_000.0]
    queue = JobQueue(index, clock=lambda: now[0])
    queue.enqueue([Job("k")])
    for _ in range(5):
        (claimed,) = queue.claim("w")
        assert claimed.attempt == 1
        assert queue.postpone(claimed, 30)
        assert queue.claim("w") == []
        now[0] += 31
    (claimed,) = queue.claim("w")
    assert queue.fail(claimed, "no", waits=(100.0, 200.0))
    (shown,) = queue.search(state="waiting")
    assert (shown.attempts, shown.error, shown.due_at.timestamp()) == (1, "no", now[0] + 100)
    assert queue.hasten(shown.id)
    (claimed,) = queue.claim("w")
    assert claimed.attempt == 2
    assert not queue.hasten(shown.id), "it runs"
    assert queue.one(shown.id) is not None
