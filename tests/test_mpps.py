"""Performed procedure steps: the store on both engines, what it does to the worklist, and what has arrived of a step."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom import Dataset

from storage.archive import Archive
from storage.attributes import tag_of
from storage.errors import NotFound, StepRefused
from storage.index import Index
from storage.mpps import PerformedSteps
from storage.mpps_rules import PerformedState
from storage.worklist import Worklist
from storage.worklist_entries import StepState
from tests.support.archive import Store
from tests.support.indexes import in_threads
from tests.support.made import instance
from tests.support.performed import STUDY, begun, ended, item, performed, scheduled
from tests.support.worklist import fields

WRONG_ENTRY = [item(CodeValue="110514", CodingSchemeDesignator="DCM", CodeMeaning="Incorrect worklist entry selected")]
FAILURE = [item(CodeValue="110501", CodingSchemeDesignator="DCM", CodeMeaning="Equipment failure")]


def json(dataset: Dataset) -> dict[str, Any]:
    found: dict[str, Any] = dataset.to_json_dict()
    return found


@pytest.fixture
def worklist(index: Index) -> Worklist:
    """With two steps of one requested procedure."""
    made = Worklist(index)
    for step in ("S000001", "S000002"):
        made.create(fields(StudyInstanceUID=STUDY, ScheduledProcedureStepID=step))
    return made


def test_an_entry_follows_its_steps(index: Index, worklist: Worklist) -> None:
    steps = PerformedSteps(index)
    steps.create(json(begun()), "1.2.9.1")
    assert [worklist.get(number).state for number in (1, 2)] == [StepState.STARTED, StepState.SCHEDULED]
    # A second one of the same entry, and of the other one too (the group and append cases of IHE SWF).
    steps.create(json(begun(scheduled(), scheduled(ScheduledProcedureStepID="S000002"))), "1.2.9.2")
    assert [worklist.get(number).state for number in (1, 2)] == [StepState.STARTED] * 2
    steps.update("1.2.9.1", json(ended(performed(1))))
    assert worklist.get(1).state is StepState.STARTED, "the second one goes on"
    steps.update("1.2.9.2", json(ended(status="DISCONTINUED", PerformedProcedureStepDiscontinuationReasonCodeSequence=FAILURE)))
    assert [worklist.get(number).state for number in (1, 2)] == [StepState.COMPLETED, StepState.DISCONTINUED]
    assert worklist.get(2).value("ScheduledProcedureStepStatus") == "DISCONTINUED"


def test_an_entry_that_was_begun_by_mistake_is_still_to_be_done(index: Index, worklist: Worklist) -> None:
    steps = PerformedSteps(index)
    steps.create(json(begun()), "1.2.9.1")
    steps.update("1.2.9.1", json(ended(status="DISCONTINUED", PerformedProcedureStepDiscontinuationReasonCodeSequence=WRONG_ENTRY)))
    assert worklist.get(1).state is StepState.SCHEDULED


@pytest.mark.parametrize(
    ("step", "entries"),
    [
        (scheduled(), (1,)),
        # The modality gave the study a UID of its own.
        (scheduled(StudyInstanceUID="1.2.8"), (1,)),
        (scheduled(StudyInstanceUID="1.2.8", AccessionNumber=""), ()),
        (scheduled(StudyInstanceUID="1.2.8", RequestedProcedureID="RP2"), ()),
        (scheduled(ScheduledProcedureStepID=""), ()),
        (scheduled(ScheduledProcedureStepID="S9"), ()),
    ],
    ids=range(6),
)
def test_how_an_entry_is_found(archive: Archive, step: Dataset, entries: tuple[int, ...]) -> None:
    Worklist(archive.index).create(fields(StudyInstanceUID=STUDY))
    steps = PerformedSteps(archive.index)
    steps.create(json(begun(step)), "1.2.9.1")
    assert steps.progress("1.2.9.1").entries == entries


def test_what_has_arrived(archive: Archive, store: Store) -> None:
    steps = PerformedSteps(archive.index)
    steps.create(json(begun()), "1.2.9.1")
    for number in (1, 2):
        store(instance(number))
    store(instance(1, series="1.2.3.5"))
    assert (steps.progress("1.2.9.1").announced, steps.progress("1.2.9.1").complete) == ((), False)
    steps.update("1.2.9.1", json(ended(performed(1, 2, 3), performed(7, series="1.2.3.5"))))
    found = steps.progress("1.2.9.1")
    assert (len(found.announced), sorted(found.arrived)) == (4, ["1.2.3.4.1", "1.2.3.4.2"])
    assert [one.instance for one in found.missing] == ["1.2.3.4.3", "1.2.3.5.7"]
    assert not found.complete
    store(instance(3))
    store(instance(7, series="1.2.3.5"))
    assert steps.progress("1.2.9.1").complete


def test_many_instances_are_asked_for_in_pieces(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.mpps._CHUNK", 3)
    steps = PerformedSteps(index)
    steps.create(json(begun()), "1.2.9.1")
    steps.update("1.2.9.1", json(ended(performed(*range(1, 11)))))
    found = steps.progress("1.2.9.1")
    assert (len(found.announced), len(found.missing)) == (10, 10)


def test_steps_are_found_by_state_and_study(index: Index) -> None:
    steps = PerformedSteps(index)
    for number in range(3):
        of = [scheduled(), scheduled(StudyInstanceUID="1.2.8")][: number + 1]
        steps.create(json(begun(*of, PerformedProcedureStepStartTime=f"0{number}0000")), f"1.2.9.{number}")
    steps.update("1.2.9.0", json(ended(performed(1))))

    def found(**asked: Any) -> list[str]:
        return [one.step.uid for one in steps.find(**asked)]

    assert found() == ["1.2.9.2", "1.2.9.1", "1.2.9.0"]
    assert found(state=PerformedState.COMPLETED) == ["1.2.9.0"]
    assert found(study_uid="1.2.8") == ["1.2.9.2", "1.2.9.1"]
    assert found(limit=1, offset=1) == ["1.2.9.1"]
    assert steps.find(study_uid="1.2.8")[0].studies == (STUDY, "1.2.8")
    with pytest.raises(NotFound):
        steps.get("1.2.9\0")


def test_a_step_begins_once_and_ends_once(index: Index, worklist: Worklist) -> None:
    steps = PerformedSteps(index)
    errors = in_threads(lambda _: steps.create(json(begun()), "1.2.9.1"), 4)
    assert [(type(one), getattr(one, "reason", 0)) for one in errors] == [(StepRefused, 0x0111)] * 3
    errors = in_threads(lambda _: steps.update("1.2.9.1", json(ended(performed(1)))), 4)
    assert [getattr(one, "error_id", 0) for one in errors] == [0xA710] * 3
    assert worklist.get(1).state is StepState.COMPLETED


@pytest.mark.parametrize("uid", ["1.2.09", "x", "1" * 65, "1.2\0"])
def test_what_is_no_uid(archive: Archive, uid: str) -> None:
    with pytest.raises(StepRefused) as refused:
        PerformedSteps(archive.index).create(json(begun()), uid)
    assert refused.value.reason == 0x0117


@pytest.mark.parametrize("keyword", ["PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime", "StudyInstanceUID"])
def test_what_is_no_date_time_or_uid(archive: Archive, keyword: str) -> None:
    start = json(begun())
    (place,) = [one for one in (start, start[tag_of("ScheduledStepAttributesSequence")]["Value"][0]) if tag_of(keyword) in one]
    place[tag_of(keyword)]["Value"] = ["x"]
    with pytest.raises(StepRefused) as refused:
        PerformedSteps(archive.index).create(start, "1.2.9.1")
    assert (refused.value.reason, refused.value.tags) == (0x0106, (tag_of(keyword),))


def test_steps_of_one_entry_that_end_at_once_leave_it_completed(index: Index, worklist: Worklist) -> None:
    steps = PerformedSteps(index)
    for number in range(4):
        steps.create(json(begun()), f"1.2.9.{number}")
    assert in_threads(lambda which: steps.update(f"1.2.9.{which}", json(ended(performed(1)))), 4) == []
    assert worklist.get(1).state is StepState.COMPLETED
