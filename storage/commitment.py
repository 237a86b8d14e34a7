"""Whether the archive answers for instances: each looked up in the index and read again from the store, past every cache.

For Storage Commitment over DIMSE (PS3.4 annex J) and the web (PS3.18 section 13) alike. Success is said only of bytes that
have the size and SHA-256 with which they were received, under the SOP class that is asked about.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from itertools import islice
from typing import Final

import structlog

from storage.archive import Archive
from storage.errors import NotFound
from storage.non_patient import PARTITIONS
from storage.types import Located

_log = structlog.get_logger(__name__)
# Instances that are looked up in one query, and read at a time.
_PAGE: Final = 200
_READERS: Final = 4
# Instances, and their bytes together, that are verified while the requester waits: half a second or so of reading.
AT_ONCE: Final = _PAGE
AT_ONCE_BYTES: Final = 512 << 20


class Failure(IntEnum):
    """Failure Reason (0008,1197) of storage commitment (PS3.3 C.14.1.1)."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_OBJECT_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119


MEANINGS: Final = {
    Failure.PROCESSING_FAILURE: "its bytes are not those that were received: send it again",
    Failure.NO_SUCH_OBJECT_INSTANCE: "it is not stored, or its object is lost: send it again",
    Failure.CLASS_INSTANCE_CONFLICT: "it is stored under another SOP class",
}


@dataclass(frozen=True, slots=True)
class Reference:
    """An instance that somebody wants to be able to forget."""

    sop_class_uid: str
    sop_instance_uid: str
    # Where it is said to be, if that is said.
    study: str = ""
    series: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """A reference, and why it is not committed to; None: it is."""

    reference: Reference
    failure: Failure | None


def verify(archive: Archive, references: Iterable[Reference]) -> Iterator[Checked]:
    """Check each reference, in order, a page at a time.

    Raises Unavailable when the index or the store cannot be asked now: then nothing is known, and asking again later helps.
    """
    left = iter(references)
    check = partial(_check, archive)
    with ThreadPoolExecutor(_READERS, thread_name_prefix="commitment") as pool:
        while page := list(islice(left, _PAGE)):
            yield from pool.map(check, page, _stored(archive, page))


def bytes_of(archive: Archive, references: Sequence[Reference]) -> int:
    """How much is to be read to verify so many that are looked up in one query (`AT_ONCE`)."""
    return sum(one.size for one in _stored(archive, references) if one is not None)


def _stored(archive: Archive, page: Sequence[Reference]) -> list[Located | None]:
    found = archive.index.instances([one.sop_instance_uid for one in page], PARTITIONS)
    by_uid = {one.uids.instance: one for one in found}
    return [by_uid.get(one.sop_instance_uid) for one in page]


def _check(archive: Archive, reference: Reference, stored: Located | None) -> Checked:
    return Checked(reference, _failure(archive, reference, stored))


def _is_there(reference: Reference, stored: Located) -> bool:
    return reference.study in ("", stored.uids.study) and reference.series in ("", stored.uids.series)


def _failure(archive: Archive, reference: Reference, stored: Located | None) -> Failure | None:
    if stored is None or not _is_there(reference, stored):
        return Failure.NO_SUCH_OBJECT_INSTANCE
    if stored.sop_class_uid != reference.sop_class_uid:
        return Failure.CLASS_INSTANCE_CONFLICT
    digest, size = hashlib.sha256(), 0
    try:
        for piece in archive.blobs.stream(stored.object_key, fresh=True):
            digest.update(piece)
            size += len(piece)
    except NotFound:
        _log.error("commitment.missing", instance=stored.uids.instance, key=stored.object_key)
        return Failure.NO_SUCH_OBJECT_INSTANCE
    if size != stored.size or digest.hexdigest() != stored.sha256:
        _log.error("commitment.damaged", instance=stored.uids.instance, key=stored.object_key)
        return Failure.PROCESSING_FAILURE
    return None
