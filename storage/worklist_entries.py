"""The modality worklist as values (PS3.4 annex K): the attributes of table K.6-1, what an entry must have, and its states.

An entry is one scheduled procedure step, a data set in the DICOM JSON model as C-FIND answers it. Whoever makes one (REST,
the command line, an HL7 order) gives *fields*: values by keyword, those of the step itself (in Scheduled Procedure Step
Sequence) beside those of the requested procedure, the order, the visit and the patient. No keyword is in both. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

from pydicom.config import RAISE
from pydicom.datadict import dictionary_VM, dictionary_VR
from pydicom.valuerep import validate_value

from storage.attributes import tag_of
from storage.errors import BadRequest
from storage.matching import Condition, Conditions, OneOf, combined, parse
from storage.matching.names import GROUPS
from storage.matching.times import date_key, time_key
from storage.types import Dataset

STEPS: Final = tag_of("ScheduledProcedureStepSequence")

# A value of a field: text or a number, several, or the items of a sequence by keyword. None: no value.
Fields = Mapping[str, Any]


class StepState(StrEnum):
    """Scheduled Procedure Step Status (0040,0020): the Defined Terms of PS3.3 C.4.10, and three for how it ended."""

    SCHEDULED = "SCHEDULED"
    ARRIVED = "ARRIVED"
    READY = "READY"
    STARTED = "STARTED"
    DEPARTED = "DEPARTED"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"
    CANCELED = "CANCELED"


# What a modality is offered that does not ask for a status: all that is still to be done, or being done.
OFFERED: Final = frozenset({StepState.SCHEDULED, StepState.ARRIVED, StepState.READY, StepState.STARTED})
ENDED: Final = frozenset({StepState.COMPLETED, StepState.DISCONTINUED, StepState.CANCELED})


class Key(NamedTuple):
    """A row of PS3.4 table K.6-1: key type for matching (R required, O optional), and type in answers."""

    keyword: str
    matching: str
    returned: str
    of_step: bool = False
    # What an item has, where it is a sequence that is kept.
    inside: tuple[str, ...] = ()

    @property
    def tag(self) -> str:
        return tag_of(self.keyword)

    @property
    def path(self) -> tuple[str, ...]:
        """Its tag, below that of the sequence where it is one of the step."""
        return (STEPS, self.tag) if self.of_step else (self.tag,)

    @property
    def vr(self) -> str:
        return dictionary_VR(self.keyword)

    @property
    def several(self) -> bool:
        """Whether it may have more than one value."""
        return self.vr != "SQ" and dictionary_VM(self.keyword) != "1"


_CODE: Final = ("CodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "CodeMeaning")
_REFERENCE: Final = ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID")
_ISSUER: Final = ("LocalNamespaceEntityID", "UniversalEntityID", "UniversalEntityIDType")

KEYS: Final = (
    # Scheduled Procedure Step
    Key("ScheduledStationAETitle", "R", "1", of_step=True),
    Key("ScheduledProcedureStepStartDate", "R", "1", of_step=True),
    Key("ScheduledProcedureStepStartTime", "R", "1", of_step=True),
    Key("Modality", "R", "1", of_step=True),
    Key("ScheduledPerformingPhysicianName", "R", "2", of_step=True),
    Key("ScheduledProcedureStepDescription", "O", "1C", of_step=True),
    Key("ScheduledStationName", "O", "2", of_step=True),
    Key("ScheduledProcedureStepLocation", "O", "2", of_step=True),
    Key("ScheduledProtocolCodeSequence", "O", "1C", of_step=True, inside=_CODE),
    Key("PreMedication", "O", "2C", of_step=True),
    Key("ScheduledProcedureStepID", "O", "1", of_step=True),
    Key("RequestedContrastAgent", "O", "2C", of_step=True),
    Key("ScheduledProcedureStepStatus", "O", "3", of_step=True),
    Key("ScheduledProcedureStepEndDate", "O", "3", of_step=True),
    Key("ScheduledProcedureStepEndTime", "O", "3", of_step=True),
    Key("CommentsOnTheScheduledProcedureStep", "O", "3", of_step=True),
    # Requested Procedure
    Key("RequestedProcedureID", "O", "1"),
    Key("RequestedProcedureDescription", "O", "1C"),
    Key("RequestedProcedureCodeSequence", "O", "1C", inside=_CODE),
    Key("StudyInstanceUID", "O", "1"),
    Key("StudyDate", "O", "3"),
    Key("StudyTime", "O", "3"),
    Key("ReferencedStudySequence", "O", "2", inside=_REFERENCE),
    Key("RequestedProcedurePriority", "O", "2"),
    Key("PatientTransportArrangements", "O", "2"),
    Key("ReasonForTheRequestedProcedure", "O", "3"),
    Key("ReasonForRequestedProcedureCodeSequence", "O", "3", inside=_CODE),
    Key("RequestedProcedureComments", "O", "3"),
    Key("RequestedProcedureLocation", "O", "3"),
    Key("ReportingPriority", "O", "3"),
    Key("NamesOfIntendedRecipientsOfResults", "O", "3"),
    # Imaging Service Request
    Key("AccessionNumber", "O", "2"),
    Key("IssuerOfAccessionNumberSequence", "O", "3", inside=_ISSUER),
    Key("RequestingPhysician", "O", "2"),
    Key("ReferringPhysicianName", "O", "2"),
    Key("RequestingService", "O", "3"),
    Key("PlacerOrderNumberImagingServiceRequest", "O", "3"),
    Key("FillerOrderNumberImagingServiceRequest", "O", "3"),
    Key("IssueDateOfImagingServiceRequest", "O", "3"),
    Key("IssueTimeOfImagingServiceRequest", "O", "3"),
    Key("ImagingServiceRequestComments", "O", "3"),
    # Visit
    Key("AdmissionID", "O", "2"),
    Key("InstitutionName", "O", "3"),
    Key("CurrentPatientLocation", "O", "2"),
    Key("PatientInstitutionResidence", "O", "3"),
    Key("ReferencedPatientSequence", "O", "2", inside=_REFERENCE),
    Key("AdmittingDiagnosesDescription", "O", "3"),
    # Patient
    Key("PatientName", "R", "1"),
    Key("PatientID", "R", "1"),
    Key("IssuerOfPatientID", "O", "3"),
    Key("PatientBirthDate", "O", "2"),
    Key("PatientSex", "O", "2"),
    Key("ConfidentialityConstraintOnPatientDataDescription", "O", "2"),
    Key("PatientSize", "O", "3"),
    Key("PatientWeight", "O", "2"),
    Key("EthnicGroup", "O", "3"),
    Key("PatientAddress", "O", "3"),
    Key("PatientComments", "O", "3"),
    Key("PatientState", "O", "2"),
    Key("PregnancyStatus", "O", "2"),
    Key("LastMenstrualDate", "O", "3"),
    Key("MedicalAlerts", "O", "2"),
    Key("Allergies", "O", "2"),
    Key("SmokingStatus", "O", "3"),
    Key("AdditionalPatientHistory", "O", "3"),
    Key("SpecialNeeds", "O", "2"),
)
BY_KEYWORD: Final = {key.keyword: key for key in KEYS}

_STATE: Final = tag_of("ScheduledProcedureStepStatus")
_STATIONS: Final = tag_of("ScheduledStationAETitle")
# Every path that can be matched and returned.
PATHS: Final = frozenset(
    path
    for key in KEYS
    for path in [key.path, *((*key.path, tag_of(name)) for name in key.inside)]
) | {(STEPS,)}

# What who makes an entry must say; the rest of type 1 is filled in.
REQUIRED: Final = ("PatientName", "PatientID", "Modality")
# What is decided when an entry is made, for a step and its images are known by it.
IDENTITY: Final = ("StudyInstanceUID", "ScheduledProcedureStepID", "RequestedProcedureID")


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as it is stored, under its number; `version` counts its changes, times are microseconds since 1970."""

    number: int
    state: StepState
    dataset: Dataset
    version: int
    created_at: int
    updated_at: int

    def value(self, keyword: str) -> str:
        """The first value of an attribute as text; empty without."""
        return value_in(self.dataset, keyword)


@dataclass(frozen=True, slots=True)
class OrderChange:
    """What an order says of one step: its attributes by keyword (None takes one away), and the status that it is to have;
    None: it is scheduled, or changed where it is there already."""

    fields: Fields
    state: StepState | None


@dataclass(frozen=True, slots=True)
class PatientChange:
    """A patient's new attributes; `prior` is an identifier that is given up for `patient_id`, empty where none is."""

    patient_id: str
    issuer: str
    prior: str
    fields: Fields


def dataset_of(fields: Fields) -> dict[str, Mapping[str, Any]]:
    """The data set of an entry, in the order of its tags. Raises BadRequest naming the field, never its value."""
    top: dict[str, Mapping[str, Any]] = {}
    step: dict[str, Mapping[str, Any]] = {}
    for keyword, given in fields.items():
        key = BY_KEYWORD.get(keyword)
        if key is None:
            raise BadRequest(f"{keyword[:64]} is no attribute of a worklist entry; PS3.4 table K.6-1 lists those there are")
        (step if key.of_step else top)[key.tag] = _element(key, given)
    _check_required(top, step)
    top[STEPS] = {"vr": "SQ", "Value": [dict(sorted(step.items()))]}
    return dict(sorted(top.items()))


def fields_of(dataset: Dataset) -> dict[str, Any]:
    """The fields of an entry that have a value, as they were given."""
    step = step_of(dataset)
    found = {key.keyword: _plain(key, (step if key.of_step else dataset).get(key.tag, {})) for key in KEYS}
    return {keyword: value for keyword, value in found.items() if value is not None}


def step_of(dataset: Dataset) -> Dataset:
    """The one item of Scheduled Procedure Step Sequence."""
    element = dataset.get(STEPS, {})
    items: Sequence[Dataset] = (element.get("Value") if element.get("vr") == "SQ" else ()) or ({},)
    return items[0]


def value_in(dataset: Dataset, keyword: str) -> str:
    """The first value of an attribute as text; empty without."""
    key = BY_KEYWORD[keyword]
    value = _plain(key, (step_of(dataset) if key.of_step else dataset).get(key.tag, {}))
    if isinstance(value, list):
        value = value[0]
    return "" if value is None else str(value)


def in_state(dataset: Dataset, state: StepState) -> Dataset:
    """The data set with this status."""
    step = {**step_of(dataset), _STATE: {"vr": "CS", "Value": [state.value]}}
    return {**dataset, STEPS: {"vr": "SQ", "Value": [dict(sorted(step.items()))]}}


def begins(dataset: Dataset) -> str:
    """When the step is to begin, as text that sorts: YYYYMMDDHHMMSS.FFFFFF."""
    date, time = value_in(dataset, "ScheduledProcedureStepStartDate"), value_in(dataset, "ScheduledProcedureStepStartTime")
    return f"{date_key(date) or ''}{time_key(time) or ''}"


def seen_by(dataset: Dataset, conditions: Conditions, calling_ae: str) -> Dataset:
    """The entry as a station sees it: where it is for no station in particular, it is for the one that asks."""
    step = step_of(dataset)
    if step.get(_STATIONS, {}).get("Value"):
        return dataset
    station = next(_titles(conditions), calling_ae)
    mine = {**step, _STATIONS: {"vr": "AE", "Value": [station]}}
    return {**dataset, STEPS: {"vr": "SQ", "Value": [mine]}}


def _titles(conditions: Conditions) -> Iterator[str]:
    for path, condition in conditions:
        if path == (STEPS, _STATIONS) and isinstance(condition, OneOf):
            yield from (str(key) for key in condition.keys)


def conditions_by_keyword(asked: Mapping[str, str]) -> Conditions:
    """What is asked of entries by keyword, as C-FIND matches it. Raises BadRequest naming the keyword."""
    made = []
    for keyword, value in asked.items():
        key = BY_KEYWORD.get(keyword)
        if key is None or key.inside:
            raise BadRequest(f"{keyword[:64]} is no attribute by which worklist entries are found; PS3.4 table K.6-1 lists those")
        made.append((key.path, parse(key.path, key.vr, value)))
    return combined(tuple(made))


def asks_for_state(conditions: Conditions) -> bool:
    """Whether a search says in which status the entries are to be."""
    return any(path == (STEPS, _STATE) for path, _ in conditions)


def condition_on(conditions: Conditions, keyword: str) -> Condition | None:
    """What a search says of one attribute."""
    key = BY_KEYWORD[keyword]
    return next((condition for where, condition in conditions if where == key.path), None)


def _check_required(top: Dataset, step: Dataset) -> None:
    lacking = [name for name in REQUIRED if not ((step if BY_KEYWORD[name].of_step else top).get(tag_of(name)) or {}).get("Value")]
    if lacking:
        raise BadRequest(f"{', '.join(lacking)}: a worklist entry needs a value")
    if (start := step.get(tag_of("ScheduledProcedureStepStartDate"))) is None or not start.get("Value"):
        raise BadRequest("ScheduledProcedureStepStartDate: a worklist entry needs a value")


def _element(key: Key, given: Any) -> Mapping[str, Any]:
    if key.vr == "SQ":
        items = given if isinstance(given, list | tuple) else [] if given is None else [given]
        return _with({"vr": "SQ"}, [_item(key, one) for one in items])
    values = list(given) if isinstance(given, list | tuple) else [given]
    kept = [one for one in (_value(key.keyword, key.vr, value) for value in values) if one is not None]
    if len(kept) > 1 and not key.several:
        raise BadRequest(f"{key.keyword} has one value; {len(kept)} were given")
    return _with({"vr": key.vr}, kept)


def _with(element: dict[str, Any], values: Sequence[Any]) -> Mapping[str, Any]:
    return {**element, "Value": list(values)} if values else element


def _item(key: Key, given: Any) -> Dataset:
    if not isinstance(given, Mapping) or not set(given) <= set(key.inside):
        raise BadRequest(f"{key.keyword}: give items of {', '.join(key.inside)}")
    made: dict[str, Mapping[str, Any]] = {}
    for name in key.inside:
        value = _value(f"{key.keyword}.{name}", dictionary_VR(name), given.get(name))
        if value is not None:
            made[tag_of(name)] = {"vr": dictionary_VR(name), "Value": [value]}
    if key.inside is _CODE and (tag_of("CodeValue") not in made or tag_of("CodingSchemeDesignator") not in made):
        raise BadRequest(f"{key.keyword}: a code has a CodeValue and a CodingSchemeDesignator")
    return made


_EXPECTED: Final = {
    "AE": "an AE title of at most 16 characters, without backslash",
    "CS": "at most 16 characters: capitals, digits, spaces and underscores",
    "DA": "a date of the calendar as YYYYMMDD",
    "DS": "a number",
    "LO": "at most 64 characters, without backslash or control characters",
    "PN": "a name of at most 64 characters as FAMILY^GIVEN, without backslash",
    "SH": "at most 16 characters, without backslash or control characters",
    "TM": "a time as HHMMSS",
    "UI": "a UID: digits and dots, 64 at most",
    "US": "a whole number from 0 to 65535",
}


def _value(name: str, vr: str, given: Any) -> Any:
    """One value in the DICOM JSON model; None for one that says nothing. Raises BadRequest."""
    text = "" if given is None else str(given).strip()
    if not text:
        return None
    wrong = BadRequest(f"{name}: give {_EXPECTED.get(vr, 'text without control characters')}")
    if vr in ("DA", "TM"):
        return _moment(vr, text, wrong)
    if vr == "CS":
        text = text.upper()
    try:
        if vr == "US":
            return _whole(int(text))
        validate_value(vr, text, RAISE)
    except ValueError:
        raise wrong from None
    if not _clean(vr, text):
        raise wrong
    if vr == "DS":
        return float(text)
    if vr == "PN":
        return {group: part for group, part in zip(GROUPS, text.split("="), strict=False) if part}
    return text


def _moment(vr: str, text: str, wrong: BadRequest) -> str:
    key = date_key(text) if vr == "DA" else time_key(text)
    if key is None:
        raise wrong
    return key if vr == "DA" else key.removesuffix(".000000")


def _whole(number: int) -> int:
    if not 0 <= number <= 0xFFFF:
        raise ValueError
    return number


def _clean(vr: str, text: str) -> bool:
    """No control characters but those of text in lines, and no backslash where that separates values (PS3.5 6.2)."""
    lines = vr in ("LT", "ST", "UT")
    if not lines and "\\" in text:
        return False
    return all(letter.isprintable() or (lines and letter in "\r\n\t\f") for letter in text)


def _plain(key: Key, element: Mapping[str, Any]) -> Any:
    values = [value for value in element.get("Value") or () if value not in (None, "")]
    if not values:
        return None
    if key.vr == "SQ":
        return [{name: _first(item, name) for name in key.inside if _first(item, name)} for item in values]
    plain = ["=".join(value.get(group, "") for group in GROUPS).rstrip("=") if key.vr == "PN" else value for value in values]
    return plain if key.several else plain[0]


def _first(item: Dataset, name: str) -> str:
    return next(iter(item.get(tag_of(name), {}).get("Value") or ()), "")
