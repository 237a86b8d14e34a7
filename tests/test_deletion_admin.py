"""Deletions and holds as an administrator has them: `/api/deleted`, `/api/holds`, `pacs delete`, `pacs deleted`, `pacs hold`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pacs import admin
from storage import records
from storage.archive import Archive
from storage.index.deletions import Deletions
from storage.rejection import Why
from storage.types import Scope
from tests.support import made
from tests.support.archive import close_archive, ingest, open_archive
from tests.support.commands import Pacs

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def web(archive: Archive) -> TestClient:
    """Three studies with an instance each, of which 1.1 was deleted first, then 1.2."""
    for number in (1, 2, 3):
        ingest(archive, made.instance(1, study=f"1.{number}", series=f"1.{number}.1"))
    Deletions(archive.index).delete(Scope("1.1"), Why("113001", "motion"), "anna")
    Deletions(archive.index).delete(Scope("1.2"), Why(), "berta")
    application = Starlette(routes=admin.routes(archive, calling="LIGHTBOX"))
    return TestClient(application, base_url="http://pacs.test", raise_server_exceptions=False)


def test_the_list_goes_by_pages(web: TestClient) -> None:
    first = web.get("/api/deleted", params={"limit": 1}).json()
    assert [(one["id"], one["study"], one["by"]) for one in first["deletions"]] == [(2, "1.2", "berta")]
    second = web.get("/api/deleted", params={"limit": 1, "before": first["next"]}).json()
    (one,) = second["deletions"]
    assert (one["id"], one["reason"], one["meaning"], one["comment"]) == (1, "113001", "Rejected for Quality Reasons", "motion")
    assert (one["series"], one["instances"], one["left"], one["state"]) == (None, 1, 1, "deleted")
    assert web.get("/api/deleted", params={"before": second["next"]}).json() == {"deletions": [], "next": None}
    assert [one["id"] for one in web.get("/api/deleted", params={"study": "1.1"}).json()["deletions"]] == [1]
    assert web.get("/api/deleted/2").json()["study"] == "1.2"


def test_restore_and_purge(web: TestClient, archive: Archive) -> None:
    back = web.post("/api/deleted/2/restore", headers=JSON)
    assert (back.status_code, back.json()["state"], back.json()["ended_by"]) == (200, "restored", "testclient")
    gone = web.post("/api/deleted/1/purge", headers=JSON)
    assert (gone.status_code, gone.json()["state"], gone.json()["left"]) == (200, "purged", 0)
    assert archive.index.counts().studies == 2
    assert [one["id"] for one in web.get("/api/deleted", params={"state": "purged"}).json()["deletions"]] == [1]


def test_holds(web: TestClient, archive: Archive) -> None:
    put = web.put("/api/holds/1.1", json={"reason": "lawsuit 7"})
    assert (put.status_code, put.json()["by"]) == (200, "testclient")
    assert [one["study"] for one in web.get("/api/holds").json()] == ["1.1"]
    assert web.get("/api/holds/1.1").json()["reason"] == "lawsuit 7"
    refused = web.post("/api/deleted/1/purge", headers=JSON)
    assert (refused.status_code, "lawsuit 7" in refused.json()["error"]) == (409, True)
    assert web.delete("/api/holds/1.1").status_code == 204
    assert web.post("/api/deleted/1/purge", headers=JSON).status_code == 200
    assert archive.index.counts().studies == 1


# (method, path, body, status, what the error says)
REFUSED = [
    ("GET", "/api/deleted/9", None, 404, "no deletion 9"),
    ("GET", "/api/deleted/x", None, 404, "nothing of this number"),
    ("GET", "/api/deleted/99999999999999999999", None, 404, "nothing of this number"),
    ("GET", "/api/deleted?limit=0", None, 400, "limit"),
    ("GET", "/api/deleted?state=lost", None, 400, "state"),
    ("GET", "/api/deleted?page=2", None, 400, "page"),
    ("GET", "/api/deleted?study=%FF", None, 400, "UTF-8"),
    ("POST", "/api/deleted/9/restore", None, 404, "no deletion 9"),
    ("PUT", "/api/holds/9.9", {"reason": "x"}, 404, "no study 9.9"),
    ("PUT", "/api/holds/1%00", {"reason": "x"}, 404, "no study"),
    ("PUT", "/api/holds/1.3", {"reason": ""}, 400, "reason"),
    ("PUT", "/api/holds/1.3", {"reason": "a\nb"}, 400, "one line"),
    ("GET", "/api/holds/1.3", None, 404, "not held"),
    ("DELETE", "/api/holds/1.3", None, 404, "not held"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "says"), REFUSED)
def test_refusals(web: TestClient, method: str, path: str, body: Any, status: int, says: str) -> None:
    answer = web.request(method, path, json=body, headers=JSON)
    assert (answer.status_code, answer.json()["status"]) == (status, status), answer.text
    assert says in answer.json()["error"]


def test_the_description_has_the_parameters(web: TestClient) -> None:
    described = web.get("/api/openapi.json").json()["paths"]["/api/deleted"]["get"]["parameters"]
    assert {(one["name"], one["in"]) for one in described} == {(name, "query") for name in ("state", "study", "before", "limit")}


def archive_of(folder: Path) -> Archive:
    return open_archive(folder / "objects", database_url=f"sqlite:///{folder / 'index.sqlite'}")


def test_the_commands(pacs: Pacs, images: Path) -> None:
    pacs("import", str(images))
    assert "1 instances of study 1.2.3" in pacs("delete", "1.2.3", "--series", "1.2.3.4", "--instance", "1.2.3.4.1", "--reason", "113001")
    assert "2 instances of study 1.2.3" in pacs("delete", "1.2.3", "--reason", "sent twice")
    listed = pacs.json("deleted", "list")
    assert isinstance(listed, list)
    assert [(one["id"], one["reason"], one["comment"], one["left"]) for one in listed] == [(2, "", "sent twice", 2), (1, "113001", "", 1)]
    assert "113001" in pacs("deleted", "list")
    assert "deletion 2: restored" in pacs("deleted", "restore", "2")
    assert "restored already" in pacs("deleted", "restore", "2", status=1)

    pacs("hold", "add", "1.2.3", "--reason", "lawsuit")
    assert "lawsuit" in pacs("hold", "list")
    for refused in (("delete", "1.2.3"), ("deleted", "purge", "1")):
        assert "lawsuit" in pacs(*refused, status=1)
    assert "0 deletions are purged" in pacs("deleted", "purge", "--older-than", "0")
    assert "was by" in pacs("hold", "remove", "1.2.3")
    assert pacs("hold", "list") == "No study is held.\n"

    assert "deletion 1: 1 instances" in pacs("deleted", "purge", "1")
    archive = archive_of(pacs.folder)
    keys = [blob.key for blob in archive.blobs.list()]
    assert [records.is_record(key) for key in sorted(keys)].count(True) == 1, "what was wrong is remembered"
    assert len(keys) == 3, "and its bytes are gone, without a worker"
    close_archive(archive)
    assert pacs.json("deleted", "list") == []
    assert [one["state"] for one in pacs.json("deleted", "list", "--all")] == ["restored", "purged"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("delete", "9.9"), 1, "nothing is stored for study 9.9"),
        (("delete", "1", "2", "--series", "3"), 2, "--series goes with one study"),
        (("delete", "1", "--instance", "3"), 2, "--instance with --series"),
        (("delete", "1", "--reason", "113000"), 1, "113001"),
        (("deleted", "restore", "7"), 1, "no deletion 7"),
        (("deleted", "purge"), 2, "--older-than"),
        (("hold", "add", "9.9", "--reason", "x"), 1, "no study 9.9"),
        (("hold", "remove", "9.9"), 1, "not held"),
    ],
)
def test_commands_that_are_refused(pacs: Pacs, arguments: tuple[str, ...], status: int, says: str) -> None:
    assert says in " ".join(pacs(*arguments, status=status).replace("│", " ").split())
