"""What is available of a study, and which nodes are to be told of that (PS3.4 annex R): read on from the change feed.

A notice is a job for each node and study, which says how the whole study is when it is sent: what changes while it waits is
in it, and one that is sent twice does no harm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from sqlalchemy import Connection, func, insert, select, update

from storage.index import Index
from storage.index.add import job_values
from storage.index.tables import change, counter, instance, job, series, study
from storage.jobs import WAITING
from storage.types import DEFAULT_PARTITION

# The job that sends a notice.
KIND: Final = "availability-notification"
# How long it waits for more of the same study.
TOGETHER_SECONDS: Final = 15.0
_COUNTER: Final = "availability"
_BATCH: Final = 2000


@dataclass(frozen=True, slots=True)
class Held:
    """An instance that is here, or was until it was deleted."""

    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    available: bool


def gather(index: Index, nodes: Sequence[str], *, clock: Callable[[], float] = time.time) -> int:
    """Have `nodes` told of studies that have changed since the last time; how many changes were read, 0 when none are left.

    The first time nothing is: what was here before is no news.
    """
    with index.database.read() as connection:
        seen = connection.scalars(select(counter.c.value).where(counter.c.name == _COUNTER)).first()
        if seen is not None and seen >= _newest(connection):
            return 0
    with index.database.write() as connection:
        after = connection.scalars(select(counter.c.value).where(counter.c.name == _COUNTER).with_for_update()).first()
        if after is None:
            connection.execute(insert(counter).values(name=_COUNTER, value=_newest(connection)))
            return 0
        query = select(change).where(change.c.sequence > after).order_by(change.c.sequence).limit(_BATCH)
        found = connection.execute(query).all()
        if not found:
            return 0
        studies = {
            row.study_instance_uid
            for row in found
            if row.partition == DEFAULT_PARTITION and row.kind != "instance-quarantined"
        }
        for one in sorted(studies):
            for node in nodes:
                _enqueue(connection, one, node, clock())
        last = found[-1].sequence
        connection.execute(update(counter).where(counter.c.name == _COUNTER).values(value=last))
    return len(found)


def held(index: Index, study_uid: str) -> list[Held]:
    """The instances of a study in the order of their series, deleted ones that can come back included."""
    columns = series.c.series_instance_uid, instance.c.sop_class_uid, instance.c.sop_instance_uid, instance.c.deleted_at
    query = (
        select(*columns)
        .join_from(instance, series, instance.c.series_pk == series.c.pk)
        .join(study, series.c.study_pk == study.c.pk)
        .where(study.c.study_instance_uid == study_uid, study.c.partition == DEFAULT_PARTITION)
        .order_by(series.c.pk, instance.c.pk)
    )
    with index.database.read() as connection:
        rows = connection.execute(query).all()
    return [
        Held(row.series_instance_uid, row.sop_class_uid, row.sop_instance_uid, row.deleted_at is None) for row in rows
    ]


def _newest(connection: Connection) -> int:
    return int(connection.execute(select(func.coalesce(func.max(change.c.sequence), 0))).scalar_one())


def _enqueue(connection: Connection, study_uid: str, node: str, now: float) -> None:
    """Unless one waits already, which will say it too. Locked, so that no worker begins that one meanwhile."""
    payload = {"study": study_uid, "node": node}
    waits = select(job.c.pk).where(job.c.kind == KIND, job.c.state == WAITING, job.c.payload == orjson.dumps(payload))
    if connection.scalars(waits.with_for_update()).first() is None:
        at = round(now * 1e6)
        connection.execute(insert(job).values(job_values(KIND, payload, at, at + round(TOGETHER_SECONDS * 1e6))))
