"""The rows that answers are made from: for keys that were found, by one statement for each kind of answer, made once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Select,
    any_,
    bindparam,
    func,
    select,
)

from storage.index.answers import Answers
from storage.index.order import TABLE_OF, places
from storage.index.prepared import Prepared
from storage.index.tables import instance, instance_content, series, study
from storage.types import Level

# Kinds of answers whose statements are kept: there are a few for each level, and some for every order that is asked for.
_KINDS = 256
_OF_INSTANCE = (
    "sop_instance_uid", "sop_class_uid", "transfer_syntax_uid", "instance_number", "rows", "columns", "bits_allocated",
    "number_of_frames",
)  # fmt: skip


class Kind(NamedTuple):
    """What the answers of a query are made of, and the columns that place them in its order."""

    level: Level
    study: bool
    series: bool
    metadata: bool
    order: tuple[Column[Any], ...]


def kind_of(level: Level, answers: Answers, order: tuple[Column[Any], ...]) -> Kind:
    """The kind of a query's answers."""
    return Kind(level, answers.needs_study, answers.needs_series, answers.needs_metadata, order)


def rows_of(connection: Connection, kind: Kind, keys: Sequence[int]) -> list[Any]:
    """The rows with these keys, in their order; what was deleted meanwhile is left out."""
    sqlite = connection.dialect.name == "sqlite"
    # However many there are, it is one statement: a list as one value.
    given = orjson.dumps(keys).decode() if sqlite else list(keys)
    rows = {row.key: row for row in _statement(kind, sqlite).run(connection, {"keys": given})}
    return [rows[key] for key in keys if key in rows]


@lru_cache(_KINDS)
def _statement(kind: Kind, sqlite: bool) -> Prepared:
    own = TABLE_OF[kind.level].c.pk
    if sqlite:
        each = func.json_each(bindparam("keys")).table_valued("value")
        return Prepared(_rows(kind).where(own.in_(select(each.c.value))))
    return Prepared(_rows(kind).where(own == any_(bindparam("keys", type_=ARRAY(BigInteger)))))


def _rows(kind: Kind) -> Select[Any]:
    query = from_tables(kind.level, select(*_columns(kind))).where(TABLE_OF[kind.level].c.deleted_at.is_(None))
    return query.join(instance_content, instance_content.c.instance_pk == instance.c.pk) if kind.metadata else query


def _columns(kind: Kind) -> list[ColumnElement[Any]]:
    columns: list[ColumnElement[Any]] = [
        *places(kind.order),
        TABLE_OF[kind.level].c.pk.label("key"),
        study.c.study_instance_uid,
        study.c.pk.label("study_pk"),
        study.c.modalities,
        study.c.sop_classes,
        study.c.number_of_series.label("study_series"),
        study.c.number_of_instances.label("study_instances"),
    ]
    if kind.study:
        columns.append(study.c.attributes.label("study_attributes"))
    if kind.level is not Level.STUDY:
        columns += [series.c.series_instance_uid, series.c.number_of_instances.label("series_instances")]
    if kind.series:
        columns.append(series.c.attributes.label("series_attributes"))
    if kind.level is Level.IMAGE:
        columns += [instance.c[name] for name in _OF_INSTANCE]
    return [*columns, instance_content.c.json] if kind.metadata else columns


def from_tables(level: Level, query: Select[Any]) -> Select[Any]:
    """`query` over the table of a level and those above it."""
    query = query.select_from(study)
    if level in (Level.SERIES, Level.IMAGE):
        query = query.join(series, series.c.study_pk == study.c.pk)
    return query.join(instance, instance.c.series_pk == series.c.pk) if level is Level.IMAGE else query
