"""The index: what is stored, where it lies, and how it is found; on SQLite or PostgreSQL."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from sqlalchemy import delete, select, text

from storage.errors import IndexUnavailable
from storage.index import migrations, searchable_values
from storage.index.add import Adding, Duplicates, Touched
from storage.index.anchors import Anchors
from storage.index.database import CommitUnknown, Database, Rerun, watch
from storage.index.entries import Added, Counts, Entry, Layout, ObjectRow, Quarantined
from storage.index.find import Found, count, find, state
from storage.index.parents import HeldSeries
from storage.index.read import Reading
from storage.index.ready import Ready, ready
from storage.index.searchable import Searchables
from storage.index.searchable_values import Taken
from storage.index.tables import instance, quarantine
from storage.types import Query

_RUNS = 5


class Index(Reading):
    """One archive's index. Thread-safe; usable on both sides of a fork (see `Database`).

    Every method may raise IndexUnavailable; after that nothing is half done and the call may be made again.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.searchables = Searchables(database)
        self._anchors = Anchors()

    @property
    def database(self) -> Database:
        """The connections, for the job queue and other parts that share them."""
        return self._database

    def turn(self) -> contextlib.AbstractContextManager[None]:
        """For the block this thread is next to write, and nobody else writes; taken anyway by whatever writes, so that it
        is for those who want to decide what to write when they know that they can. Raises IndexUnavailable.
        """
        return self._database.turn()

    def add(self, entries: Sequence[Entry | Ready], *, duplicates: Duplicates = "keep") -> list[Added]:
        """Index instances in one transaction: all of them are committed on return, or none after an exception.

        Same UID and same bytes: ALREADY. Other bytes, or another study or series: by `keep` the newcomer is quarantined
        (outcome None), by `replace` an instance of the same series becomes REPLACED and its older version history, unless a
        legal hold is on the study. What was deleted is STORED again, or, deleted as wrong, `rejected` (outcome None). Entries
        that were made `ready` before hold up nobody else.
        """
        if not entries:
            return []
        instances = [one if isinstance(one, Ready) else ready(one) for one in entries]
        for _ in range(_RUNS):
            added: list[Added] = []
            searchable = self.searchables.known()
            touched: Touched | None = [] if searchable else None
            try:
                with self._database.write() as connection:
                    now = time.time_ns() // 1000
                    added = Adding(connection, duplicates, now, touched).add(instances)
                    if touched:
                        searchable_values.write(connection, searchable.values(), [_taken(*one) for one in touched])
            except Rerun:
                continue
            except CommitUnknown as unknown:
                if not self._happened([one.entry for one in instances], added):
                    raise unknown.undone() from unknown
            return added
        raise IndexUnavailable("the transaction lost to others again and again; send again later")

    def _happened(self, entries: Sequence[Entry], added: Sequence[Added]) -> bool:
        """Whether a transaction whose end was not seen was committed, asked on a connection of its own."""
        here: list[tuple[str, str]] = []
        away: list[tuple[str, str]] = []
        for entry, one in zip(entries, added, strict=True):
            if one.outcome is not None or one.quarantined:
                (here if one.outcome is not None else away).append((entry.scan.uids.instance, entry.sha256))
        self._database.reconnect()
        with self._database.read() as connection:
            for table, wanted in ((instance, here), (quarantine, away)):
                query = select(table.c.sop_instance_uid, table.c.sha256).where(
                    table.c.sop_instance_uid.in_([uid for uid, _ in wanted])
                )
                if table is instance:
                    # One that was deleted before has the same bytes, and is not what was to be written.
                    query = query.where(instance.c.deleted_at.is_(None))
                if not set(wanted) <= {
                    (row.sop_instance_uid, row.sha256) for row in connection.execute(query)
                }:
                    return False
        return True

    def release(self, entry: Entry) -> None:
        """Take an entry out of quarantine, because it turned out to be no conflict; nothing happens when it is not there."""
        with self._database.write() as connection:
            connection.execute(
                delete(quarantine).where(
                    quarantine.c.partition == entry.partition,
                    quarantine.c.sop_instance_uid == entry.scan.uids.instance,
                    quarantine.c.sha256 == entry.sha256,
                )
            )

    def find(self, query: Query, beyond: int = 0) -> Found:
        """The matches of a query, one data set of the DICOM JSON model each, newest study first.

        Each has `query.fields` as far as they are known, and always the unique keys of its level and above. Raises
        UnsupportedQuery at once for a condition that cannot be matched at this level; the database's errors come while
        iterating. May be left at any point. `beyond` is how far matches behind the limit are counted (`Found.beyond`).
        """
        return find(self._database, query, self.searchables.known(), self._anchors, beyond)

    def state(self) -> int:
        """A number that grows with everything that is stored, replaced or deleted: what a search has found may be found
        again while it stays."""
        return state(self._database)

    def count(self, query: Query) -> int:
        """How many matches a query has, whatever its limit and offset."""
        return count(self._database, query, self.searchables.known())

    def ping(self) -> None:
        """Raises IndexUnavailable unless the database answers."""
        with self._database.read() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close this process's connections."""
        self._database.close()


def _taken(entry: Entry, parent: HeldSeries, pk: int) -> Taken:
    above = parent.study
    return Taken(entry.scan.dataset, above.pk, above.kept.attributes, parent.pk, parent.kept.attributes, pk)


def open_index(url: str, *, migrate: bool = True) -> Index:
    """The index at `sqlite:///FILE` or `postgresql+psycopg://USER:PASSWORD@HOST/DATABASE`.

    `migrate` brings its schema up to date first; without, an older schema is refused. Raises ValueError for another kind
    of URL, IndexUnavailable when the database does not answer or is of a newer release.
    """
    database = Database(url)
    if migrate:
        with database.write(patient=True) as connection:
            migrations.upgrade(connection)
        # SQLite's planner reads its statistics when a connection opens: this one is from before they were there.
        database.close()
    else:
        with database.read() as connection:
            migrations.check(connection)
    return Index(database)


__all__ = (
    "Added",
    "Counts",
    "Entry",
    "Found",
    "Index",
    "Layout",
    "ObjectRow",
    "Quarantined",
    "Ready",
    "open_index",
    "ready",
    "watch",
)
