"""The modality worklist as provider (PS3.4 annex K): C-FIND of what is scheduled, by every key of table K.6-1.

Answered are the entries that are still to be done, by when they begin, unless the query names a status. A range of dates
and a range of times are one range of moments (table K.6-1, note on Scheduled Procedure Step Start Date). Keys that are not
in the table are taken as if they were empty, and the answers say so by FF01 (K.4.1.1.4).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pacs.scp import query as queries
from pacs.scp.association import Association, Message
from pacs.scp.find import Asked
from pacs.scp.identifiers import Identifier
from pacs.scp.provider import Provider
from storage.matching import combined
from storage.types import Dataset
from storage.worklist import Search, Worklist
from storage.worklist_entries import PATHS

LEVEL: Final = "WORKLIST"


def asked(identifier: Identifier, association: Association, message: Message, provider: Provider) -> Asked:
    """A query of the worklist. Raises BadRequest naming the key whose value cannot be one."""
    keys = {tag: element for tag, element in identifier.dataset.items() if tag not in queries.NOT_KEYS}
    conditions, unmatched = queries.conditions_of(keys)
    search = Search(
        combined(tuple(one for one in conditions if one[0] in PATHS)),
        fuzzy=message.context.fuzzy,
        calling_ae=association.peer.calling_ae,
    )
    return Asked(LEVEL, unmatched or not all(path in PATHS for path in _paths(keys)), _answers(provider, search, keys))


def _answers(provider: Provider, search: Search, keys: Dataset) -> Iterator[Mapping[str, Any]]:
    for entry in Worklist(provider.archive.index).find(search):
        yield queries.complete(entry.dataset, keys)


def _paths(dataset: Dataset, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every key, of sequences too."""
    for tag, element in dataset.items():
        yield (*above, tag)
        if element["vr"] == "SQ":
            for item in element.get("Value") or ():
                yield from _paths(item, (*above, tag))
