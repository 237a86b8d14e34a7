"""`/admin/`: pages for an administrator, rendered here; what they change they change through the API, by a small script.

A page is a function from an `Asked` to what its template needs; parts of pages that are fetched anew by themselves (the live
log, who wants to connect) are pages too, under `/admin/parts/`. Nothing is loaded from elsewhere, and no script is inline.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import anyio
from anyio import to_thread
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel, ValidationError
from starlette.datastructures import QueryParams
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from pacs.admin.associations import AssociationFilter, shown_of, whole
from pacs.admin.preset_pages import PresetPages
from pacs.admin.principals import Principal, Rule
from pacs.admin.remote import Remote
from pacs.admin.sending_pages import SendingPages
from pacs.admin.worklist_pages import WorklistPages
from pacs.ae_titles import own_titles
from pacs.certificates import known_certificates
from pacs.scp import reasons
from pacs.tls import Credentials
from storage import problems
from storage.deidentification.profile import MEANING
from storage.errors import NotFound
from storage.index import Index, associations
from storage.index.ae import Right, UnknownCallers, ae_title_of, ae_titles, is_title
from storage.index.callers import Caller, State, callers
from storage.index.identities import identity_of
from storage.problems import WebRefusal

_HERE: Final = Path(__file__).parent
_STATIC: Final = {"admin.css": "text/css", "admin.js": "text/javascript"}
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
}
_ROWS: Final = 100
_THREADS: Final = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for a page."""

    path: Mapping[str, str]
    query: QueryParams
    principal: Principal


@dataclass(frozen=True, slots=True)
class Pages:
    """What the pages show: the index, and what we are called and do with unknown callers by the settings."""

    index: Index
    calling: str
    unknown_callers: str
    credentials: Credentials

    def aes(self, _asked: Asked) -> dict[str, Any]:
        """AE titles: who wants to connect, nodes, our own."""
        nodes = ae_titles(self.index)
        return {
            **self.waiting(_asked),
            "nodes": nodes,
            "certificates": known_certificates(self.credentials, nodes),
            "own": own_titles(self.index, self.calling),
            "first": self.calling,
            "unknown_callers": self.unknown_callers,
            "unknown_choices": list(UnknownCallers),
            "profile_words": MEANING,
        }

    def waiting(self, _asked: Asked) -> dict[str, Any]:
        """Who wants to connect, may once, or is blocked."""
        known = callers(self.index)
        waiting: dict[str, list[Caller]] = {}
        for one in known:
            if one.state is not State.BLOCKED:
                waiting.setdefault(one.address, []).append(one)
        return {"waiting": waiting, "blocked": [one for one in known if one.state is State.BLOCKED], "rights": list(Right)}

    def node(self, asked: Asked) -> dict[str, Any]:
        """One node, to be changed and asked for a C-ECHO."""
        title = asked.path["title"]
        found = ae_title_of(self.index, title) if title.isprintable() else None
        if found is None:
            raise NotFound("there is no node of this AE title")
        return {"node": found, "identity": identity_of(self.index, title), "rights": list(Right)}

    def own(self, asked: Asked) -> dict[str, Any]:
        """One AE title of ours, to be changed."""
        title = asked.path["title"].strip()
        found = next((one for one in own_titles(self.index, self.calling) if one.title == title), None)
        if found is None:
            raise NotFound("this archive has no such AE title")
        return {"own": found, "first": self.calling, "unknown_choices": list(UnknownCallers), "profile_words": MEANING}

    def log(self, asked: Asked) -> dict[str, Any]:
        """The log of associations, the latest first."""
        query = _filter(asked.query)
        found = associations.search(self.index, query.wanted, before=query.before, limit=_ROWS + 1)
        shown = found[:_ROWS]
        return {
            "associations": [shown_of(one) for one in shown],
            "older": shown[-1].sequence if len(found) > _ROWS else None,
            "query": query,
            "outcomes": list(associations.Outcome),
            "directions": list(associations.Direction),
        }

    def association(self, asked: Asked) -> dict[str, Any]:
        """One association, with everything that was proposed."""
        found = whole(self.index, asked.path["number"])
        ours = {one.title for one in own_titles(self.index, self.calling)}
        return {
            "association": found,
            "name_of": reasons.name_of,
            "results": _RESULTS,
            "wrongly_called": found.direction == "in" and found.outcome == "refused" and found.called_ae not in ours and is_title(found.called_ae),
        }


# PS3.8 table 9-18, and what has had no answer.
_RESULTS: Final = {
    None: "not answered",
    0: "accepted",
    1: "no right",
    3: "SOP class not supported",
    4: "transfer syntaxes not supported",
}


def routes(
    index: Index, *, calling: str, unknown_callers: str, rule: Rule, remote: Remote, credentials: Credentials
) -> list[BaseRoute]:
    """Every page. `remote` is asked what other archives have; `credentials` are ours over TLS."""
    pages = Pages(index, calling, unknown_callers, credentials)
    table: dict[str, tuple[str, Callable[[Asked], dict[str, Any]]]] = {
        "/admin/": ("aes.html", pages.aes),
        "/admin/aes/{title}": ("node.html", pages.node),
        "/admin/own-aes/{title}": ("own.html", pages.own),
        "/admin/associations": ("log.html", pages.log),
        "/admin/associations/{number}": ("association.html", pages.association),
        "/admin/parts/callers": ("callers.html", pages.waiting),
        "/admin/parts/associations": ("rows.html", pages.log),
        **SendingPages(index, remote).table(),
        **PresetPages(index).table(),
        **WorklistPages(index).table(),
    }
    threads = anyio.CapacityLimiter(_THREADS)
    made: list[BaseRoute] = [Route(path, _Page(*row, rule, threads)) for path, row in table.items()]
    return [Route("/admin", _to_the_pages), *made, Route("/admin/static/{name}", _Static(rule))]


def _to_the_pages(request: Any) -> Response:
    return RedirectResponse(f"{request.scope.get('root_path', '')}/admin/")


@dataclass(frozen=True, slots=True)
class _Page:
    """An ASGI application for one page; what goes wrong becomes a page that says so."""

    template: str
    context: Callable[[Asked], dict[str, Any]]
    rule: Rule
    threads: anyio.CapacityLimiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(scope)
        except Exception as error:  # noqa: BLE001 - the outermost place: answered, and logged where it is ours to mend
            answer = _failure(error, scope)
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope) -> Response:
        principal = self.rule(scope)
        if scope["method"] not in ("GET", "HEAD"):
            raise WebRefusal(405, f"{scope['method']} is not possible here", "use GET", {"Allow": "GET, HEAD"})
        asked = Asked(scope.get("path_params", {}), QueryParams(scope.get("query_string", b"")), principal)
        content = await to_thread.run_sync(self._rendered, asked, scope.get("root_path", ""), limiter=self.threads)
        return Response(content, headers=_HEADERS, media_type="text/html")

    def _rendered(self, asked: Asked, root: str) -> str:
        return _environment().get_template(self.template).render(root=root, **self.context(asked))


@dataclass(frozen=True, slots=True)
class _Static:
    """The pages' style and script."""

    rule: Rule

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self.rule(scope)
            name = scope["path_params"]["name"]
            if name not in _STATIC:
                raise NotFound("there is no such file")
            headers = {**_HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}
            answer = Response(_content(name), headers=headers, media_type=_STATIC[name])
        except Exception as error:  # noqa: BLE001 - as above
            answer = _failure(error, scope)
        await answer(scope, receive, send)


@cache
def _content(name: str) -> bytes:
    return (_HERE / "static" / name).read_bytes()


@cache
def _environment() -> Environment:
    made = Environment(loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    # A changed file has another address, so that a browser may keep it.
    made.globals["versions"] = {name: hashlib.sha256(_content(name)).hexdigest()[:12] for name in _STATIC}
    made.filters["kinds"] = lambda rights: ", ".join(right for right in Right if right in rights) or "nothing"
    made.filters["size"] = _size
    return made


def _size(number: int) -> str:
    """Bytes for people."""
    if number < 1024:
        return f"{number} bytes"
    power = min(4, (number.bit_length() - 1) // 10)
    return f"{number / 1024**power:.1f} {'KMGT'[power - 1]}iB"


def _filter(query: QueryParams) -> AssociationFilter:
    """What a form asks; a field that was left empty asks nothing."""
    try:
        return AssociationFilter.model_validate_strings({name: value for name, value in query.items() if value})
    except ValidationError:
        raise WebRefusal(400, "the log cannot be searched for that", "use the form above the log") from None


def _failure(error: BaseException, scope: Scope) -> Response:
    problems.note(error, "/admin/")
    problem: dict[str, Any] = problem_of(error).model_dump()
    content = _environment().get_template("error.html").render(root=scope.get("root_path", ""), **problem)
    headers = error.headers if isinstance(error, WebRefusal) else {}
    return Response(content, problem["status"], headers={**_HEADERS, **headers}, media_type="text/html")


class _Problem(BaseModel):
    status: int
    error: str
    reference: str
    todo: str


def problem_of(error: BaseException) -> _Problem:
    """What went wrong, as the API says it."""
    return _Problem.model_validate_json(problems.body_of(error, "/admin/"))
