"""Rules of AE titles on what is received: over real associations, through the store, deletion, damage and a new index."""

from __future__ import annotations

import hashlib
import io
import random
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import FileDataset, dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from pacs import compose
from pacs.ae_titles import FRESH_SECONDS
from pacs.processing import Work, work_off
from pacs.settings import Settings
from storage import coercing, commitment, deletion, originals, quarantine, upkeep
from storage.archive import Archive
from storage.coercing import Coercion
from storage.coercion.rules import rules_of
from storage.deidentification.profile import profile_of
from storage.errors import Conflict, NotCoercible, NotFound, StoreFull
from storage.index.ae import AeTitle, OwnAe, Quirks, add_ae_title, add_own_ae, own_aes
from storage.index.deletions import Deletions
from storage.index.originals import Originals
from storage.index.secrets import secret_of
from storage.records import is_record
from storage.rejection import Why
from storage.types import Level, Outcome, Query, Scope, Source
from tests.support.archive import Store, close_archive, open_archive
from tests.support.dimse_peer import CT, Peer, message, status_of, store_rq
from tests.support.dimse_server import bare, serving, wait_until
from tests.support.made import instance, rle
from tests.support.serving import serving as running
from tests.test_scp import dcmtk, run

SOURCE = Source("dimse", calling_ae="CT1", called_ae="LIGHTBOX", address="10.0.0.5")
MARY = 'set InstitutionName "St. Mary"'
UID = "1.2.3.4.1"


def coercion(*lines: str) -> Coercion:
    return Coercion(rules_of(lines), system="LIGHTBOX", source="CT1")


def take(archive: Archive, data: bytes, *lines: str) -> coercing.Coerced:
    with archive.spool() as spool:
        spool.write(data)
        return coercing.ingest(archive, spool, SOURCE, coercion(*lines))


def stored(archive: Archive, uid: str = UID) -> bytes:
    (found,) = archive.index.instances([uid])
    return archive.blobs.read(found.object_key)


def received(archive: Archive, uid: str = UID) -> bytes:
    return b"".join(originals.stream(archive.index, archive.blobs, uid)[1])


def keys(archive: Archive) -> set[str]:
    return {blob.key for blob in archive.blobs.list() if not is_record(blob.key)}


def read(data: bytes) -> FileDataset:
    return dcmread(io.BytesIO(data))


@pytest.mark.parametrize(
    "made",
    [
        instance(),
        instance(syntax=ImplicitVRLittleEndian),
        instance(syntax=ExplicitVRBigEndian),
        instance(syntax=DeflatedExplicitVRLittleEndian),
        rle(),
        instance(pixels=False),
        instance(side=1024),
    ],
    ids=["explicit", "implicit", "big", "deflated", "rle", "no pixels", "large"],
)
def test_the_object_is_changed_and_what_came_is_kept(archive: Archive, made: bytes) -> None:
    """In whatever transfer syntax, which stays what it is; pixel data is not touched."""
    done = take(archive, made, MARY)
    assert done.tags == (0x00080080,)
    assert done.stored.outcome is Outcome.STORED
    found, before = read(stored(archive)), read(made)
    assert found.InstitutionName == "St. Mary"
    assert found.file_meta == before.file_meta
    assert found.get("PixelData") == before.get("PixelData")
    assert [one.ModifyingSystem for one in found.OriginalAttributesSequence] == ["LIGHTBOX"]
    assert received(archive) == made
    (one,) = Originals(archive.index).of_instance(UID)
    assert (one.sha256, one.size) == (hashlib.sha256(made).hexdigest(), len(made))
    assert list(upkeep.verify(archive)) == []


def test_what_no_rule_changes_is_kept_as_it_came(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    made = instance()

    def asked(*_: Any) -> None:
        raise AssertionError("nothing is looked up for what is not changed")

    monkeypatch.setattr(Originals, "received", asked)
    done = take(archive, made, MARY + ' where Modality = "MR"', "remove PatientComments")
    assert done.tags == ()
    assert stored(archive) == made
    assert Originals(archive.index).of_instance(UID) == []
    assert len(keys(archive)) == 1
    with pytest.raises(NotFound, match="it is as it was received"):
        originals.stream(archive.index, archive.blobs, UID)


def test_who_sends_it_again_is_told_that_it_is_there(archive: Archive, store: Store) -> None:
    """The same received bytes have the same outcome, by the same rules or by others, and by any way in."""
    made = instance()
    take(archive, made, MARY)
    before = stored(archive)
    for again in (MARY, 'set InstitutionName "Elsewhere"', "remove AccessionNumber"):
        done = take(archive, made, again)
        assert done.stored.outcome is Outcome.ALREADY
    assert store(made).outcome is Outcome.ALREADY
    assert store(before).outcome is Outcome.ALREADY
    assert stored(archive) == before
    assert len(keys(archive)) == 2
    assert archive.index.quarantined() == []
    assert list(upkeep.verify(archive)) == []


def test_other_bytes_are_a_conflict(archive: Archive, store: Store) -> None:
    take(archive, instance(), MARY)
    before, other = stored(archive), instance(StudyID="other")
    with pytest.raises(Conflict):
        take(archive, other, MARY)
    with pytest.raises(Conflict):
        store(instance(StudyID="yet another"))
    with pytest.raises(Conflict):
        take(archive, other, MARY)
    assert stored(archive) == before
    first, second = archive.index.quarantined()
    assert (first.times, second.times) == (2, 1)
    # The newcomer in quarantine has its original too, and keeps it when it is accepted.
    quarantine.accept(archive, first.id, "test")
    assert read(stored(archive)).StudyID == "other"
    assert received(archive) == other
    assert list(upkeep.verify(archive)) == []


def test_a_lost_object_is_repaired_by_sending_it_again(archive: Archive) -> None:
    made = instance()
    take(archive, made, MARY)
    before = stored(archive)
    (found,) = archive.index.instances([UID])
    archive.blobs.delete(found.object_key)
    assert take(archive, made, MARY).stored.outcome is Outcome.REPAIRED
    assert stored(archive) == before
    (one,) = Originals(archive.index).of_instance(UID)
    archive.blobs.delete(one.object_key)
    assert [finding.fault for finding in upkeep.verify(archive)] == [upkeep.Fault.MISSING]
    assert take(archive, made, MARY).stored.outcome is Outcome.ALREADY
    assert received(archive) == made


def test_a_lost_object_is_not_said_to_be_there_when_rules_have_changed(archive: Archive) -> None:
    made = instance()
    take(archive, made, MARY)
    (found,) = archive.index.instances([UID])
    archive.blobs.delete(found.object_key)
    with pytest.raises(Conflict):
        take(archive, made, 'set InstitutionName "Elsewhere"')


def _purged(archive: Archive) -> None:
    done = Deletions(archive.index).delete(Scope("1.2.3"), Why("", ""), "test")
    assert done is not None
    deletion.purge(archive, done.id, "test")
    work_off(Work(archive, Settings(data_dir=archive.spool_folder)))


def test_deletion_takes_the_original_along(archive: Archive) -> None:
    made = instance()
    take(archive, made, MARY)
    take(archive, instance(2), MARY)
    done = Deletions(archive.index).delete(Scope("1.2.3", "1.2.3.4", UID), Why("", ""), "test")
    # Deleted, nobody gets it; restored, it is there.
    with pytest.raises(NotFound):
        received(archive)
    Deletions(archive.index).restore(done.id, "test")
    assert received(archive) == made
    _purged(archive)
    assert keys(archive) == set()
    assert Originals(archive.index).page() == []
    # It may come again.
    assert take(archive, made, MARY).stored.outcome is Outcome.STORED


def test_a_purge_that_was_cut_short_goes_on(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """The object is gone, its original is not yet: the job runs again."""
    take(archive, instance(), MARY)
    (one,) = Originals(archive.index).of_instance(UID)

    def cut(*_: Any) -> None:
        raise StoreFull("the power went")

    with monkeypatch.context() as patched:
        patched.setattr(originals, "drop", cut)
        with pytest.raises(StoreFull):
            _purged(archive)
    assert keys(archive) == {one.object_key}
    deletion.remove_objects(archive, [one.made_key])
    assert keys(archive) == set()
    assert Originals(archive.index).page() == []


@pytest.mark.parametrize("fails", ["original", "made", "index"])
def test_what_fails_half_way_can_be_sent_again(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """The original is durable before what was made of it, and that before the index; nothing is said to be stored before."""
    made, put = instance(), archive.blobs.put

    def refuse(key: str, content: Any, **more: Any) -> bool:
        if originals.is_original(key) is (fails == "original"):
            raise StoreFull("no room")
        return put(key, content, **more)

    with monkeypatch.context() as patched:
        if fails == "index":
            patched.setattr(archive.index, "add", lambda *_, **__: (_ for _ in ()).throw(StoreFull("no room")))
        else:
            patched.setattr(type(archive.blobs), "put", lambda _self, *args, **more: refuse(*args, **more))
        with pytest.raises(StoreFull):
            take(archive, made, MARY)
    assert archive.index.counts().instances == 0
    assert len(keys(archive)) == {"original": 0, "made": 1, "index": 2}[fails]
    assert take(archive, made, MARY).stored.outcome is Outcome.STORED
    assert received(archive) == made
    # At most an orphan of the attempt before is left, and upkeep finds it.
    left = list(upkeep.remove_orphans(archive, grace=-upkeep.GRACE))
    assert len(left) <= 2
    assert received(archive) == made
    assert len(keys(archive)) == 2
    assert list(upkeep.verify(archive)) == []


def test_a_new_index_knows_originals_again(archive: Archive, tmp_path: Path, store: Store) -> None:
    made, other = instance(), instance(2, study="1.2.9", series="1.2.9.1")
    take(archive, made, MARY)
    take(archive, other, MARY)
    store(instance(3))
    before = {one.object_key: one for one in Originals(archive.index).page()}
    bare_index = open_archive(tmp_path / "again", blobs=archive.blobs)
    try:
        assert list(upkeep.rebuild(bare_index)) == []
        assert bare_index.index.counts().instances == 3
        assert {one.object_key: one for one in Originals(bare_index.index).page()} == before
        assert received(bare_index) == made
        assert take(bare_index, made, MARY).stored.outcome is Outcome.ALREADY
        assert list(upkeep.verify(bare_index)) == []
        assert list(upkeep.rebuild(bare_index)) == []
    finally:
        close_archive(bare_index)


def test_a_rebuild_tells_of_originals_whose_instance_is_gone(archive: Archive, tmp_path: Path) -> None:
    take(archive, instance(), MARY)
    (one,) = Originals(archive.index).page()
    archive.blobs.delete(one.made_key)
    again = open_archive(tmp_path / "again", blobs=archive.blobs)
    try:
        (finding,) = upkeep.rebuild(again)
        assert (finding.fault, finding.key) == (upkeep.Fault.ORPHAN, one.object_key)
    finally:
        close_archive(again)


def test_what_cannot_be_changed_is_not_stored(archive: Archive) -> None:
    with pytest.raises(NotCoercible):
        take(archive, instance()[:-2], MARY)
    assert keys(archive) == set()


def test_storage_commitment_is_given_for_what_was_changed(archive: Archive) -> None:
    """The UIDs are those that were sent."""
    take(archive, instance(), MARY)
    (checked,) = commitment.verify(archive, [commitment.Reference(CT, UID)])
    assert checked.failure is None


@pytest.mark.postgres
def test_on_postgresql(tmp_path: Path, postgres_database: str) -> None:
    archive = open_archive(tmp_path / "archive", database_url=postgres_database)
    try:
        made = instance()
        add_own_ae(archive.index, OwnAe("RESEARCH", coercion=rules_of([MARY]), profile=profile_of(["basic"])))
        assert own_aes(archive.index)[0].profile == profile_of(["basic"])
        assert secret_of(archive.index, "x") == secret_of(archive.index, "x") != secret_of(archive.index, "y")
        for expected in (Outcome.STORED, Outcome.ALREADY):
            assert take(archive, made, MARY).stored.outcome is expected
        with ThreadPoolExecutor(4) as pool:
            several = [pool.submit(take, archive, instance(number), MARY) for number in (2, 3, 2, 3, 2, 3)]
            assert {one.result().stored.outcome for one in several} <= {Outcome.STORED, Outcome.ALREADY, Outcome.REPAIRED}
        assert received(archive) == made
        _purged(archive)
        assert keys(archive) == set()
    finally:
        close_archive(archive)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nothing_acknowledged_is_lost_when_processes_are_killed(tmp_path: Path) -> None:
    """kill -9 while instances come: what was acknowledged is there, changed, with what was received beside it."""
    folder, chance = tmp_path / "data", random.Random(20261128)
    with compose.opened(Settings(data_dir=folder), migrate=True) as found:
        add_own_ae(found.archive.index, OwnAe("LIGHTBOX", coercion=rules_of([MARY])))
    acknowledged: dict[str, bytes] = {}
    over = threading.Event()
    with running(folder, "--only", "dimse") as served:
        sender = threading.Thread(target=_send, args=(served.dimse_port, over, acknowledged))
        sender.start()
        for _ in range(6):
            before = len(acknowledged)
            wait_until(lambda before=before: len(acknowledged) > before + 2, 30)  # type: ignore[misc]
            time.sleep(chance.uniform(0.0, 0.2))
            served.kill(served.pids("dimse"))
        over.set()
        sender.join(30)
    archive = open_archive(folder / "objects", database_url=f"sqlite:///{folder / 'index.sqlite'}")
    try:
        assert len(acknowledged) >= 18
        for uid, content in acknowledged.items():
            assert read(stored(archive, uid)).InstitutionName == "St. Mary"
            assert bare(received(archive, uid)) == bare(content)
        assert {finding.fault for finding in upkeep.verify(archive)} <= {upkeep.Fault.ORPHAN}
        assert archive.index.quarantined() == []
        list(upkeep.remove_orphans(archive, grace=timedelta(0)))
        assert len(keys(archive)) == 2 * archive.index.counts().instances
        assert list(upkeep.verify(archive)) == []
    finally:
        close_archive(archive)


def _send(port: int, over: threading.Event, acknowledged: dict[str, bytes]) -> None:
    """Send instance after instance, each again until it is acknowledged."""
    number = 1
    while not over.is_set():
        try:
            with Peer(port, timeout=5) as client:
                client.associate()
                while not over.is_set():
                    content = instance(number)
                    assert client.store(bare(content), f"1.2.3.4.{number}") == 0xB000
                    acknowledged[f"1.2.3.4.{number}"] = content
                    number += 1
        except (OSError, AssertionError, struct.error):
            time.sleep(0.05)


# Over associations


def rules(archive: Archive, *lines: str, own: tuple[str, ...] = (), silent: bool = False) -> None:
    add_ae_title(archive.index, AeTitle("CT1", "", 0, quirks=Quirks("", rules_of(lines), silent)))
    add_own_ae(archive.index, OwnAe("RESEARCH", coercion=rules_of(own)))


@pytest.mark.parametrize(
    ("calling", "called", "silent", "status", "offending", "institution"),
    [
        ("CT1", "LIGHTBOX", False, 0xB000, (0x00080080,), "St. Mary"),
        ("CT1", "LIGHTBOX", True, 0, None, "St. Mary"),
        ("CT1", "RESEARCH", False, 0xB000, (0x00080080, 0x00100040), "ST"),
        ("MR1", "RESEARCH", False, 0xB000, (0x00080080, 0x00100040), "ST"),
        ("MR1", "LIGHTBOX", False, 0, None, None),
    ],
)
def test_a_warning_says_what_was_changed(
    archive: Archive, calling: str, called: str, silent: bool, status: int, offending: Any, institution: str | None
) -> None:
    """PS3.4 B.2.3: B000, Coercion of Data Elements. Rules of the caller come first, then those of the called title."""
    rules(archive, MARY, own=('set InstitutionName "ST"', 'set PatientSex "O"'), silent=silent)
    made = instance()
    with serving(archive) as server, Peer(server.port) as client:
        client.associate(calling=calling, called=called)
        client.send(message(3, store_rq(CT, UID), bare(made)))
        answer, _ = client.answer()
    assert status_of(answer) == status
    assert answer.get(0x901) == (b"".join(struct.pack("<HH", one >> 16, one & 0xFFFF) for one in offending) if offending else None)
    assert read(stored(archive)).get("InstitutionName") == institution
    assert bool(Originals(archive.index).of_instance(UID)) == (institution is not None)


@dcmtk
def test_storescu_with_rules_that_change_while_it_runs(archive: Archive, tmp_path: Path) -> None:
    file = tmp_path / "ct.dcm"
    with serving(archive) as server:
        for number, (line, name) in enumerate([(MARY, "St. Mary"), ('set InstitutionName "Other"', "Other")], 1):
            rules(archive, line)
            time.sleep(FRESH_SECONDS * (number - 1))
            file.write_bytes(instance(number))
            done = run("storescu", "-d", "-aet", "CT1", "-aec", "LIGHTBOX", "127.0.0.1", str(server.port), file)
            assert done.returncode == 0, done.stderr
            assert "0xb000" in (done.stdout + done.stderr).lower()
            assert read(stored(archive, f"1.2.3.4.{number}")).InstitutionName == name
            got = read(received(archive, f"1.2.3.4.{number}"))
            assert got.get("InstitutionName") is None
            assert got == read(instance(number))


def test_the_character_set_that_a_node_does_not_name(archive: Archive) -> None:
    """It is the quirk that was there before, and rules read and write by it."""
    rules(archive)
    node = AeTitle("CT1", "", 0, quirks=Quirks("ISO_IR 100", rules_of(['set InstitutionName "É of Köln" where PatientName = "Müll*"'])))
    add_ae_title(archive.index, node)
    made = instance(SpecificCharacterSet="ISO_IR 100")
    made = made.replace(b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100", b"")
    with serving(archive) as server, Peer(server.port) as client:
        client.associate(calling="CT1")
        assert client.store(bare(made), UID) == 0xB000
    assert "É of Köln".encode("latin-1") in stored(archive)
    (found,) = archive.index.find(Query(Level.IMAGE, fields=None))
    assert found["00100010"]["Value"] == [{"Alphabetic": "Müller^Hans"}]
