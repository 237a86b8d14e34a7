"""A query understood: which of its conditions columns answer, and which must be looked at row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, exists, select
from sqlalchemy import true as always
from sqlalchemy.sql.expression import false as never

from storage.attributes import BY_TAG, TABLE, above, level_of, name_of
from storage.errors import UnsupportedQuery
from storage.index.clauses import Clause, Clauses, Made
from storage.index.frequency import Common, unlooked
from storage.index.searchable import Searchable, kept, visible
from storage.index.tables import instance, series, study
from storage.matching import Condition, Universal, matches
from storage.types import Level, Query

# Nothing is stored of these: whoever answers the request adds them.
_ADDED_LATER = frozenset(TABLE[keyword].tag for keyword in ("RetrieveURL", "RetrieveAETitle"))
_AVAILABILITY = TABLE["InstanceAvailability"].tag
# Says how a query is written (PS3.4 C.4.1.1.3.1), not what is to be found.
_NOT_A_KEY = TABLE["SpecificCharacterSet"].tag


def _alive(table: Table, query: Query) -> tuple[Clause, Clause]:
    return (table.c.partition == query.partition, table.c.deleted_at.is_(None))


Rest = list[tuple[tuple[str, ...], Condition]]
Additional = Mapping[tuple[str, ...], Searchable]
NONE: Additional = {}


class Plan:
    """Where the rows are, and what is left to do with them.

    `where` are clauses on the tables of the query's level and above, `narrowed` when its conditions added any. `rest`
    must be matched on each row's data set, `rest_of_series` on the attributes of the series of each study. Raises
    UnsupportedQuery for what can be neither.
    """

    def __init__(
        self,
        query: Query,
        *,
        sqlite: bool,
        common: Common = unlooked,
        searchable: Additional = NONE,
        made: Made | None = None,
    ) -> None:
        self._level = query.level
        self._clauses = Clauses(
            sqlite=sqlite, fuzzy=query.fuzzy, partition=query.partition, common=common, made=made
        )
        self._searchable = searchable
        # Conditions in one sequence must be met by one and the same of its items, which no index knows.
        self._firsts = Counter(path[0] for path, _ in query.conditions)
        self._partition = query.partition
        self._below: dict[Level, list[Clause]] = {}
        self._below_by_uid = False
        self.narrowed = False
        self.where: list[Clause] = [*_alive(study, query)]
        self.rest: Rest = []
        self.rest_of_series: Rest = []
        self.where += _alive(series, query) if query.level in (Level.SERIES, Level.IMAGE) else ()
        self.where += _alive(instance, query) if query.level is Level.IMAGE else ()
        for path, condition in query.conditions:
            self._take(path, condition)
        if self._below:
            self.where.append(self._some_below())

    @property
    def exact(self) -> bool:
        """Whether the database alone can say which rows match."""
        return not self.rest and not self.rest_of_series

    def series_of_a_study(self, study_pk: int) -> Select[Any]:
        """The attributes of those series of a study that `rest_of_series` is to be matched on."""
        found = select(series.c.attributes).where(
            series.c.study_pk == study_pk, series.c.deleted_at.is_(None)
        )
        return found.where(*self._below.get(Level.SERIES, ()))

    def _take(self, path: tuple[str, ...], condition: Condition) -> None:
        tag = path[0]
        if tag == _NOT_A_KEY or isinstance(condition, Universal):
            return
        if tag == _AVAILABILITY:
            self.narrowed = True
            self.where.append(always() if matches(condition, ["ONLINE"]) else never())
            return
        if tag in _ADDED_LATER:
            raise self._refusal(tag)
        if path in self._searchable and self._take_searchable(self._searchable[path], condition):
            return
        level = level_of(tag)
        clause = self._clauses.of(tag, condition) if len(path) == 1 else None
        if clause is not None:
            self.narrowed = True
            self._below_or_own(level, by_uid=BY_TAG[tag].key == "U").append(clause)
            if self._clauses.exact(condition):
                return
        if tag in BY_TAG and BY_TAG[tag].computed:
            raise self._refusal(tag)
        if level is self._level or above(self._level, level):
            self.rest.append((path, condition))
        elif level is Level.SERIES and self._level is Level.STUDY:
            self.rest_of_series.append((path, condition))
        else:
            raise self._refusal(tag)

    def _take_searchable(self, one: Searchable, condition: Condition) -> bool:
        """Whether the index of an additional attribute alone answers the condition; it may also narrow what is looked at."""
        seen = visible(one, self._level)
        clause = self._clauses.of_searchable(one, condition) if one.ready else None
        if clause is None:
            if seen or kept(one):
                return False
            raise UnsupportedQuery(_not_by_index(one))
        self.narrowed = True
        self._below_or_own(one.level, by_uid=True).append(clause)
        alone = len(one.path) == 1 or self._firsts[one.path[0]] == 1
        return not seen or (alone and self._clauses.exact(condition))

    def _below_or_own(self, level: Level, *, by_uid: bool) -> list[Clause]:
        # Patients have no table of their own: theirs is that of their studies.
        if above(level, self._level) and not (self._level is Level.PATIENT and level is Level.STUDY):
            self._below_by_uid |= by_uid
            return self._below.setdefault(level, [])
        return self.where

    def _some_below(self) -> Clause:
        """One and the same series, and one and the same instance of it, meets the conditions on lower levels."""
        of_instance = select(instance.c.series_pk).where(
            instance.c.partition == self._partition,
            instance.c.deleted_at.is_(None),
            *self._below.get(Level.IMAGE, ()),
        )
        if self._level is Level.SERIES:
            return self._some(series.c.pk, instance.c.series_pk, of_instance)
        of_series = select(series.c.study_pk).where(
            series.c.partition == self._partition,
            series.c.deleted_at.is_(None),
            *self._below.get(Level.SERIES, ()),
        )
        if Level.IMAGE in self._below:
            of_series = of_series.where(self._some(series.c.pk, instance.c.series_pk, of_instance))
        return self._some(study.c.pk, series.c.study_pk, of_series)

    def _some(self, parent: ColumnElement[int], child: ColumnElement[int], children: Select[Any]) -> Clause:
        """Whether a parent has any of these children. A UID leads to few of them, so there the search begins with them;
        anything else (a modality) is common, so there each parent is asked."""
        if self._below_by_uid:
            return parent.in_(children)
        return exists(children.where(child == parent).correlate_except(child.table))

    def _refusal(self, tag: str) -> UnsupportedQuery:
        level = level_of(tag)
        instead = f"; ask at the level {level}" if above(level, self._level) else "; leave its value empty"
        return UnsupportedQuery(
            f"{name_of(tag)} cannot be matched in a query at the level {self._level}{instead}"
        )


def _not_by_index(one: Searchable) -> str:
    if one.ready:
        return f"{one.name} cannot be matched in this way at this level; ask at the level {Level.IMAGE}"
    return f"{one.name} is still being indexed ({one.done} of {one.total}); ask again later"
