"""Bulk data of a request on its way (PS3.18 8.6.1): each part in a file of its own, found by its location."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dicomweb.media_types import MediaType
from storage.disk import unavailable
from storage.errors import LimitExceeded

_COPY: Final = 1 << 20
# Enough for any header of a code stream.
HEAD_BYTES: Final = 1 << 20


class BulkPart:
    """The bytes of one part, in a file of its own that is not held open: many may have to wait."""

    def __init__(self, folder: Path, media_type: MediaType, most: int) -> None:
        self.media_type = media_type
        self.size = 0
        self._most = most
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file: int | None
            self._file, name = tempfile.mkstemp(dir=folder, prefix="spool-")
        except OSError as error:
            raise unavailable(error, "spool the bytes that arrive") from error
        self._path = Path(name)

    def write(self, data: bytes | memoryview) -> None:
        """Append. Raises LimitExceeded, StoreFull, StoreUnavailable."""
        self.size += len(data)
        if self.size > self._most:
            raise LimitExceeded(f"a part is larger than the limit of {self._most} bytes; raise PACS_MAX_OBJECT_BYTES to accept it")
        assert self._file is not None
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            raise unavailable(error, "spool the bytes that arrive") from error

    def end(self) -> None:
        """No more bytes will come."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def read(self, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes from `offset`, in pieces."""
        left = self.size - offset if length is None else length
        with self._path.open("rb") as file:
            file.seek(offset)
            while left > 0 and (piece := file.read(min(left, _COPY))):
                left -= len(piece)
                yield piece

    def head(self) -> bytes:
        """Its first bytes: enough for any header of a code stream."""
        return b"".join(self.read(0, min(self.size, HEAD_BYTES)))

    def remove(self) -> None:
        """Forget it."""
        self.end()
        self._path.unlink(missing_ok=True)


def location_of(text: str) -> str:
    """What a Content-Location and a BulkDataURI are compared by: path and query, whatever host they are said to be on."""
    text = text.strip()
    scheme, separator, rest = text.partition("://")
    if separator and scheme.isalnum():
        text = rest.partition("/")[2]
    return text.removeprefix("./").lstrip("/")
