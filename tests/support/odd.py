"""Data sets that lie: values of the wrong type, number and size where others are expected."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

ODD: tuple[Any, ...] = (
    None,
    "",
    "x",
    "-1",
    -1,
    0,
    1,
    2,
    3,
    255,
    65535,
    65536,
    1 << 40,
    -(1 << 40),
    0.5,
    1e308,
    -1e308,
    "1e999",
    [],
    {},
    True,
)


def lying(dataset: dict[str, Any], chance: random.Random, *, but: tuple[str, ...] = ()) -> dict[str, Any]:
    """A copy in which one to four elements, at any depth, are missing or have odd values; those whose tags are in `but` stay."""
    found = copy.deepcopy(dataset)
    for holder, tag in chance.choices(list(_places(found, but)), k=chance.choice((1, 1, 2, 4))):
        if chance.random() < 0.15:
            holder.pop(tag, None)
        elif tag in holder:
            holder[tag].pop("InlineBinary", None)
            holder[tag]["Value"] = chance.choices(ODD, k=chance.randrange(5))
    return found


def _places(dataset: dict[str, Any], but: tuple[str, ...]) -> Iterator[tuple[dict[str, Any], str]]:
    """Every element by what holds it and its tag; not of all items where there are many."""
    for tag, element in dataset.items():
        if tag in but:
            continue
        yield dataset, tag
        if element.get("vr") == "SQ":
            for item in (element.get("Value") or [])[:4]:
                yield from _places(item, but)
