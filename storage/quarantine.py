"""Deciding about newcomers in quarantine, and going back to earlier versions: what needs the bytes beside the rows."""

from __future__ import annotations

from contextlib import ExitStack

import structlog

from storage.archive import Archive
from storage.differences import Difference, Version, differences
from storage.errors import ObjectMissing
from storage.index import Entry, Quarantined, ready
from storage.index.kept_objects import Earlier, KeptObjects
from storage.scanner import scan
from storage.types import Located, Scope

_log = structlog.get_logger(__name__)


def compare(archive: Archive, newcomer: Quarantined) -> list[Difference] | None:
    """In what a newcomer differs from what has its UID now; None when nothing has.

    What was deleted, and is not yet gone, counts. Raises ObjectMissing when the bytes of one of them are lost.
    """
    there = _there(archive, newcomer)
    if there is None:
        return None
    with ExitStack() as open_spools:
        versions = []
        for key in (there.object_key, newcomer.object_key):
            spool = open_spools.enter_context(archive.spool())
            for piece in archive.blobs.stream(key):
                spool.write(piece)
            view = spool.view()
            versions.append(Version(scan(view), view))
        return differences(*versions)


def accept(archive: Archive, pk: int, by: str) -> Quarantined:
    """The newcomer takes its UID; what had it becomes history. Raises NotFound, Held, ObjectMissing."""
    kept = KeptObjects(archive.index)
    newcomer = kept.one(pk)
    kept.accept(pk, ready(_entry(archive, newcomer)))
    _log.info("quarantine.accepted", action="quarantine accepted", number=pk, instance=newcomer.uids.instance, by=by)
    return newcomer


def reject(archive: Archive, pk: int, by: str) -> Quarantined:
    """The newcomer is not wanted; it stays until it is purged. Raises NotFound, Settled."""
    rejected = KeptObjects(archive.index).reject(pk, by)
    _log.info("quarantine.rejected", action="quarantine rejected", number=pk, instance=rejected.uids.instance, by=by)
    return rejected


def purge(archive: Archive, pk: int, by: str) -> None:
    """A rejected newcomer goes for good; a job removes its bytes. Raises NotFound, Settled."""
    KeptObjects(archive.index).purge(pk)
    _log.info("quarantine.purged", action="quarantine purged", number=pk, by=by)


def restore(archive: Archive, pk: int, by: str) -> Earlier:
    """An earlier version becomes current again. Raises NotFound, Held, ObjectMissing."""
    kept = KeptObjects(archive.index)
    earlier = kept.earlier(pk)
    kept.restore(pk, ready(_entry(archive, earlier)))
    _log.info("history.restored", action="history restored", number=pk, instance=earlier.uids.instance, by=by)
    return earlier


def _there(archive: Archive, newcomer: Quarantined) -> Located | None:
    found = archive.index.instances([newcomer.uids.instance], (newcomer.partition,))
    if found:
        return found[0]
    uids = newcomer.uids
    return archive.index.locate_deleted(Scope(uids.study, uids.series, uids.instance, newcomer.partition))


def _entry(archive: Archive, kept: Quarantined | Earlier) -> Entry:
    with archive.spool() as spool:
        for piece in archive.blobs.stream(kept.object_key):
            spool.write(piece)
        if spool.sha256 != kept.sha256:
            raise ObjectMissing(f"the bytes of {kept.object_key} are not those that were received; send the instance again")
        return Entry(
            scan=scan(spool.view(), assumed=archive.ingest.assumed.now()),
            object_key=kept.object_key,
            sha256=kept.sha256,
            size=kept.size,
            source=kept.source,
            received_at=kept.received_at,
            partition=kept.partition,
        )
