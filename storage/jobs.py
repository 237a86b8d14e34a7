"""Work that follows an ingest: a queue in the index's own database, so that a job is there exactly when its instance is.

A worker claims jobs for a time (a lease), and says `done` or `fail`. What a worker that died has claimed comes back when
its lease ends. After the third try a job is dead: it stays, with its error, until an administrator retries or removes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal_column,
    select,
    update,
)

from storage.index import Index
from storage.index.add import job_values
from storage.index.prepared import Prepared
from storage.index.rows import microseconds, moment
from storage.index.tables import job
from storage.types import Job

TRIES = 3
LEASE_SECONDS = 300.0
# How long a job waits after its first failure; each further one doubles it.
WAIT_SECONDS = 10.0

WAITING, RUNNING, DEAD = "waiting", "running", "dead"
# The states of a job that a worker may be given: when its time comes, or when the lease of who has it ends.
_OPEN = (WAITING, RUNNING)
_LONGEST_ERROR = 500


def _due(*more: ColumnElement[bool]) -> Select[Any]:
    open_now = job.c.state.in_(bindparam("states", expanding=True)), job.c.not_before <= bindparam("now")
    return select(literal_column("1").label("due")).where(exists().where(*open_now, *more))


_DUE = Prepared(_due(), "states")
_DUE_OF = Prepared(_due(job.c.kind.in_(bindparam("kinds", expanding=True))), "states", "kinds")


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that this worker has for the time of its lease. `attempt` counts from 1."""

    id: int
    kind: str
    payload: Mapping[str, Any]
    attempt: int
    worker: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A job as it is now: `state` waiting, running or dead; `due_at` is when its next try begins, or its lease ends."""

    id: int
    kind: str
    state: str
    payload: Mapping[str, Any]
    attempts: int
    error: str
    worker: str
    created_at: datetime
    updated_at: datetime
    due_at: datetime


@dataclass(frozen=True, slots=True)
class Dead:
    """A job that was given up."""

    id: int
    kind: str
    payload: Mapping[str, Any]
    attempts: int
    error: str
    since: datetime


class JobQueue:
    """The queue of one index. Thread-safe; any number of processes may claim at once. `clock` gives seconds since 1970."""

    def __init__(self, index: Index, *, clock: Callable[[], float] = time.time) -> None:
        self._database = index.database
        self._clock = clock

    def enqueue(self, jobs: Sequence[Job], *, not_before: datetime | None = None) -> None:
        """Add jobs that no ingest brings. (An ingest's own go with its entry, in its transaction.)"""
        now = self._now()
        earliest = now if not_before is None else microseconds(not_before)
        with self._database.write() as connection:
            rows = [job_values(one.kind, one.payload, now, earliest) for one in jobs]
            if rows:
                connection.execute(insert(job), rows)

    def begin(self, one: Job, worker: str, *, lease: float = LEASE_SECONDS) -> Claimed:
        """Add a job that the caller does at once itself, and that is not lost if it does not come to that.

        The caller says `done`, or `fail`, after which workers have all their tries; where it dies, they have them when its
        lease ends.
        """
        now = self._now()
        values = job_values(one.kind, one.payload, now, now + round(lease * 1e6))
        with self._database.write() as connection:
            added = insert(job).values({**values, "state": RUNNING, "worker": worker}).returning(job.c.pk)
            return Claimed(connection.execute(added).scalar_one(), one.kind, one.payload, 0, worker)

    def claim(
        self, worker: str, *, kinds: Sequence[str] | None = None, limit: int = 1, lease: float = LEASE_SECONDS
    ) -> list[Claimed]:
        """Take up to `limit` jobs that are due, oldest first, for `lease` seconds; none is taken twice at a time.

        `worker` is any name that tells this worker from others. Jobs whose lease ended in their last try are buried.
        """
        now = self._now()
        if not self._is_due(now, kinds):
            # Nearly always: an idle worker takes no lock.
            return []
        due = select(job.c.pk).where(job.c.state.in_(_OPEN), job.c.not_before <= now)
        if kinds is not None:
            due = due.where(job.c.kind.in_(kinds))
        due = due.order_by(job.c.not_before, job.c.pk).limit(limit)
        return self._claim(due, worker, now, round(lease * 1e6))

    def _is_due(self, now: int, kinds: Sequence[str] | None) -> bool:
        """Asked by every lane of every worker all the time, and so by statements that are made once."""
        asked: dict[str, Any] = {"states": _OPEN, "now": now}
        with self._database.read() as connection:
            return bool(_DUE.run(connection, asked) if kinds is None else _DUE_OF.run(connection, {**asked, "kinds": kinds}))

    def renew(self, claimed: Claimed, *, lease: float = LEASE_SECONDS) -> bool:
        """Begin the lease anew, for work that takes long. False: it had ended, and another worker may have the job."""
        now = self._now()
        return self._settle(claimed, not_before=now + round(lease * 1e6), updated_at=now)

    def done(self, claimed: Claimed) -> bool:
        """The job is finished and is forgotten. False: the lease had ended, and another worker may have the job."""
        with self._database.write() as connection:
            return connection.execute(delete(job).where(*_is(claimed))).rowcount > 0

    def fail(
        self, claimed: Claimed, error: str, *, retry: bool = True, waits: Sequence[float] = ()
    ) -> bool:
        """The job failed: it waits for its next try, or is dead after the last one or without `retry`.

        `waits` are the seconds after the first failure, and after the second, where they are not the usual ones. `error` is for people: one line, without patient data. False as in `done`.
        """
        now = self._now()
        text = error[:_LONGEST_ERROR]
        if not retry or claimed.attempt >= TRIES:
            return self._settle(claimed, state=DEAD, error=text, updated_at=now)
        wait = waits[claimed.attempt - 1] if waits else WAIT_SECONDS * 2.0 ** (claimed.attempt - 1)
        return self._settle(
            claimed, state=WAITING, error=text, not_before=now + round(wait * 1e6), updated_at=now
        )

    def postpone(self, claimed: Claimed, seconds: float) -> bool:
        """It cannot be done now, which is nobody's failure: it is due again in so many seconds, and this was no try."""
        now = self._now()
        due = now + round(seconds * 1e6)
        return self._settle(claimed, state=WAITING, attempts=claimed.attempt - 1, not_before=due, updated_at=now)

    def search(
        self, *, state: str = "", kind: str = "", before: int | None = None, limit: int = 100
    ) -> list[Shown]:
        """The jobs there are, the latest first; `before` is the `id` of the last of the page before."""
        query = select(job).order_by(job.c.pk.desc()).limit(limit)
        for column, value in ((job.c.state, state), (job.c.kind, kind)):
            if value:
                query = query.where(column == value)
        if before is not None:
            query = query.where(job.c.pk < before)
        with self._database.read() as connection:
            return [_shown(row) for row in connection.execute(query)]

    def one(self, job_id: int) -> Shown | None:
        """One job, or None: it is done, or never was."""
        with self._database.read() as connection:
            row = connection.execute(select(job).where(job.c.pk == job_id)).one_or_none()
        return _shown(row) if row else None

    def hasten(self, job_id: int) -> bool:
        """Do a job that waits now, whatever it waits for; False when there is no such waiting job."""
        now = self._now()
        waits = update(job).where(job.c.pk == job_id, job.c.state == WAITING)
        with self._database.write() as connection:
            return connection.execute(waits.values(not_before=now, updated_at=now)).rowcount > 0

    def dead(self, limit: int = 1000) -> list[Dead]:
        """Jobs that were given up, the longest dead first."""
        query = select(job).where(job.c.state == DEAD).order_by(job.c.updated_at, job.c.pk).limit(limit)
        with self._database.read() as connection:
            found = connection.execute(query).all()
        return [
            Dead(row.pk, row.kind, orjson.loads(row.payload), row.attempts, row.error, moment(row.updated_at))
            for row in found
        ]

    def retry(self, job_id: int) -> bool:
        """Give a dead job all its tries again; False when there is no such dead job."""
        now = self._now()
        again = update(job).where(job.c.pk == job_id, job.c.state == DEAD)
        with self._database.write() as connection:
            found = connection.execute(
                again.values(state=WAITING, attempts=0, not_before=now, updated_at=now)
            )
            return found.rowcount > 0

    def remove(self, job_id: int) -> bool:
        """Forget a job that is dead; False when there is no such dead job."""
        with self._database.write() as connection:
            return connection.execute(delete(job).where(job.c.pk == job_id, job.c.state == DEAD)).rowcount > 0

    def counts(self) -> dict[str, int]:
        """How many jobs are waiting, running and dead."""
        query = select(job.c.state, func.count()).group_by(job.c.state)
        with self._database.read() as connection:
            found = {row[0]: row[1] for row in connection.execute(query)}
        return {state: found.get(state, 0) for state in (WAITING, RUNNING, DEAD)}

    def _claim(self, due: Select[Any], worker: str, now: int, lease: int) -> list[Claimed]:
        # SQLite has the whole database to itself here; PostgreSQL passes over what others are just claiming.
        with self._database.write() as connection:
            taken = connection.execute(
                due.add_columns(job.c.attempts).with_for_update(skip_locked=True)
            ).all()
            lost = [row.pk for row in taken if row.attempts >= TRIES]
            if lost:
                buried = update(job).where(job.c.pk.in_(lost))
                connection.execute(
                    buried.values(state=DEAD, error="its worker stopped in the last try", updated_at=now)
                )
            claimed = update(job).where(job.c.pk.in_([row.pk for row in taken if row.attempts < TRIES]))
            claimed = claimed.values(
                state=RUNNING,
                worker=worker,
                attempts=job.c.attempts + 1,
                not_before=now + lease,
                updated_at=now,
            )
            returned = claimed.returning(job.c.pk, job.c.kind, job.c.payload, job.c.attempts)
            found = connection.execute(returned).all()
        return [
            Claimed(row.pk, row.kind, orjson.loads(row.payload), row.attempts, worker)
            for row in sorted(found, key=lambda row: row.pk)
        ]

    def _settle(self, claimed: Claimed, **values: Any) -> bool:
        with self._database.write() as connection:
            return connection.execute(update(job).where(*_is(claimed)).values(values)).rowcount > 0

    def _now(self) -> int:
        return round(self._clock() * 1e6)


def _shown(row: Row[Any]) -> Shown:
    return Shown(
        row.pk,
        row.kind,
        row.state,
        orjson.loads(row.payload),
        row.attempts,
        row.error,
        row.worker,
        moment(row.created_at),
        moment(row.updated_at),
        moment(row.not_before),
    )


def _is(claimed: Claimed) -> tuple[ColumnElement[bool], ...]:
    """The job as this worker claimed it: not when it has been claimed again since."""
    return (
        job.c.pk == claimed.id,
        job.c.state == RUNNING,
        job.c.worker == claimed.worker,
        job.c.attempts == claimed.attempt,
    )
