"""Who this server is called: a page elsewhere that had its own name point at 127.0.0.1 gets nothing (DNS rebinding)."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class OnlyHosts:
    """ASGI middleware: requests whose Host is not this machine's own or one of `urls` are answered 421.

    It stands where nobody has to log in because only this machine can connect: a browser on it connects for whatever
    page it shows, and the Host header is how to tell whose page that is.
    """

    def __init__(self, app: ASGIApp, urls: Iterable[str] = ()) -> None:
        self._app = app
        self._hosts = _LOOPBACK | {urlsplit(url).hostname or "" for url in urls if url}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            host = Headers(scope=scope).get("host")
            if host is not None and _name(host) not in self._hosts:
                if scope["type"] == "websocket":
                    # Before it is accepted: the server answers 403 (ASGI).
                    await send({"type": "websocket.close"})
                else:
                    await _refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


_BODY = orjson.dumps(
    {
        "status": 421,
        "error": "this server does not go by the name in the request's Host header",
        "reference": "RFC 9110 15.5.20",
        "todo": "use http://127.0.0.1 or localhost; behind a proxy, set PACS_PUBLIC_URL to the address that clients use",
    }
)
_refusal = Response(_BODY, 421, media_type="application/json")
