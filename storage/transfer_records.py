"""Transfers as values: how each is, what may be ordered, and how they are kept in rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import orjson
import zstandard
from sqlalchemy import ColumnElement, Row, case, select

from storage.index import rows
from storage.index.tables import instance, job, series, study
from storage.index.transfer_tables import transfer
from storage.jobs import DEAD, RUNNING, WAITING
from storage.rules import Sending, sending_of
from storage.types import DEFAULT_PARTITION, Scope

SEND, RETRIEVE = "send", "retrieve"
# The kinds of the jobs that do them.
JOB_KINDS: Final = {SEND: "send-instances", RETRIEVE: "retrieve-instances"}
# How long what comes waits for more of the same.
TOGETHER_SECONDS: Final = 1.0
OPEN, DONE, CANCELLED = "open", "done", "cancelled"


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


# A transfer and its job; and how it is by both.
JOINED: Final = job.c.pk == transfer.c.job_pk
STATE: Final[ColumnElement[str]] = case(
    (transfer.c.state != OPEN, transfer.c.state),
    (job.c.state == DEAD, State.FAILED.value),
    (job.c.state == RUNNING, State.RUNNING.value),
    (job.c.state == WAITING, State.WAITING.value),
    else_=State.CANCELLED.value,
)


def shown() -> Any:
    """The query of transfers with how they are, for `transfer_of`."""
    columns = STATE.label("shown"), job.c.attempts, job.c.not_before, job.c.error.label("job_error")
    return select(transfer, *columns).join_from(transfer, job, JOINED, isouter=True)


def conditions_of(wanted: Wanted) -> Iterator[ColumnElement[bool]]:
    """What is looked for, as the database is asked."""
    if wanted.state is not None:
        yield STATE.in_([wanted.state.value])
    for column, value in (
        (transfer.c.kind, wanted.kind),
        (transfer.c.node, wanted.node),
        (transfer.c.study_instance_uid, wanted.study),
        (transfer.c.rule, wanted.rule),
    ):
        if value:
            yield column == value


def transfer_of(row: Row[Any]) -> Transfer:
    """A row of `shown` as a value."""
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
        # Why its worker is gone nobody but the queue knows.
        error=row.error or (row.job_error or "" if state in (State.WAITING, State.FAILED) else ""),
        failures=tuple(Failure(*one) for one in unpacked(row.failures)),
        sending=sending_of(options),
        then_to=options.get("then_to", ""),
        created_at=rows.moment(row.created_at),
        updated_at=rows.moment(row.updated_at),
        job=row.job_pk,
        tries=row.attempts or 0,
        due_at=rows.moment(row.not_before) if state is State.WAITING and row.not_before else None,
    )


def keys_in(scope: Scope) -> Any:
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



def packed(values: Sequence[Any]) -> bytes | None:
    """A list as it is stored; None for an empty one."""
    return zstandard.compress(orjson.dumps(values), 1) if values else None


def unpacked(stored: bytes | None) -> list[Any]:
    """The list again."""
    found: list[Any] = orjson.loads(zstandard.decompress(stored)) if stored else []
    return found
