"""What keeps an archive honest: fixity, orphans, rows without bytes, and the index rebuilt from the objects alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import groupby, islice
from pathlib import PurePosixPath

from storage import copies, originals, records, thumbnails
from storage.archive import Archive
from storage.coercion.applying import coerced_at
from storage.deletion import remove_object
from storage.errors import NotDicom, NotFound, ObjectMissing, Refused
from storage.index import Added, Entry, ObjectRow
from storage.index.adoption import Adoption
from storage.index.entries import Original
from storage.index.originals import Originals
from storage.ingest import object_key
from storage.non_patient import partition_of
from storage.scanner import Scan, scan
from storage.types import Blob, Source, Uids

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
        for kept in _pages_of_originals(archive):
            for finding in pool.map(lambda row: _check_row(archive, row, fixity), kept):
                if finding is not None:
                    yield finding
            progress(len(kept))
    yield from orphans(archive, progress=progress)
    if fixity:
        yield from damaged_copies(archive, progress=progress)


def damaged_copies(archive: Archive, *, progress: Progress = _ignore) -> Iterator[Finding]:
    """HTJ2K copies and thumbnails that are not as they were made."""
    for blobs in _pages(archive.blobs.list(copies.FOLDER)):
        for blob in blobs:
            is_whole = copies.is_whole if blob.key.startswith(copies.key_of("")) else thumbnails.is_whole
            # What is gone by now went with its original.
            with suppress(ObjectMissing):
                if not is_whole(archive.blobs, blob.key):
                    yield Finding(Fault.DAMAGED, blob.key, "", _DAMAGED_COPY)
        progress(len(blobs))


_DAMAGED_COPY = (
    "the bytes are not those that were made of an instance, which is not touched by it: remove them with"
    " `pacs verify --remove-orphans`; `pacs copies make` makes a copy anew"
)


def orphans(archive: Archive, *, grace: timedelta = GRACE, progress: Progress = _ignore) -> Iterator[Finding]:
    """Objects that no row (current, historic, quarantined, or of an original) refers to and that are older than `grace`."""
    before = datetime.now(UTC) - grace
    for blobs in _pages(blob for blob in archive.blobs.list() if not records.is_record(blob.key)):
        known = archive.index.known_keys([copies.original_of(blob.key) for blob in blobs])
        for blob in blobs:
            if copies.original_of(blob.key) not in known and blob.modified < before:
                yield Finding(Fault.ORPHAN, blob.key, "", "no row refers to it: index it with `pacs rebuild-index` or remove it with `pacs verify --remove-orphans`")
        progress(len(blobs))


def remove_orphans(archive: Archive, *, grace: timedelta = GRACE) -> Iterator[Finding]:
    """Delete what `orphans` finds, and damaged copies; yields each when it is gone."""
    for finding in orphans(archive, grace=grace):
        if remove_object(archive, finding.key):
            yield finding
    for finding in list(damaged_copies(archive)):
        archive.blobs.delete(finding.key)
        yield finding


def rebuild(archive: Archive, *, progress: Progress = _ignore) -> Iterator[Finding]:
    """Index every object that the store holds and the index does not know, as if it had just arrived.

    What was deleted is deleted again, what is held is held, and of several versions of an instance the same one is current,
    by the records beside the objects (`storage.records`). What only the database knew is not in the objects: the source of an
    instance. Of several objects with one SOP Instance UID of which no record says anything, the oldest is the instance, as the
    duplicates policy `keep` has it. Yields what could not be indexed; nothing is removed.
    """
    recorded = _Recorded(archive)
    with ThreadPoolExecutor(_READERS, thread_name_prefix="rebuild") as pool:
        for series in _by_series(_objects(archive)):
            entries: list[Entry] = []
            for found in pool.map(lambda blob: _reread(archive, blob), recorded.unknown(series)):
                if isinstance(found, Finding):
                    yield found
                else:
                    entries.append(found)
            for page in _pages(recorded.alive(entries)):
                added = archive.index.add(page, duplicates="keep")
                yield from _conflicts(page, added)
            progress(len(series))
    yield from _originals(archive, progress)


class _Recorded:
    """What the records say about objects, given to the index before anything is indexed."""

    def __init__(self, archive: Archive) -> None:
        self._index = archive.index
        self._adoption = adoption = Adoption(archive.index)
        # An instance by its UID and digest -> the deletion that it belongs to; None: it is gone for good.
        self._deleted: dict[tuple[str, str], int | None] = {}
        self._leaving = adoption.leaving()
        for hold in records.holds(archive):
            adoption.hold(hold)
        for record in records.deletions(archive):
            pk = adoption.deletion(record.deletion)
            adoption.tombstones([_tombstone(record, one, pk) for one in record.instances if one.gone])
            for one in record.instances:
                self._deleted[one.uids.instance, one.sha256] = None if one.gone else pk
        self._versions = {one.uid: one for one in records.versions(archive)}

    def unknown(self, blobs: Sequence[Blob]) -> list[Blob]:
        """Those that no row refers to, and that are not about to be removed."""
        known = self._index.known_keys([blob.key for blob in blobs]) | self._leaving
        return [blob for blob in blobs if blob.key not in known]

    def alive(self, entries: Sequence[Entry]) -> Iterator[Entry]:
        """Index what is deleted as deleted, and what is an earlier version as that; gives the rest."""
        deleted: dict[int, list[Entry]] = {}
        for entry in entries:
            key = (entry.scan.uids.instance, entry.sha256)
            pk = self._deleted.get(key)
            if pk is not None:
                deleted.setdefault(pk, []).append(entry)
            elif key not in self._deleted and self._current(entry):
                yield entry
        for pk, some in deleted.items():
            for first in range(0, len(some), _PAGE):
                self._adoption.deleted(pk, some[first : first + _PAGE])


    def _current(self, entry: Entry) -> bool:
        """Whether an object is the instance that its UID stands for; else it has been put where it belongs."""
        known = self._versions.get(entry.scan.uids.instance)
        if known is None or known.sha256 == entry.sha256:
            return True
        replaced = known.earlier.get(entry.sha256)
        if replaced is None:
            self._adoption.quarantined(entry, known.sha256)
        else:
            self._adoption.earlier(entry, replaced.at, replaced.reason)
        return False


def _tombstone(record: records.Record, one: records.Kept, pk: int) -> dict[str, object]:
    return {
        "partition": record.deletion.scope.partition,
        "sop_instance_uid": one.uids.instance,
        "study_instance_uid": one.uids.study,
        "series_instance_uid": one.uids.series,
        "sha256": one.sha256,
        "code": record.deletion.why.code,
        "deletion_pk": pk,
    }


def _objects(archive: Archive) -> Iterator[Blob]:
    """Every object that is, or was, an instance."""
    return (
        blob
        for blob in archive.blobs.list()
        if not (records.is_record(blob.key) or originals.is_original(blob.key) or copies.is_copy(blob.key))
    )


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
            found = scan(spool.view(), assumed=archive.ingest.assumed.now())
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
            partition=partition_of(found.sop_class_uid),
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


def _pages_of_originals(archive: Archive) -> Iterator[list[ObjectRow]]:
    after = ""
    while page := Originals(archive.index).page(after, _PAGE):
        yield [ObjectRow(0, one.object_key, one.size, one.sha256, Uids("", "", one.sop_instance_uid)) for one in page]
        after = page[-1].object_key


def _originals(archive: Archive, progress: Progress) -> Iterator[Finding]:
    """Know again what instances were made of, by the names of the originals."""
    kept = (blob for blob in archive.blobs.list(originals.PREFIX))
    for page in _pages(kept):
        known = archive.index.known_keys([blob.key for blob in page])
        known |= archive.index.known_keys([originals.parts_of(blob.key)[0] for blob in page])
        for blob in page:
            made_key, _ = originals.parts_of(blob.key)
            if blob.key in known:
                continue
            if made_key not in known:
                yield Finding(Fault.ORPHAN, blob.key, "", "what was made of it is gone: send the instance again, or remove it with `pacs verify --remove-orphans`")
                continue
            found = _original(archive, blob)
            if isinstance(found, Finding):
                yield found
            else:
                Originals(archive.index).add([found])
        progress(len(page))


def _original(archive: Archive, blob: Blob) -> Original | Finding:
    made_key, sha256 = originals.parts_of(blob.key)
    try:
        found, view = _scanned(archive, blob.key, sha256)
        made, _ = _scanned(archive, made_key, PurePosixPath(made_key).stem)
    except Refused as error:
        return Finding(Fault.UNREADABLE, blob.key, "", str(error))
    received = originals.digest_of(found, memoryview(view))
    return Original(found.uids.instance, made_key, blob.key, sha256, blob.size, received, coerced_at(made.dataset) or blob.modified)


def _scanned(archive: Archive, key: str, sha256: str) -> tuple[Scan, bytes]:
    content = archive.blobs.read(key)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise NotDicom("the bytes do not have the digest in the object's name; send the instance again")
    return scan(content, assumed=archive.ingest.assumed.now()), content


def _pages(items: Iterator[Blob] | Iterator[Entry]) -> Iterator[list]:  # type: ignore[type-arg]
    while page := list(islice(items, _PAGE)):
        yield page


def _by_series(blobs: Iterator[Blob]) -> Iterator[list[Blob]]:
    """Objects of one series at a time, oldest first. A store lists a series together, since it is a common prefix."""
    for _, series in groupby(blobs, key=lambda blob: blob.key.rpartition("/")[0]):
        yield sorted(series, key=lambda blob: (blob.modified, blob.key))
