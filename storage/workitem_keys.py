"""By what workitems are found in the database: keys of their common attributes, and the spans in which those of matches lie.

Keys only narrow a search: what matches is decided by `storage.matching` on the data set. So a span may hold too much, and
never too little. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from storage.attributes import tag_of
from storage.json_model import vrs_of
from storage.matching import AllOf, Condition, NameLike, Names, OneOf, Pattern
from storage.matching.conditions import MomentRange
from storage.matching.keys import LOOSE, key_of
from storage.matching.names import name_keys
from storage.matching.times import moment
from storage.types import Dataset

# What worklists are asked by: who is to do what, when, with which priority, and for whom (PS3.4 table CC.2.5-3).
_PATHS: Final = (
    "ScheduledProcedureStepPriority",
    "InputReadinessState",
    "ScheduledProcedureStepStartDateTime",
    "ExpectedCompletionDateTime",
    "WorklistLabel",
    "ProcedureStepLabel",
    "StudyInstanceUID",
    "PatientName",
    "PatientID",
    "AdmissionID",
    "ScheduledStationNameCodeSequence.CodeValue",
    "ScheduledStationClassCodeSequence.CodeValue",
    "ScheduledStationGeographicLocationCodeSequence.CodeValue",
    "ScheduledWorkitemCodeSequence.CodeValue",
    "ReferencedRequestSequence.AccessionNumber",
)
KEYED: Final = {tuple(map(tag_of, path.split("."))): path for path in _PATHS}
# Greater than any text that begins like the one before it.
_LAST: Final = "\U0010ffff"
# The key of a date and time that does not say the hour: it may be within any span. Of others the spans begin with an hour.
_IMPRECISE: Final = ""
_TO_HOURS: Final = 10


class Span(NamedTuple):
    """Keys from `low` to `high`, both included."""

    low: str
    high: str


def keys_of(dataset: Dataset) -> frozenset[tuple[str, str]]:
    """The keys of a workitem, each with the path of its attribute in keywords."""
    return frozenset((name, key) for path, name in KEYED.items() for value in _values(dataset, path) for key in _keys(path, value))


def spans_of(path: tuple[str, ...], condition: Condition, *, fuzzy: bool = False) -> tuple[Span, ...] | None:
    """Where the keys of what matches lie, in one of these spans; None when they may be anywhere or not be at all."""
    if path not in KEYED:
        return None
    if isinstance(condition, MomentRange):
        return _moments(condition)
    if isinstance(condition, AllOf):
        found = (spans_of(path, one, fuzzy=fuzzy) for one in condition.each)
        return next((spans for spans in found if spans is not None), None)
    if isinstance(condition, Names):
        return None if fuzzy else _every(map(_name, condition.literal))
    if isinstance(condition, OneOf) and not (fuzzy and condition.vr in LOOSE):
        equal = tuple(Span(str(key), str(key)) for key in condition.keys)
        alike = _every(_beginning(pattern) for pattern in condition.patterns)
        return None if alike is None else equal + alike
    return None


def _values(dataset: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Any]:
    for value in dataset.get(path[0], {}).get("Value") or ():
        if len(path) == 1:
            yield value
        elif isinstance(value, Mapping):
            yield from _values(value, path[1:])


def _keys(path: tuple[str, ...], value: Any) -> Iterator[str]:
    vr = vrs_of(path[-1])[0]
    if value is None:
        return
    if vr == "PN":
        yield from filter(None, name_keys(value))
    elif vr == "DT":
        if (found := moment(str(value).strip())) is not None:
            yield found.low if found.low[:_TO_HOURS] == found.high[:_TO_HOURS] else _IMPRECISE
    elif (key := key_of(vr, value)) is not None:
        yield str(key)


def _moments(condition: MomentRange) -> tuple[Span, ...]:
    low = condition.low.low[:_TO_HOURS] if condition.low else ""
    high = condition.high.high if condition.high else _LAST
    return Span(_IMPRECISE, _IMPRECISE), Span(low, high)


def _name(condition: NameLike) -> tuple[Span, ...] | None:
    """Of the groups that matter one will do: no name matches that has no key in it."""
    if not condition.groups:
        return _every(map(_beginning, condition.patterns))
    return next((spans for group in condition.groups if group and (spans := _every(map(_beginning, group))) is not None), None)


def _beginning(pattern: Pattern) -> tuple[Span, ...] | None:
    if not pattern or not isinstance(pattern[0], str):
        return None
    return (Span(pattern[0], pattern[0] + (_LAST if len(pattern) > 1 else "")),)


def _every(alternatives: Iterable[tuple[Span, ...] | None]) -> tuple[Span, ...] | None:
    """The spans of all alternatives together; None when one of them has none."""
    found: list[Span] = []
    for spans in alternatives:
        if spans is None:
            return None
        found += spans
    return tuple(found)
