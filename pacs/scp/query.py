"""From a C-FIND identifier to a `Query`, and what an answer to it must have (PS3.4 C.4.1). Pure.

**Hierarchy.** Without relational queries a query must name, by their unique keys, what lies above its level (C.4.1.2.1,
C.4.1.3.1). Users of a PACS expect more, and nothing is lost by it, so only what would list every series or every
instance of the archive is refused: SERIES and IMAGE need a value for the unique key of the study, or of a level from
there down to their own. Several values, where the standard wants one, are taken as a list. Patient ID is never needed.

**Keys that cannot be matched** are taken as if they were empty, and the answers say so by 0xFF01 (C.4.1.1.4). Keys of a
lower level (Modality in a study query, say) are matched, and are empty in the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pacs.scp.identifiers import CHARACTER_SET, Identifier, text_values
from pacs.scp.negotiation import Context
from pacs.scp.sop_classes import SOP_CLASSES
from storage.attributes import BY_TAG, above, level_of, tag_of
from storage.errors import BadRequest, UnsupportedQuery
from storage.matching import Condition, Universal, combined, in_order, parse
from storage.types import Dataset, Level, Query

QUERY_LEVEL: Final = tag_of("QueryRetrieveLevel")
RETRIEVE_AE_TITLE: Final = tag_of("RetrieveAETitle")
AVAILABILITY: Final = tag_of("InstanceAvailability")
# They say how to read the identifier, or are put into every answer by us; none of them is a key.
NOT_KEYS: Final = frozenset({QUERY_LEVEL, RETRIEVE_AE_TITLE, AVAILABILITY, CHARACTER_SET, tag_of("QueryRetrieveView")})

_UNIQUE: Final = {
    Level.STUDY: tag_of("StudyInstanceUID"),
    Level.SERIES: tag_of("SeriesInstanceUID"),
    Level.IMAGE: tag_of("SOPInstanceUID"),
}

Conditions = tuple[tuple[tuple[str, ...], Condition], ...]


class WrongLevel(BadRequest):
    """(0008,0052) is missing or names a level that the information model has not got."""


@dataclass(frozen=True, slots=True)
class Find:
    """A C-FIND understood: the query, the keys as they were asked for, and whether some are not supported."""

    query: Query
    keys: Dataset
    some_unsupported: bool

    def complete(self, found: Dataset) -> dict[str, Mapping[str, Any]]:
        """The answer for a match: every key that was asked for, empty where there is nothing, and no other."""
        return complete(found, self.keys)


def understand(identifier: Identifier, context: Context, refuses: Callable[[Query], bool]) -> Find:
    """Make a query of an identifier. `refuses` says whether the index cannot match a query at all.

    Raises WrongLevel, BadRequest (a value that its attribute cannot have; a query without bounds).
    """
    level = level_in(identifier.dataset, SOP_CLASSES[context.abstract_syntax].levels)
    keys = {tag: element for tag, element in identifier.dataset.items() if tag not in NOT_KEYS}
    conditions, unmatched = conditions_of(keys)
    if not context.relational:
        _check_bounds(level, conditions)
    conditions = combined(conditions) if context.combined_times else in_order(conditions)
    query = Query(level, conditions, frozenset(fields_of(keys)), fuzzy=context.fuzzy)
    if refuses(query):
        matchable = tuple(one for one in conditions if not refuses(replace(query, conditions=(one,))))
        unmatched, query = True, replace(query, conditions=matchable)
    return Find(query, keys, unmatched or not all(is_supported(tag, level) for tag in keys))


def is_supported(tag: str, level: Level) -> bool:
    """Whether an answer at `level` has this attribute, where the instances have it."""
    own = level_of(tag)
    if own is not level and not above(level, own):
        return False
    attribute = BY_TAG.get(tag)
    # What is counted for a patient is counted only where patients are asked for; RetrieveURL is DICOMweb's.
    if attribute is not None and attribute.computed and own is Level.PATIENT:
        return level is Level.PATIENT
    return tag != _RETRIEVE_URL


_RETRIEVE_URL: Final = tag_of("RetrieveURL")


def level_in(dataset: Dataset, levels: Sequence[Level]) -> Level:
    """Query/Retrieve Level (0008,0052), one of a model's `levels`. Raises WrongLevel."""
    values = text_values(dataset.get(QUERY_LEVEL, {}))
    named = values[0].strip() if values else ""
    if len(values) == 1 and named in levels:
        return Level(named)
    known = ", ".join(levels)
    raise WrongLevel(f"QueryRetrieveLevel {'is missing' if not named else 'is wrong'}; use {known}")


def conditions_of(keys: Dataset) -> tuple[Conditions, bool]:
    """What is to be matched, and whether some key asks for what never can be."""
    found: list[tuple[tuple[str, ...], Condition]] = []
    unmatched = False
    for path, element in _leaves(keys, ()):
        try:
            condition = parse(path, element["vr"], text_values(element) or _raw(element))
        except UnsupportedQuery:
            unmatched = True
            continue
        if not isinstance(condition, Universal):
            found.append((path, condition))
    return tuple(found), unmatched


def _raw(element: Mapping[str, Any]) -> list[str]:
    """Binary values cannot be matched; that there is one must be seen all the same."""
    return [element["InlineBinary"]] if element.get("InlineBinary") else []


def _leaves(dataset: Dataset, above_it: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Every attribute that is not a sequence, with its path; a sequence key has at most one item (C.2.2.2.6)."""
    for tag, element in dataset.items():
        if element["vr"] != "SQ":
            yield (*above_it, tag), element
            continue
        items = element.get("Value") or ()
        if len(items) > 1:
            raise BadRequest(f"a sequence in the identifier has {len(items)} items; give one")
        for item in items:
            yield from _leaves(item, (*above_it, tag))


def fields_of(dataset: Dataset, above_it: str = "") -> Iterator[str]:
    """What is wanted back, as the index takes it: paths with dots; a sequence without keys in it is wanted whole."""
    for tag, element in dataset.items():
        items = element.get("Value") or () if element["vr"] == "SQ" else ()
        if items and items[0]:
            yield from fields_of(items[0], f"{above_it}{tag}.")
        else:
            yield f"{above_it}{tag}"


def _check_bounds(level: Level, conditions: Conditions) -> None:
    if level not in (Level.SERIES, Level.IMAGE):
        return
    valued = {path[0] for path, _ in conditions}
    if not valued & {tag for one, tag in _UNIQUE.items() if one is level or above(level, one)}:
        raise BadRequest(f"{level} query without StudyInstanceUID; name a study, or negotiate relational queries")


def complete(found: Dataset, keys: Dataset) -> dict[str, Mapping[str, Any]]:
    """What was asked for of a match: every key, empty where there is nothing, and no other; in sequences too."""
    answer: dict[str, Mapping[str, Any]] = {}
    for tag, key in keys.items():
        element = found.get(tag)
        if element is None:
            answer[tag] = {"vr": key["vr"]}
            continue
        wanted: Dataset | None = (key.get("Value") or (None,))[0] if key["vr"] == element["vr"] == "SQ" else None
        if wanted:
            items = [complete(item, wanted) for item in element.get("Value") or ()]
            element = {"vr": "SQ", "Value": items}
        answer[tag] = element
    return answer
