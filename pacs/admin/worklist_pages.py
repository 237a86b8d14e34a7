"""The page of the modality worklist: what is to be done, added and changed by hand beside what orders bring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import ValidationError

from pacs.admin.worklist import EntryFilter, found_by, number_of
from storage.index import Index
from storage.matching.times import date_key, time_key
from storage.problems import WebRefusal
from storage.worklist import Worklist
from storage.worklist_entries import ENDED, IDENTITY, Entry, fields_of

if TYPE_CHECKING:
    from pacs.admin.pages import Asked

_ROWS: Final = 100


class Field(NamedTuple):
    """A field of the forms: an attribute, its label, and as what its value is asked for."""

    keyword: str
    label: str
    kind: str = "text"
    required: bool = False
    hint: str = ""


FIELDS: Final = (
    Field("PatientName", "Patient's name", required=True, hint="Family^Given"),
    Field("PatientID", "Patient ID", required=True),
    Field("PatientBirthDate", "Born", "date"),
    Field("PatientSex", "Sex", "sex"),
    Field("AccessionNumber", "Accession number"),
    Field("ReferringPhysicianName", "Referring physician", hint="Family^Given"),
    Field("RequestedProcedureDescription", "Requested procedure"),
    Field("Modality", "Modality", required=True, hint="CT"),
    Field("ScheduledStationAETitle", "Station", "titles", hint="its AE title; none: any that asks"),
    Field("ScheduledProcedureStepStartDate", "Date", "date", required=True),
    Field("ScheduledProcedureStepStartTime", "Time", "time"),
    Field("ScheduledProcedureStepDescription", "To be done"),
    Field("ScheduledPerformingPhysicianName", "Performing physician", hint="Family^Given"),
)
_SEARCHED: Final = ("PatientName", "PatientID", "AccessionNumber", "Modality", "ScheduledStationAETitle", "ScheduledProcedureStepStartDate")


@dataclass(frozen=True, slots=True)
class WorklistPages:
    """What these pages show of an index."""

    index: Index

    def table(self) -> dict[str, tuple[str, Callable[[Asked], dict[str, Any]]]]:
        """Address -> template and what it needs."""
        return {
            "/admin/worklist": ("worklist.html", self.entries),
            "/admin/parts/worklist": ("worklist_rows.html", self.entries),
            "/admin/worklist/{number}": ("worklist_entry.html", self.entry),
        }

    def entries(self, asked: Asked) -> dict[str, Any]:
        """What is to be done by when it begins, or what a search finds."""
        given = {name: value.strip() for name, value in asked.query.items() if value.strip()}
        found = list(islice(found_by(Worklist(self.index), _filter(given)), _ROWS + 1))
        return {
            "entries": [(entry, _moment(entry)) for entry in found[:_ROWS]],
            "more": len(found) > _ROWS,
            "ended": ENDED,
            "given": given,
            "searched": [field for field in FIELDS if field.keyword in _SEARCHED],
            "fields": FIELDS,
            "values": {"ScheduledProcedureStepStartDate": date.today().isoformat()},
        }

    def entry(self, asked: Asked) -> dict[str, Any]:
        """One, to be changed."""
        entry = Worklist(self.index).get(number_of(asked.path["number"]))
        values = {field.keyword: _shown(field, entry) for field in FIELDS}
        known = fields_of(entry.dataset)
        return {"entry": entry, "ended": ENDED, "fields": FIELDS, "values": values, "ids": {name: known.get(name, "") for name in IDENTITY}}


def _filter(given: dict[str, str]) -> Any:
    """What a form asks, a name by its beginning. A date is that of the browser, with hyphens."""
    asked = {name: value for name, value in given.items() if name in (*_SEARCHED, "all")}
    if day := asked.get("ScheduledProcedureStepStartDate"):
        asked["ScheduledProcedureStepStartDate"] = day.replace("-", "")
    if (name := asked.get("PatientName")) and "*" not in name:
        asked["PatientName"] = f"{name}*"
    try:
        return EntryFilter.model_validate_strings({**asked, "limit": str(_ROWS + 1)})
    except ValidationError:
        raise WebRefusal(400, "the worklist cannot be searched for that", "use the form above the list") from None


def _moment(entry: Entry) -> str:
    return " ".join(part for part in (_day(entry.value("ScheduledProcedureStepStartDate")), _time(entry.value("ScheduledProcedureStepStartTime"))[:5]) if part)


def _shown(field: Field, entry: Entry) -> str:
    """A value as its field in a form has it."""
    if field.kind == "titles":
        titles = fields_of(entry.dataset).get(field.keyword, [])
        return titles if isinstance(titles, str) else "\\".join(titles)
    value = entry.value(field.keyword)
    return {"date": _day, "time": _time}.get(field.kind, str)(value)


def _day(value: str) -> str:
    key = date_key(value)
    return f"{key[:4]}-{key[4:6]}-{key[6:8]}" if key else ""


def _time(value: str) -> str:
    key = time_key(value)
    return f"{key[:2]}:{key[2:4]}:{key[4:6]}" if key else ""
