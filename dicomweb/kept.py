"""A bounded store in memory of what took work to make, least recently used out first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

_Value = TypeVar("_Value")
# Of an entry beside what it holds: key, bookkeeping.
_ROUGHLY: Final = 512


class Kept(Generic[_Value]):
    """Values by key, together at most `max_bytes` by what `size` says of each. Thread-safe.

    A key must tell everything that its value depends on: what is kept is never wrong, only unused. A value that would take a
    quarter of all the room is not kept.
    """

    def __init__(self, max_bytes: int, size: Callable[[_Value], int]) -> None:
        self._max_bytes = max_bytes
        self._size = size
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, _Value] = OrderedDict()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """How much is kept."""
        return self._bytes

    def get(self, key: Hashable) -> _Value | None:
        """What is kept under a key."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def keep(self, key: Hashable, value: _Value) -> None:
        """Keep this under a key, in place of what was."""
        size = self._size(value) + _ROUGHLY
        with self._lock:
            self._drop(key)
            if size <= self._max_bytes // 4:
                self._values[key] = value
                self._bytes += size
            while self._bytes > self._max_bytes:
                self._drop(next(iter(self._values)))

    def _drop(self, key: Hashable) -> None:
        value = self._values.pop(key, None)
        if value is not None:
            self._bytes -= self._size(value) + _ROUGHLY
