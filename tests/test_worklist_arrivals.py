"""Entries that are completed by their images, for modalities that send no MPPS."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from storage.index import Index
from storage.mpps import PerformedSteps
from storage.worklist import Worklist
from storage.worklist_arrivals import complete_arrived
from storage.worklist_entries import StepState
from tests.support.entries import entry
from tests.support.performed import begun, ended, performed
from tests.support.worklist import fields

HOUR = 3600.0
Case = Callable[[Index, Worklist], object]


def arrives(index: Index, study: str = "1.2.3", instance: str = "1", modality: str = "CT") -> None:
    index.add([entry(study, instance=instance, Modality=modality)])


def nothing(_index: Index, _worklist: Worklist) -> None:
    """No more than what every case has."""


def a_second_entry(_index: Index, worklist: Worklist) -> None:
    worklist.create(fields(StudyInstanceUID="1.2.3", ScheduledProcedureStepID="S2"))


def one_of_another_modality(_index: Index, worklist: Worklist) -> None:
    worklist.create(fields(StudyInstanceUID="1.2.3", ScheduledProcedureStepID="S2", Modality="MR"))


def one_that_is_over(_index: Index, worklist: Worklist) -> None:
    a_second_entry(_index, worklist)
    worklist.end(2, StepState.CANCELED)


def a_step_in_progress(index: Index, _worklist: Worklist) -> None:
    PerformedSteps(index).create(begun().to_json_dict(), "1.2.9.1")


def a_step_that_is_over(index: Index, worklist: Worklist) -> None:
    a_step_in_progress(index, worklist)
    PerformedSteps(index).update("1.2.9.1", ended(performed(1)).to_json_dict())
    worklist.change(1, {"ScheduledProcedureStepStatus": "READY"})


@pytest.mark.parametrize(
    ("case", "attributes", "hours", "completed"),
    [
        (nothing, {}, 2, True),
        (nothing, {}, 0.5, False),
        (nothing, {"study": "1.2.4"}, 2, False),
        (nothing, {"modality": "SR"}, 2, False),
        (one_of_another_modality, {}, 2, True),
        (one_that_is_over, {}, 2, True),
        (a_second_entry, {}, 2, False),
        (a_step_in_progress, {}, 2, False),
        (a_step_that_is_over, {}, 2, True),
    ],
)
def test_what_is_completed(index: Index, case: Case, attributes: dict[str, Any], hours: float, completed: bool) -> None:
    worklist = Worklist(index)
    worklist.create(fields(StudyInstanceUID="1.2.3"))
    case(index, worklist)
    arrives(index, **attributes)
    later = time.time() + hours * HOUR
    assert complete_arrived(index, quiet_seconds=HOUR, clock=lambda: later) == completed
    assert (worklist.get(1).state is StepState.COMPLETED) == completed


def test_images_from_before_the_entry_complete_nothing(index: Index) -> None:
    """A step that is added to a study that is there already."""
    arrives(index)
    Worklist(index).create(fields(StudyInstanceUID="1.2.3"))
    later = time.time() + 2 * HOUR
    assert complete_arrived(index, quiet_seconds=HOUR, clock=lambda: later) == 0
    arrives(index, instance="2")
    assert complete_arrived(index, quiet_seconds=HOUR, clock=lambda: later) == 1
