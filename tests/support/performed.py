"""What a modality says of a step that it performs, as pydicom data sets: written from PS3.4 table F.7.2-1."""

from __future__ import annotations

from typing import Any

from pydicom import Dataset

from tests.support.made import CT

STUDY, SERIES = "1.2.3", "1.2.3.4"


def item(**attributes: Any) -> Dataset:
    """A data set by keywords."""
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def scheduled(**more: Any) -> Dataset:
    """An item of Scheduled Step Attributes Sequence."""
    given = {"StudyInstanceUID": STUDY, "AccessionNumber": "A1", "RequestedProcedureID": "RP1", "ScheduledProcedureStepID": "S000001"}
    return item(**{**given, **more})


def begun(*of: Dataset, **more: Any) -> Dataset:
    """The attribute list of an N-CREATE."""
    given: dict[str, Any] = {
        "ScheduledStepAttributesSequence": list(of) or [scheduled()],
        "PatientName": "DOE^JANE",
        "PatientID": "P1",
        "PerformedProcedureStepID": "PPS1",
        "PerformedStationAETitle": "CT1",
        "PerformedProcedureStepStartDate": "20261128",
        "PerformedProcedureStepStartTime": "103500",
        "PerformedProcedureStepStatus": "IN PROGRESS",
        "Modality": "CT",
        "PerformedSeriesSequence": [],
    }
    return item(**{**given, **more})


def performed(*numbers: int, series: str = SERIES) -> Dataset:
    """An item of Performed Series Sequence with these instances, as `made.instance` makes them."""
    images = [item(ReferencedSOPClassUID=CT, ReferencedSOPInstanceUID=f"{series}.{number}") for number in numbers]
    return item(ProtocolName="Chest", SeriesInstanceUID=series, ReferencedImageSequence=images)


def ended(*series: Dataset, status: str = "COMPLETED", **more: Any) -> Dataset:
    """The modification list of the last N-SET."""
    given: dict[str, Any] = {
        "PerformedProcedureStepStatus": status,
        "PerformedProcedureStepEndDate": "20261128",
        "PerformedProcedureStepEndTime": "104500",
        "PerformedSeriesSequence": list(series),
    }
    return item(**{**given, **more})


def without(dataset: Dataset, keyword: str) -> Dataset:
    """The same without an attribute; `A.B` is B in every item of A."""
    first, _, rest = keyword.partition(".")
    if rest:
        for one in dataset[first].value:
            without(one, rest)
    else:
        delattr(dataset, first)
    return dataset
