"""The modality worklist over DIMSE: DCMTK's findscu and its own worklist provider as reference, pynetdicom, and bare PDUs."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.tag import Tag
from pydicom.uid import UID
from pynetdicom import AE
from pynetdicom.association import Association

from pacs.scp.sop_classes import WORKLIST, WORKLIST_INFORMATION
from storage.archive import Archive
from storage.worklist import Worklist
from storage.worklist_entries import BY_KEYWORD, fields_of
from tests.support import dimse_peer
from tests.support.dimse_peer import Peer
from tests.support.dimse_server import Serving, serving
from tests.support.worklist import fields, many

DCMTK = Path("/usr/bin")
EXAMPLES = Path("/usr/share/doc/dcmtk/examples")
QUERIES = sorted((EXAMPLES / "wlistqry").glob("*.dump"))
STEPS = "ScheduledProcedureStepSequence"


@pytest.fixture
def server(archive: Archive) -> Iterator[Serving]:
    with serving(archive) as running:
        yield running


def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    if not shutil.which(program, path=str(DCMTK)):
        pytest.skip(f"DCMTK's {program} is not installed: nothing is tested with it")
    command = [str(DCMTK / program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={"TCP_NODELAY": "1"})


def findscu(port: int, out: Path, *arguments: str | Path, called: str = "LIGHTBOX") -> list[Dataset]:
    """The answers that DCMTK's findscu wrote down."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    done = run("findscu", "-W", "-X", "-od", out, "-aet", "CT1", "-aec", called, "127.0.0.1", str(port), *arguments)
    assert done.returncode == 0, done.stderr
    return [dcmread(path, force=True) for path in sorted(out.glob("rsp*.dcm"))]


@pytest.mark.dcmtk
def test_findscu(archive: Archive, server: Serving, tmp_path: Path) -> None:
    worklist = Worklist(archive.index)
    worklist.create(fields(PatientName="MÜLLER^JÖRG"))
    worklist.create(fields(PatientName="DOE^JOHN", Modality="MR", ScheduledStationAETitle="MR1"))
    keys = [f"{STEPS}[0].Modality=CT", f"{STEPS}[0].ScheduledStationAETitle=CT1", f"{STEPS}[0].ScheduledProcedureStepStartDate=20261128"]
    returned = ["PatientName", "PatientID", "StudyInstanceUID", f"{STEPS}[0].ScheduledProcedureStepID", "SpecificCharacterSet=ISO_IR 100"]
    (one,) = findscu(server.port, tmp_path / "out", *(part for key in (*keys, *returned) for part in ("-k", key)))
    assert (one.SpecificCharacterSet, one.PatientName, one.PatientID) == ("ISO_IR 100", "MÜLLER^JÖRG", "P1")
    (step,) = one[STEPS].value
    assert (step.Modality, step.ScheduledProcedureStepID) == ("CT", "S000001")
    assert len(step) == 4, "what was asked for and nothing else"
    server.told.wait("found", "WORKLIST", 0x0000, 1)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, list[Dataset]]]:
    """DCMTK's own worklist provider with its own example entries, and those entries."""
    dumps = sorted((EXAMPLES / "wlistdb" / "OFFIS").glob("*.dump"))
    if not dumps or not shutil.which("wlmscpfs", path=str(DCMTK)):
        pytest.skip("DCMTK's worklist provider or its examples are not installed: nothing is compared with it")
    folder = tmp_path_factory.mktemp("wlistdb")
    (folder / "OFFIS").mkdir()
    (folder / "OFFIS" / "lockfile").touch()
    for dump in dumps:
        assert run("dump2dcm", dump, folder / "OFFIS" / f"{dump.stem}.wl").returncode == 0
    entries: list[Dataset] = [dcmread(path, force=True) for path in sorted((folder / "OFFIS").glob("*.wl"))]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    process = subprocess.Popen([str(DCMTK / "wlmscpfs"), "-dfp", str(folder), str(port)])
    try:
        while run("echoscu", "-aec", "OFFIS", "127.0.0.1", str(port)).returncode:
            time.sleep(0.05)
        yield port, entries
    finally:
        process.kill()
        process.wait()


@pytest.mark.dcmtk
@pytest.mark.parametrize("query", QUERIES, ids=lambda path: path.stem)
def test_as_dcmtk_does_on_its_own_examples(
    server: Serving, archive: Archive, reference: tuple[int, list[Dataset]], tmp_path: Path, query: Path
) -> None:
    port, entries = reference
    for entry in entries:
        Worklist(archive.index).create(_fields(entry))
    assert run("dump2dcm", query, tmp_path / "query.dcm").returncode == 0
    theirs = findscu(port, tmp_path / "theirs", tmp_path / "query.dcm", called="OFFIS")
    ours = findscu(server.port, tmp_path / "ours", tmp_path / "query.dcm")
    assert sorted(map(_text, ours)) == sorted(map(_text, theirs))


def _fields(entry: Dataset) -> dict[str, Any]:
    """An example entry as what makes one; what it has beyond table K.6-1 is left out."""
    found: dict[str, Any] = {}
    for dataset in (entry, entry[STEPS].value[0]):
        for element in dataset:
            if element.keyword in BY_KEYWORD and element.VR != "SQ" and element.value not in (None, ""):
                value = element.value
                found[element.keyword] = [str(one) for one in value] if element.VM > 1 else str(value)
    return found


def _text(dataset: Dataset) -> str:
    """Its values, without those that only we have: the status, and how they are written."""
    ours = ("SpecificCharacterSet", "ScheduledProcedureStepStatus")
    valued = [one for one in dataset.iterall() if one.VR != "SQ" and one.value and one.keyword not in ours]
    return "\n".join(sorted(f"{one.tag} {one.value}" for one in valued))


# pynetdicom


@pytest.fixture
def peer(server: Serving) -> Iterator[Association]:
    ae = AE("CT1")
    ae.add_requested_context(WORKLIST)
    association = ae.associate("127.0.0.1", server.port, ae_title="LIGHTBOX")
    assert association.is_established
    yield association
    association.release()


def asked(peer: Association, query: Dataset) -> tuple[list[int], list[Dataset]]:
    """The statuses of the answers, and their identifiers."""
    answers = list(peer.send_c_find(query, WORKLIST))
    return [status.Status for status, _ in answers], [one for _, one in answers if one is not None]


def query(step: dict[str, Any] | None = None, **keys: Any) -> Dataset:
    made = Dataset()
    for keyword, value in keys.items():
        setattr(made, keyword, value)
    if step is not None:
        item = Dataset()
        for keyword, value in step.items():
            setattr(item, keyword, value)
        made.ScheduledProcedureStepSequence = [item]
    return made


@pytest.mark.parametrize(
    ("made", "statuses"),
    [
        (query(PatientName="", StudyInstanceUID=""), [0xFF00, 0x0000]),
        (query({}, PatientName=""), [0xFF00, 0x0000]),
        (query({"Modality": "MR"}), [0x0000]),
        (query({"Modality": "CT", "ScheduledProcedureStepStartDate": "20261127-", "ScheduledProcedureStepStartTime": ""}), [0xFF00, 0x0000]),
        # Not in table K.6-1: taken as empty, and said so.
        (query(PatientName="", StationName="X"), [0xFF01, 0x0000]),
        (query({"Rows": 512}), [0xFF01, 0x0000]),
        (query({"ScheduledStationAETitle": "CT1", "StudyDate": ""}), [0xFF01, 0x0000]),
        # Not values of their attributes.
        (query({"ScheduledProcedureStepStartDate": "20261128-20261127"}), [0xA900]),
        (query({"ScheduledProcedureStepStartTime": "1200-1100"}), [0xA900]),
    ],
    ids=range(9),
)
def test_statuses(peer: Association, archive: Archive, made: Dataset, statuses: list[int]) -> None:
    Worklist(archive.index).create(fields())
    found, datasets = asked(peer, made)
    assert found == statuses
    for one in datasets:
        assert {element.tag for element in one} == {element.tag for element in made}


def test_an_answer_has_every_key_and_those_of_the_whole_step(peer: Association, archive: Archive) -> None:
    made = Worklist(archive.index).create(fields(ScheduledStationAETitle=None))
    _, (one,) = asked(peer, query({}, PatientName="", RequestingPhysician="", ReferencedStudySequence=None))
    assert one.RequestingPhysician == ""
    assert one.ReferencedStudySequence == []
    (step,) = one.ScheduledProcedureStepSequence
    assert step.ScheduledStationAETitle == "CT1", "for no station in particular: for the one that asks"
    wanted = {keyword for keyword in fields_of(made.dataset) if BY_KEYWORD[keyword].of_step} | {"ScheduledStationAETitle"}
    assert {element.keyword for element in step} == wanted


@pytest.mark.parametrize(
    ("character_set", "name", "answered_in"),
    [
        ("ISO_IR 192", "山田*", "ISO_IR 192"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎", "ISO_IR 192"),
        ("ISO_IR 100", "Yamada*", "ISO_IR 192"),
    ],
    ids=["utf-8", "jis", "latin-1"],
)
def test_names_in_any_script(peer: Association, archive: Archive, character_set: Any, name: str, answered_in: str) -> None:
    Worklist(archive.index).create(fields(PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう"))
    Worklist(archive.index).create(fields(PatientName="DOE^JANE"))
    _, (one,) = asked(peer, query(SpecificCharacterSet=character_set, PatientName=name))
    assert (one.SpecificCharacterSet, one.PatientName) == (answered_in, "Yamada^Tarou=山田^太郎=やまだ^たろう")


@pytest.mark.parametrize(("value", "count"), [("P1", 1), ("P*", 1), ("P2", 0), ("", 2)])
def test_codes_inside_the_step(peer: Association, archive: Archive, value: str, count: int) -> None:
    codes = [{"CodeValue": "P1", "CodingSchemeDesignator": "99P", "CodeMeaning": "one"}]
    Worklist(archive.index).create(fields(ScheduledProtocolCodeSequence=codes))
    Worklist(archive.index).create(fields())
    code = Dataset()
    code.CodeValue = value
    statuses, found = asked(peer, query({"ScheduledProtocolCodeSequence": [code]}))
    assert (len(found), statuses[-1]) == (count, 0x0000)
    for one in found:
        (step,) = one.ScheduledProcedureStepSequence
        assert [{element.keyword for element in item} for item in step.ScheduledProtocolCodeSequence] in ([{"CodeValue"}], [])


def test_several_items_in_the_step_are_refused(peer: Association, archive: Archive) -> None:
    Worklist(archive.index).create(fields())
    made = query()
    made.ScheduledProcedureStepSequence = [Dataset(), Dataset()]
    (status,) = [status for status, _ in peer.send_c_find(made, WORKLIST)]
    assert status.Status == 0xA900
    assert "one" in status.ErrorComment


@pytest.mark.parametrize("information", [b"\1\1\1", b"\1\1\0", b"\1\1\1\1"])
def test_names_are_fuzzy_where_that_was_agreed(server: Serving, archive: Archive, information: bytes) -> None:
    Worklist(archive.index).create(fields(PatientName="MÜLLER^JÖRG"))
    ae = AE("CT1")
    ae.add_requested_context(WORKLIST)
    from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

    item = SOPClassExtendedNegotiation()
    item.sop_class_uid = WORKLIST
    item.service_class_application_information = information
    association = ae.associate("127.0.0.1", server.port, ae_title="LIGHTBOX", ext_neg=[item])
    agreed = association.acceptor.sop_class_extended[UID(WORKLIST)]
    _, found = asked(association, query(PatientName="muller"))
    association.release()
    assert agreed == bytes(a & b for a, b in zip(information, WORKLIST_INFORMATION + b"\0", strict=False))
    assert len(found) == information[2]


def test_a_thousand_entries_in_less_than_a_second(peer: Association, archive: Archive) -> None:
    many(archive.index, 1000)
    begun = time.perf_counter()
    statuses, found = asked(peer, query({"Modality": "CT", "ScheduledProcedureStepStartDate": "20261128"}, PatientName="", PatientID=""))
    assert (len(found), statuses[-1]) == (1000, 0x0000)
    # Reading them in pynetdicom is most of it.
    assert time.perf_counter() - begun < 5


def test_cancel(server: Serving, archive: Archive) -> None:
    many(archive.index, 600)
    with Peer(server.port) as client:
        client.associate([(1, WORKLIST, (dimse_peer.IMPLICIT,))])
        identifier = dimse_peer.element(Tag("PatientName"), b"") + dimse_peer.element(Tag("PatientID"), b"")
        find = dimse_peer.message(1, dimse_peer.find_rq(WORKLIST), identifier)
        client.send(find + dimse_peer.message(1, dimse_peer.cancel_rq()))
        answers = 0
        while (status := dimse_peer.status_of(client.answer()[0])) == 0xFF00:
            answers += 1
        assert status == 0xFE00
        assert answers < 600
        client.release()
