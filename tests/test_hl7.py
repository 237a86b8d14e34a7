"""HL7 orders: framing, text and fields, the mapping onto the worklist, order control, acknowledgements, the port under load."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import hl7
import pytest
from hl7.client import MLLPClient
from hypothesis import given
from hypothesis import strategies as st

from pacs.hl7 import messages
from pacs.hl7.framing import Framing, TooLong, framed
from pacs.hl7.listener import HL7Limits, Listener
from pacs.hl7.messages import CHARACTER_SETS, Message, Rejected
from pacs.hl7.orders import CONTROLS, ORDER, STATUSES, changes_of
from pacs.hl7.receiving import Receiver
from pacs.hl7.senders import Door
from storage.archive import Archive
from storage.index import Index
from storage.worklist import Search, Worklist
from storage.worklist_entries import BY_KEYWORD, StepState, fields_of
from storage.worklist_orders import Orders
from tests.support.indexes import in_threads

NOON = time.mktime((2026, 11, 28, 12, 0, 0, 0, 0, -1))
MSH = r"MSH|^~\&|RIS|HOSPITAL|LIGHTBOX|RADIOLOGY|20261128110000||{kind}|{control_id}|P|{version}||||||{charset}"
PID = "PID|1||4711^^^HOSP^MR~99^^^OLD||Doe^Jane^Q^III^Dr^PhD||19700102|F||||||||||A17"
PV1 = "PV1|1|I|WARD7^R12^B2|||||0815^House^Gregory|||||||B6|V|||V123"
ORC = "ORC|{control}|PL1^RIS|FI1^RIS||{status}||^^^202611281030^^S||20261128|||0815^House^Gregory|||||RAD^Radiology"
OBR = "OBR|1|PL1^RIS|FI1^RIS|CTCH^CT of the chest^99RIS^P1^Chest routine^99P||||||||D1^isolation|diabetes|||77^Wilson^James||ACC1|RP1|SPS1||||{modality}|||^^^202611281030^^S|||WALK|^cough|||12&Chase&Robert"
ZDS = "ZDS|1.2.3.4^RIS^Application^DICOM"


def message(
    *segments: str,
    kind: str = "ORM^O01",
    control: str = "NW",
    status: str = "",
    control_id: str = "M1",
    version: str = "2.3.1",
    charset: str = "UNICODE UTF-8",
    modality: str = "CT",
    codec: str = "utf-8",
) -> bytes:
    """A message; without segments a whole order."""
    lines = [MSH, *(segments or (PID, PV1, ORC, OBR, ZDS))]
    given = {"kind": kind, "control": control, "status": status, "control_id": control_id, "version": version}
    text = "\r".join(line.format(**given, charset=charset, modality=modality) for line in lines) + "\r"
    return text.encode(codec)


def answered(acknowledgement: bytes) -> tuple[str, str, str]:
    """MSA-1, MSA-2 and ERR-3.1 of an acknowledgement, read by the library."""
    found = hl7.parse(acknowledgement.decode("ascii"))
    error = str(found.segment("ERR")[3][0][0]) if any(str(one[0]) == "ERR" for one in found) else ""
    return str(found.segment("MSA")[1]), str(found.segment("MSA")[2]), error


# Framing


@given(st.lists(st.binary(max_size=40).filter(lambda one: b"\x1c\r" not in one and not one.endswith(b"\x1c")), max_size=5), st.integers(1, 9))
def test_messages_come_out_as_they_went_in(sent: list[bytes], size: int) -> None:
    framing, found = Framing(100), []
    stream = b"noise" + b"\r\n".join(framed(one) for one in sent)
    for at in range(0, len(stream), size):
        found += list(framing.feed(stream[at : at + size]))
    assert found == sent
    assert not framing.inside


def test_a_message_over_the_limit_is_not_kept() -> None:
    framing = Framing(10)
    assert list(framing.feed(framed(b"1234567890"))) == [b"1234567890"]
    with pytest.raises(TooLong):
        list(framing.feed(framed(b"12345678901")))
    with pytest.raises(TooLong):
        list(Framing(10).feed(b"\x0b" + b"1" * 20))


# Text


@pytest.mark.parametrize(
    ("charset", "codec", "name"),
    [
        ("", "utf-8", "Müller"),
        ("", "latin-1", "Müller"),
        ("ASCII", "ascii", "Muller"),
        ("8859/1", "latin-1", "Müller"),
        ("8859/2", "iso8859-2", "Łuczak"),
        ("8859/5", "iso8859-5", "Иванов"),
        ("UNICODE UTF-8", "utf-8", "山田"),
        ("~ISO IR87", "iso2022_jp", "山田"),
        ("ASCII~ISO IR87", "iso2022_jp", "山田"),
        ("GB 18030-2000", "gb18030", "王小东"),
        ("KS X 1001", "euc_kr", "김희중"),
        ("BIG-5", "big5", "王小東"),
    ],
)
def test_character_sets(charset: str, codec: str, name: str) -> None:
    raw = message(PID.replace("Doe", name), charset=charset, codec=codec)
    assert Message(raw).segment("PID").get(5) == name


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r"A\T\B", "A&B"),
        (r"A\S\B\F\C\R\D\E\E", "A^B|C~D\\E"),
        (r"A\X42\C", "ABC"),
        (r"\H\bold\N\ text", "bold text"),
        (r"one\.br\two", "one two"),
        (r"\.sp999999999\x", "x"),
        (r"\Zlocal\x", "x"),
        (r"\X4\x", "x"),
        (r"no end\T", r"no end\T"),
        ("\\", "\\"),
    ],
)
def test_escapes(written: str, read: str) -> None:
    assert Message(message("NTE|1||" + written.replace("{", "{{"))).segment("NTE").get(3) == read.strip()


def test_other_separators_and_line_ends() -> None:
    raw = b"MSH#*~\\&#RIS#H#L#R#2026##ORM*O01#1#P#2.3\r\nPID###7*x\n"
    found = Message(raw)
    assert (found.head.kind, found.head.event, found.segment("PID").get(3), found.segment("PID").get(3, 2)) == ("ORM", "O01", "7", "x")


# What an order says

MAPPED = {
    "PatientID": "4711",
    "IssuerOfPatientID": "HOSP",
    "PatientName": "Doe^Jane^Q^Dr^III PhD",
    "PatientBirthDate": "19700102",
    "PatientSex": "F",
    "AdmissionID": "V123",
    "CurrentPatientLocation": "WARD7 R12 B2",
    "ReferringPhysicianName": "House^Gregory",
    "PregnancyStatus": 3,
    "ConfidentialityConstraintOnPatientDataDescription": "V",
    "PlacerOrderNumberImagingServiceRequest": "PL1",
    "FillerOrderNumberImagingServiceRequest": "FI1",
    "RequestingPhysician": "Wilson^James",
    "RequestingService": "Radiology",
    "AccessionNumber": "ACC1",
    "RequestedProcedureID": "RP1",
    "RequestedProcedureDescription": "CT of the chest",
    "RequestedProcedureCodeSequence": [{"CodeValue": "CTCH", "CodeMeaning": "CT of the chest", "CodingSchemeDesignator": "99RIS"}],
    "RequestedProcedurePriority": "STAT",
    "ReasonForTheRequestedProcedure": "cough",
    "PatientTransportArrangements": "WALK",
    "PatientState": "isolation",
    "MedicalAlerts": ["diabetes"],
    "StudyInstanceUID": "1.2.3.4",
    "ScheduledProcedureStepID": "SPS1",
    "Modality": "CT",
    "ScheduledProtocolCodeSequence": [{"CodeValue": "P1", "CodeMeaning": "Chest routine", "CodingSchemeDesignator": "99P"}],
    "ScheduledProcedureStepDescription": "Chest routine",
    "ScheduledPerformingPhysicianName": "Chase^Robert",
    "ScheduledProcedureStepStartDate": "20261128",
    "ScheduledProcedureStepStartTime": "103000",
    "ScheduledProcedureStepStatus": "SCHEDULED",
}


def entries(index: Index) -> list[dict[str, Any]]:
    return [fields_of(entry.dataset) for entry in Worklist(index).find(Search(states=frozenset(StepState)))]


def test_an_order_becomes_an_entry(index: Index) -> None:
    """ORM^O01 of HL7 2.3.1 with its ZDS, every field by the table."""
    assert answered(Receiver(index).receive(message())) == ("AA", "M1", "")
    (entry,) = entries(index)
    entry["RequestedProcedureCodeSequence"][0] = {**entry["RequestedProcedureCodeSequence"][0]}
    assert entry == MAPPED


def test_every_row_of_the_mapping_is_of_a_keyword_that_entries_have() -> None:
    assert [row for row in ORDER if row.keyword not in BY_KEYWORD] == []


def test_an_omi_order_has_an_entry_for_each_of_its_steps(index: Index) -> None:
    segments = [
        PID,
        "ORC|NW|PL1",
        "TQ1|1||||||20261201083000||A",
        "OBR|1|PL1||MRHE^MR of the head^99RIS",
        "IPC|ACC1|RP1|1.2.3.5|S1|MR|HEAD1^T1^99P|MRROOM|B1|MR1~MR2",
        "IPC|ACC1|RP1|1.2.3.5|S2|MR|HEAD2^T2^99P|MRROOM|B1|MR1",
    ]
    assert answered(Receiver(index).receive(message(*segments, kind="OMI^O23^OMI_O23", version="2.5.1")))[0] == "AA"
    found = entries(index)
    names = ("ScheduledProcedureStepID", "ScheduledStationAETitle", "ScheduledProcedureStepDescription", "ScheduledStationName")
    assert [tuple(one[name] for name in names) for one in found] == [("S1", ["MR1", "MR2"], "T1", ["MRROOM"]), ("S2", ["MR1"], "T2", ["MRROOM"])]
    assert {(one["StudyInstanceUID"], one["ScheduledProcedureStepStartTime"], one["RequestedProcedurePriority"]) for one in found} == {
        ("1.2.3.5", "083000", "HIGH")
    }


def test_an_omg_order_is_as_an_orm_order() -> None:
    general, older = (changes_of(Message(message(kind=kind))) for kind in ("OMG^O19^OMG_O19", "ORM^O01"))
    assert general == older


def test_what_is_answered_is_counted(archive: Archive) -> None:
    counted: list[tuple[str, str]] = []

    class Counting:
        def acknowledged(self, message: str, code: str, seconds: float) -> None:
            assert seconds > 0
            counted.append((message, code))

    receiver = Receiver(archive.index, Counting())
    for raw in (message(), message(control="PA", control_id="M2"), message(kind="XYZ^Z99"), b"x"):
        receiver.receive(raw)
    assert counted == [("ORM^O01", "AA"), ("ORM^O01", "AE"), ("other", "AR"), ("other", "AR")]


def test_two_orders_in_one_message_are_both_done_or_neither(index: Index) -> None:
    receiver = Receiver(index)
    second = [ORC.replace("PL1", "PL2").replace("FI1", "FI2"), OBR.replace("PL1", "PL2").replace("FI1", "FI2").replace("SPS1", "SPS2")]
    bad = [second[0], second[1].replace("ACC1", "A" * 17)]
    assert answered(receiver.receive(message(PID, ORC, OBR, *bad)))[::2] == ("AE", "102")
    assert entries(index) == []
    assert answered(receiver.receive(message(PID, ORC, OBR, *second)))[0] == "AA"
    assert [one["ScheduledProcedureStepID"] for one in entries(index)] == ["SPS1", "SPS2"]
    assert len({one["StudyInstanceUID"] for one in entries(index)}) == 1, "one requested procedure"


def test_names_in_several_scripts() -> None:
    written = PID.replace("Doe^Jane^Q^III^Dr^PhD", "Yamada^Tarou^^^^^^A~山田^太郎^^^^^^I~やまだ^たろう^^^^^^P")
    (change,) = changes_of(Message(message(written, ORC, OBR)))
    assert change.fields["PatientName"] == "Yamada^Tarou=山田^太郎=やまだ^たろう"


@pytest.mark.parametrize(
    ("change", "keyword", "value"),
    [
        (("||19700102|F", '||19700102|""'), "PatientSex", None),
        (("||19700102|F", "||19700102|U"), "PatientSex", "absent"),
        (("ACC1", ""), "AccessionNumber", "absent"),
        (("|CTCH^CT of the chest^99RIS^P1", "|" + "C" * 17 + "^CT of the chest^99RIS^P1"), "RequestedProcedureCodeSequence", "absent"),
        (("CT of the chest", "x" * 70), "RequestedProcedureDescription", "x" * 64),
        (("202611281030", "20261128"), "ScheduledProcedureStepStartTime", "absent"),
        (("202611281030", "20261128103015.123+0100"), "ScheduledProcedureStepStartTime", "103015"),
        (("V123", ""), "AdmissionID", "A17"),
        (("^cough", "cough"), "ReasonForTheRequestedProcedure", "cough"),
    ],
)
def test_how_fields_are_read(change: tuple[str, str], keyword: str, value: Any) -> None:
    segments = [one.replace(*change) for one in (PID, PV1, ORC, OBR, ZDS)]
    (found,) = changes_of(Message(message(*segments)))
    assert found.fields.get(keyword, "absent") == value


@pytest.mark.parametrize(("section", "modality"), [("MR", "MR"), ("NMR", "MR"), ("RUS", "US"), ("nms", "NM")])
def test_sections_that_dicom_calls_otherwise(section: str, modality: str) -> None:
    (found,) = changes_of(Message(message(modality=section)))
    assert found.fields["Modality"] == modality


# Order control


@pytest.mark.parametrize("control", ["NW", "XO"])
def test_an_order_that_is_there_is_changed(index: Index, control: str) -> None:
    receiver = Receiver(index)
    receiver.receive(message())
    Worklist(index).change(1, {"ScheduledProcedureStepStatus": "ARRIVED", "ScheduledStationAETitle": "CT1"})
    later = [one.replace("202611281030", "202611291200") for one in (ORC, OBR)]
    assert answered(receiver.receive(message(PID, *later, ZDS, control=control, control_id="M2")))[0] == "AA"
    (entry,) = entries(index)
    assert (entry["ScheduledProcedureStepStartDate"], entry["ScheduledProcedureStepStartTime"]) == ("20261129", "120000")
    assert (entry["ScheduledProcedureStepStatus"], entry["ScheduledStationAETitle"]) == ("ARRIVED", ["CT1"]), "what it does not say stays"


@pytest.mark.parametrize(("when", "time"), [("20261129", "000000"), ("20261128", "103000")], ids=["another day", "the same day"])
def test_an_order_that_says_a_day_and_no_time(index: Index, when: str, time: str) -> None:
    """On another day the step does not begin at the time of the day before."""
    receiver = Receiver(index)
    receiver.receive(message())
    later = [one.replace("202611281030", when) for one in (ORC, OBR)]
    assert answered(receiver.receive(message(PID, *later, ZDS, control="XO", control_id="M2")))[0] == "AA"
    (entry,) = entries(index)
    assert (entry["ScheduledProcedureStepStartDate"], entry["ScheduledProcedureStepStartTime"]) == (when, time)


ENDING = [(control, "", state) for control, state in CONTROLS.items() if state] + [("SC", status, state) for status, state in STATUSES.items()]


def test_what_ends_an_order(index: Index) -> None:
    receiver = Receiver(index)
    for number, (control, status, state) in enumerate(ENDING):
        receiver.receive(message(control_id=f"N{number}"))
        Worklist(index).change(1, {"ScheduledProcedureStepStatus": "SCHEDULED"})
        # By its order number alone, as information systems cancel.
        ending = message(PID, f"ORC|{control}|PL1^RIS|||{status}", control_id=f"E{number}")
        assert answered(receiver.receive(ending))[0] == "AA"
        assert Worklist(index).get(1).state is state, (control, status)


@pytest.mark.parametrize("control", ["NW", "XO", "CA", "DC"])
@pytest.mark.parametrize("change", [("4711", "4712"), ("HOSP", "ELSEWHERE")], ids=["number", "issuer"])
def test_an_order_of_another_patient_is_refused(control: str, change: tuple[str, str], index: Index) -> None:
    """Two systems may number their orders alike: the step of one patient must not become, or end as, that of another."""
    receiver = Receiver(index)
    receiver.receive(message())
    before = entries(index)
    acknowledgement = receiver.receive(message(PID.replace(*change), PV1, ORC, OBR, ZDS, control=control, control_id="M2"))
    assert (answered(acknowledgement)[0], b"another patient" in acknowledgement) == ("AE", True)
    assert entries(index) == before


def test_a_canceled_order_that_comes_anew_is_scheduled_again(index: Index) -> None:
    receiver = Receiver(index)
    receiver.receive(message())
    receiver.receive(message(control="CA", control_id="M2"))
    assert Worklist(index).get(1).state is StepState.CANCELED
    receiver.receive(message(control_id="M3"))
    assert Worklist(index).get(1).state is StepState.SCHEDULED
    assert answered(receiver.receive(message(PID, "ORC|CA|OTHER", control_id="M4")))[0] == "AA", "there is nothing left to cancel"


def test_a_message_that_comes_again_is_done_once(index: Index) -> None:
    receiver = Receiver(index)
    for raw in (message(), message(control="CA", control_id="M2"), message()):
        assert answered(receiver.receive(raw))[0] == "AA"
    assert Worklist(index).get(1).state is StepState.CANCELED
    errors = in_threads(lambda _: receiver.receive(message(control_id="M5")), 4)
    assert errors == []
    assert Worklist(index).get(1).version == 3
    Orders(index).tidy(days=-1)
    receiver.receive(message())
    assert Worklist(index).get(1).version == 4, "it was forgotten"


def test_patients_are_changed_and_merged(index: Index) -> None:
    receiver = Receiver(index)
    receiver.receive(message())
    receiver.receive(message(PID.replace("4711", "4712").replace("HOSP", "ELSEWHERE"), ORC.replace("PL1", "PL2").replace("FI1", "FI2"), OBR.replace("PL1", "PL2").replace("FI1", "FI2"), control_id="M2"))
    married = PID.replace("Doe^Jane^Q^III^Dr^PhD", "Roe^Jane")
    assert answered(receiver.receive(message(married, kind="ADT^A08", control_id="M3")))[0] == "AA"
    assert sorted(one["PatientName"] for one in entries(index)) == ["Doe^Jane^Q^Dr^III PhD", "Roe^Jane"]
    # Of another issuer: not the same patient, whatever the number says.
    other = married.replace("4711^^^HOSP", "4711^^^ELSEWHERE").replace("Roe", "Poe")
    receiver.receive(message(other, kind="ADT^A31", control_id="M4"))
    assert "Poe^Jane" not in [one["PatientName"] for one in entries(index)]
    merged = message(PID.replace("4711", "5000"), "MRG|4711^^^HOSP", kind="ADT^A40", control_id="M5")
    assert answered(receiver.receive(merged))[0] == "AA"
    assert sorted(one["PatientID"] for one in entries(index)) == ["4712", "5000"]
    several = [PID.replace("4711", "6000"), "MRG|5000^^^HOSP", PID.replace("4711^^^HOSP", "7000^^^ELSEWHERE"), "MRG|4712^^^ELSEWHERE"]
    receiver.receive(message(*several, kind="ADT^A40", control_id="M6"))
    assert sorted(one["PatientID"] for one in entries(index)) == ["6000", "7000"]


# Refusals

REFUSED: list[tuple[bytes, str, str, str]] = [
    (b"", "AR", "100", "MSH"),
    (b"\0\xff", "AR", "100", "MSH"),
    (b"PID|1\r", "AR", "100", "MSH"),
    (b"MSH", "AR", "101", "MSH-9"),
    (b"MSH|^~\\&|\r", "AR", "101", "MSH-9"),
    (message(kind=""), "AR", "101", "MSH-9"),
    (message(control_id=""), "AR", "101", "MSH-10"),
    (message(version="3.0"), "AR", "203", "MSH-12"),
    (message(kind="ORU^R01"), "AR", "200", "ORM^O01"),
    (message(kind="ADT^A01"), "AR", "201", "ADT^A08"),
    (message(charset="EBCDIC"), "AR", "103", "MSH-18"),
    (message(PID.replace("Doe", "Müller"), charset="ASCII"), "AR", "102", "MSH-18"),
    (message(PID.replace("Doe", "Müller"), codec="latin-1"), "AR", "102", "MSH-18"),
    (message(PID), "AE", "100", "ORC"),
    (message(PID, ORC, OBR, control="PA"), "AE", "103", "ORC-1"),
    (message(PID, ORC, OBR, control="SC", status="ZZ"), "AE", "103", "ORC-5"),
    (message(ORC, OBR), "AE", "102", "PatientName (PID-5), PatientID (PID-3.1): a worklist entry needs a value"),
    (message(modality=""), "AE", "102", "Modality (IPC-5.1 or OBR-24): a worklist entry needs a value"),
    (message(PID, ORC, OBR.replace("ACC1", "A" * 17)), "AE", "102", "AccessionNumber (IPC-1.1 or OBR-18.1): give at most 16 characters"),
    (message(PID, ORC, OBR, "ZDS|study"), "AE", "102", "StudyInstanceUID"),
    (message(PID.replace("19700102", "1.2.1970"), ORC, OBR), "AE", "102", "YYYYMMDD"),
    (message("PID|1", kind="ADT^A08"), "AE", "101", "PID-3"),
    (message(PID, kind="ADT^A40"), "AE", "101", "MRG-1"),
    (message("NTE|" + "|" * 30_000), "AR", "102", "fields"),
]


def test_what_is_refused_is_refused_in_words(archive: Archive) -> None:
    receiver = Receiver(archive.index)
    for raw, code, error, says in REFUSED:
        acknowledgement = receiver.receive(raw)
        control_id = "M1" if b"|M1|" in raw else ""
        assert answered(acknowledgement) == (code, control_id, error), raw[:200]
        assert says in acknowledgement.decode().replace("\\S\\", "^"), acknowledgement
        assert b"Doe" not in acknowledgement
    assert entries(archive.index) == []


def test_an_acknowledgement_goes_back_to_the_sender(archive: Archive) -> None:
    acknowledgement = hl7.parse(Receiver(archive.index, clock=lambda: NOON).receive(message(version="2.3.1")).decode())
    msh = acknowledgement.segment("MSH")
    assert [str(msh[number]) for number in (3, 4, 5, 6, 7, 9, 11, 12)] == [
        "LIGHTBOX", "RADIOLOGY", "RIS", "HOSPITAL", "20261128120000", "ACK^O01^ACK", "P", "2.3.1",
    ]  # fmt: skip


def test_a_database_that_is_away_is_no_success(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    from storage.errors import IndexUnavailable

    def away(*_: object) -> None:
        raise IndexUnavailable("the database does not answer")

    monkeypatch.setattr(Orders, "apply", away)
    assert answered(Receiver(archive.index).receive(message()))[::2] == ("AE", "207")

    def broken(*_: object) -> None:
        raise RuntimeError("Doe^Jane")

    monkeypatch.setattr(Orders, "apply", broken)
    acknowledgement = Receiver(archive.index).receive(message())
    assert (answered(acknowledgement)[::2], b"Doe" in acknowledgement) == (("AE", "207"), False)


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 20))
def test_whatever_comes_is_answered_or_refused(noise: bytes, at: int, length: int) -> None:
    raw = message()
    for one in (noise, raw[:at] + noise + raw[at + length :]):
        with contextlib.suppress(Rejected):
            changes_of(Message(one))
        messages.acknowledgement(messages.head_of(one), "AA", "1", "2026").decode("ascii")


# The port


@contextmanager
def listening(archive: Archive, **limits: Any) -> Iterator[int]:
    door = Door(socket.create_server(("127.0.0.1", 0)))
    listener = Listener(Receiver(archive.index), door, limits=HL7Limits(**limits))
    listener.start()
    try:
        yield listener.ports[0]
    finally:
        assert listener.stop(10)


def test_a_real_client(archive: Archive) -> None:
    with listening(archive) as port, MLLPClient("127.0.0.1", port) as client:
        assert answered(client.send_message(message()))[:2] == ("AA", "M1")
        assert answered(client.send_message(message(control="CA", control_id="M2")))[:2] == ("AA", "M2")
    assert Worklist(archive.index).get(1).state is StepState.CANCELED


def test_several_messages_at_once_are_answered_in_order(archive: Archive) -> None:
    with listening(archive) as port, closing(socket.create_connection(("127.0.0.1", port), 10)) as client:
        client.sendall(b"".join(framed(message(control_id=f"M{number}")) for number in range(5)))
        framing = Framing(10_000)
        found: list[bytes] = []
        while len(found) < 5:
            found += list(framing.feed(client.recv(4096)))
        assert [answered(one)[1] for one in found] == [f"M{number}" for number in range(5)]


@pytest.mark.parametrize(
    ("limits", "sent"),
    [
        ({"message_bytes": 1000}, b"\x0b" + b"x" * 2000),
        ({"message_seconds": 0.1}, b"\x0bMSH|"),
        ({"idle_seconds": 0.1}, b""),
    ],
    ids=["size", "time", "silence"],
)
def test_limits_end_a_connection(archive: Archive, limits: dict[str, float], sent: bytes) -> None:
    with listening(archive, **limits) as port, closing(socket.create_connection(("127.0.0.1", port), 10)) as client:
        client.sendall(sent)
        received = b""
        while data := client.recv(4096):
            received += data
        assert (b"over the limit" in received) == ("message_bytes" in limits)


def test_connections_are_few(archive: Archive) -> None:
    with listening(archive, connections_per_address=2) as port:
        clients = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(3)]
        with suppress(ConnectionError):
            assert clients[2].recv(1) == b"", "one too many"
        clients[0].sendall(framed(message()))
        assert clients[0].recv(4096).startswith(b"\x0b")
        clients[1].close()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            # One too many is closed, perhaps with what it has sent unread.
            with suppress(ConnectionError), closing(socket.create_connection(("127.0.0.1", port), 10)) as again:
                again.sendall(framed(message(control_id="M2")))
                if again.recv(4096):
                    break
        else:
            pytest.fail("the place of a connection that ended is not free")
        for one in clients:
            one.close()
    assert [one.name for one in threading.enumerate() if one.name.startswith("hl7")] == []


def test_every_character_set_can_be_decoded() -> None:
    assert [name for name, codec in CHARACTER_SETS.items() if "a".encode(codec).decode(codec) != "a"] == []
