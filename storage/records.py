"""What the index alone would know of deletions and legal holds, written beside the objects: a rebuilt index knows it again.

A record is a small object of lines of JSON: `deletions/{name}.json` has who, when and why, and then a line for each
instance that is still deleted or is not to be taken again; `holds/{digest}.json` has the hold; `versions/{digest}.json` says
which of several objects of an instance is current, and when the others were replaced. Each is written anew from the index by a
job whenever it changes, and is gone when it says nothing any more. A record can be some seconds late.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from storage.archive import Archive
from storage.errors import NotFound
from storage.index.deleted_rows import Deletion, State
from storage.index.deletions import Deletions
from storage.index.holds import Hold, Holds
from storage.index.kept_objects import KeptObjects, Versions
from storage.rejection import Why
from storage.types import Scope, Uids

_DELETIONS: Final = "deletions/"
_HOLDS: Final = "holds/"
_VERSIONS: Final = "versions/"
_PREFIXES: Final = (_DELETIONS, _HOLDS, _VERSIONS)


@dataclass(frozen=True, slots=True)
class Kept:
    """An instance in a record; `gone` when its bytes are not there any more, and it is not to be taken again."""

    uids: Uids
    sha256: str
    gone: bool


@dataclass(frozen=True, slots=True)
class Record:
    """A deletion as its record has it."""

    deletion: Deletion
    instances: tuple[Kept, ...]


@dataclass(frozen=True, slots=True)
class Replaced:
    """When and why a version was replaced."""

    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Current:
    """Which version of an instance is current ('': none), and what the others, by their digest, are."""

    partition: str
    uid: str
    sha256: str
    earlier: Mapping[str, Replaced]


def is_record(key: str) -> bool:
    """Whether an object is a record, and so no instance."""
    return key.startswith(_PREFIXES)


def write_deletion(archive: Archive, pk: int) -> None:
    """Write the record of a deletion as the index has it now, or remove it. Safe to be done by several at once."""
    deletions = Deletions(archive.index)
    while True:
        try:
            found = deletions.one(pk)
        except NotFound:
            return
        _write(archive, f"{_DELETIONS}{found.name}.json", _lines(found, deletions))
        # Who wrote last has looked after writing, and so has written what is true.
        if deletions.one(pk).revision == found.revision:
            return


def write_hold(archive: Archive, partition: str, study_uid: str) -> None:
    """Write the record of a study's hold as the index has it now, or remove it."""
    holds = Holds(archive.index)
    key = _key(_HOLDS, partition, study_uid)
    while True:
        hold = holds.of(study_uid, partition)
        _write(archive, key, iter(()) if hold is None else iter((_hold_values(hold),)))
        if holds.of(study_uid, partition) == hold:
            return


def write_versions(archive: Archive, partition: str, uid: str) -> None:
    """Write which version of an instance is current, or remove the record of one that has only one version."""
    kept, key = KeptObjects(archive.index), _key(_VERSIONS, partition, uid)
    while True:
        found = kept.versions(partition, uid)
        _write(archive, key, iter((_versions_values(found),) if found.earlier else ()))
        if kept.versions(partition, uid) == found:
            return


def deletions(archive: Archive) -> Iterator[Record]:
    """Every deletion that has a record."""
    for blob in archive.blobs.list(_DELETIONS):
        first, *rest = _read(archive, blob.key)
        yield Record(_deletion(first), tuple(_kept(first, line) for line in rest))


def holds(archive: Archive) -> Iterator[Hold]:
    """Every hold that has a record."""
    for blob in archive.blobs.list(_HOLDS):
        for one in _read(archive, blob.key):
            yield Hold(one["study"], one["reason"], one["by"], datetime.fromisoformat(one["at"]), one["partition"])


def versions(archive: Archive) -> Iterator[Current]:
    """Every instance of which there is more than one version."""
    for blob in archive.blobs.list(_VERSIONS):
        for one in _read(archive, blob.key):
            earlier = {sha256: Replaced(datetime.fromisoformat(at), reason) for sha256, at, reason in one["earlier"]}
            yield Current(one["partition"], one["instance"], one["current"], earlier)


def _key(prefix: str, partition: str, uid: str) -> str:
    return f"{prefix}{hashlib.sha256(f'{partition}{chr(0)}{uid}'.encode()).hexdigest()[:32]}.json"


def _write(archive: Archive, key: str, lines: Iterator[Any]) -> None:
    with archive.spool() as spool:
        for line in lines:
            spool.write(orjson.dumps(line) + b"\n")
        if spool.size:
            archive.blobs.put(key, spool, replace=True)
        else:
            archive.blobs.delete(key)


def _read(archive: Archive, key: str) -> list[Any]:
    return [orjson.loads(line) for line in archive.blobs.read(key).splitlines()]


def _lines(found: Deletion, source: Deletions) -> Iterator[Any]:
    """The deletion, then its instances; nothing at all where it has none left."""
    begun = False
    for uids, sha256, gone in source.remains(found.id):
        if not begun:
            yield _deletion_values(found)
            begun = True
        yield [uids.series, uids.instance, sha256, gone]


def _deletion_values(found: Deletion) -> dict[str, Any]:
    scope = found.scope
    return {
        "name": found.name,
        "partition": scope.partition,
        "study": scope.study,
        "series": scope.series,
        "instance": scope.instance,
        "code": found.why.code,
        "comment": found.why.comment,
        "by": found.by,
        "at": found.at,
        "instances": found.instances,
        "size": found.size,
        "state": found.state,
        "ended_by": found.ended_by,
        "ended_at": found.ended_at,
    }


def _deletion(one: Any) -> Deletion:
    return Deletion(
        id=0,
        name=one["name"],
        scope=Scope(one["study"], one["series"], one["instance"], one["partition"]),
        why=Why(one["code"], one["comment"]),
        by=one["by"],
        at=datetime.fromisoformat(one["at"]),
        instances=one["instances"],
        size=one["size"],
        left=0,
        state=State(one["state"]),
        ended_by=one["ended_by"],
        ended_at=datetime.fromisoformat(one["ended_at"]) if one["ended_at"] else None,
    )


def _kept(deletion: Any, line: Any) -> Kept:
    series, instance, sha256, gone = line
    return Kept(Uids(deletion["study"], series, instance), sha256, gone)


def _hold_values(hold: Hold) -> dict[str, Any]:
    return {"partition": hold.partition, "study": hold.study, "reason": hold.reason, "by": hold.by, "at": hold.at}


def _versions_values(found: Versions) -> dict[str, Any]:
    earlier = [[one.sha256, one.replaced_at, one.reason] for one in found.earlier]
    return {"partition": found.partition, "instance": found.uid, "current": found.current, "earlier": earlier}
