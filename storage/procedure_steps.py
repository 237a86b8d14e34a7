"""Unified Procedure Steps as values (PS3.4 annex CC): what a workitem must have, its states, and what each change is told as.

A workitem is a data set in the DICOM JSON model. Its Transaction UID, which is the performer's key, is never in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import Any, Final, NamedTuple

from storage import json_model
from storage.attributes import tag_of
from storage.errors import BadRequest, WorkitemRefused
from storage.types import Dataset

PUSH_SOP_CLASS: Final = "1.2.840.10008.5.1.4.34.6.1"
EVENT_SOP_CLASS: Final = "1.2.840.10008.5.1.4.34.6.4"
# The well-known instances that stand for all workitems, and for those that match a filter (PS3.4 CC.2.3.1).
GLOBAL: Final = "1.2.840.10008.5.1.4.34.5"
FILTERED: Final = "1.2.840.10008.5.1.4.34.5.1"

_SCHEDULED_BY: Final = "Lightbox"
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")


class State(StrEnum):
    """Procedure Step State (0074,1000), PS3.4 CC.1.1."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"


FINAL: Final = frozenset({State.COMPLETED, State.CANCELED})


class Refusal(IntEnum):
    """Why a change is refused: the N-service status (PS3.4 tables CC.2.1-2, -2.2-2, -2.3-3, -2.5-2, -2.6-2; PS3.7 C.5)."""

    INVALID_VALUE = 0x0106
    DUPLICATE = 0x0111
    MISSING_ATTRIBUTE = 0x0120
    MISSING_VALUE = 0x0121
    NO_LONGER = 0xC300
    WRONG_TRANSACTION = 0xC301
    ALREADY_IN_PROGRESS = 0xC302
    ONLY_BY_CREATION = 0xC303
    NOT_FINISHED = 0xC304
    UNKNOWN = 0xC307
    NOT_SCHEDULED = 0xC309
    NOT_IN_PROGRESS = 0xC310
    ALREADY_COMPLETED = 0xC311
    NOBODY_LISTENS = 0xC312


class Remark(IntEnum):
    """What is to be said of a change that was made: the N-service warnings of the same tables."""

    CREATED_WITH_MODIFICATIONS = 0xB300
    ALREADY_CANCELED = 0xB304
    UPDATED_WITH_MODIFICATIONS = 0xB305
    ALREADY_COMPLETED = 0xB306


class Event(IntEnum):
    """Event Type IDs (PS3.4 table CC.2.4-1)."""

    STATE_REPORT = 1
    CANCEL_REQUESTED = 2
    PROGRESS_REPORT = 3
    SCP_STATUS_CHANGE = 4
    ASSIGNED = 5


class Rule(NamedTuple):
    """A row of PS3.4 table CC.2.5-3. `create`: type for the SCU in N-CREATE, `empty` for what only the performer fills in,
    `-` for what the archive decides. `change`: whether N-SET may name it. `final`: R in both final states, P when
    completed, X when canceled, O in neither."""

    keyword: str
    create: str
    change: bool = True
    final: str = "O"


RULES: Final = (
    # SOP Common
    Rule("SOPClassUID", "-", change=False),
    Rule("SOPInstanceUID", "-", change=False),
    Rule("TransactionUID", "empty", change=False),
    # Unified Procedure Step Scheduled Procedure Information
    Rule("ScheduledProcedureStepPriority", "1", final="R"),
    Rule("ScheduledProcedureStepModificationDateTime", "-", change=False, final="R"),
    Rule("ProcedureStepLabel", "1", final="R"),
    Rule("WorklistLabel", "2", final="R"),
    Rule("ScheduledProcessingParametersSequence", "2"),
    Rule("ScheduledStationNameCodeSequence", "2"),
    Rule("ScheduledStationClassCodeSequence", "2"),
    Rule("ScheduledStationGeographicLocationCodeSequence", "2"),
    Rule("ScheduledHumanPerformersSequence", "3"),
    Rule("ScheduledProcedureStepStartDateTime", "1", final="R"),
    Rule("ExpectedCompletionDateTime", "3"),
    Rule("ScheduledProcedureStepExpirationDateTime", "3"),
    Rule("ScheduledWorkitemCodeSequence", "2"),
    Rule("CommentsOnTheScheduledProcedureStep", "2"),
    Rule("InputReadinessState", "1", final="R"),
    Rule("InputInformationSequence", "2"),
    Rule("StudyInstanceUID", "3"),
    # Unified Procedure Step Relationship
    Rule("PatientName", "2", change=False),
    Rule("PatientID", "2", change=False),
    Rule("IssuerOfPatientID", "2", change=False),
    Rule("IssuerOfPatientIDQualifiersSequence", "2", change=False),
    Rule("OtherPatientIDsSequence", "2"),
    Rule("PatientBirthDate", "2", change=False),
    Rule("PatientSex", "2", change=False),
    Rule("AdmissionID", "2", change=False),
    Rule("IssuerOfAdmissionIDSequence", "2", change=False),
    Rule("AdmittingDiagnosesDescription", "2", change=False),
    Rule("AdmittingDiagnosesCodeSequence", "2", change=False),
    Rule("ReferencedRequestSequence", "2", change=False),
    Rule("ReplacedProcedureStepSequence", "3", change=False),
    # Unified Procedure Step Progress Information
    Rule("ProcedureStepState", "1", change=False, final="R"),
    Rule("ProcedureStepProgressInformationSequence", "empty"),
    # Unified Procedure Step Performed Procedure Information
    Rule("UnifiedProcedureStepPerformedProcedureSequence", "empty", final="P"),
)
_BY_TAG: Final = {tag_of(rule.keyword): rule for rule in RULES}

# What must have a value inside sequences in a final state, as paths of keywords (the same table). Output Information
# Sequence is of type 2: there, perhaps without items.
_INSIDE: Final = (
    (("ProcedureStepProgressInformationSequence", "ProcedureStepCancellationDateTime"), "X"),
    (("ProcedureStepProgressInformationSequence", "ProcedureStepDiscontinuationReasonCodeSequence"), "X"),
    (("UnifiedProcedureStepPerformedProcedureSequence", "PerformedStationNameCodeSequence"), "P"),
    (("UnifiedProcedureStepPerformedProcedureSequence", "PerformedProcedureStepStartDateTime"), "P"),
    (("UnifiedProcedureStepPerformedProcedureSequence", "PerformedWorkitemCodeSequence"), "P"),
    (("UnifiedProcedureStepPerformedProcedureSequence", "PerformedProcedureStepEndDateTime"), "P"),
)
# Enumerated Values (PS3.3 C.30.1, C.30.3).
_ENUMERATED: Final = {
    "ScheduledProcedureStepPriority": ("HIGH", "MEDIUM", "LOW"),
    "InputReadinessState": ("INCOMPLETE", "UNAVAILABLE", "READY"),
    "ProcedureStepState": tuple(State),
}

STATE, READINESS = tag_of("ProcedureStepState"), tag_of("InputReadinessState")
TRANSACTION, MODIFIED = tag_of("TransactionUID"), tag_of("ScheduledProcedureStepModificationDateTime")
SOP_CLASS, SOP_INSTANCE = tag_of("SOPClassUID"), tag_of("SOPInstanceUID")
PROGRESS, PERFORMED = tag_of("ProcedureStepProgressInformationSequence"), tag_of("UnifiedProcedureStepPerformedProcedureSequence")
STATIONS, PERFORMERS = tag_of("ScheduledStationNameCodeSequence"), tag_of("ScheduledHumanPerformersSequence")
LABEL, CHARACTER_SET = tag_of("WorklistLabel"), tag_of("SpecificCharacterSet")
REASON, REASON_CODE = tag_of("ReasonForCancellation"), tag_of("ProcedureStepDiscontinuationReasonCodeSequence")
CONTACT_URI, CONTACT_NAME = tag_of("ContactURI"), tag_of("ContactDisplayName")
COMMUNICATIONS = tag_of("ProcedureStepCommunicationsURISequence")
CANCELED_AT, REQUESTING_AE = tag_of("ProcedureStepCancellationDateTime"), tag_of("RequestingAE")

# What a requestor of a cancellation may say, and what is told of it (PS3.4 table CC.2.2-1).
CANCEL_FIELDS: Final = (REASON, REASON_CODE, CONTACT_URI, CONTACT_NAME)

# DCM 110513 (PS3.16 CID 9301), for cancellations without a reason: the final state needs one.
_UNSPECIFIED: Final = {
    "00080100": {"vr": "SH", "Value": ["110513"]},
    "00080102": {"vr": "SH", "Value": ["DCM"]},
    "00080104": {"vr": "LO", "Value": ["Discontinued for unspecified reason"]},
}

# PS3.4 table CC.1.1-2 with the right Transaction UID: (state, asked for) -> what comes of it, None when it is done.
TRANSITIONS: Final[dict[tuple[State, State], Refusal | Remark | None]] = {
    (State.SCHEDULED, State.IN_PROGRESS): None,
    (State.SCHEDULED, State.COMPLETED): Refusal.NOT_IN_PROGRESS,
    (State.SCHEDULED, State.CANCELED): Refusal.NOT_IN_PROGRESS,
    (State.IN_PROGRESS, State.IN_PROGRESS): Refusal.ALREADY_IN_PROGRESS,
    (State.IN_PROGRESS, State.COMPLETED): None,
    (State.IN_PROGRESS, State.CANCELED): None,
    (State.COMPLETED, State.IN_PROGRESS): Refusal.NO_LONGER,
    (State.COMPLETED, State.COMPLETED): Remark.ALREADY_COMPLETED,
    (State.COMPLETED, State.CANCELED): Refusal.NO_LONGER,
    (State.CANCELED, State.IN_PROGRESS): Refusal.NO_LONGER,
    (State.CANCELED, State.COMPLETED): Refusal.NO_LONGER,
    (State.CANCELED, State.CANCELED): Remark.ALREADY_CANCELED,
    **{(state, State.SCHEDULED): Refusal.ONLY_BY_CREATION for state in State},
}

_WHY: Final[dict[Refusal, str]] = {
    Refusal.NO_LONGER: "the workitem is {state} and may no longer be updated",
    Refusal.ALREADY_IN_PROGRESS: "the workitem is already IN PROGRESS; somebody else performs it",
    Refusal.ONLY_BY_CREATION: "a workitem becomes SCHEDULED only when it is created; create another one",
    Refusal.NOT_IN_PROGRESS: "the workitem is not yet IN PROGRESS; claim it first, by that state and a Transaction UID",
}


@dataclass(frozen=True, slots=True)
class Workitem:
    """A workitem as it is stored. `transaction` is empty until somebody performs it; `version` counts its changes."""

    uid: str
    state: State
    dataset: Dataset
    transaction: str = ""
    version: int = 1


@dataclass(frozen=True, slots=True)
class Told:
    """An event of a workitem: its type, and the attributes of its report (PS3.4 table CC.2.4-1)."""

    kind: Event
    fields: Dataset


@dataclass(frozen=True, slots=True)
class Changed:
    """A workitem after a change, what its subscribers are told, and what the requester is."""

    item: Workitem
    events: tuple[Told, ...] = ()
    remark: Remark | None = None


def is_uid(text: str) -> bool:
    """Whether `text` is a UID (PS3.5 9.1)."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def created(uid: str, dataset: Dataset, now: str) -> Changed:
    """The workitem that a request creates (PS3.4 CC.2.5). `now` is the time as DT.

    Attributes of type 2 that are missing are added without a value, with a remark. Raises BadRequest for what is no data
    set, WorkitemRefused naming the attribute.
    """
    if not is_uid(uid):
        raise BadRequest("the UID of the workitem is not a UID; send digits and dots, 64 at most")
    json_model.check(dataset)
    given = dict(dataset)
    if str(_value(given.pop(SOP_INSTANCE, {})) or uid) != uid:
        raise WorkitemRefused(Refusal.INVALID_VALUE, "SOPInstanceUID is not the UID that the request names; leave it out")
    if str(_value(given.pop(SOP_CLASS, {})) or PUSH_SOP_CLASS) != PUSH_SOP_CLASS:
        raise WorkitemRefused(Refusal.INVALID_VALUE, "SOPClassUID is not that of UPS Push; leave it out")
    if _value(given.get(STATE, {})) not in (None, State.SCHEDULED):
        raise WorkitemRefused(Refusal.NOT_SCHEDULED, "ProcedureStepState must be SCHEDULED in a new workitem")
    added = _required(given)
    _enumerated(given)
    given.pop(TRANSACTION, None)
    if not _value(given[LABEL]):
        given[LABEL], added = {"vr": "LO", "Value": [_SCHEDULED_BY]}, True
    item = Workitem(uid, State.SCHEDULED, _stamped({**given, **_identity(uid)}, now))
    events = [state_report(item)]
    if _assigned(item.dataset):
        events.append(_assignment(item))
    return Changed(item, tuple(events), Remark.CREATED_WITH_MODIFICATIONS if added else None)


def updated(item: Workitem, transaction: str, dataset: Dataset, now: str) -> Changed:
    """The workitem with the attributes of `dataset` in place of its own (PS3.4 CC.2.6); sequences are replaced whole.

    Raises BadRequest, WorkitemRefused.
    """
    json_model.check(dataset)
    if item.state in FINAL:
        raise _refused(Refusal.NO_LONGER, item)
    if item.state is State.IN_PROGRESS:
        _authorised(item, transaction)
    elif transaction:
        raise WorkitemRefused(
            Refusal.NOT_IN_PROGRESS, "nobody has claimed the workitem; leave the Transaction UID out, or claim it first"
        )
    given = {tag: element for tag, element in dataset.items() if tag != TRANSACTION}
    for tag in given:
        rule = _BY_TAG.get(tag)
        if rule is not None and not rule.change:
            raise WorkitemRefused(Refusal.INVALID_VALUE, f"{rule.keyword} cannot be changed by an update; leave it out")
        if rule is not None and rule.create == "1" and _value(given[tag]) is None:
            raise WorkitemRefused(Refusal.MISSING_VALUE, f"{rule.keyword} must keep a value")
    if item.state is State.SCHEDULED and (_value(given.get(PERFORMED, {})) is not None):
        raise _refused(Refusal.NOT_IN_PROGRESS, item)
    _enumerated(given)
    after = Workitem(item.uid, item.state, _stamped({**item.dataset, **given}, now), item.transaction, item.version + 1)
    return Changed(after, tuple(_differences(item, after)))


def state_changed(item: Workitem, transaction: str, asked: str, now: str) -> Changed:
    """The workitem in the state `asked` for (PS3.4 CC.2.1). Raises BadRequest, WorkitemRefused."""
    if asked not in tuple(State):
        raise BadRequest("ProcedureStepState is none of IN PROGRESS, COMPLETED, CANCELED")
    wanted = State(asked)
    if wanted is State.SCHEDULED:
        raise _refused(Refusal.ONLY_BY_CREATION, item)
    if not transaction:
        raise WorkitemRefused(Refusal.WRONG_TRANSACTION, "the Transaction UID is missing", missing=True)
    if not is_uid(transaction):
        raise BadRequest("the Transaction UID is not a UID; send digits and dots, 64 at most")
    if item.state is not State.SCHEDULED:
        _authorised(item, transaction)
    outcome = TRANSITIONS[item.state, wanted]
    if isinstance(outcome, Refusal):
        raise _refused(outcome, item)
    if isinstance(outcome, Remark):
        return Changed(item, remark=outcome)
    if wanted is State.CANCELED:
        item = _with_reason(item, {}, now)
    if wanted in FINAL:
        _finished(item.dataset, wanted)
    after = _in_state(item, wanted, transaction, now)
    return Changed(after, (state_report(after),))


def cancel_asked(item: Workitem, request: Dataset, requester: str, now: str, *, heard: bool) -> Changed:
    """What a request for cancellation does (PS3.4 CC.2.2): one that nobody has claimed is canceled, the performer of another
    is told. `heard`: somebody subscribes to it. Raises BadRequest, WorkitemRefused."""
    json_model.check(request)
    fields = {tag: request[tag] for tag in CANCEL_FIELDS if tag in request}
    if item.state is State.CANCELED:
        return Changed(item, remark=Remark.ALREADY_CANCELED)
    if item.state is State.COMPLETED:
        raise WorkitemRefused(Refusal.ALREADY_COMPLETED, "the workitem is already COMPLETED")
    if item.state is State.IN_PROGRESS:
        if not heard:
            raise WorkitemRefused(Refusal.NOBODY_LISTENS, "the performer cannot be contacted: nobody subscribes to the workitem")
        told = Told(Event.CANCEL_REQUESTED, {REQUESTING_AE: _element("AE", requester), **fields})
        return Changed(item, (told,))
    begun = _in_state(item, State.IN_PROGRESS, "", now)
    ended = _with_reason(begun, fields, now)
    _finished(ended.dataset, State.CANCELED)
    canceled = _in_state(ended, State.CANCELED, "", now)
    return Changed(canceled, (state_report(begun), state_report(canceled)))


def state_report(item: Workitem) -> Told:
    """The event that says in which state a workitem is."""
    progress = _item(item.dataset.get(PROGRESS, {}))
    reasons = {tag: progress[tag] for tag in (REASON, REASON_CODE) if tag in progress}
    fields = {STATE: _element("CS", item.state), READINESS: item.dataset.get(READINESS, {"vr": "CS"}), **reasons}
    return Told(Event.STATE_REPORT, fields)


def _required(given: dict[str, Mapping[str, Any]]) -> bool:
    """Adds what type 2 lets be empty; whether there was any. Raises WorkitemRefused for what type 1 lacks."""
    added = False
    for tag, rule in _BY_TAG.items():
        present, valued = tag in given, _value(given.get(tag, {})) is not None
        if rule.create == "empty" and valued:
            raise WorkitemRefused(Refusal.INVALID_VALUE, f"{rule.keyword} must be empty in a new workitem")
        if rule.create == "1" and not valued:
            why = Refusal.MISSING_VALUE if present else Refusal.MISSING_ATTRIBUTE
            raise WorkitemRefused(why, f"{rule.keyword} must have a value in a new workitem")
        if rule.create in ("2", "empty") and not present:
            given[tag], added = {"vr": json_model.vrs_of(tag)[0]}, True
    return added


def _enumerated(given: Dataset) -> None:
    for keyword, allowed in _ENUMERATED.items():
        value = _value(given.get(tag_of(keyword), {}))
        if value is not None and value not in allowed:
            raise WorkitemRefused(Refusal.INVALID_VALUE, f"{keyword} is none of {', '.join(allowed)}")


def _authorised(item: Workitem, transaction: str) -> None:
    if not transaction:
        raise WorkitemRefused(Refusal.WRONG_TRANSACTION, "the Transaction UID is missing", missing=True)
    if transaction != item.transaction:
        raise WorkitemRefused(Refusal.WRONG_TRANSACTION, "the Transaction UID is not the one that the workitem was claimed with")


def _with_reason(item: Workitem, fields: Dataset, now: str) -> Workitem:
    """Why and when it was canceled, which the final state needs: from `fields`, else what is there, else unspecified.

    So a workitem can be canceled by changes of its state alone (PS3.4 CC.2.5.1.3.2, note).
    """
    given = {tag: one for tag, one in fields.items() if _value(one) is not None}
    contact = {tag: given.pop(tag) for tag in (CONTACT_URI, CONTACT_NAME) if tag in given}
    if contact:
        given[COMMUNICATIONS] = _element("SQ", contact)
    lacking = {REASON_CODE: _element("SQ", _UNSPECIFIED), CANCELED_AT: _element("DT", now)}
    there = {tag: one for tag, one in _item(item.dataset.get(PROGRESS, {})).items() if _value(one) is not None}
    whole = {**lacking, **there, **given}
    progress = {tag: whole[tag] for tag in sorted(whole)}
    return replace(item, dataset={**item.dataset, PROGRESS: _element("SQ", progress)})


def _finished(dataset: Dataset, wanted: State) -> None:
    """Raises WorkitemRefused unless what the final state requires is there (table CC.2.5-3)."""
    codes = "RP" if wanted is State.COMPLETED else "RX"
    paths = [((rule.keyword,), rule.final) for rule in RULES] + list(_INSIDE)
    lacking = [".".join(path) for path, final in paths if final in codes and not _present(dataset, path)]
    if lacking:
        raise WorkitemRefused(Refusal.NOT_FINISHED, f"before the workitem is {wanted}, update it with {', '.join(lacking)}")


def _present(dataset: Dataset, path: Sequence[str]) -> bool:
    element = dataset.get(tag_of(path[0]), {})
    if len(path) == 1:
        return _value(element) is not None
    items = [one for one in element.get("Value", ()) if isinstance(one, Mapping)]
    return bool(items) and all(_present(one, path[1:]) for one in items)


def _differences(before: Workitem, after: Workitem) -> Iterator[Told]:
    """What subscribers are told of an update (PS3.4 CC.2.4.3)."""
    old, new = before.dataset, after.dataset
    if old.get(READINESS) != new.get(READINESS):
        yield state_report(after)
    if old.get(PROGRESS) != new.get(PROGRESS):
        yield Told(Event.PROGRESS_REPORT, {PROGRESS: new[PROGRESS]})
    if any(old.get(tag) != new.get(tag) for tag in (STATIONS, PERFORMERS)):
        yield _assignment(after)


def _assigned(dataset: Dataset) -> bool:
    return any(_value(dataset.get(tag, {})) is not None for tag in (STATIONS, PERFORMERS))


def _assignment(item: Workitem) -> Told:
    """Who is to perform it: stations, people and their organizations, as far as they are known."""
    fields = {tag: item.dataset[tag] for tag in (STATIONS, PERFORMERS) if _value(item.dataset.get(tag, {})) is not None}
    return Told(Event.ASSIGNED, fields)


def _in_state(item: Workitem, state: State, transaction: str, now: str) -> Workitem:
    dataset = _stamped({**item.dataset, STATE: _element("CS", state)}, now)
    return Workitem(item.uid, state, dataset, transaction, item.version + 1)


def _identity(uid: str) -> Dataset:
    return {
        CHARACTER_SET: _element("CS", "ISO_IR 192"),
        SOP_CLASS: _element("UI", PUSH_SOP_CLASS),
        SOP_INSTANCE: _element("UI", uid),
        STATE: _element("CS", State.SCHEDULED),
    }


def _stamped(dataset: Dataset, now: str) -> Dataset:
    whole = {**dataset, MODIFIED: _element("DT", now), CHARACTER_SET: _element("CS", "ISO_IR 192")}
    return {tag: whole[tag] for tag in sorted(whole)}


def _refused(why: Refusal, item: Workitem) -> WorkitemRefused:
    return WorkitemRefused(why, _WHY[why].format(state=item.state))


def _element(vr: str, value: Any) -> Mapping[str, Any]:
    return {"vr": vr, "Value": [value]}


def _value(element: Mapping[str, Any]) -> Any:
    """The first value that says something; None without."""
    return next((one for one in element.get("Value") or () if one not in (None, "")), None)


def _item(element: Mapping[str, Any]) -> Dataset:
    return _value(element) or {}
