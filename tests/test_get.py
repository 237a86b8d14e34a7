"""C-GET end to end: pynetdicom and DCMTK's getscu as users, at every level, with every way in which it can end (PS3.4 C.4.3)."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.presentation import build_role

from storage.archive import Archive
from storage.index.ae import AeTitle, add_ae_title
from storage.types import Scope
from tests.support import dimse_peer as peer
from tests.support.archive import Store
from tests.support.corpus import CorpusFile, examples
from tests.support.dimse_peer import CT, EXPLICIT, IMPLICIT, Peer
from tests.support.dimse_server import Serving, serving
from tests.support.made import PDF, encapsulated, instance, written

PATIENT, STUDY, PATIENT_STUDY = (f"1.2.840.10008.5.1.4.1.2.{number}.3" for number in (1, 2, 3))
JPEG_LS, J2K_LOSSY = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.91"


@pytest.fixture
def server(archive: Archive) -> Iterator[Serving]:
    with serving(archive) as running:
        yield running


@pytest.fixture
def stored(store: Store) -> None:
    """Two studies of a patient: one of two series of two, the other of one instance. And one of somebody else."""
    for series in ("1.2.3.4", "1.2.3.5"):
        for number in (1, 2):
            store(instance(number, series=series))
    store(instance(1, study="1.2.4", series="1.2.4.1"))
    store(instance(1, study="1.2.5", series="1.2.5.1", PatientID="P2"))


class User:
    """An established association of pynetdicom's that takes what it is sent, or answers as it is told."""

    def __init__(self, association: Any) -> None:
        self.association = association
        self.received: list[Any] = []
        self.statuses: list[int] = []

    def store(self, event: Any) -> int:
        self.received.append(event.dataset)
        return self.statuses.pop(0) if self.statuses else 0

    def get(self, model: str, **keys: Any) -> list[tuple[int, Any, Any]]:
        """Status, command and identifier of each response."""
        identifier = Dataset()
        for keyword, value in keys.items():
            setattr(identifier, keyword, value)
        return [(one.get("Status"), one, data) for one, data in self.association.send_c_get(identifier, model)]

    @property
    def uids(self) -> list[str]:
        return [str(one.SOPInstanceUID) for one in self.received]


@contextmanager
def user(server: Serving, contexts: list[tuple[str, str]] | None = None, roles: bool = True) -> Iterator[User]:
    entity: Any = ApplicationEntity
    entity = entity(ae_title="USER")
    for model in (PATIENT, STUDY, PATIENT_STUDY):
        entity.add_requested_context(model)
    for sop_class, syntax in contexts or [(CT, EXPLICIT)]:
        entity.add_requested_context(sop_class, syntax)
    asked = [build_role(one, scp_role=True) for one in {one for one, _ in contexts or [(CT, EXPLICIT)]}] if roles else []
    found = User(None)
    found.association = entity.associate(
        "127.0.0.1", server.port, ae_title="LIGHTBOX", ext_neg=asked, evt_handlers=[(evt.EVT_C_STORE, found.store)]
    )
    assert found.association.is_established
    try:
        yield found
    finally:
        found.association.release()


@pytest.mark.parametrize(
    ("model", "keys", "expected"),
    [
        (PATIENT, {"QueryRetrieveLevel": "PATIENT", "PatientID": "P1"}, 5),
        (PATIENT_STUDY, {"QueryRetrieveLevel": "PATIENT", "PatientID": "P1"}, 5),
        (PATIENT, {"QueryRetrieveLevel": "STUDY", "PatientID": "P1", "StudyInstanceUID": "1.2.3"}, 4),
        # C.4.2.2.1: keys above the level narrow it, where they are given.
        (PATIENT, {"QueryRetrieveLevel": "STUDY", "PatientID": "P2", "StudyInstanceUID": "1.2.3"}, 0),
        (PATIENT, {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2.3"}, 4),
        (STUDY, {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2.3"}, 4),
        (STUDY, {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": ["1.2.3", "1.2.4", "1.2.3", "9.9"]}, 5),
        (PATIENT_STUDY, {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2.4"}, 1),
        (STUDY, {"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4"}, 2),
        (STUDY, {"QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": ["1.2.3.4", "1.2.3.5"]}, 4),
        (STUDY, {"QueryRetrieveLevel": "IMAGE", "SOPInstanceUID": ["1.2.3.4.1", "1.2.3.5.2", "1.2.4.1.1"]}, 3),
        (
            STUDY,
            {
                "QueryRetrieveLevel": "IMAGE",
                "StudyInstanceUID": "1.2.3",
                "SeriesInstanceUID": "1.2.3.4",
                "SOPInstanceUID": ["1.2.3.4.1", "1.2.3.5.2"],
            },
            1,
        ),
        (STUDY, {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "9.9"}, 0),
        (PATIENT, {"QueryRetrieveLevel": "PATIENT", "PatientID": "P*"}, 0),
    ],
)
@pytest.mark.usefixtures("stored")
def test_levels_and_lists(server: Serving, model: str, keys: dict[str, Any], expected: int) -> None:
    with user(server) as one:
        responses = one.get(model, **keys)
    assert len(one.received) == len(set(one.uids)) == expected
    *pending, (status, last, identifier) = responses
    assert (status, identifier) == (0, None)
    assert (last.NumberOfCompletedSuboperations, last.NumberOfFailedSuboperations) == (expected, 0)
    assert "NumberOfRemainingSuboperations" not in last
    assert [one[0] for one in pending] == [0xFF00] * expected
    assert [one[1].NumberOfRemainingSuboperations for one in pending] == list(range(expected))[::-1]
    server.told.wait("retrieved", "C-GET", 0, expected)


@pytest.mark.parametrize(
    ("model", "keys", "status", "offending"),
    [
        (STUDY, {"StudyInstanceUID": "1.2.3"}, 0xA900, 0x00080052),
        (STUDY, {"QueryRetrieveLevel": "PATIENT", "PatientID": "P1"}, 0xA900, 0x00080052),
        (PATIENT_STUDY, {"QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": "1.2"}, 0xA900, 0x00080052),
        (STUDY, {"QueryRetrieveLevel": "STUDY"}, 0xA900, 0x0020000D),
        (STUDY, {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": ""}, 0xA900, 0x0020000D),
        (STUDY, {"QueryRetrieveLevel": "IMAGE", "StudyInstanceUID": "1.2.3"}, 0xA900, 0x00080018),
        (STUDY, {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4"}, 0xA900, 0x0020000E),
        (PATIENT, {"QueryRetrieveLevel": "PATIENT", "PatientID": ["P1", "P2"]}, 0xA900, 0x00100020),
        (PATIENT, {"QueryRetrieveLevel": "PATIENT"}, 0xA900, 0x00100020),
    ],
)
@pytest.mark.usefixtures("stored")
def test_refusals(server: Serving, model: str, keys: dict[str, Any], status: int, offending: int) -> None:
    with user(server) as one:
        ((given, command, _),) = one.get(model, **keys)
        assert given == status
        assert command.ErrorComment
        assert command.OffendingElement == offending
        # And the association goes on.
        assert one.get(STUDY, QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.4")[-1][0] == 0


@pytest.mark.parametrize(
    ("answers", "expected", "counts", "failed"),
    [
        # Of the four instances: what the peer answers each, the final status, completed/failed/warning.
        ([0, 0, 0, 0], 0x0000, (4, 0, 0), []),
        ([0, 0xA700, 0, 0xC123], 0xB000, (2, 2, 0), ["1.2.3.4.2", "1.2.3.5.2"]),
        ([0xB000, 0xB007, 0, 0], 0xB000, (2, 0, 2), []),
        ([0x0110, 0x0110, 0x0110, 0x0110], 0xA702, (0, 4, 0), ["1.2.3.4.1", "1.2.3.4.2", "1.2.3.5.1", "1.2.3.5.2"]),
    ],
)
@pytest.mark.usefixtures("stored")
def test_counts_and_final_status(
    server: Serving, answers: list[int], expected: int, counts: tuple[int, int, int], failed: list[str]
) -> None:
    with user(server) as one:
        one.statuses = list(answers)
        status, last, identifier = one.get(STUDY, QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3")[-1]
    assert status == expected
    assert counts == (
        last.NumberOfCompletedSuboperations,
        last.NumberOfFailedSuboperations,
        last.NumberOfWarningSuboperations,
    )
    named = identifier.FailedSOPInstanceUIDList if identifier else []
    assert ([named] if isinstance(named, str) else list(named)) == failed


@pytest.mark.parametrize(
    ("contexts", "roles", "completed", "said"),
    [
        # A SOP class that was not proposed; no role as provider; a syntax into which this cannot be brought.
        ([(PDF, EXPLICIT)], True, 0, "the peer accepts no context for CT Image Storage"),
        ([(CT, EXPLICIT)], False, 0, "propose storage SOP classes with the role of SCP"),
        ([(CT, J2K_LOSSY)], True, 0, "takes no transfer syntax"),
        ([(CT, EXPLICIT), (CT, JPEG_LS)], True, 2, ""),
    ],
)
def test_contexts(
    server: Serving, store: Store, contexts: list[tuple[str, str]], roles: bool, completed: int, said: str
) -> None:
    # What says that it is JPEG-LS and is not cannot be brought into another syntax.
    store(encapsulated([b"no picture"], JPEG_LS))
    store(instance(2))
    with user(server, contexts, roles) as one:
        status, last, _ = one.get(STUDY, QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3")[-1]
    assert last.NumberOfCompletedSuboperations == completed == len(one.received)
    assert status == {0: 0xA702, 1: 0xB000, 2: 0}[completed]
    assert said in str(last.get("ErrorComment", ""))


@pytest.mark.usefixtures("stored")
def test_cancel_between_sub_operations(server: Serving) -> None:
    with user(server) as one:
        original = one.store

        def store(event: Any) -> int:
            if len(one.received) == 1:
                (context,) = [c for c in one.association.accepted_contexts if c.abstract_syntax == STUDY]
                one.association.send_c_cancel(1, context.context_id)
            return original(event)

        one.association.unbind(evt.EVT_C_STORE, one.store)
        one.association.bind(evt.EVT_C_STORE, store)
        status, last, _ = one.get(STUDY, QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3")[-1]
    assert status == 0xFE00
    assert last.NumberOfRemainingSuboperations == 2
    assert last.NumberOfCompletedSuboperations == 2


def test_a_lost_object_is_a_failed_sub_operation(server: Serving, store: Store, archive: Archive) -> None:
    for number in (1, 2):
        store(instance(number))
    lost, _ = archive.index.locate(Scope("1.2.3"))
    archive.blobs.delete(lost.object_key)
    with user(server) as one:
        status, last, identifier = one.get(STUDY, QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3")[-1]
    assert (status, identifier.FailedSOPInstanceUIDList) == (0xB000, "1.2.3.4.1")
    assert (one.uids, last.NumberOfCompletedSuboperations) == (["1.2.3.4.2"], 1)


def test_an_object_that_breaks_off_ends_the_association(server: Serving, store: Store, archive: Archive) -> None:
    """A data set that has begun to go out cannot be taken back: better no association than a broken instance."""
    store(instance(side=2048))
    (found,) = archive.index.locate(Scope("1.2.3"))

    def stream(*_: Any) -> Iterator[bytes]:
        yield bytes(1 << 20)
        yield bytes(1 << 20)
        raise OSError("the disk is gone")

    archive.blobs.stream = stream  # type: ignore[method-assign,assignment]
    with user(server) as one:
        answers = one.get(STUDY, QueryRetrieveLevel="IMAGE", SOPInstanceUID=found.uids.instance)
        assert [status for status, *_ in answers] == [None], "pynetdicom says so of a lost association"
        assert one.received == []
    server.told.wait("ended", "error")


@pytest.mark.usefixtures("stored")
def test_a_server_that_stops_finishes_what_it_sends(archive: Archive) -> None:
    """Between two sub-operations and while one is answered the peer is not idle: a clean stop waits for it."""
    with serving(archive) as server, user(server) as one:
        original, stopping = one.store, threading.Thread(target=lambda: server.server.stop(10))

        def store(event: Any) -> int:
            if not one.received:
                stopping.start()
                time.sleep(1.2)
            return original(event)

        one.association.unbind(evt.EVT_C_STORE, one.store)
        one.association.bind(evt.EVT_C_STORE, store)
        status, last, _ = one.get(STUDY, QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3")[-1]
        stopping.join(20)
    assert (status, last.NumberOfCompletedSuboperations) == (0, 4)


# DCMTK


def getscu(server: Serving, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("getscu", path="/usr/bin")
    if not program:
        pytest.skip("DCMTK's getscu is not installed: nothing is tested with it")
    command = [program, "-v", "-od", str(folder), "-aec", "LIGHTBOX", *arguments, "127.0.0.1", str(server.port)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.dcmtk
@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("-P", "-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientID=P1"), 5),
        (("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.3"), 4),
        (("-S", "-k", "QueryRetrieveLevel=SERIES", "-k", "StudyInstanceUID=1.2.3", "-k", "SeriesInstanceUID=1.2.3.5"), 2),
        (("-S", "-k", "QueryRetrieveLevel=IMAGE", "-k", "StudyInstanceUID=1.2.3", "-k", "SeriesInstanceUID=1.2.3.5", "-k", "SOPInstanceUID=1.2.3.5.2"), 1),
        (("-P", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID=P1", "-k", "StudyInstanceUID=1.2.4"), 1),
        (("-P", "-k", "QueryRetrieveLevel=SERIES", "-k", "PatientID=P1", "-k", "SeriesInstanceUID=1.2.3.4"), 2),
        (("-P", "-k", "QueryRetrieveLevel=IMAGE", "-k", "PatientID=P1", "-k", "SOPInstanceUID=1.2.3.4.1"), 1),
        (("-O", "-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientID=P2"), 1),
        (("-O", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID=P1", "-k", "StudyInstanceUID=1.2.3"), 4),
    ],
)
def test_getscu(server: Serving, tmp_path: Path, archive: Archive, arguments: tuple[str, ...], expected: int) -> None:
    folder = tmp_path / "got"
    folder.mkdir()
    done = getscu(server, folder, "+B", *arguments)
    assert done.returncode == 0, done.stderr
    read = [dcmread(path) for path in folder.iterdir()]
    assert len(read) == expected
    for one in read:
        (located,) = archive.index.locate(Scope(one.StudyInstanceUID, one.SeriesInstanceUID, one.SOPInstanceUID))
        assert one.PixelData in archive.blobs.read(located.object_key)


RLE = "1.2.840.10008.1.2.5"


@pytest.mark.parametrize("asked", [EXPLICIT, IMPLICIT, RLE])
def test_compressed_comes_as_the_peer_takes_it(server: Serving, store: Store, asked: str) -> None:
    """As it is stored where the peer takes that, else decoded; the pixels are the same."""
    plain = dcmread(BytesIO(instance(frames=2)))
    expected = plain.pixel_array
    plain.compress(RLE)
    store(written(plain, RLE))
    with user(server, [(CT, asked)]) as one:
        assert one.get(STUDY, QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3")[-1][0] == 0
    (received,) = one.received
    received.file_meta = plain.file_meta
    received.file_meta.TransferSyntaxUID = asked
    assert (received.pixel_array == expected).all()


@pytest.mark.parametrize("count", [1, 2])
def test_a_frame_that_cannot_be_decoded_fails_alone(server: Serving, store: Store, count: int) -> None:
    """The last frame is broken: that is known before the first byte goes out, and the next instance is sent."""
    plain = dcmread(BytesIO(instance(frames=1)))
    plain.compress(RLE)
    (good,) = generate_frames(plain.PixelData, number_of_frames=1)
    store(encapsulated([*[good] * (count - 1), b"\0\0broken"], RLE))
    store(instance(2))
    with user(server) as one:
        status, last, failed = one.get(STUDY, QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3")[-1]
    assert (status, last.NumberOfCompletedSuboperations, one.uids) == (0xB000, 1, ["1.2.3.4.2"])
    assert failed.FailedSOPInstanceUIDList == "1.2.3.4.1"


@pytest.mark.parametrize("file", examples(), ids=lambda file: file.row["transfer_syntax_uid"])
def test_the_corpus_comes_back_byte_for_byte(server: Serving, store: Store, archive: Archive, file: CorpusFile) -> None:
    """In the stored syntax, of every transfer syntax there is."""
    store(file.path)
    (row,) = archive.index.objects(0, 2)
    (located,) = archive.index.instances([row.instance])
    model, sop_class = STUDY, located.sop_class_uid
    contexts = [(1, model, (IMPLICIT,)), (3, sop_class, (located.transfer_syntax_uid,))]
    role = peer.item(0x54, len(sop_class).to_bytes(2, "big") + sop_class.encode() + b"\0\1")
    keys = {0x00080018: row.instance, 0x00080052: "IMAGE"}
    identifier = b"".join(peer.element(tag, value) for tag, value in sorted(keys.items()))
    command: dict[int, bytes | str | int] = {0x002: model, 0x100: 0x0010, 0x110: 1, 0x700: 0, 0x800: 0}
    with Peer(server.port) as client:
        client.associate(contexts, user_item=peer.user(16384, role))
        client.send(peer.message(1, peer.command(command), identifier))
        request, data = client.answer()
        assert request[0x100] == b"\1\0", "a C-STORE"
        client.send(peer.message(3, peer.command({0x100: 0x8001, 0x120: int.from_bytes(request[0x110], "little"), 0x800: 0x101, 0x900: 0})))
        while peer.status_of(last := client.answer()[0]) == 0xFF00:
            pass
    assert peer.status_of(last) == 0
    assert data == archive.blobs.read(located.object_key, located.dataset_offset)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
def test_memory_does_not_depend_on_what_is_sent(server: Serving, store: Store) -> None:
    """An instance of 200 MB goes out in pieces; only the server is in this process, the peer throws away what it gets."""
    store(instance(frames=100, side=1024))
    program = shutil.which("getscu", path="/usr/bin")
    if not program:
        pytest.skip("DCMTK's getscu is not installed: nothing is tested with it")
    before, most = resident(), 0
    command = [program, "--ignore", "-aec", "LIGHTBOX", "-S", "-k", "QueryRetrieveLevel=STUDY"]
    running = subprocess.Popen([*command, "-k", "StudyInstanceUID=1.2.3", "127.0.0.1", str(server.port)])
    while running.poll() is None:
        most = max(most, resident())
        time.sleep(0.005)
    assert running.returncode == 0
    assert most - before < 24 << 20


def test_implicit_is_what_is_left(server: Serving, store: Store) -> None:
    """PS3.5 10.1: every peer takes Implicit VR Little Endian; what is stored so goes out so."""
    store(instance(syntax=IMPLICIT))
    with user(server, [(CT, IMPLICIT)]) as one:
        assert one.get(STUDY, QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3")[-1][0] == 0
    assert one.uids == ["1.2.3.4.1"]


@pytest.mark.parametrize("allowed", [False, True])
def test_with_loss_only_to_whom_an_administrator_allows_it(server: Serving, archive: Archive, stored: None, allowed: bool) -> None:
    """Who takes nothing but lossy JPEG 2000 gets nothing, unless that is among the transfer syntaxes of its AE title."""
    add_ae_title(archive.index, AeTitle("USER", "", 0, syntaxes=(J2K_LOSSY,) if allowed else ()))
    with user(server, [(CT, J2K_LOSSY)]) as one:
        last = one.get(STUDY, QueryRetrieveLevel="IMAGE", StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.4.1", SOPInstanceUID="1.2.4.1.1")[-1]
        assert (last[1].NumberOfCompletedSuboperations, last[1].NumberOfFailedSuboperations) == ((1, 0) if allowed else (0, 1))
        assert [uid.startswith("2.25.") for uid in one.uids] == ([True] if allowed else [])
