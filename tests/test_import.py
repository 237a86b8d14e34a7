"""Import: everything that can be stored is, the rest is counted with its reason; interruptions lose nothing."""

from __future__ import annotations

import shutil
import zipfile
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.data import get_testdata_file

from pacs import importing
from pacs.importing import Tally, import_paths
from storage.archive import Archive
from storage.errors import IndexUnavailable, StoreFull
from storage.types import Outcome, Source, Stored
from tests.support.archive import MAX_OBJECT_BYTES
from tests.support.corpus import corpus_files


def sample(name: str) -> Path:
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return Path(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two instances without suffix, one with, one of them twice; a DICOMDIR, a text, a damaged file."""
    folder = tmp_path / "in"
    (folder / "deep" / "er").mkdir(parents=True)
    shutil.copy(sample("CT_small.dcm"), folder / "deep" / "er" / "IM0001")
    shutil.copy(sample("CT_small.dcm"), folder / "again.dcm")
    shutil.copy(sample("MR_small.dcm"), folder / "deep" / "mr")
    shutil.copy(sample("DICOMDIR"), folder / "DICOMDIR")
    (folder / "notes.txt").write_text("not an image")
    (folder / "damaged.dcm").write_bytes(b"not an image either")
    return folder


def test_a_folder(archive: Archive, folder: Path) -> None:
    tally = import_paths(archive, [folder], user="someone")
    assert tally.outcomes == {Outcome.STORED: 2, Outcome.ALREADY: 1}
    assert tally.skipped == 2
    assert {name: reason.count for name, reason in tally.refused.items()} == {"NotDicom": 1}
    assert tally.refused["NotDicom"].files[0][0] == str(folder / "damaged.dcm")
    assert tally.seen == 6
    assert not tally.clean
    assert archive.index.counts().instances == 2


def test_where_it_came_from_is_kept(archive: Archive, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources: list[Source] = []
    submit = archive.ingest.submit

    def spy(content: Any, source: Source, **more: Any) -> Future[Stored]:
        sources.append(source)
        return submit(content, source, **more)

    monkeypatch.setattr(archive.ingest, "submit", spy)
    import_paths(archive, [folder / "deep" / "mr"], user="someone")
    assert sources == [Source(kind="import", user="someone", file=str(folder / "deep" / "mr"))]


def test_the_same_again_is_harmless(archive: Archive, folder: Path) -> None:
    import_paths(archive, [folder])
    tally = import_paths(archive, [folder / "deep"])
    assert tally.outcomes == {Outcome.ALREADY: 2}
    assert tally.clean


def test_a_dicomdir_brings_what_lies_beside_it(archive: Archive, folder: Path) -> None:
    assert import_paths(archive, [folder / "DICOMDIR"]).outcomes.total() == 3


def test_a_zip_archive(archive: Archive, folder: Path, tmp_path: Path) -> None:
    packed = tmp_path / "export.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder))
    tally = import_paths(archive, [packed])
    assert (tally.outcomes.total(), tally.skipped, tally.not_stored) == (3, 2, 1)
    assert tally.refused["NotDicom"].files[0][0] == f"{packed}/damaged.dcm"


def test_other_bytes_under_a_known_uid(archive: Archive, tmp_path: Path) -> None:
    changed = bytearray(sample("CT_small.dcm").read_bytes())
    changed[-1000] ^= 1
    (tmp_path / "changed.dcm").write_bytes(changed)
    tally = import_paths(archive, [sample("CT_small.dcm"), tmp_path / "changed.dcm"])
    assert tally.outcomes == {Outcome.STORED: 1}
    assert tally.refused["Conflict"].count == 1
    assert len(archive.index.quarantined()) == 1


def test_too_large(archive: Archive) -> None:
    small = replace(archive, max_object_bytes=1000)
    assert set(import_paths(small, [sample("CT_small.dcm")]).refused) == {"LimitExceeded"}
    assert MAX_OBJECT_BYTES > 1000


def test_a_damaged_archive_is_named(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 and then nothing")
    tally = import_paths(archive, [tmp_path / "a.zip"])
    assert tally.refused["Unreadable"].files == [
        (str(tmp_path / "a.zip"), "the zip archive cannot be read (File is not a zip file)")
    ]


def test_nothing_at_all_is_not_clean(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("x")
    tally = import_paths(archive, [tmp_path / "in"])
    assert (tally.skipped, tally.clean) == (1, False)


class Away:
    """An ingest that is away for its first `times` calls."""

    def __init__(self, archive: Archive, times: int) -> None:
        self.ingest = archive.ingest
        self.times = times

    def submit(self, content: Any, source: Source) -> Future[Stored]:
        if self.times <= 0:
            return self.ingest.submit(content, source)
        self.times -= 1
        answer: Future[Stored] = Future()
        answer.set_exception(IndexUnavailable("the database does not answer; send again later"))
        return answer


def test_patience_while_the_archive_is_away(archive: Archive, folder: Path) -> None:
    slept: list[float] = []
    away: Any = Away(archive, 2)
    tally = import_paths(replace(archive, ingest=away), [folder / "deep" / "mr"], sleep=slept.append)
    assert tally.clean
    assert slept == [1.0, 2.0]


def test_an_archive_that_stays_away_ends_the_import(archive: Archive, folder: Path) -> None:
    away: Any = Away(archive, 1000)
    tally = import_paths(replace(archive, ingest=away), [folder], sleep=lambda _: None)
    assert tally.ended == "the database does not answer; send again later"
    # All four were in flight: each is told as not stored.
    assert {name: reason.count for name, reason in tally.refused.items()} == {"IndexUnavailable": 4}
    assert tally.outcomes.total() == 0


def test_a_full_spool_ends_the_import(
    archive: Archive, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StoreFull("the spool cannot take more bytes; free space and send again")

    monkeypatch.setattr("storage.spool.Spool.write", full)
    tally = import_paths(archive, [folder])
    assert "free space" in tally.ended


def test_an_interrupt_finishes_what_is_in_flight(archive: Archive, tmp_path: Path) -> None:
    copies = tmp_path / "in"
    copies.mkdir()
    for number in range(40):
        shutil.copy(sample("CT_small.dcm"), copies / f"{number:02}.dcm")

    def interrupt(tally: Tally) -> None:
        if tally.seen == 3:
            raise KeyboardInterrupt

    tally = import_paths(archive, [copies], watch=interrupt)
    assert tally.ended == "interrupted"
    assert 3 < tally.outcomes.total() < 40
    assert list(archive.spool_folder.glob("spool-*")) == []


def test_an_unforeseen_error_costs_one_file(
    archive: Archive, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("DOE^JANE")

    monkeypatch.setattr("storage.ingest.object_key", broken)
    tally = import_paths(archive, [folder / "deep"])
    assert tally.refused["Unforeseen"].count == 2
    assert "DOE" not in str(tally.as_json())


def test_names_of_reasons_are_bounded(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_NAMES", 2)
    for number in range(5):
        (tmp_path / f"{number}.dcm").write_bytes(b"x")
    reason = import_paths(archive, sorted(tmp_path.glob("*.dcm"))).refused["NotDicom"]
    assert (reason.count, len(reason.files)) == (5, 2)


def test_json(archive: Archive, folder: Path) -> None:
    found = import_paths(archive, [folder]).as_json()
    assert found["stored"] == 2
    assert found["already"] == 1
    assert found["skipped"] == 2
    assert found["refused"] == 1
    assert found["reasons"] == {
        "NotDicom": {
            "meaning": "The bytes are neither a Part 10 file nor a bare data set",
            "count": 1,
            "files": [{"file": str(folder / "damaged.dcm"), "reason": importing_text(archive, folder)}],
        }
    }


def importing_text(archive: Archive, folder: Path) -> str:
    return import_paths(archive, [folder / "damaged.dcm"]).refused["NotDicom"].files[0][1]


@pytest.mark.slow
def test_the_corpus_ends_as_its_manifest_says(archive: Archive) -> None:
    """Every storable file is taken for DICOM, whatever its name, and ends stored or, with a UID seen before, refused."""
    files = corpus_files()
    tally = import_paths(archive, [file.path for file in files])
    storable = sum(file.storable for file in files)
    conflicts = tally.refused["Conflict"].count
    assert tally.outcomes.total() + conflicts >= storable
    assert tally.outcomes[Outcome.STORED] == archive.index.counts().instances
    refused = {Path(name) for reason in tally.refused.values() for name, _ in reason.files}
    conflicting = {Path(name) for name, _ in tally.refused["Conflict"].files}
    assert [file.name for file in files if file.storable and file.path in refused - conflicting] == []
