"""Rejection notes of IHE Imaging Object Change Management: Key Object Selection documents that reject images of their study."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import structlog
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from storage.archive import Archive
from storage.errors import NotFound, Refused
from storage.index.deletions import Deletions
from storage.rejection import REJECTIONS, Why
from storage.scanner import Scan
from storage.types import Job, Scope, Source, Uids

_log = structlog.get_logger(__name__)
KEY_OBJECTS: Final = "1.2.840.10008.5.1.4.1.1.88.59"
# The kind of job that acts upon a note.
KIND: Final = "rejection-note"
# And the one that takes a note out of answers after it was applied, so long after that its sender has asked for storage commitment.
HIDE_KIND: Final = "hide-rejection-note"
HIDE_SECONDS: Final = 3600.0
# A note is a list of UIDs: half a million of them.
_LARGEST: Final = 64 << 20


class Unreadable(Refused):
    """A Key Object Selection document that cannot be read: it is kept, and nothing is done."""


@dataclass(frozen=True, slots=True)
class Note:
    """Which instances are rejected, by their series, and by which code; `elsewhere` counts those of other studies."""

    code: str
    series: Mapping[str, frozenset[str]]
    elsewhere: int = 0


def jobs_for(scan: Scan, source: Source) -> tuple[Job, ...]:
    """For `storage.ingest.Ingest`: a job for each Key Object Selection document that comes, which may be a rejection note."""
    if scan.sop_class_uid != KEY_OBJECTS or source.kind == "rebuild":
        return ()
    uids = scan.uids
    names = {"study": uids.study, "series": uids.series, "instance": uids.instance}
    return (Job(KIND, {**names, "calling_ae": source.calling_ae, "source": source.kind}),)


def note_of(dataset: Dataset) -> Note | None:
    """The note that a Key Object Selection document is; None for one that rejects nothing.

    What it rejects is in its Current Requested Procedure Evidence Sequence (0040,A375), and is of its own study: what it
    names of others is not touched.
    """
    title = next(iter(dataset.get("ConceptNameCodeSequence") or ()), Dataset())
    code = str(title.get("CodeValue", ""))
    if code not in REJECTIONS or title.get("CodingSchemeDesignator") != "DCM":
        return None
    rejected: dict[str, set[str]] = defaultdict(set)
    elsewhere = 0
    for study, uids in _referenced(dataset):
        if study == dataset.get("StudyInstanceUID"):
            rejected[uids[0]].add(uids[1])
        else:
            elsewhere += 1
    return Note(code, {name: frozenset(found) for name, found in rejected.items()}, elsewhere)


def _referenced(dataset: Dataset) -> Iterator[tuple[str, tuple[str, str]]]:
    for study in dataset.get("CurrentRequestedProcedureEvidenceSequence") or ():
        for series in study.get("ReferencedSeriesSequence") or ():
            for one in series.get("ReferencedSOPSequence") or ():
                uids = str(series.get("SeriesInstanceUID", "")), str(one.get("ReferencedSOPInstanceUID", ""))
                yield str(study.get("StudyInstanceUID", "")), uids


def act_upon(archive: Archive, uids: Uids, by: str, *, regular_use: bool = False) -> int:
    """Delete what the Key Object Selection document of these UIDs rejects, as far as it is here: how many instances.

    Each deletion can be undone (`storage.index.deletions`); a series that is rejected whole is one. To be called again it
    does no harm. Nothing for a document that is no note, or is gone; with `regular_use` nothing for one whose images may be used
    none the less. Raises Held under a legal hold, Unreadable.
    """
    note = _read(archive, uids)
    if note is None or (regular_use and REJECTIONS[note.code].may_be_used):
        return 0
    deletions, count = Deletions(archive.index), 0
    why = Why(note.code, f"rejection note {uids.instance}")
    for scope in _scopes(archive, uids, note):
        try:
            count += deletions.delete(scope, why, by).instances
        except NotFound:
            # Deleted in the meantime, which is what was asked for.
            continue
    named = sum(map(len, note.series.values()))
    _log.info("rejection note", action="rejected", note=uids.instance, reason=note.code, named=named, deleted=count, elsewhere=note.elsewhere, by=by)
    return count


def hide(archive: Archive, uids: Uids, by: str) -> bool:
    """Delete a note that was applied, where its code leaves none and nothing that it names is here again. Can be undone.

    Nothing for a document that is no note, or is gone. Raises Held under a legal hold, Unreadable.
    """
    note = _read(archive, uids)
    if note is None or not REJECTIONS[note.code].leaves_no_note or any(_scopes(archive, uids, note)):
        return False
    why = Why(note.code, "the rejection note itself, which was applied")
    Deletions(archive.index).delete(Scope(uids.study, uids.series, uids.instance), why, by)
    return True


def _read(archive: Archive, uids: Uids) -> Note | None:
    found = next(iter(archive.index.locate(Scope(uids.study, uids.series, uids.instance))), None)
    if found is None:
        return None
    if found.size > _LARGEST:
        raise Unreadable(f"the Key Object Selection document has {found.size} bytes: nothing is rejected by one so large")
    try:
        return note_of(dcmread(io.BytesIO(b"".join(archive.blobs.stream(found.object_key)))))
    except (InvalidDicomError, AttributeError, EOFError, KeyError, NotImplementedError, TypeError, ValueError) as error:
        raise Unreadable(f"the Key Object Selection document cannot be read ({type(error).__name__}): nothing is rejected") from error


def _scopes(archive: Archive, note_uids: Uids, note: Note) -> Iterator[Scope]:
    """What is to be deleted: whole series where all of one that is here is rejected, else instances; never the note itself."""
    for series, rejected in note.series.items():
        here = {one.uids.instance for one in archive.index.locate(Scope(note_uids.study, series))}
        if here and here <= rejected - {note_uids.instance}:
            yield Scope(note_uids.study, series)
        else:
            yield from (Scope(note_uids.study, series, one) for one in sorted(here & rejected - {note_uids.instance}))
