"""The body of a request in bounded pieces, and the end of patience with one that stalls (RELIABILITY: slow bodies)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import anyio
from starlette.types import Receive

from dicomweb.errors import WebRefusal
from dicomweb.settings import WebSettings
from storage.errors import LimitExceeded

# What is gathered from the socket before a worker thread parses, hashes and spools it.
_BATCH = 512 << 10


async def batches(receive: Receive, settings: WebSettings) -> AsyncIterator[bytearray]:
    """The body in pieces of about 512 KiB. Raises WebRefusal 408 for one that stalls, crawls or never ends.

    A client that leaves ends the body: its last part is then seen to be incomplete.
    """
    begun, total, batch, more = time.monotonic(), 0, bytearray(), True
    while more:
        elapsed = time.monotonic() - begun
        if elapsed > settings.body_idle_seconds and total < elapsed * settings.body_minimum_rate:
            raise _too_slow(f"the body arrives at less than {settings.body_minimum_rate} bytes a second")
        with anyio.move_on_after(min(settings.body_idle_seconds, settings.body_total_seconds - elapsed)) as waiting:
            message = await receive()
        if waiting.cancelled_caught:
            raise _too_slow("the body stopped arriving, or took too long")
        if message["type"] == "http.disconnect":
            raise WebRefusal(400, "the client left before the end of the body", "send the body again")
        data, more = message.get("body", b""), message.get("more_body", False)
        total += len(data)
        if settings.max_request_bytes is not None and total > settings.max_request_bytes:
            raise LimitExceeded(f"the body is larger than the limit of {settings.max_request_bytes} bytes; send fewer instances at a time")
        batch += data
        if batch and (len(batch) >= _BATCH or not more):
            yield batch
            batch = bytearray()


def _too_slow(what: str) -> WebRefusal:
    return WebRefusal(408, what, "send again, without pauses", {"Connection": "close"})
