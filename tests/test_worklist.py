"""The modality worklist's store on both engines: what makes an entry, what finds it, what changes it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from storage.errors import BadRequest, NotFound, WorklistRefused
from storage.index import Index
from storage.worklist import COLUMNS, Search, Worklist, _narrowed
from storage.worklist_entries import BY_KEYWORD, ENDED, KEYS, OFFERED, StepState, dataset_of, fields_of
from tests.support.indexes import in_threads
from tests.support.worklist import conditions, fields

DAY = 86400.0
# 2026-11-28 12:00 local time, whatever that is.
NOON = datetime(2026, 11, 28, 12).timestamp()


def found(worklist: Worklist, **asked: str) -> list[int]:
    return [entry.number for entry in worklist.find(Search(conditions(**asked)))]


def test_what_is_given_comes_back() -> None:
    given = {
        **fields(PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう", PregnancyStatus=4, PatientWeight=70.5),
        "ScheduledStationAETitle": ["CT1", "CT2"],
        "RequestedProcedureCodeSequence": [{"CodeValue": "CHEST", "CodingSchemeDesignator": "99RIS", "CodeMeaning": "Chest"}],
        "ScheduledProcedureStepStartTime": "103000",
    }
    assert fields_of(dataset_of(given)) == given


REFUSED: list[tuple[str, Any, str]] = [
    ("PatientName", None, "PatientName: a worklist entry needs a value"),
    ("Modality", "", "Modality: a worklist"),
    ("PatientBirthDate", "19700231", "PatientBirthDate: give a date"),
    ("ScheduledProcedureStepStartTime", "2530", "ScheduledProcedureStepStartTime: give a time"),
    ("Modality", "C!", "Modality: give at most 16"),
    ("AccessionNumber", "A" * 17, "AccessionNumber: give at most 16"),
    ("AccessionNumber", "A\\B", "AccessionNumber: give"),
    ("PatientName", "DOE\\JANE", "PatientName: give a name"),
    ("PatientID", "P\n1", "PatientID: give"),
    ("PatientID", ["P1", "P2"], "PatientID has one value; 2"),
    ("StudyInstanceUID", "1.02.3", "StudyInstanceUID: give a UID"),
    ("PregnancyStatus", "many", "PregnancyStatus: give a whole number"),
    ("PregnancyStatus", 65536, "PregnancyStatus: give a whole number"),
    ("PatientWeight", "heavy", "PatientWeight: give a number"),
    ("ScheduledStationAETitle", "A" * 17, "ScheduledStationAETitle: give an AE title"),
    ("RequestedProcedureCodeSequence", [{"CodeValue": "X"}], "RequestedProcedureCodeSequence: a code has"),
    ("RequestedProcedureCodeSequence", [{"Code": "X"}], "RequestedProcedureCodeSequence: give items of CodeValue"),
    ("PixelData", "x", "PixelData is no attribute"),
    ("ScheduledProcedureStepStatus", "DONE", "ScheduledProcedureStepStatus: give one of SCHEDULED"),
]


def test_what_cannot_be_is_refused_by_name_without_its_value(index: Index) -> None:
    worklist = Worklist(index)
    for keyword, value, says in REFUSED:
        with pytest.raises(BadRequest) as refused:
            worklist.create(fields(**{keyword: value}))
        assert str(refused.value).startswith(says)
        assert "DOE" not in str(refused.value)
    assert found(worklist) == []


def test_ids_and_start_are_made_where_they_are_missing(index: Index) -> None:
    worklist = Worklist(index, clock=lambda: NOON)
    made = worklist.create({"PatientName": "DOE", "PatientID": "1", "Modality": "US"})
    given = fields_of(made.dataset)
    assert given["ScheduledProcedureStepStartDate"] == "20261128"
    assert given["ScheduledProcedureStepStartTime"] == "120000"
    assert (given["ScheduledProcedureStepID"], given["RequestedProcedureID"]) == ("S000001", "R000001")
    assert given["ScheduledProcedureStepStatus"] == "SCHEDULED"
    assert worklist.create({"PatientName": "DOE", "PatientID": "1", "Modality": "US"}).value("StudyInstanceUID") not in (
        "",
        given["StudyInstanceUID"],
    )


def test_a_requested_procedure_has_one_study(index: Index) -> None:
    """Every step of it, also when it comes again after it was removed; never those of another patient or order."""
    worklist = Worklist(index)

    def study(**more: Any) -> str:
        return worklist.create(fields(**more)).value("StudyInstanceUID")

    first = study()
    assert study(ScheduledProcedureStepID="SECOND") == first
    assert len({first, study(PatientID="P2"), study(AccessionNumber="A2"), study(RequestedProcedureID="RP2")}) == 4
    for number in found(worklist):
        worklist.remove(number)
    assert study() == first
    given = study(RequestedProcedureID="RP3", StudyInstanceUID="1.2.3")
    assert (given, study(RequestedProcedureID="RP3", ScheduledProcedureStepID="SECOND")) == ("1.2.3", "1.2.3")


def test_a_step_is_there_once(index: Index) -> None:
    worklist = Worklist(index)
    worklist.create(fields(ScheduledProcedureStepID="S"))
    with pytest.raises(WorklistRefused, match="already"):
        worklist.create(fields(ScheduledProcedureStepID="S"))
    errors = in_threads(lambda _: worklist.create(fields(ScheduledProcedureStepID="T")), 4)
    assert [type(error) for error in errors] == [WorklistRefused] * 3


MATCHING = [
    ({}, [3, 1, 2]),
    ({"ScheduledStationAETitle": "CT1"}, [1, 2]),
    ({"ScheduledStationAETitle": "CT2"}, [1]),
    ({"ScheduledStationAETitle": "CT*"}, [1, 2]),
    ({"Modality": "MR"}, [3]),
    ({"Modality": "MR\\CT"}, [3, 1, 2]),
    ({"ScheduledProcedureStepStartDate": "20261128"}, [1]),
    ({"ScheduledProcedureStepStartDate": "20261128-"}, [1, 2]),
    ({"ScheduledProcedureStepStartDate": "-20261127"}, [3]),
    ({"ScheduledProcedureStepStartDate": "20261127-20261128"}, [3, 1]),
    ({"ScheduledProcedureStepStartDate": "20261128-20261129", "ScheduledProcedureStepStartTime": "1100-0900"}, [2]),
    ({"ScheduledProcedureStepStartDate": "20261128-20261129", "ScheduledProcedureStepStartTime": "1030-0700"}, [1]),
    ({"ScheduledProcedureStepStartTime": "10-11"}, [3, 1]),
    ({"ScheduledPerformingPhysicianName": "house*"}, [2]),
    ({"PatientName": "DOE^J*"}, [1, 2]),
    ({"PatientName": "müller^jörg"}, [3]),
    ({"PatientName": "山田*"}, [2]),
    ({"PatientID": "P1"}, [1]),
    ({"PatientID": "p1"}, []),
    ({"PatientID": "P?"}, [3, 1, 2]),
    ({"AccessionNumber": "A2"}, [2]),
    ({"RequestedProcedureID": "RP3"}, [3]),
    ({"ScheduledProcedureStepID": "S000002"}, [2]),
    ({"ScheduledProcedureStepDescription": "*head*"}, [3]),
    ({"PatientWeight": "70.50"}, [2]),
    ({"ScheduledProcedureStepStatus": "CANCELED"}, [4]),
    ({"ScheduledProcedureStepStatus": "CANCELED\\SCHEDULED"}, [3, 1, 2, 4]),
    ({"PatientName": "NOBODY"}, []),
    ({"AccessionNumber": '""'}, [3]),
]


@pytest.fixture
def three(index: Index) -> Worklist:
    worklist = Worklist(index)
    worklist.create(fields(ScheduledStationAETitle=["CT1", "CT2"]))
    worklist.create(
        fields(
            PatientName="DOE^JOHN=山田^太郎",
            PatientID="P2",
            AccessionNumber="A2",
            ScheduledPerformingPhysicianName="House^Gregory",
            ScheduledProcedureStepStartDate="20261129",
            ScheduledProcedureStepStartTime="0800",
            PatientWeight=70.5,
        )
    )
    worklist.create(
        fields(
            PatientName="MÜLLER^JÖRG",
            PatientID="P3",
            AccessionNumber=None,
            RequestedProcedureID="RP3",
            Modality="MR",
            ScheduledStationAETitle="MR1",
            ScheduledProcedureStepStartDate="20261127",
            ScheduledProcedureStepDescription="The head",
        )
    )
    worklist.create(fields(ScheduledProcedureStepStatus="CANCELED", ScheduledProcedureStepStartDate="20261130", PatientID="P4"))
    return worklist


def test_matching(three: Worklist) -> None:
    """By when they begin; those that have ended only for who asks for them."""
    assert [(asked, found(three, **asked)) for asked, _ in MATCHING] == MATCHING


def test_what_the_database_narrows_is_what_matches(three: Worklist) -> None:
    """The table above must go through the columns, or it would say nothing of them."""
    narrowing = [asked for asked, _ in MATCHING if len(_narrowed(Search(conditions(**asked)))) > 2]
    assert {BY_KEYWORD[name] for asked in narrowing for name in asked} >= {BY_KEYWORD[COLUMNS[name]] for name in ("modality", "patient_id")}


def test_a_fuzzy_search_sees_no_capitals_and_no_accents(three: Worklist) -> None:
    for asked, number in [({"PatientID": "p1"}, 1), ({"PatientName": "muller"}, 3)]:
        (one,) = three.find(Search(conditions(**asked), fuzzy=True))
        assert one.number == number


def test_an_entry_for_no_station_is_for_the_one_that_asks(index: Index) -> None:
    worklist = Worklist(index)
    worklist.create(fields(ScheduledStationAETitle=None))
    for asked, station in [({}, "ASKER"), ({"ScheduledStationAETitle": "CT7"}, "CT7"), ({"ScheduledStationAETitle": "A*"}, "ASKER")]:
        (one,) = worklist.find(Search(conditions(**asked), calling_ae="ASKER"))
        assert one.value("ScheduledStationAETitle") == station
    assert worklist.get(1).value("ScheduledStationAETitle") == ""


def test_a_change(three: Worklist) -> None:
    changed = three.change(1, {"PatientName": "DOE^JANET", "ScheduledProcedureStepStartDate": "20261201", "PatientSex": None})
    assert (changed.version, changed.value("PatientName"), changed.value("PatientSex")) == (2, "DOE^JANET", "")
    assert found(three) == [3, 2, 1], "it is filed under its new date"
    assert three.get(1) == changed
    for identity in ("StudyInstanceUID", "ScheduledProcedureStepID", "RequestedProcedureID"):
        with pytest.raises(WorklistRefused, match=identity):
            three.change(1, {identity: "1.2"})
        three.change(1, {identity: changed.value(identity)})
    with pytest.raises(BadRequest, match="Modality"):
        three.change(1, {"Modality": None})
    with pytest.raises(NotFound):
        three.change(9, {})


def test_what_is_changed_at_once_is_changed_one_after_the_other(three: Worklist) -> None:
    names = ["PatientComments", "PatientState", "SpecialNeeds", "AdmissionID"]
    assert in_threads(lambda which: three.change(1, {names[which]: "X"}), 4) == []
    assert [three.get(1).value(name) for name in names] == ["X"] * 4


def test_states(index: Index) -> None:
    worklist = Worklist(index)
    worklist.create(fields())
    for state in StepState:
        changed = worklist.change(1, {"ScheduledProcedureStepStatus": state})
        assert (changed.state, changed.value("ScheduledProcedureStepStatus")) == (state, state)
        assert bool(found(worklist)) == (state in OFFERED)


def test_what_is_over_is_removed_after_its_days(index: Index) -> None:
    clock = [NOON]
    worklist = Worklist(index, clock=lambda: clock[0])
    for state in StepState:
        worklist.create(fields(ScheduledProcedureStepStatus=state, ScheduledProcedureStepStartDate="20261231"))
    worklist.create(fields(ScheduledProcedureStepStartDate="20261101"))
    clock[0] += 29 * DAY
    assert worklist.tidy(days=30) == 0
    clock[0] += 2 * DAY
    assert worklist.tidy(days=30) == len(ENDED) + 1
    assert len(found(worklist)) == len(OFFERED)


def test_the_order_survives_more_than_one_batch(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.worklist._BATCH", 3)
    worklist = Worklist(index)
    for number in range(11):
        worklist.create(fields(ScheduledProcedureStepStartTime=f"{(number * 7) % 11:02d}"))
    begins = [entry.value("ScheduledProcedureStepStartTime") for entry in worklist.find(Search())]
    assert begins == sorted(begins)
    assert len(begins) == 11


def test_no_keyword_is_in_the_step_and_outside_it() -> None:
    assert len(BY_KEYWORD) == len(KEYS)
