"""The only way in: what is acknowledged is durable and found; what is not leaves nothing behind."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from storage.archive import Archive
from storage.blobs.memory import MemoryBlobs
from storage.errors import Conflict, IndexUnavailable, Mismatch, NotStorable, StoreFull, StoreUnavailable
from storage.index import writer
from storage.ingest import Ingest, object_key
from storage.part10 import file_meta
from storage.types import Job, Outcome, Scope, Source, Uids
from tests.support import made as instances
from tests.support.archive import Store, close_archive, ingest, open_archive
from tests.test_scanner import made

SC = "1.2.840.10008.5.1.4.1.1.7"


def test_stored_bytes_are_found_and_read_back(archive: Archive, store: Store) -> None:
    content = made(PatientName="A^B", PatientID="1")
    stored = store(content)
    assert (stored.outcome, stored.size) == (Outcome.STORED, len(content))
    (located,) = archive.index.locate(Scope("1.2.3.2", "1.2.3.3", "1.2.3.1"))
    assert archive.blobs.read(located.object_key) == content
    assert located.object_key == object_key(stored.uids, stored.sha256)


def test_the_key_has_no_uid_in_it_and_keeps_a_series_together() -> None:
    one = object_key(Uids("1.2", "1.3", "1.4"), "ab" * 32)
    other = object_key(Uids("1.2", "1.3", "1.5"), "cd" * 32)
    assert one.rpartition("/")[0] == other.rpartition("/")[0]
    assert [len(part) for part in one.split("/")] == [16, 16, 68]


def test_a_resend_is_already_there(store: Store) -> None:
    content = made()
    assert [store(content).outcome, store(content).outcome] == [Outcome.STORED, Outcome.ALREADY]


def test_a_resend_repairs_a_lost_object(archive: Archive, store: Store) -> None:
    content = made()
    stored = store(content)
    key = object_key(stored.uids, stored.sha256)
    archive.blobs.delete(key)
    assert store(content).outcome is Outcome.REPAIRED
    assert archive.blobs.read(key) == content


def test_other_bytes_under_the_same_uid_are_refused_and_kept_in_quarantine(archive: Archive, store: Store) -> None:
    first, second = made(PatientID="1"), made(PatientID="2")
    store(first)
    with pytest.raises(Conflict, match=r"1\.2\.3\.1"):
        store(second)
    (kept,) = archive.index.quarantined()
    assert archive.blobs.read(kept.object_key) == second
    (located,) = archive.index.locate(Scope("1.2.3.2"))
    assert archive.blobs.read(located.object_key) == first


def test_the_same_data_set_behind_another_meta_is_no_conflict(archive: Archive, store: Store) -> None:
    """As when a modality sends by C-STORE what was imported from its disc."""
    content = made(PatientID="1")
    data_set = content[content.index(b"\x08\x00\x16\x00") :]
    other = file_meta(SC, "1.2.3.1", "1.2.840.10008.1.2.1", source_ae="CT1") + data_set
    assert other != content
    store(content)
    assert store(other).outcome is Outcome.ALREADY
    assert archive.index.quarantined() == []
    assert len(list(archive.blobs.list())) == 1
    (located,) = archive.index.locate(Scope("1.2.3.2"))
    assert archive.blobs.read(located.object_key) == content


def test_the_same_data_set_does_not_repair_a_lost_object(archive: Archive, store: Store) -> None:
    content = made(PatientID="1")
    stored = store(content)
    archive.blobs.delete(object_key(stored.uids, stored.sha256))
    data_set = content[content.index(b"\x08\x00\x16\x00") :]
    with pytest.raises(Conflict):
        store(file_meta(SC, "1.2.3.1", "1.2.840.10008.1.2.1", source_ae="CT1") + data_set)


def test_with_replace_the_newcomer_is_the_instance(tmp_path: Path) -> None:
    archive = open_archive(tmp_path)
    replacing = Ingest(archive.index, archive.blobs, duplicates="replace")
    first, second = made(PatientID="1"), made(PatientID="2")
    ingest(archive, first)
    with archive.spool() as spool:
        spool.write(second)
        assert replacing(spool, Source("import")).outcome is Outcome.REPLACED
    (located,) = archive.index.locate(Scope("1.2.3.2"))
    assert archive.blobs.read(located.object_key) == second
    replacing.close()
    close_archive(archive)


MISMATCHES = [
    ({"expect_study": "1.2.3.9"}, Mismatch),
    ({"expect_sop": (SC, "1.2.3.9")}, Mismatch),
    ({"expect_sop": ("1.2.840.10008.5.1.4.1.1.2", "1.2.3.1")}, Mismatch),
    ({"expect_study": "1.2.3.2", "expect_sop": (SC, "1.2.3.1")}, None),
]


@pytest.mark.parametrize(("expectation", "error"), MISMATCHES)
def test_expectations(archive: Archive, expectation: dict[str, Any], error: type[Exception] | None) -> None:
    with archive.spool() as spool:
        spool.write(made())
        if error is None:
            assert archive.ingest(spool, Source("stow"), **expectation).outcome is Outcome.STORED
            return
        with pytest.raises(error):
            archive.ingest(spool, Source("stow"), **expectation)
    assert archive.index.counts().instances == 0
    assert list(archive.blobs.list()) == []


def test_what_is_refused_leaves_nothing(archive: Archive, store: Store) -> None:
    with pytest.raises(NotStorable):
        store(made(SOPInstanceUID=None))
    assert list(archive.blobs.list()) == []
    assert list(archive.spool_folder.iterdir()) == []


class _FailingBlobs(MemoryBlobs):
    def put(self, *_args: Any, **_options: Any) -> bool:
        raise StoreUnavailable("the disk failed")


def test_no_row_without_bytes(archive: Archive) -> None:
    failing = Ingest(archive.index, _FailingBlobs())
    with archive.spool() as spool:
        spool.write(made())
        with pytest.raises(StoreUnavailable):
            failing(spool, Source("import"))
    failing.close()
    assert archive.index.counts().instances == 0


def test_an_index_that_fails_leaves_an_orphan_that_a_resend_adopts(
    archive: Archive, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: Any, **_options: Any) -> None:
        raise IndexUnavailable("the database does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(type(archive.index), "add", fail)
        with pytest.raises(IndexUnavailable):
            store(made())
    assert len(list(archive.blobs.list())) == 1
    assert store(made()).outcome is Outcome.STORED
    assert len(list(archive.blobs.list())) == 1


def test_an_object_that_is_swept_away_meanwhile_is_written_again(
    archive: Archive, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = made()
    with archive.spool() as spool:
        spool.write(content)
        key = object_key(Uids("1.2.3.2", "1.2.3.3", "1.2.3.1"), spool.sha256)
        archive.blobs.put(key, spool)
    index = type(archive.index)
    add = index.add

    def sweep_then_add(*args: Any, **options: Any) -> Any:
        archive.blobs.delete(key)
        return add(*args, **options)

    monkeypatch.setattr(index, "add", sweep_then_add)
    store(content)
    assert archive.blobs.read(key) == content


def test_jobs_and_source_go_into_the_same_transaction(archive: Archive) -> None:
    told: list[tuple[str, str, int]] = []
    eager = Ingest(
        archive.index,
        archive.blobs,
        jobs_for=lambda scan, source: (Job("thumbnail", {"instance": scan.uids.instance, "from": source.kind}),),
        observe=lambda kind, outcome, _seconds, size: told.append((kind, outcome, size)),
    )
    content = made()
    with archive.spool() as spool:
        spool.write(content)
        eager.submit(spool, Source("dimse", calling_ae="CT1")).result()
    eager.close()
    assert told == [("dimse", "stored", len(content))]
    (change,) = archive.index.changes(0, 10)
    assert change.uids.instance == "1.2.3.1"


def test_eight_threads_into_one_study_count_right(archive: Archive) -> None:
    def send(part: int) -> None:
        for number in range(10):
            ingest(archive, made(SOPInstanceUID=f"1.2.9.{part}.{number}", SeriesInstanceUID=f"1.2.8.{part % 3}"))

    threads = [threading.Thread(target=send, args=(part,)) for part in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = archive.index.counts()
    assert (counts.studies, counts.series, counts.instances) == (1, 3, 80)


@pytest.mark.parametrize(
    ("number", "expected"), [(sqlite3.SQLITE_IOERR, IndexUnavailable), (sqlite3.SQLITE_FULL, StoreFull)]
)
def test_a_commit_that_fails_fails_once(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[Exception]
) -> None:
    """The usual way in which SQLite tells of a full disk: who leads has the turn then, and must give it back."""

    def fail(_driver: sqlite3.Connection) -> None:
        cause = sqlite3.OperationalError("planted")
        cause.sqlite_errorcode = number
        raise writer.CommitFailed from cause

    with monkeypatch.context() as patch:
        patch.setattr(writer, "commit", fail)
        with pytest.raises(expected):
            ingest(archive, instances.instance(1))
    assert archive.index.counts().instances == 0
    assert ingest(archive, instances.instance(1)).outcome is Outcome.STORED
    assert ingest(archive, instances.instance(2)).outcome is Outcome.STORED
