"""INSERT that gives way to a row that is there already, for which each engine has words of its own.

Only those of the engine in use are loaded: PostgreSQL's take a twentieth of the time that a server with SQLite takes to start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Table

from storage.index.prepared import Prepared


def insert_into(dialect: str, table: Table) -> Any:
    """An INSERT with `on_conflict_do_nothing`, `on_conflict_do_update` and `excluded`, for the engine of that name."""
    if dialect == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


class ByEngine(dict[str, Prepared]):
    """A statement for each engine by its name, made when it is first wanted; `make` is given that name."""

    def __init__(self, make: Callable[[str], Any]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, dialect: str) -> Prepared:
        made = self[dialect] = Prepared(self._make(dialect))
        return made
