"""The web process's HTTP server: uvicorn with the limits that it does not have of its own (RELIABILITY 4 and 18)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import httptools
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import is_ssl
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from pacs.serve.direct import Direct
from pacs.serve.door import Door
from pacs.serve.lending import Lent, length_of
from pacs.serve.loads import Loads

# The request line and all headers together.
_HEAD_BYTES = 32 << 10
# Of a body what waits to be taken, before no more is read: uvicorn's 64 KiB wake up the application for each of them.
_BODY_BYTES = 512 << 10
# A longer one had better be read by who wants it: see `pacs.serve.lending`.
_LENT_BYTES = 64 << 10
# The longest message on a WebSocket.
_MESSAGE_BYTES = 4 << 10


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What a connection may take. Times are seconds."""

    connections: int = 1000
    head_seconds: float = 10.0
    idle_seconds: float = 75.0
    # A client that takes nothing of an answer for this long is gone.
    stalled_seconds: float = 60.0
    stop_seconds: float = 30.0


class _HeadTooLarge(Exception):
    """The parser's callbacks can only stop it by raising."""


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a time and a size for the head of a request, and an end for answers that nobody takes.

    When all connections are taken, the newcomer gets the place of the one that has been sending its head for longest.
    """

    limits: ClassVar[HttpLimits] = HttpLimits()
    loads: ClassVar[Loads]
    # Connections whose head is not complete, the oldest first.
    in_head: ClassVar[dict[GuardedProtocol, None]] = {}

    _head_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _too_large = False
    # Of the body of the present request what uvicorn has been given.
    _body_bytes = 0
    # Nothing more of it is read until the application asks for it, or for the socket.
    _held = False
    # What is still to come of a body that nobody wants and the parser knows nothing of.
    _unwanted = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._begin_head()
        if len(self.connections) > self.limits.connections:
            oldest = next(iter(self.in_head))
            # At once, for it is lost only in the loop's next turn, and the next newcomer is to get another's place.
            oldest._end_head()
            oldest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        self._end_stall()
        self.loads.add(-1)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._held = False
        # After an answer, whatever comes is the next head, or the rest of a body that nobody wants: both have a time.
        if self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            self._begin_head()
        if self._head_timer is not None:
            self._head_bytes += len(data)
        if self._unwanted:
            passed = min(self._unwanted, len(data))
            self._unwanted -= passed
            data = data[passed:]
        if data:
            super().data_received(data)
        if (
            self._head_timer is not None
            and self._head_bytes > _HEAD_BYTES
            and not self.transport.is_closing()
        ):
            self._too_large = True
            self.send_400_response("The head of the request is too large.")

    def on_headers_complete(self) -> None:
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > _HEAD_BYTES:
            self._too_large = True
            raise _HeadTooLarge
        self._end_head()
        self._body_bytes = 0
        super().on_headers_complete()
        if (length_of(self.headers) or 0) > _LENT_BYTES and not is_ssl(self.transport):
            self.flow.pause_reading()
            self._held = True

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        # What is encrypted cannot go past the transport.
        if not is_ssl(self.transport):
            app = Direct(app, cycle, partial(self._lend, cycle))
        super()._start_asgi_task(cycle, app)

    def _lend(self, cycle: Any) -> Lent | None:
        """The socket, for the rest of a body of which the application has received nothing; None where it needs no socket."""
        length = length_of(cycle.scope["headers"])
        untouched = cycle is self.cycle and len(cycle.body) == self._body_bytes
        if length is None or not (untouched and cycle.more_body) or cycle.disconnected or self.transport.is_closing():
            return None
        return Lent(self, cycle, length - self._body_bytes)

    def body_taken(self, rest: int) -> None:
        """The socket is ours again; `rest` bytes of the body are still in it, or on their way."""
        self._unwanted = rest
        # The parser waits for a body that has gone by.
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.on_message_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)
        if self.flow.read_paused and not self._held and len(self.cycle.body) <= _BODY_BYTES:
            self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:
        if not self._too_large:
            super().send_400_response(msg)
            return
        self.transport.write(
            b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )
        self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_timer = self.loop.call_later(self.limits.stalled_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        self._end_stall()
        super().resume_writing()

    def _begin_head(self) -> None:
        self._head_bytes = 0
        self.in_head[self] = None
        self._head_timer = self.loop.call_later(self.limits.head_seconds, self.transport.abort)

    def _end_head(self) -> None:
        self.in_head.pop(self, None)
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_stall(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None


class CountedWebSocket(WebSocketsSansIOProtocol):
    """What an HTTP connection becomes; its end is that of the connection."""

    loads: ClassVar[Loads]

    def connection_lost(self, exc: Exception | None) -> None:
        self.loads.add(-1)
        super().connection_lost(exc)


class WebServer(uvicorn.Server):
    """uvicorn behind doors of ours, told to stop by `should_exit` alone: the process has its own idea of signals."""

    def __init__(self, app: ASGIApp, limits: HttpLimits, started: Callable[[], None], loads: Loads) -> None:
        protocol = type("_Protocol", (GuardedProtocol,), {"limits": limits, "in_head": {}, "loads": loads})
        websocket = type("_WebSocket", (CountedWebSocket,), {"loads": loads})
        super().__init__(_configuration(app, protocol, websocket, limits))
        self._when_started = started
        self._loads = loads
        self._doors: list[Door] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup([])
        made: Any = self.config.http_protocol_class
        protocol = partial(made, config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        for listener in sockets or ():
            door = Door(listener, protocol, self._loads)
            door.open()
            self._doors.append(door)
        if self.started:
            self._when_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, and finish what is in flight."""
        for door in self._doors:
            await door.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to the process: uvicorn would raise them again when it is done, and so not end with 0."""
        yield


def _configuration(
    app: ASGIApp, protocol: type[asyncio.Protocol], websocket: type[asyncio.Protocol], limits: HttpLimits
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=protocol,
        loop="uvloop",
        ws=websocket,
        # Subscribers to events have nothing to say; who does not answer a ping is gone.
        ws_max_size=_MESSAGE_BYTES,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        # uvicorn would believe everybody on this machine, and X-Forwarded-For alone: see `pacs.forwarded`.
        proxy_headers=False,
        timeout_keep_alive=round(limits.idle_seconds),
        timeout_graceful_shutdown=round(limits.stop_seconds),
    )
