"""The job that indexes an additional attribute for what was stored before it was added.

It goes over the studies, series or instances by their keys, a few hundred in a transaction, and says how far it is; when it
is stopped it goes on from there. It begins when every ingest knows the attribute (`SETTLED_SECONDS`), so that what it has
passed need not be looked at again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Select, func, select

from storage.index import Index, rows
from storage.index.order import TABLE_OF
from storage.index.searchable import Searchable, kept
from storage.index.searchable_values import Row, rows_of, write_rows
from storage.index.tables import instance, instance_content, series, study
from storage.types import Level

_PAGE = 300


def index_attribute(index: Index, pk: int) -> None:
    """Index one additional attribute to the end. Nothing happens when it has been removed meanwhile."""
    last, done = -1, 0
    total = 0
    while True:
        one = next((known for known in index.searchables.all() if known.pk == pk), None)
        if one is None or one.ready:
            return
        if last < 0:
            last, done, total = _where(index, one)
        found = _page(index, one, last)
        if found:
            with index.database.write() as connection:
                write_rows(connection, [row for entry in found for row in _values(one, entry)])
            last, done = found[-1].key, done + len(found)
        index.searchables.progressed(pk, done=done, total=max(total, done), ready=len(found) < _PAGE)


def _where(index: Index, one: Searchable) -> tuple[int, int, int]:
    """The key after which to go on, how many are done, and how many there are."""
    key = (TABLE_OF[one.level] if kept(one) else instance).c.pk
    with index.database.read() as connection:
        total = connection.scalar(select(func.count()).select_from(key.table)) or 0
        if not one.done:
            return 0, 0, total
        # Keys have no gaps that matter: those that are done are the first ones.
        last = connection.scalar(select(key).order_by(key).offset(one.done - 1).limit(1)) or 0
    return last, one.done, total


def _page(index: Index, one: Searchable, after: int) -> Sequence[Any]:
    query = _kept(one) if kept(one) else _instances()
    key = query.selected_columns["key"]
    with index.database.read() as connection:
        return connection.execute(query.where(key > after).order_by(key).limit(_PAGE)).all()


def _kept(one: Searchable) -> Select[Any]:
    table = TABLE_OF[one.level]
    return select(table.c.pk.label("key"), table.c.attributes)


def _instances() -> Select[Any]:
    return (
        select(
            instance.c.pk.label("key"),
            instance.c.series_pk,
            series.c.study_pk,
            instance_content.c.json,
        )
        .join_from(instance, instance_content, instance_content.c.instance_pk == instance.c.pk)
        .join(series, series.c.pk == instance.c.series_pk)
        .join(study, study.c.pk == series.c.study_pk)
    )


def _values(one: Searchable, entry: Any) -> list[Row]:
    if kept(one):
        return rows_of(one, entry.key, orjson.loads(entry.attributes))
    owner = {Level.IMAGE: entry.key, Level.SERIES: entry.series_pk}.get(one.level, entry.study_pk)
    return rows_of(one, owner, rows.encoded(entry.json).dataset())
