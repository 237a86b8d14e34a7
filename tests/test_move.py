"""C-MOVE end to end: pynetdicom and DCMTK's movescu as users, pynetdicom and storescp as destinations, whole and failing (PS3.4 C.4.2)."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import sop_class
from pynetdicom.ae import ApplicationEntity

from pacs.scp import move as provider
from pacs.scu import delivery
from storage.archive import Archive
from storage.index.ae import AeTitle, add_ae_title
from storage.scanner import scan
from storage.types import Scope
from tests.support.archive import Store
from tests.support.dimse_peer import EXPLICIT, IMPLICIT
from tests.support.dimse_server import Serving, serving, wait_until
from tests.support.made import instance
from tests.support.storage_scp import node

PATIENT, STUDY, PATIENT_STUDY = (f"1.2.840.10008.5.1.4.1.2.{number}.2" for number in (1, 2, 3))
WHOLE = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2.3"}


@pytest.fixture
def server(archive: Archive) -> Iterator[Serving]:
    with serving(archive) as running:
        yield running


@pytest.fixture
def stored(store: Store) -> None:
    """A study of two series of two instances, and one of somebody else."""
    for series in ("1.2.3.4", "1.2.3.5"):
        for number in (1, 2):
            store(instance(number, series=series))
    store(instance(1, study="1.2.5", series="1.2.5.1", PatientID="P2"))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses before another try are not what is tested."""
    monkeypatch.setattr(delivery, "_PAUSES", (0.01, 0.05))
    monkeypatch.setattr(delivery, "_REPEAT_SECONDS", 0.01)
    # And every instance's response is looked at.
    monkeypatch.setattr(provider, "_PROGRESS_SECONDS", 0.0)


def known(archive: Archive, port: int, title: str = "NODE") -> None:
    add_ae_title(archive.index, AeTitle(title, "127.0.0.1", port))


@contextmanager
def mover(server: Serving) -> Iterator[Any]:
    entity: Any = ApplicationEntity
    entity = entity(ae_title="MOVER")
    for model in (PATIENT, STUDY, PATIENT_STUDY):
        entity.add_requested_context(model)
    association = entity.associate("127.0.0.1", server.port, ae_title="LIGHTBOX")
    assert association.is_established
    try:
        yield association
    finally:
        association.release()


def move(association: Any, model: str = STUDY, to: str = "NODE", **keys: Any) -> list[tuple[int, Any, Any]]:
    identifier = Dataset()
    for keyword, value in (keys or WHOLE).items():
        setattr(identifier, keyword, value)
    return [(one.get("Status"), one, data) for one, data in association.send_c_move(identifier, to, model, msg_id=7)]


def moved(server: Serving, **more: Any) -> tuple[int, tuple[int, int, int], list[str]]:
    """Final status, completed/failed/warning, and the instances named as failed."""
    with mover(server) as association:
        status, last, identifier = move(association, **more)[-1]
    counts = ("Completed", "Failed", "Warning")
    named = identifier.FailedSOPInstanceUIDList if identifier else []
    return (
        status,
        tuple(last.get(f"NumberOf{one}Suboperations") for one in counts),
        [named] if isinstance(named, str) else list(named),
    )


@pytest.mark.parametrize(
    ("model", "keys", "expected"),
    [
        (PATIENT, {"QueryRetrieveLevel": "PATIENT", "PatientID": "P1"}, 4),
        (PATIENT_STUDY, {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": ["1.2.3", "1.2.5"]}, 5),
        (STUDY, WHOLE, 4),
        (STUDY, {"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.5"}, 2),
        (STUDY, {"QueryRetrieveLevel": "IMAGE", "SOPInstanceUID": ["1.2.3.4.1", "1.2.5.1.1"]}, 2),
        (STUDY, {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "9.9"}, 0),
    ],
)
@pytest.mark.usefixtures("stored")
def test_levels_and_lists(
    server: Serving, archive: Archive, model: str, keys: dict[str, Any], expected: int
) -> None:
    with node() as there, mover(server) as association:
        known(archive, there.port)
        *pending, (status, last, _) = move(association, model, **keys)
    assert len(there.received) == expected
    assert (status, last.NumberOfCompletedSuboperations) == (0, expected)
    assert [one.NumberOfRemainingSuboperations for _, one, _ in pending] == list(range(expected))[::-1]
    assert there.associations == (1 if expected else 0), "one association serves a whole move"
    for request in there.requests:
        assert str(request.MoveOriginatorApplicationEntityTitle).strip() == "MOVER"
        assert request.MoveOriginatorMessageID == 7
    server.told.wait("retrieved", "C-MOVE", 0, expected)


@pytest.mark.usefixtures("stored")
def test_fast_moves_are_told_of_now_and_then(
    server: Serving, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "_PROGRESS_SECONDS", 60.0)
    with node() as there, mover(server) as association:
        known(archive, there.port)
        statuses = [(status, one.get("NumberOfRemainingSuboperations")) for status, one, _ in move(association)]
    assert statuses == [(0xFF00, 3), (0, None)]


@pytest.mark.parametrize(
    ("to", "keys", "status", "said"),
    [
        ("NOBODY", WHOLE, 0xA801, "unknown AE NOBODY: register it with pacs ae add"),
        ("LIGHTBOX", WHOLE, 0xA801, "LIGHTBOX is this archive itself, which has it already"),
        ("CALLS", WHOLE, 0xA801, "of AE CALLS no host and port are known: register it with..."),
        ("WEB", WHOLE, 0xA801, "WEB takes no C-STORE, but STOW-RS: send it with pacs send"),
        ("NODE", {"QueryRetrieveLevel": "STUDY"}, 0xA900, "without its unique key"),
        ("NODE", {"QueryRetrieveLevel": "PATIENT", "PatientID": "P1"}, 0xA900, "use STUDY, SERIES, IMAGE"),
    ],
)
@pytest.mark.usefixtures("stored")
def test_refusals(server: Serving, archive: Archive, to: str, keys: dict[str, Any], status: int, said: str) -> None:
    known(archive, 1)
    add_ae_title(archive.index, AeTitle("CALLS", "", 0))
    add_ae_title(archive.index, AeTitle("WEB", "", 0, url="https://web/dicom"))
    with mover(server) as association:
        ((given, command, _),) = move(association, to=to, **keys)
    assert given == status
    assert said in command.ErrorComment


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


ALL = ["1.2.3.4.1", "1.2.3.4.2", "1.2.3.5.1", "1.2.3.5.2"]


@pytest.mark.usefixtures("stored")
def test_nobody_listens_there(server: Serving, archive: Archive) -> None:
    known(archive, closed_port())
    assert moved(server) == (0xA702, (0, 4, 0), ALL)


@pytest.mark.usefixtures("stored")
def test_a_destination_that_rejects_us(server: Serving, archive: Archive) -> None:
    with node(require_calling_aet=["SOMEBODY"]) as there, mover(server) as association:
        known(archive, there.port)
        status, last, _ = move(association)[-1]
    assert (status, last.NumberOfFailedSuboperations) == (0xA702, 4)
    assert "rejects the association" in last.ErrorComment


@pytest.mark.usefixtures("stored")
def test_a_destination_that_takes_nothing_of_it(server: Serving, archive: Archive) -> None:
    with node([("1.2.840.10008.5.1.4.1.1.4", [EXPLICIT])]) as there:
        known(archive, there.port)
        assert moved(server) == (0xA702, (0, 4, 0), ALL)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        # What the destination answers to the first, second … C-STORE; then it is content.
        ([0, 0xC001, 0, 0xC001], (0xB000, (2, 2, 0), ["1.2.3.4.2", "1.2.3.5.2"])),
        ([0, 0xB000], (0xB000, (3, 0, 1), [])),
        # Out of resources is asked again, and full stays full.
        ([0xA700], (0, (4, 0, 0), [])),
        ([0xA700] * 20, (0xA702, (0, 4, 0), ALL)),
    ],
)
@pytest.mark.usefixtures("stored")
def test_what_the_destination_answers(
    server: Serving, archive: Archive, answers: list[int], expected: tuple[int, tuple[int, int, int], list[str]]
) -> None:
    with node() as there:
        known(archive, there.port)
        there.behave = lambda _event, number: answers[number - 1] if number <= len(answers) else 0
        assert moved(server) == expected


@pytest.mark.parametrize(
    ("breaks", "expected", "associations"),
    [
        # It aborts at the second C-STORE: the same instance goes once more on a new association.
        ({2}, (0, (4, 0, 0), []), 2),
        ({2, 3}, (0xB000, (3, 1, 0), ["1.2.3.4.2"]), 3),
        (set(range(1, 20)), (0xA702, (0, 4, 0), ALL), 3),
    ],
)
@pytest.mark.usefixtures("stored")
def test_a_destination_that_breaks_off(
    server: Serving,
    archive: Archive,
    breaks: set[int],
    expected: tuple[int, tuple[int, int, int], list[str]],
    associations: int,
) -> None:
    def behave(event: Any, number: int) -> int:
        if number in breaks:
            event.assoc.abort()
        return 0

    with node() as there:
        known(archive, there.port)
        there.behave = behave
        assert moved(server) == expected
        assert there.associations == associations


@pytest.mark.usefixtures("stored")
def test_a_destination_that_does_not_answer(archive: Archive) -> None:
    """Given up after `answer_seconds`, and not waited for once for each instance."""
    silent = threading.Event()

    def behave(_event: Any, _number: int) -> int:
        silent.wait(20)
        return 0

    with serving(archive, answer_seconds=0.3) as server, node() as there:
        known(archive, there.port)
        there.behave = behave
        begun = time.monotonic()
        assert moved(server)[:2] == (0xA702, (0, 4, 0))
        assert time.monotonic() - begun < 10
        silent.set()


@pytest.mark.usefixtures("stored")
def test_cancel(server: Serving, archive: Archive) -> None:
    with node() as there, mover(server) as association:
        known(archive, there.port)

        def behave(_event: Any, number: int) -> int:
            if number == 2:
                (context,) = [c for c in association.accepted_contexts if c.abstract_syntax == STUDY]
                association.send_c_cancel(7, context.context_id)
                time.sleep(0.2)
            return 0

        there.behave = behave
        status, last, _ = move(association)[-1]
        assert (status, last.NumberOfRemainingSuboperations, last.NumberOfCompletedSuboperations) == (0xFE00, 2, 2)
        there.behave = lambda _event, _number: 0
        assert move(association)[-1][0] == 0, "and the association goes on"


@pytest.mark.usefixtures("stored")
def test_a_mover_that_goes_away_leaves_nothing_open(server: Serving, archive: Archive) -> None:
    with node() as there:
        known(archive, there.port)
        with mover(server) as association:

            def behave(_event: Any, number: int) -> int:
                if number == 2:
                    association.abort()
                    time.sleep(0.2)
                return 0

            there.behave = behave
            association.dimse_timeout = 1
            move(association)
        wait_until(lambda: server.server.associations == 0)
        assert len(there.received) < 4


@pytest.mark.usefixtures("stored")
def test_several_moves_at_once(server: Serving, archive: Archive) -> None:
    statuses: list[int] = []
    with node(maximum_associations=20) as there:
        known(archive, there.port)
        threads = [threading.Thread(target=lambda: statuses.append(moved(server)[0])) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert statuses == [0] * 6
        assert len(there.received) == 24


def test_more_sop_classes_than_an_association_has_contexts(server: Serving, archive: Archive, store: Store) -> None:
    classes = sorted(str(uid) for uid in sop_class._STORAGE_CLASSES.values())[:70]
    for number, one in enumerate(classes, 1):
        store(instance(number, sop_class=one))
    with node([(one, [EXPLICIT, IMPLICIT]) for one in classes]) as there:
        known(archive, there.port)
        assert moved(server)[:2] == (0, (70, 0, 0))
        assert there.associations == 2
        assert set(there.syntaxes) == {EXPLICIT}


# DCMTK


def program(name: str) -> str:
    found = shutil.which(name, path="/usr/bin")
    if not found:
        pytest.skip(f"DCMTK's {name} is not installed: nothing is tested with it")
    return found


@contextmanager
def storescp(folder: Path, archive: Archive) -> Iterator[None]:
    """DCMTK's storescp, which keeps what it gets in `folder` as it comes, and which the archive knows as NODE."""
    folder.mkdir()
    port = closed_port()
    listening = subprocess.Popen([program("storescp"), "-aet", "NODE", "+B", "+xa", "-od", str(folder), str(port)])
    try:
        wait_until(lambda: not socket.socket().connect_ex(("127.0.0.1", port)))
        known(archive, port)
        yield
    finally:
        listening.terminate()
        listening.wait(10)


@pytest.mark.dcmtk
@pytest.mark.parametrize(
    ("model", "keys", "numbers"),
    [
        ("-P", ("PATIENT", "PatientID=P1"), "1 2 3 4"),
        ("-P", ("STUDY", "PatientID=P1", "StudyInstanceUID=1.2.3"), "1 2 3"),
        ("-P", ("SERIES", "PatientID=P1", "StudyInstanceUID=1.2.3", "SeriesInstanceUID=1.2.3.5"), "3"),
        ("-P", ("IMAGE", "PatientID=P1", "StudyInstanceUID=1.2.3", "SeriesInstanceUID=1.2.3.4", "SOPInstanceUID=1.2.3.4.2"), "2"),
        ("-S", ("STUDY", "StudyInstanceUID=1.2.3"), "1 2 3"),
        ("-S", ("SERIES", "StudyInstanceUID=1.2.3", "SeriesInstanceUID=1.2.3.4"), "1 2"),
        ("-S", ("IMAGE", "StudyInstanceUID=1.2.3", "SeriesInstanceUID=1.2.3.4", "SOPInstanceUID=1.2.3.4.1\\1.2.3.4.2"), "1 2"),
        ("-O", ("PATIENT", "PatientID=P1"), "1 2 3 4"),
        ("-O", ("STUDY", "PatientID=P1", "StudyInstanceUID=1.2.4"), "4"),
    ],
)
def test_movescu_to_storescp(
    server: Serving, archive: Archive, store: Store, tmp_path: Path, model: str, keys: tuple[str, ...], numbers: str
) -> None:
    """Each model and level of it: what has come has the pixels of what is stored."""
    files = {
        1: instance(1, side=512),
        2: instance(2, side=512),
        3: instance(3, series="1.2.3.5"),
        4: instance(4, study="1.2.4", series="1.2.4.1"),
    }
    for data in files.values():
        store(data)
    wanted = [int(number) for number in numbers.split()]
    with storescp(tmp_path / "got", archive):
        command = [program("movescu"), "-v", model, "-aec", "LIGHTBOX", "-aem", "NODE"]
        command += [part for key in (f"QueryRetrieveLevel={keys[0]}", *keys[1:]) for part in ("-k", key)]
        done = subprocess.run([*command, "127.0.0.1", str(server.port)], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        server.told.wait("retrieved", "C-MOVE", 0, len(wanted))
    got = {int(one.InstanceNumber): one.PixelData for one in map(dcmread, (tmp_path / "got").iterdir())}
    assert got == {number: dcmread(archive_file(archive, files[number])).PixelData for number in wanted}


@pytest.mark.dcmtk
def test_a_storescp_that_is_killed_in_the_middle(server: Serving, archive: Archive, store: Store) -> None:
    """What was sent before is completed, what is left is failed and named, and that does not take long."""
    for number in range(1, 41):
        store(instance(number, side=512))
    port = closed_port()
    listening = subprocess.Popen([program("storescp"), "--ignore", "-aet", "NODE", str(port)])
    try:
        wait_until(lambda: not socket.socket().connect_ex(("127.0.0.1", port)))
        known(archive, port)
        with mover(server) as association:
            identifier = Dataset()
            identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", "1.2.3"
            begun = time.monotonic()
            failed: Any = None
            for status, failed in association.send_c_move(identifier, "NODE", STUDY):  # noqa: B007 - the last is looked at
                if status.Status == 0xFF00 and status.NumberOfCompletedSuboperations == 3:
                    listening.kill()
            assert time.monotonic() - begun < 15
    finally:
        listening.kill()
        listening.wait(10)
    completed = status.NumberOfCompletedSuboperations
    assert 3 <= completed < 40, "it was killed too late to test anything"
    assert (status.Status, status.NumberOfFailedSuboperations) == (0xB000, 40 - completed)
    assert len(failed.FailedSOPInstanceUIDList) == 40 - completed


def archive_file(archive: Archive, data: bytes) -> Path:
    uids = scan(data).uids
    (located,) = archive.index.locate(Scope(uids.study, uids.series, uids.instance))
    return archive.blobs.path(located.object_key)  # type: ignore[attr-defined,no-any-return]
