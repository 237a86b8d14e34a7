"""Deletions, holds and versions that a new index learns from the records beside the objects."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import Connection, select, update

from storage.index import statements
from storage.index.add import Adding
from storage.index.attempts import attempt
from storage.index.deleted_rows import Deletion
from storage.index.deletion_tables import deletion, legal_hold
from storage.index.entries import Entry
from storage.index.holds import Hold
from storage.index.inserting import insert_into
from storage.index.purging import REMOVE_OBJECTS, bury
from storage.index.ready import ready, received
from storage.index.rows import microseconds
from storage.index.settle import kept_tags, settle
from storage.index.tables import instance, instance_history, job, quarantine
from storage.types import Outcome

if TYPE_CHECKING:
    from storage.index import Index


class Adoption:
    """What `upkeep.rebuild` writes of records. Harmless for what the index knows already."""

    def __init__(self, index: Index) -> None:
        self._database = index.database

    def hold(self, hold: Hold) -> None:
        """A hold, unless there is one on the study."""
        values = {"study_instance_uid": hold.study, "reason": hold.reason, "held_by": hold.by}
        self._insert(legal_hold, [values | {"partition": hold.partition, "held_at": microseconds(hold.at)}])

    def deletion(self, found: Deletion) -> int:
        """A deletion by its name: its number in this index."""
        own = select(deletion.c.pk).where(deletion.c.uid == found.name)
        with self._database.read() as connection:
            known = connection.scalar(own)
        if known is None:
            self._insert(deletion, [_values(found)])
            with self._database.read() as connection:
                known = connection.scalars(own).one()
        return int(known)

    def tombstones(self, values: Sequence[dict[str, Any]]) -> None:
        """Instances that are not to be taken again."""
        with self._database.write() as connection:
            bury(connection, values)

    def deleted(self, pk: int, entries: Sequence[Entry]) -> None:
        """Instances of one study that are deleted: nobody sees them in between."""

        def work(connection: Connection) -> bool:
            _add_deleted(connection, pk, entries)
            return True

        attempt(self._database, work, lambda: None)

    def earlier(self, entry: Entry, at: datetime, reason: str) -> None:
        """An earlier version of an instance."""
        values = _kept(entry) | {"replaced_at": microseconds(at), "reason": reason}
        self._insert(instance_history, [values])

    def quarantined(self, entry: Entry, current: str) -> None:
        """An instance that is neither current nor an earlier version; `current` is the digest of what is."""
        told = {"existing_sha256": current, "reason": "the UID has other bytes", "times": 1}
        self._insert(quarantine, [_kept(entry) | told])

    def leaving(self) -> set[str]:
        """The keys of objects that a job is to remove: what is purged and not yet gone."""
        query = select(job.c.payload).where(job.c.kind == REMOVE_OBJECTS)
        with self._database.read() as connection:
            return {key for payload in connection.scalars(query) for key in orjson.loads(payload)["keys"]}

    def _insert(self, table: Any, values: Sequence[dict[str, Any]]) -> None:
        with self._database.write() as connection:
            into = insert_into(connection.dialect.name, table)
            connection.execute(into.on_conflict_do_nothing(), list(values))


def _add_deleted(connection: Connection, pk: int, entries: Sequence[Entry]) -> None:
    now = time.time_ns() // 1000
    first = entries[0]
    uids = [entry.scan.uids.instance for entry in entries]
    added = Adding(connection, "keep", now).add([ready(entry) for entry in entries])
    mine = [uid for uid, one in zip(uids, added, strict=True) if one.outcome is Outcome.STORED]
    (held,) = statements.STUDIES.run(
        connection, {"in_partition": first.partition, "uids": [first.scan.uids.study]}
    ) or (None,)
    if held is None or not mine:
        return
    own = (instance.c.partition == first.partition, instance.c.sop_instance_uid.in_(mine))
    touched = connection.scalars(select(instance.c.series_pk).where(*own).distinct()).all()
    row = connection.execute(select(deletion).where(deletion.c.pk == pk)).one()
    tags = _together(orjson.loads(row.kept), kept_tags(connection, held.pk, touched))
    connection.execute(update(deletion).where(deletion.c.pk == pk).values(kept=orjson.dumps(tags)))
    connection.execute(update(instance).where(*own).values(deleted_at=row.deleted_at, deletion_pk=pk))
    settle(connection, held.pk, touched, now, {})


def _kept(entry: Entry) -> dict[str, Any]:
    uids = entry.scan.uids
    return received(entry) | {
        "study_instance_uid": uids.study,
        "series_instance_uid": uids.series,
        "sop_instance_uid": uids.instance,
        "sop_class_uid": entry.scan.sop_class_uid,
    }


def _together(one: dict[str, list[str]], other: dict[str, list[str]]) -> dict[str, list[str]]:
    return {key: sorted({*one.get(key, ()), *other.get(key, ())}) for key in {*one, *other}}


def _values(found: Deletion) -> dict[str, Any]:
    scope = found.scope
    return {
        "partition": scope.partition,
        "uid": found.name,
        "study_instance_uid": scope.study,
        "series_instance_uid": scope.series or "",
        "sop_instance_uid": scope.instance or "",
        "code": found.why.code,
        "comment": found.why.comment,
        "deleted_by": found.by,
        "state": found.state,
        "ended_by": found.ended_by,
        "instances": found.instances,
        "size": found.size,
        "revision": 1,
        "deleted_at": microseconds(found.at),
        "ended_at": None if found.ended_at is None else microseconds(found.ended_at),
        "kept": b"{}",
    }
