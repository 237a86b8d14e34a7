"""`/api/worklist` and `pacs worklist`: entries made, found, changed and ended, and what is refused in which words."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from typer.testing import CliRunner

from pacs import admin
from pacs.cli import app
from storage.archive import Archive
from storage.worklist import Search, Worklist
from storage.worklist_entries import KEYS
from tests.support.worklist import fields

GIVEN = {**fields(), "ScheduledStationAETitle": ["CT1"], "ScheduledProcedureStepStartTime": "103000"}


@pytest.fixture
def web(archive: Archive) -> TestClient:
    routes = admin.routes(archive, calling="LIGHTBOX")
    return TestClient(Starlette(routes=routes), base_url="http://pacs.test", raise_server_exceptions=False)


def test_an_entry_from_its_making_to_its_end(web: TestClient, archive: Archive) -> None:
    made = web.post("/api/worklist", json=GIVEN)
    assert made.status_code == 200, made.text
    entry = made.json()
    made_here = {"number", "created", "updated", "StudyInstanceUID", "ScheduledProcedureStepID", "ScheduledProcedureStepStatus"}
    assert set(entry) == set(GIVEN) | made_here, "nothing that has no value"
    assert {name: entry[name] for name in GIVEN} == GIVEN
    place = f"/api/worklist/{entry['number']}"
    assert web.get(place).json() == entry
    assert web.get("/api/worklist").json() == [entry]
    changed = web.patch(place, json={"PatientSex": None, "ScheduledProcedureStepStatus": "arrived"}).json()
    assert ("PatientSex" in changed, changed["ScheduledProcedureStepStatus"]) == (False, "ARRIVED")
    assert changed["updated"] > changed["created"]
    assert web.post(f"{place}/complete", json={}).json()["ScheduledProcedureStepStatus"] == "COMPLETED"
    assert web.post(f"{place}/complete", json={}).status_code == 200, "once more does no harm"
    assert web.get("/api/worklist").json() == []
    assert len(web.get("/api/worklist?all=true").json()) == 1
    refused = web.post(f"{place}/cancel", json={})
    assert (refused.status_code, refused.json()["error"].partition(";")[0]) == (409, "the entry is COMPLETED already")
    assert web.patch(place, json={"ScheduledProcedureStepStatus": "SCHEDULED"}).status_code == 200
    assert web.post(f"{place}/cancel", json={}).json()["ScheduledProcedureStepStatus"] == "CANCELED"
    assert web.delete(place).status_code == 204
    assert web.get(place).status_code == 404
    assert list(Worklist(archive.index).find(Search())) == []


def test_every_key_of_the_table_can_be_given_and_comes_back(web: TestClient) -> None:
    samples = {"DA": "20260101", "TM": "120000", "DS": 70.5, "US": 4, "CS": "X", "UI": "1.2.3", "PN": "DOE^JANE=山田^花子", "AE": "X"}
    codes = {"CodeValue": "X", "CodingSchemeDesignator": "99X", "CodeMeaning": "a code"}
    given: dict[str, Any] = {}
    for key in KEYS:
        value: Any = samples.get(key.vr, "Straße 1, 東京")
        if key.inside:
            value = [codes if "CodeValue" in key.inside else {name: "1.2.3" if "UID" in name else "ISO" for name in key.inside}]
        given[key.keyword] = [value] if key.several else value
    given["ScheduledProcedureStepStatus"] = "READY"
    entry = web.post("/api/worklist", json=given)
    assert entry.status_code == 200, entry.text
    assert {name: entry.json().get(name) for name in given} == given


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 2),
        ("?Modality=CT", 1),
        ("?Modality=CT,MR", 2),
        ("?PatientName=DOE*&ScheduledProcedureStepStartDate=20261128-20261128", 2),
        ("?ScheduledProcedureStepStartDate=20261129-", 0),
        ("?ScheduledProcedureStepStatus=CANCELED", 1),
        ("?all=true", 3),
        ("?limit=1", 1),
        ("?offset=1", 1),
    ],
)
def test_filters(web: TestClient, query: str, count: int) -> None:
    for more in ({}, {"Modality": "MR"}, {"ScheduledProcedureStepStatus": "CANCELED"}):
        assert web.post("/api/worklist", json={**GIVEN, **more}).status_code == 200
    found = web.get(f"/api/worklist{query}")
    assert (found.status_code, len(found.json())) == (200, count), found.text


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("POST", "/api/worklist", {**GIVEN, "Modality": None}, 400, "Modality: a worklist entry needs a value"),
        ("POST", "/api/worklist", {**GIVEN, "PatientBirthDate": "1.1.1970"}, 400, "PatientBirthDate: give a date"),
        ("POST", "/api/worklist", {**GIVEN, "PatientId": "1"}, 400, "PatientId:"),
        ("POST", "/api/worklist", {**GIVEN, "PatientID": 1}, 400, "PatientID"),
        ("POST", "/api/worklist", {**GIVEN, "RequestedProcedureCodeSequence": [{"CodeValue": "1"}]}, 400, "a code has"),
        ("POST", "/api/worklist", [], 400, "the body"),
        ("PATCH", "/api/worklist/1", {"StudyInstanceUID": "1.2.3"}, 409, "StudyInstanceUID cannot be changed"),
        ("PATCH", "/api/worklist/1", {"ScheduledProcedureStepStatus": "DONE"}, 400, "give one of"),
        ("PATCH", "/api/worklist/2", {}, 404, "no worklist entry"),
        ("POST", "/api/worklist/2/cancel", {}, 404, "no worklist entry"),
        ("DELETE", "/api/worklist/x", None, 404, "no worklist entry"),
        ("GET", "/api/worklist/99999999999999999999", None, 404, "no worklist entry"),
        ("GET", "/api/worklist?Rows=1", None, 400, "Rows"),
        ("GET", "/api/worklist?limit=0", None, 400, "limit"),
        ("GET", "/api/worklist?ScheduledProcedureStepStartDate=tomorrow", None, 400, "ScheduledProcedureStepStartDate"),
    ],
)
def test_refusals(web: TestClient, method: str, path: str, body: Any, status: int, says: str) -> None:
    web.post("/api/worklist", json=GIVEN)
    answer = web.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert says in answer.json()["error"]
    assert "DOE" not in answer.text


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PACS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PACS_DATA_DIR", str(tmp_path / "data"))

    def pacs(*words: str) -> str:
        done = CliRunner().invoke(app, ["worklist", *words])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "Nothing is scheduled" in pacs("list")
    assert pacs("add", "P1", "DOE^JANE", "CT", "ScheduledStationAETitle=CT1").startswith("1 is added; its study is ")
    assert "DOE^JANE" in pacs("list", "Modality=CT")
    (entry,) = orjson.loads(pacs("list", "--json"))
    assert (entry["number"], entry["ScheduledStationAETitle"]) == (1, ["CT1"])
    assert "Nothing" in pacs("list", "Modality=MR")
    assert pacs("remove", "1") == "1 is removed\n"
    for words, says in [(("remove", "1"), "no worklist entry"), (("list", "Modality"), "KEYWORD=VALUE"), (("list", "Rows=1"), "Rows")]:
        done = CliRunner().invoke(app, ["worklist", *words])
        assert (done.exit_code, says in done.output) == (1, True), done.output
