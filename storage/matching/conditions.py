"""What a value must be like: one frozen value per kind of matching (PS3.4 C.2.2.2), and the test of one attribute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

from storage.matching.keys import LOOSE, Key, fold, key_of
from storage.matching.names import fuzzy_key, name_keys
from storage.matching.times import Moment, moment


class Wild:
    """The wildcards as values: `STAR` is any text, `ONE` any single character."""

    __slots__ = ("sign",)

    def __init__(self, sign: str) -> None:
        self.sign = sign

    def __repr__(self) -> str:
        return self.sign


STAR: Final = Wild("*")
ONE: Final = Wild("?")

# Literal pieces and wildcards in their order; two literals or two stars are never neighbours.
Pattern: TypeAlias = tuple[str | Wild, ...]


@dataclass(frozen=True, slots=True)
class Universal:
    """Matches everything, also what is not there (C.2.2.2.3)."""


@dataclass(frozen=True, slots=True)
class Empty:
    """Matches an attribute that is absent or has no value (C.2.2.2.8): it was asked for as two quotation marks."""

    vr: str


@dataclass(frozen=True, slots=True)
class OneOf:
    """Single value matching, and lists of values: one of `keys`, or like one of `patterns` (C.2.2.2.1, .2, .4, .7)."""

    vr: str
    keys: tuple[Key, ...] = ()
    patterns: tuple[Pattern, ...] = ()


@dataclass(frozen=True, slots=True)
class Range:
    """From `low` to `high`, both included, None for an open end; DA or TM (C.2.2.2.5)."""

    vr: str
    low: str | None
    high: str | None


@dataclass(frozen=True, slots=True)
class MomentRange:
    """The same for DT, whose values may be times in UTC or local ones."""

    low: Moment | None
    high: Moment | None


@dataclass(frozen=True, slots=True)
class DateTimeRange:
    """A range of dates and a range of times taken together as one range of moments (C.2.2.2.5)."""

    time_tag: str
    dates: Range
    times: Range


@dataclass(frozen=True, slots=True)
class NameLike:
    """A person name: literal, but without case. `patterns` are for any one component group unless `groups` is set;
    then there is a tuple of alternatives for each group, an empty one where the group does not matter."""

    patterns: tuple[Pattern, ...] = ()
    groups: tuple[tuple[Pattern, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class NameFuzzy:
    """A person name by its words in any order, without accents, by their beginning or sound (PS3.18 8.3.4.2)."""

    words: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Names:
    """A person name that is to match literally or, when the query is fuzzy, loosely; one of several names will do."""

    literal: tuple[NameLike, ...]
    fuzzy: tuple[NameFuzzy, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """Multiple value matching: each of these must be met by some value of the attribute (C.2.2.2.8)."""

    each: tuple[OneOf | Names, ...]


Condition: TypeAlias = Universal | Empty | OneOf | Range | MomentRange | DateTimeRange | Names | AllOf


def like(pattern: Pattern, text: str) -> bool:
    """Whether the whole text fits the pattern. Takes at most `len(pattern) * len(text)` steps whatever is asked."""
    flat: list[str | Wild] = []
    for piece in pattern:
        flat.extend(piece if isinstance(piece, str) else (piece,))
    at = position = 0
    star, resume = -1, 0
    while position < len(text):
        if at < len(flat) and flat[at] is STAR:
            star, resume, at = at, position, at + 1
        elif at < len(flat) and (flat[at] is ONE or flat[at] == text[position]):
            at, position = at + 1, position + 1
        elif star >= 0:
            # Let the last star take one character more; earlier stars never need to.
            resume += 1
            at, position = star + 1, resume
        else:
            return False
    return all(piece is STAR for piece in flat[at:])


def matches(condition: Condition, values: Sequence[Any], *, fuzzy: bool = False) -> bool:
    """Whether an attribute with these values (as in the DICOM JSON model) matches; any one of several will do.

    `fuzzy` is about person names, and about capitals in free text. A DateTimeRange needs two attributes: see `datasets.matches_dataset`.
    """
    if isinstance(condition, Universal):
        return True
    if isinstance(condition, Empty):
        return _says_nothing(condition.vr, values)
    if isinstance(condition, AllOf):
        return all(matches(one, values, fuzzy=fuzzy) for one in condition.each)
    if isinstance(condition, Names):
        return any(_name_matches(condition, value, fuzzy) for value in values)
    if isinstance(condition, MomentRange):
        return any(_moment_within(condition, str(value)) for value in values)
    if isinstance(condition, DateTimeRange):
        raise TypeError("a date and its time are matched together, on the whole data set")
    if fuzzy and isinstance(condition, OneOf) and condition.vr in LOOSE:
        condition, folded = _folded(condition), [fold(str(key_of(condition.vr, value) or "")) for value in values]
        return any(_key_matches(condition, text) for text in folded if text)
    return any(
        _key_matches(condition, key) for value in values if (key := key_of(condition.vr, value)) is not None
    )


def _says_nothing(vr: str, values: Sequence[Any]) -> bool:
    if vr == "PN":
        return not any(any(name_keys(value)) for value in values)
    if vr == "DT":
        return not any(values)
    return all(key_of(vr, value) is None for value in values)


def _key_matches(condition: OneOf | Range, key: Key) -> bool:
    if isinstance(condition, OneOf):
        return key in condition.keys or any(like(pattern, str(key)) for pattern in condition.patterns)
    text = str(key)
    return (condition.low is None or condition.low <= text) and (
        condition.high is None or text <= condition.high
    )


@lru_cache(256)
def _folded(condition: OneOf) -> OneOf:
    patterns = tuple(
        tuple(fold(piece) if isinstance(piece, str) else piece for piece in pattern)
        for pattern in condition.patterns
    )
    return OneOf(condition.vr, tuple(fold(str(key)) for key in condition.keys), patterns)


def _name_matches(condition: Names, value: Any, fuzzy: bool) -> bool:
    keys = name_keys(value)
    if fuzzy:
        text = fuzzy_key(keys)
        if any(all(any(n in text for n in needles) for needles in one.words) for one in condition.fuzzy):
            return True
    # What matches to the letter matches loosely too.
    return any(_name_like(one, keys) for one in condition.literal)


def _name_like(condition: NameLike, keys: tuple[str, str, str]) -> bool:
    if condition.groups:
        pairs = zip(condition.groups, keys, strict=False)
        return all(not wanted or any(like(pattern, key) for pattern in wanted) for wanted, key in pairs)
    return any(key and like(pattern, key) for key in keys for pattern in condition.patterns)


def _moment_within(condition: MomentRange, text: str) -> bool:
    found = moment(text.strip())
    if found is None:
        return False
    low, high = condition.low, condition.high
    return (low is None or low.low <= found.high) and (high is None or found.low <= high.high)
