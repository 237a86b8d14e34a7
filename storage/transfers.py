"""What is sent to other nodes and fetched from them, study by study: what waits, what was done when, what failed and why.

A transfer is done by a job of its own (`storage.jobs`), written in the same transaction. While it is open the job says how it
goes, so that there is one place that does; after that the transfer keeps what was done until it is tidied away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import orjson
import zstandard
from sqlalchemy import ColumnElement, Connection, Row, and_, case, delete, func, insert, or_, select, update

from storage.errors import BadRequest, NotFound, Settled
from storage.index import Index, rows
from storage.index.add import job_values
from storage.index.read import LOCATED
from storage.index.tables import instance, job, series, study
from storage.index.transfer_tables import transfer
from storage.jobs import DEAD, RUNNING, WAITING
from storage.rules import Priority, Sending, sending_of
from storage.types import DEFAULT_PARTITION, Located, Scope

SEND, RETRIEVE = "send", "retrieve"
# The kinds of the jobs that do them.
JOB_KINDS: Final = {SEND: "send-instances", RETRIEVE: "retrieve-instances"}
# How long what comes waits for more of the same.
TOGETHER_SECONDS: Final = 1.0
# Failures of which each is told; all of them are counted.
MOST_TOLD: Final = 100
_CHUNK: Final = 500
_AT_A_TIME: Final = 1000
_LONGEST: Final = 500
_OPEN, _DONE, _CANCELLED = "open", "done", "cancelled"


class State(StrEnum):
    """How a transfer is: `failed` after its last try, until somebody has it tried again or removes it."""

    WAITING = "waiting"
    RUNNING = "running"
    FAILED = "failed"
    DONE = "done"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Failure:
    """An instance that was not sent: the status (PS3.4 B.2.3, or ours), and why."""

    instance: str
    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Transfer:
    """One transfer as it is. `rule`: by which rule, '=TITLE' for what a node's default destinations are, or '' where `asked_by`
    has asked. `target` of a retrieve: '' to this archive by C-GET, else the node that C-MOVE sends to. Times in UTC."""

    number: int
    kind: str
    state: State
    rule: str
    asked_by: str
    node: str
    target: str
    scope: Scope
    total: int
    completed: int
    warned: int
    failed: int
    error: str
    failures: tuple[Failure, ...]
    sending: Sending
    then_to: str
    created_at: datetime
    updated_at: datetime
    job: int
    tries: int
    due_at: datetime | None

    @property
    def waiting(self) -> int:
        """Instances that are still to be sent or fetched."""
        return max(0, self.total - self.completed - self.warned - self.failed)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for; empty is anything."""

    state: State | None = None
    kind: str = ""
    node: str = ""
    study: str = ""
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done: `instances` are keys of what is sent."""

    node: str
    scope: Scope
    kind: str = SEND
    rule: str = ""
    asked_by: str = ""
    target: str = ""
    then_to: str = ""
    sending: Sending = field(default_factory=Sending)
    instances: tuple[int, ...] = ()
    wait: float = 0.0


@dataclass(slots=True)
class Done:
    """What has become of instances since it was last written."""

    sent: list[int] = field(default_factory=list)
    warned: int = 0
    failures: list[tuple[int, Failure]] = field(default_factory=list)


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
            keys = connection.scalars(_in(scope)).all()
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
            state=_OPEN,
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
            waiting=_packed(order.instances),
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
            transfer.c.state == _OPEN,
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
        waiting = list(dict.fromkeys((*_unpacked(row.waiting), *order.instances)))
        more = len(waiting) - len(_unpacked(row.waiting))
        changed = {"waiting": _packed(waiting), "total": row.total + more, "updated_at": self._now()}
        connection.execute(update(transfer).where(transfer.c.pk == row.pk).values(changed))
        if order.wait > TOGETHER_SECONDS:
            later = update(job).where(job.c.pk == row.job_pk, job.c.state == WAITING, job.c.attempts == 0)
            connection.execute(later.values(not_before=self._now() + round(order.wait * 1e6)))
        return int(row.pk)

    # Doing: called by the job

    def waiting(self, number: int) -> list[int]:
        """Keys of the instances that are still to be sent; none when it is over or cancelled."""
        query = select(transfer.c.waiting).where(transfer.c.pk == number, transfer.c.state == _OPEN)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return _unpacked(row.waiting) if row else []

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

    def begun(self, number: int) -> bool:
        """A try begins: failures of the one before are forgotten. False when it is over or cancelled."""
        again = update(transfer).where(transfer.c.pk == number, transfer.c.state == _OPEN)
        with self._database.write() as connection:
            return connection.execute(again.values(failed=0, failures=None, error="", updated_at=self._now())).rowcount > 0

    def note(self, number: int, done: Done) -> bool:
        """Write down what was done. False when it was cancelled meanwhile: then nothing more is to be done."""
        with self._database.write() as connection:
            row = self._locked(connection, number)
            if row is None:
                return False
            sent = set(done.sent)
            failures = [*_unpacked(row.failures), *([one.instance, one.status, one.reason] for _, one in done.failures)]
            values = {
                "waiting": _packed([key for key in _unpacked(row.waiting) if key not in sent]),
                "sent": _packed([*_unpacked(row.sent), *done.sent]),
                "completed": row.completed + len(done.sent) - done.warned,
                "warned": row.warned + done.warned,
                "failed": row.failed + len(done.failures),
                "failures": _packed(failures[:MOST_TOLD]),
                "updated_at": self._now(),
            }
            connection.execute(update(transfer).where(transfer.c.pk == number).values(values))
            return bool(row.state == _OPEN)

    def progress(self, number: int, *, total: int, completed: int, warned: int, failed: int) -> bool:
        """How far a retrieve has come, as its node says. False when it was cancelled meanwhile."""
        values = {"total": total, "completed": completed, "warned": warned, "failed": failed, "updated_at": self._now()}
        with self._database.write() as connection:
            open_one = update(transfer).where(transfer.c.pk == number, transfer.c.state == _OPEN)
            return connection.execute(open_one.values(values)).rowcount > 0

    def finish(self, number: int, note: str = "", then: Order | None = None) -> bool:
        """It is done, unless more has come that waits; False in that case. `then` begins in the same transaction."""
        with self._database.write() as connection:
            row = self._locked(connection, number)
            if row is None or row.state != _OPEN:
                return True
            if _unpacked(row.waiting):
                return False
            values = {"state": _DONE, "error": note[:_LONGEST], "updated_at": self._now()}
            connection.execute(update(transfer).where(transfer.c.pk == number).values(values))
            if then is not None:
                keys = tuple(connection.scalars(_in(then.scope)).all())
                if keys:
                    self.begin(connection, Order(**{**_fields(then), "instances": keys}))
            return True

    def gone(self, number: int, keys: Sequence[int]) -> None:
        """These instances were deleted before they could be sent: they are no longer waited for."""
        away = set(keys)
        with self._database.write() as connection:
            row = self._locked(connection, number)
            if row is not None:
                left = [key for key in _unpacked(row.waiting) if key not in away]
                values = {"waiting": _packed(left), "total": row.total - len(_unpacked(row.waiting)) + len(left)}
                connection.execute(update(transfer).where(transfer.c.pk == number).values(values))

    def again_waiting(self, number: int, keys: Sequence[int]) -> None:
        """These were sent, and yet must be sent again: the node does not commit to them."""
        back = set(keys)
        with self._database.write() as connection:
            row = self._locked(connection, number)
            if row is not None:
                values = {
                    "waiting": _packed(list(dict.fromkeys((*_unpacked(row.waiting), *keys)))),
                    "sent": _packed([key for key in _unpacked(row.sent) if key not in back]),
                    "completed": max(0, row.completed - len(back)),
                    "updated_at": self._now(),
                }
                connection.execute(update(transfer).where(transfer.c.pk == number).values(values))

    def failed(self, number: int, error: str) -> None:
        """A try has failed; its job says whether there is another."""
        values = {"error": error[:_LONGEST], "updated_at": self._now()}
        with self._database.write() as connection:
            connection.execute(update(transfer).where(transfer.c.pk == number, transfer.c.state == _OPEN).values(values))

    # For administrators

    def search(self, wanted: Wanted, *, before: int | None = None, limit: int = 100) -> list[Transfer]:
        """The latest first; `before` is the number of the last of the page before."""
        query = _shown().where(*_conditions(wanted))
        if before is not None:
            query = query.where(transfer.c.pk < before)
        with self._database.read() as connection:
            return [_transfer(row) for row in connection.execute(query.order_by(transfer.c.pk.desc()).limit(limit))]

    def one(self, number: int) -> Transfer:
        """One transfer. Raises NotFound."""
        with self._database.read() as connection:
            row = connection.execute(_shown().where(transfer.c.pk == number)).one_or_none()
        if row is None:
            raise NotFound("there is no transfer of this number, or it was long ago; GET /api/transfers lists those there are")
        return _transfer(row)

    def counts(self) -> dict[State, int]:
        """How many there are of each state."""
        query = select(_STATE.label("shown"), func.count()).join_from(transfer, job, _JOINED, isouter=True).group_by("shown")
        with self._database.read() as connection:
            found = {row[0]: row[1] for row in connection.execute(query)}
        return {state: found.get(state.value, 0) for state in State}

    def cancel(self, number: int) -> None:
        """Stop it: one that runs ends after the instance in hand. Raises NotFound, Settled when it is over already."""
        self.one(number)
        with self._database.write() as connection:
            row = self._locked(connection, number)
            if row is None or row.state != _OPEN:
                raise Settled("it is over already")
            connection.execute(
                update(transfer).where(transfer.c.pk == number).values(state=_CANCELLED, updated_at=self._now())
            )
            # One that runs is told when it next writes down how far it is.
            connection.execute(delete(job).where(job.c.pk == row.job_pk, job.c.state.in_((WAITING, DEAD))))

    def again(self, number: int, asked_by: str = "") -> int:
        """Try it again at once: what has failed goes on with what is left, what is over is done once more, as a transfer of its
        own. Its number. Raises NotFound; Settled when it waits or runs anyway."""
        shown = self.one(number)
        if shown.state is State.RUNNING:
            raise Settled("it is running now")
        with self._database.write() as connection:
            row = self._locked(connection, number)
            assert row is not None
            if row.state == _OPEN:
                fresh = update(job).where(job.c.pk == row.job_pk, job.c.state.in_((WAITING, DEAD)))
                now = self._now()
                if connection.execute(fresh.values(state=WAITING, attempts=0, not_before=now, updated_at=now)).rowcount:
                    return number
                connection.execute(update(transfer).where(transfer.c.pk == number).values(state=_CANCELLED))
            keys = tuple(dict.fromkeys((*_unpacked(row.sent), *_unpacked(row.waiting))))
            if row.kind == SEND and not keys:
                raise BadRequest("it has sent nothing: send the study anew")
            order = Order(
                row.node,
                shown.scope,
                row.kind,
                asked_by=asked_by,
                target=row.target,
                then_to=shown.then_to,
                sending=shown.sending,
                instances=keys if row.kind == SEND else (),
            )
            return self.begin(connection, order)

    def tidy(self, *, seconds: float) -> int:
        """Forget what was over so long ago; how many, some at a time."""
        old = (transfer.c.state != _OPEN, transfer.c.updated_at < self._now() - round(seconds * 1e6))
        # Of those that failed and whose job was removed nothing is left to be done either.
        lost = (transfer.c.state == _OPEN, job.c.pk.is_(None), old[1])
        query = select(transfer.c.pk).join_from(transfer, job, _JOINED, isouter=True).where(or_(and_(*old), and_(*lost)))
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


_JOINED: Final = job.c.pk == transfer.c.job_pk
_STATE: Final[ColumnElement[str]] = case(
    (transfer.c.state != _OPEN, transfer.c.state),
    (job.c.state == DEAD, State.FAILED.value),
    (job.c.state == RUNNING, State.RUNNING.value),
    (job.c.state == WAITING, State.WAITING.value),
    else_=State.CANCELLED.value,
)


def _shown() -> Any:
    columns = _STATE.label("shown"), job.c.attempts, job.c.not_before, job.c.error.label("job_error")
    return select(transfer, *columns).join_from(transfer, job, _JOINED, isouter=True)


def _conditions(wanted: Wanted) -> Iterator[ColumnElement[bool]]:
    if wanted.state is not None:
        yield _STATE.in_([wanted.state.value])
    for column, value in (
        (transfer.c.kind, wanted.kind),
        (transfer.c.node, wanted.node),
        (transfer.c.study_instance_uid, wanted.study),
        (transfer.c.rule, wanted.rule),
    ):
        if value:
            yield column == value


def _transfer(row: Row[Any]) -> Transfer:
    options: Mapping[str, Any] = orjson.loads(row.options)
    state = State(row.shown)
    return Transfer(
        number=row.pk,
        kind=row.kind,
        state=state,
        rule=row.rule,
        asked_by=row.asked_by,
        node=row.node,
        target=row.target,
        scope=Scope(row.study_instance_uid, row.series_instance_uid or None),
        total=row.total,
        completed=row.completed,
        warned=row.warned,
        failed=row.failed,
        error=row.error or row.job_error or "",
        failures=tuple(Failure(*one) for one in _unpacked(row.failures)),
        sending=sending_of(options),
        then_to=options.get("then_to", ""),
        created_at=rows.moment(row.created_at),
        updated_at=rows.moment(row.updated_at),
        job=row.job_pk,
        tries=row.attempts or 0,
        due_at=rows.moment(row.not_before) if state is State.WAITING and row.not_before else None,
    )


def _in(scope: Scope) -> Any:
    """Keys of what is stored of a scope."""
    query = (
        select(instance.c.pk)
        .join_from(instance, series, instance.c.series_pk == series.c.pk)
        .join(study, series.c.study_pk == study.c.pk)
        .where(study.c.partition == DEFAULT_PARTITION, study.c.study_instance_uid == scope.study)
        .where(instance.c.deleted_at.is_(None), series.c.deleted_at.is_(None), study.c.deleted_at.is_(None))
        .order_by(series.c.pk, instance.c.pk)
    )
    if scope.series is not None:
        query = query.where(series.c.series_instance_uid == scope.series)
    return query if scope.instance is None else query.where(instance.c.sop_instance_uid == scope.instance)


def _fields(order: Order) -> dict[str, Any]:
    return {name: getattr(order, name) for name in Order.__dataclass_fields__}


def _packed(values: Sequence[Any]) -> bytes | None:
    return zstandard.compress(orjson.dumps(values), 1) if values else None


def _unpacked(stored: bytes | None) -> list[Any]:
    found: list[Any] = orjson.loads(zstandard.decompress(stored)) if stored else []
    return found
