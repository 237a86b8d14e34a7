"""Bytes of what is purged, and purging by policy. Rows go first, then bytes, then the record: whatever is cut short goes on.

Between the first two steps nobody can reach the bytes; a job that was written in the rows' own transaction removes them,
except where another row has the same object. Until then a rebuild of the index knows by the record that they are deleted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import structlog

from storage import copies, originals
from storage.archive import Archive
from storage.errors import Held, ObjectMissing, Settled
from storage.index.deleted_rows import Deletion, State
from storage.index.deletions import Deletions
from storage.index.purging import PAGE
from storage.index.rows import microseconds

_log = structlog.get_logger(__name__)
_PAGE = 100


def purge(archive: Archive, pk: int, by: str) -> Deletion:
    """Take what is left of a deletion out for good. Raises NotFound, Settled, Held."""
    deletions = Deletions(archive.index)
    while deletions.purge_some(pk, by) == PAGE:
        pass
    found = deletions.one(pk)
    _log.info("purged", action="purged", deletion=pk, study=found.scope.study, instances=found.instances, by=by)
    return found


def purge_due(archive: Archive, before: datetime | None, by: str) -> int:
    """Purge what was deleted before a moment, and whatever was begun to be purged; how many deletions.

    What is held stays. None: go on only with what was begun.
    """
    done = 0
    for pk in _due(Deletions(archive.index), before):
        try:
            purge(archive, pk, by)
        except Held:
            # Why is somebody's own words, and stays in the index.
            _log.info("purge held", action="purge held", deletion=pk)
        except Settled:
            # Another worker, or an administrator, was faster.
            continue
        else:
            done += 1
    return done


def _due(deletions: Deletions, before: datetime | None) -> Iterator[int]:
    for one in deletions.page(states=[State.PURGING]):
        yield one.id
    last: int | None = None
    while before is not None:
        page = deletions.page(states=[State.DELETED], until=microseconds(before), before=last, limit=_PAGE)
        yield from (one.id for one in page)
        if len(page) < _PAGE:
            return
        last = page[-1].id


def remove_objects(archive: Archive, keys: Sequence[str]) -> None:
    """Remove objects to which no row refers any more; those that are gone already, or that somebody has again, are passed over."""
    for key in keys:
        try:
            remove_object(archive, key)
        except ObjectMissing:
            if not archive.index.known_keys([key]):
                _drop_beside(archive, key)


def remove_object(archive: Archive, key: str) -> bool:
    """Delete one object and what it was made of, unless a row refers to it; False when one does, and then the object is there.

    A resend may adopt an object without a row at any moment: it finds the object sound, and commits its row. So the bytes
    are kept at hand until it is sure that no row has come between looking and deleting. Raises ObjectMissing.
    """
    with archive.spool() as kept:
        for piece in archive.blobs.stream(key):
            kept.write(piece)
        if archive.index.known_keys([key]):
            return False
        archive.blobs.delete(key)
        if not archive.index.known_keys([key]):
            _drop_beside(archive, key)
            return True
        archive.blobs.put(key, kept)
        return False


def _drop_beside(archive: Archive, key: str) -> None:
    """Remove what is kept for the sake of an object that is gone: what it was made of, and what was made of it."""
    originals.drop(archive.index, archive.blobs, key)
    copies.drop(archive.blobs, key)
