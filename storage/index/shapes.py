"""The shape of a query: what is left when values are taken out, so that queries that differ in them alone share statements.

Most searches of an archive have one of a few shapes. What has no shape here (fuzzy names, several wildcards in one value,
additional attributes) is planned for itself each time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from storage.attributes import BY_TAG, TABLE
from storage.matching import (
    Condition,
    Conditions,
    DateTimeRange,
    Empty,
    NameLike,
    Names,
    OneOf,
    Pattern,
    Range,
)
from storage.matching.conditions import Wild
from storage.types import Level, Query

# Longer lists are rare, and each length is a shape of its own.
_MOST_VALUES = 8
# Literal text beside wildcards that trigrams can find; shorter text is looked for otherwise.
_LEAST_LITERAL = 3
_MODALITIES = TABLE["ModalitiesInStudy"].tag

# What names of values that are text begin with; the others are numbers.
TEXT = "text"
# From a value to what stands for it.
Take = Callable[[Any], Any]


class Shape(NamedTuple):
    """A query without its values; in their places in `conditions` are their names."""

    level: Level
    conditions: Conditions
    partition: str
    order: tuple[tuple[str, bool], ...]
    # Whether all answers are wanted, and not a page of them.
    whole: bool


def shape_of(query: Query, additional: Mapping[tuple[str, ...], Any]) -> tuple[Shape, dict[str, Any]] | None:
    """The shape of a query and its values by their names; None when it has none."""
    if query.fuzzy or query.level is Level.PATIENT:
        return None
    values: dict[str, Any] = {}

    def named(value: Any) -> str:
        name = f"{TEXT if isinstance(value, str) else 'number'}_{len(values)}"
        values[name] = value
        return name

    conditions = []
    for path, condition in query.conditions:
        if len(path) > 1 or path in additional or not _by_column(path[0]) or not _is_simple(condition):
            return None
        conditions.append((path, with_values(condition, named)))
    return Shape(query.level, tuple(conditions), query.partition, query.order, query.limit is None), values


def with_values(condition: Condition, take: Take) -> Condition:
    """The same condition with other values."""
    if isinstance(condition, OneOf):
        keys = tuple(map(take, condition.keys))
        return OneOf(condition.vr, keys, tuple(_pattern(one, take) for one in condition.patterns))
    if isinstance(condition, Range):
        low, high = condition.low, condition.high
        return Range(condition.vr, None if low is None else take(low), None if high is None else take(high))
    if isinstance(condition, DateTimeRange):
        dates, times = with_values(condition.dates, take), with_values(condition.times, take)
        assert isinstance(dates, Range)
        assert isinstance(times, Range)
        return replace(condition, dates=dates, times=times)
    if isinstance(condition, Names):
        # Only fuzzy queries look at what is fuzzy, and they have no shape.
        literal = (NameLike(tuple(_pattern(one, take) for one in name.patterns)) for name in condition.literal)
        return Names(tuple(literal), ())
    return condition


def _by_column(tag: str) -> bool:
    attribute = BY_TAG.get(tag)
    return tag == _MODALITIES or (attribute is not None and attribute.indexed)


def _is_simple(condition: Condition) -> bool:
    if isinstance(condition, OneOf):
        return len(condition.keys) + len(condition.patterns) <= _MOST_VALUES and all(map(_has_one_literal, condition.patterns))
    if isinstance(condition, Names):
        patterns = [pattern for name in condition.literal for pattern in name.patterns]
        grouped = any(name.groups for name in condition.literal)
        return not grouped and len(patterns) <= _MOST_VALUES and all(map(_has_one_literal, patterns))
    return isinstance(condition, Range | DateTimeRange | Empty)


def _has_one_literal(pattern: Pattern) -> bool:
    literals = [piece for piece in pattern if isinstance(piece, str)]
    return len(literals) == 1 and len(literals[0]) >= _LEAST_LITERAL


def _pattern(pattern: Pattern, take: Take) -> Pattern:
    return tuple(piece if isinstance(piece, Wild) else take(piece) for piece in pattern)
