"""Objects in memory, for tests: the same answers as the other stores, and nothing durable."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

from storage.blobs.keys import PIECE, check_range, checked
from storage.errors import ObjectMissing
from storage.types import Blob, Content


class MemoryBlobs:
    """The object-store port over a dictionary. `objects` is open for tests that damage or remove something."""

    spool_folder = None

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self._modified: dict[str, datetime] = {}
        self._lock = threading.Lock()

    def put(self, key: str, content: Content, *, replace: bool = False) -> bool:
        data = bytes(content.view())
        with self._lock:
            present = self.objects.get(checked(key))
            if not replace and present is not None and hashlib.sha256(present).hexdigest() == content.sha256:
                return False
            self.objects[key] = data
            self._modified[key] = datetime.now(UTC)
            return True

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        check_range(offset, length)
        data = self._get(key)
        return data[offset:] if length is None else data[offset : offset + length]

    def resident(self, key: str, offset: int, length: int) -> bytes | None:
        data = self.objects.get(key)
        return None if data is None else data[offset : offset + length]

    def opened(self, key: str) -> None:
        return None

    def stream(
        self, key: str, offset: int = 0, length: int | None = None, *, fresh: bool = False
    ) -> Iterator[bytes]:
        data = self.read(key, offset, length)
        return (data[start : start + PIECE] for start in range(0, len(data), PIECE))

    def delete(self, key: str) -> None:
        with self._lock:
            self.objects.pop(checked(key), None)
            self._modified.pop(key, None)

    def list(self, prefix: str = "") -> Iterator[Blob]:
        with self._lock:
            found = [
                Blob(key, len(data), self._modified.get(key, datetime.now(UTC)))
                for key, data in self.objects.items()
                if key.startswith(prefix)
            ]
        return iter(sorted(found, key=lambda blob: blob.key))

    def ping(self) -> None:
        """Always there."""

    def close(self) -> None:
        """Nothing is held open; what was stored stays until the object goes."""

    def _get(self, key: str) -> bytes:
        try:
            return self.objects[checked(key)]
        except KeyError:
            raise ObjectMissing("the object is not in the store; send the instance again, which repairs it", key) from None
