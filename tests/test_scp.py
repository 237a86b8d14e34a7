"""The DIMSE services end to end: DCMTK's clients and a peer of raw bytes against a real archive."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import FileDataset, dcmread
from pydicom.dataset import Dataset
from pynetdicom.ae import ApplicationEntity

from pacs.scp.server import DimseServer, listening_socket
from pacs.scp.settings import DimseSettings
from storage.archive import Archive
from storage.errors import LightboxError
from storage.part10 import file_meta, read_meta
from storage.scanner import scan
from storage.types import Scope
from tests.support import dimse_peer as peer
from tests.support.archive import Store
from tests.support.corpus import CorpusFile, corpus_file, corpus_files, examples
from tests.support.dimse_peer import CT, EXPLICIT, IMPLICIT, PATIENT_ROOT, STUDY_ROOT, VERIFICATION, Peer
from tests.support.dimse_server import Serving, bare, serving, spooled, wait_until
from tests.support.made import VIDEO, encapsulated, instance

# Debian's, by its full name: other programs are called the same.
DCMTK = Path("/usr/bin")
dcmtk = pytest.mark.dcmtk


@pytest.fixture
def server(archive: Archive) -> Iterator[Serving]:
    with serving(archive) as running:
        yield running


def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    if not shutil.which(program, path=str(DCMTK)):
        pytest.skip(f"DCMTK's {program} is not installed: nothing is tested with it")
    command = [str(DCMTK / program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={"TCP_NODELAY": "1"})


# C-ECHO


@dcmtk
@pytest.mark.parametrize("option", [(), ("-pts", "38"), ("--repeat", "20"), ("--max-pdu", "4096")])
def test_echoscu(server: Serving, option: tuple[str, ...]) -> None:
    done = run("echoscu", *option, "-aec", "LIGHTBOX", "127.0.0.1", str(server.port))
    assert done.returncode == 0, done.stderr
    server.told.wait("ended", "released")


@dcmtk
def test_wrong_called_ae_title(server: Serving) -> None:
    done = run("echoscu", "-aec", "SOMEBODY", "127.0.0.1", str(server.port))
    assert done.returncode != 0
    assert "Called AE Title Not Recognized" in done.stderr
    server.told.wait("rejected", "called AE")


def test_any_called_ae_title(archive: Archive) -> None:
    with serving(archive, any_called_ae=True) as server, Peer(server.port) as client:
        client.associate(called="SOMEBODY")
        assert client.echo() == 0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"called": "OTHER"}, "00010107"),
        ({"calling": ""}, "00010103"),
        ({"application": "1.2.3"}, "00010102"),
        ({"version": 2}, "00010202"),
    ],
)
def test_rejections(server: Serving, given: dict[str, Any], expected: str) -> None:
    with Peer(server.port) as client:
        client.send(peer.associate(**given))
        assert client.pdu() == (3, bytes.fromhex(expected))
        assert client.pdu() == (0, b""), "and then the connection is closed"


def test_too_many_associations(archive: Archive) -> None:
    with serving(archive, max_associations=2) as server, Peer(server.port) as first, Peer(server.port) as second:
        first.associate()
        second.associate()
        with Peer(server.port) as third:
            third.send(peer.associate())
            assert third.pdu() == (3, bytes.fromhex("00020302")), "local limit exceeded, transient"
        server.told.wait("rejected", "limit")
        first.release()
        wait_until(lambda: server.server.associations == 1)
        with Peer(server.port) as fourth:
            fourth.associate()
            assert fourth.echo() == 0
        assert second.echo() == 0


# C-STORE


@pytest.mark.parametrize("size", [1, 7, 1000, 16000])
def test_store(server: Serving, archive: Archive, size: int) -> None:
    data = bare(instance())
    with Peer(server.port) as client:
        client.associate(calling="MODALITY")
        client.send(peer.message(3, peer.store_rq(CT, "1.2.3.4.1", 77), data, size=size))
        answer, no_data = client.answer()
        client.release()
    assert peer.status_of(answer) == 0
    assert (answer[0x100], answer[0x120], answer[0x800]) == (b"\x01\x80", b"\x4d\x00", b"\x01\x01")
    assert (answer[0x002].rstrip(b"\0").decode(), answer[0x1000].rstrip(b"\0")) == (CT, b"1.2.3.4.1")
    assert no_data == b""
    (located,) = archive.index.locate(Scope("1.2.3"))
    expected = file_meta(CT, "1.2.3.4.1", EXPLICIT, source_ae="MODALITY") + data
    assert archive.blobs.read(located.object_key) == expected
    assert dcmread(BytesIO(expected)).file_meta.SourceApplicationEntityTitle == "MODALITY"
    server.told.wait("stored", 0, len(expected))
    server.told.wait("ended", "released")
    assert spooled(archive) == []


def test_many_instances_on_one_association(server: Serving, archive: Archive) -> None:
    with Peer(server.port) as client:
        client.associate()
        for number in range(1, 31):
            data = bare(instance(number))
            assert client.store(data, f"1.2.3.4.{number}", message_id=number) == 0
            assert archive.index.counts().instances == number, "found as soon as it is acknowledged"
        client.release()


def test_requests_that_do_not_wait_for_answers(server: Serving, archive: Archive) -> None:
    """PS3.7 D.3.3.3: with an asynchronous operations window they come one behind the other, and are answered in that order."""
    window = peer.user(16384, peer.item(0x53, b"\0\0\0\0"))
    with Peer(server.port) as client:
        assert peer.item(0x53, b"\0\x10\0\1") in client.associate(user_item=window)
        for number in range(1, 9):
            data = bare(instance(number))
            client.send(peer.message(3, peer.store_rq(CT, f"1.2.3.4.{number}", number), data))
        client.send(peer.message(1, peer.echo_rq(99)))
        answers = [client.answer()[0] for _ in range(9)]
        client.release()
    assert [int.from_bytes(one[0x120], "little") for one in answers] == [*range(1, 9), 99]
    assert {peer.status_of(one) for one in answers} == {0}
    assert archive.index.counts().instances == 8


@pytest.mark.parametrize(
    ("command", "data", "expected", "commented"),
    [
        # (SOP class, instance) of the command; None is a good data set.
        ((CT, "1.2.3.4.1 "), None, 0x0000, ""),
        ((CT, "1.2.3.4.1\0\0\0"), None, 0x0000, ""),
        ((CT, "1.2.3.4.2"), None, 0xA900, "the command names"),
        (("1.2.840.10008.5.1.4.1.1.4", "1.2.3.4.1"), None, 0xA900, "the command names"),
        ((CT, ""), None, 0xA900, "no Affected SOP Class or Instance UID"),
        (("", "1.2.3.4.1"), None, 0xA900, "no Affected SOP Class or Instance UID"),
        ((CT, "1.2.3.4.1"), b"", 0xC000, ""),
        ((CT, "1.2.3.4.1"), b"this is no DICOM, whatever it may be", 0xC000, ""),
        ((CT, "1.2.3.4.1"), bytes(4096), 0xC000, ""),
        ((CT, "1.2.3.4.1"), peer.element(0x00080016, CT), 0xA900, "SOP Instance UID is missing"),
    ],
)
def test_statuses_of_store(
    server: Serving, command: tuple[str, str], data: bytes | None, expected: int, commented: str
) -> None:
    good = bare(instance())
    with Peer(server.port) as client:
        client.associate()
        client.send(peer.message(3, peer.store_rq(*command), good if data is None else data))
        answer, _ = client.answer()
        assert peer.status_of(answer) == expected
        comment = answer.get(0x902, b"").decode().rstrip()
        assert commented in comment
        assert len(comment) <= 64
        assert bool(comment) is (expected != 0)
        # The association goes on, whatever happened.
        assert client.store(good, "1.2.3.4.1", message_id=2) == 0
        client.release()


def test_other_bytes_under_the_same_uid(server: Serving, archive: Archive) -> None:
    first, other = bare(instance()), bare(instance(PatientID="P2"))
    with Peer(server.port) as client:
        client.associate()
        assert [client.store(data, "1.2.3.4.1") for data in (first, first, other)] == [0, 0, 0x0111]
    assert len(archive.index.quarantined()) == 1


def test_an_object_over_the_limit_is_drained_and_answered(archive: Archive) -> None:
    small = replace(archive, max_object_bytes=100_000)
    with serving(small) as server, Peer(server.port) as client:
        client.associate()
        assert client.store(bytes(3_000_000), "1.2") == 0xC000
        assert client.store(bare(instance()), "1.2.3.4.1") == 0
        client.release()
    assert spooled(archive) == []


def test_an_error_of_our_own_is_a_processing_failure(archive: Archive) -> None:
    class Broken:
        index = archive.index
        calls = 0

        def spool(self) -> Any:
            return archive.spool()

        def ingest(self, *_args: Any, **_more: Any) -> None:
            self.calls += 1
            if self.calls == 1:
                raise ZeroDivisionError("Doe^Jane")

    with serving(Broken()) as server, Peer(server.port) as client:  # type: ignore[arg-type]
        client.associate()
        client.send(peer.message(3, peer.store_rq(CT, "1.2"), b"data"))
        answer, _ = client.answer()
        assert peer.status_of(answer) == 0x0110
        assert b"Doe" not in answer[0x902]
        assert client.store(b"data", "1.2") == 0


def test_a_store_without_data_set(server: Serving) -> None:
    with Peer(server.port) as client:
        client.associate()
        client.send(peer.message(3, peer.store_rq(CT, "1.2.3", data_set=0x0101)))
        assert peer.status_of(client.answer()[0]) == 0xC000
        assert client.echo() == 0


# What is not served


@pytest.mark.parametrize(
    ("identifier", "command", "expected"),
    [
        (1, peer.store_rq(CT, "1.2", data_set=0x101), 0x0122),
        (3, peer.echo_rq(), 0x0122),
        (3, peer.find_rq(data_set=0x101), 0x0122),
        (5, peer.store_rq(CT, "1.2", data_set=0x101), 0x0122),
        (5, peer.command({0x002: STUDY_ROOT, 0x100: 0x0021, 0x110: 1, 0x600: "X", 0x700: 0, 0x800: 0x101}), 0x0122),
        (1, peer.command({0x100: 0x0140, 0x110: 1, 0x800: 0x101}), 0x0122),
        (1, peer.command({0x100: 0x0150, 0x110: 1, 0x800: 0x101}), 0x0211),
        (1, peer.command({0x100: 0x0666, 0x110: 1, 0x800: 0x101}), 0x0211),
        (5, peer.find_rq(data_set=0x101), 0xA900),
    ],
)
def test_commands_out_of_their_context(server: Serving, identifier: int, command: bytes, expected: int) -> None:
    with Peer(server.port) as client:
        client.associate()
        client.send(peer.message(identifier, command))
        assert peer.status_of(client.answer()[0]) == expected
        assert client.echo() == 0


def test_a_data_set_that_nobody_wants_is_passed_over(server: Serving) -> None:
    with Peer(server.port) as client:
        client.associate()
        with_data = peer.command({0x002: VERIFICATION, 0x100: 0x0030, 0x110: 1, 0x800: 0})
        client.send(peer.message(1, with_data, bytes(100_000)))
        assert peer.status_of(client.answer()[0]) == 0x0212
        unknown = peer.command({0x100: 0x0666, 0x110: 1, 0x800: 0})
        client.send(peer.message(1, unknown, bytes(100_000)))
        assert peer.status_of(client.answer()[0]) == 0x0211
        client.send(peer.message(1, peer.cancel_rq()))
        assert client.echo() == 0, "a cancel of nothing is not answered"


# DCMTK's storescu with every transfer syntax

PROPOSING = {
    "1.2.840.10008.1.2": "-xi",
    "1.2.840.10008.1.2.1": "-xe",
    "1.2.840.10008.1.2.2": "-xb",
    "1.2.840.10008.1.2.1.99": "-xd",
    "1.2.840.10008.1.2.5": "-xr",
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.81": "-xu",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
    "1.2.840.10008.1.2.4.100": "-xm",
    "1.2.840.10008.1.2.4.101": "-xh",
    "1.2.840.10008.1.2.4.102": "-xn",
    "1.2.840.10008.1.2.4.103": "-xl",
    "1.2.840.10008.1.2.4.104": "-x2",
    "1.2.840.10008.1.2.4.105": "-x3",
    "1.2.840.10008.1.2.4.106": "-xo",
    "1.2.840.10008.1.2.4.107": "-x4",
    "1.2.840.10008.1.2.4.108": "-x5",
}


@dcmtk
@pytest.mark.parametrize("syntax", PROPOSING)
def test_storescu(server: Serving, archive: Archive, tmp_path: Path, syntax: str) -> None:
    path = in_syntax(syntax, tmp_path)
    done = run("storescu", "-v", "-R", PROPOSING[syntax], "-aec", "LIGHTBOX", "127.0.0.1", str(server.port), path)
    assert done.returncode == 0, done.stderr
    uids = scan(path.read_bytes()).uids
    (located,) = archive.index.locate(Scope(uids.study))
    assert (located.transfer_syntax_uid, located.uids.instance) == (syntax, uids.instance)


def in_syntax(syntax: str, folder: Path) -> Path:
    """A file in a transfer syntax: the corpus's, or with a fragment that is none where nobody gives one away."""
    found = [file.path for file in examples() if file.row["transfer_syntax_uid"] == syntax]
    if not found:
        found = [folder / "made.dcm"]
        found[0].write_bytes(encapsulated([b"no video"], syntax, sop_class=VIDEO))
    return found[0]


@pytest.mark.parametrize("file", examples(), ids=lambda file: file.row["transfer_syntax_uid"])
def test_every_transfer_syntax_is_stored_as_it_comes(server: Serving, archive: Archive, file: CorpusFile) -> None:
    whole = file.path.read_bytes()
    found = scan(whole)
    with Peer(server.port) as client:
        client.associate([(3, found.sop_class_uid, (found.transfer_syntax_uid,))])
        assert client.store(bare(whole), found.uids.instance, sop_class=found.sop_class_uid) == 0
    (located,) = archive.index.locate(Scope(found.uids.study))
    assert located.transfer_syntax_uid == found.transfer_syntax_uid
    assert archive.blobs.read(located.object_key, located.dataset_offset) == bare(whole)


@pytest.mark.slow
def test_the_whole_corpus(server: Serving) -> None:
    """Everything that can be sent by C-STORE is answered, and as the manifest expects."""
    unexpected = []
    for file in corpus_files():
        whole = file.path.read_bytes()
        meta = read_meta(memoryview(whole))
        if not meta.dataset_offset or not meta.transfer_syntax_uid or not meta.sop_class_uid:
            continue
        with Peer(server.port) as client:
            body = client.associate([(3, meta.sop_class_uid, (meta.transfer_syntax_uid,))])
            if b"\x03\x00\x00\x00\x40" not in body:
                assert meta.sop_class_uid == "1.2.840.10008.1.3.10", "only a DICOMDIR is refused by its context"
                continue
            sop_class, uid = named(whole, meta.sop_class_uid)
            status = client.store(bare(whole), uid, sop_class=sop_class)
            good = file.storable and file.row["sop_instance_uid"]
            if status not in ((0, 0x0111) if good else (0, 0x0111, 0xA900, 0xC000)):
                unexpected.append((file.name, f"{status:04X}", file.row["expected_parse"]))
    assert unexpected == []


def named(whole: bytes, sop_class: str) -> tuple[str, str]:
    """SOP Class and Instance UID as storescu would name them: the data set's, if there are any."""
    try:
        found = scan(whole)
    except LightboxError:
        return sop_class, "1.2.3"
    return found.sop_class_uid, found.uids.instance


# C-FIND


@pytest.fixture
def filled(store: Store, server: Serving) -> Serving:
    """Two patients: one with two studies (CT with two series of two, MR with one), one with an umlaut."""
    for series in ("1.2.3.1", "1.2.3.2"):
        for number in (1, 2):
            store(instance(number, study="1.2.3", series=series, PatientName="DOE^JANE", PatientID="P1"))
    store(instance(1, study="1.2.4", series="1.2.4.1", PatientName="DOE^JANE", PatientID="P1", Modality="MR"))
    store(instance(1, study="1.2.5", series="1.2.5.1", PatientName="Müller^Jörg", PatientID="P2"))
    return server


@dcmtk
@pytest.mark.parametrize(
    ("model", "level", "keys", "expected"),
    [
        ("-P", "PATIENT", ("PatientID",), [("P1",), ("P2",)]),
        ("-P", "PATIENT", ("PatientID=P2", "PatientName"), [("P2", "Müller^Jörg")]),
        ("-P", "STUDY", ("PatientID=P1", "StudyInstanceUID"), [("P1", "1.2.3"), ("P1", "1.2.4")]),
        ("-P", "STUDY", ("StudyInstanceUID=1.2.5",), [("1.2.5",)]),
        ("-S", "STUDY", ("PatientName=DOE*", "StudyInstanceUID"), [("DOE^JANE", "1.2.3"), ("DOE^JANE", "1.2.4")]),
        ("-S", "STUDY", ("StudyInstanceUID=1.2.4\\1.2.5",), [("1.2.4",), ("1.2.5",)]),
        ("-S", "STUDY", ("ModalitiesInStudy=MR", "StudyInstanceUID"), [("MR", "1.2.4")]),
        ("-S", "STUDY", ("StudyInstanceUID=1.2.3", "NumberOfStudyRelatedInstances"), [("1.2.3", "4")]),
        ("-S", "SERIES", ("StudyInstanceUID=1.2.3", "SeriesInstanceUID"), [("1.2.3", "1.2.3.1"), ("1.2.3", "1.2.3.2")]),
        ("-S", "SERIES", ("SeriesInstanceUID=1.2.4.1", "Modality"), [("1.2.4.1", "MR")]),
        (
            "-S",
            "IMAGE",
            ("StudyInstanceUID=1.2.3", "SeriesInstanceUID=1.2.3.2", "SOPInstanceUID", "InstanceNumber"),
            [("1.2.3", "1.2.3.2", "1.2.3.2.1", "1"), ("1.2.3", "1.2.3.2", "1.2.3.2.2", "2")],
        ),
        ("-P", "IMAGE", ("SOPInstanceUID=1.2.5.1.1", "Rows"), [("1.2.5.1.1", "4")]),
        ("-P", "SERIES", ("StudyInstanceUID=1.2.4", "SeriesInstanceUID"), [("1.2.4", "1.2.4.1")]),
        ("-O", "PATIENT", ("PatientID", "PatientName=M*"), [("P2", "Müller^Jörg")]),
        ("-O", "STUDY", ("PatientID=P2", "StudyInstanceUID"), [("P2", "1.2.5")]),
        ("-S", "STUDY", ("PatientID=NOBODY", "StudyInstanceUID"), []),
    ],
)
def test_findscu(
    filled: Serving, tmp_path: Path, model: str, level: str, keys: tuple[str, ...], expected: list[tuple[str, ...]]
) -> None:
    out = tmp_path / "answers"
    answers = findscu(filled, out, model, "-xe", level, keys)
    keywords = [key.partition("=")[0] for key in keys]
    assert sorted(tuple(str(one[keyword].value) for keyword in keywords) for one in answers) == sorted(expected)
    for one in answers:
        assert (one.QueryRetrieveLevel, one.RetrieveAETitle) == (level, "LIGHTBOX")
        assert one.get("InstanceAvailability") == (None if level == "PATIENT" else "ONLINE")
        others = {"QueryRetrieveLevel", "RetrieveAETitle", "InstanceAvailability", "SpecificCharacterSet"}
        assert {element.keyword for element in one} - others == set(keywords), "what was asked for and nothing else"


@dcmtk
@pytest.mark.parametrize("syntax", ["-xe", "-xi", "-xb"])
def test_findscu_in_every_syntax(filled: Serving, tmp_path: Path, syntax: str) -> None:
    (one,) = findscu(filled, tmp_path / "answers", "-S", syntax, "IMAGE", ("SOPInstanceUID=1.2.5.1.1", "Rows", "PatientName"))
    assert (one.SOPInstanceUID, one.Rows, str(one.PatientName)) == ("1.2.5.1.1", 4, "Müller^Jörg")


def findscu(
    server: Serving, out: Path, model: str, syntax: str, level: str, keys: tuple[str, ...]
) -> list[FileDataset]:
    """The answers that DCMTK's findscu wrote down."""
    arguments = [part for key in keys for part in ("-k", key)]
    out.mkdir()
    options = ("-v", "-X", "-od", out, model, syntax, "-aec", "LIGHTBOX", "-k", f"QueryRetrieveLevel={level}")
    done = run("findscu", *options, *arguments, "127.0.0.1", str(server.port))
    assert done.returncode == 0, done.stderr
    assert "Received Final Find Response (Success)" in done.stderr
    return [dcmread(path, force=True) for path in sorted(out.iterdir())]


def ask(client: Peer, *elements: tuple[int, str], model: str = STUDY_ROOT, identifier: int = 5) -> list[tuple[int, dict[int, bytes], bytes]]:
    """(status, command, data set) of every answer."""
    data = b"".join(peer.element(tag, value) for tag, value in sorted(elements))
    client.send(peer.message(identifier, peer.find_rq(model), data))
    found = []
    while True:
        answer, data = client.answer()
        found.append((peer.status_of(answer), answer, data))
        if found[-1][0] & 0xFF00 != 0xFF00:
            return found


LEVEL, STUDY_UID, SERIES_UID = 0x00080052, 0x0020000D, 0x0020000E


@pytest.mark.parametrize(
    ("elements", "expected", "offending"),
    [
        (((STUDY_UID, "1.2.3"),), 0xA900, True),
        (((LEVEL, ""),), 0xA900, True),
        (((LEVEL, "PATIENT"),), 0xA900, True),
        (((LEVEL, "study"),), 0xA900, True),
        (((LEVEL, "STUDY\\SERIES"),), 0xA900, True),
        (((LEVEL, "SERIES"), (SERIES_UID, "")), 0xA900, False),
        (((LEVEL, "IMAGE"), (0x00080018, "*")), 0xA900, False),
        (((LEVEL, "STUDY"), (0x00080020, "yesterday")), 0xA900, False),
        (((LEVEL, "STUDY"), (STUDY_UID, "1.2.*")), 0xA900, False),
    ],
)
def test_queries_that_are_refused(
    filled: Serving, elements: tuple[tuple[int, str], ...], expected: int, offending: bool
) -> None:
    with Peer(filled.port) as client:
        client.associate()
        ((status, answer, _),) = ask(client, *elements)
        assert status == expected
        assert (answer.get(0x901) == b"\x08\x00\x52\x00") is offending
        assert 0 < len(answer[0x902].rstrip()) <= 64
        assert [one[0] for one in ask(client, (LEVEL, "STUDY"), (STUDY_UID, "1.2.3"))] == [0xFF00, 0]


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        # Every key is supported.
        (((LEVEL, "STUDY"), (STUDY_UID, "")), [0xFF00] * 3 + [0]),
        # Keys of lower levels are matched, and empty in the answers.
        (((LEVEL, "STUDY"), (0x00080060, "MR")), [0xFF01, 0]),
        (((LEVEL, "STUDY"), (SERIES_UID, "1.2.3.1")), [0xFF01, 0]),
        # What cannot be matched at all is passed over.
        (((LEVEL, "STUDY"), (0x00204000, "X")), [0xFF01] * 3 + [0]),
        (((LEVEL, "STUDY"), (0x00081190, "http://x")), [0xFF01] * 3 + [0]),
        # Private and unheard-of keys.
        (((LEVEL, "STUDY"), (0x00091001, "X")), [0xFF01] * 3 + [0]),
        # Lists, ranges, where the standard has a single value.
        (((LEVEL, "SERIES"), (STUDY_UID, "1.2.4\\1.2.5")), [0xFF00] * 2 + [0]),
        (((LEVEL, "IMAGE"), (STUDY_UID, "1.2.3")), [0xFF00] * 4 + [0]),
        # Not keys: they may have a value.
        (((LEVEL, "STUDY"), (0x00080054, "OTHER"), (0x00080056, "OFFLINE")), [0xFF00] * 3 + [0]),
    ],
)
def test_queries_beyond_the_letter(
    filled: Serving, elements: tuple[tuple[int, str], ...], expected: list[int]
) -> None:
    with Peer(filled.port) as client:
        client.associate()
        assert [status for status, _, _ in ask(client, *elements)] == expected
        client.release()
    filled.told.wait("found", elements[0][1], 0, len(expected) - 1)


def test_relational_queries_when_negotiated(filled: Serving) -> None:
    extended = peer.item(0x56, len(STUDY_ROOT).to_bytes(2) + STUDY_ROOT.encode() + b"\1\1\1")
    with Peer(filled.port) as client:
        body = client.associate(user_item=peer.user(16384, extended))
        assert extended in body
        assert len(ask(client, (LEVEL, "SERIES"), (SERIES_UID, ""))) == 5
        # Fuzzy matching was agreed, too: words in any order, without accents.
        assert len(ask(client, (LEVEL, "STUDY"), (0x00100010, "jorg muller"))) == 2


def test_answers_in_the_character_set_that_was_asked_in(filled: Serving) -> None:
    with Peer(filled.port) as client:
        client.associate()
        for asked, expected in (("", b"ISO_IR 192"), ("ISO_IR 100", b"ISO_IR 100")):
            (_, _, data), _ = ask(client, (0x00080005, asked), (LEVEL, "STUDY"), (0x00100020, "P2"), (0x00100010, ""))
            assert expected in data
            assert "Müller^Jörg".encode("utf-8" if expected.endswith(b"192") else "latin-1") in data


def test_identifier_too_large(archive: Archive) -> None:
    with serving(archive, max_identifier_bytes=1000) as server, Peer(server.port) as client:
        client.associate()
        ((status, _, _),) = ask(client, (LEVEL, "STUDY"), (STUDY_UID, "1." * 600 + "1"))
        assert status == 0xA700
        assert client.echo() == 0


class Endless:
    """An archive that finds without end, and counts how often it was asked."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self.index = self
        self.database = archive.index.database
        self.given = 0

    def spool(self) -> Any:
        return self._archive.spool()

    def find(self, _query: Any) -> Iterator[dict[str, Any]]:
        while True:
            self.given += 1
            yield {"0020000D": {"vr": "UI", "Value": [f"1.2.{self.given}"]}}


def test_a_query_is_cancelled_by_pynetdicom(archive: Archive) -> None:
    endless = Endless(archive)
    entity: Any = ApplicationEntity
    entity = entity(ae_title="USER")
    entity.add_requested_context(STUDY_ROOT)
    with serving(endless) as server:  # type: ignore[arg-type]
        association = entity.associate("127.0.0.1", server.port, ae_title="LIGHTBOX")
        identifier = Dataset()
        identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", ""
        statuses = []
        for answer, _ in association.send_c_find(identifier, STUDY_ROOT, msg_id=5):
            statuses.append(answer.Status)
            if len(statuses) == 2:
                association.send_c_cancel(5, query_model=STUDY_ROOT)
        assert (statuses[-1], association.is_established) == (0xFE00, True)
        association.release()


@pytest.mark.parametrize("ending", ["cancel", "release", "abort", "cut"])
def test_a_query_is_ended_by_the_peer(archive: Archive, ending: str) -> None:
    endless = Endless(archive)
    with serving(endless) as server, Peer(server.port) as client:  # type: ignore[arg-type]
        client.associate()
        identifier = peer.element(LEVEL, "STUDY") + peer.element(STUDY_UID, "")
        client.send(peer.message(5, peer.find_rq(message_id=9), identifier))
        assert peer.status_of(client.answer()[0]) == 0xFF00
        client.send(peer.message(5, peer.cancel_rq(8)))
        assert peer.status_of(client.answer()[0]) == 0xFF00, "the cancel of another message"
        if ending == "abort":
            client.send(peer.ABORT)
            server.told.wait("ended", "aborted by peer")
            return
        if ending == "cut":
            client.socket.close()
            server.told.wait("ended", "lost")
            return
        client.send(peer.message(5, peer.cancel_rq(9)) if ending == "cancel" else peer.RELEASE_RQ)
        while (status := peer.status_of(client.answer()[0])) == 0xFF00:
            pass
        assert status == 0xFE00
        if ending == "release":
            assert client.pdu()[0] == 6
        else:
            assert client.echo() == 0
    assert endless.given < 1_000_000


def test_a_request_that_comes_too_early_waits_its_turn(filled: Serving) -> None:
    """Asynchronous operations are not negotiated; who sends them all the same is answered in order."""
    identifier = peer.element(LEVEL, "STUDY") + peer.element(STUDY_UID, "")
    with Peer(filled.port) as client:
        client.associate()
        data = bare(instance(9))
        client.send(
            peer.message(5, peer.find_rq(), identifier)
            + peer.message(3, peer.store_rq(CT, "1.2.3.4.9", 2), data)
            + peer.message(1, peer.echo_rq(3))
        )
        answers = [client.answer()[0] for _ in range(6)]
    assert [(one[0x100], peer.status_of(one)) for one in answers] == [
        *[(b"\x20\x80", 0xFF00)] * 3,
        (b"\x20\x80", 0),
        (b"\x01\x80", 0),
        (b"\x30\x80", 0),
    ]


def test_no_patient_in_the_logs(filled: Serving, capsys: pytest.CaptureFixture[str]) -> None:
    with Peer(filled.port) as client:
        client.associate(calling="A\nB")
        for value in ("DOE^JANE", "DOE^JANE\\" + "*?" * 40):
            ask(client, (LEVEL, "STUDY"), (0x00100010, value), (0x00100020, "P1"))
        ask(client, (LEVEL, "STUDY"), (0x00100030, "DOE^JANE"))
        client.store(bare(instance(9, PatientName="DOE^JANE")), "1.2.3")
        client.release()
    filled.told.wait("ended", "released")
    logged = capsys.readouterr()
    assert "store.refused" in logged.out
    assert "find.refused" in logged.out
    assert "DOE" not in logged.out + logged.err
    assert "A\nB" not in logged.out, "control characters are escaped"


# Beginning and end


def test_given_socket(archive: Archive) -> None:
    sock = listening_socket("127.0.0.1", 0, reuse_port=True)
    port = sock.getsockname()[1]
    server = DimseServer(archive, DimseSettings(port=1), sock=sock)
    assert server.port == port
    server.start()
    other = DimseServer(archive, DimseSettings(), sock=listening_socket("127.0.0.1", port, reuse_port=True))
    other.start()
    try:
        for _ in range(8):
            with Peer(port) as client:
                client.associate()
                assert client.echo() == 0
    finally:
        server.stop(0)
        other.stop(0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_no_port_before_the_start(archive: Archive) -> None:
    server = DimseServer(archive)
    with pytest.raises(RuntimeError):
        _ = server.port
    server.stop()


def test_stop_finishes_a_transfer_in_flight(archive: Archive) -> None:
    data = bare(instance(frames=64, side=64))
    with serving(archive) as server, Peer(server.port) as client:
        client.associate()
        sent = peer.message(3, peer.store_rq(CT, "1.2.3.4.1"), data)
        client.send(sent[: len(sent) // 2])
        stopper = threading.Thread(target=server.server.stop, args=(20,))
        stopper.start()
        wait_until(lambda: refused(server.port))
        time.sleep(1.5)
        client.send(sent[len(sent) // 2 :])
        assert peer.status_of(client.answer()[0]) == 0
        kind, body = client.pdu()
        assert (kind, body) == (7, bytes(4)), "between messages an association is aborted when we stop"
        stopper.join(10)
        assert not stopper.is_alive()
    assert archive.index.counts().instances == 1
    server.told.wait("ended", "stopped")


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        # It waited to be taken when the port was closed: the next one is refused.
        return False
    return False


def test_stop_aborts_what_does_not_finish(archive: Archive) -> None:
    with serving(archive) as server, Peer(server.port) as client:
        client.associate()
        client.send(peer.message(3, peer.store_rq(CT, "1.2.3.4.1"), bytes(50_000))[:40_000])
        begun = time.monotonic()
        server.server.stop(0.5)
        assert 0.5 <= time.monotonic() - begun < 5
        assert client.pdu() == (7, bytes(4))
    assert spooled(archive) == []
    server.told.wait("ended", "stopped")


def test_stop_of_an_idle_association(archive: Archive) -> None:
    with serving(archive) as server, Peer(server.port) as client:
        client.associate()
        assert client.echo() == 0
        begun = time.monotonic()
        server.server.stop(20)
        assert time.monotonic() - begun < 5, "it is not waited for"
        assert client.pdu() == (7, bytes(4))


def test_corpus_file_by_dcmsend(server: Serving, archive: Archive) -> None:
    """Another of DCMTK's senders, with another library code path."""
    done = run("dcmsend", "-v", "-aec", "LIGHTBOX", "127.0.0.1", str(server.port), corpus_file("charsets/chrGerm.dcm"))
    assert done.returncode == 0, done.stderr
    assert archive.index.counts().instances == 1


def test_contexts_of_an_answer(server: Serving) -> None:
    proposed = [(1, CT, (IMPLICIT, EXPLICIT)), (3, "1.2.840.10008.5.1.1.9", (IMPLICIT,)), (5, PATIENT_ROOT, (IMPLICIT,))]
    with Peer(server.port) as client:
        body = client.associate(proposed)
    assert peer.item(0x21, b"\1\0\0\0" + peer.item(0x40, EXPLICIT.encode())) in body
    assert b"\x21\x00\x00\x19\x03\x00\x03\x00" in body
    assert peer.item(0x21, b"\5\0\0\0" + peer.item(0x40, IMPLICIT.encode())) in body
