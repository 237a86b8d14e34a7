"""Event channels (PS3.18 8.10.4, 11.13): a WebSocket on which a subscriber is told of workitems, from whichever process.

Events are rows in the database, and each connection reads on where its subscriber has been told last: nothing waits in
memory for a slow reader, and nothing is lost between subscribing and connecting, or while a connection is down.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import orjson
import structlog
from anyio import to_thread
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from dicomweb.settings import WebSettings
from storage.errors import LightboxError
from storage.procedure_steps import EVENT_SOP_CLASS
from storage.workitems import Event, Workitems

_log = structlog.get_logger(__name__)
# How long an event waits at most before it is seen.
LOOK_SECONDS: Final = 0.2
# Channels of one process; further ones are asked to come again (RFC 6455 7.4.1: 1013).
MOST_CHANNELS: Final = 256
_TRY_AGAIN: Final = 1013
_POLICY: Final = 1008
_MESSAGE_IDS: Final = 65536


def report(event: Event) -> dict[str, Any]:
    """An event as the data set of its report (PS3.4 table CC.2.4-1, PS3.7 table 10.3-1)."""
    return {
        "00000002": {"vr": "UI", "Value": [EVENT_SOP_CLASS]},
        "00000110": {"vr": "US", "Value": [event.sequence % _MESSAGE_IDS]},
        "00001000": {"vr": "UI", "Value": [event.uid]},
        "00001002": {"vr": "US", "Value": [event.kind]},
        **event.fields,
    }


class _Newest:
    """The number of the newest event, asked of the database once for all channels of the process."""

    def __init__(self, ask: Callable[[], int]) -> None:
        self._ask = ask
        self._lock = anyio.Lock()
        self._known, self._until = 0, 0.0

    async def get(self) -> int:
        async with self._lock:
            if time.monotonic() >= self._until:
                self._known = await to_thread.run_sync(self._ask)
                self._until = time.monotonic() + LOOK_SECONDS
            return self._known


class EventChannel:
    """Serves GET /subscribers/{AE} upgraded to a WebSocket."""

    def __init__(self, workitems: Workitems, settings: WebSettings) -> None:
        self._workitems = workitems
        self._settings = settings
        self._newest: _Newest | None = None
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell one subscriber, until it leaves or takes nothing for too long."""
        socket = WebSocket(scope, receive, send)
        ae_title = socket.path_params["requester"].strip()
        if not self._allowed(socket) or not ae_title or len(ae_title) > 16:
            await socket.close(_POLICY)
            return
        if self._open >= MOST_CHANNELS:
            await socket.accept()
            await socket.close(_TRY_AGAIN, "too many channels are open; try again later")
            return
        self._open += 1
        try:
            await socket.accept()
            await self._serve(socket, ae_title)
        finally:
            self._open -= 1

    async def _serve(self, socket: WebSocket, ae_title: str) -> None:
        async with anyio.create_task_group() as group:

            async def until_gone() -> None:
                # Nothing is expected of the subscriber; what it says is read so that its leaving is seen.
                while (await socket.receive())["type"] != "websocket.disconnect":
                    pass
                group.cancel_scope.cancel()

            group.start_soon(until_gone)
            try:
                await self._tell(socket, ae_title)
            except (WebSocketDisconnect, RuntimeError, OSError):
                # It left while it was being told: what was not acknowledged is told again.
                pass
            except LightboxError as error:
                _log.warning("event channel closed", action="event channel closed", error=type(error).__name__)
                await socket.close(_TRY_AGAIN, "try again later")
            group.cancel_scope.cancel()

    async def _tell(self, socket: WebSocket, ae_title: str) -> None:
        newest = self._newest = self._newest or _Newest(self._workitems.latest)
        at, seen = await to_thread.run_sync(self._workitems.delivered, ae_title), -1
        while True:
            latest = await newest.get()
            while latest > seen:
                events = await to_thread.run_sync(self._workitems.events, ae_title, at)
                if not events:
                    seen = latest
                    break
                for event in events:
                    with anyio.fail_after(self._settings.send_idle_seconds):
                        await socket.send_text(orjson.dumps(report(event)).decode("utf-8"))
                    at = event.sequence
                await to_thread.run_sync(self._workitems.acknowledge, ae_title, at)
            await anyio.sleep(LOOK_SECONDS)

    def _allowed(self, socket: WebSocket) -> bool:
        """Browsers say from which page they come, and let any page connect anywhere: only ours and those allowed may (RFC 6455 10.2)."""
        origin = socket.headers.get("origin")
        if origin is None:
            return True
        if not {origin, "*"}.isdisjoint(self._settings.cors_origins):
            return True
        ours = {socket.headers.get("host", ""), urlsplit(self._settings.public_url).netloc}
        return urlsplit(origin).netloc in ours - {""}
