"""What reading again costs, counted: no statement, no object opened in a thread, no picture drawn; and never a stale answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Match, Route
from starlette.testclient import TestClient

from dicomweb import negotiation
from dicomweb.app import RESOURCES, routes
from dicomweb.settings import WebSettings
from dicomweb.shapes import ByShape
from storage.archive import Archive
from tests.support import made, web
from tests.support.web import Watched

INSTANCE = "studies/1.2.3/series/1.2.3.4/instances/1.2.3.4.1"
JPEG = {"accept": "image/jpeg"}
CASES: tuple[tuple[str, dict[str, str], list[str]], ...] = (
    (f"{INSTANCE}/frames/1", {}, ["resident"]),
    (f"{INSTANCE}/frames/1", {"accept": 'multipart/related; type="application/octet-stream"'}, ["resident"]),
    (f"{INSTANCE}/rendered", JPEG, []),
    (f"{INSTANCE}/rendered?window=100,200,linear", JPEG, []),
    (f"{INSTANCE}/frames/1/rendered", JPEG, []),
    (f"{INSTANCE}/thumbnail", JPEG, []),
)


@pytest.mark.parametrize(("path", "headers", "read"), CASES)
def test_asked_again_it_is_read_from_memory_and_nothing_else(
    archive: Archive, path: str, headers: dict[str, str], read: list[str]
) -> None:
    index: Any = Watched(archive.index)
    blobs: Any = Watched(archive.blobs)
    watched = replace(archive, index=index, blobs=blobs)
    with web.client(archive) as client:
        web.stow(client, [made.instance(1)])
    with web.client(watched, WebSettings(layout_cache_seconds=60, preset_cache_seconds=60)) as client:
        first = client.get(path, headers=headers)
        assert first.status_code == 200
        index.asked.clear()
        blobs.asked.clear()
        again = client.get(path, headers=headers)
        assert (index.asked, blobs.asked) == ([], read)
        assert (again.status_code, again.content, again.headers) == (200, first.content, first.headers)
        tag = {"if-none-match": first.headers["etag"]}
        assert client.get(path, headers=headers | tag).status_code == 304
        part = client.get(path, headers=headers | {"range": "bytes=1-3"})
        assert (part.status_code, part.content) == (206, first.content[1:4])


@pytest.mark.parametrize(("path", "headers"), [case[:2] for case in CASES])
def test_what_was_deleted_is_not_remembered(archive: Archive, path: str, headers: dict[str, str]) -> None:
    with web.client(archive, WebSettings(layout_cache_seconds=0)) as client:
        web.stow(client, [made.instance(1)])
        assert [client.get(path, headers=headers).status_code for _ in range(2)] == [200, 200]
        assert client.delete("studies/1.2.3").status_code < 300
        assert client.get(path, headers=headers).status_code in (404, 410)


def _first(candidates: list[BaseRoute], path: str) -> tuple[str, Any]:
    scope = {"type": "http", "method": "GET", "path": path, "root_path": ""}
    for one in candidates:
        match, child = one.matches(dict(scope))
        if match is Match.FULL:
            found = child.get("route", one)
            return getattr(found, "path", type(found).__name__), child.get("path_params")
    return "", None


def test_by_shape_every_path_finds_the_route_that_it_finds_without(archive: Archive) -> None:
    plain = routes(archive)
    paths = [one.path for one in RESOURCES] + ["/nothing", "/studies/1/bulkdata/a/b/c/d/e/f/g/h/i/j", "/studies/x/y/z/rendered", ""]
    for path in paths:
        for asked in ("/dicom-web" + path.replace("{", "").replace("}", "").replace(":path", "/0/1"), path):
            assert _first([ByShape(plain)], asked) == _first(plain, asked)
    assert any(isinstance(one, Route) for one in plain)
    with TestClient(Starlette(routes=[ByShape(plain)])) as client:
        assert client.get("/dicom-web/studies").status_code == 200


def test_what_a_client_accepts_is_weighed_once(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    weighed: list[Any] = []
    choose = negotiation.choose

    def counted(*given: Any) -> Any:
        weighed.append(given)
        return choose(*given)

    monkeypatch.setattr(negotiation, "choose", counted)
    accept = {"accept": 'multipart/related; type="application/octet-stream", */*;q=0.123'}
    with web.client(archive) as client:
        web.stow(client, [made.instance(1), made.instance(2)])
        weighed.clear()
        answers = [client.get(f"{INSTANCE[:-1]}{number}/frames/1", headers=accept) for number in (1, 2, 1)]
        assert [one.status_code for one in answers] == [200] * 3
        assert len(weighed) == 1
        # A text that is nobody's Accept is weighed each time: only so much is kept.
        long = {"accept": accept["accept"] + ", image/png" * 60 + " " * 1024}
        assert [client.get(f"{INSTANCE}/frames/1", headers=long).content for _ in range(2)] == [answers[0].content] * 2
        assert len(weighed) == 3
