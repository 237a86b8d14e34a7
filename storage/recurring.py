"""Stretches of a data set that an earlier one had too: known again by their bytes, and taken over as they were read then.

The instances of a series differ in a dozen of their hundred attributes. What lies between those is compared as a whole, which
costs a fraction of reading it. A stretch is looked for behind its anchor, an element that was known already; it is learnt from
the elements that follow the anchor and were known as well, and ends before the first that was not. Only what depends on
nothing but its bytes and the key of its table is learnt: nothing odd, no bulk data, nothing that later elements are read by.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, Final, NamedTuple

from storage.charsets import Charset
from storage.values import Text

_MOST_TABLES: Final = 8
_MOST_ANCHORS: Final = 256
# Series that are received by turns may go on differently behind the same anchor.
_MOST_BEHIND: Final = 4
_LONGEST: Final = 4096
_MOST_SEEN: Final = 1024


class Stretch(NamedTuple):
    """Elements one behind the other: their bytes, how they were read, how many they are and how long their values."""

    raw: bytes
    values: dict[str, Any]
    number: int
    value_bytes: int


class Place(NamedTuple):
    """Where a pass is: the position, elements of the data set, elements and bytes of values in all, and oddities so far."""

    pos: int
    elements: int
    number: int
    value_bytes: int
    oddities: int


class Known:
    """What is known of data sets of one encoding. Shared by threads, each of which may lose what another has learnt."""

    def __init__(self) -> None:
        self._behind: dict[bytes, tuple[Stretch, ...]] = {}
        self._seen: dict[bytes, None] = {}

    def behind(self, anchor: bytes) -> tuple[Stretch, ...]:
        """What may follow an element, the latest first."""
        return self._behind.get(anchor, ())

    def seen(self, raw: bytes) -> bool:
        """Whether an element was seen before; from now on it was."""
        if not raw or raw in self._seen:
            return bool(raw)
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        self._seen[raw] = None
        return False

    def learn(self, anchor: bytes, data: memoryview, values: dict[str, Any], begun: Place, ended: Place) -> None:
        """That these elements of `values` may follow the anchor; one alone is not worth it."""
        size = ended.pos - begun.pos
        if ended.elements - begun.elements < 2 or size > _LONGEST or ended.oddities != begun.oddities:
            return
        if anchor not in self._behind and len(self._behind) >= _MOST_ANCHORS:
            self._behind.clear()
        stretch = Stretch(
            data[begun.pos : ended.pos].tobytes(),
            dict(islice(values.items(), begun.elements, ended.elements)),
            ended.number - begun.number,
            ended.value_bytes - begun.value_bytes,
        )
        self._behind[anchor] = (stretch, *self.behind(anchor)[: _MOST_BEHIND - 1])


def short(data: memoryview, start: int, stop: int) -> bytes:
    """The bytes of an element that is short enough to be in a stretch; else none."""
    return data[start:stop].tobytes() if stop - start <= _LONGEST else b""


_TABLES: Final[dict[tuple[Text, Charset, bool], Known]] = {}


def known(text: Text, assumed: Charset, *, signed: bool) -> Known:
    """What is known of data sets in Explicit VR whose values are read so."""
    key = (text, assumed, signed)
    if key not in _TABLES and len(_TABLES) >= _MOST_TABLES:
        _TABLES.clear()
    return _TABLES.setdefault(key, Known())
