"""What a search asks for: its parameters (PS3.18 8.3.4) read into the one `Query` of the index."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field

from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword

from dicomweb.exchange import Call
from storage import attributes, matching, private
from storage.errors import BadRequest, NotFound
from storage.types import Level, Query

STUDY, SERIES, INSTANCE = "0020000D", "0020000E", "00080018"
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
# Parameters that are not attributes, in lower case: those of PS3.18 8.3.3 and 8.3.4, and ours.
STANDARD = frozenset({"accept", "charset", "limit", "offset", "includefield", "fuzzymatching", "emptyvaluematching", "multiplevaluematching"})
EXTENSIONS = frozenset({"orderby", "totalcount", "cursor"})
PARAMETERS = STANDARD | EXTENSIONS
# VRs whose values cannot contain a comma (PS3.5 6.2): there it always separates values, as OHIF and Weasis send them.
_COMMA_SEPARATES = frozenset({"UI", "CS"})
# Private attributes that no dictionary knows are compared as text, with wildcards.
_UNKNOWN_VR = "UC"
# What the path of a resource fixes, and the level that is searched.
_PATH_KEYS = (("study", STUDY), ("series", SERIES))
# A search of all series returns their studies' attributes too, and so on down (PS3.18 10.6.3.3, tables 10.6.3-4 and -5).
_ABOVE = {Level.STUDY: (), Level.SERIES: (("study", Level.STUDY),), Level.IMAGE: (("study", Level.STUDY), ("series", Level.SERIES))}


@dataclass(frozen=True, slots=True)
class Asked:
    """A search understood. `total`: how many there are is to be said; `cursor`: where to go on, as we have said it."""

    query: Query
    total: bool = False
    cursor: str = ""


@dataclass(slots=True)
class _Parameters:
    """Parameters as they are read."""

    limit: int | None = None
    offset: int = 0
    fuzzymatching: bool = False
    emptyvaluematching: bool = False
    multiplevaluematching: bool = False
    totalcount: bool = False
    everything: bool = False
    cursor: str = ""
    fields: set[tuple[str, ...]] = field(default_factory=set)
    order: dict[str, bool] = field(default_factory=dict)
    keys: dict[tuple[str, ...], list[str]] = field(default_factory=dict)
    vrs: Mapping[tuple[str, ...], str] = field(default_factory=dict)


def asked_of(
    call: Call,
    level: Level,
    vrs: Mapping[tuple[str, ...], str] | None = None,
    unasked: frozenset[str] | None = None,
) -> Asked:
    """The search that a request asks for. Raises BadRequest, UnsupportedQuery, each naming the parameter.

    `vrs` are the VRs of additional searchable attributes, which no dictionary may have. `unasked` is what answers carry
    unasked, where that is not what the level has.
    """
    parameters = _with_creators(_read(call))
    parameters.vrs = vrs or {}
    conditions: dict[tuple[str, ...], matching.Condition] = {
        (tag,): _path_condition(tag, call.path[name]) for name, tag in _PATH_KEYS if name in call.path
    }
    for path, values in parameters.keys.items():
        condition = _condition(path, values, parameters)
        if conditions.setdefault(path, condition) != condition:
            raise BadRequest(f"{attributes.name_of(path[0])} contradicts the path of the URL; leave it out")
    query = Query(
        level=level,
        conditions=matching.combined(tuple(conditions.items())),
        fields=None if parameters.everything else _wanted(parameters) | (_unasked(call, level) if unasked is None else unasked),
        limit=parameters.limit,
        offset=parameters.offset,
        fuzzy=parameters.fuzzymatching,
        order=tuple(parameters.order.items()),
    )
    return Asked(query, parameters.totalcount, parameters.cursor)


def open_levels(fixed: Container[str], level: Level) -> tuple[Level, ...]:
    """The levels whose attributes answers carry: the one that is searched, and those above that the path does not fix."""
    return (level, *(above for name, above in _ABOVE[level] if name not in fixed))


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


def _read(call: Call) -> _Parameters:
    parameters = _Parameters()
    for name, value in call.query:
        lower = name.lower()
        if lower not in PARAMETERS:
            parameters.keys.setdefault(attribute_path(name, ""), []).append(value)
        elif lower == "includefield":
            _include(parameters, value)
        elif lower == "orderby":
            _sort(parameters, value)
        elif lower in ("limit", "offset"):
            setattr(parameters, lower, _whole(lower, value))
        elif lower == "cursor":
            parameters.cursor = value
        elif lower not in ("accept", "charset"):
            setattr(parameters, lower, _yes(lower, value))
    return parameters


def _include(parameters: _Parameters, value: str) -> None:
    for name in filter(None, (piece.strip() for piece in value.split(","))):
        if name.lower() == "all":
            parameters.everything = True
        else:
            parameters.fields.add(attribute_path(name, "includefield"))


def _sort(parameters: _Parameters, value: str) -> None:
    for name in filter(None, (piece.strip() for piece in value.split(","))):
        path = attribute_path(name.lstrip("+-"), "orderby")
        if len(path) > 1 or name[:2] in ("--", "++", "-+", "+-"):
            raise BadRequest(f"{name[:80]!r} in orderby: write an attribute, with a hyphen before it for descending order")
        # A plus is a space where somebody did not escape it; what was named first stays first.
        parameters.order.setdefault(path[0], name.startswith("-"))


def _whole(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 9):
        raise BadRequest(f"{name} is not a whole number from 0 to 999999999; write for example {name}=100")
    return int(value)


def _yes(name: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise BadRequest(f"{name} is neither true nor false; write {name}=true or leave it out")
    return value.lower() == "true"


def _condition(path: tuple[str, ...], values: list[str], parameters: _Parameters) -> matching.Condition:
    vr = parameters.vrs.get(path) or _vr(path)
    if parameters.multiplevaluematching or vr in _COMMA_SEPARATES:
        values = [piece for value in values for piece in value.split(",")]
    if parameters.emptyvaluematching and not any(values):
        values = ['""']
    if parameters.multiplevaluematching and vr in matching.MULTIPLE and _has_several(path[-1]):
        return matching.parse_all(path, vr, "\\".join(values))
    return matching.parse(path, vr, values[0] if len(values) == 1 else [value for value in values if value])


def _path_condition(tag: str, uid: str) -> matching.Condition:
    if any(sign in uid for sign in '*?\\"'):
        raise NotFound("the URL contains a UID with wildcards; write it out, or search with a parameter")
    return matching.parse((tag,), "UI", [uid])


def _vr(path: tuple[str, ...]) -> str:
    known = attributes.BY_TAG.get(path[-1])
    if known is not None:
        return known.vr
    if private.is_key(path[-1]):
        return private.vr(path[-1]) or _UNKNOWN_VR
    if private.is_creator(path[-1]):
        return "LO"
    if private.is_private(path[-1]):
        creator = private.creator_tag(path[-1])
        raise BadRequest(f"{path[-1]} is private: name its creator too, as {creator}=… (PS3.18 8.3.4.3)")
    try:
        return dictionary_VR(int(path[-1], 16)).split(" or ")[0]
    except KeyError:
        raise BadRequest(f"{path[-1]} is not in the data dictionary, so its values cannot be compared; leave it out") from None


def _with_creators(parameters: _Parameters) -> _Parameters:
    """Private attributes by their creators, which stand beside them as parameters of their own (PS3.5 7.8.1)."""
    creators = {path: values[-1] for path, values in parameters.keys.items() if private.is_creator(path[-1]) and values[-1]}
    used: set[tuple[str, ...]] = set()

    def settled(path: tuple[str, ...]) -> tuple[str, ...]:
        found: list[str] = []
        for at, tag in enumerate(path):
            reserved = (*path[:at], private.creator_tag(tag))
            named = private.is_private(tag) and reserved in creators
            used.update([reserved] if named else [])
            found.append(private.key(tag, creators[reserved]) if named else tag)
        return tuple(found)

    keys = {settled(path): values for path, values in parameters.keys.items()}
    parameters.fields = {settled(path) for path in parameters.fields}
    parameters.keys = {path: values for path, values in keys.items() if path not in used}
    return parameters


def _has_several(tag: str) -> bool:
    """Whether an attribute's value multiplicity is greater than 1 (PS3.6)."""
    try:
        return dictionary_VM(int(tag, 16)) != "1"
    except (KeyError, ValueError):
        return False


def _wanted(parameters: _Parameters) -> frozenset[str]:
    """What answers carry because it was asked for, or asked by."""
    paths = [*parameters.fields, *(path[:1] for path in parameters.keys)]
    return frozenset(private.joined(path) for path in paths)


def _unasked(call: Call, level: Level) -> frozenset[str]:
    return frozenset().union(*(attributes.default_fields(one) for one in open_levels(call.path, level)))
