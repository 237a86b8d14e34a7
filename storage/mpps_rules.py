"""Modality Performed Procedure Steps as values (PS3.4 annex F.7): what a modality must say at the start and at the end. Pure.

A step is a data set in the DICOM JSON model. What the standard wants of type 2 and a modality leaves out is taken as empty:
nothing is gained by losing the message of an examination. What it wants of type 1 is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, Final, NamedTuple

from pydicom.datadict import dictionary_VR

from storage.attributes import name_of, tag_of
from storage.errors import StepRefused
from storage.matching.times import date_key, time_key
from storage.procedure_steps import is_uid
from storage.types import Dataset


class PerformedState(StrEnum):
    """Performed Procedure Step Status (0040,0252), PS3.4 F.1.5."""

    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"


ENDED: Final = frozenset({PerformedState.COMPLETED, PerformedState.DISCONTINUED})


class Refusal(IntEnum):
    """Why a request is refused (PS3.4 F.7.2.1.4, F.7.2.2.4; PS3.7 C.5)."""

    INVALID_VALUE = 0x0106
    PROCESSING_FAILURE = 0x0110
    DUPLICATE = 0x0111
    UNKNOWN = 0x0112
    INVALID_INSTANCE = 0x0117
    MISSING_ATTRIBUTE = 0x0120
    MISSING_VALUE = 0x0121


# The Error ID and the comment that PS3.4 table F.7.2-2 gives to a step that has ended.
NO_LONGER: Final = 0xA710
_NO_LONGER: Final = "Performed Procedure Step Object may no longer be updated"


class Rule(NamedTuple):
    """A row of PS3.4 table F.7.2-1: where, the SCU's type in N-CREATE, whether N-SET may change it, and whether the final
    state needs a value (`R` every final state, `C` a completed one)."""

    path: tuple[str, ...]
    create: str
    change: bool = True
    final: str = ""


_SCHEDULED: Final = "ScheduledStepAttributesSequence"
_SERIES: Final = "PerformedSeriesSequence"
_IMAGES, _OTHERS = "ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence"


def _rows(names: Sequence[str], create: str, *, above: tuple[str, ...] = (), change: bool = True, final: str = "") -> list[Rule]:
    return [Rule((*above, name), create, change, final) for name in names]


RULES: Final = (
    # Performed Procedure Step Relationship
    *_rows([_SCHEDULED], "1", change=False),
    *_rows(["StudyInstanceUID"], "1", above=(_SCHEDULED,), change=False),
    *_rows(["ReferencedStudySequence", "AccessionNumber", "RequestedProcedureID"], "2", above=(_SCHEDULED,), change=False),
    *_rows(["RequestedProcedureDescription", "ScheduledProcedureStepID"], "2", above=(_SCHEDULED,), change=False),
    *_rows(["ScheduledProcedureStepDescription", "ScheduledProtocolCodeSequence"], "2", above=(_SCHEDULED,), change=False),
    *_rows(["PatientName", "PatientID", "PatientBirthDate", "PatientSex", "ReferencedPatientSequence"], "2", change=False),
    # Performed Procedure Step Information
    *_rows(["PerformedProcedureStepID", "PerformedStationAETitle"], "1", change=False),
    *_rows(["PerformedStationName", "PerformedLocation"], "2", change=False),
    *_rows(["PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime"], "1", change=False),
    *_rows(["PerformedProcedureStepStatus"], "1", final="R"),
    *_rows(["PerformedProcedureStepDescription", "PerformedProcedureTypeDescription", "ProcedureCodeSequence"], "2"),
    *_rows(["PerformedProcedureStepEndDate", "PerformedProcedureStepEndTime"], "2", final="R"),
    # Image Acquisition Results
    *_rows(["Modality"], "1", change=False),
    *_rows(["StudyID"], "2", change=False),
    *_rows(["PerformedProtocolCodeSequence"], "2"),
    *_rows([_SERIES], "2", final="C"),
    *_rows(["ProtocolName", "SeriesInstanceUID"], "1", above=(_SERIES,), final="R"),
    *_rows(["PerformingPhysicianName", "OperatorsName", "SeriesDescription", "RetrieveAETitle"], "2", above=(_SERIES,)),
    *_rows([_IMAGES, _OTHERS], "2", above=(_SERIES,)),
    *_rows(["ReferencedSOPClassUID", "ReferencedSOPInstanceUID"], "1", above=(_SERIES, _IMAGES), final="R"),
    *_rows(["ReferencedSOPClassUID", "ReferencedSOPInstanceUID"], "1", above=(_SERIES, _OTHERS), final="R"),
)

CHARACTER_SET: Final = tag_of("SpecificCharacterSet")
STATE: Final = tag_of("PerformedProcedureStepStatus")
_REASONS: Final = tag_of("PerformedProcedureStepDiscontinuationReasonCodeSequence")
# DCM 110514 (PS3.16 CID 9300): the step was begun on the wrong entry, which is still to be done.
_WRONG_ENTRY: Final = ("110514", "DCM")
_CHECKED: Final = {"DA": date_key, "TM": time_key}


@dataclass(frozen=True, slots=True)
class Step:
    """A performed procedure step as it is stored; `version` counts its changes, times are microseconds since 1970."""

    uid: str
    state: PerformedState
    dataset: Dataset
    version: int = 1
    created_at: int = 0
    updated_at: int = 0


class Scheduled(NamedTuple):
    """An item of Scheduled Step Attributes Sequence: what a step says that it performs."""

    study: str
    accession: str
    procedure: str
    step: str


class Announced(NamedTuple):
    """An instance that a step says it has made."""

    series: str
    sop_class: str
    instance: str


def created(uid: str, dataset: Dataset) -> Step:
    """The step that an N-CREATE asks for (F.7.2.1). Raises StepRefused naming the attributes, never their values."""
    if not is_uid(uid):
        raise StepRefused(Refusal.INVALID_INSTANCE, "the SOP Instance UID is not a UID; send digits and dots, 64 at most")
    given = {tag: element for tag, element in dataset.items() if tag != CHARACTER_SET}
    _require(given, lambda rule: rule.create == "1")
    if value_of(given, "PerformedProcedureStepStatus") != PerformedState.IN_PROGRESS:
        raise _refused(Refusal.INVALID_VALUE, [STATE], "must be IN PROGRESS at the start")
    _check_values(given)
    return Step(uid, PerformedState.IN_PROGRESS, _sorted({**_empty(given), **given}))


def updated(step: Step, dataset: Dataset) -> Step:
    """The step with the attributes of an N-SET in place of its own (F.7.2.2), sequences whole. Raises StepRefused."""
    if step.state in ENDED:
        raise StepRefused(Refusal.PROCESSING_FAILURE, _NO_LONGER, error_id=NO_LONGER)
    given = {tag: element for tag, element in dataset.items() if tag != CHARACTER_SET}
    fixed = [tag_of(rule.path[0]) for rule in RULES if not rule.change and len(rule.path) == 1]
    # Many modalities say again what they said at the start: that is no change.
    changed = [tag for tag in fixed if tag in given and _values(given[tag]) != _values(step.dataset.get(tag, {}))]
    if changed:
        raise _refused(Refusal.INVALID_VALUE, changed, "cannot be changed by N-SET")
    whole = {**step.dataset, **given}
    named = value_of(whole, "PerformedProcedureStepStatus")
    if named not in tuple(PerformedState):
        raise _refused(Refusal.INVALID_VALUE, [STATE], f"is none of {', '.join(PerformedState)}")
    state = PerformedState(named)
    _check_values(given)
    if state in ENDED:
        _require(whole, lambda rule: rule.final == "R" or (rule.final == "C" and state is PerformedState.COMPLETED))
    return Step(step.uid, state, _sorted(whole), step.version + 1, step.created_at, step.updated_at)


def given_up(step: Step, date: str, at: str) -> Step:
    """A step whose modality will not end it, discontinued by the archive (F.7.2.2.3, note 2). Raises StepRefused."""
    end = {"PerformedProcedureStepEndDate": ("DA", date), "PerformedProcedureStepEndTime": ("TM", at)}
    change = {tag_of(name): {"vr": vr, "Value": [value]} for name, (vr, value) in end.items()}
    return updated(step, {**change, STATE: {"vr": "CS", "Value": [PerformedState.DISCONTINUED.value]}})


def scheduled_in(dataset: Dataset) -> list[Scheduled]:
    """What a step performs."""
    keywords = ("StudyInstanceUID", "AccessionNumber", "RequestedProcedureID", "ScheduledProcedureStepID")
    return [Scheduled(*(value_of(item, keyword) for keyword in keywords)) for item in _items(dataset, _SCHEDULED)]


def announced_in(dataset: Dataset) -> list[Announced]:
    """The instances that a step says it has made, each once."""
    found = {
        one.instance: one
        for series in _items(dataset, _SERIES)
        for sequence in (_IMAGES, _OTHERS)
        for item in _items(series, sequence)
        for one in [Announced(*(value_of(at, name) for at, name in _where(series, item)))]
    }
    return list(found.values())


def on_wrong_entry(step: Step) -> bool:
    """Whether it was discontinued because it had been begun on the wrong worklist entry."""
    codes = [(value_of(item, "CodeValue"), value_of(item, "CodingSchemeDesignator")) for item in _values(step.dataset.get(_REASONS, {}))]
    return step.state is PerformedState.DISCONTINUED and _WRONG_ENTRY in codes


def value_of(dataset: Dataset, keyword: str) -> str:
    """The first value of an attribute as text; empty without."""
    values = _values(dataset.get(tag_of(keyword), {}))
    return str(values[0]).strip() if values else ""


def _where(series: Dataset, item: Dataset) -> Iterator[tuple[Dataset, str]]:
    yield series, "SeriesInstanceUID"
    yield item, "ReferencedSOPClassUID"
    yield item, "ReferencedSOPInstanceUID"


def _items(dataset: Dataset, keyword: str) -> Sequence[Dataset]:
    return [item for item in _values(dataset.get(tag_of(keyword), {})) if isinstance(item, Mapping)]


def _values(element: Mapping[str, Any]) -> list[Any]:
    return [value for value in element.get("Value") or () if value not in (None, "")]


def _require(dataset: Dataset, is_required: Callable[[Rule], bool]) -> None:
    """Raises StepRefused unless everything is there that is required."""
    missing: dict[Refusal, list[str]] = {}
    for rule in RULES:
        if is_required(rule):
            for why in _lacks(dataset, rule.path):
                missing.setdefault(why, []).append(tag_of(rule.path[-1]))
    for why, what in ((Refusal.MISSING_ATTRIBUTE, "is missing"), (Refusal.MISSING_VALUE, "has no value")):
        if why in missing:
            raise _refused(why, list(dict.fromkeys(missing[why])), what)


def _lacks(dataset: Dataset, path: tuple[str, ...]) -> Iterator[Refusal]:
    if len(path) > 1:
        for item in _items(dataset, path[0]):
            yield from _lacks(item, path[1:])
    elif tag_of(path[0]) not in dataset:
        yield Refusal.MISSING_ATTRIBUTE
    elif not _values(dataset[tag_of(path[0])]):
        yield Refusal.MISSING_VALUE


def _empty(given: Dataset) -> dict[str, Mapping[str, Any]]:
    """The attributes of type 2 that the start has left out, empty."""
    names = [rule.path[0] for rule in RULES if rule.create == "2" and len(rule.path) == 1]
    return {tag_of(name): {"vr": dictionary_VR(name)} for name in names if tag_of(name) not in given}


def _check_values(dataset: Dataset) -> None:
    """Dates, times and UIDs must be what they are called: what is compared later is compared by them."""
    wrong = []
    for tag, element in dataset.items():
        check = is_uid if element["vr"] == "UI" else _CHECKED.get(element["vr"])
        if element["vr"] == "SQ":
            for item in _values(element):
                _check_values(item)
        elif check is not None and not all(check(str(value).strip()) for value in _values(element)):
            wrong.append(tag)
    if wrong:
        raise _refused(Refusal.INVALID_VALUE, wrong, "is no date, time or UID")


def _refused(why: Refusal, tags: Sequence[str], what: str) -> StepRefused:
    return StepRefused(why, f"{', '.join(name_of(tag) for tag in tags)} {what}", tuple(tags))


def _sorted(dataset: Dataset) -> Dataset:
    return {tag: dataset[tag] for tag in sorted(dataset)}
