"""Rules applied to a data set, and what was there before written into it (PS3.3 C.12.1.1.9)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from storage.charsets import Charset
from storage.coercion.rules import Action, Path, Reason, Rule, When, Where, vr_of_tag
from storage.coercion.tree import DataSet, Element
from storage.coercion.values import CHARACTER_SET, TEXT, charset_in, to_bytes, to_text, to_utf_8

_ORIGINALS: Final = 0x04000561
_MODIFIED, _AT, _BY, _SOURCE, _REASON = 0x04000550, 0x04000562, 0x04000563, 0x04000564, 0x04000565


@dataclass(frozen=True, slots=True)
class Told:
    """What the Original Attributes Sequence says of a modification: when, by what, and who had sent it."""

    at: datetime
    system: str
    source: str


def coerce(dataset: DataSet, rules: Sequence[Rule], told: Told, assumed: Charset) -> tuple[int, ...]:
    """Change a data set by rules, in their order: the tags that are other than before, none when nothing is.

    What was there before is added to Original Attributes Sequence. `assumed` is the character set where the data set names
    none. Raises NotCoercible.
    """
    before = {tag: element.whole for tag, element in dataset.elements.items()}
    work = _Work(dataset, assumed)
    for rule in rules:
        work.apply(rule)
    changed = {tag: reason for tag, reason in work.touched.items() if _now(dataset, tag) != before.get(tag)}
    if not changed:
        return ()
    if work.recoded:
        changed[CHARACTER_SET] = Reason.COERCE
    _keep(dataset, changed, before, told)
    return tuple(sorted(changed))


def coerced_at(dataset: Mapping[str, Any]) -> datetime | None:
    """When a data set of the DICOM JSON model was last changed by us, by its own account."""
    items = (dataset.get(f"{_ORIGINALS:08X}") or {}).get("Value") or []
    said = [((item.get(f"{_AT:08X}") or {}).get("Value") or [""])[0] for item in items[-1:]]
    try:
        return datetime.strptime(said[0], "%Y%m%d%H%M%S.%f%z") if said else None
    except ValueError:
        return None


def _now(dataset: DataSet, tag: int) -> bytes | None:
    element = dataset.elements.get(tag)
    return None if element is None else b"".join(element.written(dataset.encoding))


class _Work:
    """A data set while rules are applied to it; `touched` are tags of its top level with the reason of the last rule."""

    def __init__(self, dataset: DataSet, assumed: Charset) -> None:
        self._dataset = dataset
        self._assumed = assumed
        self.touched: dict[int, Reason] = {}
        self.recoded = False

    def apply(self, rule: Rule) -> None:
        if not all(self._holds(one) for one in rule.where):
            return
        if rule.action is Action.REMOVE:
            self._remove(rule.target, rule)
        elif rule.source:
            self._copy(rule)
        else:
            self._set(rule)

    def _holds(self, where: Where) -> bool:
        matches = _pattern(where.pattern).fullmatch
        return any(matches(value) for value in self._texts(where.path))

    def _texts(self, path: Path) -> Iterator[str]:
        """The values of an attribute wherever it is, and '' where it has none."""
        found = False
        for place in _places(self._dataset, path[:-1]):
            element = place.dataset.elements.get(path[-1])
            text = self._text(place, element) if element else ""
            found = True
            yield from text.split("\\") if element and TEXT.get(element.vr, (0, True))[1] else [text]
        if not found:
            yield ""

    def _text(self, place: _Place, element: Element) -> str:
        charset = self._assumed
        for outer in place.data_sets:
            charset = charset_in(outer, charset)
        return to_text(element.vr, element.value, charset, little=place.dataset.encoding.little)

    def _set(self, rule: Rule) -> None:
        tag, affixed = rule.target[-1], rule.action is not Action.SET
        for place in _places(self._dataset, rule.target[:-1], make=not affixed and rule.when is not When.PRESENT):
            element = place.dataset.elements.get(tag)
            text = self._text(place, element) if element else ""
            if not _wanted(rule.when, text, element) or (affixed and not text):
                continue
            vr = element.vr if element and affixed else self._vr(tag, element)
            self._put(place, tag, vr, _affixed(rule, text) if affixed else rule.value, rule.reason)

    def _vr(self, tag: int, element: Element | None) -> str:
        """As it is where that can be written (US or SS), else of the dictionary."""
        return element.vr if element and element.vr in ("US", "SS") else vr_of_tag(tag)

    def _copy(self, rule: Rule) -> None:
        source = next((place for place in _places(self._dataset, rule.source[:-1]) if rule.source[-1] in place.dataset.elements), None)
        if source is None:
            return
        element = source.dataset.elements[rule.source[-1]]
        if not element.value and not element.is_sequence:
            return
        tag, vr = rule.target[-1], vr_of_tag(rule.target[-1])
        done = False
        for place in list(_places(self._dataset, rule.target[:-1], make=rule.when is not When.PRESENT)):
            there = place.dataset.elements.get(tag)
            if not _wanted(rule.when, self._text(place, there) if there else "", there):
                continue
            done = True
            if vr in TEXT:
                self._put(place, tag, vr, self._text(source, element), rule.reason)
            else:
                copied = Element(tag, vr if vr != "UN" else element.vr, element.content(), encoding=place.dataset.encoding)
                place.dataset.elements[tag] = copied
                place.changed(self.touched, tag, rule.reason)
        if done and rule.action is Action.MOVE:
            self._remove(rule.source, rule)

    def _remove(self, path: Path, rule: Rule) -> None:
        for place in _places(self._dataset, path[:-1]):
            if place.dataset.elements.pop(path[-1], None) is not None:
                place.changed(self.touched, path[-1], rule.reason)

    def _put(self, place: _Place, tag: int, vr: str, text: str, reason: Reason) -> None:
        charset = self._assumed
        for outer in place.data_sets:
            charset = charset_in(outer, charset)
        little = place.dataset.encoding.little
        try:
            value = to_bytes(vr, text, charset, little=little)
        except UnicodeEncodeError:
            to_utf_8(self._dataset, self._assumed)
            self.recoded = True
            value = to_bytes(vr, text, Charset("utf-8"), little=little)
        place.dataset.put(tag, vr, value)
        place.changed(self.touched, tag, reason)


@dataclass(slots=True)
class _Place:
    """A data set in which an attribute may be, with all that it is in, outermost first; and the sequences between them."""

    data_sets: tuple[DataSet, ...]
    sequences: tuple[Element, ...]
    # Sequences that are made for it, to be put in where something is set.
    made: tuple[tuple[DataSet, int], ...] = ()

    @property
    def dataset(self) -> DataSet:
        return self.data_sets[-1]

    def changed(self, touched: dict[int, Reason], tag: int, reason: Reason) -> None:
        """What it is in is to be written anew."""
        for (outer, _), element in zip(self.made, self.sequences[len(self.sequences) - len(self.made) :], strict=True):
            outer.elements[element.tag] = element
        for element in self.sequences:
            element.changed()
        touched[self.sequences[0].tag if self.sequences else tag] = reason


def _places(dataset: DataSet, path: Path, *, make: bool = False) -> list[_Place]:
    """The data sets that a path of sequences leads to; with `make` one, where a sequence is missing or has no item."""
    places = [_Place((dataset,), ())]
    for tag in path:
        deeper: list[_Place] = []
        for place in places:
            element = place.dataset.elements.get(tag)
            items = element.items() if element is not None else []
            if element is not None and items:
                deeper += [_Place((*place.data_sets, item), (*place.sequences, element), place.made) for item in items]
            elif make:
                item, outer = DataSet(place.dataset.encoding), place.dataset
                element = Element(tag, "SQ", encoding=outer.encoding)
                element.replaced([item])
                deeper.append(_Place((*place.data_sets, item), (*place.sequences, element), (*place.made, (outer, tag))))
        places = deeper
    return places


def _wanted(when: When, text: str, element: Element | None) -> bool:
    if when is When.ALWAYS:
        return True
    there = bool(text) or (element is not None and element.vr not in TEXT and len(element.value) > 0)
    return there is (when is When.PRESENT)


def _affixed(rule: Rule, text: str) -> str:
    """Each value with what is put before or behind it, unless it has that already."""

    def one(value: str) -> str:
        if not value:
            return value
        if rule.action is Action.PREFIX:
            return value if value.startswith(rule.value) else rule.value + value
        return value if value.endswith(rule.value) else value + rule.value

    several = TEXT[vr_of_tag(rule.target[-1])][1]
    return "\\".join(map(one, text.split("\\"))) if several else one(text)


@lru_cache(256)
def _pattern(text: str) -> re.Pattern[str]:
    letters = {"*": ".*", "?": "."}
    return re.compile("".join(letters.get(letter) or re.escape(letter) for letter in text), re.DOTALL)


def _keep(dataset: DataSet, changed: dict[int, Reason], before: dict[int, memoryview | None], told: Told) -> None:
    """Add an item for each reason: the values before as they came; of zero length what had none."""
    element = dataset.elements.get(_ORIGINALS)
    items = list(element.items()) if element is not None else []
    for reason in Reason:
        tags = {tag for tag, why in changed.items() if why is reason}
        if tags:
            items.append(_item(dataset, tags, reason, before, told))
    dataset.put_items(_ORIGINALS, items)


def _item(
    dataset: DataSet, tags: set[int], reason: Reason, before: dict[int, memoryview | None], told: Told
) -> DataSet:
    item, modified = DataSet(dataset.encoding), DataSet(dataset.encoding)
    # A text's character set is the previous one, and a private attribute means nothing without its creator (PS3.5 7.8).
    for tag in sorted(tags | {creator for tag in tags if (creator := _creator(tag)) in before}):
        whole = before.get(tag)
        vr = dataset.elements[tag].vr if tag in dataset.elements else "UN"
        modified.elements[tag] = Element(tag, vr, whole=whole, encoding=dataset.encoding)
    item.put_items(_MODIFIED, [modified])
    plain, little = Charset(), dataset.encoding.little
    item.put(_AT, "DT", to_bytes("DT", f"{told.at:%Y%m%d%H%M%S.%f}+0000", plain, little=little))
    item.put(_BY, "LO", to_bytes("LO", told.system, plain, little=little))
    item.put(_SOURCE, "LO", to_bytes("LO", told.source, plain, little=little))
    item.put(_REASON, "CS", to_bytes("CS", reason.value, plain, little=little))
    return item


def _creator(tag: int) -> int:
    return tag & 0xFFFF0000 | (tag & 0xFF00) >> 8 if tag >> 16 & 1 else 0
