"""The body of a request in bounded pieces, and the end of patience with one that stalls (RELIABILITY: slow bodies)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import anyio
from starlette.types import Receive

from dicomweb.errors import WebRefusal
from dicomweb.settings import WebSettings
from storage.errors import LightboxError, LimitExceeded

# What is gathered from the socket before a worker thread parses, hashes and spools it: a CT instance comes in one piece.
_BATCH = 1 << 20


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
    if elapsed > settings.body_idle_seconds and total < elapsed * settings.body_minimum_rate:
        raise _too_slow(f"the body arrives at less than {settings.body_minimum_rate} bytes a second")
    with anyio.move_on_after(min(settings.body_idle_seconds, settings.body_total_seconds - elapsed)) as waiting:
        message = await receive()
    if waiting.cancelled_caught:
        raise _too_slow("the body stopped arriving, or took too long")
    if message["type"] == "http.disconnect":
        raise WebRefusal(400, "the client left before the end of the body", "send the body again")
    return message.get("body", b""), message.get("more_body", False)


def _too_slow(what: str) -> WebRefusal:
    return WebRefusal(408, what, "send again, without pauses", {"Connection": "close"})
