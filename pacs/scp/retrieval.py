"""From a C-MOVE or C-GET identifier to what is to be sent (PS3.4 C.4.2.1.1.1, C.4.2.2.1). Pure.

The level's own unique key must be there, with one value or a list (one Patient ID). Keys above it are not needed, and narrow
what is found where they are given, so that hierarchical and relational retrieval are the same. A key below the level is
refused: whoever sends it wants less than the level would bring.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pacs.scp.identifiers import text_values
from pacs.scp.query import QUERY_LEVEL, level_in
from pacs.scp.sop_classes import SOP_CLASSES
from storage.attributes import name_of, tag_of
from storage.errors import BadRequest
from storage.matching import Conditions, OneOf
from storage.matching.keys import text_key
from storage.types import Dataset, Level, Query

PATIENT_ID: Final = tag_of("PatientID")
# Each level's unique key and its VR, from the uppermost down.
UNIQUE: Final = {
    Level.PATIENT: (PATIENT_ID, "LO"),
    Level.STUDY: (tag_of("StudyInstanceUID"), "UI"),
    Level.SERIES: (tag_of("SeriesInstanceUID"), "UI"),
    Level.IMAGE: (tag_of("SOPInstanceUID"), "UI"),
}
_UIDS: Final = frozenset(tag for tag, vr in UNIQUE.values() if vr == "UI")
# Values in one query of the index: below what a statement of SQLite may have.
_AT_A_TIME: Final = 1000


class MissingKey(BadRequest):
    """The unique key of the level has no value, or one that cannot be retrieved; `tag` says which."""

    def __init__(self, text: str, tag: str) -> None:
        super().__init__(text)
        self.tag = tag


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What a retrieve asks for: its level, and the values of the unique keys that were given, by level."""

    level: Level
    keys: dict[Level, tuple[str, ...]]

    def queries(self) -> Iterator[Query]:
        """What finds it in the index, at the level itself or, for a patient, at that of the studies."""
        own = self.keys[self.level]
        # Studies are what is sent of a patient: it is them that are looked for.
        level = Level.STUDY if self.level is Level.PATIENT else self.level
        for first in range(0, len(own), _AT_A_TIME):
            keys = {**self.keys, self.level: own[first : first + _AT_A_TIME]}
            yield Query(level, tuple(_conditions(keys)), _UIDS)


def understand(dataset: Dataset, model: str) -> Retrieval:
    """Read the identifier of a retrieve in the SOP class `model`. Raises WrongLevel, MissingKey, BadRequest."""
    levels = SOP_CLASSES[model].levels
    level = level_in(dataset, levels)
    keys: dict[Level, tuple[str, ...]] = {}
    for one, (tag, _) in UNIQUE.items():
        values = tuple(dict.fromkeys(filter(None, map(text_key, text_values(dataset.get(tag, {}))))))
        if values:
            keys[one] = values
    _check(level, keys)
    return Retrieval(level, keys)


def _check(level: Level, keys: dict[Level, tuple[str, ...]]) -> None:
    tag = UNIQUE[level][0]
    if level not in keys:
        raise MissingKey(f"retrieve at {level} without its unique key; give {name_of(tag)} a value", tag)
    order = list(UNIQUE)
    below = [one for one in keys if order.index(one) > order.index(level)]
    if below:
        raise MissingKey(f"retrieve at {level} with a key of {below[0]}; ask at that level", UNIQUE[below[0]][0])
    if level is Level.PATIENT and len(keys[level]) > 1:
        raise MissingKey("retrieve of several patients; ask for one at a time", tag)
    for one, values in keys.items():
        if UNIQUE[one][1] == "UI" and any(set(value) & set("*?") for value in values):
            raise MissingKey(f"wildcards in a UID of {one}; query first", UNIQUE[one][0])


def _conditions(keys: dict[Level, tuple[str, ...]]) -> Conditions:
    return tuple(((UNIQUE[level][0],), OneOf(UNIQUE[level][1], keys=values)) for level, values in keys.items())


__all__ = ("PATIENT_ID", "QUERY_LEVEL", "UNIQUE", "MissingKey", "Retrieval", "understand")
