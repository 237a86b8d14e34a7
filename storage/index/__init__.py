"""The index: what is stored, where it lies, and how it is found; on SQLite or PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from sqlalchemy import text

from storage.errors import IndexUnavailable
from storage.index import migrations
from storage.index.add import Adding, Duplicates, prepare
from storage.index.database import Database, Rerun
from storage.index.entries import Added, Counts, Entry, Layout, ObjectRow, Quarantined
from storage.index.find import find
from storage.index.read import Reading
from storage.types import Dataset, Query

_RUNS = 5


class Index(Reading):
    """One archive's index. Thread-safe; usable on both sides of a fork (see `Database`).

    Every method may raise IndexUnavailable; after that nothing is half done and the call may be made again.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)

    @property
    def database(self) -> Database:
        """The connections, for the job queue and other parts that share them."""
        return self._database

    def add(self, entries: Sequence[Entry], *, duplicates: Duplicates = "keep") -> list[Added]:
        """Index instances in one transaction: all of them are committed on return, or none after an exception.

        Same UID and same bytes: ALREADY. Other bytes, or another study or series: by `keep` the newcomer is quarantined
        (outcome None), by `replace` an instance of the same series becomes REPLACED and its older version history.
        """
        if not entries:
            return []
        contents = prepare(entries)
        for _ in range(_RUNS):
            try:
                with self._database.write() as connection:
                    return Adding(connection, duplicates, time.time_ns() // 1000, contents).add(entries)
            except Rerun:
                continue
        raise IndexUnavailable("the transaction lost to others again and again; send again later")

    def find(self, query: Query) -> Iterator[Dataset]:
        """The matches of a query, one data set of the DICOM JSON model each, newest study first.

        Each has `query.fields` as far as they are known, and always the unique keys of its level and above. Raises
        UnsupportedQuery at once for a condition that cannot be matched at this level; the database's errors come while
        iterating. May be left at any point.
        """
        return find(self._database, query)

    def ping(self) -> None:
        """Raises IndexUnavailable unless the database answers."""
        with self._database.read() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close this process's connections."""
        self._database.close()


def open_index(url: str, *, migrate: bool = True) -> Index:
    """The index at `sqlite:///FILE` or `postgresql+psycopg://USER:PASSWORD@HOST/DATABASE`.

    `migrate` brings its schema up to date first; without, an older schema is refused. Raises ValueError for another kind
    of URL, IndexUnavailable when the database does not answer or is of a newer release.
    """
    database = Database(url)
    if migrate:
        with database.write() as connection:
            migrations.upgrade(connection)
    else:
        with database.read() as connection:
            migrations.check(connection)
    return Index(database)


__all__ = (
    "Added",
    "Counts",
    "Entry",
    "Index",
    "Layout",
    "ObjectRow",
    "Quarantined",
    "open_index",
)
