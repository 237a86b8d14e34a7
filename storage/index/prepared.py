"""Statements compiled once per engine and run by the driver: what ingest does for every instance.

SQLAlchemy's own execution looks up its cache, binds and wraps at each call, which costs more than most of these
statements do. It is built for statements that change; these do not. On SQLite the driver itself is asked; on PostgreSQL,
where a connection can break, SQLAlchemy stays between.
"""

from __future__ import annotations

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Insert
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ClauseElement

Values = Mapping[str, Any]


class _Ready(NamedTuple):
    sql: str
    # The order of the parameters, or None where the driver takes them by name.
    order: tuple[str, ...] | None
    # What the statement itself says: `name = 'change'`, `times + 1`.
    constants: dict[str, Any]
    # Whether the driver's connection is asked without SQLAlchemy between.
    direct: bool


class Prepared:
    """A Core statement, whose `lists` are parameters that are lists (`IN`).

    Only for columns whose values the driver takes and gives as they are: text, bytes, integers, booleans.
    """

    def __init__(self, statement: ClauseElement, *lists: str) -> None:
        self._statement = statement
        self._lists = lists
        columns: Iterable[Any] = getattr(statement, "exported_columns", None) or ()
        names = [column.name for column in columns]
        self._row: Callable[..., Any] = namedtuple("Row", names) if names else lambda *row: row
        self._ready: dict[tuple[Any, ...], _Ready] = {}

    def run(self, connection: Connection, values: Values) -> Sequence[Any]:
        """Run it once; its rows, with the names of its columns, or none where it returns none."""
        if self._lists:
            values = self._flat(values)
        ready = self._made(connection, values)
        if not ready.direct:
            result = connection.exec_driver_sql(ready.sql, _given(ready, values))
            return result.all() if result.returns_rows else ()
        cursor = _driver(connection).execute(ready.sql, _given(ready, values))
        return [self._row(*row) for row in cursor] if cursor.description else ()

    def run_many(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Run it for each of the rows, which have the same keys; for statements that return nothing."""
        if len(rows) == 1:
            self.run(connection, rows[0])
            return
        ready = self._made(connection, rows[0])
        given = [_given(ready, row) for row in rows]
        if ready.direct:
            _driver(connection).executemany(ready.sql, given)
        else:
            connection.exec_driver_sql(ready.sql, given)

    def _flat(self, values: Values) -> dict[str, Any]:
        """Lists as the compiler spells them out: `uids` becomes `uids_1`, `uids_2`, and so on."""
        flat = {name: value for name, value in values.items() if name not in self._lists}
        for name in self._lists:
            flat |= {f"{name}_{number}": value for number, value in enumerate(values[name], 1)}
        return flat

    def _folded(self, values: Values) -> dict[str, Any]:
        """The reverse, for the compiler, which counts what is in a list."""
        folded: dict[str, Any] = {name: [] for name in self._lists}
        for name, value in values.items():
            stem = name.rpartition("_")[0]
            if stem in folded:
                folded[stem].append(value)
            else:
                folded[name] = value
        return folded

    def _made(self, connection: Connection, values: Values) -> _Ready:
        key = (connection.dialect.name, *values)
        ready = self._ready.get(key)
        if ready is None:
            ready = self._ready[key] = self._compiled(connection, values)
        return ready

    def _compiled(self, connection: Connection, values: Values) -> _Ready:
        statement, options = self._statement, {}
        if self._lists:
            statement, options = statement.params(self._folded(values)), {"render_postcompile": True}
        compiled = statement.compile(
            dialect=connection.dialect,
            column_keys=list(values) if isinstance(statement, Insert) else None,
            compile_kwargs=options,
        )
        assert isinstance(compiled, SQLCompiler)
        order = tuple(compiled.positiontup or ()) if compiled.positional else None
        # With its lists spelled out a statement is bound to the values that it was compiled with; it has no others.
        found = {} if self._lists else compiled.construct_params(_check=False)
        constants = {name: value for name, value in found.items() if name not in values}
        return _Ready(str(compiled), order, constants, connection.dialect.name == "sqlite")


def _given(ready: _Ready, values: Values) -> Any:
    if ready.constants:
        values = {**ready.constants, **values}
    return values if ready.order is None else tuple([values[name] for name in ready.order])


def _driver(connection: Connection) -> sqlite3.Connection:
    """SQLite's own connection. Its errors become ours where SQLAlchemy's do (`storage.index.database`)."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver
