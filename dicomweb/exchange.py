"""A request and its answer as values, and the ASGI endpoint that turns one into the other."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias
from urllib.parse import parse_qsl

import anyio
from anyio import to_thread
from starlette.types import Receive, Scope, Send

from dicomweb import errors
from dicomweb.errors import WebRefusal
from dicomweb.media_types import MediaType, parse_accept
from dicomweb.settings import WebSettings
from storage import incoming
from storage.blobs.in_file import EXTENSION, InFile, in_hand
from storage.errors import BadRequest
from storage.incoming import Incoming

_AUTHORITY = re.compile(r"[A-Za-z0-9._~-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
_MOST_PARAMETERS = 200
# Small pieces of an answer are joined up to this size before they go to the socket.
_GATHER = 512 << 10
# What is pulled of a streamed answer at a time: to change threads costs as much as to read a hundred kilobytes.
_PULL = 2 << 20
# Smaller pieces of a whole body are joined: copying them costs less than another call into the server.
_JOIN = 64 << 10


@dataclass(frozen=True, slots=True)
class Call:
    """One request without its body. Header names are in lower case; `query` keeps order and repetitions."""

    method: str
    path: Mapping[str, str]
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    # Absolute URL of the DICOMweb root, or its path alone when the Host header is unusable.
    root: str = "/dicom-web"
    # The path of the root as clients see it, with what a proxy takes off: for URIs that begin with a slash.
    mount: str = "/dicom-web"
    client: str = ""
    # What lends the socket in which the body lies, for a body that had better not be received as usual.
    lend: Callable[[], Incoming | None] = field(default=lambda: None, repr=False, compare=False)

    def parameter(self, name: str) -> str | None:
        """The last value of a query parameter, None when it is absent."""
        return next((value for key, value in reversed(self.query) if key == name), None)

    @property
    def accept(self) -> str:
        """What the client accepts, as text: the `accept` parameter supersedes the header (PS3.18 8.3.3.1)."""
        asked = self.parameter("accept") if self.query else None
        if asked is not None:
            # Unescaped in a query string, the + of application/dicom+json has been read as a space.
            return asked.strip().replace("dicom json", "dicom+json").replace("dicom xml", "dicom+xml")
        return self.headers.get("accept", "")

    def accepted(self) -> tuple[MediaType, ...]:
        """What the client accepts. Raises BadRequest."""
        return parse_accept(self.accept)


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and body. A tuple is the whole body; an iterator is streamed, pulled in worker threads."""

    status: int
    headers: Mapping[str, str]
    body: tuple[bytes, ...] | Stream = ()


# Bytes, and what lies in files, which need not be read to be sent.
Stream: TypeAlias = Iterator[bytes] | Iterator[bytes | InFile]
Reader = Callable[[Call], Answer]
# Must not wait, for a disk or a database or a lock that is held long: it runs in the event loop. None where it would have to.
ReaderAtHand = Callable[[Call], Answer | None]
Taker = Callable[[Call, Receive], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Handler:
    """What answers one method: `read` a request without a body, in a worker thread; `take` one with a body.

    `section` is where the standard describes the transaction, such as `PS3.18 10.4`. Work that takes long has a limiter of
    its own in `threads`, so that it cannot keep all of them. What `at_hand` has in memory is answered without a thread: changing
    to one and back costs more than such an answer.
    """

    section: str
    read: Reader | None = None
    take: Taker | None = None
    threads: anyio.CapacityLimiter | None = None
    at_hand: ReaderAtHand | None = None


class Endpoint:
    """An ASGI application for one path: each method by its handler, HEAD by that of GET.

    OPTIONS says in Allow which there are, and otherwise what its handler says, if there is one. `fixed` is what the path says
    beside its variables; a call has it among them.
    """

    def __init__(
        self, settings: WebSettings, methods: Mapping[str, Handler], fixed: Mapping[str, str] | None = None
    ) -> None:
        self._fixed = dict(fixed or {})
        self._settings = settings
        self._methods = {**({"HEAD": methods["GET"]} if "GET" in methods else {}), **methods}
        self._section = next(iter(methods.values())).section
        self._allow = ", ".join(sorted({*self._methods, "OPTIONS"}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; every exception becomes an error body of the one shape."""
        handler = self._methods.get(scope["method"])
        try:
            answer = await self._answer(handler, scope, receive)
        except Exception as error:  # noqa: BLE001 - the outermost place: answered, and logged where it is ours to mend
            answer = self._failure(error, handler.section if handler else self._section)
        await _send(answer, scope, receive, send, self._settings)

    async def _answer(self, handler: Handler | None, scope: Scope, receive: Receive) -> Answer:
        if handler is not None and handler.take is not None:
            return await handler.take(self._call(scope), receive)
        if handler is not None and handler.read is not None:
            call = self._call(scope)
            ready = handler.at_hand(call) if handler.at_hand is not None else None
            answer = ready if ready is not None else await to_thread.run_sync(handler.read, call, limiter=handler.threads)
            allow = {"Allow": self._allow} if scope["method"] == "OPTIONS" else {}
            return replace(answer, headers={**answer.headers, **allow}) if allow else answer
        if scope["method"] == "OPTIONS":
            return Answer(204, {"Allow": self._allow})
        raise WebRefusal(
            405, f"{scope['method']} is not possible here", f"use one of {self._allow}", {"Allow": self._allow}
        )

    def _call(self, scope: Scope) -> Call:
        call = call_of(scope, self._settings)
        return replace(call, path={**call.path, **self._fixed}) if self._fixed else call

    def _failure(self, error: BaseException, section: str) -> Answer:
        errors.note(error, section)
        headers = errors.headers_of(error, self._settings.retry_after)
        return Answer(errors.status_of(error), headers, (errors.body_of(error, section),))


def call_of(scope: Scope, settings: WebSettings) -> Call:
    """The request of an ASGI scope. Raises BadRequest for a query string that is not UTF-8 or far too long."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    client = scope.get("client")
    return Call(
        method=scope["method"],
        path=_checked(scope.get("path_params", {})),
        query=_query(scope.get("query_string", b"")),
        headers=headers,
        root=_root(scope, headers, settings),
        mount=scope.get("root_path", "") + settings.path,
        client=client[0] if client else "",
        lend=(scope.get("extensions") or {}).get(incoming.EXTENSION, lambda: None),
    )


def _checked(parameters: Mapping[str, str]) -> Mapping[str, str]:
    for value in parameters.values():
        if not value.isprintable():
            raise BadRequest("the path contains control characters; write UIDs with digits and dots")
    return parameters


def _query(raw: bytes) -> tuple[tuple[str, str], ...]:
    if not raw:
        return ()
    try:
        pairs = parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS
        )
    except UnicodeError as error:
        raise BadRequest("the query string is not percent-encoded UTF-8; encode it as RFC 3986 2.5 says") from error
    except ValueError as error:
        raise BadRequest(f"the query string has more than {_MOST_PARAMETERS} parameters; send fewer") from error
    return tuple(pairs)


def _root(scope: Scope, headers: Mapping[str, str], settings: WebSettings) -> str:
    if settings.public_url:
        return settings.public_url.rstrip("/") + settings.path
    # What a proxy takes off the path comes back here; scheme and host are the client's by now (`pacs.forwarded`).
    path = scope.get("root_path", "") + settings.path
    host = headers.get("host", "")
    return f"{scope.get('scheme', 'http')}://{host}{path}" if _AUTHORITY.fullmatch(host) else path


async def _send(answer: Answer, scope: Scope, receive: Receive, send: Send, settings: WebSettings) -> None:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in answer.headers.items()]
    headers.append((b"x-content-type-options", b"nosniff"))
    body = answer.body
    if isinstance(body, tuple) and answer.status not in (204, 304):
        headers.append((b"content-length", str(sum(map(len, body))).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if isinstance(body, tuple):
        await _send_whole(() if scope["method"] == "HEAD" else body, send, settings.send_idle_seconds)
    elif scope["method"] == "HEAD":
        await _close(body)
        await send({"type": "http.response.body", "body": b""})
    else:
        pump = _passed_on if EXTENSION in (scope.get("extensions") or {}) else _pump
        await _send_stream(body, receive, partial(pump, body, send, settings.send_idle_seconds))


async def _send_whole(body: tuple[bytes, ...], send: Send, idle: float) -> None:
    await _write(list(_writes(body)) or [b""], send, idle, more=False)


async def _write(writes: list[bytes], send: Send, idle: float, *, more: bool) -> bool:
    """False where the client has taken nothing for `idle` seconds."""
    try:
        for number, piece in enumerate(writes, start=1):
            # asyncio's own timeout: that of anyio costs more than the write.
            async with asyncio.timeout(idle):
                await send({"type": "http.response.body", "body": piece, "more_body": more or number < len(writes)})
    except TimeoutError:
        return False
    return True


def _writes(body: tuple[bytes, ...]) -> Iterator[bytes]:
    """Small pieces together, large ones as they are: a series' metadata is a thousand pieces, a frame is one."""
    small: list[bytes] = []
    size = 0
    for piece in body:
        if small and (len(piece) > _JOIN or size + len(piece) > _GATHER):
            yield b"".join(small)
            small, size = [], 0
        if len(piece) > _JOIN:
            yield piece
        else:
            small.append(piece)
            size += len(piece)
    if small:
        yield b"".join(small)


async def _send_stream(body: Stream, receive: Receive, pump: Callable[[], Awaitable[None]]) -> None:
    """Pull and send until the end, the client's leaving, or its taking nothing for `idle` seconds.

    An error in mid-stream, or a client that does not read, leaves the answer unfinished on purpose: the server
    then closes the connection, and the client sees that it has not got everything (RFC 9112 8).
    """

    async def until_gone(scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(until_gone, group.cancel_scope)
        try:
            await pump()
        except Exception as error:  # noqa: BLE001 - logged; headers are gone, so the connection is what says it
            errors.note(error, "answer cut short")
        finally:
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await _close(body)


async def _passed_on(body: Stream, send: Send, idle: float) -> None:
    """The server sends it by itself."""
    await send({"type": EXTENSION, "body": body, "idle": idle})


async def _pump(body: Stream, send: Send, idle: float) -> None:
    more, pieces = True, in_hand(body)
    while more:
        writes, more = await to_thread.run_sync(_pulled, pieces)
        more = await _write(writes, send, idle, more=more) and more


def _pulled(body: Iterator[bytes]) -> tuple[list[bytes], bool]:
    """The next pieces as they are to be written, at least one, and whether there may be more."""
    pieces: list[bytes] = []
    size = 0
    for piece in body:
        size += len(piece)
        pieces.append(piece)
        if size >= _PULL:
            return list(_writes(tuple(pieces))), True
    return list(_writes(tuple(pieces))) or [b""], False


async def _close(body: Stream) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        await to_thread.run_sync(close)
