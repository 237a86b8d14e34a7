"""The connection by which a process writes to SQLite, kept between transactions, which the driver begins and ends.

Handing a connection out, beginning, committing and taking it back costs SQLAlchemy more than the statements of an ingest
cost SQLite. Only one can write at a time (`storage.index.turns`), so one connection is enough: SQLAlchemy sees it in one
transaction without end, in which statements can be run as in any other.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from storage.index.deadlines import Budget

# What says, among a connection's options, that its transactions are begun here.
KEPT = "lightbox_kept"


class _Kept(NamedTuple):
    engine: Engine
    connection: Connection
    driver: sqlite3.Connection
    budget: Budget


class Writer:
    """Write transactions one after the other. Thread-safe; belongs to the process that made it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: _Kept | None = None

    @contextlib.contextmanager
    def transaction(self, engine: Engine, seconds: float | None) -> Iterator[Connection]:
        """A transaction, committed at the end of the block and rolled back by an exception; for who has the turn.

        It may take so many seconds, or as long as it takes.

        Raises the driver's errors for beginning and ending it, and CommitFailed.
        """
        kept = self._take(engine)
        kept.budget.begin(seconds)
        try:
            # The lock at once: one that begins as a reader can find the file changed and must give up.
            kept.driver.execute("BEGIN IMMEDIATE")
            yield kept.connection
            commit(kept.driver)
        except (sqlite3.Error, DBAPIError, CommitFailed):
            # Nothing is known of a connection that has failed, except how to get another.
            _close(kept)
            raise
        except BaseException:
            self._undo(kept)
            raise
        self._give(kept)

    def close(self) -> None:
        """Close the connection, unless it is in use: then it is closed when it is given back to another engine."""
        with self._lock:
            kept, self._idle = self._idle, None
        if kept is not None:
            _close(kept)

    def _take(self, engine: Engine) -> _Kept:
        with self._lock:
            kept, self._idle = self._idle, None
        if kept is not None and kept.engine is engine:
            return kept
        if kept is not None:
            _close(kept)
        connection = engine.connect().execution_options(**{KEPT: True})
        connection.begin()
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        return _Kept(engine, connection, driver, connection.info["budget"])

    def _undo(self, kept: _Kept) -> None:
        try:
            kept.driver.rollback()
        except sqlite3.Error:
            _close(kept)
        else:
            self._give(kept)

    def _give(self, kept: _Kept) -> None:
        with self._lock:
            before, self._idle = self._idle, kept
        if before is not None:
            _close(before)


class CommitFailed(Exception):
    """COMMIT has failed with the error that is its cause: nobody knows whether the transaction happened."""


def commit(driver: sqlite3.Connection) -> None:
    """COMMIT. Raises CommitFailed."""
    try:
        driver.commit()
    except sqlite3.Error as error:
        raise CommitFailed from error


def _close(kept: _Kept) -> None:
    """SQLite rolls back what was not committed."""
    kept.connection.invalidate()
    kept.connection.close()
