"""A JSON array taken apart object by object as its bytes arrive (PS3.18 F.2.1), so that none is held but the one begun."""

from __future__ import annotations

import re
from collections.abc import Iterator

from storage.errors import BadRequest, LimitExceeded

# A whole string, the beginning of one that is not here wholly, or a bracket; what is between them says nothing of depth.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["{}\[\]]', re.DOTALL)
_BETWEEN = b" \t\r\n,"


class ObjectReader:
    """Push bytes in, get the bytes of each object of the array out; an object without an array around it is taken too.

    Raises BadRequest for what is neither, and LimitExceeded for an object of more than `most` bytes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._buffer = bytearray()
        self._at = 0
        # Of what is open: the array itself (unless there is none) and what is inside the object.
        self._depth = 0
        self._array: bool | None = None
        self._ended = False

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[bytes]:
        """The objects that `data` completes."""
        self._buffer += data
        while (found := _TOKEN.search(self._buffer, self._at)) is not None:
            token = found[0]
            if token == b'"':
                self._at = found.start()
                break
            self._at = found.end()
            if token in (b"{", b"["):
                self._open(token, found.start())
            elif token in (b"}", b"]"):
                self._depth -= 1
                if self._depth < 0:
                    raise _wrong()
                if self._depth == bool(self._array) and token == b"}":
                    yield bytes(self._taken())
                elif not self._depth:
                    self._end()
            elif self._depth <= bool(self._array):
                raise _wrong()
        if found is None:
            self._at = len(self._buffer)
        if len(self._buffer) > self._most:
            raise LimitExceeded(f"the metadata of an instance is more than {self._most} bytes; send its large values as parts of their own")

    def finish(self) -> None:
        """Say that the bytes have ended. Raises BadRequest when the array has not."""
        if not self._ended or self._buffer.strip(_BETWEEN):
            raise _wrong()

    def _open(self, token: bytes, start: int) -> None:
        if self._array is None:
            self._array = token == b"["
        elif self._ended:
            raise _wrong()
        if self._depth == bool(self._array) and token == b"{":
            if self._buffer[:start].strip(_BETWEEN + b"["):
                raise _wrong()
            del self._buffer[:start]
            self._at -= start
        elif self._depth == 1 and self._array:
            raise _wrong()
        self._depth += 1

    def _taken(self) -> bytearray:
        taken = self._buffer[: self._at]
        del self._buffer[: self._at]
        self._at = 0
        self._ended = not self._array
        return taken

    def _end(self) -> None:
        if self._buffer[: self._at].strip(_BETWEEN + b"[]"):
            raise _wrong()
        del self._buffer[: self._at]
        self._at = 0
        self._ended = True


def _wrong() -> BadRequest:
    return BadRequest("the metadata is not a JSON array of data sets; send it as PS3.18 F.2.1 has it")
