"""Objects beside the current ones: newcomers in quarantine and earlier versions, and how one of them becomes current."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import Connection, Table, delete, func, insert, select, update

from storage.errors import NotFound, Settled
from storage.index import rows, searchable_values, statements
from storage.index.add import WRITE_RECORD, Adding, Touched, job_values
from storage.index.attempts import attempt
from storage.index.database import Rerun
from storage.index.deletion_tables import deletion, tombstone
from storage.index.entries import Quarantined
from storage.index.holds import refuse_held
from storage.index.purging import REMOVE_OBJECTS
from storage.index.read import quarantined
from storage.index.ready import Ready
from storage.index.searchable_values import Taken
from storage.index.settle import settle
from storage.index.tables import instance, instance_history, job, quarantine
from storage.types import Source, Uids

if TYPE_CHECKING:
    from storage.index import Index

_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier version of an instance: what took its place at `replaced_at` is current, or a later version."""

    id: int
    uids: Uids
    sop_class_uid: str
    transfer_syntax_uid: str
    object_key: str
    size: int
    sha256: str
    source: Source
    received_at: datetime
    replaced_at: datetime
    reason: str
    partition: str


class Versions(NamedTuple):
    """What there is of one instance: the digest of the current version, '' without one, and the earlier versions."""

    partition: str
    uid: str
    current: str
    earlier: tuple[Earlier, ...]


class KeptObjects:
    """Quarantine and history of one index. Thread-safe."""

    def __init__(self, index: Index) -> None:
        self._database = index.database
        self._searchables = index.searchables

    def quarantined(self, *, after: int = 0, limit: int = _PAGE, rejected: bool | None = None) -> list[Quarantined]:
        """Newcomers in quarantine, the longest there first; go on with the last `id`. `rejected` None: all."""
        query = select(quarantine).where(quarantine.c.pk > after).order_by(quarantine.c.pk).limit(limit)
        if rejected is not None:
            query = query.where(quarantine.c.rejected_at.is_not(None) if rejected else quarantine.c.rejected_at.is_(None))
        with self._database.read() as connection:
            return [quarantined(row) for row in connection.execute(query)]

    def counts(self) -> dict[str, int]:
        """How many newcomers wait, and how many are rejected."""
        rejected = func.count(quarantine.c.rejected_at)
        with self._database.read() as connection:
            row = connection.execute(select(func.count(), rejected).select_from(quarantine)).one()
        return {"waiting": int(row[0]) - int(row[1]), "rejected": int(row[1])}

    def one(self, pk: int) -> Quarantined:
        """A newcomer by its number. Raises NotFound."""
        with self._database.read() as connection:
            return quarantined(_row(connection, quarantine, pk))

    def history(self, *, before: int | None = None, limit: int = _PAGE, instance_uid: str = "") -> list[Earlier]:
        """Earlier versions, the latest first; go on with the last `id`. Of one instance, where its UID is given."""
        table = instance_history
        query = select(table).order_by(table.c.pk.desc()).limit(limit)
        if before is not None:
            query = query.where(table.c.pk < before)
        if instance_uid:
            query = query.where(table.c.sop_instance_uid == instance_uid)
        with self._database.read() as connection:
            return [_earlier(row) for row in connection.execute(query)]

    def versions(self, partition: str, uid: str) -> Versions:
        """The current version of an instance, deleted or not, and the earlier ones, the oldest first."""
        own = select(instance.c.sha256).where(instance.c.partition == partition, instance.c.sop_instance_uid == uid)
        table = instance_history
        before = select(table).where(table.c.partition == partition, table.c.sop_instance_uid == uid).order_by(table.c.pk)
        with self._database.read() as connection:
            found = connection.execute(before).all()
            return Versions(partition, uid, connection.scalar(own) or "", tuple(_earlier(row) for row in found))

    def earlier(self, pk: int) -> Earlier:
        """An earlier version by its number. Raises NotFound."""
        with self._database.read() as connection:
            return _earlier(_row(connection, instance_history, pk))

    def accept(self, pk: int, one: Ready) -> None:
        """A newcomer takes its UID, in whatever study it is; what had it becomes history. Raises NotFound, Held."""
        self._take(quarantine, pk, one)

    def restore(self, pk: int, one: Ready) -> None:
        """An earlier version becomes current again, what is current becomes history. Raises NotFound, Held."""
        self._take(instance_history, pk, one)

    def reject(self, pk: int, by: str) -> Quarantined:
        """A newcomer is not wanted: it stays until the policy, or somebody, purges it. Raises NotFound, Settled."""
        now = time.time_ns() // 1000

        def work(connection: Connection) -> Quarantined:
            row = _row(connection, quarantine, pk, lock=True)
            if row.rejected_at is not None:
                raise Settled(f"{pk} is rejected already")
            own = update(quarantine).where(quarantine.c.pk == pk)
            connection.execute(own.values(rejected_at=now, rejected_by=by))
            return quarantined(_row(connection, quarantine, pk))

        return attempt(self._database, work, lambda: self.one(pk))

    def purge(self, pk: int) -> None:
        """A rejected newcomer goes for good, with a job that removes its bytes. Raises NotFound, Settled."""
        self._purge(quarantine, pk)

    def purge_rejected(self, before: int) -> int:
        """Those rejected before a microsecond go for good: how many."""
        query = select(quarantine.c.pk).where(quarantine.c.rejected_at < before)
        with self._database.read() as connection:
            due = connection.scalars(query).all()
        for pk in due:
            # Another worker may have been faster, or somebody may have accepted it.
            with contextlib.suppress(NotFound, Settled):
                self._purge(quarantine, pk)
        return len(due)

    def _purge(self, table: Table, pk: int) -> None:
        now = time.time_ns() // 1000

        def work(connection: Connection) -> bool:
            row = _row(connection, table, pk, lock=True)
            if row.rejected_at is None:
                raise Settled(f"{pk} has not been rejected; reject it first, or accept it")
            connection.execute(delete(table).where(table.c.pk == pk))
            connection.execute(insert(job).values(job_values(REMOVE_OBJECTS, {"keys": [row.object_key]}, now)))
            return True

        attempt(self._database, work, lambda: None)

    def _take(self, table: Table, pk: int, one: Ready) -> None:
        searchable = self._searchables.known().values()

        def work(connection: Connection) -> bool:
            _row(connection, table, pk, lock=True)
            touched = _take(connection, one)
            # After what was current has become history, so that this row cannot be that one.
            connection.execute(delete(table).where(table.c.pk == pk))
            if searchable and touched:
                searchable_values.write(connection, searchable, [_taken(*each) for each in touched])
            return True

        attempt(self._database, work, lambda: None)


def _take(connection: Connection, one: Ready) -> Touched:
    """Make an instance current, whatever has its UID now."""
    now = time.time_ns() // 1000
    entry = one.entry
    uids, partition = entry.scan.uids, entry.partition
    held = {uids.study: None}
    old = _existing(connection, entry.partition, uids.instance)
    if old is not None:
        held[old.study_instance_uid] = None
    locked = statements.STUDIES.run(connection, {"in_partition": partition, "uids": sorted(held)})
    for study_uid in held:
        refuse_held(connection, partition, study_uid, "replaced")
    seen = _existing(connection, partition, uids.instance)
    if (seen is None) != (old is None) or (seen is not None and seen.study_instance_uid not in held):
        raise Rerun
    _exhume(connection, partition, uids.instance, now)
    touched: Touched = []
    adding = Adding(connection, "replace", now, touched, accepted=True)
    if seen is not None and seen.deleted_at is None and _place(seen) != (uids.study, uids.series):
        _leave(connection, seen, {row.study_instance_uid: row.pk for row in locked}[seen.study_instance_uid], now)
        adding.follow(partition, "instance-deleted", Uids(*_place(seen), uids.instance))
    adding.add([one])
    for _entry, parent, _pk in touched:
        settle(connection, parent.study.pk, [parent.pk], now, {})
    return touched


def _existing(connection: Connection, partition: str, uid: str) -> Any:
    return next(iter(statements.EXISTING.run(connection, {"in_partition": partition, "uids": [uid]})), None)


def _place(old: Any) -> tuple[str, str]:
    return old.study_instance_uid, old.series_instance_uid


def _leave(connection: Connection, old: Any, study_pk: int, now: int) -> None:
    """The instance of this UID in another series, or study, is gone from there."""
    own = update(instance).where(instance.c.pk == old.pk)
    connection.execute(own.values(deleted_at=now, deletion_pk=None, revision=instance.c.revision + 1))
    series_pk = connection.scalars(select(instance.c.series_pk).where(instance.c.pk == old.pk)).one()
    settle(connection, study_pk, [series_pk], now, {})


def _exhume(connection: Connection, partition: str, uid: str, now: int) -> None:
    """What was not to be taken again is."""
    own = (tombstone.c.partition == partition, tombstone.c.sop_instance_uid == uid)
    found: Sequence[int] = connection.scalars(select(tombstone.c.deletion_pk).where(*own)).all()
    connection.execute(delete(tombstone).where(*own))
    for pk in found:
        connection.execute(update(deletion).where(deletion.c.pk == pk).values(revision=deletion.c.revision + 1))
        connection.execute(insert(job).values(job_values(WRITE_RECORD, {"deletion": pk}, now)))


def _taken(entry: Any, parent: Any, pk: int) -> Taken:
    above = parent.study
    return Taken(entry.scan.dataset, above.pk, above.kept.attributes, parent.pk, parent.kept.attributes, pk)


def _row(connection: Connection, table: Table, pk: int, *, lock: bool = False) -> Any:
    query = select(table).where(table.c.pk == pk)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        where = "quarantine" if table is quarantine else "the history"
        raise NotFound(f"there is nothing of the number {pk} in {where}")
    return row


def _earlier(row: Any) -> Earlier:
    return Earlier(
        id=row.pk,
        uids=Uids(row.study_instance_uid, row.series_instance_uid, row.sop_instance_uid),
        sop_class_uid=row.sop_class_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        object_key=row.object_key,
        size=row.size,
        sha256=row.sha256,
        source=rows.source_of(row.source),
        received_at=rows.moment(row.received_at),
        replaced_at=rows.moment(row.replaced_at),
        reason=row.reason,
        partition=row.partition,
    )
