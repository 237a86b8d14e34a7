"""The stored instances that a retrieve is about: counted by their kind first, then one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pacs.scp.retrieval import UNIQUE, Retrieval
from storage.index import Index
from storage.types import Dataset, Level, Located, Scope

# SOP class and transfer syntax.
Instances = Mapping[tuple[str, str], int]

_STUDY, _SERIES, _IMAGE = (UNIQUE[level][0] for level in (Level.STUDY, Level.SERIES, Level.IMAGE))
_BELOW: Final = {Level.PATIENT: (_STUDY,), Level.STUDY: (_STUDY,), Level.SERIES: (_STUDY, _SERIES)}


@dataclass(frozen=True, slots=True)
class Selection:
    """Scopes of the archive, and of some of them only the instances named. Nothing of an instance is kept."""

    index: Index
    scopes: Mapping[Scope, frozenset[str] | None]

    def located(self) -> Iterator[Located]:
        """Each instance, series by series, from the index a page at a time."""
        for scope, wanted in self.scopes.items():
            for one in self.index.locate(scope):
                if wanted is None or one.uids.instance in wanted:
                    yield one

    def kinds(self) -> Counter[tuple[str, str]]:
        """How many there are of each SOP class and transfer syntax."""
        found: Counter[tuple[str, str]] = Counter()
        for scope, wanted in self.scopes.items():
            if wanted is None:
                found.update(self.index.kinds(scope))
            else:
                found.update(
                    (one.sop_class_uid, one.transfer_syntax_uid)
                    for one in self.index.locate(scope)
                    if one.uids.instance in wanted
                )
        return found


def select(index: Index, retrieval: Retrieval) -> Selection:
    """What is stored of what a retrieve asks for; what is not, is left out."""
    found = (match for query in retrieval.queries() for match in index.find(query))
    if retrieval.level is Level.IMAGE:
        return Selection(index, _of_images(found))
    tags = _BELOW[retrieval.level]
    return Selection(index, {Scope(*(_value(match, tag) for tag in tags)): None for match in found})


def _of_images(found: Iterable[Dataset]) -> dict[Scope, frozenset[str] | None]:
    """Images of one series are looked up together."""
    series: dict[Scope, set[str]] = {}
    for match in found:
        scope = Scope(_value(match, _STUDY), _value(match, _SERIES))
        series.setdefault(scope, set()).add(_value(match, _IMAGE))
    return {scope: frozenset(uids) for scope, uids in series.items()}


def _value(match: Dataset, tag: str) -> str:
    return str(match[tag]["Value"][0])
