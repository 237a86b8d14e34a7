"""A study and its series as they follow from the instances that are left: counters, modalities, what they keep, whether they show.

Everything is counted anew from the instances' rows, never added or taken away, so that a mistake does not stay. The caller
holds the study's row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ColumnElement, Connection, Select, Table, func, insert, select, update

from storage.index import rows
from storage.index.add import job_values
from storage.index.parents import fill, listed
from storage.index.tables import instance, instance_content, job, searchable, series, study
from storage.types import Level

# The kind of the job of `storage.index.values_anew`.
WRITE_VALUES = "write-values"

# Instances looked at for what study and series keep: nearly always the first one says everything.
_FIRST, _PAGE = 1, 100

# The tags that study ("") and series (their UID) have had a value of.
Tags = Mapping[str, Collection[str]]


class _Count(NamedTuple):
    instances: int
    size: int


def kept_tags(connection: Connection, study_pk: int, series_pks: Collection[int]) -> dict[str, list[str]]:
    """What a study and some of its series know at present, by tag alone."""
    own = select(study.c.attributes).where(study.c.pk == study_pk)
    found = {"": _told(orjson.loads(connection.scalars(own).one()))}
    below = select(series.c.series_instance_uid, series.c.attributes).where(series.c.pk.in_(series_pks))
    return found | {row.series_instance_uid: _told(orjson.loads(row.attributes)) for row in connection.execute(below)}


def settle(connection: Connection, study_pk: int, series_pks: Collection[int], now: int, tags: Tags) -> None:
    """Bring a study and those of its series in line whose instances have come or gone; without instances they show no more.

    `tags` are those that may have a value again. `now` is in microseconds.
    """
    counts = _counts(connection, study_pk)
    for row in connection.execute(select(series).where(series.c.pk.in_(series_pks))).all():
        count = counts.get(row.pk, _Count(0, 0))
        _write(connection, series, row, count, now)
        if count.instances:
            own = instance.c.series_pk == row.pk
            _relearn(connection, series, row, own, tags.get(row.series_instance_uid, ()))
    row = connection.execute(select(study).where(study.c.pk == study_pk)).one()
    total = _Count(sum(one.instances for one in counts.values()), sum(one.size for one in counts.values()))
    _write(connection, study, row, total, now, _of_study(connection, study_pk, len(counts)))
    if total.instances:
        below = select(series.c.pk).where(series.c.study_pk == study_pk)
        _relearn(connection, study, row, instance.c.series_pk.in_(below), tags.get("", ()))
    _follow(connection, study_pk, now)


def _follow(connection: Connection, study_pk: int, now: int) -> None:
    """Additional attributes of the study and its series are written anew by a job, where there are any."""
    above = select(searchable.c.pk).where(searchable.c.level != str(Level.IMAGE)).limit(1)
    if connection.scalars(above).first() is not None:
        connection.execute(insert(job).values(job_values(WRITE_VALUES, {"study": study_pk}, now)))


def _counts(connection: Connection, study_pk: int) -> dict[int, _Count]:
    """Of each series of a study that has instances left."""
    query = (
        select(instance.c.series_pk, func.count(), func.sum(instance.c.size))
        .join_from(instance, series, instance.c.series_pk == series.c.pk)
        .where(series.c.study_pk == study_pk, instance.c.deleted_at.is_(None))
        .group_by(instance.c.series_pk)
    )
    return {row[0]: _Count(int(row[1]), int(row[2])) for row in connection.execute(query)}


def _of_study(connection: Connection, study_pk: int, number_of_series: int) -> dict[str, Any]:
    alive = (series.c.study_pk == study_pk, series.c.deleted_at.is_(None))
    classes = (
        select(instance.c.sop_class_uid)
        .join_from(instance, series, instance.c.series_pk == series.c.pk)
        .where(*alive, instance.c.deleted_at.is_(None))
        .distinct()
    )
    modalities = set(connection.scalars(select(series.c.modality).where(*alive).distinct()))
    return {
        "modalities": listed(modalities - {""}),
        "sop_classes": listed(set(connection.scalars(classes))),
        "number_of_series": number_of_series,
    }


def _write(
    connection: Connection, table: Table, row: Any, count: _Count, now: int, more: Mapping[str, Any] | None = None
) -> None:
    gone = now if row.deleted_at is None else row.deleted_at
    values = {
        "number_of_instances": count.instances,
        "size": count.size,
        "deleted_at": None if count.instances else gone,
        "revision": row.revision + 1,
        "updated_at": now,
    }
    connection.execute(update(table).where(table.c.pk == row.pk).values({**values, **(more or {})}))


def _relearn(connection: Connection, table: Table, row: Any, own: ColumnElement[bool], tags: Collection[str]) -> None:
    """What the row would keep, had the instances that are left come alone: of each attribute the first value there is."""
    present: dict[str, Mapping[str, Any]] = orjson.loads(row.attributes)
    found = _merged(connection, table, own, {*_told(present), *tags})
    if found != present:
        fill(connection, table, row.pk, found)


def _merged(
    connection: Connection, table: Table, own: ColumnElement[bool], wanted: set[str]
) -> dict[str, Mapping[str, Any]]:
    """Read only until every tag that can have a value has one."""
    ours = rows.STUDY_TAGS if table is study else rows.SERIES_TAGS
    # Sorted here: asked for the first key, a planner may prefer to walk the keys of all instances there are.
    left = sorted(connection.scalars(select(instance.c.pk).where(own, instance.c.deleted_at.is_(None))))
    merged: dict[str, Mapping[str, Any]] = {}
    at, size = 0, _FIRST
    while at < len(left) and not (at and wanted <= set(_told(merged))):
        for part in _parts(connection, left[at : at + size], ours):
            if not merged:
                merged = part
            else:
                rows.merge(merged, part, "")
        at, size = at + size, _PAGE
    return merged


def _parts(connection: Connection, pks: Sequence[int], ours: Collection[str]) -> Iterator[dict[str, Mapping[str, Any]]]:
    """What some instances have to say, in the order of their keys."""
    query = select(instance_content.c.json).where(instance_content.c.instance_pk.in_(pks))
    for json in connection.scalars(query.order_by(instance_content.c.instance_pk)):
        yield rows.subset(rows.encoded(json).without_items(), ours)


def _told(attributes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [tag for tag, element in attributes.items() if rows.says_something(element)]


def series_of(connection: Connection, chosen: Select[Any]) -> Sequence[int]:
    """The series that some instances belong to; `chosen` selects the keys of the instances."""
    return connection.scalars(select(instance.c.series_pk).where(instance.c.pk.in_(chosen)).distinct()).all()
