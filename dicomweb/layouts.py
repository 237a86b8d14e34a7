"""Where each frame and bulk value of recently read instances lies, kept in this process for a short while."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from storage.errors import NotFound
from storage.index import Index, Layout
from storage.types import Scope

_ROUGHLY = 1024  # bytes of an entry beside its JSON and its frame table


class Layouts:
    """A bounded cache over `Index.layout`, least recently used out first. Thread-safe.

    Object keys carry the digest of their bytes, so a kept layout can never point at other bytes than those it was
    made from; it can only be late to notice that an instance was replaced or deleted. `max_age` seconds bound that.
    Scrolling through a multi-frame object is one index query in that time, whatever the number of frames.
    """

    def __init__(
        self, index: Index, *, max_bytes: int, max_age: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._index = index
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[Scope, tuple[float, int, Layout]] = OrderedDict()
        self._bytes = 0

    def get(self, scope: Scope) -> Layout:
        """The layout of one instance. Raises NotFound."""
        now = self._clock()
        with self._lock:
            kept = self._kept.get(scope)
            if kept is not None and now - kept[0] <= self._max_age:
                self._kept.move_to_end(scope)
                return kept[2]
        layout = self._index.layout(scope)
        if layout is None:
            self.forget(scope)
            raise NotFound(f"there is no instance {scope.instance} in series {scope.series} of study {scope.study}")
        self._keep(scope, layout, now)
        return layout

    def forget(self, scope: Scope) -> None:
        """Drop what is kept about an instance, because its object was not there."""
        with self._lock:
            self._drop(scope)

    def _keep(self, scope: Scope, layout: Layout, now: float) -> None:
        size = len(layout.json) + len(layout.frames.to_bytes()) + _ROUGHLY
        if size > self._max_bytes // 4:
            return
        with self._lock:
            self._drop(scope)
            self._kept[scope] = (now, size, layout)
            self._bytes += size
            while self._bytes > self._max_bytes:
                self._drop(next(iter(self._kept)))

    def _drop(self, scope: Scope) -> None:
        kept = self._kept.pop(scope, None)
        if kept is not None:
            self._bytes -= kept[1]
