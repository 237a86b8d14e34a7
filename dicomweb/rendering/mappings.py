"""Real World Value Mapping objects as documents: which stored values of which images are what in reality (PS3.3 A.46, C.7.6.16.2.11)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dicomweb.rendering.content import (
    CONCEPT,
    REFERENCED_CLASS,
    REFERENCED_INSTANCE,
    REFERENCED_SERIES,
    SERIES_UID,
    STUDY_UID,
    VALUE_TYPE,
    VALUES,
    Line,
    Reference,
    Report,
    about,
    as_code,
    coded,
)
from dicomweb.rendering.values import items, number, numbers, text, values
from storage.errors import LightboxError
from storage.types import Dataset

MAPPING: Final = "1.2.840.10008.5.1.4.1.1.67"
MAPPED, MAPPINGS, IMAGES, INSTANCES, OTHER_STUDIES = "00409094", "00409096", "00081140", "0008114A", "00081200"
LABEL, EXPLANATION, UNITS, QUANTITY = "00409210", "00283003", "004008EA", "00409220"
FIRST, LAST, SLOPE, INTERCEPT, TABLE = ("00409216", "00409214"), ("00409211", "00409213"), "00409225", "00409224", "00409212"
NAMES: Final = (("Content label", "00700080"), ("Content description", "00700081"), ("Software", "00181020"))
# Of images and mappings together; an object that names more is written by a mistake.
MOST_LINES: Final = 2000


def is_mapping(dataset: Dataset) -> bool:
    """Whether a data set says what the values of images are, and has none of its own."""
    return text(dataset, "00080016") == MAPPING


def mapping(dataset: Dataset) -> Report:
    """What it says, in words: for each group of images the quantity, its units, and how it comes of stored values."""
    lines = [Line("1", 0, "", "CONTAINER", "Real World Value Mapping")]
    left_out = ""
    for line in _lines(dataset):
        if len(lines) == MOST_LINES:
            left_out = f"The object goes on: only its first {MOST_LINES} lines are shown."
            break
        lines.append(line)
    named = tuple((name, found) for name, tag in NAMES if (found := text(dataset, tag)))
    return Report("Real World Value Mapping", (*about(dataset), *named), tuple(lines), left_out)


def _lines(dataset: Dataset) -> Iterator[Line]:
    where = _places(dataset)
    for index, group in enumerate(items(dataset, MAPPED), 1):
        own = f"1.{index}"
        images = [text(one, REFERENCED_INSTANCE) for one in items(group, IMAGES)]
        yield Line(own, 1, "", "CONTAINER", "1 image" if len(images) == 1 else f"{len(images)} images")
        if images:
            at = len(images) // 2
            shown = Reference(text(items(group, IMAGES)[at], REFERENCED_CLASS), images[at], *where.get(images[at], ("", "")))
            yield Line(f"{own}.1", 2, "", "IMAGE", "One of them" if at else "It", references=(shown,))
        for place, one in enumerate(items(group, MAPPINGS), 2):
            yield from _mapping(one, f"{own}.{place}")


def _mapping(item: Dataset, own: str) -> Iterator[Line]:
    label, explanation = text(item, LABEL), text(item, EXPLANATION)
    yield Line(own, 2, "", "CONTAINER", ": ".join(part for part in (label, explanation) if part) or "Mapping")
    found = [*_quantity(item), ("Units", _coded(item, UNITS)), ("Stored values", _range(item)), ("Real values", _formula(item))]
    for place, (name, value) in enumerate(found, 1):
        if value:
            yield Line(f"{own}.{place}", 3, "", "TEXT", name, value)


def _quantity(item: Dataset) -> Iterator[tuple[str, str]]:
    """What is measured, as content items (PS3.3 10.2)."""
    for one in items(item, QUANTITY):
        write = VALUES.get(text(one, VALUE_TYPE).upper())
        try:
            yield coded(items(one, CONCEPT)) or "Quantity", write(one, None) if write else ""
        except LightboxError as error:
            yield coded(items(one, CONCEPT)) or "Quantity", f"[cannot be shown: {error}]"


def _coded(item: Dataset, tag: str) -> str:
    """A code by its meaning, and as it is written, which of units says more."""
    codes = items(item, tag)
    meaning, code = coded(codes), as_code(codes[0]) if codes else ""
    return meaning if meaning == code or not code else f"{meaning} ({code})"


def _range(item: Dataset) -> str:
    first, last = (next((found for tag in tags if (found := number(item, tag)) is not None), None) for tags in (FIRST, LAST))
    return f"{first:.10g} to {last:.10g}" if first is not None and last is not None else ""


def _formula(item: Dataset) -> str:
    slope, intercept = number(item, SLOPE), number(item, INTERCEPT)
    if slope is not None and intercept is not None:
        sign = "-" if intercept < 0 else "+"
        return f"{slope:.10g} × stored value{f' {sign} {abs(intercept):.10g}' if intercept else ''}"
    entries = len(values(item, TABLE))
    if entries:
        ends = numbers(item, TABLE)
        return f"by a table of {entries} entries, from {ends[0]:.10g} to {ends[-1]:.10g}" if ends else f"by a table of {entries} entries"
    return "by a table" if TABLE in item else ""


def _places(dataset: Dataset) -> dict[str, tuple[str, str]]:
    """SOP Instance UID -> study and series, of what the Common Instance Reference module names (PS3.3 C.12.2)."""
    own = text(dataset, STUDY_UID)
    found = dict[str, tuple[str, str]]()
    for study, holder in ((own, dataset), *((text(one, STUDY_UID), one) for one in items(dataset, OTHER_STUDIES))):
        for series in items(holder, REFERENCED_SERIES):
            for one in items(series, INSTANCES):
                found[text(one, REFERENCED_INSTANCE)] = study, text(series, SERIES_UID)
    return found
