"""What is sent to other nodes and fetched from them, study by study: what waits, what was done when, what failed and why.

A transfer is done by a job of its own (`storage.jobs`), written in the same transaction. While it is open the job says how it
goes, so that there is one place that does; after that the transfer keeps what was done until it is tidied away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Row, and_, delete, exists, func, insert, or_, select, update

from storage.errors import BadRequest, NotFound, Settled
from storage.index import Index, rows
from storage.index.add import job_values
from storage.index.read import LOCATED
from storage.index.tables import instance, job, performed_step_schedule, series, study
from storage.index.transfer_tables import transfer
from storage.jobs import DEAD, RUNNING, WAITING
from storage.rules import Priority, Sending
from storage.transfer_records import (
    CANCELLED,
    DONE,
    JOB_KINDS,
    JOINED,
    OPEN,
    SEND,
    STATE,
    TOGETHER_SECONDS,
    Done,
    Order,
    State,
    Transfer,
    Wanted,
    conditions_of,
    keys_in,
    packed,
    shown,
    transfer_of,
    unpacked,
)
from storage.types import Located, Scope

_CHUNK: Final = 500
_AT_A_TIME: Final = 1000
_LONGEST: Final = 500
# Failures of which each is told; all of them are counted.
MOST_TOLD: Final = 100


class Transfers:
    """The transfers of one index. Thread-safe; any number of processes may use it. `clock` gives seconds since 1970."""

    def __init__(self, index: Index, *, clock: Callable[[], float] = time.time) -> None:
        self._database = index.database
        self._clock = clock

    # Beginning

    def send(
        self, scope: Scope, node: str, *, asked_by: str = "", rule: str = "", sending: Sending | None = None
    ) -> int:
        """Have all that is stored of a study, a series or an instance sent; its number. Raises NotFound when nothing is."""
        with self._database.write() as connection:
            keys = connection.scalars(keys_in(scope)).all()
            if not keys:
                raise NotFound("nothing is stored of that study, or that part of it")
            how = sending or Sending()
            order = Order(node, scope, rule=rule, asked_by=asked_by, sending=how, instances=tuple(keys))
            return self.begin(connection, order)

    def retrieve(self, order: Order) -> int:
        """Have something fetched from a node; its number."""
        with self._database.write() as connection:
            return self.begin(connection, order)

    def begin(self, connection: Connection, order: Order) -> int:
        """The same in the caller's transaction."""
        now = self._now()
        due = 0 if order.sending.priority is Priority.HIGH and not order.wait else now + round(order.wait * 1e6)
        added = insert(transfer).values(
            kind=order.kind,
            state=OPEN,
            rule=order.rule,
            asked_by=order.asked_by,
            node=order.node,
            target=order.target,
            study_instance_uid=order.scope.study,
            series_instance_uid=order.scope.series or "",
            total=len(order.instances),
            completed=0,
            warned=0,
            failed=0,
            job_pk=0,
            error="",
            options=orjson.dumps({**asdict(order.sending), "then_to": order.then_to}),
            waiting=packed(order.instances),
            created_at=now,
            updated_at=now,
        )
        number = int(connection.execute(added.returning(transfer.c.pk)).scalar_one())
        values = job_values(JOB_KINDS[order.kind], {"transfer": number, "node": order.node}, now, due)
        job_pk = connection.execute(insert(job).values(values).returning(job.c.pk)).scalar_one()
        connection.execute(update(transfer).where(transfer.c.pk == number).values(job_pk=job_pk))
        return number

    def join(self, connection: Connection, order: Order) -> int:
        """Add to what waits for the same rule, node, study and series; begin where nothing does. Its number.

        What has not begun waits `order.wait` seconds from now. Called by one at a time (`storage.routing`).
        """
        same = (
            transfer.c.kind == order.kind,
            transfer.c.state == OPEN,
            transfer.c.study_instance_uid == order.scope.study,
            transfer.c.series_instance_uid == (order.scope.series or ""),
            transfer.c.rule == order.rule,
            transfer.c.node == order.node,
        )
        there = select(transfer.c.pk, transfer.c.waiting, transfer.c.total, transfer.c.job_pk).where(*same)
        row = connection.execute(there.order_by(transfer.c.pk.desc()).limit(1).with_for_update()).one_or_none()
        alive = row is not None and connection.execute(
            select(job.c.state, job.c.attempts).where(job.c.pk == row.job_pk, job.c.state.in_((WAITING, RUNNING))).with_for_update()
        ).one_or_none()
        if row is None or not alive:
            return self.begin(connection, order)
        waiting = list(dict.fromkeys((*unpacked(row.waiting), *order.instances)))
        more = len(waiting) - len(unpacked(row.waiting))
        changed = {"waiting": packed(waiting), "total": row.total + more, "updated_at": self._now()}
        connection.execute(update(transfer).where(transfer.c.pk == row.pk).values(changed))
        if order.wait > TOGETHER_SECONDS:
            later = update(job).where(job.c.pk == row.job_pk, job.c.state == WAITING, job.c.attempts == 0)
            connection.execute(later.values(not_before=self._now() + round(order.wait * 1e6)))
        return int(row.pk)

    # Doing: called by the job

    def waiting(self, number: int) -> list[int]:
        """Keys of the instances that are still to be sent; none when it is over or cancelled."""
        query = select(transfer.c.waiting).where(transfer.c.pk == number, transfer.c.state == OPEN)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return unpacked(row.waiting) if row else []

    def sent(self, number: int) -> list[int]:
        """Keys of the instances that were sent."""
        with self._database.read() as connection:
            row = connection.execute(select(transfer.c.sent).where(transfer.c.pk == number)).one_or_none()
        return unpacked(row.sent) if row else []

    def located(self, keys: Sequence[int]) -> Iterator[tuple[int, Located]]:
        """Those of the instances that are still stored, each with its key, in the order of their series."""
        for first in range(0, len(keys), _CHUNK):
            query = (
                select(*LOCATED, instance.c.pk)
                .join_from(instance, series, instance.c.series_pk == series.c.pk)
                .join(study, series.c.study_pk == study.c.pk)
                .where(instance.c.pk.in_(keys[first : first + _CHUNK]), instance.c.deleted_at.is_(None))
                .where(series.c.deleted_at.is_(None), study.c.deleted_at.is_(None))
                .order_by(series.c.pk, instance.c.instance_number, instance.c.pk)
            )
            with self._database.read() as connection:
                found = connection.execute(query).all()
            for row in found:
                yield row.pk, rows.located(row)

    def waits_for(self, node: str) -> bool:
        """Whether there is a transfer to or from a node that could begin now."""
        waits = transfer.c.node == node, transfer.c.state == OPEN, job.c.state == WAITING, job.c.not_before <= self._now()
        query = select(transfer.c.pk).join_from(transfer, job, JOINED).where(*waits).limit(1)
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    def settling(self) -> list[tuple[int, str]]:
        """What waits for its study or series to be quiet, and a modality has said something of: its job, and the study."""
        said = exists().where(performed_step_schedule.c.study_instance_uid == transfer.c.study_instance_uid)
        waits = job.c.state == WAITING, job.c.attempts == 0, job.c.not_before > self._now()
        query = select(job.c.pk, transfer.c.study_instance_uid).join_from(transfer, job, JOINED)
        query = query.where(transfer.c.kind == SEND, transfer.c.state == OPEN, transfer.c.rule != "", *waits, said)
        with self._database.read() as connection:
            return [(row.pk, row.study_instance_uid) for row in connection.execute(query.limit(_AT_A_TIME))]

    def begun(self, number: int) -> bool:
        """A try begins: failures of the one before are forgotten. False when it is over or cancelled."""
        again = update(transfer).where(transfer.c.pk == number, transfer.c.state == OPEN)
        with self._database.write() as connection:
            return connection.execute(again.values(failed=0, failures=None, error="", updated_at=self._now())).rowcount > 0

    def note(self, number: int, done: Done) -> bool:
        """Write down what was done. False when it was cancelled meanwhile: then nothing more is to be done."""
        with self._database.write() as connection:
            row = self._locked(connection, number)
            if row is None:
                return False
            sent = set(done.sent)
            failures = [*unpacked(row.failures), *([one.instance, one.status, one.reason] for _, one in done.failures)]
            values = {
                "waiting": packed([key for key in unpacked(row.waiting) if key not in sent]),
                "sent": packed([*unpacked(row.sent), *done.sent]),
                "completed": row.completed + len(done.sent) - done.warned,
                "warned": row.warned + done.warned,
                "failed": row.failed + len(done.failures),
                "failures": packed(failures[:MOST_TOLD]),
                "updated_at": self._now(),
            }
            connection.execute(update(transfer).where(transfer.c.pk == number).values(values))
            return bool(row.state == OPEN)

    def progress(self, number: int, *, total: int, completed: int, warned: int, failed: int) -> bool:
        """How far a retrieve has come, as its node says. False when it was cancelled meanwhile."""
        values = {"total": total, "completed": completed, "warned": warned, "failed": failed, "updated_at": self._now()}
        with self._database.write() as connection:
            open_one = update(transfer).where(transfer.c.pk == number, transfer.c.state == OPEN)
            return connection.execute(open_one.values(values)).rowcount > 0

    def finish(self, number: int, note: str = "", then: Order | None = None) -> bool:
        """It is done, unless more has come that waits; False in that case. `then` begins in the same transaction."""
        with self._database.write() as connection:
            row = self._locked(connection, number)
            if row is None or row.state != OPEN:
                return True
            if unpacked(row.waiting):
                return False
            values = {"state": DONE, "error": note[:_LONGEST], "updated_at": self._now()}
            connection.execute(update(transfer).where(transfer.c.pk == number).values(values))
            if then is not None:
                keys = tuple(connection.scalars(keys_in(then.scope)).all())
                if keys:
                    self.begin(connection, replace(then, instances=keys))
            return True

    def gone(self, number: int, keys: Sequence[int]) -> None:
        """These instances were deleted before they could be sent: they are no longer waited for."""
        away = set(keys)
        with self._database.write() as connection:
            row = self._locked(connection, number)
            if row is not None:
                left = [key for key in unpacked(row.waiting) if key not in away]
                values = {"waiting": packed(left), "total": row.total - len(unpacked(row.waiting)) + len(left)}
                connection.execute(update(transfer).where(transfer.c.pk == number).values(values))

    def again_waiting(self, number: int, keys: Sequence[int]) -> None:
        """These were sent, and yet must be sent again: the node does not commit to them."""
        back = set(keys)
        with self._database.write() as connection:
            row = self._locked(connection, number)
            if row is not None:
                values = {
                    "waiting": packed(list(dict.fromkeys((*unpacked(row.waiting), *keys)))),
                    "sent": packed([key for key in unpacked(row.sent) if key not in back]),
                    "completed": max(0, row.completed - len(back)),
                    "updated_at": self._now(),
                }
                connection.execute(update(transfer).where(transfer.c.pk == number).values(values))

    def failed(self, number: int, error: str) -> None:
        """A try has failed; its job says whether there is another."""
        values = {"error": error[:_LONGEST], "updated_at": self._now()}
        with self._database.write() as connection:
            connection.execute(update(transfer).where(transfer.c.pk == number, transfer.c.state == OPEN).values(values))

    # For administrators

    def search(self, wanted: Wanted, *, before: int | None = None, limit: int = 100) -> list[Transfer]:
        """The latest first; `before` is the number of the last of the page before."""
        query = shown().where(*conditions_of(wanted))
        if before is not None:
            query = query.where(transfer.c.pk < before)
        with self._database.read() as connection:
            return [transfer_of(row) for row in connection.execute(query.order_by(transfer.c.pk.desc()).limit(limit))]

    def one(self, number: int) -> Transfer:
        """One transfer. Raises NotFound."""
        with self._database.read() as connection:
            row = connection.execute(shown().where(transfer.c.pk == number)).one_or_none()
        if row is None:
            raise NotFound("there is no transfer of this number, or it was long ago; GET /api/transfers lists those there are")
        return transfer_of(row)

    def counts(self) -> dict[State, int]:
        """How many there are of each state."""
        query = select(STATE.label("shown"), func.count()).join_from(transfer, job, JOINED, isouter=True).group_by("shown")
        with self._database.read() as connection:
            found = {row[0]: row[1] for row in connection.execute(query)}
        return {state: found.get(state.value, 0) for state in State}

    def cancel(self, number: int) -> None:
        """Stop it: one that runs ends after the instance in hand. Raises NotFound, Settled when it is over already."""
        self.one(number)
        with self._database.write() as connection:
            row = self._locked(connection, number)
            if row is None or row.state != OPEN:
                raise Settled("it is over already")
            connection.execute(
                update(transfer).where(transfer.c.pk == number).values(state=CANCELLED, updated_at=self._now())
            )
            # One that runs is told when it next writes down how far it is.
            connection.execute(delete(job).where(job.c.pk == row.job_pk, job.c.state.in_((WAITING, DEAD))))

    def again(self, number: int, asked_by: str = "") -> int:
        """Try it again at once: what has failed goes on with what is left, what is over is done once more, as a transfer of its
        own. Its number. Raises NotFound; Settled when it waits or runs anyway."""
        known = self.one(number)
        if known.state is State.RUNNING:
            raise Settled("it is running now")
        with self._database.write() as connection:
            row = self._locked(connection, number)
            assert row is not None
            if row.state == OPEN:
                fresh = update(job).where(job.c.pk == row.job_pk, job.c.state.in_((WAITING, DEAD)))
                now = self._now()
                if connection.execute(fresh.values(state=WAITING, attempts=0, not_before=now, updated_at=now)).rowcount:
                    return number
                connection.execute(update(transfer).where(transfer.c.pk == number).values(state=CANCELLED))
            keys = tuple(dict.fromkeys((*unpacked(row.sent), *unpacked(row.waiting))))
            if row.kind == SEND and not keys:
                raise BadRequest("it has sent nothing: send the study anew")
            order = Order(
                row.node,
                known.scope,
                row.kind,
                asked_by=asked_by,
                target=row.target,
                then_to=known.then_to,
                sending=known.sending,
                instances=keys if row.kind == SEND else (),
            )
            return self.begin(connection, order)

    def tidy(self, *, seconds: float) -> int:
        """Forget what was over so long ago; how many, some at a time."""
        old = (transfer.c.state != OPEN, transfer.c.updated_at < self._now() - round(seconds * 1e6))
        # Of those that failed and whose job was removed nothing is left to be done either.
        lost = (transfer.c.state == OPEN, job.c.pk.is_(None), old[1])
        query = select(transfer.c.pk).join_from(transfer, job, JOINED, isouter=True).where(or_(and_(*old), and_(*lost)))
        with self._database.read() as connection:
            numbers = connection.scalars(query.limit(_AT_A_TIME)).all()
        if numbers:
            with self._database.write() as connection:
                connection.execute(delete(transfer).where(transfer.c.pk.in_(numbers)))
        return len(numbers)

    def _locked(self, connection: Connection, number: int) -> Row[Any] | None:
        return connection.execute(select(transfer).where(transfer.c.pk == number).with_for_update()).one_or_none()

    def _now(self) -> int:
        return round(self._clock() * 1e6)
