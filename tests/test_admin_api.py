"""The administration API: what it does, whom it refuses and how, and that it is described as it is."""

from __future__ import annotations

import json
import re
import socket
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Scope

from pacs import admin
from pacs.admin.principals import Principal
from storage.archive import Archive
from storage.index.ae import AeTitle, Right, add_ae_title, ae_titles
from storage.problems import WebRefusal

PLACE = {"host": "192.0.2.7", "port": 104, "description": "CT in room 2"}
# Where POST takes a body.
POSTED = {
    *("/api/worklist", "/api/callers", "/api/callers/{number}/allow", "/api/callers/{number}/allow-once"),
    *("/api/transfers", "/api/transfers/again", "/api/aes/{title}/find"),
    *("/api/searchable-attributes", "/api/presets"),
}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def web(archive: Archive) -> TestClient:
    return TestClient(_application(archive), base_url="http://pacs.test", raise_server_exceptions=False)


def _application(archive: Archive, **more: Any) -> Starlette:
    return Starlette(routes=admin.routes(archive, calling="LIGHTBOX", **more))


def _problem(answer: Any) -> dict[str, Any]:
    """An error body of the one shape, without cache."""
    body: dict[str, Any] = answer.json()
    assert set(body) == {"status", "error", "reference", "todo"}
    assert body["status"] == answer.status_code
    assert answer.headers["cache-control"] == "no-store"
    return body


def test_a_node_is_added_changed_listed_and_removed(web: TestClient, archive: Archive) -> None:
    node = {"title": "CT1", **PLACE, "rights": list(Right), "addresses": [], "transfer_syntaxes": [], "quirks": {"character_set": "", "coercion": [], "silent_coercion": False}, "tls": False, "tls_certificate": "", "tls_only": False, "certificates": [], "destinations": [], "url": "", "login": "", "identity": None}
    assert web.get("/api/aes").json() == []
    added = web.put("/api/aes/CT1", json=PLACE)
    assert (added.status_code, added.json()) == (200, node)
    assert ae_titles(archive.index) == [AeTitle("CT1", "192.0.2.7", 104, "CT in room 2")]
    assert web.put("/api/aes/CT1", json={"host": "ct1", "port": 11112}).json()["description"] == ""
    assert [one["host"] for one in web.get("/api/aes").json()] == ["ct1"]
    assert web.get("/api/aes/%20CT1%20").json()["title"] == "CT1", "spaces around do not matter (PS3.5 6.2)"
    removed = web.delete("/api/aes/CT1")
    assert (removed.status_code, removed.content) == (204, b"")
    assert ae_titles(archive.index) == []


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/api/aes", "GET, HEAD, OPTIONS"),
        ("/api/aes/CT1", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("/api/aes/CT1/echo", "OPTIONS, POST"),
        ("/api/openapi.json", "GET, HEAD, OPTIONS"),
    ],
)
def test_options_say_what_there_is_and_where_it_is_described(web: TestClient, path: str, allow: str) -> None:
    answer = web.options(path)
    assert (answer.status_code, answer.headers["allow"]) == (204, allow)
    assert answer.headers["link"] == '</api/openapi.json>; rel="service-desc"'
    if "HEAD" in allow and path != "/api/aes/CT1":
        assert (web.head(path).status_code, web.head(path).content) == (200, b"")
    assert web.options("/api/nothing").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("GET", "/api/aes/NOBODY", None, 404, "no node"),
        ("GET", "/api/aes/A%00B", None, 404, "no node"),
        ("DELETE", "/api/aes/NOBODY", None, 404, "no node"),
        ("POST", "/api/aes/NOBODY/echo", {}, 404, "no node"),
        ("PUT", "/api/aes/SEVENTEEN-LETTERS", PLACE, 400, "1 to 16"),
        ("PUT", "/api/aes/BACK%5CSLASH", PLACE, 400, "backslash"),
        ("PUT", "/api/aes/CT1", {**PLACE, "port": 0}, 400, "a port is a number"),
        ("PUT", "/api/aes/CT1", {**PLACE, "port": 65536}, 400, "port:"),
        ("PUT", "/api/aes/CT1", {**PLACE, "port": "104"}, 400, "port:"),
        ("PUT", "/api/aes/CT1", {"port": 104}, 400, "give the host"),
        ("PUT", "/api/aes/CT1", {**PLACE, "host": "a b"}, 400, "host:"),
        ("PUT", "/api/aes/CT1", {**PLACE, "description": "a\0b"}, 400, "description:"),
        ("PUT", "/api/aes/CT1", {**PLACE, "rights": ["delete"]}, 400, "rights.0:"),
        ("PUT", "/api/aes/CT1", {**PLACE, "addresses": ["10.0.0.300"]}, 400, "10.1.0.0/16"),
        ("PUT", "/api/aes/CT1", {**PLACE, "transfer_syntaxes": ["JPEG"]}, 400, "as a UID"),
        ("PUT", "/api/aes/CT1", {**PLACE, "quirks": {"character_set": "Cyrillic"}}, 400, "such as ISO_IR 144"),
        ("PUT", "/api/aes/CT1", {**PLACE, "quirks": {"issuer": "X"}}, 400, "quirks.issuer:"),
        ("PUT", "/api/aes/CT1", {**PLACE, "ssl": True}, 400, "ssl:"),
        ("PUT", "/api/aes/CT1", {**PLACE, "tls": True, "tls_certificate": "none"}, 400, "in PEM form"),
        ("PUT", "/api/aes/CT1", {**PLACE, "certificates": ["none"]}, 400, "SHA-256 fingerprint of 64"),
        ("PUT", "/api/aes/CT1", [], 400, "the body:"),
        ("PATCH", "/api/aes/CT1", {}, 405, "PATCH"),
        ("POST", "/api/aes", {}, 405, "POST"),
        ("GET", "/api/nothing", None, 404, "no such path"),
        ("POST", "/api/a/b/c", {}, 404, "no such path"),
    ],
)
def test_refusals(web: TestClient, method: str, path: str, body: Any, status: int, says: str) -> None:
    answer = web.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert says in _problem(answer)["error"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        # A page on another port of this machine, or of another host of the same domain.
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://pacs.test"}, 403),
        ({"Origin": "http://pacs.test"}, 200),
        ({"Origin": "https://pacs.hospital.test"}, 200),
        ({"Origin": "http://elsewhere.test"}, 403),
        ({"Origin": "null"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
    ],
)
def test_changes_come_from_our_own_pages_or_from_programs(
    archive: Archive, headers: dict[str, str], status: int
) -> None:
    application = _application(archive, public_url="https://pacs.hospital.test/pacs")
    web = TestClient(application, base_url="http://pacs.test")
    answer = web.put("/api/aes/CT1", content=json.dumps(PLACE), headers={**JSON, **headers})
    assert answer.status_code == status, answer.text
    assert len(ae_titles(archive.index)) == (status == 200)
    if status == 403:
        _problem(answer)
        assert web.delete("/api/aes/CT1", headers=headers).status_code == 403


def test_a_large_body_is_refused(web: TestClient) -> None:
    _problem(answer := web.put("/api/aes/CT1", content=b" " * (2 << 20), headers=JSON))
    assert answer.status_code == 413


def test_values_are_not_repeated_in_errors(web: TestClient) -> None:
    answer = web.put("/api/aes/CT1", json={**PLACE, "port": "DOE^JANE"})
    assert answer.status_code == 400
    assert "DOE" not in answer.text


def test_what_nobody_foresaw_is_an_error_without_details(
    web: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_index: object) -> list[AeTitle]:
        raise RuntimeError("DOE^JANE")

    monkeypatch.setattr("pacs.admin.entities.ae_titles", broken)
    answer = web.get("/api/aes")
    assert answer.status_code == 500
    assert "DOE" not in _problem(answer)["error"]


def test_every_operation_asks_who_it_is_first(archive: Archive) -> None:
    def nobody(_scope: Scope) -> Principal:
        raise WebRefusal(401, "nobody is signed in", "sign in")

    application = _application(archive, rule=nobody)
    web = TestClient(application, base_url="http://pacs.test")
    for route in application.routes:
        assert isinstance(route, Route)
        for method in ("GET", "PUT", "POST", "DELETE"):
            path = re.sub(r"\{[^}]*\}", "x", route.path)
            assert web.request(method, path, json={}).status_code == 401, (method, path)


def test_an_echo_says_how_far_it_came(web: TestClient, archive: Archive) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    add_ae_title(archive.index, AeTitle("CT1", "127.0.0.1", port))
    steps = web.post("/api/aes/CT1/echo", json={}).json()
    assert [(step["name"], step["ok"]) for step in steps] == [("name", True), ("port", False)]


def test_the_description_is_complete_and_its_references_lead_somewhere(web: TestClient) -> None:
    answer = web.get("/api/openapi.json")
    described = answer.json()
    assert described["openapi"].startswith("3.1")
    routes = {route.path for route in web.app.routes}  # type: ignore[attr-defined]
    assert routes - set(described["paths"]) == {"/api/openapi.json", "/api/{rest:path}"}
    identities = []
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            identities.append(operation["operationId"])
            assert operation["summary"].endswith("."), (method, path)
            names = [one["name"] for one in operation.get("parameters", []) if one["in"] == "path"]
            assert names == re.findall(r"\{(\w+)\}", path)
            assert "default" in operation["responses"]
            takes = method in ("put", "patch") or (method == "post" and path in POSTED)
            assert ("requestBody" in operation) == takes, (method, path)
    assert len(set(identities)) == len(identities)
    assert "#/$defs/" not in answer.text
    for reference in re.findall(r'"\$ref":\s*"#/components/schemas/(\w+)"', answer.text):
        assert reference in described["components"]["schemas"]


def test_a_refusal_refers_to_its_operation(web: TestClient) -> None:
    described = web.get("/api/openapi.json").json()
    reference = _problem(web.get("/api/aes/NOBODY"))["reference"]
    place = described
    for step in reference.removeprefix("/api/openapi.json#/").split("/"):
        place = place[step.replace("~1", "/")]
    assert place["operationId"] == "get_aes_title"
