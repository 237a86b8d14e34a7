"""From what was typed or sent to a condition, or to a refusal that names the attribute (PS3.4 C.2.2.2)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from storage.attributes import MOMENTS, name_of, tag_of
from storage.errors import BadRequest, UnsupportedQuery
from storage.matching.conditions import (
    ONE,
    STAR,
    AllOf,
    Condition,
    DateTimeRange,
    Empty,
    MomentRange,
    NameFuzzy,
    NameLike,
    Names,
    OneOf,
    Pattern,
    Range,
    Universal,
    Wild,
)
from storage.matching.keys import BINARY, DECIMAL, UNDIVIDED, WHOLE, WILD, Key, key_of, text_key
from storage.matching.names import fuzzy_readings, group_key
from storage.matching.times import Moment, Span, date_key, moment, time_span

# Bounds on what one condition may ask (RELIABILITY 16): clever patterns cost the square of their stars.
MOST_VALUES = 10_000
MOST_STARS = 16
MOST_ALL = 100

_DT = r"\d{4,14}(?:\.\d{1,6})?(?:[+-](?:0\d|1[0-4])\d{2})?"
_DT_RANGE = re.compile(rf"({_DT})?-({_DT})?")

Conditions = tuple[tuple[tuple[str, ...], Condition], ...]


def parse(path: tuple[str, ...], vr: str, value: str | Sequence[str]) -> Condition:
    """The condition that a key's value asks for.

    `path` is the attribute's tags, from the outermost sequence inwards; `value` is text as in a data set (values
    separated by a backslash), or the values one by one. No value, or only `*`, is Universal; two quotation marks ask for
    emptiness. Raises BadRequest naming the attribute when the value is not one that its VR can have, UnsupportedQuery
    for binary attributes and for text given to a sequence.
    """
    name = name_of(path[-1])
    values = _values(vr, value)
    if not values or any(set(text) == {"*"} for text in values):
        return Universal()
    if vr in BINARY or vr == "SQ":
        raise UnsupportedQuery(
            f"{name} has the value representation {vr}, which cannot be matched; leave its value empty"
        )
    if len(values) > MOST_VALUES:
        raise BadRequest(f"{name} lists more than {MOST_VALUES} values; ask in several queries")
    if values == ['""']:
        return Empty(vr)
    if vr == "PN":
        return _names(name, values)
    if vr in ("DA", "TM", "DT"):
        return _moments(name, vr, values)
    return _one_of(name, vr, values)


def parse_all(path: tuple[str, ...], vr: str, value: str | Sequence[str]) -> Condition:
    """The condition that each of several values must be there (PS3.4 C.2.2.2.8); one value alone is as in `parse`.

    For attributes of the VRs in `keys.MULTIPLE` that may have more than one value. Raises as `parse` does, and BadRequest
    for wildcards, which the standard forbids here.
    """
    values = list(dict.fromkeys(_values(vr, value)))
    if len(values) < 2:
        return parse(path, vr, values)
    if any("*" in text or "?" in text or text == '""' for text in values):
        raise BadRequest(f"{name_of(path[-1])}: several values that must all match have no wildcards; write them out")
    if len(values) > MOST_ALL:
        raise BadRequest(f"{name_of(path[-1])} lists more than {MOST_ALL} values that must all match; ask for fewer")
    found = tuple(parse(path, vr, [text]) for text in values)
    return AllOf(tuple(one for one in found if isinstance(one, OneOf | Names)))


def combined(conditions: Conditions) -> Conditions:
    """Takes a range of dates and a range of its times together as one range of moments (PS3.4 C.2.2.2.5).

    QIDO-RS always does this (PS3.18 8.3.4), C-FIND when it was negotiated. Raises BadRequest as `in_order`.
    """
    by_path = dict(conditions)
    for date_keyword, time_keyword in MOMENTS:
        date_tag, time_tag = tag_of(date_keyword), tag_of(time_keyword)
        for path in [path for path in by_path if path[-1] == date_tag]:
            dates, times = by_path[path], by_path.get((*path[:-1], time_tag))
            if isinstance(dates, Range) and isinstance(times, Range):
                del by_path[(*path[:-1], time_tag)]
                by_path[path] = DateTimeRange(time_tag, dates, times)
    return in_order(tuple(by_path.items()))


def in_order(conditions: Conditions) -> Conditions:
    """The same conditions. Raises BadRequest for a range of times that is not taken together with its dates, and ends
    before it begins."""
    for path, condition in conditions:
        if isinstance(condition, Range) and condition.low and condition.high and condition.low > condition.high:
            raise _reversed(name_of(path[-1]))
    return conditions


def _values(vr: str, value: str | Sequence[str]) -> list[str]:
    if isinstance(value, str):
        parts: Sequence[str] = [value] if vr in UNDIVIDED else value.split("\\")
    else:
        parts = value
    return [text for part in parts if (text := text_key(str(part)))]


def _one_of(name: str, vr: str, values: list[str]) -> OneOf:
    keys: list[Key] = []
    patterns: list[Pattern] = []
    for text in values:
        wild = "*" in text or "?" in text
        if wild and vr in WILD:
            patterns.append(_pattern(name, text))
            continue
        key = None if wild else key_of(vr, text)
        if key is None:
            raise BadRequest(f"{name}: {_expected(vr)}")
        keys.append(key)
    return OneOf(vr, tuple(dict.fromkeys(keys)), tuple(patterns))


def _expected(vr: str) -> str:
    if vr in WHOLE:
        return "give a whole number"
    if vr in DECIMAL:
        return "give a number"
    return "wildcards are not allowed here; give the whole value"


def _pattern(name: str, text: str) -> Pattern:
    pieces: list[str | Wild] = []
    for piece in re.split(r"([*?])", text):
        if piece == "*":
            if not pieces or pieces[-1] is not STAR:
                pieces.append(STAR)
        elif piece == "?":
            pieces.append(ONE)
        elif piece:
            pieces.append(piece)
    if sum(piece is STAR for piece in pieces) > MOST_STARS:
        raise BadRequest(f"{name} has more than {MOST_STARS} wildcards; give a simpler pattern")
    return tuple(pieces)


def _names(name: str, values: list[str]) -> Condition:
    literal: list[NameLike] = []
    fuzzy: list[NameFuzzy] = []
    for text in values:
        groups = [_group_patterns(name, group) for group in text.split("=")[:3]]
        if not any(groups):
            return Universal()
        literal.append(NameLike(patterns=groups[0]) if len(groups) == 1 else NameLike(groups=tuple(groups)))
        fuzzy.extend(NameFuzzy(words) for words in fuzzy_readings(text))
    return Names(tuple(literal), tuple(fuzzy))


def _group_patterns(name: str, text: str) -> tuple[Pattern, ...]:
    """The alternatives for one component group; none when it asks for nothing in particular.

    Components are matched one by one: trailing ones that are only stars may also be absent, `SMITH^*` finds SMITH.
    """
    key = group_key(text)
    base = re.sub(r"(\^[*]+)+$", "", key)
    if not base.strip("*^"):
        return ()
    if base == key:
        return (_pattern(name, key),)
    return (_pattern(name, base), _pattern(name, f"{base}^*"))


def _moments(name: str, vr: str, values: list[str]) -> Condition:
    if len(values) > 1:
        return _list_of_moments(name, vr, values)
    if vr == "DT":
        return _datetime_range(name, values[0])
    low, dash, high = values[0].partition("-")
    if "-" in high:
        raise _malformed(name, vr)
    first, last = _span(name, vr, low.strip()), _span(name, vr, high.strip() if dash else low.strip())
    if first is None and last is None:
        raise _malformed(name, vr)
    # Times of a day may, beside a range of dates: from 18:00 on the first to 09:00 on the last one. See `in_order`.
    if vr == "DA" and first and last and first.low > last.high:
        raise _reversed(name)
    if vr == "DA" and not dash and first:
        return OneOf(vr, (first.low,))
    return Range(vr, first.low if first else None, last.high if last else None)


def _span(name: str, vr: str, text: str) -> Span | None:
    if not text:
        return None
    if vr == "TM":
        span = time_span(text)
    else:
        key = date_key(text)
        span = Span(key, key) if key else None
    if span is None:
        raise _malformed(name, vr)
    return span


def _list_of_moments(name: str, vr: str, values: list[str]) -> Condition:
    """Several values (C.2.2.2.7): none of them may be a range."""
    keys = [moment(text) if vr == "DT" else key_of(vr, text) for text in values]
    if vr == "DT" or None in keys:
        raise _malformed(name, vr)
    return OneOf(vr, tuple(key for key in keys if isinstance(key, str)))


def _datetime_range(name: str, text: str) -> MomentRange:
    single = moment(text)
    if single is not None:
        return MomentRange(single, single)
    found = _DT_RANGE.fullmatch(text)
    if not found or not any(found.groups()):
        raise _malformed(name, "DT")
    ends: list[Moment | None] = []
    for part in found.groups():
        end = moment(part) if part else None
        if part and end is None:
            raise _malformed(name, "DT")
        ends.append(end)
    low, high = ends
    if low and high and low.low > high.high:
        raise _reversed(name)
    return MomentRange(low, high)


_FORMS = {
    "DA": "a date as YYYYMMDD",
    "TM": "a time as HHMMSS.FFFFFF",
    "DT": "a date and time as YYYYMMDDHHMMSS.FFFFFF",
}


def _reversed(name: str) -> BadRequest:
    return BadRequest(f"{name}: the range ends before it begins; give the earlier value first")


def _malformed(name: str, vr: str) -> BadRequest:
    return BadRequest(f"{name}: give {_FORMS[vr]}, or two of them with a hyphen between for a range")
