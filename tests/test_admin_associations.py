"""Our own AE titles, callers and the log of associations over the administration API; the log also as it is written."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pacs import admin
from storage.archive import Archive
from storage.index.ae import AeTitle, Right, ae_title_of
from storage.index.associations import Entry, Outcome, Proposed, write
from storage.index.callers import callers

CT = "1.2.840.10008.5.1.4.1.1.2"
JPEG = "1.2.840.10008.1.2.4.50"
ASKS = Entry(
    "a", Outcome.REFUSED, "10.0.0.5", "CT1", "LIGHTBOX", "unknown", contexts=(Proposed(CT, (JPEG,), -1),),
    asks=True, rights=frozenset({Right.ECHO, Right.STORE}), at=1e9, last_at=1e9,
)  # fmt: skip
ACCEPTED = Entry(
    "b", Outcome.ACCEPTED, "10.0.0.7", "WS", "LIGHTBOX", "no right", "released",
    (Proposed(CT, (JPEG, "1.2"), 0, JPEG), Proposed("1.2.3", ("1.2",), 3)), {"C-STORE 0000": 2}, 100, 50, 2e9, 2e9, 1.5,
)  # fmt: skip


@pytest.fixture
def web(archive: Archive) -> Iterator[TestClient]:
    application = Starlette(routes=admin.routes(archive, calling="LIGHTBOX"))
    with TestClient(application, base_url="http://pacs.test", raise_server_exceptions=False) as client:
        yield client


def test_our_own_titles(web: TestClient) -> None:
    nothing: dict[str, Any] = {"coercion": [], "deidentify": []}
    first: dict[str, Any] = {"title": "LIGHTBOX", "description": "", "callers": [], "unknown_callers": None, "from_settings": True, **nothing}
    assert web.get("/api/own-aes").json() == [first]
    policy = {"description": "for studies", "callers": ["WS1"], "unknown_callers": "refuse"}
    added = web.put("/api/own-aes/RESEARCH", json=policy)
    assert added.json() == {"title": "RESEARCH", **policy, "from_settings": False, **nothing}
    assert web.put("/api/own-aes/LIGHTBOX", json={"unknown_callers": "ask"}).json() == {**first, "unknown_callers": "ask"}
    assert [one["title"] for one in web.get("/api/own-aes").json()] == ["LIGHTBOX", "RESEARCH"]
    assert web.get("/api/own-aes/RESEARCH").json()["callers"] == ["WS1"]
    for title, status in (("RESEARCH", 204), ("RESEARCH", 404), ("LIGHTBOX", 204), ("LIGHTBOX", 409)):
        assert web.delete(f"/api/own-aes/{title}").status_code == status
    assert web.get("/api/own-aes").json() == [first]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("PUT", "/api/own-aes/RESEARCH", {"unknown_callers": "maybe"}, 400, "unknown_callers:"),
        ("PUT", "/api/own-aes/RESEARCH", {"callers": ["A\\B"]}, 400, "backslash"),
        ("PUT", "/api/own-aes/SEVENTEEN-LETTERS", {}, 400, "1 to 16"),
        ("GET", "/api/own-aes/NOBODY", None, 404, "no such AE title"),
        ("POST", "/api/callers/7/allow", {}, 404, "no such caller"),
        ("POST", "/api/callers/x/allow", {}, 404, "no caller of this number"),
        ("POST", "/api/callers/7/block", {}, 404, "no such caller"),
        ("DELETE", "/api/callers/7", None, 404, "no such caller"),
        ("POST", "/api/callers", {}, 400, "an AE title, an address, or both"),
        ("POST", "/api/callers", {"address": "10.0.0.0/8"}, 400, "not a network"),
        ("POST", "/api/callers", {"address": "host"}, 400, "allowed address"),
        ("GET", "/api/callers?state=dead", None, 400, "state:"),
        ("GET", "/api/associations/7", None, 404, "no such association"),
        ("GET", "/api/associations/-1", None, 404, "no such association"),
        ("GET", "/api/associations?limit=0", None, 400, "limit:"),
        ("GET", "/api/associations?outcome=lost", None, 400, "outcome:"),
        ("GET", "/api/associations?since=yesterday", None, 400, "since:"),
        ("GET", "/api/associations?color=red", None, 400, "color:"),
        ("GET", "/api/associations?ae=%00", None, 400, "ae:"),
        ("GET", "/api/associations/events?address=%00", None, 400, "address:"),
    ],
)
def test_refusals(web: TestClient, method: str, path: str, body: Any, status: int, says: str) -> None:
    answer = web.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert says in answer.json()["error"]


def test_a_caller_is_let_in(web: TestClient, archive: Archive) -> None:
    write(archive.index, [ASKS])
    (asks,) = web.get("/api/callers?state=asks").json()
    assert (asks["calling_ae"], asks["address"], asks["rights"]) == ("CT1", "10.0.0.5", ["echo", "store"])
    assert (asks["times"], asks["reason"], asks["until"]) == (1, "unknown", None)
    once = web.post(f"/api/callers/{asks['number']}/allow-once", json={"rights": ["echo"]}).json()
    assert (once["state"], once["rights"]) == ("once", ["echo"])
    assert once["until"] > asks["last_at"]
    node = web.post(f"/api/callers/{asks['number']}/allow", json={"rights": ["store", "find"]}).json()
    assert (node["rights"], node["addresses"], node["host"]) == (["store", "find"], ["10.0.0.5"], "")
    assert web.get("/api/callers").json() == []
    assert ae_title_of(archive.index, "CT1") == AeTitle(
        "CT1", "", 0, rights=frozenset({Right.STORE, Right.FIND}), addresses=("10.0.0.5",)
    )
    answer = web.post("/api/aes/CT1/echo", json={})
    assert (answer.status_code, answer.json()["error"]) == (409, "this node has no host and port")


def test_a_caller_is_blocked_and_unblocked(web: TestClient, archive: Archive) -> None:
    write(archive.index, [ASKS])
    (asks,) = web.get("/api/callers").json()
    assert web.post(f"/api/callers/{asks['number']}/block", json={}).json()["state"] == "blocked"
    assert web.post("/api/callers", json={"address": "10.6.6.6"}).json()["calling_ae"] == ""
    assert len(web.get("/api/callers?state=blocked").json()) == 2
    assert web.delete(f"/api/callers/{asks['number']}").status_code == 204
    assert [one.address for one in callers(archive.index)] == ["10.6.6.6"]


def test_the_log_is_searched_by_pages(web: TestClient, archive: Archive) -> None:
    write(archive.index, [ASKS, ACCEPTED])
    page = web.get("/api/associations?limit=1").json()
    (latest,) = page["associations"]
    assert (latest["calling_ae"], latest["outcome"], latest["ended"], latest["seconds"]) == ("WS", "accepted", "released", 1.5)
    assert (latest["proposed"], latest["accepted"], latest["operations"]) == (2, 1, {"C-STORE 0000": 2})
    assert (latest["bytes_received"], latest["bytes_sent"]) == (100, 50)
    older = web.get(f"/api/associations?limit=1&before={page['next']}").json()
    assert ([one["calling_ae"] for one in older["associations"]], older["next"]) == (["CT1"], None)
    for query, found in (
        ("ae=ct", ["CT1"]), ("address=10.0.0.7", ["WS"]), ("outcome=refused", ["CT1"]), ("since=2030-01-01", ["WS"]),
        ("until=2030-01-01T00:00:00Z", ["CT1"]), ("since=2001-09-09T02:46:41%2B01:00&ae=CT1", []),
    ):  # fmt: skip
        assert [one["calling_ae"] for one in web.get(f"/api/associations?{query}").json()["associations"]] == found, query


def test_one_association_has_its_contexts(web: TestClient, archive: Archive) -> None:
    write(archive.index, [ACCEPTED, ASKS])
    (asked, accepted) = web.get("/api/associations").json()["associations"]
    first, second = web.get(f"/api/associations/{accepted['number']}").json()["presentation_contexts"]
    assert first == {
        "sop_class": CT, "name": "CT Image Storage", "transfer_syntaxes": [JPEG, "1.2"], "result": 0, "transfer_syntax": JPEG,
    }  # fmt: skip
    assert (second["name"], second["result"], second["transfer_syntax"]) == ("1.2.3", 3, "")
    (only,) = web.get(f"/api/associations/{asked['number']}").json()["presentation_contexts"]
    assert only["result"] is None


def test_what_is_written_is_told_as_it_is(archive: Archive) -> None:
    """The log by server-sent events: what comes, what changes, and from where a client left off."""
    over = threading.Event()
    application = Starlette(routes=admin.routes(archive, calling="LIGHTBOX", stopping=over.is_set))
    write(archive.index, [ASKS])

    def later() -> None:
        time.sleep(0.3)
        write(archive.index, [replace(ASKS, times=2), ACCEPTED])
        time.sleep(1.2)
        over.set()

    with TestClient(application, base_url="http://pacs.test") as web:
        threading.Thread(target=later).start()
        fresh = web.get("/api/associations/events?ae=CT1")
        assert fresh.headers["content-type"].startswith("text/event-stream")
        assert _events(fresh.text) == [("2", "CT1", 2)]
        missed = web.get("/api/associations/events?after=1")
        assert _events(missed.text) == [] == _events(web.get("/api/associations/events").text)
        over.clear()
        threading.Timer(0.8, over.set).start()
        assert _events(web.get("/api/associations/events?after=1").text) == [("2", "CT1", 2), ("3", "WS", 1)]
        over.clear()
        threading.Timer(0.8, over.set).start()
        again = web.get("/api/associations/events?after=0", headers={"Last-Event-ID": "2"})
        assert _events(again.text) == [("3", "WS", 1)]
        assert web.head("/api/associations/events").status_code == 200


def _events(text: str) -> list[tuple[str, str, int]]:
    """Id, calling AE title and times of each event with data."""
    found = []
    for event in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in event.splitlines() if not line.startswith(":"))
        if "data" in fields:
            data = json.loads(fields["data"])
            found.append((fields["id"], data["calling_ae"], data["times"]))
    return found
