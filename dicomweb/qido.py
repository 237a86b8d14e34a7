"""QIDO-RS (PS3.18 10.6): parameters to the one `Query` of the index, and its rows to a streamed JSON array."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson
from pydicom.datadict import dictionary_VR, tag_for_keyword

from dicomweb import negotiation
from dicomweb.bodies import CACHE_CONTROL, settled
from dicomweb.exchange import Answer, Call
from storage import attributes, matching
from storage.errors import BadRequest, NotFound
from storage.index import Index
from storage.types import Level, Query

STUDY, SERIES, INSTANCE = "0020000D", "0020000E", "00080018"
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
# Parameters that are not attributes (PS3.18 8.3.3 and 8.3.4), in lower case.
PARAMETERS = frozenset({"accept", "charset", "limit", "offset", "includefield", "fuzzymatching", "emptyvaluematching", "multiplevaluematching"})
# VRs whose values cannot contain a comma (PS3.5 6.2): there it always separates values, as OHIF and Weasis send them.
_COMMA_SEPARATES = frozenset({"UI", "CS"})
# What the path of a resource fixes, and the level that is searched.
_PATH_KEYS = (("study", STUDY), ("series", SERIES))
# A search of all series returns their studies' attributes too, and so on down (PS3.18 10.6.3.3, tables 10.6.3-4 and -5).
_ABOVE = {Level.STUDY: (), Level.SERIES: (("study", Level.STUDY),), Level.IMAGE: (("study", Level.STUDY), ("series", Level.SERIES))}


@dataclass(slots=True)
class _Search:
    """Parameters as they are read."""

    limit: int | None = None
    offset: int = 0
    fuzzy: bool = False
    empty_matches: bool = False
    many_values: bool = False
    everything: bool = False
    fields: set[str] = field(default_factory=set)
    keys: dict[tuple[str, ...], list[str]] = field(default_factory=dict)


class Search:
    """GET /studies, /series, /instances and those below a study or a series."""

    def __init__(self, index: Index, level: Level) -> None:
        self._index = index
        self._level = level

    def __call__(self, call: Call) -> Answer:
        """What matches, `[]` when nothing does. Raises BadRequest naming the parameter, NotAcceptable."""
        offer = negotiation.choose(call.accepted(), negotiation.SEARCH)
        query = query_of(call, self._level)
        headers = {"Content-Type": offer.media_type, "Cache-Control": CACHE_CONTROL, "Vary": "Accept"}
        if call.method == "HEAD":
            return Answer(200, headers, iter(()))
        return Answer(200, headers, settled(self._array(query, call.root)))

    def _array(self, query: Query, root: str) -> Iterator[bytes]:
        before = b"["
        rows = self._index.find(query) if query.limit != 0 else iter(())
        for row in islice(rows, query.limit):
            yield before + orjson.dumps({**row, "00081190": {"vr": "UR", "Value": [retrieve_url(row, self._level, root)]}})
            before = b","
        yield b"]" if before == b"," else b"[]"


def query_of(call: Call, level: Level) -> Query:
    """The search that a request asks for. Raises BadRequest, UnsupportedQuery."""
    search = _read(call)
    conditions: dict[tuple[str, ...], matching.Condition] = {
        (tag,): _path_condition(tag, call.path[name]) for name, tag in _PATH_KEYS if name in call.path
    }
    for path, values in search.keys.items():
        condition = _condition(path, values, search)
        if conditions.setdefault(path, condition) != condition:
            raise BadRequest(f"{attributes.name_of(path[0])} contradicts the path of the URL; leave it out")
    return Query(
        level=level,
        conditions=matching.combined(tuple(conditions.items())),
        fields=None if search.everything else _fields(call, level, search),
        limit=search.limit,
        offset=search.offset,
        fuzzy=search.fuzzy,
    )


def retrieve_url(row: Any, level: Level, root: str) -> str:
    """Where the found study, series or instance can be retrieved (PS3.18 10.6.3.1.1)."""
    url = f"{root}/studies/{_uid(row, STUDY)}"
    if level in (Level.SERIES, Level.IMAGE):
        url += f"/series/{_uid(row, SERIES)}"
    return f"{url}/instances/{_uid(row, INSTANCE)}" if level is Level.IMAGE else url


def attribute_path(text: str, parameter: str) -> tuple[str, ...]:
    """Tags for a keyword, eight hex digits, or several of them joined by dots. Raises BadRequest naming it."""
    return tuple(_tag(name, text, parameter) for name in text.split("."))


def _tag(name: str, text: str, parameter: str) -> str:
    if _TAG.fullmatch(name):
        return name.upper()
    # The dictionary has an entry without a keyword, which would answer to an empty name.
    number = tag_for_keyword(name) if name else None
    if number is None:
        where = f" in {parameter}" if parameter else ""
        raise BadRequest(
            f"{text[:80]!r}{where} is neither an attribute nor a known parameter; write a keyword such as PatientID, or its"
            " tag in eight hex digits, 00100020"
        )
    return f"{number:08X}"


def _read(call: Call) -> _Search:
    search = _Search()
    for name, value in call.query:
        lower = name.lower()
        if lower not in PARAMETERS:
            search.keys.setdefault(attribute_path(name, ""), []).append(value)
        elif lower == "includefield":
            _include(search, value)
        elif lower in ("limit", "offset"):
            setattr(search, lower, _whole(lower, value))
        elif lower == "fuzzymatching":
            search.fuzzy = _yes(lower, value)
        elif lower == "emptyvaluematching":
            search.empty_matches = _yes(lower, value)
        elif lower == "multiplevaluematching":
            search.many_values = _yes(lower, value)
    return search


def _include(search: _Search, value: str) -> None:
    for name in filter(None, (piece.strip() for piece in value.split(","))):
        if name.lower() == "all":
            search.everything = True
        else:
            search.fields.add(attribute_path(name, "includefield")[0])


def _whole(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 9):
        raise BadRequest(f"{name} is not a whole number from 0 to 999999999; write for example {name}=100")
    return int(value)


def _yes(name: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise BadRequest(f"{name} is neither true nor false; write {name}=true or leave it out")
    return value.lower() == "true"


def _condition(path: tuple[str, ...], values: list[str], search: _Search) -> matching.Condition:
    vr = _vr(path)
    if search.many_values or vr in _COMMA_SEPARATES:
        values = [piece for value in values for piece in value.split(",")]
    if search.empty_matches and not any(values):
        values = ['""']
    return matching.parse(path, vr, values[0] if len(values) == 1 else [value for value in values if value])


def _path_condition(tag: str, uid: str) -> matching.Condition:
    if any(sign in uid for sign in '*?\\"'):
        raise NotFound("the URL contains a UID with wildcards; write it out, or search with a parameter")
    return matching.parse((tag,), "UI", [uid])


def _vr(path: tuple[str, ...]) -> str:
    known = attributes.BY_TAG.get(path[-1])
    if known is not None:
        return known.vr
    try:
        return dictionary_VR(int(path[-1], 16)).split(" or ")[0]
    except KeyError:
        raise BadRequest(f"{path[-1]} is not in the data dictionary, so its values cannot be compared; leave it out") from None


def _fields(call: Call, level: Level, search: _Search) -> frozenset[str]:
    wanted = attributes.default_fields(level) | search.fields | {path[0] for path in search.keys}
    for name, above in _ABOVE[level]:
        if name not in call.path:
            wanted |= attributes.default_fields(above)
    return wanted


def _uid(row: Any, tag: str) -> str:
    return str((row.get(tag, {}).get("Value") or [""])[0])


__all__ = ("Search", "attribute_path", "query_of", "retrieve_url")
