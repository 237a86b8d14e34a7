"""Taking deleted instances out of the index for good: rows here, bytes by the job that the same transaction leaves behind."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, delete, exists, insert, select, update

from storage.errors import Settled
from storage.index import deleted_rows, statements
from storage.index.add import WRITE_RECORD, job_values, versions_job
from storage.index.deleted_rows import Deletion, State
from storage.index.deletion_tables import deletion, tombstone
from storage.index.holds import refuse_held
from storage.index.inserting import insert_into
from storage.index.tables import (
    instance,
    instance_content,
    instance_history,
    job,
    searchable,
    searchable_value,
    series,
    study,
)
from storage.types import Level

# Instances in one transaction.
PAGE: Final = 300
# The kind of the job that removes objects to which no row refers any more; its payload has their `keys`.
REMOVE_OBJECTS: Final = "remove-objects"


def purge_some(connection: Connection, pk: int, by: str) -> int:
    """Take out a page of a deletion's instances, or what is left: how many. Raises NotFound, Settled, Held."""
    now = time.time_ns() // 1000
    found = deleted_rows.one(connection, pk)
    scope = found.scope
    held = statements.STUDIES.run(connection, {"in_partition": scope.partition, "uids": [scope.study]})
    row = connection.execute(select(deletion).where(deletion.c.pk == pk).with_for_update()).one()
    if row.state not in (State.DELETED, State.PURGING):
        raise Settled(f"deletion {pk} is {row.state} already")
    refuse_held(connection, scope.partition, scope.study, "purged")
    page = _page(connection, pk)
    keys = [one.object_key for one in page] + _forget_history(connection, scope.partition, page)
    _bury(connection, found, page)
    _remove(connection, page)
    over = len(page) < PAGE
    if over and held:
        _remove_empty(connection, held[0].pk)
    values: dict[str, Any] = {"state": State.PURGED if over else State.PURGING, "ended_by": by, "ended_at": now}
    connection.execute(update(deletion).where(deletion.c.pk == pk).values(values | {"revision": row.revision + 1}))
    # The record goes last: it keeps what is purged from coming back by a rebuild while the bytes are still there.
    left = job_values(REMOVE_OBJECTS, {"deletion": pk, "keys": keys}, now) if keys else job_values(WRITE_RECORD, {"deletion": pk}, now)
    connection.execute(insert(job).values(left))
    return len(page)


def _page(connection: Connection, pk: int) -> Sequence[Any]:
    query = (
        select(
            instance.c.pk,
            instance.c.sop_instance_uid,
            instance.c.object_key,
            instance.c.sha256,
            series.c.series_instance_uid,
        )
        .join_from(instance, series, instance.c.series_pk == series.c.pk)
        .where(instance.c.deletion_pk == pk)
        .order_by(instance.c.pk)
        .limit(PAGE)
    )
    return connection.execute(query).all()


def _forget_history(connection: Connection, partition: str, page: Sequence[Any]) -> list[str]:
    """Earlier versions go with their instance: the keys of their objects."""
    own = (
        instance_history.c.partition == partition,
        instance_history.c.sop_instance_uid.in_([one.sop_instance_uid for one in page]),
    )
    found = connection.execute(select(instance_history.c.object_key, instance_history.c.sop_instance_uid).where(*own)).all()
    connection.execute(delete(instance_history).where(*own))
    follow = [versions_job(partition, uid, time.time_ns() // 1000) for uid in sorted({row[1] for row in found})]
    if follow:
        connection.execute(insert(job), follow)
    return [row[0] for row in found]


def _bury(connection: Connection, found: Deletion, page: Sequence[Any]) -> None:
    """What was deleted as wrong is remembered by its UID, so that it is not taken again."""
    if not page or not found.why.final:
        return
    bury(
        connection,
        [
            {
                "partition": found.scope.partition,
                "sop_instance_uid": one.sop_instance_uid,
                "study_instance_uid": found.scope.study,
                "series_instance_uid": one.series_instance_uid,
                "sha256": one.sha256,
                "code": found.why.code,
                "deletion_pk": found.id,
            }
            for one in page
        ],
    )


def bury(connection: Connection, values: Sequence[dict[str, Any]]) -> None:
    """Remember instances that are not to be taken again; those that are remembered already stay as they are."""
    if not values:
        return
    into = insert_into(connection.dialect.name, tombstone)
    connection.execute(into.on_conflict_do_nothing(), list(values))


def _remove(connection: Connection, page: Sequence[Any]) -> None:
    pks = [one.pk for one in page]
    _forget_values(connection, Level.IMAGE, pks)
    connection.execute(delete(instance_content).where(instance_content.c.instance_pk.in_(pks)))
    connection.execute(delete(instance).where(instance.c.pk.in_(pks)))


def _remove_empty(connection: Connection, study_pk: int) -> None:
    """Series, and the study, of which no instance is left, deleted or not: nothing of the patient stays behind."""
    empty = select(series.c.pk).where(series.c.study_pk == study_pk, ~exists().where(instance.c.series_pk == series.c.pk))
    pks = connection.scalars(empty).all()
    _forget_values(connection, Level.SERIES, pks)
    connection.execute(delete(series).where(series.c.pk.in_(pks)))
    if connection.scalars(select(series.c.pk).where(series.c.study_pk == study_pk).limit(1)).first() is None:
        _forget_values(connection, Level.STUDY, [study_pk])
        connection.execute(delete(study).where(study.c.pk == study_pk))


def _forget_values(connection: Connection, level: Level, owners: Sequence[int]) -> None:
    names = [str(level)] if level is not Level.STUDY else [str(Level.STUDY), str(Level.PATIENT)]
    own = select(searchable.c.pk).where(searchable.c.level.in_(names))
    attributes = connection.scalars(own).all()
    if attributes and owners:
        values = searchable_value
        connection.execute(delete(values).where(values.c.attribute_pk.in_(attributes), values.c.owner.in_(owners)))
