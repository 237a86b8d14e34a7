"""The content tree of a structured report or key object selection as plain lines, each with its depth (PS3.3 C.17.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from dicomweb.rendering.values import Bulk, items, numbers, text, values, words
from storage.errors import LightboxError
from storage.types import Dataset

CONTENT, RELATIONSHIP, VALUE_TYPE, CONCEPT, CONTINUITY, REFERENCED_ITEM = (
    "0040A730", "0040A010", "0040A040", "0040A043", "0040A050", "0040DB73",
)  # fmt: skip
CODE_VALUES, MEANING, SCHEME = ("00080100", "00080119", "00080120"), "00080104", "00080102"
REFERENCED_SOPS, REFERENCED_CLASS, REFERENCED_INSTANCE = "00081199", "00081150", "00081155"
REFERENCED_SERIES, SERIES_UID, STUDY_UID = "00081115", "0020000E", "0020000D"
# Requested procedures' evidence, and other evidence: which study and series what is referred to belongs to (C.17.2.3).
EVIDENCE: Final = ("0040A375", "0040A385", "0040A525")
# PS3.3 table C.17.3-8, in words.
RELATIONSHIPS: Final = {
    "HAS OBS CONTEXT": "observation context",
    "HAS ACQ CONTEXT": "acquisition context",
    "HAS CONCEPT MOD": "concept modifier",
    "HAS PROPERTIES": "has properties",
    "INFERRED FROM": "inferred from",
    "SELECTED FROM": "selected from",
}
# A report of a person has hundreds of items, one of a machine thousands.
MOST_ITEMS: Final = 20_000
# Coordinates are for machines: this many are written out.
MOST_NUMBERS: Final = 12


@dataclass(frozen=True, slots=True)
class Reference:
    """An instance that the report refers to. `study` and `series` are empty where its evidence does not have it."""

    sop_class: str
    instance: str
    study: str = ""
    series: str = ""
    frames: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """One content item. `number` is its identifier, `1.2.3`; `depth` counts from 0; `target` that of an item referred to."""

    number: str
    depth: int
    relationship: str
    value_type: str
    concept: str
    value: str = ""
    references: tuple[Reference, ...] = ()
    target: str = ""
    # Observation DateTime, where it has one of its own.
    observed: str = ""

    @property
    def is_container(self) -> bool:
        return self.value_type == "CONTAINER"


@dataclass(frozen=True, slots=True)
class Report:
    """A document: its title, what is said of it at the top (name, value), and its lines in reading order."""

    title: str
    about: tuple[tuple[str, str], ...]
    lines: tuple[Line, ...]
    # Why not all of it is here; empty where it is.
    left_out: str = ""


def is_report(dataset: Dataset) -> bool:
    """Whether a data set has a content tree (PS3.3 C.17.3): structured reports and key object selections."""
    return text(dataset, VALUE_TYPE) == "CONTAINER" and (CONCEPT in dataset or CONTENT in dataset)


def report(dataset: Dataset, bulk: Bulk | None = None) -> Report:
    """The document as it is read. `bulk` fetches texts that are too long for the metadata.

    Nothing is followed: an item that refers to another names it, so that references in a circle cost nothing.
    """
    where = _evidence(dataset)
    found: list[Line] = []
    left_out = ""
    for line in _lines(dataset, where, bulk):
        if len(found) == MOST_ITEMS:
            left_out = f"The document goes on: only its first {MOST_ITEMS} items are shown."
            break
        found.append(line)
    title = found[0].concept if found and found[0].concept else "Untitled document"
    return Report(title, tuple(about(dataset)), tuple(found), left_out)


def _lines(dataset: Dataset, where: dict[str, tuple[str, str]], bulk: Bulk | None) -> Iterator[Line]:
    """The tree in reading order, by a stack of its own: how deep it is nested is the sender's choice."""
    waiting: list[tuple[Dataset, str, int]] = [(dataset, "1", 0)]
    while waiting:
        item, number, depth = waiting.pop()
        yield _line(item, number, depth, where, bulk)
        children = items(item, CONTENT)
        waiting.extend(
            (child, f"{number}.{index}", depth + 1) for index, child in reversed(list(enumerate(children, 1)))
        )


def _line(
    item: Dataset, number: str, depth: int, where: dict[str, tuple[str, str]], bulk: Bulk | None
) -> Line:
    kind = text(item, VALUE_TYPE).upper()
    target = ".".join(str(int(part)) for part in numbers(item, REFERENCED_ITEM))
    write = VALUES.get(kind)
    try:
        value = write(item, bulk) if write else ("" if target else f"a value of type {kind or 'that is not given'}, which is not shown")
    except LightboxError as error:
        value = f"[cannot be shown: {error}]"
    concept = coded(items(item, CONCEPT))
    return Line(
        number=number,
        depth=depth,
        relationship=text(item, RELATIONSHIP).upper(),
        value_type=kind,
        concept=concept,
        value=value,
        references=tuple(_references(item, where)) if kind in ("IMAGE", "COMPOSITE", "WAVEFORM") else (),
        target=target,
        observed=moment(text(item, "0040A032")),
    )


def coded(codes: Sequence[Dataset]) -> str:
    """The meaning of the first code, else its value and scheme (PS3.3 8)."""
    if not codes:
        return ""
    return text(codes[0], MEANING) or as_code(codes[0])


def as_code(code: Dataset) -> str:
    """A code by its value and scheme."""
    value = next((found for tag in CODE_VALUES if (found := text(code, tag))), "")
    return ", ".join(part for part in (value, text(code, SCHEME)) if part)


# ---- values by type (PS3.3 table C.17.3-7)


def _text_value(item: Dataset, bulk: Bulk | None) -> str:
    element = item.get("0040A160", {})
    if "BulkDataURI" in element:
        return _lines_of(words(item, "0040A160", bulk).decode("utf-8", "replace").strip("\0 "))
    return _lines_of(text(item, "0040A160"))


def _lines_of(value: str) -> str:
    """Lines end in any of three ways (PS3.5 6.1.3, and in practice)."""
    return value.replace("\r\n", "\n").replace("\r", "\n")


def _code_value(item: Dataset, _bulk: Bulk | None) -> str:
    codes = items(item, "0040A168")
    meaning, code = coded(codes), as_code(codes[0]) if codes else ""
    return f"{meaning} ({code})" if code and code != meaning else meaning


def _number_value(item: Dataset, _bulk: Bulk | None) -> str:
    measured = items(item, "0040A300")
    written = "; ".join(_measured(one) for one in measured) or "no value"
    qualifier = coded(items(item, "0040A301"))
    return f"{written} ({qualifier})" if qualifier else written


def _measured(value: Dataset) -> str:
    amount = "\\".join(str(one) for one in values(value, "0040A30A")) or "no value"
    units = items(value, "004008EA")
    # UCUM's code is what is written behind a number; {pixels} and 1 are words and nothing.
    code, meaning = (text(units[0], CODE_VALUES[0]), text(units[0], MEANING)) if units else ("", "")
    unit = "" if code == "1" else code if code and not code.startswith("{") else meaning or code
    return f"{amount} {unit}".strip()


def _plain(tag: str, form: Callable[[str], str]) -> Callable[[Dataset, Bulk | None], str]:
    return lambda item, _bulk: form(text(item, tag))


def day(value: str) -> str:
    """A DA as ISO 8601 has it; what is no date as it is."""
    return f"{value[:4]}-{value[4:6]}-{value[6:8]}" if len(value) == 8 and value.isdigit() else value


def hour(value: str) -> str:
    """A TM as ISO 8601 has it; what is no time as it is."""
    whole, dot, part = value.partition(".")
    if not whole.isdigit() or len(whole) not in (2, 4, 6):
        return value
    return ":".join(whole[at : at + 2] for at in range(0, len(whole), 2)) + (dot + part if part.strip("0") else "")


def moment(value: str) -> str:
    """A DT likewise."""
    return f"{day(value[:8])} {hour(value[8:])}".strip() if value[:8].isdigit() and len(value) > 8 else day(value)


def person(dataset: Dataset, tag: str) -> str:
    """A PN as it is read: family name, given names; the ideographic form beside it."""
    found = values(dataset, tag)
    name = found[0] if found and isinstance(found[0], dict) else {}
    shown = []
    for group in ("Alphabetic", "Ideographic", "Phonetic"):
        family, given, middle, prefix, suffix = (*str(name.get(group, "")).split("^"), "", "", "", "", "")[:5]
        front = " ".join(part.strip() for part in (prefix, given, middle) if part.strip())
        whole = ", ".join(part for part in (family.strip(), front, suffix.strip()) if part)
        if whole:
            shown.append(whole)
    return f"{shown[0]} ({' / '.join(shown[1:])})" if len(shown) > 1 else "".join(shown)


def _image_value(item: Dataset, _bulk: Bulk | None) -> str:
    parts = []
    for one in items(item, REFERENCED_SOPS):
        for tag, name in (("00081160", "frame"), ("0062000B", "segment"), ("0040A0B0", "channel")):
            found = [str(int(value)) for value in numbers(one, tag)]
            if found:
                parts.append(f"{name} {', '.join(found[:MOST_NUMBERS])}{', …' if len(found) > MOST_NUMBERS else ''}")
        if items(one, REFERENCED_SOPS):
            parts.append("in a presentation state")
    return "; ".join(parts)


def _coordinates(item: Dataset, _bulk: Bulk | None) -> str:
    each = 3 if text(item, VALUE_TYPE) == "SCOORD3D" else 2
    found = numbers(item, "00700022")
    points = [found[at : at + each] for at in range(0, len(found) - each + 1, each)]
    written = " ".join("/".join(f"{value:g}" for value in point) for point in points[: MOST_NUMBERS // 2])
    more = f" … ({len(points)} points)" if len(points) > MOST_NUMBERS // 2 else ""
    frame = text(item, "30060024")
    return f"{text(item, '00700023')} {written}{more}" + (f" in frame of reference {frame}" if frame else "")


def _times(item: Dataset, _bulk: Bulk | None) -> str:
    for tag, unit in (("0040A132", "sample"), ("0040A138", "s"), ("0040A13A", "")):
        found = values(item, tag)
        if found:
            shown = [moment(str(one)) if tag == "0040A13A" else f"{one}" for one in found[:MOST_NUMBERS]]
            where = ", ".join(shown) + (", …" if len(found) > MOST_NUMBERS else "")
            return f"{text(item, '0040A130')} {unit + ' ' if unit == 'sample' else ''}{where}{' s' if unit == 's' else ''}"
    return text(item, "0040A130")


def _nothing(_item: Dataset, _bulk: Bulk | None) -> str:
    return ""


VALUES: Final[dict[str, Callable[[Dataset, Bulk | None], str]]] = {
    "TEXT": _text_value,
    "CODE": _code_value,
    "NUM": _number_value,
    "DATETIME": _plain("0040A120", moment),
    "DATE": _plain("0040A121", day),
    "TIME": _plain("0040A122", hour),
    "PNAME": lambda item, _bulk: person(item, "0040A123"),
    "UIDREF": _plain("0040A124", str),
    "IMAGE": _image_value,
    "COMPOSITE": _image_value,
    "WAVEFORM": _image_value,
    "SCOORD": _coordinates,
    "SCOORD3D": _coordinates,
    "TCOORD": _times,
    "CONTAINER": _nothing,
}


# ---- what it refers to


def _evidence(dataset: Dataset) -> dict[str, tuple[str, str]]:
    """SOP Instance UID -> study and series."""
    found = {}
    for tag in EVIDENCE:
        for study in items(dataset, tag):
            for series in items(study, REFERENCED_SERIES):
                place = text(study, STUDY_UID), text(series, SERIES_UID)
                for one in items(series, REFERENCED_SOPS):
                    found[text(one, REFERENCED_INSTANCE)] = place
    return found


def _references(item: Dataset, where: dict[str, tuple[str, str]]) -> Iterator[Reference]:
    for one in items(item, REFERENCED_SOPS):
        instance = text(one, REFERENCED_INSTANCE)
        if instance:
            frames = tuple(int(number) for number in numbers(one, "00081160"))
            yield Reference(text(one, REFERENCED_CLASS), instance, *where.get(instance, ("", "")), frames=frames)


# ---- the top

_ABOUT: Final[tuple[tuple[str, str, Callable[[str], str]], ...]] = (
    ("Patient ID", "00100020", str),
    ("Birth date", "00100030", day),
    ("Sex", "00100040", str),
    ("Study", "00081030", str),
    ("Study date", "00080020", day),
    ("Accession number", "00080050", str),
    ("Series", "0008103E", str),
    ("Institution", "00080080", str),
    ("Manufacturer", "00080070", str),
    ("Content date", "00080023", day),
    ("Content time", "00080033", hour),
    ("Preliminary", "0040A496", str),
    ("Completion", "0040A491", str),
    ("Completion description", "0040A492", str),
    ("Verification", "0040A493", str),
)


def about(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Whose document it is, and how far it can be relied on (PS3.3 C.17.2)."""
    names = (("Patient", "00100010"), ("Referring physician", "00080090"))
    yield from ((name, found) for name, tag in names if (found := person(dataset, tag)))
    yield from ((name, found) for name, tag, form in _ABOUT if (found := form(text(dataset, tag))))
    for one in items(dataset, "0040A073"):
        who = person(one, "0040A075") or "somebody"
        of = text(one, "0040A027")
        yield "Verified", f"{moment(text(one, '0040A030'))} by {who}{f', {of}' if of else ''}"

