"""What is watched on its way: an object store whose failures are counted, an application whose requests are timed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Final, ParamSpec, TypeVar

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pacs.metrics import Metrics
from storage.errors import LightboxError, NotFound
from storage.types import Blob, Blobs, Content

_log = structlog.get_logger(__name__)
_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")
# PS3.5 9.1: what may be logged of a path; anything else in it could be a name.
_UID: Final = re.compile(r"[0-9.]{1,64}")
_UIDS: Final = ("study", "series", "instance")


class CountedBlobs:
    """An object store whose failures are counted; everything else is its own."""

    def __init__(self, blobs: Blobs, metrics: Metrics) -> None:
        self._blobs = blobs
        self._metrics = metrics

    def put(self, key: str, content: Content, *, replace: bool = False) -> bool:
        """See `storage.types.Blobs`."""
        return self._counted("put", self._blobs.put, key, content, replace=replace)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """See `storage.types.Blobs`."""
        return self._counted("read", self._blobs.read, key, offset, length)

    def resident(self, key: str, offset: int, length: int) -> bytes | None:
        """See `storage.types.Blobs`."""
        return self._blobs.resident(key, offset, length)

    def opened(self, key: str) -> int | None:
        """See `storage.types.Blobs`."""
        return self._counted("open", self._blobs.opened, key)

    def stream(
        self, key: str, offset: int = 0, length: int | None = None, *, fresh: bool = False
    ) -> Iterator[bytes]:
        """See `storage.types.Blobs`."""
        return self._counted("stream", self._blobs.stream, key, offset, length, fresh=fresh)

    def delete(self, key: str) -> None:
        """See `storage.types.Blobs`."""
        self._counted("delete", self._blobs.delete, key)

    def list(self, prefix: str = "") -> Iterator[Blob]:
        """See `storage.types.Blobs`."""
        return self._counted("list", self._blobs.list, prefix)

    def _counted(
        self, operation: str, call: Callable[_Given, _Result], /, *args: _Given.args, **named: _Given.kwargs
    ) -> _Result:
        try:
            return call(*args, **named)
        except NotFound:
            # Asking for what may not be there is no failure of the store.
            raise
        except LightboxError as error:
            self._metrics.store_failed(operation, error)
            raise


class Observed:
    """ASGI middleware: every request is timed and counted under its route's template, and logged without its query."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        begun = time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            seconds = time.perf_counter() - begun
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requested(scope["method"], route, status, seconds)
            _tell(scope, route, status, seconds)


def _tell(scope: Scope, route: str, status: int, seconds: float) -> None:
    """Failures are for the administrator, refusals for whoever looks, what went well for debugging."""
    tell = _log.error if status >= 500 else _log.info if status >= 400 else _log.debug
    given = scope.get("path_params", {})
    uids = {name: given[name] for name in _UIDS if _UID.fullmatch(str(given.get(name, "")))}
    tell(
        "request.answered",
        method=scope["method"],
        route=route,
        status=status,
        ms=round(seconds * 1000, 1),
        **uids,
    )
