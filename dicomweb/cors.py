"""Scripts of web pages elsewhere: which may use DICOMweb, and what of an answer they may read (Fetch 3.2, the CORS protocol).

Starlette's middleware decides and writes the headers. What it does not do is done here: a refused preflight has the one
error shape and says what to set; pages that are not allowed are told nothing, and change nothing by requests that need no
preflight (cross-site request forgery); answers say whether other sites may embed them (Fetch 3.7,
Cross-Origin-Resource-Policy), which a cross-origin isolated page wants to know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicomweb.settings import WebSettings
from storage.problems import WebRefusal, body_of, headers_of

# What viewers and clients send beyond what any page may (Fetch 2.2.2), and what they read beyond what any page may.
SENT: Final = ("Authorization", "Content-Type", "If-Match", "If-None-Match", "Prefer", "Range")
READ: Final = (
    *("Accept-Ranges", "Content-Disposition", "Content-Encoding", "Content-Length", "Content-Location", "Content-Range"),
    *("ETag", "Link", "Location", "Preference-Applied", "Retry-After", "Warning", "X-Total-Count"),
)
# Everywhere: what a resource does not have, its own 405 says in words that a page can show.
METHODS: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT")
# Browsers believe a preflight's answer for two hours at most.
_SECONDS: Final = 7200
_REFERENCE: Final = "Fetch 3.2 (CORS)"
_CHANGES: Final = frozenset({"DELETE", "PATCH", "POST", "PUT"})


class CrossOrigin(CORSMiddleware):
    """ASGI middleware: pages of `settings.cors_origins` may use what is behind it.

    `*` among them stands for all pages, without their credentials.
    """

    def __init__(self, app: ASGIApp, settings: WebSettings) -> None:
        origins = settings.cors_origins
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=SENT,
            expose_headers=READ,
            # A proxy that authenticates may do so by a cookie, or a certificate.
            allow_credentials="*" not in origins,
            # Such a page may be on the internet, and this server is not: the same permission, asked by another header.
            allow_private_network=True,
            max_age=_SECONDS,
        )
        self._settings = settings
        self._embedding = "cross-origin" if origins else "same-origin"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer preflights, refuse changes that foreign pages ask for, and pass on all else."""
        if scope["method"] in _CHANGES and not self._may_change(Headers(scope=scope), scope.get("scheme", "http")):
            await _refused("changes need its origin to be allowed")(scope, receive, send)
            return
        await super().__call__(scope, receive, send)

    def _may_change(self, headers: Headers, scheme: str) -> bool:
        return self.is_allowed_origin(headers.get("origin", "")) or is_own_page(headers, scheme, self._settings.public_url)

    def preflight_response(self, request_headers: Headers) -> Response:
        """204 with what is allowed, or 403 in the shape of every error."""
        given = super().preflight_response(request_headers)
        allowed = {name: value for name, value in given.headers.items() if not name.startswith("content-")}
        if given.status_code < 400:
            return Response(status_code=204, headers=allowed)
        refused = bytes(given.body).decode("utf-8").removeprefix("Disallowed CORS ")
        return _refused(f"refused is its {refused}", {"Vary": allowed["vary"]})

    async def send(self, message: Message, send: Send, request_headers: Headers) -> None:
        """Add to the head of an answer what a page may do with it."""
        if message["type"] != "http.response.start":
            await send(message)
            return
        headers = MutableHeaders(scope=message)
        headers["Cross-Origin-Resource-Policy"] = self._embedding
        origin = request_headers.get("origin")
        if origin is not None and self.is_allowed_origin(origin):
            await super().send(message, send, request_headers)
            return
        if self.allow_origins:
            headers.add_vary_header("Origin")
        await send(message)


def is_own_page(headers: Headers, scheme: str, public_url: str) -> bool:
    """Whether a request comes from this server's own pages, or from a program, which says nothing of pages.

    Browsers say whose page it is in Sec-Fetch-Site, but not to every address, and in Origin.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site in ("same-origin", "none")
    return origin is None or origin in (f"{scheme}://{headers.get('host', '')}", _origin(public_url))


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _refused(why: str, headers: Mapping[str, str] | None = None) -> Response:
    error = WebRefusal(
        403,
        f"a page of another site may not ask this: {why}",
        "have the administrator add the page's origin, as https://HOST:PORT, to PACS_CORS_ORIGINS (or, where it is this server's"
        f" own page behind a proxy, set PACS_PUBLIC_URL); pages may use {', '.join(METHODS)} and send {', '.join(SENT)}",
    )
    return Response(body_of(error, _REFERENCE), 403, headers={**(headers or {}), **headers_of(error, 0)})
