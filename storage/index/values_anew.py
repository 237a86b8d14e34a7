"""The job that writes a study's values of additional attributes anew, after instances of it have come or gone.

Values of instances go with them. Those of the study and of its series are of all their instances together, and which of
them had a value is not kept: so it is asked of those that are left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson
from sqlalchemy import delete, select

from storage.errors import IndexUnavailable
from storage.index import Index, rows
from storage.index.searchable import Searchable, kept
from storage.index.searchable_values import Row, rows_of, write_rows
from storage.index.tables import instance, instance_content, searchable_value, series, study
from storage.types import Level

_TRIES: Final = 5
_PAGE: Final = 300


def write_values(index: Index, study_pk: int) -> None:
    """Write them as they follow from what the study has now. Raises IndexUnavailable when it changes again and again."""
    for _ in range(_TRIES):
        attributes = [one for one in index.searchables.all() if one.level is not Level.IMAGE]
        with index.database.read() as connection:
            above = connection.execute(select(study).where(study.c.pk == study_pk)).one_or_none()
            below = connection.execute(select(series).where(series.c.study_pk == study_pk)).all()
        if above is None or not attributes:
            return
        found = [*_kept(attributes, above, below), *_told(index, [one for one in attributes if not kept(one)], above)]
        if _written(index, attributes, above, below, found):
            return
    raise IndexUnavailable(f"study {study_pk} changes faster than its values can be written; try again later")


def _written(index: Index, attributes: Sequence[Searchable], above: Any, below: Sequence[Any], found: Sequence[Row]) -> bool:
    """Whether the study was still what the values were made from; then they are in place of the old ones."""
    values = searchable_value
    with index.database.write() as connection:
        now = select(study.c.revision).where(study.c.pk == above.pk).with_for_update()
        if connection.scalars(now).first() != above.revision:
            return False
        for one in attributes:
            owners = [row.pk for row in below] if one.level is Level.SERIES else [above.pk]
            connection.execute(delete(values).where(values.c.attribute_pk == one.pk, values.c.owner.in_(owners)))
        write_rows(connection, found)
    return True


def _kept(attributes: Sequence[Searchable], above: Any, below: Sequence[Any]) -> Iterator[Row]:
    """Of what study and series keep themselves."""
    for one in attributes:
        for row in below if one.level is Level.SERIES else (above,):
            if kept(one) and row.deleted_at is None:
                yield from rows_of(one, row.pk, orjson.loads(row.attributes))


def _told(index: Index, attributes: Sequence[Searchable], above: Any) -> Iterator[Row]:
    """Of what only their instances know."""
    after = 0
    while attributes:
        query = (
            select(instance.c.pk, instance.c.series_pk, instance_content.c.json)
            .join_from(instance, series, instance.c.series_pk == series.c.pk)
            .join(instance_content, instance_content.c.instance_pk == instance.c.pk)
            .where(series.c.study_pk == above.pk, instance.c.deleted_at.is_(None), instance.c.pk > after)
        )
        with index.database.read() as connection:
            page = connection.execute(query.order_by(instance.c.pk).limit(_PAGE)).all()
        for row in page:
            dataset = rows.encoded(row.json).dataset()
            for one in attributes:
                yield from rows_of(one, row.series_pk if one.level is Level.SERIES else above.pk, dataset)
        if len(page) < _PAGE:
            return
        after = page[-1].pk
