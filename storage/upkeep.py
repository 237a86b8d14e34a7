"""What keeps an archive honest: fixity, orphans, rows without bytes, and the index rebuilt from the objects alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import groupby, islice
from pathlib import PurePosixPath

from storage.archive import Archive
from storage.errors import NotFound, Refused
from storage.index import Added, Entry, ObjectRow
from storage.ingest import object_key
from storage.scanner import scan
from storage.types import Blob, Source

# An object without a row may belong to an ingest that is about to commit: only older ones are orphans.
GRACE = timedelta(hours=1)

_PAGE = 500
_READERS = 4

# Called with the number of objects or rows just looked at, for a progress bar.
Progress = Callable[[int], None]


class Fault(StrEnum):
    """What can be wrong between the index and the object store."""

    MISSING = "missing"
    DAMAGED = "damaged"
    ORPHAN = "orphan"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `text` says what to do about it."""

    fault: Fault
    key: str
    instance: str
    text: str


def _ignore(_count: int) -> None:
    return None


def verify(archive: Archive, *, fixity: bool = True, progress: Progress = _ignore) -> Iterator[Finding]:
    """Every row's object (there, right size, right SHA-256), then every object's row.

    `fixity=False` reads no contents: it finds what is missing or of the wrong size, at the speed of a listing.
    """
    with ThreadPoolExecutor(_READERS, thread_name_prefix="verify") as pool:
        for rows in _pages_of_rows(archive):
            for finding in pool.map(lambda row: _check_row(archive, row, fixity), rows):
                if finding is not None:
                    yield finding
            progress(len(rows))
    yield from orphans(archive, progress=progress)


def orphans(archive: Archive, *, grace: timedelta = GRACE, progress: Progress = _ignore) -> Iterator[Finding]:
    """Objects that no row (current, historic or quarantined) refers to and that are older than `grace`."""
    before = datetime.now(UTC) - grace
    for blobs in _pages(archive.blobs.list()):
        known = archive.index.known_keys([blob.key for blob in blobs])
        for blob in blobs:
            if blob.key not in known and blob.modified < before:
                yield Finding(Fault.ORPHAN, blob.key, "", "no row refers to it: index it with `pacs rebuild-index` or remove it with `pacs verify --remove-orphans`")
        progress(len(blobs))


def remove_orphans(archive: Archive, *, grace: timedelta = GRACE) -> Iterator[Finding]:
    """Delete what `orphans` finds; yields each when it is gone."""
    for finding in orphans(archive, grace=grace):
        if _removed(archive, finding.key):
            yield finding


def _removed(archive: Archive, key: str) -> bool:
    """Delete one object, unless a row refers to it; False when one does, and then the object is there.

    A resend may adopt an orphan at any moment: it finds the object sound, and commits its row. So the bytes are kept
    at hand until it is sure that no row has come between looking and deleting.
    """
    with archive.spool() as kept:
        for piece in archive.blobs.stream(key):
            kept.write(piece)
        if archive.index.known_keys([key]):
            return False
        archive.blobs.delete(key)
        if not archive.index.known_keys([key]):
            return True
        archive.blobs.put(key, kept)
        return False


def rebuild(archive: Archive, *, progress: Progress = _ignore) -> Iterator[Finding]:
    """Index every object that the store holds, as if it had just arrived; harmless for those already indexed.

    What only the database knew is not in the objects: the source of an instance, and which quarantined instance was
    refused. Of several objects with one SOP Instance UID the oldest is the instance, as the duplicates policy `keep` has it.
    Yields what could not be indexed; nothing is removed.
    """
    with ThreadPoolExecutor(_READERS, thread_name_prefix="rebuild") as pool:
        for series in _by_series(archive.blobs.list()):
            entries: list[Entry] = []
            for found in pool.map(lambda blob: _reread(archive, blob), series):
                if isinstance(found, Finding):
                    yield found
                else:
                    entries.append(found)
            for page in _pages(iter(entries)):
                added = archive.index.add(page, duplicates="keep")
                yield from _conflicts(page, added)
            progress(len(series))


def _check_row(archive: Archive, row: ObjectRow, fixity: bool) -> Finding | None:
    remedy = "send the instance again: a resend repairs it"
    try:
        if fixity:
            size, sha256 = _digest(archive.blobs.stream(row.object_key))
        else:
            # The last byte and the one behind it tell whether the size is right, without a listing.
            last = archive.blobs.read(row.object_key, max(0, row.size - 1), 2)
            size, sha256 = row.size - 1 + len(last), row.sha256
    except NotFound:
        return Finding(Fault.MISSING, row.object_key, row.instance, f"the object is gone; {remedy}")
    if (size, sha256) != (row.size, row.sha256):
        return Finding(Fault.DAMAGED, row.object_key, row.instance, f"the bytes are not those received; {remedy}")
    return None


def _digest(pieces: Iterable[bytes]) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
    return size, digest.hexdigest()


def _reread(archive: Archive, blob: Blob) -> Entry | Finding:
    """The entry for a stored object, its digest checked against its name on the way."""
    with archive.spool() as spool:
        for piece in archive.blobs.stream(blob.key):
            spool.write(piece)
        if spool.sha256 != PurePosixPath(blob.key).stem:
            return Finding(Fault.DAMAGED, blob.key, "", "the bytes do not have the digest in the object's name; send the instance again")
        try:
            found = scan(spool.view())
        except Refused as error:
            return Finding(Fault.UNREADABLE, blob.key, "", str(error))
        if object_key(found.uids, spool.sha256) != blob.key:
            return Finding(Fault.UNREADABLE, blob.key, found.uids.instance, "the object lies under another study or series than its own")
        return Entry(
            scan=found,
            object_key=blob.key,
            sha256=spool.sha256,
            size=spool.size,
            source=Source(kind="rebuild"),
            received_at=blob.modified,
        )


def _conflicts(entries: list[Entry], added: Iterable[Added]) -> Iterator[Finding]:
    for entry, result in zip(entries, added, strict=True):
        if result.outcome is None:
            uid = entry.scan.uids.instance
            yield Finding(Fault.UNREADABLE, entry.object_key, uid, f"another object already is {uid}; this one is in quarantine")


def _pages_of_rows(archive: Archive) -> Iterator[list[ObjectRow]]:
    after = 0
    while rows := archive.index.objects(after, _PAGE):
        yield rows
        after = rows[-1].id


def _pages(items: Iterator[Blob] | Iterator[Entry]) -> Iterator[list]:  # type: ignore[type-arg]
    while page := list(islice(items, _PAGE)):
        yield page


def _by_series(blobs: Iterator[Blob]) -> Iterator[list[Blob]]:
    """Objects of one series at a time, oldest first. A store lists a series together, since it is a common prefix."""
    for _, series in groupby(blobs, key=lambda blob: blob.key.rpartition("/")[0]):
        yield sorted(series, key=lambda blob: (blob.modified, blob.key))
