"""Upkeep finds every kind of damage, and rebuilds the index from the objects alone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from storage.archive import Archive
from storage.index import open_index
from storage.ingest import object_key
from storage.types import DEFAULT_PARTITION, Level, Outcome, Query, Uids
from storage.upkeep import Fault, orphans, rebuild, remove_orphans, verify
from tests.support.archive import Store, ingest
from tests.test_scanner import made


@pytest.fixture
def stored(archive: Archive, store: Store) -> list[bytes]:
    """Ten instances in two series."""
    contents = [made(SOPInstanceUID=f"1.2.9.{n}", SeriesInstanceUID=f"1.2.8.{n % 2}") for n in range(10)]
    for content in contents:
        store(content)
    return contents


def _path(archive: Archive, number: int) -> Path:
    path: Path = archive.blobs.path(archive.index.objects(0, 100)[number].object_key)  # type: ignore[attr-defined]
    return path


def _damage_nothing(_path: Path) -> None:
    return None


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-10])


DAMAGES = [
    (_damage_nothing, True, []),
    (_flip, True, [Fault.DAMAGED]),
    (_truncate, True, [Fault.DAMAGED]),
    (Path.unlink, True, [Fault.MISSING]),
    (Path.unlink, False, [Fault.MISSING]),
    (_truncate, False, [Fault.DAMAGED]),
    # Without reading, contents that were changed in place are not seen: that is what `fixity` is for.
    (_flip, False, []),
]


@pytest.mark.parametrize(("damage", "fixity", "faults"), DAMAGES)
@pytest.mark.usefixtures("stored")
def test_verify(archive: Archive, damage: Any, fixity: bool, faults: list[Fault]) -> None:
    row = archive.index.objects(0, 100)[3]
    damage(_path(archive, 3))
    found = list(verify(archive, fixity=fixity))
    assert [finding.fault for finding in found] == faults
    assert all(finding.instance == row.instance and finding.key == row.object_key for finding in found)


def test_a_resend_repairs_what_verify_found(archive: Archive, stored: list[bytes]) -> None:
    _flip(_path(archive, 0))
    assert [ingest(archive, content).outcome for content in stored].count(Outcome.REPAIRED) == 1
    assert list(verify(archive)) == []


def test_orphans_are_found_when_they_are_old_enough(archive: Archive, stored: list[bytes]) -> None:
    with archive.spool() as spool:
        spool.write(made(SOPInstanceUID="1.2.77"))
        archive.blobs.put("0" * 16 + "/" + "1" * 16 + "/" + spool.sha256 + ".dcm", spool)
    assert list(orphans(archive)) == []
    (finding,) = orphans(archive, grace=timedelta(0))
    assert finding.fault is Fault.ORPHAN
    assert [gone.key for gone in remove_orphans(archive, grace=timedelta(0))] == [finding.key]
    assert list(orphans(archive, grace=timedelta(0))) == []
    assert len(list(archive.blobs.list())) == len(stored)


def test_an_orphan_that_is_adopted_while_it_is_removed_stays(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = made(SOPInstanceUID="1.2.77")
    uids = Uids("1.2.3.2", "1.2.3.3", "1.2.77")
    with archive.spool() as spool:
        spool.write(content)
        key = object_key(uids, spool.sha256)
        archive.blobs.put(key, spool)
    delete = type(archive.blobs).delete

    def resend_then_delete(blobs: Any, key: str) -> None:
        monkeypatch.undo()
        ingest(archive, content)
        delete(blobs, key)

    monkeypatch.setattr(type(archive.blobs), "delete", resend_then_delete)
    assert list(remove_orphans(archive, grace=timedelta(0))) == []
    assert archive.blobs.read(key) == content
    assert list(verify(archive)) == []


def test_a_quarantined_object_is_no_orphan(archive: Archive, store: Store) -> None:
    store(made(PatientID="1"))
    with pytest.raises(Exception, match="quarantine"):
        store(made(PatientID="2"))
    assert list(orphans(archive, grace=timedelta(0))) == []


def _everything(archive: Archive) -> list[Any]:
    every = [Query(level, (), None, partition=DEFAULT_PARTITION) for level in (Level.STUDY, Level.SERIES, Level.IMAGE)]
    return [sorted(map(repr, archive.index.find(query))) for query in every]


@pytest.mark.usefixtures("stored")
def test_the_index_is_rebuilt_from_the_objects_alone(archive: Archive, tmp_path: Path) -> None:
    other = open_index(f"sqlite:///{tmp_path / 'rebuilt.sqlite'}")
    rebuilt = Archive(other, archive.blobs, archive.ingest, archive.spool_folder, archive.max_object_bytes)
    counted: list[int] = []
    assert list(rebuild(rebuilt, progress=counted.append)) == []
    assert sum(counted) == 10
    assert _everything(rebuilt) == _everything(archive)
    # A second time changes nothing.
    assert list(rebuild(rebuilt)) == []
    assert other.counts() == archive.index.counts()
    other.close()


@pytest.mark.usefixtures("stored")
def test_rebuild_says_what_it_could_not_index(archive: Archive, tmp_path: Path) -> None:
    _flip(_path(archive, 0))
    other = open_index(f"sqlite:///{tmp_path / 'rebuilt.sqlite'}")
    rebuilt = Archive(other, archive.blobs, archive.ingest, archive.spool_folder, archive.max_object_bytes)
    assert [finding.fault for finding in rebuild(rebuilt)] == [Fault.DAMAGED]
    assert other.counts().instances == 9
    other.close()

