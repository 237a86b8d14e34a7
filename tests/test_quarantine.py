"""Newcomers under a UID that is taken: compared, accepted, rejected, purged; earlier versions, and back to them. On both engines."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pacs import admin, processing
from pacs.processing import Work
from pacs.settings import Settings
from storage import deletion, quarantine, upkeep
from storage.archive import Archive
from storage.errors import Conflict, Held, NotFound, Rejected, Settled
from storage.index import Counts, Index
from storage.index import tables as t
from storage.index.deletions import Deletions
from storage.index.holds import Holds
from storage.index.kept_objects import KeptObjects
from storage.rejection import Why
from storage.types import Level, Scope
from tests.support import made
from tests.support.archive import close_archive, ingest, open_archive
from tests.support.commands import Pacs
from tests.support.indexes import counters_are_exact, find, studies
from tests.test_deletion_upkeep import instances, rebuilt, work_off
from tests.test_deletions import everything

JSON = {"Content-Type": "application/json"}
ONE = "1.2.3.4.1"


@pytest.fixture
def archive(index_url: str, tmp_path: Path) -> Iterator[Archive]:
    """Two instances of a study, of which the first gave it its patient; on both engines."""
    opened = open_archive(tmp_path / "objects", database_url=index_url)
    ingest(opened, made.instance(1, PatientName="Wrong^Name", PatientID="W"))
    ingest(opened, made.instance(2, PatientName="Right^Name", PatientID="R"))
    yield opened
    close_archive(opened)


def refused(archive: Archive, content: bytes, error: type[Exception] = Conflict) -> int:
    """Send what is refused; its number in quarantine."""
    with pytest.raises(error):
        ingest(archive, content)
    return KeptObjects(archive.index).quarantined()[-1].id


def sha256(index: Index, uid: str = ONE) -> str:
    (found,) = index.instances([uid])
    return found.sha256


def history(index: Index) -> list[str]:
    return [one.sha256 for one in KeptObjects(index).history()]


RIGHT: dict[str, Any] = {"PatientName": "Right^Name", "PatientID": "R"}


def test_an_accepted_newcomer_takes_its_uid_and_there_is_a_way_back(archive: Archive) -> None:
    index = archive.index
    first = sha256(index)
    pk = refused(archive, made.instance(1, **RIGHT))
    assert studies(index, PatientName="Wrong^Name") == ["1.2.3"]
    quarantine.accept(archive, pk, "anna")
    second = sha256(index)
    assert second != first
    assert (KeptObjects(index).quarantined(), history(index)) == ([], [first])
    assert studies(index, PatientName="Wrong^Name") == [], "the study is described by what it has now"
    assert studies(index, PatientName="Right^Name") == ["1.2.3"]
    assert [one.kind for one in index.changes(0, 100)][-1] == "instance-replaced"
    counters_are_exact(index)
    with pytest.raises(NotFound):
        quarantine.accept(archive, pk, "anna")

    quarantine.restore(archive, KeptObjects(index).history()[0].id, "anna")
    assert (sha256(index), history(index)) == (first, [second])
    assert studies(index, PatientName="Wrong^Name") == ["1.2.3"]
    counters_are_exact(index)
    assert list(upkeep.verify(archive)) == []


def test_an_accepted_newcomer_may_be_of_another_study(archive: Archive) -> None:
    index = archive.index
    first = sha256(index)
    pk = refused(archive, made.instance(1, study="1.9", series="1.9.4", SOPInstanceUID=ONE))
    assert index.quarantined()[0].reason == "the UID belongs to another study or series"
    quarantine.accept(archive, pk, "anna")
    assert index.counts() == Counts(2, 2, 2, index.counts().bytes)
    assert studies(index, PatientName="Wrong^Name") == [], "it went with its instance"
    assert [one["0020000D"]["Value"] for one in find(index, Level.IMAGE, SOPInstanceUID=ONE)] == [["1.9"]]
    assert history(index) == [first]
    assert [(one.kind, one.uids.study) for one in index.changes(0, 100)][-2:] == [
        ("instance-deleted", "1.2.3"),
        ("instance-stored", "1.9"),
    ]
    counters_are_alive(index)
    quarantine.restore(archive, KeptObjects(index).history()[0].id, "anna")
    assert (index.counts().studies, sha256(index)) == (1, first)
    counters_are_alive(index)


def counters_are_alive(index: Index) -> None:
    """Of what is not deleted."""
    with index.database.read() as connection:
        for row in connection.execute(select(t.series)).all():
            own = (t.instance.c.series_pk == row.pk, t.instance.c.deleted_at.is_(None))
            sizes = connection.scalars(select(t.instance.c.size).where(*own)).all()
            assert (len(sizes), sum(sizes), not sizes) == (row.number_of_instances, row.size, row.deleted_at is not None)


@pytest.mark.parametrize("purged", [False, True])
def test_what_was_deleted_as_wrong_can_be_accepted_when_it_is_right(archive: Archive, purged: bool) -> None:
    index = archive.index
    made_ = Deletions(index).delete(Scope("1.2.3", "1.2.3.4", ONE), Why("113001"), "x")
    if purged:
        deletion.purge(archive, made_.id, "x")
        work_off(archive)
    pk = refused(archive, made.instance(1, **RIGHT), Rejected)
    quarantine.accept(archive, pk, "anna")
    assert index.counts().instances == 2
    assert Deletions(index).one(made_.id).left == 0
    assert len(history(index)) == (not purged)
    # From now on it is as any other: the same again is there already, and a deletion of its own takes it.
    ingest(archive, made.instance(1, **RIGHT))
    work_off(archive)
    counters_are_alive(index)
    assert list(upkeep.verify(archive)) == []


def test_rejected_newcomers_stay_until_they_are_purged(archive: Archive) -> None:
    kept = KeptObjects(archive.index)
    pk = refused(archive, made.instance(1, **RIGHT))
    with pytest.raises(Settled, match="reject it first"):
        kept.purge(pk)
    assert kept.reject(pk, "anna").rejected_by == "anna"
    with pytest.raises(Settled, match="rejected already"):
        kept.reject(pk, "anna")
    assert refused(archive, made.instance(1, **RIGHT)) == pk
    assert (kept.one(pk).times, len(instances(archive))) == (2, 3)
    assert (kept.quarantined(rejected=False), len(kept.quarantined(rejected=True))) == ([], 1)
    kept.purge(pk)
    work_off(archive)
    assert (kept.quarantined(), len(instances(archive))) == ([], 2)
    assert list(upkeep.orphans(archive, grace=timedelta(0))) == []


@pytest.mark.parametrize(("days", "purged"), [(None, False), (30.0, False), (0.000001, True)])
def test_policy(archive: Archive, days: float | None, purged: bool) -> None:
    kept = KeptObjects(archive.index)
    waiting, rejected = refused(archive, made.instance(1, **RIGHT)), refused(archive, made.instance(2))
    kept.reject(rejected, "anna")
    until = datetime.now(UTC) + timedelta(seconds=0.2)
    while datetime.now(UTC) < until:
        pass
    for name, _seconds, run in processing.PERIODIC:
        if name == "purge":
            run(Work(archive, Settings(purge_days=days)))
    work_off(archive)
    assert [one.id for one in kept.quarantined()] == ([waiting] if purged else [waiting, rejected])
    assert len(instances(archive)) == (3 if purged else 4)


def test_a_hold_refuses(archive: Archive) -> None:
    pk = refused(archive, made.instance(1, **RIGHT))
    quarantine.accept(archive, pk, "anna")
    pk = refused(archive, made.instance(1, PatientID="X"))
    Holds(archive.index).add("1.2.3", "lawsuit", "anna")
    before = sha256(archive.index)
    for asked in (
        lambda: quarantine.accept(archive, pk, "x"),
        lambda: quarantine.restore(archive, KeptObjects(archive.index).history()[0].id, "x"),
    ):
        with pytest.raises(Held, match="lawsuit"):
            asked()
    assert sha256(archive.index) == before


# What is sent, and which attributes differ from what is stored: name, stored, sent.
DIFFERENCES: list[tuple[bytes, list[tuple[str, str | None, str | None]]]] = [
    (made.instance(1, **RIGHT), [("PatientName", "Wrong^Name", "Right^Name"), ("PatientID", "W", "R")]),
    (
        made.instance(1, PatientName="Wrong^Name", PatientID="W", StudyDescription="x" * 64, InstanceNumber=2),
        [("StudyDescription", None, "x" * 64), ("InstanceNumber", "1", "2")],
    ),
]


@pytest.mark.parametrize(("content", "differ"), DIFFERENCES)
def test_in_what_they_differ(archive: Archive, content: bytes, differ: list[tuple[str, str | None, str | None]]) -> None:
    found = quarantine.compare(archive, KeptObjects(archive.index).one(refused(archive, content)))
    assert found is not None
    assert [(one.name, one.stored, one.sent) for one in found] == differ


def test_pixels_that_differ_are_seen_by_their_digest(archive: Archive) -> None:
    ingest(archive, made.instance(9, side=64))
    content = bytearray(made.instance(9, side=64))
    content[-1] ^= 1
    (one,) = quarantine.compare(archive, KeptObjects(archive.index).one(refused(archive, bytes(content)))) or []
    assert (one.name, one.stored != one.sent) == ("PixelData", True)
    assert one.stored is not None
    assert one.stored.startswith("8192 bytes, SHA-256 ")


def test_compressed_frames_and_sequences_that_differ(archive: Archive) -> None:
    ingest(archive, made.rle(9, side=64))
    content = bytearray(made.rle(9, side=64))
    content[content.rindex(b"\xfe\xff\xdd\xe0") - 1] ^= 1
    (one,) = quarantine.compare(archive, KeptObjects(archive.index).one(refused(archive, bytes(content)))) or []
    assert (one.name, one.stored != one.sent) == ("PixelData", True)


def test_of_what_has_gone_there_is_nothing_to_compare(archive: Archive) -> None:
    pk = refused(archive, made.instance(1, **RIGHT))
    deletion.purge(archive, Deletions(archive.index).delete(Scope("1.2.3"), Why(), "x").id, "x")
    assert quarantine.compare(archive, KeptObjects(archive.index).one(pk)) is None
    quarantine.accept(archive, pk, "x")
    assert archive.index.counts().instances == 1


def test_the_api(archive: Archive) -> None:
    web = TestClient(
        Starlette(routes=admin.routes(archive, calling="LIGHTBOX")), base_url="http://pacs.test", raise_server_exceptions=False
    )
    pks = [refused(archive, made.instance(number, **{**RIGHT, "PatientID": "Z"})) for number in (1, 2)]
    first = web.get("/api/quarantine", params={"limit": 1}).json()
    assert [(one["id"], one["instance"], one["state"], one["source"]) for one in first["newcomers"]] == [(pks[0], ONE, "waiting", "import")]
    second = web.get("/api/quarantine", params={"limit": 1, "after": first["next"]}).json()
    assert [one["id"] for one in second["newcomers"]] == [pks[1]]
    shown = web.get(f"/api/quarantine/{pks[0]}").json()
    assert [one["name"] for one in shown["differences"]] == ["PatientName", "PatientID"]
    assert web.post(f"/api/quarantine/{pks[0]}/accept", headers=JSON).status_code == 200
    assert web.post(f"/api/quarantine/{pks[1]}/purge", headers=JSON).status_code == 409
    assert web.post(f"/api/quarantine/{pks[1]}/reject", headers=JSON).json()["state"] == "rejected"
    assert [one["id"] for one in web.get("/api/quarantine", params={"state": "rejected"}).json()["newcomers"]] == [pks[1]]
    assert web.post(f"/api/quarantine/{pks[1]}/purge", headers=JSON).status_code == 204
    assert web.get(f"/api/quarantine/{pks[1]}").status_code == 404
    (version,) = web.get("/api/history", params={"instance": ONE}).json()["versions"]
    assert web.post(f"/api/history/{version['id']}/restore", headers=JSON).status_code == 200
    assert version["sha256"] == sha256(archive.index)
    for path in ("/api/history/99/restore", "/api/quarantine/99/accept", "/api/quarantine/x/reject"):
        assert web.post(path, headers=JSON).status_code == 404
    assert web.get("/api/history?instance=%00").status_code == 400


def test_the_commands(pacs: Pacs, tmp_path: Path) -> None:
    def give(name: str, content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        pacs("import", str(tmp_path / name), status=1 if name != "first" else 0)

    give("first", made.instance(1))
    give("second", made.instance(1, PatientID="P2"))
    assert "the UID has other bytes, from import" in pacs("quarantine", "list")
    assert "PatientID" in pacs("quarantine", "show", "1")
    shown: Any = pacs.json("quarantine", "show", "1")
    assert [(one["stored"], one["sent"]) for one in shown["differences"]] == [("P1", "P2")]
    assert ONE in pacs("quarantine", "accept", "1")
    assert "Nothing is in quarantine." in pacs("quarantine", "list")
    listed: Any = pacs.json("history", "list")
    assert [one["instance"] for one in listed] == [ONE]
    assert ONE in pacs("history", "list", "--instance", ONE)
    assert "earlier version again" in pacs("history", "restore", "1")
    give("third", made.instance(1, PatientID="P3"))
    waiting: Any = pacs.json("quarantine", "list")
    (one,) = waiting
    assert "reject it first" in pacs("quarantine", "purge", str(one["id"]), status=1)
    assert "rejected" in pacs("quarantine", "reject", str(one["id"]))
    assert str(one["id"]) in pacs("quarantine", "list", "--rejected")
    assert "purged" in pacs("quarantine", "purge", str(one["id"]))
    assert "no earlier" in pacs("history", "list", "--instance", "9.9")
    assert "nothing of the number 9" in pacs("quarantine", "show", "9", status=1)


def test_a_rebuilt_index_knows_which_version_is_current(archive: Archive, tmp_path: Path) -> None:
    """The one that was accepted, not the oldest; the others are where they were."""
    index = archive.index
    quarantine.accept(archive, refused(archive, made.instance(1, **RIGHT)), "anna")
    refused(archive, made.instance(1, PatientID="third"))
    moved = made.instance(2, study="1.9", series="1.9.4", SOPInstanceUID="1.2.3.4.2")
    quarantine.accept(archive, refused(archive, moved), "anna")
    work_off(archive)
    assert len(list(archive.blobs.list())) == 5 + 2
    for other in rebuilt(archive, tmp_path):
        again = other.index
        assert everything(again) == everything(index)
        assert sorted(history(again)) == sorted(history(index))
        assert [one.sha256 for one in again.quarantined()] == [one.sha256 for one in index.quarantined()]
        for one in KeptObjects(again).history():
            quarantine.restore(other, one.id, "x")
        assert again.counts() == Counts(1, 1, 2, again.counts().bytes)
        counters_are_alive(again)
    # With one version left there is nothing to be said, and what is purged takes its versions with it.
    deletion.purge(archive, Deletions(index).delete(Scope("1.9"), Why(), "x").id, "x")
    deletion.purge(archive, Deletions(index).delete(Scope("1.2.3"), Why(), "x").id, "x")
    work_off(archive)
    assert [one.sha256 for one in index.quarantined()] == [blob.key.rpartition("/")[2][:-4] for blob in archive.blobs.list()]
