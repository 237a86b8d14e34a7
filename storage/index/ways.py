"""How the keys of a shape of query are found: statements that are built once, and asked for their values by name.

On SQLite the way depends on what is common (`storage.index.frequency`), which is asked for each query: every answer leads
to another node, and the last one is the statement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, Connection, Select, Text, bindparam, func, select

from storage.index.answer_rows import from_tables
from storage.index.clauses import Made
from storage.index.database import Database
from storage.index.frequency import Frequency, unlooked
from storage.index.order import TABLE_OF, Order
from storage.index.plan import Plan
from storage.index.prepared import Prepared
from storage.index.shapes import TEXT, Shape, with_values
from storage.types import Query

# Nodes that are kept.
_NODES = 2000

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Way:
    """The plan of a shape, with names for values, and the statement of a page of its keys."""

    plan: Plan
    made: Made
    statement: Prepared

    def keys(self, connection: Connection, values: Values, size: int, offset: int) -> list[int]:
        """The keys of a page."""
        given = {**values, "page_size": size, "page_offset": offset}
        return [row[0] for row in self.statement.run(connection, given)]


@dataclass(frozen=True, slots=True)
class _Look:
    """A question that comes before the next node."""

    made: Made
    rows: Prepared


class _Unanswered(Exception):
    def __init__(self, rows: Select[Any]) -> None:
        self.rows = rows


def way(database: Database, shape: Shape, values: Values) -> tuple[Way, Values]:
    """The way for a shape with these values, and all the values that its statements have."""
    answers: tuple[bool, ...] = ()
    while True:
        node = _node(database.sqlite, shape, answers)
        every = {**values, **_made(node.made, values)}
        if isinstance(node, Way):
            return node, every
        answers += (Frequency(database, whole=shape.whole).counted(node.rows, every),)


@lru_cache(_NODES)
def _node(sqlite: bool, shape: Shape, answers: tuple[bool, ...]) -> Way | _Look:
    """What comes after these answers. Raises UnsupportedQuery."""
    left = list(answers)

    def common(rows: Select[Any], _otherwise: bool) -> bool:
        if not left:
            raise _Unanswered(rows)
        return left.pop(0)

    named = tuple((path, with_values(condition, _bound)) for path, condition in shape.conditions)
    query = Query(shape.level, named, partition=shape.partition, order=shape.order)
    made: Made = {}
    looks = sqlite and not shape.order
    try:
        plan = Plan(query, sqlite=sqlite, common=common if looks else unlooked, made=made)
    except _Unanswered as question:
        rows = question.rows.limit(bindparam("look_most", type_=BigInteger())).subquery()
        return _Look(made, Prepared(select(func.count().label("number")).select_from(rows)))
    keys = from_tables(shape.level, select(TABLE_OF[shape.level].c.pk)).where(*plan.where).order_by(*Order(query).by())
    page = keys.limit(bindparam("page_size", type_=BigInteger())).offset(bindparam("page_offset", type_=BigInteger()))
    return Way(plan, made, Prepared(page))


def _bound(name: str) -> Any:
    return bindparam(name, type_=Text()) if name.startswith(TEXT) else bindparam(name)


def _made(made: Made, values: Values) -> dict[str, str]:
    return {name: make(tuple(values.get(getattr(one, "key", ""), one) for one in of)) for name, (make, of) in made.items()}
