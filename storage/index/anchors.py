"""Places in the answers of recent searches, so that a page at a large offset begins near it instead of at the first answer.

A client that pages by `offset` asks for places one after the other; each page leaves where it ended. A place is good as
long as nothing was stored or deleted since (`Index.state`): then the same number of answers lies before it. The study list
itself does without (`storage.index.tally`).
"""

from __future__ import annotations

import threading
from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Hashable

# Below this it is quicker to skip than to ask whether a place is still good.
LEAST_OFFSET = 500
_SEARCHES = 100
_PLACES = 500

Place = tuple[object, ...]


class Anchors:
    """Of one process. Thread-safe; of fixed size."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._searches: OrderedDict[Hashable, tuple[int, list[tuple[int, Place]]]] = OrderedDict()

    def keep(self, search: Hashable, state: int, offset: int, place: Place) -> None:
        """Remember that in `state` so many answers of a search lie up to a place, and that one included."""
        with self._lock:
            known, places = self._searches.get(search, (state, []))
            if known > state:
                return
            if known < state or len(places) >= _PLACES:
                places = []
            if (offset, place) not in places:
                insort(places, (offset, place), key=_offset)
            self._searches[search] = (state, places)
            self._searches.move_to_end(search)
            while len(self._searches) > _SEARCHES:
                self._searches.popitem(last=False)

    def nearest(self, search: Hashable, state: int, offset: int) -> tuple[int, Place] | None:
        """The last place that is known at or before an offset, and how many answers lie up to it."""
        with self._lock:
            known, places = self._searches.get(search, (state, []))
            if known != state:
                return None
            at = bisect_right(places, offset, key=_offset)
            return places[at - 1] if at else None


def _offset(anchor: tuple[int, Place]) -> int:
    return anchor[0]
