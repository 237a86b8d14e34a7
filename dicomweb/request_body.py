"""The body of a request in bounded pieces, and the end of patience with one that stalls (RELIABILITY: slow bodies)."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator

import anyio
from starlette.types import Receive

from dicomweb.errors import WebRefusal
from dicomweb.settings import WebSettings
from storage.errors import LightboxError, LimitExceeded
from storage.incoming import Incoming

# What is gathered from the socket before a worker thread parses, hashes and spools it: a CT instance comes in one piece.
_BATCH = 1 << 20
# What a worker thread reads from a socket at a time: a processor's own memory still has it when it is hashed and copied.
_PIECE = 256 << 10
# After so long a thread lets others have a turn.
_SLICE_SECONDS = 0.25


class _Room(threading.local):
    """Of each thread one, made once: fresh memory costs as much as what is done with it."""

    def __init__(self) -> None:
        self.bytes = bytearray(_PIECE)


_room = _Room()


def pieces(lent: Incoming) -> Iterator[tuple[bytearray, int]]:
    """What comes without a pause, for a while, in pieces: what they lie in until the next is asked for, and their size.

    In a worker thread. Raises WebRefusal when the client leaves.
    """
    until = time.monotonic() + _SLICE_SECONDS
    room = _room.bytes
    with memoryview(room) as view:
        while lent.left and time.monotonic() < until:
            try:
                size = lent.into(view)
            except ConnectionError as error:
                raise _left() from error
            if size is None:
                return
            yield room, size


class Patience:
    """How long a client is waited for who sends a body with pauses."""

    def __init__(self, lent: Incoming, settings: WebSettings) -> None:
        self._lent = lent
        self._settings = settings
        self._begun, self._length = time.monotonic(), lent.left

    async def wait(self) -> None:
        """Until there is more to read. Raises WebRefusal 408 for a body that stalls, crawls or never ends."""
        elapsed, total = time.monotonic() - self._begun, self._length - self._lent.left
        if not await self._lent.wait(_allowed(self._settings, elapsed, total)):
            raise _stopped()


async def batches(receive: Receive, settings: WebSettings) -> AsyncIterator[bytearray]:
    """The body in pieces of about 1 MiB. Raises WebRefusal 408 for one that stalls, crawls or never ends.

    A client that leaves ends the body: its last part is then seen to be incomplete.
    """
    begun, total, batch, more = time.monotonic(), 0, bytearray(), True
    while more:
        try:
            data, more = await _message(receive, settings, time.monotonic() - begun, total)
            total += len(data)
            if settings.max_request_bytes is not None and total > settings.max_request_bytes:
                raise LimitExceeded(f"the body is larger than the limit of {settings.max_request_bytes} bytes; send fewer instances at a time")
        except LightboxError:
            # What has come whole by now can still be stored.
            if batch:
                yield batch
            raise
        batch += data
        if batch and (len(batch) >= _BATCH or not more):
            yield batch
            batch = bytearray()


async def _message(receive: Receive, settings: WebSettings, elapsed: float, total: int) -> tuple[bytes, bool]:
    """The next bytes, and whether there are more; `total` came in the `elapsed` seconds before."""
    with anyio.move_on_after(_allowed(settings, elapsed, total)) as waiting:
        message = await receive()
    if waiting.cancelled_caught:
        raise _stopped()
    if message["type"] == "http.disconnect":
        raise _left()
    return message.get("body", b""), message.get("more_body", False)


def _allowed(settings: WebSettings, elapsed: float, total: int) -> float:
    """Seconds in which the next bytes must come after `total` in `elapsed` seconds. Raises WebRefusal for one that crawls."""
    if elapsed > settings.body_idle_seconds and total < elapsed * settings.body_minimum_rate:
        raise _too_slow(f"the body arrives at less than {settings.body_minimum_rate} bytes a second")
    return min(settings.body_idle_seconds, settings.body_total_seconds - elapsed)


def _stopped() -> WebRefusal:
    return _too_slow("the body stopped arriving, or took too long")


def _left() -> WebRefusal:
    return WebRefusal(400, "the client left before the end of the body", "send the body again")


def _too_slow(what: str) -> WebRefusal:
    return WebRefusal(408, what, "send again, without pauses", {"Connection": "close"})
