"""Bodies of requests straight from the socket: a worker thread reads them to where they belong, past the event loop.

On the usual way each byte is copied six times before anybody looks at it, and an instance of half a megabyte wakes the event loop
a dozen times. A thread reads as fast as the client sends; a client that is slower is waited for by the event loop.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Final, Self

# A client that sends the next bytes this soon is not worth changing to the event loop for.
_PATIENCE_MS: Final = 20


class Lent:
    """`storage.incoming.Incoming`: what is left of the body of uvicorn's `cycle`, of which `rest` bytes lie in the socket."""

    def __init__(self, protocol: Any, cycle: Any, rest: int) -> None:
        self._protocol = protocol
        self._begun = memoryview(cycle.body)
        self._rest = rest
        cycle.body = bytearray()
        cycle.flow.pause_reading()
        if cycle.waiting_for_100_continue:
            cycle.waiting_for_100_continue = False
            cycle.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # A number of its own: the event loop keeps that of the transport to itself, and closes it when the client has gone.
        self._socket = socket.socket(fileno=os.dup(cycle.transport.get_extra_info("socket").fileno()))
        self._socket.setblocking(False)

    @property
    def left(self) -> int:
        """Bytes that have not been read yet."""
        return len(self._begun) + self._rest

    def into(self, room: memoryview) -> int | None:
        """Read into `room` as much as is there: how much, None where the client has to be waited for.

        Raises ConnectionError when the client is gone.
        """
        if self._begun:
            size = min(len(room), len(self._begun))
            room[:size] = self._begun[:size]
            self._begun = self._begun[size:]
            return size
        size = min(len(room), self._rest)
        while True:
            try:
                count = self._socket.recv_into(room, size)
                break
            except BlockingIOError:
                if not _readable(self._socket):
                    return None
            except OSError as error:
                # Not only resets: an answer that never comes is a TimeoutError (ETIMEDOUT), a route that is gone something else.
                raise ConnectionResetError(*error.args) from error
        if not count:
            raise ConnectionResetError
        self._rest -= count
        return count

    async def wait(self, seconds: float) -> bool:
        """Until more is there; False when nothing has come for so long."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._socket, ready.set)
        try:
            async with asyncio.timeout(seconds):
                await ready.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self._socket)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._protocol.body_taken(self._rest)


def length_of(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """Content-Length; None for a body in the chunked coding, or none."""
    found = dict(headers)
    return int(found[b"content-length"]) if b"content-length" in found and b"transfer-encoding" not in found else None


def _readable(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(_PATIENCE_MS))
