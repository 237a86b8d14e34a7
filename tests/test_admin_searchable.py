"""`/api/searchable-attributes`: added, listed with progress and removed while the server runs, and found by searches."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pacs import admin
from storage.archive import Archive
from tests.support import web as dicomweb

ALL = "/api/searchable-attributes"


@pytest.fixture
def web(archive: Archive) -> TestClient:
    application = Starlette(routes=admin.routes(archive, calling="LIGHTBOX"))
    return TestClient(application, base_url="http://pacs.test", raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("body", "name", "shown"),
    [
        ({"attribute": "ProtocolName"}, "ProtocolName", {"path": ["00181030"], "vr": "LO", "level": "series"}),
        ({"attribute": "00181030"}, "00181030", {"attribute": "ProtocolName"}),
        ({"attribute": "ProcedureCodeSequence.CodeValue"}, "ProcedureCodeSequence.CodeValue", {"vr": "SH", "level": "study"}),
        (
            {"attribute": "00091001", "creator": "ACME", "vr": "LO", "level": "study"},
            "00091001?creator=ACME",
            {"path": ["0009xx01:ACME"], "vr": "LO", "level": "study"},
        ),
    ],
)
def test_a_life(web: TestClient, body: dict[str, str], name: str, shown: dict[str, Any]) -> None:
    assert web.get(ALL).json() == []
    made = web.post(ALL, json=body)
    assert made.status_code == 200
    assert {key: made.json()[key] for key in shown} == shown
    assert (made.json()["ready"], made.json()["done"], made.json()["total"]) == (False, 0, 0)
    assert web.get(ALL).json() == [made.json()]
    assert web.get(f"{ALL}/{name}").json() == made.json()
    assert web.delete(f"{ALL}/{name}").status_code == 204
    assert web.get(ALL).json() == []
    assert web.get(f"{ALL}/{name}").status_code == 404


def test_progress(web: TestClient, archive: Archive) -> None:
    web.post(ALL, json={"attribute": "ProtocolName"})
    [one] = archive.index.searchables.all()
    archive.index.searchables.progressed(one.pk, done=3, total=10, ready=False)
    found = web.get(f"{ALL}/ProtocolName").json()
    assert (found["ready"], found["done"], found["total"]) == (False, 3, 10)
    archive.index.searchables.progressed(one.pk, done=10, total=10, ready=True)
    assert web.get(f"{ALL}/ProtocolName").json()["ready"] is True


def test_searches_take_it_when_it_is_ready(web: TestClient, archive: Archive) -> None:
    searches = dicomweb.client(archive)
    private = {"00090010": "ACME", "00091001": "x"}
    assert searches.get("studies", params=private).status_code == 400
    web.post(ALL, json={"attribute": "00091001", "creator": "ACME", "vr": "LO", "level": "study"})
    assert searches.get("studies", params=private).status_code == 400
    archive.index.searchables.progressed(1, done=0, total=0, ready=True)
    archive.index.searchables.forget()
    assert searches.get("studies", params=private).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "why"),
    [
        ("POST", "", {"attribute": "NoSuchThing"}, 400, "no attribute"),
        ("POST", "", {"attribute": "PatientID"}, 400, "nothing to add"),
        ("POST", "", {"attribute": "PixelData"}, 400, "not matched"),
        ("POST", "", {"attribute": "00091001"}, 400, "creator"),
        ("POST", "", {"attribute": "00091001", "creator": "ACME"}, 400, "value representation"),
        ("POST", "", {"attribute": "ProtocolName", "level": "patient"}, 400, "level"),
        ("POST", "", {"attribute": ""}, 400, "attribute"),
        ("POST", "", {"attribute": "ProtocolName", "other": 1}, 400, "other"),
        ("GET", "/ProtocolName", None, 404, "not among"),
        ("DELETE", "/ProtocolName", None, 404, "not among"),
        ("DELETE", "/%00", None, 400, "no attribute"),
        ("GET", "/ProtocolName?of=x", None, 400, "of"),
        ("PUT", "/ProtocolName", {}, 405, "PUT"),
    ],
)
def test_refusals(web: TestClient, method: str, path: str, body: Any, status: int, why: str) -> None:
    answer = web.request(method, ALL + path, json=body)
    assert (answer.status_code, why in answer.text) == (status, True), answer.text


def test_twice(web: TestClient) -> None:
    assert web.post(ALL, json={"attribute": "ProtocolName"}).status_code == 200
    answer = web.post(ALL, json={"attribute": "00181030"})
    assert (answer.status_code, "already" in answer.json()["error"]) == (400, True)
