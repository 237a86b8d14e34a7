"""Whether a whole data set matches: every condition, inside sequences too (PS3.4 C.2.2.2.6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from storage import private
from storage.attributes import BY_TAG
from storage.matching.conditions import Condition, DateTimeRange, Empty, Universal, matches
from storage.matching.keys import key_of
from storage.types import Dataset


def values_of(dataset: Dataset, tag: str) -> Sequence[Any]:
    """The values of an attribute, by tag or private key, in the DICOM JSON model; empty when it is absent or has none.

    Of an attribute that has a column only the first value counts: all of those have one value by the standard.
    """
    values: Sequence[Any] = dataset.get(private.tag_in(dataset, tag), {}).get("Value") or ()
    if len(values) > 1 and (attribute := BY_TAG.get(tag)) and attribute.indexed:
        return values[:1]
    return values


def matches_dataset(
    conditions: Iterable[tuple[tuple[str, ...], Condition]], dataset: Dataset, *, fuzzy: bool = False
) -> bool:
    """Whether `dataset` meets all of the conditions; those about one sequence must be met by one and the same item."""
    within: dict[str, list[tuple[tuple[str, ...], Condition]]] = {}
    for path, condition in conditions:
        if len(path) > 1:
            within.setdefault(path[0], []).append((path[1:], condition))
        elif not _attribute_matches(dataset, path[0], condition, fuzzy):
            return False
    return all(_some_item_matches(dataset, tag, inner, fuzzy) for tag, inner in within.items())


def _attribute_matches(dataset: Dataset, tag: str, condition: Condition, fuzzy: bool) -> bool:
    if isinstance(condition, DateTimeRange):
        return _moment_matches(dataset, tag, condition)
    return matches(condition, values_of(dataset, tag), fuzzy=fuzzy)


def _some_item_matches(
    dataset: Dataset, tag: str, inner: list[tuple[tuple[str, ...], Condition]], fuzzy: bool
) -> bool:
    items = [item for item in values_of(dataset, tag) if isinstance(item, Mapping)]
    if not items:
        # Nothing to look into: only what also matches absence is met.
        return all(isinstance(condition, Universal | Empty) for _, condition in inner)
    return any(matches_dataset(inner, item, fuzzy=fuzzy) for item in items)


def _moment_matches(dataset: Dataset, date_tag: str, condition: DateTimeRange) -> bool:
    """A date without a time stands for the whole of its day."""
    times = [key_of("TM", value) for value in values_of(dataset, condition.time_tag)] or [None]
    return any(
        _within(condition, str(date), None if time is None else str(time))
        for value in values_of(dataset, date_tag)
        if (date := key_of("DA", value)) is not None
        for time in times
    )


def _within(condition: DateTimeRange, date: str, time: str | None) -> bool:
    dates, times = condition.dates, condition.times
    if dates.low is not None:
        earliest = times.low or ""
        if date < dates.low or (date == dates.low and time is not None and time < earliest):
            return False
    if dates.high is not None:
        latest = times.high or "~"
        if date > dates.high or (date == dates.high and time is not None and time > latest):
            return False
    return True
