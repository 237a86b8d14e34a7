"""Legal holds: studies of which nothing may be deleted, purged or replaced, with who says so and why."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Connection, delete, insert, select

from storage.errors import BadRequest, Held, NotFound, Settled
from storage.index import rows
from storage.index.add import job_values
from storage.index.attempts import attempt
from storage.index.deletion_tables import legal_hold
from storage.index.tables import job, study
from storage.types import DEFAULT_PARTITION

if TYPE_CHECKING:
    from storage.index import Index

_log = structlog.get_logger(__name__)
# The kind of the job that writes a hold beside the objects, or removes it there (`storage.records`).
WRITE_HOLD = "write-hold"
_LONGEST = 1000


@dataclass(frozen=True, slots=True)
class Hold:
    """One hold. `at` is in UTC."""

    study: str
    reason: str
    by: str
    at: datetime
    partition: str = DEFAULT_PARTITION


class Holds:
    """The holds of one index. Thread-safe."""

    def __init__(self, index: Index) -> None:
        self._database = index.database

    def add(self, study_uid: str, reason: str, by: str, *, partition: str = DEFAULT_PARTITION) -> Hold:
        """Hold a study, deleted or not. Raises NotFound, BadRequest without a reason, Settled when it is held already."""
        reason = reason.strip()
        if not reason or len(reason) > _LONGEST or not reason.isprintable():
            raise BadRequest(f"a hold needs a reason: one line of at most {_LONGEST} characters")
        now = time.time_ns() // 1000

        def work(connection: Connection) -> Hold:
            # Who deletes holds this row too: a hold is before a deletion or after it, never in the middle.
            known = select(study.c.pk).where(study.c.partition == partition, study.c.study_instance_uid == study_uid)
            if connection.scalars(known.with_for_update()).first() is None:
                raise NotFound(f"there is no study {study_uid} to be held")
            there = hold_of(connection, partition, study_uid)
            if there is not None:
                raise Settled(f"study {study_uid} is held already, by {there.by}: {there.reason}")
            values = {"study_instance_uid": study_uid, "reason": reason, "held_by": by, "held_at": now}
            connection.execute(insert(legal_hold).values(partition=partition, **values))
            self._tell(connection, partition, study_uid, now)
            return Hold(study_uid, reason, by, rows.moment(now), partition)

        made = attempt(self._database, work, lambda: self.of(study_uid, partition))
        _log.info("held", action="held", study=study_uid, by=by)
        return made

    def remove(self, study_uid: str, by: str, *, partition: str = DEFAULT_PARTITION) -> Hold:
        """Lift a hold; what it was. Raises NotFound when there is none."""
        found = self.of(study_uid, partition)

        def work(connection: Connection) -> Hold:
            own = (legal_hold.c.partition == partition, legal_hold.c.study_instance_uid == study_uid)
            if found is None or not connection.execute(delete(legal_hold).where(*own)).rowcount:
                raise NotFound(f"study {study_uid} is not held")
            self._tell(connection, partition, study_uid, time.time_ns() // 1000)
            return found

        was = attempt(self._database, work, lambda: found if self.of(study_uid, partition) is None else None)
        _log.info("hold lifted", action="hold lifted", study=study_uid, by=by)
        return was

    def of(self, study_uid: str, partition: str = DEFAULT_PARTITION) -> Hold | None:
        """The hold on a study, None without one."""
        with self._database.read() as connection:
            return hold_of(connection, partition, study_uid)

    def all(self) -> list[Hold]:
        """Every hold, the oldest first."""
        with self._database.read() as connection:
            found = connection.execute(select(legal_hold).order_by(legal_hold.c.pk)).all()
        return [_hold(row) for row in found]

    def _tell(self, connection: Connection, partition: str, study_uid: str, now: int) -> None:
        payload = {"partition": partition, "study": study_uid}
        connection.execute(insert(job).values(job_values(WRITE_HOLD, payload, now)))


def hold_of(connection: Connection, partition: str, study_uid: str) -> Hold | None:
    """The hold on a study, as a transaction sees it."""
    own = (legal_hold.c.partition == partition, legal_hold.c.study_instance_uid == study_uid)
    row = connection.execute(select(legal_hold).where(*own)).one_or_none()
    return _hold(row) if row is not None else None


def refuse_held(connection: Connection, partition: str, study_uid: str, what: str) -> None:
    """Raises Held for a study that is held; `what` was to be done, such as `deleted`."""
    hold = hold_of(connection, partition, study_uid)
    if hold is not None:
        since = f"{hold.at:%Y-%m-%d}"
        raise Held(f"study {study_uid} is under a legal hold since {since} ({hold.reason}; {hold.by}): nothing of it can be {what}")


def _hold(row: object) -> Hold:
    names = ("study_instance_uid", "reason", "held_by", "held_at", "partition")
    study_uid, reason, by, at, partition = (getattr(row, name) for name in names)
    return Hold(study_uid, reason, by, rows.moment(at), partition)
