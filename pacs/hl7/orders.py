"""What an HL7 message says about the worklist: the mapping of its fields as one table, and of its order control. Pure.

After IHE Radiology TF-2, RAD-4 (procedure scheduled) and its appendix B. ORM^O01, OMG^O19 and OMI^O23 schedule, change, cancel and
complete; ADT^A08 and A31 change the patient of what is scheduled, A40 merges one patient into another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from pydicom.datadict import dictionary_VR

from pacs.hl7.messages import Message, Rejected, Segment
from storage.matching.times import date_key, time_key
from storage.worklist_entries import BY_KEYWORD, OrderChange, PatientChange, StepState

Read = Callable[[Segment, int, int], Any]


class Row(NamedTuple):
    """Where the value of an attribute is from, as SEGMENT-field.component; of several rows the first with a value counts."""

    keyword: str
    source: str
    read: Read
    # In words, for the documentation.
    how: str = ""


def _text(segment: Segment, field: int, component: int) -> str:
    return segment.get(field, component)


def _all(segment: Segment, field: int, component: int) -> list[str]:
    found = (segment.get(field, component, repetition=number) for number in segment.repetitions(field))
    return [one for one in found if one]


def _person(segment: Segment, field: int, first: int) -> str:
    """A name (XPN, XCN) from its family name on, as DICOM has it: the prefix before the suffix (PS3.5 6.2.1.1)."""
    return _name(lambda component: segment.get(field, first + component))


def _name(part: Callable[[int], str]) -> str:
    family, given, middle, suffix, prefix, degree = (re.sub(r"[\^=\\]", " ", part(number)) for number in range(6))
    return "^".join((family, given, middle, prefix, " ".join(filter(None, (suffix, degree))))).rstrip("^")


# Name Representation Code (table 0465) -> the component group.
_GROUPS: Final = {"A": 0, "": 0, "I": 1, "P": 2}


def _patient_name(segment: Segment, field: int, _component: int) -> str:
    """Each way of writing a name is a repetition (XPN.8)."""
    groups = ["", "", ""]
    for number in segment.repetitions(field):
        at = _GROUPS.get(segment.get(field, 8, repetition=number), 0)
        groups[at] = groups[at] or _name(lambda part, number=number: segment.get(field, 1 + part, repetition=number))  # type: ignore[misc]
    return "=".join(groups).rstrip("=")


def _technician(segment: Segment, field: int, _component: int) -> str:
    """NDL: the name's parts are subcomponents of its first component, after an identifier."""
    return _name(lambda part: segment.get(field, 1, 2 + part))


def _code(segment: Segment, field: int, first: int) -> list[dict[str, str]] | None:
    """A code (CE, CWE) from its component `first` on; one that is longer than DICOM's is told by its meaning alone."""
    value, meaning, scheme = (segment.get(field, first + part) for part in range(3))
    if not value or len(value) > 16:
        return None
    return [{"CodeValue": value, "CodeMeaning": (meaning or value)[:64], "CodingSchemeDesignator": scheme[:16] or "L"}]


def _date(segment: Segment, field: int, component: int) -> str:
    text = segment.get(field, component)[:8]
    if text and date_key(text) is None:
        raise Rejected(102, "give a date as YYYYMMDD", f"{segment.name}^1^{field}", application=True)
    return text


def _time(segment: Segment, field: int, component: int) -> str:
    found = re.match(r"\d{8}(\d{2,6})", segment.get(field, component))
    text = found.group(1) if found else ""
    if text and time_key(text) is None:
        raise Rejected(102, "give a time as HHMM after the date", f"{segment.name}^1^{field}", application=True)
    return text


def _of(table: Mapping[str, str], *, others: bool = False) -> Read:
    """Values by a table; those that are not in it as they are, or none."""
    return lambda segment, field, component: table.get(
        value := segment.get(field, component).upper(), value if others else ""
    )


def _place(segment: Segment, field: int, _component: int) -> str:
    return " ".join(filter(None, (segment.get(field, part) for part in (1, 2, 3))))


def _pregnant(segment: Segment, field: int, component: int) -> int | None:
    return 3 if "B6" in _all(segment, field, component) else None


_SEX: Final = {"M": "M", "F": "F", "O": "O", "A": "O"}
# Sections of table 0074 that DICOM calls otherwise.
_SECTIONS: Final = {"NMR": "MR", "MRI": "MR", "NMS": "NM", "RUS": "US", "OUS": "US", "VUS": "US", "CUS": "US"}
_PRIORITY: Final = {"S": "STAT", "A": "HIGH", "P": "HIGH", "T": "HIGH", "C": "HIGH", "R": "ROUTINE"}
_SECTION: Final = "table 0074: " + ", ".join(f"{hl7} {dicom}" for hl7, dicom in _SECTIONS.items())
_URGENT: Final = ", ".join(f"{hl7} {dicom}" for hl7, dicom in _PRIORITY.items())

PATIENT: Final = (
    Row("PatientID", "PID-3.1", _text),
    Row("IssuerOfPatientID", "PID-3.4", _text),
    Row("PatientName", "PID-5", _patient_name, "repetitions by XPN.8: A, I and P are its component groups"),
    Row("PatientBirthDate", "PID-7", _date),
    Row("PatientSex", "PID-8", _of(_SEX), "A and O are O; unknown is empty"),
)
ORDER: Final = (
    *PATIENT,
    Row("AdmissionID", "PV1-19.1", _text),
    Row("AdmissionID", "PID-18.1", _text),
    Row("CurrentPatientLocation", "PV1-3", _place, "point of care, room, bed"),
    Row("ReferringPhysicianName", "PV1-8.2", _person),
    Row("PregnancyStatus", "PV1-15", _pregnant, "B6 is 3"),
    Row("ConfidentialityConstraintOnPatientDataDescription", "PV1-16", _text),
    Row("Allergies", "AL1-3.2", _text),
    Row("Allergies", "AL1-3.1", _text),
    Row("PlacerOrderNumberImagingServiceRequest", "ORC-2.1", _text),
    Row("PlacerOrderNumberImagingServiceRequest", "OBR-2.1", _text),
    Row("FillerOrderNumberImagingServiceRequest", "ORC-3.1", _text),
    Row("FillerOrderNumberImagingServiceRequest", "OBR-3.1", _text),
    Row("RequestingPhysician", "OBR-16.2", _person),
    Row("RequestingPhysician", "ORC-12.2", _person),
    Row("RequestingService", "ORC-17.2", _text),
    Row("AccessionNumber", "IPC-1.1", _text),
    Row("AccessionNumber", "OBR-18.1", _text),
    Row("RequestedProcedureID", "IPC-2.1", _text),
    Row("RequestedProcedureID", "OBR-19.1", _text),
    Row("RequestedProcedureDescription", "OBR-44.2", _text),
    Row("RequestedProcedureDescription", "OBR-4.2", _text),
    Row("RequestedProcedureCodeSequence", "OBR-44.1", _code),
    Row("RequestedProcedureCodeSequence", "OBR-4.1", _code),
    Row("RequestedProcedurePriority", "TQ1-9.1", _of(_PRIORITY), _URGENT),
    Row("RequestedProcedurePriority", "ORC-7.6", _of(_PRIORITY), _URGENT),
    Row("RequestedProcedurePriority", "OBR-27.6", _of(_PRIORITY), _URGENT),
    Row("ReasonForTheRequestedProcedure", "OBR-31.2", _text),
    Row("ReasonForTheRequestedProcedure", "OBR-31.1", _text),
    Row("PatientTransportArrangements", "OBR-30", _text),
    Row("PatientState", "OBR-12.2", _text),
    Row("PatientState", "OBR-12.1", _text),
    Row("MedicalAlerts", "OBR-13", _text),
    Row("StudyInstanceUID", "IPC-3.1", _text),
    Row("StudyInstanceUID", "ZDS-1.1", _text),
    Row("ScheduledProcedureStepID", "IPC-4.1", _text),
    Row("ScheduledProcedureStepID", "OBR-20.1", _text),
    Row("Modality", "IPC-5.1", _of(_SECTIONS, others=True), _SECTION),
    Row("Modality", "OBR-24", _of(_SECTIONS, others=True), _SECTION),
    Row("ScheduledProtocolCodeSequence", "IPC-6.1", _code),
    Row("ScheduledProtocolCodeSequence", "OBR-4.4", _code),
    Row("ScheduledProcedureStepDescription", "IPC-6.2", _text),
    Row("ScheduledProcedureStepDescription", "OBR-4.5", _text),
    Row("ScheduledProcedureStepDescription", "OBR-4.2", _text),
    Row("ScheduledStationName", "IPC-7.1", _text),
    Row("ScheduledProcedureStepLocation", "IPC-8.1", _text),
    Row("ScheduledStationAETitle", "IPC-9", _all),
    Row("ScheduledPerformingPhysicianName", "OBR-34", _technician),
    Row("ScheduledProcedureStepStartDate", "TQ1-7", _date),
    Row("ScheduledProcedureStepStartDate", "ORC-7.4", _date),
    Row("ScheduledProcedureStepStartDate", "OBR-27.4", _date),
    Row("ScheduledProcedureStepStartDate", "OBR-36", _date),
    Row("ScheduledProcedureStepStartTime", "TQ1-7", _time),
    Row("ScheduledProcedureStepStartTime", "ORC-7.4", _time),
    Row("ScheduledProcedureStepStartTime", "OBR-27.4", _time),
    Row("ScheduledProcedureStepStartTime", "OBR-36", _time),
)
# By these things are found again: what is too long is refused. Everything else is for people to read, and cut.
_IDENTIFYING: Final = frozenset(
    {"PatientID", "IssuerOfPatientID", "AccessionNumber", "RequestedProcedureID", "ScheduledProcedureStepID"}
    | {"PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest", "AdmissionID"}
)
_LONGEST: Final = {"SH": 16, "LO": 64}

# ORC-1 (table 0119) -> the status that the entries are to have; None: scheduled or changed as the order says.
CONTROLS: Final[Mapping[str, StepState | None]] = {
    "NW": None,
    "XO": None,
    "CA": StepState.CANCELED,
    "OC": StepState.CANCELED,
    "DC": StepState.DISCONTINUED,
    "OD": StepState.DISCONTINUED,
}
# With SC in ORC-1, ORC-5 (table 0038) says it.
_STATUS_CHANGED: Final = "SC"
STATUSES: Final[Mapping[str, StepState]] = {
    "SC": StepState.SCHEDULED,
    "IP": StepState.STARTED,
    "CM": StepState.COMPLETED,
    "CA": StepState.CANCELED,
    "DC": StepState.DISCONTINUED,
}
_ORDERS: Final = {("ORM", "O01"), ("OMG", "O19"), ("OMI", "O23")}
_CHANGED: Final = {("ADT", "A08"), ("ADT", "A31")}
_MERGED: Final = ("ADT", "A40")
TAKEN: Final = tuple(f"{kind}^{event}" for kind, event in sorted({*_ORDERS, *_CHANGED, _MERGED}))


def changes_of(message: Message) -> list[OrderChange | PatientChange]:
    """What a message asks for. Raises Rejected for what is not taken, or lacks what it needs."""
    head = message.head
    what = (head.kind, head.event)
    if what in _ORDERS:
        return list(_orders(message))
    if what in _CHANGED:
        return [_patient(message.segment("PID"))]
    if what == _MERGED:
        return list(_merges(message))
    known = head.kind in {kind for kind, _ in (*_ORDERS, _MERGED)}
    raise Rejected(201 if known else 200, f"such messages are not taken; send {', '.join(TAKEN)}", "MSH^1^9")


def _merges(message: Message) -> Iterator[PatientChange]:
    """Each patient of a message, and the identifier that is given up for theirs in the MRG that follows."""
    into, merges = message.segment("PID"), 0
    for one in message.segments:
        if one.name == "PID":
            into = one
        elif one.name == "MRG" and (prior := one.get(1)):
            merges += 1
            yield _patient(into, prior)
    if not merges:
        raise Rejected(101, "MRG-1 names no prior patient identifier", "MRG^1^1", application=True)


def _patient(patient_segment: Segment, prior: str = "") -> PatientChange:
    fields = _fields(PATIENT, {"PID": patient_segment})
    if not fields.get("PatientID"):
        raise Rejected(101, "PID-3 names no patient", "PID^1^3", application=True)
    patient, issuer = fields.pop("PatientID"), fields.pop("IssuerOfPatientID", None)
    return PatientChange(str(patient), str(issuer or ""), prior, fields)


def _orders(message: Message) -> Iterator[OrderChange]:
    groups = list(_groups(message.segments))
    if not groups:
        raise Rejected(100, "the message has no ORC and no OBR", "ORC", application=True)
    above = {name: message.segment(name) for name in ("PID", "PV1", "AL1", "ZDS")}
    for group in groups:
        steps = [one for one in group if one.name == "IPC"] or [Segment("IPC", (), str)]
        own = {one.name: one for one in reversed(group)}
        for step in steps:
            yield _order({**above, **own, "IPC": step})


def _groups(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """The orders of a message: each ORC with what follows, each OBR where there is no ORC."""
    start = "ORC" if any(one.name == "ORC" for one in segments) else "OBR"
    group: list[Segment] = []
    for one in segments:
        if one.name == start and group:
            yield group
            group = []
        if one.name == start or group:
            group.append(one)
    if group:
        yield group


def _order(segments: Mapping[str, Segment]) -> OrderChange:
    order = segments.get("ORC")
    control = order.get(1).upper() if order else "NW"
    fields = _fields(ORDER, segments)
    if control == _STATUS_CHANGED:
        status = order.get(5).upper() if order else ""
        if status not in STATUSES:
            raise Rejected(103, f"ORC-5 has no status that is taken; use {', '.join(STATUSES)}", "ORC^1^5", application=True)
        return OrderChange(fields, STATUSES[status])
    if control not in CONTROLS:
        known = ", ".join((*CONTROLS, _STATUS_CHANGED))
        raise Rejected(103, f"ORC-1 has no order control that is taken; use {known}", "ORC^1^1", application=True)
    return OrderChange(fields, CONTROLS[control])


def _fields(rows: Sequence[Row], segments: Mapping[str, Segment]) -> dict[str, Any]:
    """Values by keyword; None for those that are deleted, nothing for those that are not said."""
    found: dict[str, Any] = {}
    for row in rows:
        name, field, component = _source(row.source)
        segment = segments.get(name)
        if not segment or found.get(row.keyword) not in (None, ""):
            continue
        if segment.deletes(field):
            found[row.keyword] = None
        elif (value := row.read(segment, field, component)) not in (None, "", []):
            found[row.keyword] = _fit(row.keyword, value)
    return found


def _source(source: str) -> tuple[str, int, int]:
    segment, _, place = source.partition("-")
    field, _, component = place.partition(".")
    return segment, int(field), int(component or 1)


def _fit(keyword: str, value: Any) -> Any:
    """Text for people as DICOM can hold it; identifiers as they are."""
    longest = _LONGEST.get(dictionary_VR(keyword))
    if longest is None or keyword in _IDENTIFYING or not isinstance(value, str):
        return value
    plain = "".join(letter if letter.isprintable() else " " for letter in value.replace("\\", "/"))
    return plain[:longest].strip()


def with_sources(reason: str) -> str:
    """A reason that begins with attributes, as "Modality: …", with the fields that they are from, for who knows those."""
    names, colon, rest = reason.partition(": ")
    told = [f"{name} ({' or '.join(sources)})" for name in names.split(", ") if (sources := [row.source for row in ORDER if row.keyword == name])]
    return f"{', '.join(told)}{colon}{rest}" if told else reason


def table_rows() -> Iterator[tuple[str, str, str]]:
    """The mapping for its documentation: attribute, sources in their order, how."""
    sources: dict[str, list[Row]] = {}
    for row in ORDER:
        sources.setdefault(row.keyword, []).append(row)
    for keyword, rows in sources.items():
        step = ">" if BY_KEYWORD[keyword].of_step else ""
        yield f"{step}{keyword}", ", else ".join(row.source for row in rows), next((row.how for row in rows if row.how), "")
