"""Searching: pages of SQL in a fixed order, each answer made from its row, matched further where columns did not do."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ColumnElement, Connection, Select, func, select, tuple_

from storage.errors import BadRequest
from storage.index import tally
from storage.index.anchors import LEAST_OFFSET, Anchors
from storage.index.answer_rows import from_tables, kind_of, rows_of
from storage.index.answers import Answers, Projection
from storage.index.database import Database
from storage.index.frequency import Frequency, unlooked
from storage.index.order import TABLE_OF, Order
from storage.index.plan import NONE, Additional, Plan
from storage.index.prepared import Prepared
from storage.index.shapes import shape_of
from storage.index.tables import counter, study
from storage.index.ways import Values, Way, way
from storage.matching import matches_dataset
from storage.types import Dataset, Level, Query

# Keys that are found at a time: to find them may take looking at all that matches, so there are few such pages.
_FIRST_KEYS, _KEYS = 1000, 10_000
# Rows that are read at first, and how their number grows; nothing is held between two readings.
_FIRST, _GROWTH, _LARGEST = 200, 4, 1600
# With an instance's whole metadata in each row.
_LARGEST_WITH_METADATA = 200


class Found(Iterator[Dataset]):
    """The answers to a query, one after the other. May be left at any point: between two pages of rows neither
    connection nor snapshot is held."""

    def __init__(self, search: _Search) -> None:
        self._search = search
        self._answers = search.run()

    def __next__(self) -> Dataset:
        return next(self._answers)

    @property
    def key(self) -> int | None:
        """The row of the answer that was given last, for `Query.after`; None before the first."""
        return self._search.key

    @property
    def beyond(self) -> int | None:
        """When all answers were given: how many more match behind them, at most as many as were asked about. None where
        only looking at each candidate would tell."""
        return self._search.beyond

    def close(self) -> None:
        """Look no further."""
        self._answers.close()


def find(
    database: Database,
    query: Query,
    searchable: Additional = NONE,
    anchors: Anchors | None = None,
    beyond: int = 0,
) -> Found:
    """The matches of a query in their order. Raises UnsupportedQuery at once; database errors come while iterating.

    `beyond`: how many matches behind the query's limit are counted, for `Found.beyond`.
    """
    return Found(_search(database, query, searchable, anchors, beyond))


_STATE = Prepared(select(counter.c.value).where(counter.c.name == "change"))


def state(database: Database) -> int:
    """A number that grows with everything that is stored, replaced or deleted: what a search has found may be found again
    while it stays."""
    with database.read() as connection:
        return int(_STATE.run(connection, {})[0].value)


def count(database: Database, query: Query, searchable: Additional = NONE) -> int:
    """How many answers a query has, its limit and offset set aside."""
    search = _search(database, query, searchable)
    if search.exact and query.level is not Level.PATIENT:
        return search.count()
    everything = replace(query, fields=frozenset(), limit=None, offset=0)
    return sum(1 for _ in find(database, everything, searchable))


def _search(
    database: Database, query: Query, searchable: Additional, anchors: Anchors | None = None, beyond: int = 0
) -> _Search:
    shape = shape_of(query, searchable)
    if shape is not None:
        found, values = way(database, *shape)
        if found.plan.exact:
            return _Search(database, query, found.plan, anchors, beyond, found, values)
    return _Search(database, query, _plan(database, query, searchable), anchors, beyond)


def _plan(database: Database, query: Query, searchable: Additional) -> Plan:
    # In an order of its own nothing can be walked: there all that matches is sorted, and should be as little as can be.
    looks = database.sqlite and not query.order and query.level is not Level.PATIENT
    common = Frequency(database, whole=query.limit is None).common if looks else unlooked
    return Plan(query, sqlite=database.sqlite, common=common, searchable=searchable)


_NOTHING: Values = {}


class _Page(NamedTuple):
    """The first rows of a page, the keys of its others, and where the next one begins, if one is wanted and may be there."""

    rows: Sequence[Any]
    keys: Sequence[int]
    place: tuple[Any, ...] | None


class _Search:
    """One run of one query. `values` are those that its plan has names for, `way` has statements of it that are made."""

    def __init__(
        self,
        database: Database,
        query: Query,
        plan: Plan,
        anchors: Anchors | None = None,
        beyond: int = 0,
        way: Way | None = None,
        values: Values = _NOTHING,
    ) -> None:
        self._way = way
        self._values = values
        # Of these it is known without walking to it where an offset leads, and how many there are.
        self._days = tally.days_of(query)
        self._anchors = anchors if self._days is None else None
        self._database = database
        self._query = query
        self._plan = plan
        self._order = Order(query)
        self.key: int | None = None
        # Only where the database alone decides is it known without looking at each.
        self._beyond = beyond if plan.exact and query.level is not Level.PATIENT else 0
        self.beyond: int | None = 0 if self._beyond else None
        looked_at = [path[0] for path, _ in plan.rest]
        self._answers = Answers(query.level, Projection(query.fields, query.level), looked_at)
        self._kind = kind_of(query.level, self._answers, self._order.columns)
        self._largest = _LARGEST_WITH_METADATA if self._answers.needs_metadata else _LARGEST
        few = query.limit is not None and query.limit <= self._largest
        self._first = query.limit if query.limit and few else min(_FIRST, self._largest)

    @property
    def exact(self) -> bool:
        """Whether the database alone says what matches."""
        return self._plan.exact

    def run(self) -> Generator[Dataset]:
        """The answers, with offset and limit left to the database where it alone decides what matches."""
        offset, limit = self._query.offset, self._query.limit
        if self._plan.exact:
            for row in self._exact(offset, limit):
                self.key = row.key
                yield self._answers.of(self._answers.whole(row))
            return
        found = 0
        for row in self._rows(self._beginning(), 0, None):
            if limit is not None and found >= offset + limit:
                return
            whole = self._answers.whole(row)
            if self._matches(row, whole):
                found += 1
                if found > offset:
                    self.key = row.key
                    yield self._answers.of(whole)

    def _exact(self, offset: int, limit: int | None) -> Iterator[Any]:
        """Rows that all match; from an anchor where the offset is large, and leaving one where they end."""
        after = self._beginning()
        if self._anchors is None or self._query.after is not None or offset < LEAST_OFFSET:
            yield from self._rows(after, offset, limit)
            return
        query, now = self._query, state(self._database)
        search = (query.level, query.conditions, query.fuzzy, query.partition, query.order)
        anchor = self._anchors.nearest(search, now, offset)
        passed, row = offset, None
        if anchor is not None:
            after, offset = [self._order.behind(anchor[1])], offset - anchor[0]
        try:
            for row in self._rows(after, offset, limit):
                passed += 1
                yield row
        finally:
            if row is not None:
                self._anchors.keep(search, now, passed, self._order.place(row))

    def _rows(self, after: list[ColumnElement[bool]], offset: int, limit: int | None) -> Iterator[Any]:
        at_once, left = _FIRST_KEYS, limit
        while left is None or left > 0:
            size = at_once if left is None else min(at_once, left)
            page = self._page(after, size, offset, more=left is None or left > size)
            yield from page.rows
            yield from self._read(page.keys)
            if page.place is None:
                return
            left = None if left is None else left - size
            at_once, after, offset = _KEYS, [self._order.behind(page.place)], 0

    def _read(self, keys: Sequence[int]) -> Iterator[Any]:
        """The rows of what is left of a page."""
        size = self._first
        while keys:
            size = min(size * _GROWTH, self._largest)
            with self._database.read() as connection:
                rows = rows_of(connection, self._kind, keys[:size])
            yield from rows
            keys = keys[size:]

    def count(self) -> int:
        """How many rows match. For plans that are exact."""
        if self._days is not None:
            with self._database.read() as connection:
                return tally.count(connection, self._days)
        rows = self._keys().where(*self._beginning())
        if not self._plan.narrowed:
            # True of all, and what leads SQLite to the index of living studies instead of past every row's attributes.
            rows = rows.where(study.c.study_date >= "")
        number = select(func.count()).select_from(rows.subquery("found"))
        with self._database.read() as connection:
            return int(connection.scalar(number, self._values) or 0)

    def _beginning(self) -> list[ColumnElement[bool]]:
        """Where the query says to go on. Raises BadRequest when that row is gone."""
        if self._query.after is None:
            return []
        with self._database.read() as connection:
            row = connection.execute(self._order.place_of(self._query.after)).one_or_none()
        if row is None:
            raise BadRequest("where this page should go on has been removed for good; begin at the first page again")
        return [self._order.behind(tuple(row))]

    def _page(self, after: list[ColumnElement[bool]], size: int, offset: int, *, more: bool) -> _Page:
        """Keys first: what may have to be sorted are they alone, and what is large is read for a few. `more`: the page is
        not the last one that is wanted."""
        with self._database.read() as connection:
            if self._query.level is Level.PATIENT:
                rows = connection.execute(self._select(after, size, offset)).all()
                return _Page(rows, (), self._order.place(rows[-1]) if more and len(rows) == size else None)
            keys = self._found(connection, after, size + (0 if more else self._beyond), offset)
            if self._beyond and not more:
                self.beyond = max(len(keys) - size, 0)
            place = self._place(connection, keys) if more and len(keys) == size else None
            rows = rows_of(connection, self._kind, keys[: self._first]) if keys else ()
            return _Page(rows, keys[self._first : size], place)

    def _place(self, connection: Connection, keys: Sequence[int]) -> tuple[Any, ...] | None:
        """That of the last key; of the one before it where it was removed for good just now."""
        for key in reversed(keys):
            row = connection.execute(self._order.place_of(key)).one_or_none()
            if row is not None:
                return tuple(row)
        return None

    def _found(
        self, connection: Connection, after: list[ColumnElement[bool]], size: int, offset: int
    ) -> Sequence[int]:
        if not after:
            if self._days is not None and offset >= LEAST_OFFSET:
                return tally.keys(connection, self._days, size, offset)
            if self._way is not None:
                return self._way.keys(connection, self._values, size, offset)
        return connection.scalars(self._select(after, size, offset), self._values).all()

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
        """The keys of a page; of patients, which are few and have no table, the rows themselves."""
        if self._query.level is Level.PATIENT:
            return self._patients(after, size, offset)
        query = self._keys().where(*after).order_by(*self._order.by()).limit(size)
        return query.offset(offset) if offset else query

    def _keys(self) -> Select[Any]:
        level = self._query.level
        return from_tables(level, select(TABLE_OF[level].c.pk)).where(*self._plan.where)

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
                *self._order.places(),
                study.c.pk.label("key"),
                study.c.attributes.label("study_attributes"),
                page.c.patient_studies,
                page.c.patient_series,
                page.c.patient_instances,
            )
            .join_from(page, study, study.c.pk == page.c.newest)
            .order_by(*keys)
        )
