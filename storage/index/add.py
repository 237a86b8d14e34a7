"""Adding instances: one transaction for a batch, with counters, change feed and jobs in it.

Order of locks (PostgreSQL): the batch's studies by their UID, then what belongs to them, then the change counter. Whoever
holds a study's row is alone in it, so its counters can be written as plain numbers; the change counter is taken last and
held until the commit, so that the feed has no gaps and is in the order of the commits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import orjson
from sqlalchemy import Connection, Table, update

from storage.index import originals, statements
from storage.index.database import Rerun
from storage.index.deletion_tables import deletion
from storage.index.entries import Added, Entry, Original
from storage.index.parents import HeldSeries, Parents
from storage.index.ready import Ready, received
from storage.index.ready import flags as flags_bytes
from storage.index.tables import change, instance, instance_content, instance_history, job
from storage.rejection import is_final, meaning_of
from storage.types import Flag, Outcome, Uids

Duplicates = Literal["keep", "replace"]
_Values = dict[str, Any]
_Existing = Any
# What was stored or replaced: entry, its series, its key. Kept only where somebody wants it.
Touched = list[tuple[Entry, HeldSeries, int]]
# The kind of the job that writes the record of a deletion beside the objects (`storage.deletion`).
WRITE_RECORD = "write-record"
# The kind of the job that writes which version of an instance is current (`storage.records`).
WRITE_VERSIONS = "write-versions"


class _Fate(NamedTuple):
    """What is to become of an entry; `outcome` None: not taken, `rejected` under this code, and `kept` in quarantine."""

    outcome: Outcome | None
    rejected: str = ""
    kept: bool = True


class Adding:
    """One transaction of `Index.add`. Call `add` once, inside it. `now` is in microseconds.

    `accepted`: somebody has decided that the instances are taken, whatever was before.
    """

    def __init__(
        self,
        connection: Connection,
        duplicates: Duplicates,
        now: int,
        touched: Touched | None = None,
        *,
        accepted: bool = False,
    ) -> None:
        self._connection = connection
        self._dialect = connection.dialect.name
        self._duplicates: Duplicates = duplicates
        self._now = now
        self._touched = touched
        self._accepted = accepted
        self._changes: list[_Values] = []
        self._jobs: list[_Values] = []
        self._gone: dict[str, Any] = {}
        # Deletions of which instances have come back by being sent again.
        self._undone: set[int] = set()
        # Instances that have an earlier version now.
        self._replaced: set[tuple[str, str]] = set()
        # What was received, where something else was made of it.
        self._originals: list[Original] = []

    def add(self, instances: Sequence[Ready]) -> list[Added]:
        """What became of each, in their order."""
        results: dict[int, Added] = {}
        for numbered in _rounds(instances):
            added = self._round([one for _, one in numbered])
            results.update(zip((number for number, _ in numbered), added, strict=True))
        self._write_undone()
        self._write_feed()
        return [results[number] for number in range(len(instances))]

    def _round(self, instances: list[Ready]) -> list[Added]:
        entries = [one.entry for one in instances]
        existing = self._existing(entries)
        before = [existing.get(entry.scan.uids.instance) for entry in entries]
        fates = self._fates(entries, before)
        outcomes = [fate.outcome for fate in fates]
        parents = Parents(self._connection, entries[0].partition, self._now)
        parents.hold([one for one, outcome in zip(instances, outcomes, strict=True) if outcome in _TAKEN])
        keys = self._new_keys(
            sum(1 for o, old in zip(outcomes, before, strict=True) if o in _TAKEN and old is None)
        )
        added: list[Added] = []
        fresh: list[tuple[_Values, _Values]] = []
        for one, old, fate in zip(instances, before, fates, strict=True):
            entry, outcome = one.entry, fate.outcome
            flags: tuple[Flag, ...] = ()
            there = None
            if outcome in _TAKEN:
                parent = parents.of(entry)
                flags = parent.describe(one)
                _count(parent, entry, old)
                pk = next(keys) if old is None else old.pk
                if self._touched is not None:
                    self._touched.append((entry, parent, pk))
                if old is None:
                    fresh.append(self._new_instance(pk, parent.pk, one, flags))
                else:
                    self._overwrite(old, parent.pk, one, flags)
                self._follow(entry, "instance-stored" if outcome is Outcome.STORED else "instance-replaced")
            elif outcome is None:
                there = old or self._gone[entry.scan.uids.instance]
                if fate.kept:
                    self._quarantine(entry, there.sha256, _against(entry, old, fate))
            quarantined = outcome is None and fate.kept
            if entry.original is not None and (outcome is not None or quarantined):
                self._originals.append(entry.original)
            added.append(Added(outcome, there.sha256 if there else None, flags, fate.rejected, quarantined))
        self._write(instance, [row for row, _ in fresh])
        self._write(instance_content, [content for _, content in fresh])
        parents.write_back()
        return added

    def _existing(self, entries: list[Entry]) -> dict[str, _Existing]:
        uids = [entry.scan.uids.instance for entry in entries]
        found = statements.EXISTING.run(
            self._connection, {"in_partition": entries[0].partition, "uids": uids}
        )
        return {row.sop_instance_uid: row for row in found}

    def _fates(self, entries: list[Entry], before: list[_Existing | None]) -> list[_Fate]:
        partition = entries[0].partition
        new = [entry.scan.uids.instance for entry, old in zip(entries, before, strict=True) if old is None]
        self._gone = {
            row.sop_instance_uid: row
            for row in (statements.TOMBSTONES.run(self._connection, {"in_partition": partition, "uids": new}) if new else ())
        }
        held: set[str] = set()
        if self._duplicates == "replace" and len(new) < len(entries):
            asked = {"in_partition": partition, "uids": list({entry.scan.uids.study for entry in entries})}
            held = {row.study_instance_uid for row in statements.HELD.run(self._connection, asked)}
        return [self._fate(entry, old, held) for entry, old in zip(entries, before, strict=True)]

    def _fate(self, entry: Entry, old: _Existing | None, held: set[str]) -> _Fate:
        """Not taken are other bytes under a UID that is there, an instance of another study or series, and what was
        deleted as wrong. Upkeep does not bring back what was deleted for whatever reason."""
        if self._accepted:
            return _Fate(Outcome.STORED if old is None or old.deleted_at is not None else Outcome.REPLACED)
        upkeep = entry.source.kind == "rebuild"
        if old is None:
            gone = self._gone.get(entry.scan.uids.instance)
            return _Fate(None, gone.code, kept=not upkeep) if gone is not None else _Fate(Outcome.STORED)
        if old.deleted_at is not None:
            if is_final(old.code or ""):
                return _Fate(None, old.code, kept=old.sha256 != entry.sha256)
            return _Fate(None) if upkeep else _Fate(Outcome.STORED)
        if old.sha256 == entry.sha256:
            return _Fate(Outcome.ALREADY)
        replaces = self._duplicates == "replace" and not _elsewhere(entry, old) and entry.scan.uids.study not in held
        return _Fate(Outcome.REPLACED if replaces else None)

    def _new_keys(self, number: int) -> Iterator[int]:
        if not number:
            return iter(())
        last = [row[0] for row in statements.NEW_KEYS[self._dialect].run(self._connection, {"number": number})]
        return iter(range(last[0] + 1, last[0] + 1 + number)) if self._dialect == "sqlite" else iter(last)

    def _new_instance(
        self, pk: int, series_pk: int, one: Ready, flags: tuple[Flag, ...]
    ) -> tuple[_Values, _Values]:
        keys = {"pk": pk, "series_pk": series_pk, "revision": 1, "flags": flags_bytes(one.entry, flags)}
        return {**one.instance, **keys}, {**one.content, "instance_pk": pk}

    def _overwrite(self, old: _Existing, series_pk: int, one: Ready, flags: tuple[Flag, ...]) -> None:
        """Another version takes the row; what was there is history, unless it is the same object. Raises Rerun when the
        row is no longer what this transaction has decided by."""
        if old.object_key != one.entry.object_key:
            history = _object_values(old) | {
                "partition": one.entry.partition,
                "study_instance_uid": old.study_instance_uid,
                "series_instance_uid": old.series_instance_uid,
                "sop_instance_uid": old.sop_instance_uid,
                "replaced_at": self._now,
                "reason": "replaced" if old.deleted_at is None else "deleted",
            }
            self._write(instance_history, [history])
            self._replaced.add((one.entry.partition, old.sop_instance_uid))
        keys = {"series_pk": series_pk, "revision": old.revision + 1, "flags": flags_bytes(one.entry, flags)}
        seen = update(instance).where(instance.c.pk == old.pk, instance.c.revision == old.revision)
        written = self._connection.execute(seen.values(deleted_at=None, deletion_pk=None, **one.instance, **keys))
        if not written.rowcount:
            raise Rerun
        content = update(instance_content).where(instance_content.c.instance_pk == old.pk)
        self._connection.execute(content.values(one.content))
        if old.deletion_pk is not None:
            self._undone.add(old.deletion_pk)

    def _quarantine(self, entry: Entry, existing_sha256: str, reason: str) -> None:
        uids = entry.scan.uids
        row = received(entry) | {
            "study_instance_uid": uids.study,
            "series_instance_uid": uids.series,
            "sop_instance_uid": uids.instance,
            "sop_class_uid": entry.scan.sop_class_uid,
            "existing_sha256": existing_sha256,
            "reason": reason,
            "times": 1,
        }
        statements.ADD_QUARANTINE[self._dialect].run(self._connection, row)
        self._follow(entry, "instance-quarantined")

    def _write_undone(self) -> None:
        """The records of deletions tell less now, and those of versions more."""
        self._jobs += [versions_job(*one, self._now) for one in sorted(self._replaced)]
        if self._undone:
            touched = update(deletion).where(deletion.c.pk.in_(self._undone))
            self._connection.execute(touched.values(revision=deletion.c.revision + 1))
            self._jobs += [job_values(WRITE_RECORD, {"deletion": pk}, self._now) for pk in sorted(self._undone)]

    def _follow(self, entry: Entry, kind: str) -> None:
        self.follow(entry.partition, kind, entry.scan.uids)
        if kind != "instance-quarantined":
            self._jobs += [job_values(one.kind, one.payload, self._now) for one in entry.jobs]

    def follow(self, partition: str, kind: str, uids: Uids) -> None:
        """A line of the change feed, written at the end."""
        self._changes.append(
            {
                "partition": partition,
                "kind": kind,
                "study_instance_uid": uids.study,
                "series_instance_uid": uids.series,
                "sop_instance_uid": uids.instance,
                "at": self._now,
            }
        )

    def _write_feed(self) -> None:
        self._write(job, self._jobs)
        originals.add(self._connection, self._originals)
        if self._changes:
            number = len(self._changes)
            ((last,),) = statements.TAKE_CHANGES.run(self._connection, {"number": number})
            for sequence, row in enumerate(self._changes, last - number + 1):
                row["sequence"] = sequence
            self._write(change, self._changes)

    def _write(self, table: Table, values: list[_Values]) -> None:
        if values:
            statements.add_to(table).run_many(self._connection, values)


_TAKEN = frozenset({Outcome.STORED, Outcome.REPLACED})


def _rounds(instances: Sequence[Ready]) -> Iterator[list[tuple[int, Ready]]]:
    """The instances with their numbers, in rounds of one partition each in which no UID comes twice. Nearly always one."""
    rest = list(enumerate(instances))
    while rest:
        partition = rest[0][1].entry.partition
        taken: dict[str, tuple[int, Ready]] = {}
        later: list[tuple[int, Ready]] = []
        for numbered in rest:
            uid = numbered[1].entry.scan.uids.instance
            if numbered[1].entry.partition != partition or uid in taken:
                later.append(numbered)
            else:
                taken[uid] = numbered
        yield list(taken.values())
        rest = later


def _count(parent: HeldSeries, entry: Entry, old: _Existing | None) -> None:
    if old is not None and old.deleted_at is None:
        parent.count(entry.scan.sop_class_uid, instances=0, size=entry.size - old.size)
    else:
        parent.count(entry.scan.sop_class_uid, instances=1, size=entry.size)


def _elsewhere(entry: Entry, old: _Existing) -> bool:
    uids = entry.scan.uids
    return bool((old.study_instance_uid, old.series_instance_uid) != (uids.study, uids.series))


def _against(entry: Entry, old: _Existing | None, fate: _Fate) -> str:
    """Why an entry is in quarantine, for an administrator."""
    if fate.rejected:
        return f"the UID was deleted: {meaning_of(fate.rejected)}"
    if old is not None and old.deleted_at is not None:
        return "the UID was deleted"
    return "the UID belongs to another study or series" if old and _elsewhere(entry, old) else "the UID has other bytes"


def _object_values(old: _Existing) -> _Values:
    names = ("sop_class_uid", "transfer_syntax_uid", "object_key", "sha256", "size", "source", "received_at")
    return {name: getattr(old, name) for name in names}


def versions_job(partition: str, uid: str, now: int) -> _Values:
    """The row of the job that follows when an instance has more, or fewer, earlier versions."""
    return job_values(WRITE_VERSIONS, {"partition": partition, "instance": uid}, now)


def job_values(kind: str, payload: Any, now: int, not_before: int | None = None) -> _Values:
    """The row of a job that waits for a worker. Times in microseconds."""
    return {
        "kind": kind,
        "payload": orjson.dumps(payload),
        "state": "waiting",
        "attempts": 0,
        "not_before": now if not_before is None else not_before,
        "worker": "",
        "error": "",
        "created_at": now,
        "updated_at": now,
    }
