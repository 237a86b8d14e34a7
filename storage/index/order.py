"""The order of answers: by what was asked for, then one that is always the same, so that pages never overlap.

Every order ends in something unique. A page begins behind the last row of the one before it (keyset), so that the
ten-thousandth costs what the first does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Column, ColumnElement, Select, Table, and_, literal, or_, select, tuple_

from storage.attributes import BY_TAG, TABLE, above, name_of
from storage.errors import UnsupportedQuery
from storage.index.tables import instance, series, study
from storage.types import Level, Query

TABLE_OF: dict[Level, Table] = {
    Level.PATIENT: study,
    Level.STUDY: study,
    Level.SERIES: series,
    Level.IMAGE: instance,
}
# Computed attributes that are sorted by as a plain column.
_COUNTED: dict[str, tuple[Level, Column[Any]]] = {
    TABLE[keyword].tag: (level, column)
    for keyword, level, column in (
        ("ModalitiesInStudy", Level.STUDY, study.c.modalities),
        ("NumberOfStudyRelatedSeries", Level.STUDY, study.c.number_of_series),
        ("NumberOfStudyRelatedInstances", Level.STUDY, study.c.number_of_instances),
        ("NumberOfSeriesRelatedInstances", Level.SERIES, series.c.number_of_instances),
    )
}


class Group(NamedTuple):
    """Columns that are sorted by together, one after the other, and whether they run backwards."""

    columns: tuple[Column[Any], ...]
    backwards: bool = False


# The newest study comes first; series and instances follow their numbers, then their UIDs.
_STUDIES = Group((study.c.study_date, study.c.study_time, study.c.study_instance_uid), backwards=True)
_SERIES = (series.c.series_number, series.c.series_instance_uid)
_INSTANCES = (instance.c.instance_number, instance.c.sop_instance_uid)
_ALWAYS: dict[Level, tuple[Group, ...]] = {
    Level.PATIENT: (Group((study.c.patient_id, study.c.issuer_of_patient_id)),),
    Level.STUDY: (_STUDIES,),
    Level.SERIES: (_STUDIES, Group(_SERIES)),
    Level.IMAGE: (_STUDIES, Group((*_SERIES, *_INSTANCES))),
}


class Order:
    """The order of one query's answers. Raises UnsupportedQuery for an attribute that cannot be sorted by."""

    def __init__(self, query: Query) -> None:
        self._level = query.level
        own = TABLE_OF[query.level].c.pk
        if not query.order:
            self.groups = _ALWAYS[query.level]
        else:
            # Behind what was asked for the key alone decides: an index on a column ends in it, on both engines.
            asked = [Group((_column(tag, query.level),), backwards) for tag, backwards in query.order]
            self.groups = _merged([*asked, Group((own,), query.order[-1][1])])
        self.columns = tuple(column for group in self.groups for column in group.columns)

    def by(self) -> list[ColumnElement[Any]]:
        """What ORDER BY says."""
        return [
            column.desc() if group.backwards else column.asc()
            for group in self.groups
            for column in group.columns
        ]

    def place_of(self, key: int) -> Select[Any]:
        """The place of the row with this key, as `behind` takes it."""
        query = select(*self.places()).select_from(study)
        if self._level in (Level.SERIES, Level.IMAGE):
            query = query.join(series, series.c.study_pk == study.c.pk)
        if self._level is Level.IMAGE:
            query = query.join(instance, instance.c.series_pk == series.c.pk)
        return query.where(TABLE_OF[self._level].c.pk == key)

    def places(self) -> list[ColumnElement[Any]]:
        """What a row must have for `place`."""
        return places(self.columns)

    def place(self, row: Any) -> tuple[Any, ...]:
        """Where a row is in the order, as `behind` takes it."""
        return tuple(getattr(row, f"place_{number}") for number in range(len(self.columns)))

    def behind(self, place: tuple[Any, ...]) -> ColumnElement[bool]:
        """What comes behind a place: beyond it in some group, and equal to it in all groups before."""
        alternatives: list[ColumnElement[bool]] = []
        equal: list[ColumnElement[bool]] = []
        at = 0
        bound: ColumnElement[bool] | None = None
        for group in self.groups:
            here = tuple_(*group.columns)
            values = place[at : at + len(group.columns)]
            there = tuple_(*(literal(v, c.type) for v, c in zip(values, group.columns, strict=True)))
            at += len(group.columns)
            alternatives.append(and_(*equal, here < there if group.backwards else here > there))
            equal.append(here == there)
            if bound is None:
                bound = here <= there if group.backwards else here >= there
        if len(alternatives) == 1 or bound is None:
            return alternatives[0]
        # Follows from the rest; said for itself it tells the engine where in the index to begin.
        return and_(bound, or_(*alternatives))


def places(columns: tuple[Column[Any], ...]) -> list[ColumnElement[Any]]:
    """The columns of an order as a row has them for `Order.place`."""
    return [column.label(f"place_{number}") for number, column in enumerate(columns)]


def sortable(level: Level) -> tuple[str, ...]:
    """The keywords of the attributes by which answers at a level can be sorted."""
    return tuple(
        keyword
        for keyword, attribute in TABLE.items()
        if (attribute.indexed or attribute.tag in _COUNTED)
        and (attribute.level is level or above(level, attribute.level))
    )


def _column(tag: str, level: Level) -> Column[Any]:
    found = _COUNTED.get(tag)
    if found is None and tag in BY_TAG and BY_TAG[tag].indexed:
        attribute = BY_TAG[tag]
        found = attribute.level, TABLE_OF[attribute.level].c[attribute.column]
    if found is None or not (found[0] is level or above(level, found[0])):
        known = ", ".join(sortable(level))
        raise UnsupportedQuery(f"answers at the level {level} cannot be sorted by {name_of(tag)}; by {known}")
    return found[1]


def _merged(groups: list[Group]) -> tuple[Group, ...]:
    """Neighbours of one direction as one group, which is compared as one row of values."""
    merged: list[Group] = []
    for group in groups:
        if merged and merged[-1].backwards is group.backwards:
            merged[-1] = Group((*merged[-1].columns, *group.columns), group.backwards)
        else:
            merged.append(group)
    return tuple(merged)
