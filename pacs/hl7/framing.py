"""MLLP: messages in a stream of bytes, each between a vertical tab and a file separator with a carriage return. Pure.

HL7 v2.5.1 appendix C, minimal lower layer protocol. What stands between two messages is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

START: Final = b"\x0b"
END: Final = b"\x1c\x0d"


class TooLong(ValueError):
    """A message is over the limit; `head` is its beginning."""

    def __init__(self, head: bytes) -> None:
        super().__init__("the message is over the limit")
        self.head = head


class Framing:
    """Takes messages out of what comes. `limit` is the most bytes that a message may have."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = bytearray()
        # How far we have looked for the end of the message in hand.
        self._looked = 0
        self._inside = False

    @property
    def inside(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._inside

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are whole by now. Raises TooLong."""
        self._bytes += data
        while True:
            if not self._inside:
                at = self._bytes.find(START)
                if at < 0:
                    self._bytes.clear()
                    return
                del self._bytes[: at + 1]
                self._inside, self._looked = True, 0
            at = self._bytes.find(END, self._looked)
            if at < 0:
                self._looked = max(0, len(self._bytes) - 1)
                if len(self._bytes) > self._limit:
                    raise TooLong(bytes(self._bytes[:4096]))
                return
            message = bytes(self._bytes[:at])
            del self._bytes[: at + len(END)]
            self._inside = False
            if len(message) > self._limit:
                raise TooLong(message[:4096])
            yield message


def framed(message: bytes) -> bytes:
    """A message as it goes out."""
    return START + message + END
