"""CORS (Fetch 3.2): which pages elsewhere may use DICOMweb, on every resource and every kind of answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import httpx2
import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from dicomweb import cors
from dicomweb.settings import WebSettings
from storage.archive import Archive
from tests.support import web
from tests.support.archive import Store
from tests.support.made import instance

VIEWER, OTHER = "https://viewer.example", "https://other.example"
ALLOWED = "access-control-allow-origin"
NONE: dict[str, str] = {}


@pytest.fixture
def client(archive: Archive) -> TestClient:
    """A service that scripts from one viewer may use."""
    return web.client(archive, WebSettings(cors_origins=(VIEWER,)))


def names(answer: httpx2.Response, header: str) -> set[str]:
    return {one.strip().lower() for one in answer.headers.get(header, "").split(",")} - {""}


class Asked(NamedTuple):
    """A request and the status of its answer, whoever's page asks."""

    method: str
    path: str
    status: int
    headers: Mapping[str, str] = NONE


ASKED = [
    Asked("GET", "studies", 200),
    Asked("HEAD", "studies", 200),
    Asked("GET", "studies?limit=x", 400),
    Asked("GET", "studies/1.2.3", 404),
    Asked("GET", "nothing/here", 404),
    Asked("PUT", "studies", 405),
    Asked("POST", "studies", 415, {"Content-Type": "text/plain"}),
    Asked("GET", "studies", 406, {"Accept": "image/gif"}),
    Asked("GET", "workitems/1.2.3", 404),
    Asked("GET", "http://pacs.test/wado", 400),
]


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: f"{asked.method} {asked.path} {asked.status}")
def test_a_page_that_is_allowed_reads_every_answer(client: TestClient, asked: Asked) -> None:
    answer = client.request(asked.method, asked.path, headers={**asked.headers, "Origin": VIEWER})
    assert answer.status_code == asked.status
    assert answer.headers[ALLOWED] == VIEWER
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert names(answer, "access-control-expose-headers") == {name.lower() for name in cors.READ}
    assert "origin" in names(answer, "vary")
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"


@pytest.mark.parametrize("origin", [OTHER, "null", "http://viewer.example", "https://viewer.example.evil.test", None])
def test_other_pages_are_told_nothing(client: TestClient, origin: str | None) -> None:
    answer = client.get("studies", headers={"Origin": origin} if origin else {})
    assert [name for name in answer.headers if name.startswith("access-control-")] == []
    # A cache must not give this answer to the page that is allowed.
    assert names(answer, "vary") >= {"origin", "accept"}


def test_not_modified_is_readable_too(client: TestClient) -> None:
    etag = client.get("studies", headers={"Origin": VIEWER}).headers["etag"]
    answer = client.get("studies", headers={"Origin": VIEWER, "If-None-Match": etag})
    assert (answer.status_code, answer.headers[ALLOWED], answer.headers["etag"]) == (304, VIEWER, etag)
    assert names(answer, "vary") >= {"origin", "accept"}


def test_compressed_metadata_varies_by_both(client: TestClient, store: Store) -> None:
    stored = store(instance())
    path = f"studies/{stored.uids.study}/metadata"
    answer = client.get(path, headers={"Origin": VIEWER, "Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert names(answer, "vary") >= {"origin", "accept-encoding"}


def preflight(client: TestClient, path: str, origin: str, method: str = "GET", asked: str = "", **more: str) -> httpx2.Response:
    headers = {"Origin": origin, "Access-Control-Request-Method": method, **more}
    if asked:
        headers["Access-Control-Request-Headers"] = asked
    answer: httpx2.Response = client.options(path, headers=headers)
    return answer


@pytest.mark.parametrize("path", ["studies", "studies/1.2/series/1.3/instances/1.4/frames/1", "workitems", "http://pacs.test/wado", "nowhere"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_preflights_are_answered(client: TestClient, path: str, method: str) -> None:
    sent = "accept,authorization,content-type,if-none-match,prefer,range"
    answer = preflight(client, path, VIEWER, method, sent)
    assert (answer.status_code, answer.content, answer.headers[ALLOWED]) == (204, b"", VIEWER)
    assert method in answer.headers["access-control-allow-methods"]
    assert names(answer, "access-control-allow-headers") >= set(sent.split(","))
    assert names(answer, "vary") >= {"origin", "access-control-request-method", "access-control-request-headers"}
    assert int(answer.headers["access-control-max-age"]) >= 600


@pytest.mark.parametrize(
    ("origin", "method", "asked", "says"),
    [
        (OTHER, "GET", "", "origin"),
        (VIEWER, "TRACE", "", "method"),
        (VIEWER, "GET", "x-evil", "headers"),
        (OTHER, "TRACE", "x-evil", "origin, method, headers"),
    ],
)
def test_refused_preflights_say_why(client: TestClient, origin: str, method: str, asked: str, says: str) -> None:
    answer = preflight(client, "studies", origin, method, asked)
    assert answer.status_code == 403
    assert set(answer.json()) == {"status", "error", "reference", "todo"}
    assert answer.json()["error"].endswith(says)
    assert "PACS_CORS_ORIGINS" in answer.json()["todo"]
    assert ALLOWED not in answer.headers


def test_a_private_network_opens_to_pages_that_are_allowed(client: TestClient) -> None:
    asked = {"Access-Control-Request-Private-Network": "true"}
    assert preflight(client, "studies", VIEWER, **asked).headers["access-control-allow-private-network"] == "true"
    assert preflight(client, "studies", OTHER, **asked).status_code == 403


def test_options_without_a_page_is_no_preflight(client: TestClient) -> None:
    assert "GET" in client.options("studies").headers["allow"]


def test_nothing_is_allowed_until_it_is_set(archive: Archive) -> None:
    client = web.client(archive)
    answer = client.get("studies", headers={"Origin": VIEWER})
    assert answer.status_code == 200
    assert [name for name in answer.headers if name.startswith("access-control-")] == []
    assert "origin" not in names(answer, "vary"), "answers are the same for all, and caches may know"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert preflight(client, "studies", VIEWER).status_code == 403


def test_a_star_is_every_page_without_its_credentials(archive: Archive) -> None:
    client = web.client(archive, WebSettings(cors_origins=("*",)))
    answer = client.get("studies", headers={"Origin": OTHER})
    assert answer.headers[ALLOWED] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    assert preflight(client, "studies", OTHER).headers[ALLOWED] == "*"


CHANGES = [
    # A page's own origin; Sec-Fetch-Site, where the browser says it; is the change taken (404: there is no such workitem)?
    (None, None, 404),
    ("http://pacs.test", None, 404),
    ("http://pacs.test", "same-origin", 404),
    (VIEWER, "cross-site", 404),
    (VIEWER, None, 404),
    (OTHER, None, 403),
    (OTHER, "cross-site", 403),
    ("null", "cross-site", 403),
    ("http://public.test", None, 404),
]


@pytest.mark.parametrize(("origin", "site", "status"), CHANGES)
def test_foreign_pages_change_nothing(archive: Archive, origin: str | None, site: str | None, status: int) -> None:
    """A POST without a body is sent without a preflight: cross-site request forgery."""
    settings = WebSettings(cors_origins=(VIEWER,), public_url="http://public.test")
    headers = {"Origin": origin, "Sec-Fetch-Site": site}
    answer = web.client(archive, settings).post(
        "workitems/1.2.3/cancelrequest", headers={name: value for name, value in headers.items() if value}
    )
    assert answer.status_code == status
    assert set(answer.json()) == {"status", "error", "reference", "todo"}


@pytest.mark.parametrize(("origin", "status"), [(VIEWER, None), (OTHER, 1008), ("http://pacs.test", None)])
def test_event_channels_open_to_pages_that_are_allowed(client: TestClient, origin: str, status: int | None) -> None:
    connecting = client.websocket_connect("ws://pacs.test/dicom-web/subscribers/VIEWER", headers={"Origin": origin})
    if status is None:
        with connecting:
            return
    with pytest.raises(WebSocketDisconnect) as caught, connecting:
        pass
    assert caught.value.code == status
