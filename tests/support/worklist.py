"""Worklist entries and queries of them, for tests."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, select

from storage.index import Index
from storage.index.tables import worklist_entry
from storage.matching import Conditions
from storage.worklist import Worklist
from storage.worklist_entries import conditions_by_keyword


def fields(**more: Any) -> dict[str, Any]:
    """What makes a good entry, and `more` over it."""
    return {
        "PatientName": "DOE^JANE",
        "PatientID": "P1",
        "PatientBirthDate": "19700102",
        "PatientSex": "F",
        "AccessionNumber": "A1",
        "RequestedProcedureID": "RP1",
        "RequestedProcedureDescription": "CT of the chest",
        "Modality": "CT",
        "ScheduledStationAETitle": "CT1",
        "ScheduledProcedureStepStartDate": "20261128",
        "ScheduledProcedureStepStartTime": "1030",
        "ScheduledProcedureStepDescription": "Chest",
        **more,
    }


def conditions(**asked: str) -> Conditions:
    """Conditions by keyword, those of the step in its sequence."""
    return conditions_by_keyword(asked)


def many(index: Index, number: int) -> None:
    """So many entries that are alike, in one transaction."""
    first = Worklist(index).create(fields()).number
    with index.database.write() as connection:
        (row,) = connection.execute(select(worklist_entry)).mappings().all()
        copies = [{**row, "number": first + n, "step_id": f"S{n}"} for n in range(1, number)]
        connection.execute(insert(worklist_entry), copies)
