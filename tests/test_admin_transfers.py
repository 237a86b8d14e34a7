"""`/api/routes`, `/api/transfers` and `/api/jobs`: rules changed while running, transfers watched, what was given up tried again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pacs import admin
from storage.archive import Archive
from storage.index.ae import AeTitle, add_ae_title
from storage.jobs import JobQueue
from storage.transfer_records import JOB_KINDS, SEND
from storage.types import Job
from tests.support.made import instance

ROUTE = {"to": "WS1", "conditions": {"Modality": "CT\\MR"}, "calling": ["CT*"], "when": "study", "quiet_seconds": 30, "sending": {"commit": True}}
WHOLE = {
    "name": "to the reading room", "enabled": True, "position": 0, "called": [], "imported": False, "replaced": False, "retrieved": False,
    **ROUTE, "quiet_seconds": 30.0, "sending": {"commit": True, "priority": "medium", "hours": "", "parallel": 1},
}  # fmt: skip
PRIORS = {"sources": ["PACS2"], "newest": 2, "trigger": "worklist"}


@pytest.fixture
def web(archive: Archive) -> TestClient:
    for title in ("WS1", "PACS2"):
        add_ae_title(archive.index, AeTitle(title, "127.0.0.1", 104))
    add_ae_title(archive.index, AeTitle("CT1", "", 0))
    add_ae_title(archive.index, AeTitle("WEB", "", 0, url="https://pacs.example/dicom-web"))
    application = Starlette(routes=admin.routes(archive, calling="LIGHTBOX"))
    return TestClient(application, base_url="http://pacs.test", raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("path", "body", "whole"),
    [("/api/routes", ROUTE, WHOLE), ("/api/prefetch-rules", PRIORS, {"name": "to the reading room", **PRIORS, "same_modality": True, "to": ""})],
)
def test_a_rule_lives(web: TestClient, path: str, body: dict[str, Any], whole: dict[str, Any]) -> None:
    one = f"{path}/to%20the%20reading%20room"
    assert web.get(path).json() == []
    assert web.get(one).status_code == 404
    for _ in range(2):
        put = web.put(one, json=body)
        assert (put.status_code, put.json() | whole) == (200, put.json())
    assert web.put(one, json={**body, "enabled": False}).json()["enabled"] is False
    assert [rule["name"] for rule in web.get(path).json()] == ["to the reading room"]
    assert web.delete(one).status_code == 204
    assert web.delete(one).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/api/routes/r", {"to": "WS1", "conditions": {"Modalty": "CT"}}, "no attribute"),
        ("/api/routes/r", {"to": "WS1", "conditions": {"ModalitiesInStudy": "CT"}}, "say Modality"),
        ("/api/routes/r", {"to": ""}, "AE title"),
        ("/api/routes/r", {"to": "WS1", "when": "later"}, "when"),
        ("/api/routes/r", {"to": "WS1", "sending": {"hours": "at night"}}, "22:00-06:00"),
        ("/api/routes/=r", {"to": "WS1"}, "begin with '='"),
        ("/api/routes/r", {"to": "WS1", "color": "red"}, "color"),
        ("/api/prefetch-rules/p", {}, "nodes that are asked"),
        ("/api/prefetch-rules/p", {"own": True}, "name the node"),
        ("/api/prefetch-rules/p", {"sources": ["PACS2"], "direct": True}, "name the node"),
    ],
)
def test_a_rule_that_is_none_is_refused(web: TestClient, path: str, body: dict[str, Any], text: str) -> None:
    answer = web.put(path, json=body)
    assert answer.status_code == 400
    assert text in answer.text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"node": "WEB"}, 200),
        ({"kind": "retrieve", "node": "PACS2", "then_to": "WEB"}, 200),
        # By STOW-RS it can only be sent to.
        ({"kind": "retrieve", "node": "WEB"}, 404),
    ],
)
def test_a_node_over_the_web_is_sent_to(web: TestClient, store: Callable[[bytes], object], body: dict[str, Any], status: int) -> None:
    store(instance())
    assert web.post("/api/transfers", json={"study": "1.2.3", **body}).status_code == status


def test_a_transfer_lives(web: TestClient, archive: Archive, store: Callable[[bytes], object]) -> None:
    for number in (1, 2):
        store(instance(number))
    made = web.post("/api/transfers", json={"node": "WS1", "study": "1.2.3"})
    assert made.status_code == 200
    one = f"/api/transfers/{made.json()['number']}"
    shown = web.get(one).json()
    assert {name: shown[name] for name in ("kind", "state", "node", "study", "total", "waiting", "rule")} == {
        "kind": "send", "state": "waiting", "node": "WS1", "study": "1.2.3", "total": 2, "waiting": 2, "rule": ""
    }  # fmt: skip
    queue = JobQueue(archive.index)
    (claimed,) = queue.claim("test", kinds=(JOB_KINDS[SEND],))
    assert web.get(one).json()["state"] == "running"
    assert web.post(f"{one}/again", json={}).status_code == 409
    queue.fail(claimed, "WS1 is away", retry=False)
    failed = web.get("/api/transfers?state=failed").json()
    assert [(t["state"], t["error"]) for t in failed["transfers"]] == [("failed", "WS1 is away")]
    assert failed["counts"]["failed"] == 1
    assert web.post("/api/transfers/again", json={"node": "PACS2"}).json() == {"number": 0}
    assert web.post("/api/transfers/again", json={}).json() == {"number": 1}
    assert web.get(one).json()["state"] == "waiting"
    assert web.post(f"{one}/cancel", json={}).json()["state"] == "cancelled"
    assert web.post(f"{one}/cancel", json={}).status_code == 409
    assert queue.counts() == {"waiting": 0, "running": 0, "dead": 0}
    again = web.post(f"{one}/again", json={}).json()
    assert (again["state"], again["number"] > shown["number"]) == ("waiting", True)
    page = web.get("/api/transfers?limit=1").json()
    assert [t["number"] for t in page["transfers"]] == [again["number"]]
    assert [t["number"] for t in web.get(f"/api/transfers?before={page['next']}").json()["transfers"]] == [shown["number"]]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"node": "WS1", "study": "1.2.99"}, 404, "nothing is stored"),
        ({"node": "WS9", "study": "1.2.3"}, 404, "pacs ae add WS9"),
        ({"node": "CT1", "study": "1.2.3"}, 404, "pacs ae add CT1"),
        ({"node": "WS1", "study": "*"}, 400, "UIDs"),
        ({"node": "WS1", "study": "1.2.3", "target": "PACS2"}, 400, "what is fetched"),
        ({"kind": "retrieve", "node": "PACS2", "study": "1.2.3", "then_to": "WS9"}, 404, "WS9"),
        ({"node": "WS1"}, 400, "study"),
    ],
)
def test_a_transfer_that_cannot_be_is_refused(web: TestClient, body: dict[str, Any], status: int, text: str) -> None:
    answer = web.post("/api/transfers", json=body)
    assert (answer.status_code, text in answer.text) == (status, True), answer.text


@pytest.mark.parametrize("path", ["/api/transfers/7", "/api/transfers/x", "/api/jobs/7", "/api/jobs/x"])
def test_what_is_not_there(web: TestClient, path: str) -> None:
    assert web.get(path).status_code == 404


def test_jobs_are_shown_and_tried_again(web: TestClient, archive: Archive) -> None:
    queue = JobQueue(archive.index)
    queue.enqueue([Job("k", {"study": "1.2.3", "references": [["1", "2"]]}), Job("m")])
    (claimed,) = queue.claim("test", kinds=("k",))
    queue.fail(claimed, "no room", retry=False)
    page = web.get("/api/jobs").json()
    assert page["counts"] == {"waiting": 1, "running": 0, "dead": 1}
    assert [(job["kind"], job["state"]) for job in page["jobs"]] == [("m", "waiting"), ("k", "dead")]
    (dead,) = web.get("/api/jobs?state=dead&kind=k").json()["jobs"]
    assert (dead["error"], dead["tries"], dead["about"]) == ("no room", 1, {"study": "1.2.3"})
    one = f"/api/jobs/{dead['id']}"
    assert web.post(f"{one}/retry", json={}).json()["state"] == "waiting"
    assert web.delete(one).status_code == 409, "what waits is to be done"
    (claimed,) = queue.claim("test", kinds=("k",))
    assert web.post(f"{one}/retry", json={}).status_code == 409
    queue.fail(claimed, "no room", retry=False)
    assert web.delete(one).status_code == 204
    assert web.get(one).status_code == 404
