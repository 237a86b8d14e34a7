"""Where each frame and bulk value of recently read instances lies, kept in this process by series."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Final, NamedTuple

from storage.errors import NotFound
from storage.index import Index, Layout
from storage.types import Scope

_ROUGHLY: Final = 1024  # bytes of an entry beside its JSON and its frame table
# Read together with an instance on either side of it, once a second instance of its series is asked for: a viewer is
# scrolling, and goes on either way.
_AHEAD: Final = 50
# Readers that wait for another that is at the same series already, rather than read the same again.
_TURNS: Final = 16
# One may take half of all there is: a slide of half a million tiles has twenty megabytes, and is asked for tile by tile.
_SHARE: Final = 2


class _Series(NamedTuple):
    """A series of which something is kept: its ETag when that was read, and when it was last found to be so still."""

    tag: str
    checked: float


class _Kept(NamedTuple):
    tag: str
    size: int
    layout: Layout


class Layouts:
    """A bounded cache over `Index.layouts`, least recently used out first. Thread-safe.

    Object keys carry the digest of their bytes, so a kept layout can never point at other bytes than those it was
    made from; it can only be late to notice that an instance was replaced or deleted. What is kept of a series is
    believed for `max_age` seconds, and then for as long again if its ETag is the same: so frames of a series that is
    being read cost one small query in that time, and none of their own.
    """

    def __init__(
        self, index: Index, *, max_bytes: int, max_age: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._index = index
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._clock = clock
        self._lock = threading.Lock()
        self._turns = tuple(threading.Lock() for _ in range(_TURNS))
        self._series: OrderedDict[Scope, _Series] = OrderedDict()
        self._kept: OrderedDict[Scope, _Kept] = OrderedDict()
        self._bytes = 0

    def get(self, scope: Scope) -> Layout:
        """The layout of one instance. Raises NotFound."""
        series = Scope(scope.study, scope.series, None, scope.partition)
        self._confirm(series)
        found = self._found(scope, series)
        if found is not None:
            return found
        with self._turns[hash(series) % _TURNS]:
            # Whoever had the turn before may have read ours too.
            return self._found(scope, series) or self._read(scope, series)

    def at_hand(self, scope: Scope) -> Layout | None:
        """The layout as far as it is kept and believed: nothing is asked, and nobody waits."""
        series = Scope(scope.study, scope.series, None, scope.partition)
        known = self._series.get(series)
        if known is None or self._clock() - known.checked > self._max_age:
            return None
        return self._found(scope, series)

    def forget(self, scope: Scope) -> None:
        """Drop what is kept about an instance, because its object was not there."""
        with self._lock:
            self._drop(scope)

    def _confirm(self, series: Scope) -> None:
        """See that what is kept of a series is still so, if nobody has for a while."""
        known = self._series.get(series)
        now = self._clock()
        if known is None or now - known.checked <= self._max_age:
            return
        tag = self._index.etag(series)
        with self._lock:
            if tag == known.tag:
                self._series[series] = _Series(tag, now)
            else:
                self._series.pop(series, None)

    def _found(self, scope: Scope, series: Scope) -> Layout | None:
        with self._lock:
            known, kept = self._series.get(series), self._kept.get(scope)
            if known is None or kept is None or kept.tag != known.tag:
                return None
            self._kept.move_to_end(scope)
            self._series.move_to_end(series)
            return kept.layout

    def _read(self, scope: Scope, series: Scope) -> Layout:
        now = self._clock()
        tag, layouts = self._index.layouts(scope, _AHEAD if series in self._series else 0)
        wanted = next((one for one in layouts if one.located.uids.instance == scope.instance), None)
        if wanted is None:
            self.forget(scope)
            raise NotFound(f"there is no instance {scope.instance} in series {scope.series} of study {scope.study}")
        with self._lock:
            self._series[series] = _Series(tag, now)
            for layout in layouts:
                self._keep(replace(scope, instance=layout.located.uids.instance), layout, tag)
            while self._bytes > self._max_bytes:
                self._drop(next(iter(self._kept)))
            # A series without a kept instance is only good for knowing that one was asked for: as many as that costs.
            while len(self._series) > max(_TURNS, len(self._kept)):
                self._series.popitem(last=False)
        return wanted

    def _keep(self, scope: Scope, layout: Layout, tag: str) -> None:
        self._drop(scope)
        size = layout.size + _ROUGHLY
        if size <= self._max_bytes // _SHARE:
            self._kept[scope] = _Kept(tag, size, layout)
            self._bytes += size

    def _drop(self, scope: Scope) -> None:
        kept = self._kept.pop(scope, None)
        if kept is not None:
            self._bytes -= kept.size
