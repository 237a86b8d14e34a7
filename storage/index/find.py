"""Searching: pages of SQL in a fixed order, each answer made from its row, matched further where columns did not do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Select, and_, func, literal, or_, select, tuple_

from storage.index.answers import Answers, Projection
from storage.index.database import Database
from storage.index.plan import Plan
from storage.index.tables import instance, instance_content, series, study
from storage.matching import matches_dataset
from storage.types import Dataset, Level, Query

# Rows of the first page, and how pages grow: a page is one query, and nothing is held between two of them.
_FIRST, _GROWTH, _LARGEST = 200, 4, 1600
# With an instance's whole metadata in each row.
_LARGEST_WITH_METADATA = 200

# The order of answers: groups of columns, and whether a group runs backwards. The newest study comes first; series and
# instances follow their numbers, then their UIDs.
_Order = tuple[tuple[tuple[ColumnElement[Any], ...], bool], ...]
_STUDIES = (study.c.study_date, study.c.study_time, study.c.study_instance_uid)
_SERIES = (series.c.series_number, series.c.series_instance_uid)
_ORDER: dict[Level, _Order] = {
    Level.PATIENT: (((study.c.patient_id, study.c.issuer_of_patient_id), False),),
    Level.STUDY: ((_STUDIES, True),),
    Level.SERIES: ((_STUDIES, True), (_SERIES, False)),
    Level.IMAGE: (
        (_STUDIES, True),
        ((*_SERIES, instance.c.instance_number, instance.c.sop_instance_uid), False),
    ),
}


def find(database: Database, query: Query) -> Iterator[Dataset]:
    """The matches of a query in their order. Raises UnsupportedQuery at once; database errors come while iterating.

    May be left at any point: between two pages neither connection nor snapshot is held.
    """
    return _Search(database, query, Plan(query, sqlite=database.sqlite)).run()


class _Search:
    """One run of one query."""

    def __init__(self, database: Database, query: Query, plan: Plan) -> None:
        self._database = database
        self._query = query
        self._plan = plan
        looked_at = [path[0] for path, _ in plan.rest]
        self._answers = Answers(query.level, Projection(query.fields, query.level), looked_at)

    def run(self) -> Iterator[Dataset]:
        """The answers, with offset and limit left to the database where it alone decides what matches."""
        offset, limit = self._query.offset, self._query.limit
        if self._plan.exact:
            for row in self._rows(offset, limit):
                yield self._answers.of(self._answers.whole(row))
            return
        found = 0
        for row in self._rows(0, None):
            if limit is not None and found >= offset + limit:
                return
            whole = self._answers.whole(row)
            if self._matches(row, whole):
                found += 1
                if found > offset:
                    yield self._answers.of(whole)

    def _rows(self, offset: int, limit: int | None) -> Iterator[Any]:
        largest = _LARGEST_WITH_METADATA if self._answers.needs_metadata else _LARGEST
        size = min(_FIRST if limit is None or limit > largest else limit, largest)
        left = limit
        after: list[ColumnElement[bool]] = []
        while left is None or left > 0:
            size = size if left is None else min(size, left)
            rows = self._page(self._select(after, size, 0 if after else offset))
            yield from rows
            if len(rows) < size:
                return
            left = None if left is None else left - size
            size = min(size * _GROWTH, largest)
            after = [self._after(rows[-1])]

    def _page(self, query: Select[Any]) -> Sequence[Any]:
        with self._database.read() as connection:
            return connection.execute(query).all()

    def _matches(self, row: Any, whole: Dataset) -> bool:
        fuzzy = self._query.fuzzy
        if self._plan.rest and not matches_dataset(self._plan.rest, whole, fuzzy=fuzzy):
            return False
        if not self._plan.rest_of_series:
            return True
        with self._database.read() as connection:
            found = connection.scalars(self._plan.series_of_a_study(row.study_pk)).all()
        return any(
            matches_dataset(self._plan.rest_of_series, orjson.loads(one), fuzzy=fuzzy) for one in found
        )

    def _select(self, after: list[ColumnElement[bool]], size: int, offset: int) -> Select[Any]:
        if self._query.level is Level.PATIENT:
            return self._patients(after, size, offset)
        query = self._joined().where(*after).order_by(*self._order()).limit(size)
        return query.offset(offset) if offset else query

    def _joined(self) -> Select[Any]:
        level, answers = self._query.level, self._answers
        columns: list[ColumnElement[Any]] = [
            *_STUDIES,
            study.c.pk.label("study_pk"),
            study.c.modalities,
            study.c.sop_classes,
            study.c.number_of_series.label("study_series"),
            study.c.number_of_instances.label("study_instances"),
        ]
        if answers.needs_study:
            columns.append(study.c.attributes.label("study_attributes"))
        if level is not Level.STUDY:
            columns += [*_SERIES, series.c.number_of_instances.label("series_instances")]
        if answers.needs_series:
            columns.append(series.c.attributes.label("series_attributes"))
        if level is Level.IMAGE:
            names = (
                "sop_instance_uid",
                "sop_class_uid",
                "transfer_syntax_uid",
                "instance_number",
                "rows",
                "columns",
            )
            columns += [instance.c[name] for name in (*names, "bits_allocated", "number_of_frames")]
        if answers.needs_metadata:
            columns.append(instance_content.c.json)
        query = select(*columns).select_from(study)
        if level is not Level.STUDY:
            query = query.join(series, series.c.study_pk == study.c.pk)
        if level is Level.IMAGE:
            query = query.join(instance, instance.c.series_pk == series.c.pk)
        if answers.needs_metadata:
            query = query.join(instance_content, instance_content.c.instance_pk == instance.c.pk)
        return query.where(*self._plan.where)

    def _patients(self, after: list[ColumnElement[bool]], size: int, offset: int) -> Select[Any]:
        """Patients are the studies that share Patient ID and its issuer; the study that came last describes them."""
        keys = (study.c.patient_id, study.c.issuer_of_patient_id)
        patients = select(
            func.max(study.c.pk).label("newest"),
            func.count().label("patient_studies"),
            func.sum(study.c.number_of_series).label("patient_series"),
            func.sum(study.c.number_of_instances).label("patient_instances"),
        ).where(study.c.partition == self._query.partition, study.c.deleted_at.is_(None), *after)
        if self._plan.narrowed:
            # All studies of a patient count, not only those that match.
            patients = patients.where(tuple_(*keys).in_(select(*keys).where(*self._plan.where)))
        page = patients.group_by(*keys).order_by(*keys).limit(size).offset(offset).subquery("patients")
        return (
            select(
                *keys,
                study.c.attributes.label("study_attributes"),
                page.c.patient_studies,
                page.c.patient_series,
                page.c.patient_instances,
            )
            .join_from(page, study, study.c.pk == page.c.newest)
            .order_by(*keys)
        )

    def _order(self) -> list[ColumnElement[Any]]:
        groups = _ORDER[self._query.level]
        return [column.desc() if backwards else column for columns, backwards in groups for column in columns]

    def _after(self, row: Any) -> ColumnElement[bool]:
        """What comes after `row` in the order: beyond it in some group, and equal to it in all groups before."""
        alternatives: list[ColumnElement[bool]] = []
        equal: list[ColumnElement[bool]] = []
        for columns, backwards in _ORDER[self._query.level]:
            here = tuple_(*columns)
            there = tuple_(*(literal(getattr(row, str(column.key)), column.type) for column in columns))
            alternatives.append(and_(*equal, here < there if backwards else here > there))
            equal.append(here == there)
        return or_(*alternatives)
