"""Large answers from files straight to the socket: `sendfile` in a worker thread, past the event loop and its buffers.

The bytes of a file are not copied into this process (sendfile(2)), and a study of a thousand files costs the event loop a
few turns a second instead of several for each file. A thread sends as fast as the client takes; a client that is slower is
waited for by the event loop, which costs no thread.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Any, Final

import anyio
from anyio import to_thread
from anyio.lowlevel import RunVar
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from storage import incoming
from storage.blobs.in_file import EXTENSION, InFile
from storage.incoming import Incoming

# Downloads that are at work at the same time; the others take turns. Readers of all else have threads of their own.
_THREADS: Final = 8
# After so long a thread looks whether the client is still there, and lets others have a turn.
_SLICE_SECONDS: Final = 0.25
# A client that takes the next bytes this soon is not worth changing to the event loop for.
_PATIENCE_MS: Final = 20
# Bytes in hand that go out in one chunk.
_GATHER: Final = 1 << 20
# The system takes no more than 2 GiB at a time.
_AT_ONCE: Final = 1 << 30
_MORE: Final = getattr(socket, "MSG_MORE", 0)


class State(Enum):
    """How a turn of a thread has ended."""

    DONE = auto()
    MORE = auto()
    BLOCKED = auto()


class Sender:
    """Sends a stream of bytes and files to a socket that does not block, in the chunked coding (RFC 9112 7.1) or as it is."""

    def __init__(self, body: Iterator[bytes | InFile], to: socket.socket, *, chunked: bool) -> None:
        self._body = body
        self._to = to
        self._chunked = chunked
        self._bytes = memoryview(b"")
        self._file: InFile | None = None
        # The line end of a chunk, which goes out with the head of the next; what is left of it, whoever ends the answer sends.
        self.end = b""
        # What of the body has been sent, without the coding.
        self.sent = 0

    def turn(self) -> State:
        """Send until the end, for a while, or until the client takes no more. Raises OSError and what the body raises."""
        until = time.monotonic() + _SLICE_SECONDS
        while True:
            try:
                self._flush()
            except BlockingIOError:
                if not _writable(self._to, _PATIENCE_MS):
                    return State.BLOCKED
            else:
                if not self._next():
                    return State.DONE
            if time.monotonic() > until:
                return State.MORE

    def _flush(self) -> None:
        while self._bytes:
            more = _MORE if self._file is not None else 0
            self._bytes = self._bytes[self._to.send(self._bytes, more) :]
        file = self._file
        while file is not None and len(file):
            file.passed(os.sendfile(self._to.fileno(), file.descriptor, file.offset, min(len(file), _AT_ONCE)))
        if file is not None:
            file.close()
            self._file = None

    def _next(self) -> bool:
        """Have the next chunk ready: what comes before a file, and the file. False when there is none."""
        pieces: list[bytes] = []
        size = 0
        for piece in self._body:
            size += len(piece)
            if isinstance(piece, InFile) and len(piece):
                self._file = piece
                break
            if isinstance(piece, InFile):
                continue
            pieces.append(piece)
            if size >= _GATHER:
                break
        if not size:
            return False
        self.sent += size
        head = b"%s%x\r\n" % (self.end, size) if self._chunked else b""
        self.end = b"\r\n" if self._chunked else b""
        self._bytes = memoryview(b"".join((head, *pieces)))
        return True


def _writable(to: socket.socket, milliseconds: int) -> bool:
    poll = select.poll()
    poll.register(to, select.POLLOUT)
    return bool(poll.poll(milliseconds))


class Direct:
    """ASGI: one request, whose answer may be a message of `storage.blobs.in_file.EXTENSION`. `cycle` is uvicorn's of it.

    `lend` is what the application may ask for its body (`storage.incoming.EXTENSION`).
    """

    def __init__(self, app: ASGIApp, cycle: Any, lend: Callable[[], Incoming | None]) -> None:
        self._app = app
        self._cycle = cycle
        self._extensions = {EXTENSION: {}, incoming.EXTENSION: lend}
        self._transport: asyncio.Transport = cycle.transport

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] != EXTENSION:
                await send(message)
            elif await self._stream(message["body"], message["idle"]):
                # In uvicorn's hands again, which knows how an answer ends.
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self._app({**scope, "extensions": {**scope.get("extensions", {}), **self._extensions}}, receive, sent)

    async def _stream(self, body: Iterator[bytes | InFile], idle: float) -> bool:
        """Whether all of it has gone; False where the client is gone, or takes nothing."""
        cycle = self._cycle
        if not await self._drained(idle):
            return False
        chunked = bool(cycle.chunked_encoding)
        # A number of its own: the event loop keeps that of the transport to itself, and closes it when the client has gone.
        with socket.socket(fileno=os.dup(self._transport.get_extra_info("socket").fileno())) as to:
            to.setblocking(False)
            sender = Sender(body, to, chunked=chunked)
            state = State.MORE
            while state is not State.DONE:
                if cycle.disconnected or self._transport.is_closing():
                    return False
                if state is State.BLOCKED and not await _taken(to, idle):
                    self._transport.abort()
                    return False
                try:
                    state = await to_thread.run_sync(sender.turn, limiter=_limiter())
                except (BrokenPipeError, ConnectionResetError):
                    return False
        if chunked:
            self._transport.write(sender.end)
        else:
            cycle.expected_content_length -= sender.sent
        return True

    async def _drained(self, idle: float) -> bool:
        """Wait until what the transport was given, the head of the answer above all, has gone to the socket."""
        wait = 0.0
        until = time.monotonic() + idle
        while self._transport.get_write_buffer_size():
            if self._cycle.disconnected or time.monotonic() > until:
                return False
            await asyncio.sleep(wait)
            wait = 0.01 if wait else 0.001
        return True


async def _taken(to: socket.socket, idle: float) -> bool:
    """Wait until the client takes more; False where it has not in `idle` seconds."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(to, ready.set)
    try:
        async with asyncio.timeout(idle):
            await ready.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_writer(to)
    return True


_LIMITER: RunVar[anyio.CapacityLimiter] = RunVar("downloads")


def _limiter() -> anyio.CapacityLimiter:
    """One for each event loop."""
    found = _LIMITER.get(None)
    if found is None:
        found = anyio.CapacityLimiter(_THREADS)
        _LIMITER.set(found)
    return found
