"""Rejection notes of IHE Imaging Object Change Management: which documents are some, what they delete, and who may send them."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from pacs import processing
from pacs.settings import Settings
from storage.archive import Archive
from storage.errors import Held, Rejected
from storage.index.ae import AeTitle, Right, add_ae_title
from storage.index.deletions import Deletions
from storage.index.holds import Holds
from storage.ingest import Ingest
from storage.jobs import JobQueue
from storage.rejection import REJECTIONS, Why
from storage.rejection_notes import HIDE_KIND, HIDE_SECONDS, KEY_OBJECTS, KIND, Note, jobs_for, note_of
from storage.types import Scope
from tests.support.archive import close_archive, ingest, open_archive
from tests.support.dimse_server import serving
from tests.support.made import instance

STUDY, FIRST, SECOND, NOTES = "1.2.3", "1.2.3.4", "1.2.3.5", "1.2.3.99"
References = Mapping[str, Sequence[str]]


def item(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def evidence(study: str, series: References) -> Dataset:
    return item(
        StudyInstanceUID=study,
        ReferencedSeriesSequence=[
            item(
                SeriesInstanceUID=name,
                ReferencedSOPSequence=[item(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID=one) for one in uids],
            )
            for name, uids in series.items()
        ],
    )


def document(series: References, *, code: str = "113037", scheme: str = "DCM", study: str = STUDY, number: int = 1, **more: Any) -> bytes:
    """A Key Object Selection document with that title."""
    title = item(CodeValue=code, CodingSchemeDesignator=scheme, CodeMeaning="title")
    keys = {"ConceptNameCodeSequence": [title], "CurrentRequestedProcedureEvidenceSequence": [evidence(study, series)], **more}
    return instance(number, study=STUDY, series=NOTES, sop_class=KEY_OBJECTS, pixels=False, Modality="KO", **keys)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """Two series of three images each."""
    opened = open_archive(tmp_path / "archive")
    opened = replace(opened, ingest=Ingest(opened.index, opened.blobs, jobs_for=jobs_for))
    for series in (FIRST, SECOND):
        for number in (1, 2, 3):
            ingest(opened, instance(number, series=series))
    yield opened
    close_archive(opened)


def left(archive: Archive) -> set[str]:
    """The images that are found."""
    return {one.uids.instance for one in archive.index.locate(Scope(STUDY)) if one.uids.series != NOTES}


def worked_off(archive: Archive, **settings: Any) -> int:
    """How many jobs of ours there were, all done now."""
    queue = JobQueue(archive.index)
    run = processing.kinds(processing.Work(archive, Settings(**settings)))
    claimed = queue.claim("test", kinds=[KIND], limit=100)
    for job in claimed:
        run[job.kind](job)
        queue.done(job)
    return len(claimed)


EVERYTHING = {f"{series}.{number}" for series in (FIRST, SECOND) for number in (1, 2, 3)}
WHOLE = {FIRST: [f"{FIRST}.1", f"{FIRST}.2", f"{FIRST}.3"]}


@pytest.mark.parametrize("code", REJECTIONS)
def test_what_a_note_names_is_deleted_under_its_code_and_can_come_back(archive: Archive, code: str) -> None:
    ingest(archive, document(WHOLE, code=code))
    assert left(archive) == EVERYTHING
    assert worked_off(archive) == 1
    assert left(archive) == EVERYTHING - set(WHOLE[FIRST])
    (made,) = Deletions(archive.index).page()
    assert (made.scope, made.instances) == (Scope(STUDY, FIRST), 3)
    assert made.why == Why(code, f"rejection note {NOTES}.1")
    # What was rejected for good is not taken again; what has expired is, for then somebody wants it.
    if REJECTIONS[code].final:
        with pytest.raises(Rejected):
            ingest(archive, instance(1, series=FIRST))
    Deletions(archive.index).restore(made.id, "test")
    assert left(archive) == EVERYTHING


@pytest.mark.parametrize("brought_back", [False, True])
@pytest.mark.parametrize("code", REJECTIONS)
def test_what_has_expired_leaves_no_note(archive: Archive, code: str, brought_back: bool) -> None:
    """An hour later, when its sender has asked for storage commitment; any other note is for whoever has the images elsewhere."""
    ingest(archive, document(WHOLE, code=code))
    worked_off(archive)
    (made,) = Deletions(archive.index).page()
    if brought_back:
        Deletions(archive.index).restore(made.id, "test")
    assert JobQueue(archive.index).claim("test", kinds=[HIDE_KIND]) == [], "not yet"
    clock = time.time() + HIDE_SECONDS + 1
    (job,) = JobQueue(archive.index, clock=lambda: clock).claim("test", kinds=[HIDE_KIND])
    processing.kinds(processing.Work(archive, Settings()))[HIDE_KIND](job)
    there = list(archive.index.locate(Scope(STUDY, NOTES)))
    assert bool(there) is (code != "113039" or brought_back)
    if not there:
        newest = Deletions(archive.index).page()[0]
        assert newest.why == Why("113039", "the rejection note itself, which was applied")
        Deletions(archive.index).restore(newest.id, "test")
        assert list(archive.index.locate(Scope(STUDY, NOTES)))


@pytest.mark.parametrize(
    ("series", "gone", "deletions"),
    [
        ({FIRST: [f"{FIRST}.2"]}, {f"{FIRST}.2"}, 1),
        ({FIRST: [f"{FIRST}.2", f"{FIRST}.3", f"{FIRST}.77"]}, {f"{FIRST}.2", f"{FIRST}.3"}, 2),
        ({**WHOLE, SECOND: [f"{SECOND}.1"]}, {*WHOLE[FIRST], f"{SECOND}.1"}, 2),
        # Under the wrong series, or its own: nothing.
        ({SECOND: [f"{FIRST}.1"]}, set(), 0),
        ({NOTES: [f"{NOTES}.1"]}, set(), 0),
        ({}, set(), 0),
    ],
)
def test_no_more_is_deleted_than_is_named(archive: Archive, series: References, gone: set[str], deletions: int) -> None:
    ingest(archive, document(series))
    worked_off(archive)
    assert left(archive) == EVERYTHING - gone
    assert len(Deletions(archive.index).page()) == deletions
    assert next(iter(archive.index.locate(Scope(STUDY, NOTES))), None), "the note itself stays"


@pytest.mark.parametrize(
    "made",
    [
        {"code": "113000"},
        {"scheme": "99ABC"},
        {"study": "1.9.9"},
        {"ConceptNameCodeSequence": []},
        {"CurrentRequestedProcedureEvidenceSequence": []},
        {"CurrentRequestedProcedureEvidenceSequence": [Dataset()]},
    ],
    ids=["of interest", "another scheme", "another study", "no title", "no evidence", "empty evidence"],
)
def test_documents_that_reject_nothing(archive: Archive, made: dict[str, Any]) -> None:
    ingest(archive, document(WHOLE, **made))
    assert worked_off(archive) == 1
    assert left(archive) == EVERYTHING


def test_what_is_named_of_other_studies_is_counted() -> None:
    both = item(
        StudyInstanceUID=STUDY,
        ConceptNameCodeSequence=[item(CodeValue="113001", CodingSchemeDesignator="DCM")],
        CurrentRequestedProcedureEvidenceSequence=[evidence(STUDY, {FIRST: ["1"]}), evidence("1.9", {FIRST: ["2", "3"]})],
    )
    assert note_of(both) == Note("113001", {FIRST: frozenset({"1"})}, elsewhere=2)


def test_the_setting_keeps_notes_as_any_other_object(archive: Archive) -> None:
    ingest(archive, document(WHOLE))
    worked_off(archive, rejection_notes="keep")
    assert left(archive) == EVERYTHING


@pytest.mark.parametrize("code", REJECTIONS)
def test_only_what_is_rejected_for_quality_may_stay_in_regular_use(archive: Archive, code: str) -> None:
    """IHE RAD TF-3 4.66.4.1.3: a site's choice; 4.66.4.2.3, 4.66.4.3.3 and 4.66.4.4.3 leave none."""
    ingest(archive, document(WHOLE, code=code))
    worked_off(archive, rejection_notes="regular-use")
    in_use = code == "113001"
    assert left(archive) == (EVERYTHING if in_use else EVERYTHING - set(WHOLE[FIRST]))
    assert next(iter(archive.index.locate(Scope(STUDY, NOTES))), None), "the note is shown with them"
    hidden_later = JobQueue(archive.index, clock=lambda: time.time() + HIDE_SECONDS + 1).claim("test", kinds=[HIDE_KIND])
    assert bool(hidden_later) is not in_use


def test_a_legal_hold_is_stronger_and_the_administrator_is_told(archive: Archive) -> None:
    Holds(archive.index).add(STUDY, "court", "test")
    ingest(archive, document(WHOLE))
    with pytest.raises(Held):
        worked_off(archive)
    assert left(archive) == EVERYTHING


def test_a_note_that_comes_again_does_not_take_away_what_was_brought_back(archive: Archive) -> None:
    ingest(archive, document(WHOLE))
    worked_off(archive)
    (made,) = Deletions(archive.index).page()
    Deletions(archive.index).restore(made.id, "test")
    ingest(archive, document(WHOLE))
    assert worked_off(archive) == 0
    assert left(archive) == EVERYTHING


@pytest.mark.dcmtk
@pytest.mark.parametrize(
    ("rights", "unknown_callers", "rejects"),
    [
        ({Right.STORE, Right.REJECT}, "ask", True),
        ({Right.STORE}, "ask", False),
        (None, "accept", True),
    ],
    ids=["with the right", "without", "unknown and accepted"],
)
def test_a_note_by_c_store_is_acted_upon_by_right(
    archive: Archive, tmp_path: Path, rights: set[Right] | None, unknown_callers: str, rejects: bool
) -> None:
    if not shutil.which("storescu", path="/usr/bin"):
        pytest.skip("DCMTK's storescu is not installed: nothing is tested with it")
    if rights is not None:
        add_ae_title(archive.index, AeTitle("REVIEW", "", 0, rights=frozenset(rights)))
    (tmp_path / "note.dcm").write_bytes(document(WHOLE))
    with serving(archive, unknown_callers=unknown_callers) as server:
        command = ["/usr/bin/storescu", "-R", "-aet", "REVIEW", "-aec", "LIGHTBOX", "127.0.0.1", str(server.port), str(tmp_path / "note.dcm")]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert worked_off(archive, unknown_callers=unknown_callers) == 1
    assert left(archive) == (EVERYTHING - set(WHOLE[FIRST]) if rejects else EVERYTHING)
