"""Pending responses to one request: what is found fast goes out together."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pacs.scp.association import Association, Message

# Pending responses are sent together while less than this waits, and for no longer.
_TOGETHER_BYTES: Final = 1 << 15
_TOGETHER_SECONDS: Final = 0.01


class Pending:
    """The pending responses to one request: sent a few at a time, since one by one costs a system call each."""

    def __init__(self, association: Association, message: Message, head: bytes) -> None:
        self._association = association
        self._message = message
        self._head = head
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._sent_at = 0.0

    def add(self, identifier: bytes) -> bool:
        """Send it now, or with the next ones while those come fast; whether the peer has cancelled meanwhile."""
        self._waiting.append(identifier)
        self._bytes += len(identifier)
        if self._bytes < _TOGETHER_BYTES and time.monotonic() - self._sent_at < _TOGETHER_SECONDS:
            return False
        return self.flush()

    def flush(self) -> bool:
        """Send what waits; whether the peer has cancelled."""
        if self._waiting:
            self._association.write_pending(self._message, self._head, self._waiting)
            self._waiting, self._bytes = [], 0
        self._sent_at = time.monotonic()
        return self._association.cancelled(self._message)
