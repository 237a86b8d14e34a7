"""Private attributes in the Native DICOM Model: by creator and element, without the block that they lie in (PS3.19 A.1.5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from storage.dictionary import spell
from storage.errors import BadRequest
from storage.types import Dataset


class Element(NamedTuple):
    """An attribute as its document has it: `tag` without a block where `creator` names who reserved one."""

    tag: int
    creator: str
    element: dict[str, Any]


def written_tag(tag: int, dataset: Dataset) -> tuple[str, str]:
    """How `tag` stands in a document, and its private creator or an empty text.

    The block is written as 00 and left to the reader (A.1.5), but for a creator's second block in the same group, whose
    attributes would be taken for those of the first. Without a creator the tag stands as it is.
    """
    block = tag >> 8 & 0xFF
    if not tag >> 16 & 1 or not block:
        return spell(tag), ""
    creator = _creator(dataset, tag >> 16, block)
    if not creator:
        return spell(tag), ""
    first = next(known for known in range(0x10, 0x100) if _creator(dataset, tag >> 16, known) == creator)
    return spell(tag & 0xFFFF00FF if first == block else tag), creator


def _creator(dataset: Dataset, group: int, block: int) -> str:
    values = (dataset.get(f"{group:04X}{block:04X}") or {}).get("Value") or [""]
    return values[0].strip() if isinstance(values[0], str) else ""


def with_blocks(elements: Iterable[Element]) -> dict[str, dict[str, Any]]:
    """The data set of `elements`, in order of tags: each private creator has its block, reserved where it was not.

    Group lengths are left out (A.1.1). Raises BadRequest for an attribute that stands twice.
    """
    elements = list(elements)
    blocks = _Blocks(elements)
    dataset: dict[str, dict[str, Any]] = {}
    for tag, element in (*_plain(elements), *((blocks.tag(one), one.element) for one in elements if one.creator)):
        if spell(tag) in dataset:
            raise BadRequest(f"{spell(tag)} stands twice in one data set; send each attribute once")
        dataset[spell(tag)] = element
    for tag, creator in blocks.reserved():
        dataset.setdefault(spell(tag), {"vr": "LO", "Value": [creator]})
    return dict(sorted(dataset.items()))


def _plain(elements: Iterable[Element]) -> Iterator[tuple[int, dict[str, Any]]]:
    for one in elements:
        if not one.creator and one.tag & 0xFFFF:
            yield one.tag, one.element


class _Blocks:
    """Which creator has which block of which group."""

    def __init__(self, elements: Iterable[Element]) -> None:
        self._owners: dict[tuple[int, int], str] = {}
        self._blocks: dict[tuple[int, str], int] = {}
        for one in elements:
            group, number = one.tag >> 16, one.tag & 0xFFFF
            values = one.element.get("Value") or [""]
            if group & 1 and not one.creator and 0x10 <= number <= 0xFF and isinstance(values[0], str):
                self._own(group, number, values[0].strip())
            elif group & 1 and one.creator and number >= 0x1000:
                self._own(group, number >> 8, one.creator)

    def _own(self, group: int, block: int, creator: str) -> None:
        if self._owners.setdefault((group, block), creator) != creator:
            raise BadRequest(f"the block {block:02X} of the private group {group:04X} has two creators; give it one")
        self._blocks.setdefault((group, creator), block)

    def tag(self, one: Element) -> int:
        """The tag of a private attribute of a known creator, in its block."""
        group, number = one.tag >> 16, one.tag & 0xFFFF
        if not group & 1 or 0xFF < number < 0x1000:
            raise BadRequest(f"{spell(one.tag)} has a privateCreator, but is no private attribute (PS3.5 7.8.1)")
        if number >= 0x1000:
            return one.tag
        block = self._blocks.get((group, one.creator))
        if block is None:
            block = next((free for free in range(0x10, 0x100) if (group, free) not in self._owners), None)
            if block is None:
                raise BadRequest(f"the private group {group:04X} has more creators than blocks")
            self._own(group, block, one.creator)
        return group << 16 | block << 8 | number

    def reserved(self) -> Iterator[tuple[int, str]]:
        """The private creator elements of all blocks that have an owner."""
        for (group, block), creator in self._owners.items():
            if creator:
                yield group << 16 | block, creator
