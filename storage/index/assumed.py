"""The character sets to assume of nodes that do not name theirs, kept in memory for a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Final

from storage.charsets import Charset
from storage.errors import LightboxError
from storage.index import Index
from storage.index.ae import ae_titles, revision

_FRESH_SECONDS: Final = 1.0


class AssumedCharsets:
    """By AE title; at most a second old, and what was last known while the database is away. Thread-safe."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._known: Mapping[str, Charset] = {}
        self._revision = -1
        self._looked = float("-inf")
        self._looking = threading.Lock()

    def now(self) -> Mapping[str, Charset]:
        """What is registered. One thread looks, while others take what there is."""
        if time.monotonic() - self._looked > _FRESH_SECONDS and self._looking.acquire(blocking=False):
            try:
                self._look()
            except LightboxError:
                # Whoever asks needs the database for more than this, and will say that it is away.
                pass
            finally:
                self._looked = time.monotonic()
                self._looking.release()
        return self._known

    def _look(self) -> None:
        latest = revision(self._index)
        if latest != self._revision:
            nodes = ae_titles(self._index)
            self._known = {one.title: one.quirks.charset for one in nodes if one.quirks.character_set}
            self._revision = latest
