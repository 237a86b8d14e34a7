"""Statements compiled once per engine and run by the driver: what ingest does for every instance.

SQLAlchemy's own execution looks up its cache, binds and wraps at each call, which costs more than most of these
statements do. It is built for statements that change; these do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, CursorResult, Insert
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ClauseElement

Values = Mapping[str, Any]


class _Ready(NamedTuple):
    sql: str
    # The order of the parameters, or None where the driver takes them by name.
    order: tuple[str, ...] | None
    # What the statement itself says: `name = 'change'`, `times + 1`.
    constants: dict[str, Any]


class Prepared:
    """A Core statement, whose `lists` are parameters that are lists (`IN`).

    Only for columns whose values the driver takes and gives as they are: text, bytes, integers, booleans.
    """

    def __init__(self, statement: ClauseElement, *lists: str) -> None:
        self._statement = statement
        self._lists = lists
        self._ready: dict[tuple[Any, ...], _Ready] = {}

    def run(self, connection: Connection, values: Values) -> CursorResult[Any]:
        """Run it once."""
        if self._lists:
            values = self._flat(values)
        ready = self._made(connection, values)
        return connection.exec_driver_sql(ready.sql, _given(ready, values))

    def run_many(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Run it for each of the rows, which have the same keys; for statements that return nothing."""
        if len(rows) == 1:
            self.run(connection, rows[0])
            return
        ready = self._made(connection, rows[0])
        connection.exec_driver_sql(ready.sql, [_given(ready, row) for row in rows])

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
        return _Ready(str(compiled), order, constants)


def _given(ready: _Ready, values: Values) -> Any:
    if ready.constants:
        values = {**ready.constants, **values}
    return values if ready.order is None else tuple([values[name] for name in ready.order])
