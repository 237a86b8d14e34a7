"""Reading what is stored: where an instance lies, its metadata, and what has changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import BigInteger, BindParameter, Select, bindparam, func, literal, select, tuple_

from storage.frames import FrameTable
from storage.index import rows
from storage.index.coercion_tables import original
from storage.index.database import Database
from storage.index.entries import Counts, Layout, ObjectRow, Quarantined
from storage.index.prepared import Prepared
from storage.index.tables import (
    change,
    instance,
    instance_content,
    instance_history,
    quarantine,
    series,
    study,
)
from storage.non_patient import PARTITION as NON_PATIENT
from storage.per_frame import Encoded
from storage.types import DEFAULT_PARTITION, Change, Located, Scope, Uids

# Rows in memory at a time; each page is a query of its own, so a slow reader holds neither connection nor snapshot.
_PAGE = 500
_JSON_PAGE = 200

LOCATED = (
    study.c.study_instance_uid,
    series.c.series_instance_uid,
    instance.c.sop_instance_uid,
    instance.c.sop_class_uid,
    instance.c.transfer_syntax_uid,
    instance.c.object_key,
    instance.c.size,
    instance.c.sha256,
    instance.c.dataset_offset,
    instance.c.frame_count,
    instance.c.partition,
)
_CONTENT = (instance_content.c.json, instance_content.c.frames, instance_content.c.bulk, instance.c.inflated)


class Reading:
    """The reading half of `Index`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def locate(self, scope: Scope) -> Iterator[Located]:
        """The instances of a scope by series number, then instance number; none when there is no such scope."""
        if scope.instance is not None and scope.series is not None:
            yield from self._locate_one(scope)
            return
        query = _joined(*LOCATED, instance.c.instance_number, instance.c.pk)
        for row in self._in_order(query, scope, _PAGE):
            yield rows.located(row)

    def _locate_one(self, scope: Scope) -> list[Located]:
        uids = {"the_study": scope.study, "the_series": scope.series, "the_instance": scope.instance}
        with self._database.read() as connection:
            return [rows.located(row) for row in _ONE.run(connection, {**uids, "in_partition": scope.partition})]

    def locate_deleted(self, scope: Scope) -> Located | None:
        """An instance that is deleted and not yet gone for good, by the UIDs of `scope`, which must name one."""
        query = (
            select(*LOCATED)
            .join_from(instance, series, instance.c.series_pk == series.c.pk)
            .join(study, series.c.study_pk == study.c.pk)
            .where(
                instance.c.partition == scope.partition,
                instance.c.sop_instance_uid == scope.instance,
                series.c.series_instance_uid == scope.series,
                study.c.study_instance_uid == scope.study,
                instance.c.deleted_at.is_not(None),
            )
        )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return rows.located(row) if row is not None else None

    def kinds(self, scope: Scope) -> dict[tuple[str, str], int]:
        """How many instances of each SOP class and transfer syntax a scope has; `scope` names a study, or a series of it."""
        kind = (instance.c.sop_class_uid, instance.c.transfer_syntax_uid)
        query = _joined(*kind, func.count()).where(*_is_study(scope)).group_by(*kind)
        if scope.series is not None:
            query = query.where(*_is_series(scope))
        else:
            query = query.where(series.c.deleted_at.is_(None))
        with self._database.read() as connection:
            return {(row[0], row[1]): int(row[2]) for row in connection.execute(query)}

    def instances(self, uids: Sequence[str], partitions: tuple[str, ...] = (DEFAULT_PARTITION,)) -> list[Located]:
        """The stored ones of some SOP Instance UIDs, in whatever study, in no order. For a page of UIDs, not for thousands."""
        query = _joined(*LOCATED).where(
            instance.c.partition.in_(partitions),
            instance.c.sop_instance_uid.in_(uids),
            series.c.deleted_at.is_(None),
            study.c.deleted_at.is_(None),
        )
        with self._database.read() as connection:
            return [rows.located(row) for row in connection.execute(query)]

    def metadata(self, scope: Scope) -> Iterator[Encoded]:
        """The DICOM JSON of each instance of a scope (one object each, PS3.18 F.2), in the same order."""
        query = _joined(instance_content.c.json, instance.c.instance_number, instance.c.pk).join(
            instance_content, instance_content.c.instance_pk == instance.c.pk
        )
        for row in self._in_order(query, scope, _JSON_PAGE):
            yield rows.encoded(row.json)

    def layout(self, scope: Scope) -> Layout | None:
        """Everything to serve parts of one instance; None when it is not stored. `scope` must name an instance."""
        return next(iter(self.layouts(scope, 0)[1]), None)

    def layouts(self, scope: Scope, around: int) -> tuple[str, list[Layout]]:
        """Those of an instance and of as many as `around` before and after it in its series, and the series' ETag.

        None are found when the instance is not stored. `scope` must name an instance. The ETag is of before the layouts were
        read, or of the same moment.
        """
        position = (instance.c.instance_number, instance.c.pk)
        query = _joined(
            *LOCATED, *_CONTENT, *position, series.c.pk.label("series_pk"), series.c.revision.label("series_revision")
        ).join(instance_content, instance_content.c.instance_pk == instance.c.pk)
        the_one = query.where(
            *_is_study(scope), *_is_series(scope), instance.c.sop_instance_uid == scope.instance
        )
        with self._database.read() as connection:
            row = connection.execute(the_one).one_or_none()
            if row is None:
                return "", []
            found = [row]
            if around:
                here = tuple_(_whole(row.instance_number), _whole(row.pk))
                near = query.where(instance.c.series_pk == row.series_pk)
                down = (column.desc() for column in position)
                found += connection.execute(near.where(tuple_(*position) > here).order_by(*position).limit(around)).all()
                found += connection.execute(near.where(tuple_(*position) < here).order_by(*down).limit(around)).all()
        return _etag(row.series_pk, row.series_revision), [_layout(one) for one in found]

    def layouts_in(self, scope: Scope) -> Iterator[Layout]:
        """The layouts of all instances of a scope, in the order of `locate`."""
        query = _joined(*LOCATED, *_CONTENT, instance.c.instance_number, instance.c.pk).join(
            instance_content, instance_content.c.instance_pk == instance.c.pk
        )
        return map(_layout, self._in_order(query, scope, _JSON_PAGE))

    def etag(self, scope: Scope) -> str | None:
        """A short text that changes whenever anything in the scope does; None when there is no such scope."""
        if scope.series is None:
            query = select(study.c.pk, study.c.revision).where(*_is_study(scope))
        elif scope.instance is None:
            query = select(series.c.pk, series.c.revision).join(study, series.c.study_pk == study.c.pk)
            query = query.where(*_is_study(scope), *_is_series(scope))
        else:
            query = _joined(instance.c.pk, instance.c.revision).where(
                *_is_study(scope), *_is_series(scope), instance.c.sop_instance_uid == scope.instance
            )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return _etag(row.pk, row.revision) if row else None

    def _in_order(self, query: Select[Any], scope: Scope, page: int) -> Iterator[Any]:
        """Rows of `query` series by series; it must select instance number and key, by which pages go on."""
        if scope.instance is not None:
            query = query.where(instance.c.sop_instance_uid == scope.instance)
        for series_pk in self._series_of(scope):
            after = (-(2**63), 0)
            while True:
                position = tuple_(instance.c.instance_number, instance.c.pk)
                paged = query.where(instance.c.series_pk == series_pk, position > tuple_(*map(_whole, after)))
                with self._database.read() as connection:
                    found = connection.execute(
                        paged.order_by(instance.c.instance_number, instance.c.pk).limit(page)
                    ).all()
                yield from found
                if len(found) < page:
                    break
                after = (found[-1].instance_number, found[-1].pk)

    def _series_of(self, scope: Scope) -> Sequence[int]:
        query = select(series.c.pk).join(study, series.c.study_pk == study.c.pk).where(*_is_study(scope))
        if scope.series is not None:
            query = query.where(*_is_series(scope))
        query = query.where(series.c.deleted_at.is_(None))
        with self._database.read() as connection:
            return connection.scalars(
                query.order_by(series.c.series_number, series.c.series_instance_uid)
            ).all()

    def changes(self, after: int, limit: int) -> list[Change]:
        """Lines of the change feed after a sequence number, oldest first. No line ever appears before one already seen."""
        query = select(change).where(change.c.sequence > after).order_by(change.c.sequence).limit(limit)
        with self._database.read() as connection:
            found = connection.execute(query).all()
        return [Change(row.sequence, row.kind, _uids(row), rows.moment(row.at)) for row in found]

    def counts(self) -> Counts:
        """How much is stored; studies and series are those of patients."""
        patients = study.c.partition != NON_PATIENT
        of_studies = select(
            func.count().filter(patients),
            func.coalesce(func.sum(study.c.number_of_series).filter(patients), 0),
            func.coalesce(func.sum(study.c.number_of_instances), 0),
            func.coalesce(func.sum(study.c.size), 0),
        ).where(study.c.deleted_at.is_(None))
        with self._database.read() as connection:
            row = connection.execute(of_studies).one()
        return Counts(*(int(number) for number in row))

    def objects(self, after_id: int, limit: int) -> list[ObjectRow]:
        """Objects of current instances, deleted ones included, by a key that never changes; go on with the last `id`."""
        query = (
            select(*LOCATED, instance.c.pk)
            .join_from(instance, series, instance.c.series_pk == series.c.pk)
            .join(study, series.c.study_pk == study.c.pk)
            .where(instance.c.pk > after_id)
            .order_by(instance.c.pk)
            .limit(limit)
        )
        with self._database.read() as connection:
            found = connection.execute(query).all()
        return [ObjectRow(row.pk, row.object_key, row.size, row.sha256, _uids(row)) for row in found]

    def known_keys(self, keys: Sequence[str]) -> set[str]:
        """Those of the object keys that some row refers to: a current, an earlier or a quarantined instance, or an original."""
        known: set[str] = set()
        wanted: BindParameter[Any] = bindparam("wanted", expanding=True)
        with self._database.read() as connection:
            for table in (instance, instance_history, quarantine, original):
                for first in range(0, len(keys), _PAGE):
                    query = select(table.c.object_key).where(table.c.object_key.in_(wanted))
                    known.update(connection.scalars(query, {"wanted": list(keys[first : first + _PAGE])}))
        return known

    def quarantined(self, after_id: int = 0, limit: int = 1000) -> list[Quarantined]:
        """Instances in quarantine, the longest there first; go on with the last `id`."""
        query = select(quarantine).where(quarantine.c.pk > after_id).order_by(quarantine.c.pk).limit(limit)
        with self._database.read() as connection:
            found = connection.execute(query).all()
        return [quarantined(row) for row in found]


def _joined(*columns: Any) -> Select[Any]:
    return (
        select(*columns)
        .join_from(instance, series, instance.c.series_pk == series.c.pk)
        .join(study, series.c.study_pk == study.c.pk)
        .where(instance.c.deleted_at.is_(None))
    )


# What every retrieval of one instance begins with.
_ONE: Final = Prepared(
    _joined(*LOCATED).where(
        study.c.partition == bindparam("in_partition"),
        study.c.study_instance_uid == bindparam("the_study"),
        study.c.deleted_at.is_(None),
        series.c.series_instance_uid == bindparam("the_series"),
        series.c.deleted_at.is_(None),
        instance.c.sop_instance_uid == bindparam("the_instance"),
    )
)


def _is_study(scope: Scope) -> tuple[Any, ...]:
    return (
        study.c.partition == scope.partition,
        study.c.study_instance_uid == scope.study,
        study.c.deleted_at.is_(None),
    )


def _is_series(scope: Scope) -> tuple[Any, ...]:
    return (series.c.series_instance_uid == scope.series, series.c.deleted_at.is_(None))


def _etag(pk: int, revision: int) -> str:
    return f"{pk:x}-{revision:x}"


def _layout(row: Any) -> Layout:
    return Layout(
        located=rows.located(row),
        frames=FrameTable.from_bytes(row.frames),
        bulk=rows.bulk_of(row.bulk),
        inflated=row.inflated,
        encoded=rows.encoded(row.json),
    )


def _whole(number: int) -> Any:
    return literal(number, BigInteger)


def _uids(row: Any) -> Uids:
    return Uids(row.study_instance_uid, row.series_instance_uid, row.sop_instance_uid)


def quarantined(row: Any) -> Quarantined:
    """A newcomer from its row."""
    return Quarantined(
        id=row.pk,
        uids=_uids(row),
        sop_class_uid=row.sop_class_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        object_key=row.object_key,
        size=row.size,
        sha256=row.sha256,
        existing_sha256=row.existing_sha256,
        reason=row.reason,
        source=rows.source_of(row.source),
        received_at=rows.moment(row.received_at),
        times=row.times,
        partition=row.partition,
        rejected_at=None if row.rejected_at is None else rows.moment(row.rejected_at),
        rejected_by=row.rejected_by or "",
    )
