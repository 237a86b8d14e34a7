"""Query/Retrieve of objects of no patient: hanging protocols, colour palettes and the like (PS3.4 annexes U, X, BB, HH, II, JJ).

Their information models have one level: a query has no Query/Retrieve Level, and a retrieve names SOP Instance UIDs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pacs.scp import query as queries
from pacs.scp.identifiers import Identifier, text_values
from pacs.scp.retrieval import UNIQUE, MissingKey
from pacs.scp.selection import Selection
from storage.attributes import tag_of
from storage.errors import UnsupportedQuery
from storage.index import Index
from storage.matching import Conditions, combined, parse
from storage.matching.keys import text_key
from storage.non_patient import PARTITION
from storage.types import Dataset, Level, Query, Scope

# For the figures.
LEVEL: Final = "NON-PATIENT"
_SOP_CLASS, _INSTANCE = tag_of("SOPClassUID"), UNIQUE[Level.IMAGE][0]
# Known to the index, and to nobody else.
_PARENTS: Final = (UNIQUE[Level.STUDY][0], UNIQUE[Level.SERIES][0])
_AT_A_TIME: Final = 500


@dataclass(frozen=True, slots=True)
class Found:
    """A query understood: its answers, and whether some of its keys are not supported."""

    some_unsupported: bool
    answers: Iterator[Mapping[str, Any]]


def understand(identifier: Identifier, about: tuple[str, ...], index: Index) -> Found:
    """A query among the instances of `about`. Raises BadRequest naming the key whose value cannot be one."""
    keys = {tag: element for tag, element in identifier.dataset.items() if tag not in queries.NOT_KEYS}
    conditions, unmatched = queries.conditions_of({tag: one for tag, one in keys.items() if tag not in _PARENTS})
    own = combined((((_SOP_CLASS,), parse((_SOP_CLASS,), "UI", about)),))
    fields, wanted = frozenset(queries.fields_of(keys)), combined(conditions)
    unsupported = unmatched or any(tag in keys for tag in _PARENTS)
    try:
        matches = index.find(_query((*own, *wanted), fields))
    except UnsupportedQuery:
        # Which of them it is, only each alone tells.
        possible = tuple(one for one in wanted if not _refuses(index, _query((one,), frozenset())))
        matches, unsupported = index.find(_query((*own, *possible), fields)), True
    return Found(unsupported, _answers(matches, keys))


def select(dataset: Dataset, about: tuple[str, ...], index: Index) -> Selection:
    """What a retrieve asks for (U.4.2.2.1); what is not stored, is left out. Raises MissingKey."""
    uids = list(dict.fromkeys(filter(None, map(text_key, text_values(dataset.get(_INSTANCE, {}))))))
    if not uids or any(set(uid) & set("*?") for uid in uids):
        raise MissingKey("retrieve without SOP Instance UIDs; name the instances", _INSTANCE)
    scopes: dict[Scope, frozenset[str] | None] = {}
    for first in range(0, len(uids), _AT_A_TIME):
        for one in index.instances(uids[first : first + _AT_A_TIME], (PARTITION,)):
            if one.sop_class_uid in about:
                scope = Scope(one.uids.study, one.uids.series, partition=PARTITION)
                scopes[scope] = (scopes.get(scope) or frozenset()) | {one.uids.instance}
    return Selection(index, scopes)


def _query(conditions: Conditions, fields: frozenset[str]) -> Query:
    return Query(Level.IMAGE, conditions, fields, partition=PARTITION, order=((_INSTANCE, False),))


def _refuses(index: Index, query: Query) -> bool:
    try:
        index.find(query)
    except UnsupportedQuery:
        return True
    return False


def _answers(matches: Iterator[Dataset], keys: Dataset) -> Iterator[Mapping[str, Any]]:
    for match in matches:
        yield queries.complete({tag: one for tag, one in match.items() if tag not in _PARENTS}, keys)
