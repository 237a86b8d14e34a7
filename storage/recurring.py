"""Stretches of a data set that an earlier one had too: known again by their bytes, and taken over as they were read then.

The instances of a series differ in a dozen of their hundred attributes. What lies between those is compared as a whole, which
costs a fraction of reading it. A stretch is looked for behind the attribute that it followed before. At first it is all that
followed; where the next data set differs, it is cut, and what comes behind the attribute that differs is a stretch of its own.
Only what depends on nothing but its bytes and the key of its table is in one: nothing odd, no bulk data, nothing that later
elements are read by.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice
from typing import Any, Final, NamedTuple

from storage.charsets import Charset
from storage.values import Text

# Elements in Explicit VR as they were decoded before, by their bytes: most of an image's header is that of the image before
# it. They are shared by the data sets that they occur in, and so never changed. One table for each character set and byte
# order; all of that is bounded, so that nothing can make it grow.
_KNOWN: Final[dict[Text, dict[bytes, tuple[str, dict[str, Any]]]]] = {}
MOST_KNOWN: Final = 4096
MOST_VALUES: Final = 4
LONGEST_KNOWN: Final = 96
_MOST_TABLES: Final = 8
_MOST_ANCHORS: Final = 128
# Series of several kinds may be received by turns.
_MOST_BEHIND: Final = 4
LONGEST: Final = 2048
# So many elements are worth a stretch of their own; fewer are, where nothing longer is ever the same.
_WORTH: Final = 4
_LEAST: Final = 2
# How often something is learnt behind an attribute without being of use, and looked at in vain before it is tried again.
_CREDIT: Final = 6
_PATIENCE: Final = -256


def known_elements(text: Text) -> dict[bytes, tuple[str, dict[str, Any]]]:
    """The elements that are known: their bytes, their key and how they were read."""
    if text not in _KNOWN and len(_KNOWN) >= _MOST_TABLES:
        _KNOWN.clear()
    return _KNOWN.setdefault(text, {})


class Place(NamedTuple):
    """Where a pass is: the position, elements of the data set, elements in all, and bytes of values in all."""

    pos: int
    elements: int
    number: int
    value_bytes: int


class Stretch(NamedTuple):
    """Elements one behind the other: their bytes, how they were read, and where each ends, counted from the beginning."""

    raw: bytes
    values: dict[str, Any]
    ends: tuple[Place, ...]

    def alike(self, data: memoryview, pos: int) -> int:
        """How many of its elements are at `pos` too."""
        raw = data[pos : pos + len(self.raw)].tobytes()
        return bisect_left(range(len(self.ends)), True, key=lambda number: not raw.startswith(self.raw[: self.ends[number].pos]))

    def first(self, number: int) -> Stretch:
        """Its first so many elements."""
        ends = self.ends[:number]
        return Stretch(self.raw[: ends[-1].pos], dict(islice(self.values.items(), number)), ends)


class Anchor:
    """What may follow an attribute, the latest first."""

    __slots__ = ("credit", "stretches")

    def __init__(self) -> None:
        self.stretches: tuple[Stretch, ...] = ()
        self.credit = _CREDIT

    def find(self, data: memoryview, pos: int) -> Stretch | None:
        """The stretch that is at `pos`, cut to what is the same."""
        for stretch in self.stretches:
            if data[pos : pos + len(stretch.raw)].tobytes() == stretch.raw:
                if self.credit < _CREDIT:
                    self.credit += 1
                return stretch
        least = _WORTH if self.credit > 0 else _LEAST
        for stretch in self.stretches:
            alike = stretch.alike(data, pos)
            if alike >= least or (alike >= _LEAST and 2 * alike >= len(stretch.ends)):
                return self._cut(stretch, alike)
        return None

    def worth_learning(self) -> bool:
        """Whether to try once more with what is at hand."""
        self.credit -= 1
        if self.credit < _PATIENCE:
            self.credit = 1
        return self.credit >= 0

    def learn(self, stretch: Stretch) -> None:
        """That this may follow."""
        self.stretches = (stretch, *self.stretches[: _MOST_BEHIND - 1])

    def _cut(self, stretch: Stretch, number: int) -> Stretch:
        shorter = stretch.first(number)
        self.stretches = (shorter, *(one for one in self.stretches if one is not stretch and one.raw != shorter.raw))
        return shorter


class Learning:
    """A stretch that is being learnt, from the element at `begun` on."""

    __slots__ = ("_anchor", "_begun", "_ends", "_oddities")

    def __init__(self, anchor: Anchor, begun: Place, oddities: int) -> None:
        self._anchor = anchor
        self._begun = begun
        self._oddities = oddities
        self._ends: list[Place] = []

    def passed(self, here: Place, oddities: int) -> bool:
        """An element ends here. Whether it belongs to the stretch; otherwise this is over."""
        begun = self._begun
        size = here.pos - begun.pos
        # One that stands twice is no element more.
        if oddities != self._oddities or size > LONGEST or here.elements != begun.elements + len(self._ends) + 1:
            return False
        number, value_bytes = here.number - begun.number, here.value_bytes - begun.value_bytes
        self._ends.append(Place(size, len(self._ends) + 1, number, value_bytes))
        return True

    def end(self, data: memoryview, values: dict[str, Any]) -> None:
        """The stretch ends behind what has passed; `values` are those of the data set."""
        if len(self._ends) >= _LEAST:
            pos, elements = self._begun.pos, self._begun.elements
            raw = data[pos : pos + self._ends[-1].pos].tobytes()
            self._anchor.learn(Stretch(raw, dict(islice(values.items(), elements, elements + len(self._ends))), tuple(self._ends)))


_TABLES: Final[dict[tuple[Text, Charset, bool, int], dict[str, Anchor]]] = {}


class Recurring:
    """One pass over the top data set: what is known of such ones in Explicit VR, by the attribute before it, and what is learnt.

    The tables are shared by threads, each of which may lose what another has just learnt.
    """

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._known: dict[str, Anchor] = {}
        self._learning: Learning | None = None

    def read_by(self, text: Text, assumed: Charset, *, signed: bool, inline_bytes: int) -> None:
        """From now on values are read so; see `Limits.inline_bytes`."""
        key = (text, assumed, signed, inline_bytes)
        if key not in _TABLES and len(_TABLES) >= _MOST_TABLES:
            _TABLES.clear()
        self._known = _TABLES.setdefault(key, {})

    def passed(self, values: dict[str, Any], key: str, here: Place, oddities: int) -> Stretch | None:
        """An element ended here: the stretch that follows it, if that is known and new to `values`; else it begins to be learnt."""
        if self._learning is not None:
            if self._learning.passed(here, oddities):
                return None
            self.end(values)
        behind = self._known.get(key) or self._anchor(key)
        stretch = behind.find(self._data, here.pos)
        if stretch is not None and values.keys().isdisjoint(stretch.values):
            return stretch
        if behind.worth_learning():
            self._learning = Learning(behind, here, oddities)
        return None

    def end(self, values: dict[str, Any]) -> str:
        """What is being learnt ends with the element that passed last; no sequence goes on with it."""
        if self._learning is not None:
            self._learning.end(self._data, values)
            self._learning = None
        return ""

    def _anchor(self, key: str) -> Anchor:
        if len(self._known) >= _MOST_ANCHORS:
            self._known.clear()
        return self._known.setdefault(key, Anchor())
