"""The archive as user: plans of contexts, C-ECHO, C-FIND, C-MOVE, C-GET and C-STORE against another Lightbox, pynetdicom and DCMTK."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from typer.testing import CliRunner

from pacs.cli import app
from pacs.scu import delivery, querying
from pacs.scu.associating import (
    Destination,
    NothingAccepted,
    NotReached,
    Proposal,
    Rejection,
    associate,
)
from pacs.scu.committing import ask
from pacs.scu.delivery import plan
from pacs.scu.sources import Stored
from storage.archive import Archive
from storage.commitment import Reference
from storage.index.ae import AeTitle, add_ae_title
from storage.transfer_syntaxes import JPEG_BASELINE, LOSSLESS_TARGETS, RLE_LOSSLESS
from storage.types import Level, Scope
from tests.support.archive import Store, close_archive, ingest, open_archive
from tests.support.dimse_peer import CT, EXPLICIT, IMPLICIT, VERIFICATION
from tests.support.dimse_server import Serving, serving
from tests.support.made import instance
from tests.support.storage_scp import node

STUDY_UID = "0020000D"
JPEG_LS = "1.2.840.10008.1.2.4.80"
J2K_LOSSY = "1.2.840.10008.1.2.4.91"
H264 = "1.2.840.10008.1.2.4.102"
MR = "1.2.840.10008.5.1.4.1.1.4"


def uids(*values: str) -> dict[str, Any]:
    return {STUDY_UID: {"vr": "UI", "Value": list(values)}}


@pytest.mark.parametrize(
    ("kinds", "preferred", "expected"),
    [
        ([], (), [[]]),
        ([(CT, EXPLICIT)], (), [[(CT, EXPLICIT), (CT, IMPLICIT)]]),
        ([(CT, IMPLICIT)], (), [[(CT, IMPLICIT), (CT, EXPLICIT)]]),
        ([(CT, JPEG_LS)], (), [[(CT, JPEG_LS), (CT, EXPLICIT), (CT, IMPLICIT)]]),
        ([(CT, EXPLICIT)], (JPEG_LS,), [[(CT, JPEG_LS), (CT, EXPLICIT), (CT, IMPLICIT)]]),
        ([(MR, EXPLICIT), (CT, EXPLICIT)], (), [[(one, two) for one in (CT, MR) for two in (EXPLICIT, IMPLICIT)]]),
    ],
)
def test_plan(kinds: list[tuple[str, str]], preferred: tuple[str, ...], expected: list[list[tuple[str, str]]]) -> None:
    """Of each class at last a context for what can be encoded, for a node that takes nothing else."""
    planned = plan(kinds, preferred)
    alone = [[one for one in proposals if len(one.transfer_syntaxes) == 1] for proposals in planned]
    assert alone == [[Proposal(one, (two,)) for one, two in proposals] for proposals in expected]
    for proposals in planned:
        for sop_class in {one.abstract_syntax for one in proposals}:
            of_class = [one.transfer_syntaxes for one in proposals if one.abstract_syntax == sop_class]
            named = [syntax for syntaxes in of_class[:-1] for syntax in syntaxes]
            assert of_class[-1] == tuple(syntax for syntax in LOSSLESS_TARGETS if syntax not in named)


def test_a_plan_of_many_classes_keeps_each_on_one_association() -> None:
    planned = plan([(f"1.2.{number}", JPEG_LS) for number in range(100)])
    assert [len(one) for one in planned] == [128, 128, 128, 16]
    places = {(one.abstract_syntax, n) for n, proposals in enumerate(planned) for one in proposals}
    assert len(places) == 100


def test_what_a_node_comments_is_for_who_sends_and_not_for_logs(
    archive: Archive, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """An Error Comment may name a patient (RELIABILITY 25)."""

    def refuse(_event: Any, _number: int) -> Any:
        refused = Dataset()
        refused.Status, refused.ErrorComment = 0xC123, "no Doe^Jane here"
        return refused

    store(instance(1))
    (one,) = archive.index.locate(Scope("1.2.3"))
    with node() as target:
        target.behave = refuse
        destination = Destination("NODE", "127.0.0.1", target.port, calling_ae="LIGHTBOX")
        with delivery.Delivery(Stored(archive), destination, [(CT, EXPLICIT)]) as sending:
            outcome = sending.send(one)
    assert (outcome.status, outcome.reason, outcome.comment) == (0xC123, "the peer answered C123: it cannot understand, or process, what was sent", "no Doe^Jane here")
    logged = capsys.readouterr()
    assert "the peer answered C123" in logged.out
    assert "Doe" not in logged.out + logged.err


def test_what_was_not_planned_gets_an_association_of_its_own(archive: Archive, store: Store) -> None:
    store(instance(1))
    store(instance(2, sop_class=MR))
    first, second = archive.index.locate(Scope("1.2.3"))
    with node([(CT, [EXPLICIT]), (MR, [EXPLICIT])]) as target:
        destination = Destination("NODE", "127.0.0.1", target.port, calling_ae="LIGHTBOX")
        with delivery.Delivery(Stored(archive), destination, [(CT, EXPLICIT)]) as sending:
            assert [sending.send(first, second).status, sending.send(second).status] == [0, 0]
        assert (target.associations, target.uids) == (2, ["1.2.3.4.1", "1.2.3.4.2"])


# What the node takes, what the administrator has named of it, and what it gets: nothing, or in which syntax.
WITH_LOSS = (
    ([J2K_LOSSY], (), ""), ([J2K_LOSSY], (J2K_LOSSY,), J2K_LOSSY), ([J2K_LOSSY, IMPLICIT], (J2K_LOSSY,), IMPLICIT),
    ([J2K_LOSSY, JPEG_LS], (J2K_LOSSY,), JPEG_LS), ([JPEG_BASELINE, J2K_LOSSY], (JPEG_BASELINE, J2K_LOSSY), J2K_LOSSY),
    ([J2K_LOSSY], (JPEG_BASELINE,), ""),
)  # fmt: skip


@pytest.mark.parametrize(("takes", "named", "expected"), WITH_LOSS)
def test_with_loss_only_where_it_is_allowed_and_nothing_else_is_left(
    archive: Archive, store: Store, takes: list[str], named: tuple[str, ...], expected: str
) -> None:
    """JPEG Baseline cannot hold sixteen bits. What arrives is another instance, and says so in command and data set."""
    store(instance(1, side=70))
    (one,) = archive.index.locate(Scope("1.2.3"))
    with node([(CT, takes)]) as target:
        destination = Destination("NODE", "127.0.0.1", target.port, calling_ae="LIGHTBOX", syntaxes=named)
        with delivery.Delivery(Stored(archive), destination, [(CT, EXPLICIT)]) as sending:
            assert (sending.send(one).status == 0) == bool(expected)
        assert target.syntaxes == ([expected] if expected else [])
        lost = expected == J2K_LOSSY
        for request, received in zip(target.requests, target.received, strict=True):
            assert request.AffectedSOPInstanceUID == received.SOPInstanceUID
            assert (received.SOPInstanceUID != one.uids.instance) == lost
            assert (received.get("LossyImageCompression") == "01") == lost


@pytest.mark.parametrize(
    ("preferred", "expected"),
    [((), EXPLICIT), ((IMPLICIT,), IMPLICIT), ((JPEG_LS, IMPLICIT), JPEG_LS), ((H264, IMPLICIT), IMPLICIT)],
)
def test_what_a_node_likes_better(
    archive: Archive, store: Store, preferred: tuple[str, ...], expected: str
) -> None:
    """Its preferences come first, as far as they can be had without loss; then what is stored."""
    store(instance(1))
    (one,) = archive.index.locate(Scope("1.2.3"))
    with node([(CT, [JPEG_LS, EXPLICIT, IMPLICIT])]) as target:
        destination = Destination("NODE", "127.0.0.1", target.port, calling_ae="LIGHTBOX", syntaxes=preferred)
        with delivery.Delivery(Stored(archive), destination, [(CT, EXPLICIT)]) as sending:
            assert sending.send(one).status == 0
        assert target.syntaxes == [expected]


@pytest.mark.parametrize("syntax", LOSSLESS_TARGETS)
def test_a_node_that_takes_one_compressed_syntax_only(archive: Archive, store: Store, syntax: str) -> None:
    store(instance(1, side=64))
    (one,) = archive.index.locate(Scope("1.2.3"))
    with node([(CT, [syntax])]) as target:
        destination = Destination("NODE", "127.0.0.1", target.port, calling_ae="LIGHTBOX")
        with delivery.Delivery(Stored(archive), destination, [(CT, EXPLICIT)]) as sending:
            assert sending.send(one).status == 0
        assert target.syntaxes == [syntax]
        assert target.received[0].SOPInstanceUID == "1.2.3.4.1"
        if syntax == JPEG_LS:
            received = target.received[0]
            received.file_meta = FileMetaDataset()
            received.file_meta.TransferSyntaxUID = UID(syntax)
            assert (received.pixel_array == 100).all()


def test_what_cannot_be_compressed_goes_another_way(archive: Archive, store: Store) -> None:
    """A segmentation of single bits to a node that likes JPEG-LS better: the next that can hold it."""
    store(instance(1, side=8, BitsAllocated=1, BitsStored=1, HighBit=0, PixelData=b"\x55" * 8))
    (one,) = archive.index.locate(Scope("1.2.3"))
    with node([(CT, [JPEG_LS, RLE_LOSSLESS])]) as target:
        destination = Destination("NODE", "127.0.0.1", target.port, calling_ae="LIGHTBOX", syntaxes=(JPEG_LS, RLE_LOSSLESS))
        with delivery.Delivery(Stored(archive), destination, [(CT, EXPLICIT)]) as sending:
            assert sending.send(one).status == 0
        assert target.syntaxes == [RLE_LOSSLESS]


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Archive]:
    """Another archive."""
    opened = open_archive(tmp_path / "there")
    yield opened
    close_archive(opened)


@pytest.fixture
def other(there: Archive) -> Iterator[Serving]:
    with serving(there, ae_title="OTHER") as running:
        yield running


def to(server: Serving, title: str = "OTHER", **more: Any) -> Destination:
    return Destination(title, "127.0.0.1", server.port, calling_ae="LIGHTBOX", **more)


def fill(archive: Archive, *files: bytes) -> None:
    for data in files:
        ingest(archive, data)


def test_echo(other: Serving) -> None:
    querying.echo(to(other))
    other.told.wait("ended", "released")


@pytest.mark.parametrize(
    ("destination", "error", "said"),
    [
        ({"title": "WRONG"}, Rejection, "it is not called 'WRONG'"),
        ({"host": "no-such-host.invalid"}, NotReached, "cannot be reached"),
        ({"port": 1}, NotReached, "cannot be reached"),
    ],
)
def test_what_cannot_be_reached_says_why(
    other: Serving, destination: dict[str, Any], error: type[Exception], said: str
) -> None:
    given = {"title": "OTHER", "host": "127.0.0.1", "port": other.port, **destination}
    with pytest.raises(error, match=said):
        querying.echo(Destination(**given, calling_ae="LIGHTBOX"))


@pytest.mark.parametrize(
    ("result", "source", "reason", "said"),
    [
        (1, 1, 1, "it gives no reason: its own log may; it may not know 'LIGHTBOX'"),
        (1, 1, 3, "it does not know our AE title 'LIGHTBOX'"),
        (1, 2, 1, "wants to be told the user"),
        (2, 3, 2, "as many associations as it allows"),
        (1, 1, 9, r"with result 1, source 1, reason 9 \(PS3.8 9.3.4\)"),
    ],
)
def test_a_rejection_is_told_in_words(result: int, source: int, reason: int, said: str) -> None:
    """PS3.8 table 9-21, from a node that does nothing else."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reject() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(bytes((3, 0, 0, 0, 0, 4, 0, result, source, reason)))
                connection.recv(1)

        threading.Thread(target=reject, daemon=True).start()
        with pytest.raises(Rejection, match=said):
            querying.echo(Destination("OTHER", "127.0.0.1", listener.getsockname()[1], "LIGHTBOX"))


def test_no_context_accepted(other: Serving) -> None:
    with pytest.raises(NothingAccepted, match=r"1\.2\.840\.10008\.5\.1\.1\.9"):
        associate(to(other), [Proposal("1.2.840.10008.5.1.1.9", (IMPLICIT,))])


def test_what_is_no_dicom_node() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        destination = Destination("WEB", "127.0.0.1", listener.getsockname()[1], "LIGHTBOX", answer_seconds=0.3)
        with pytest.raises(NotReached, match="gave no answer"):
            associate(destination, [Proposal(VERIFICATION, (IMPLICIT,))])


def test_find(other: Serving, there: Archive) -> None:
    fill(there, *(instance(1, study=f"1.2.{n}", series=f"1.2.{n}.1", PatientName="Yamada^Tarou=山田^太郎") for n in range(5)))
    name = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Yamada*"}]}}
    found = list(querying.find(to(other), Level.STUDY, {**name, STUDY_UID: {"vr": "UI"}}))
    assert sorted(one[STUDY_UID]["Value"][0] for one in found) == [f"1.2.{n}" for n in range(5)]
    assert found[0]["00100010"]["Value"][0]["Ideographic"] == "山田^太郎"
    assert len(list(querying.find(to(other), Level.STUDY, name, most=2))) == 2
    for _ in range(2):
        other.told.wait("ended", "released")


def test_find_failed(other: Serving) -> None:
    with pytest.raises(querying.Failed, match="OTHER answers the C-FIND with A900"):
        list(querying.find(to(other), Level.SERIES, {}))


def test_an_iterator_that_is_left_ends_the_association(other: Serving, there: Archive) -> None:
    fill(there, *(instance(1, study=f"1.2.{n}", series=f"1.2.{n}.1") for n in range(5)))
    matches = querying.find(to(other), Level.STUDY, {STUDY_UID: {"vr": "UI"}})
    next(matches)
    matches.close()  # type: ignore[attr-defined]
    other.told.wait("ended", "aborted by peer")


def test_get(other: Serving, there: Archive, archive: Archive) -> None:
    files = [instance(1), instance(2), instance(1, series="1.2.3.5", syntax=IMPLICIT)]
    fill(there, *files)
    seen: list[int] = []
    ended = querying.get(to(other), Level.STUDY, uids("1.2.3"), archive, lambda now: seen.append(now.completed))
    assert (ended.status, ended.completed, ended.failed) == (0, 3, 0)
    assert seen == [1, 2, 3, 3]
    assert archive.index.counts().instances == 3
    theirs = {one.uids.instance: one for one in there.index.locate(Scope("1.2.3"))}
    for one in archive.index.locate(Scope("1.2.3")):
        assert one.transfer_syntax_uid == theirs[one.uids.instance].transfer_syntax_uid, "as it is stored there"
        ours = archive.blobs.read(one.object_key, one.dataset_offset)
        assert ours == there.blobs.read(theirs[one.uids.instance].object_key, theirs[one.uids.instance].dataset_offset)


def test_get_from_a_node_that_says_nothing_of_its_classes(archive: Archive) -> None:
    """pynetdicom as provider: no C-FIND, and the common classes are asked for."""
    dataset = dcmread(BytesIO(instance()))

    def handle(_event: Any) -> Iterator[Any]:
        yield 1
        yield 0xFF00, dataset

    entity: Any = ApplicationEntity
    entity = entity(ae_title="OTHER")
    entity.add_supported_context("1.2.840.10008.5.1.4.1.2.2.3")
    entity.add_supported_context(CT, EXPLICIT, scu_role=True, scp_role=True)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_GET, handle)])
    try:
        destination = Destination("OTHER", "127.0.0.1", server.socket.getsockname()[1], "LIGHTBOX")
        ended = querying.get(destination, Level.STUDY, uids("1.2.3"), archive)
    finally:
        server.shutdown()
    assert (ended.status, ended.completed) == (0, 1)
    assert archive.index.counts().instances == 1


def test_move(other: Serving, there: Archive) -> None:
    fill(there, instance(1), instance(2))
    with node() as target:
        add_ae_title(there.index, AeTitle("NODE", "127.0.0.1", target.port))
        ended = querying.move(to(other), Level.STUDY, uids("1.2.3"), "NODE")
        assert (ended.status, ended.completed, sorted(target.uids)) == (0, 2, ["1.2.3.4.1", "1.2.3.4.2"])
    with pytest.raises(querying.Failed, match="A801 unknown AE NOBODY"):
        querying.move(to(other), Level.STUDY, uids("1.2.3"), "NOBODY")


# Commands


class Pacs:
    """Runs commands against an archive of this test's own."""

    def __call__(self, *arguments: str, status: int = 0) -> str:
        done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert done.exit_code == status, f"{done.exit_code}: {done.stdout}{done.stderr}"
        return done.stdout or done.stderr

    def json(self, *arguments: str, status: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", status=status))


@pytest.fixture
def pacs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pacs]:
    for name in list(os.environ):
        if name.startswith("PACS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PACS_DATA_DIR", str(tmp_path / "data"))
    umask = os.umask(0o022)
    yield Pacs()
    os.umask(umask)


@pytest.fixture
def known(pacs: Pacs, other: Serving) -> None:
    pacs("ae", "add", "OTHER", "127.0.0.1", str(other.port))


@pytest.mark.usefixtures("known")
def test_send_files_find_and_fetch(pacs: Pacs, there: Archive, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(1, 6):
        (folder / f"IM{number}").write_bytes(instance(number))
    (folder / "notes.txt").write_text("no image")
    assert pacs.json("send", "OTHER", str(folder), "--parallel", "2") == {
        "completed": 5,
        "warning": 0,
        "failed": 0,
        "failures": [],
    }
    assert there.index.counts().instances == 5
    (found,) = pacs.json("find", "OTHER", "PatientID=P1", "StudyDate=20240101-20240103", "AccessionNumber")
    assert found["00080050"]["Value"] == ["A1"]
    assert "1.2.3" in pacs("find", "OTHER", "PatientName=M?ller*")
    assert pacs("find", "OTHER", "PatientID=NOBODY") == "Nothing found.\n"
    assert pacs.json("find", "OTHER", "StudyInstanceUID=1.2.3", "--level", "series")[0]["0020000E"]["Value"] == ["1.2.3.4"]
    assert pacs("fetch", "OTHER", "--study", "1.2.3") == "5 fetched, 0 failed, 0 with warnings\n"
    assert pacs.json("fetch", "OTHER", "--study", "1.2.3", "--series", "1.2.3.4")["completed"] == 5
    assert pacs("fetch", "OTHER", "1.2.3", "9.9", status=1) == (
        "5 fetched, 0 failed, 0 with warnings\nOTHER knows no study 9.9, or does not show it to LIGHTBOX: pacs find OTHER says what it has\n"
    )
    assert pacs.json("fetch", "OTHER", "9.9", status=1)["missing"] == ["9.9"]
    # What is here now can be sent on.
    assert pacs.json("send", "OTHER", "--study", "1.2.3")["completed"] == 5


@pytest.mark.usefixtures("known")
def test_send_and_ask_for_commitment(pacs: Pacs, there: Archive, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.dcm" for number in (1, 2)]
    for number, file in enumerate(files, 1):
        file.write_bytes(instance(number))
    sent = pacs.json("send", "OTHER", *map(str, files), "--commit")
    assert (sent["completed"], sent["committed"], sent["uncommitted"], sent["failures"]) == (2, 2, 0, [])
    lost, _ = there.index.locate(Scope("1.2.3"))
    reported = ask(to_known(pacs), [Reference(CT, "1.2.3.4.1"), Reference(CT, "9.9")])
    assert reported is not None
    assert (reported.committed, reported.failed) == ({"1.2.3.4.1"}, {"9.9": 0x0112})
    there.blobs.delete(lost.object_key)
    reported = ask(to_known(pacs), [Reference(CT, lost.uids.instance)])
    assert reported is not None
    assert reported.failed == {lost.uids.instance: 0x0112}


def to_known(pacs: Pacs) -> Destination:
    (row,) = pacs.json("ae", "list")
    return Destination(row["title"], row["host"], row["port"], calling_ae="LIGHTBOX", answer_seconds=10)


def test_a_report_that_does_not_come(archive: Archive) -> None:
    """An archive that takes the request and reports elsewhere, or never: we wait our time, and say so."""
    entity: Any = ApplicationEntity
    entity = entity(ae_title="OTHER")
    entity.add_supported_context("1.2.840.10008.1.20.1")
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_ACTION, lambda _: (0, None))])
    try:
        destination = Destination("OTHER", "127.0.0.1", server.socket.getsockname()[1], "LIGHTBOX", answer_seconds=0.3)
        assert ask(destination, [Reference(CT, "1.2.3")]) is None
    finally:
        server.shutdown()


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("send", "NOBODY", "--study", "1.2"), 1, "there is no node 'NOBODY': pacs ae add NOBODY HOST PORT"),
        (("send", "OTHER", "--study", "9.9"), 1, "nothing is stored of study 9.9"),
        (("send", "OTHER"), 1, "give either files or --study"),
        (("find", "OTHER", "Nonsense=1"), 1, "there is no attribute 'Nonsense'"),
        (("send", "OTHER", "1.2.3"), 1, "a stored study is sent with pacs send OTHER --study 1.2.3"),
        (("send", "OTHER", "nothing.dcm"), 1, "there is no file nothing.dcm: give files"),
        (("fetch", "OTHER"), 1, "give the Study Instance UID"),
        (("fetch", "OTHER", "9.9"), 1, "OTHER knows no study 9.9, or does not show it to LIGHTBOX"),
        (("fetch", "OTHER", "--study", "9.9", "--series", "9.9.1"), 1, "OTHER knows no series 9.9.1, or"),
        (("fetch", "OTHER", "--study", "9.9", "--move"), 1, "A801 unknown AE LIGHTBOX"),
    ],
)
def test_what_cannot_be_done(pacs: Pacs, arguments: tuple[str, ...], status: int, said: str) -> None:
    assert said in pacs(*arguments, status=status)


@pytest.mark.usefixtures("known")
def test_files_that_cannot_be_sent_are_named(pacs: Pacs, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "good.dcm").write_bytes(instance())
    (folder / "empty.dcm").write_bytes(b"")
    (folder / "broken.dcm").write_bytes(bytes(128) + b"DICM" + b"\2\0\0\0UL\4\0")
    sent = pacs.json("send", "OTHER", str(folder), status=1)
    assert (sent["completed"], sent["failed"]) == (1, 2)
    assert sorted(Path(one["instance"]).name for one in sent["failures"]) == ["broken.dcm", "empty.dcm"]


def test_a_node_that_is_full(pacs: Pacs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(delivery, "_REPEAT_SECONDS", 0.01)
    file = tmp_path / "one.dcm"
    file.write_bytes(instance())
    with node(title="FULL") as full:
        full.behave = lambda _event, _number: 0xA700
        pacs("ae", "add", "FULL", "127.0.0.1", str(full.port))
        sent = pacs.json("send", "FULL", str(file), status=1)
    assert "A700" in sent["failures"][0]["reason"]
    assert len(full.requests) == 2, "asked once more"
