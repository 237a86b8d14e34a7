"""The administration API: routes from a table of operations, from which `/api/openapi.json` is made too.

To add a route, write a module beside this one with `operations(…) -> tuple[Operation, ...]` and put it into `routes` of
`pacs.admin`:

    Operation("PUT", "/api/things/{name}", change, "Change a thing.", takes=NewThing, gives=Thing)

- The handler is a plain function from `Asked` to what `gives` describes. It runs in a worker thread and may block.
- `takes` and `gives` are pydantic models or types of them; `asked.body` has been validated when the handler sees it.
- `asks` is the model of the query's parameters, all of them optional; `asked.query` has been validated likewise.
- Refusals are raised: an error of `storage.errors`, or `WebRefusal` with its status and what to do.
- HEAD and OPTIONS come by themselves: OPTIONS says in Allow what there is, and in Link where it is described (RFC 8631).
- `deploy/reference.md` names every path; a test fails where one is missing.

A change comes from this server's own pages or from a program, never from a page elsewhere: see `_ours`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import anyio
from anyio import to_thread
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from pacs.admin.openapi import document
from pacs.admin.principals import Principal, Rule
from storage import problems
from storage.errors import LimitExceeded
from storage.problems import WebRefusal

DOCUMENT = "/api/openapi.json"
_CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_BODY_BYTES = 1 << 20
_BODY_SECONDS = 30.0
_RETRY_AFTER = 5
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
# Administration waits for other machines (C-ECHO); it must not keep the threads that answer viewers.
_THREADS = 8


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, understood: parameters of the path and the query, the validated body, and who asks."""

    path: Mapping[str, str]
    body: Any
    principal: Principal
    query: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Operation(NamedTuple):
    """One method of one path. `takes` None: no body; `gives` None: answered with 204 and nothing."""

    method: str
    path: str
    handler: Callable[[Asked], object]
    summary: str
    takes: Any = None
    gives: Any = None
    asks: type[BaseModel] | None = None
    # Of another type than JSON the handler gives a Response of its own, and `gives` says what each part of it is.
    media_type: str = "application/json"


def routes(operations: Iterable[Operation], *, rule: Rule, public_url: str = "") -> list[BaseRoute]:
    """The routes of all operations, their description, and a refusal for every other path under `/api/`."""
    table = tuple(operations)
    described = Operation("GET", DOCUMENT, lambda _asked: document(table), "This description.", gives=dict[str, Any])
    paths: dict[str, dict[str, Operation]] = {}
    for operation in (*table, described):
        paths.setdefault(operation.path, {})[operation.method] = operation
    paths["/api/{rest:path}"] = {}
    threads = anyio.CapacityLimiter(_THREADS)
    return [Route(path, _Endpoint(methods, rule, public_url, threads)) for path, methods in paths.items()]


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """An ASGI application for one path; every exception becomes an error body of the one shape."""

    methods: Mapping[str, Operation]
    rule: Rule
    public_url: str
    threads: anyio.CapacityLimiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        try:
            answer = await self._answer(method, scope, receive)
        except Exception as error:  # noqa: BLE001 - the outermost place: answered, and logged where it is ours to mend
            answer = self._failure(error, method)
        await answer(scope, receive, send)

    async def _answer(self, method: str, scope: Scope, receive: Receive) -> Response:
        principal = self.rule(scope)
        if method == "OPTIONS" and self.methods:
            described = {"Allow": self._allow(), "Link": f'<{scope.get("root_path", "")}{DOCUMENT}>; rel="service-desc"'}
            return Response(status_code=204, headers={**_HEADERS, **described})
        operation = self.methods.get(method)
        if operation is None:
            raise self._missing(method)
        body = None
        if method in _CHANGES:
            _ours(scope, self.public_url)
            body = await _body(operation, Headers(scope=scope), receive)
        asked = Asked(scope.get("path_params", {}), body, principal, _query(operation, scope), Headers(scope=scope))
        given = await to_thread.run_sync(operation.handler, asked, limiter=self.threads)
        if isinstance(given, Response):
            # Of what is sent without end, HEAD has the beginning.
            return given if scope["method"] != "HEAD" else Response(headers=_HEADERS, media_type=given.media_type)
        if operation.gives is None:
            return Response(status_code=204, headers=_HEADERS)
        content = TypeAdapter(operation.gives).dump_json(given)
        return Response(content, headers=_HEADERS, media_type="application/json")

    def _allow(self) -> str:
        return ", ".join(sorted({*self.methods, "OPTIONS"} | ({"HEAD"} if "GET" in self.methods else set())))

    def _missing(self, method: str) -> WebRefusal:
        if not self.methods:
            return WebRefusal(404, "there is no such path in the administration API", f"see {DOCUMENT} for those there are")
        allow = self._allow()
        return WebRefusal(405, f"{method} is not possible here", f"use one of {allow}", {"Allow": allow})

    def _failure(self, error: BaseException, method: str) -> Response:
        operation = self.methods.get(method)
        reference = _reference(operation) if operation else DOCUMENT
        problems.note(error, reference)
        headers = {**_HEADERS, **problems.headers_of(error, _RETRY_AFTER)}
        return Response(problems.body_of(error, reference), problems.status_of(error), headers=headers)


def _reference(operation: Operation) -> str:
    """Where the operation is described, as a JSON pointer (RFC 6901) into the document."""
    return f"{DOCUMENT}#/paths/{operation.path.replace('/', '~1')}/{operation.method.lower()}"


def _ours(scope: Scope, public_url: str) -> None:
    """Refuse a change that a browser sends for a page of another origin (cross-site request forgery).

    Browsers say whose page it is in Sec-Fetch-Site, older ones in Origin; programs say neither.
    """
    headers = Headers(scope=scope)
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        ours = site in ("same-origin", "none")
    else:
        ours = origin is None or origin in (_origin(public_url), f"{scope.get('scheme', 'http')}://{headers.get('host', '')}")
    if not ours:
        raise WebRefusal(
            403,
            "a page of another site asked for this change",
            "make changes from this server's own pages or from a program; behind a proxy, set PACS_PUBLIC_URL",
        )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _query(operation: Operation, scope: Scope) -> BaseModel | None:
    if operation.asks is None:
        return None
    try:
        pairs = parse_qsl(scope.get("query_string", b"").decode("ascii"), keep_blank_values=True, errors="strict")
        return operation.asks.model_validate_strings(dict(pairs))
    except ValidationError as error:
        raise WebRefusal(400, _wrong(error), f"ask what {_reference(operation)} describes") from None
    except ValueError:
        raise WebRefusal(400, "the query string is not percent-encoded UTF-8", "encode it as RFC 3986 2.5 says") from None


async def _body(operation: Operation, headers: Headers, receive: Receive) -> Any:
    # A form on a page elsewhere can send anything but this type without asking first (Fetch, CORS preflight);
    # nor can it send DELETE, which needs no body.
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if operation.method != "DELETE" and kind != "application/json":
        raise WebRefusal(415, "the body is not JSON by its Content-Type", "send Content-Type: application/json")
    raw = await _read(receive)
    if operation.takes is None:
        return None
    try:
        return TypeAdapter(operation.takes).validate_json(raw)
    except ValidationError as error:
        raise WebRefusal(400, _wrong(error), f"send what {_reference(operation)} describes") from None


def _wrong(error: ValidationError) -> str:
    """What is wrong, by the names of the members and never by their values."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'the body'}: {one['msg']}" for one in found[:10])


async def _read(receive: Receive) -> bytes:
    pieces, size = [], 0
    with anyio.move_on_after(_BODY_SECONDS) as waiting:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise WebRefusal(400, "the request ended before its body did", "send it again")
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > _BODY_BYTES:
                raise LimitExceeded(f"the body is larger than {_BODY_BYTES >> 20} MiB")
            more = message.get("more_body", False)
    if waiting.cancelled_caught:
        raise WebRefusal(408, f"the body did not come within {_BODY_SECONDS:.0f} s", "send it again")
    return b"".join(pieces)
