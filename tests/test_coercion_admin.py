"""Rules of coercion and originals as an administrator has them: the API, the page and the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pacs import admin, compose
from pacs.settings import Settings
from storage.archive import Archive
from storage.coercion.rules import rules_of
from storage.deidentification.profile import profile_of
from storage.index.ae import AeTitle, OwnAe, Quirks, add_ae_title, add_own_ae, ae_title_of, own_aes
from tests.support.commands import Pacs
from tests.support.made import instance
from tests.test_coercing import MARY, UID, take

RULES = [MARY, 'prefix PatientID "M-" where Modality = "CT"']


@pytest.fixture
def web(archive: Archive) -> TestClient:
    routes = admin.routes(archive, calling="LIGHTBOX")
    routes += admin.page_routes(archive, calling="LIGHTBOX", unknown_callers="ask")
    return TestClient(Starlette(routes=routes), base_url="http://pacs.test", raise_server_exceptions=False)


def test_rules_by_the_api(web: TestClient, archive: Archive) -> None:
    quirks = {"character_set": "ISO_IR 100", "coercion": ["  " + RULES[0], "", "# why", RULES[1]], "silent_coercion": True}
    given = web.put("/api/aes/CT1", json={"quirks": quirks}).json()["quirks"]
    assert given == {**quirks, "coercion": RULES}
    known = ae_title_of(archive.index, "CT1")
    assert known
    assert known.quirks == Quirks("ISO_IR 100", rules_of(RULES), silent_coercion=True)
    assert web.put("/api/own-aes/RESEARCH", json={"coercion": RULES}).json()["coercion"] == RULES
    assert own_aes(archive.index) == [OwnAe("RESEARCH", coercion=rules_of(RULES))]


def test_a_profile_of_deidentification(web: TestClient, archive: Archive) -> None:
    given = web.put("/api/own-aes/RESEARCH", json={"deidentify": ["modify-dates", "basic"]}).json()
    assert given["deidentify"] == ["basic", "modify-dates"]
    assert own_aes(archive.index)[0].profile == profile_of(["basic", "modify-dates"])
    text = web.get("/admin/own-aes/RESEARCH").text
    assert 'value="modify-dates" data-as="list" checked' in text
    assert 'value="retain-dates" data-as="list" >' in text
    assert "(de-identifies)" in web.get("/admin/").text
    for words, says in ((["retain-uids"], "begins with basic"), (["basic", "retain-dates", "modify-dates"], "either"), (["all"], "deidentify")):
        answer = web.put("/api/own-aes/RESEARCH", json={"deidentify": words})
        assert answer.status_code == 400
        assert says in answer.json()["error"]
    assert web.put("/api/own-aes/RESEARCH", json={}).json()["deidentify"] == []


@pytest.mark.parametrize("path", ["/api/aes/CT1", "/api/own-aes/CT1"])
@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([MARY, "remove Nothing"], "rule 2: there is no attribute 'Nothing'"),
        (['set StudyInstanceUID "1.2"'], "rule 1: StudyInstanceUID cannot be coerced"),
        (["remove PixelData"], "pixel data is never touched"),
        (['set StudyDate "today"'], "the value for StudyDate is not a date"),
        (["x" * 5000], "coercion"),
    ],
)
def test_what_is_no_rule_is_refused(web: TestClient, archive: Archive, path: str, lines: list[str], says: str) -> None:
    body = {"coercion": lines} if "own" in path else {"quirks": {"coercion": lines}}
    answer = web.put(path, json=body)
    assert answer.status_code == 400
    assert says in answer.json()["error"]
    assert ae_title_of(archive.index, "CT1") is None
    assert own_aes(archive.index) == []


def test_the_pages_show_rules(web: TestClient, archive: Archive) -> None:
    add_ae_title(archive.index, AeTitle("CT1", "", 0, quirks=Quirks(coercion=rules_of([MARY]))))
    add_own_ae(archive.index, OwnAe("RESEARCH", callers=("CT1",), coercion=rules_of([MARY])))
    for path in ("/admin/aes/CT1", "/admin/own-aes/RESEARCH"):
        text = web.get(path).text
        assert "set InstitutionName &#34;St. Mary&#34;" in text
    assert "CT1</textarea>" in text
    assert web.get("/admin/own-aes/NOBODY").status_code == 404
    assert 'href="/admin/own-aes/RESEARCH"' in web.get("/admin/").text


def test_an_original_by_the_api(web: TestClient, archive: Archive) -> None:
    made = instance()
    take(archive, made, MARY)
    (one,) = web.get(f"/api/instances/{UID}/originals").json()
    assert (one["instance"], one["size"]) == (UID, len(made))
    for query in ("", f"?sha256={one['sha256']}"):
        answer = web.get(f"/api/instances/{UID}/original{query}")
        assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "application/dicom", made)
        assert answer.headers["content-disposition"].startswith("attachment")
    for path in (f"/api/instances/{UID}/original?sha256={'0' * 64}", "/api/instances/1.2/original"):
        assert web.get(path).status_code == 404
    assert web.get(f"/api/instances/{UID}/original?sha256=..").status_code == 400
    assert web.get("/api/instances/1.2/originals").json() == []
    archive.blobs.delete(next(blob.key for blob in archive.blobs.list("originals/")))
    assert web.get(f"/api/instances/{UID}/original").status_code == 500


def test_rules_and_originals_on_the_command_line(pacs: Pacs, tmp_path: Path) -> None:
    pacs("ae", "add", "CT1", "--coerce", RULES[0], "--coerce", RULES[1], "--character-set", "ISO_IR 100")
    pacs("ae", "add", "CT1", "--silent-coercion")
    (node,) = pacs.json("ae", "list")  # type: ignore[misc]
    assert node["quirks"] == {"character_set": "ISO_IR 100", "coercion": RULES, "silent_coercion": True}  # type: ignore[has-type]
    assert "rule 1: there is no attribute" in pacs("ae", "add", "CT1", "--coerce", "remove Nothing", status=1)
    pacs("ae", "add", "CT1", "--coerce", "none")
    (node,) = pacs.json("ae", "list")  # type: ignore[misc]
    assert node["quirks"]["coercion"] == []  # type: ignore[has-type]
    pacs("ae", "own-add", "RESEARCH", "--coerce", RULES[0])
    pacs("ae", "own-add", "RESEARCH", "--caller", "CT1")
    assert "RESEARCH          CT1; unknown callers: accept; 1 rules of coercion" in pacs("ae", "own")
    pacs("ae", "own-add", "RESEARCH", "--deidentify", "basic,modify-dates")
    pacs("ae", "own-add", "RESEARCH", "--description", "for studies")
    assert "; 1 rules of coercion; de-identifies: basic, modify-dates  for studies" in pacs("ae", "own")
    (_, research) = pacs.json("ae", "own")  # type: ignore[misc]
    assert research["deidentify"] == ["basic", "modify-dates"]  # type: ignore[has-type]
    assert "begins with basic" in pacs("ae", "own-add", "RESEARCH", "--deidentify", "retain-uids", status=1)
    pacs("ae", "own-add", "RESEARCH", "--deidentify", "none")
    assert "de-identifies" not in pacs("ae", "own")
    assert "has an original" in pacs("original", "list", UID, status=1)
    made = instance()
    with compose.opened(Settings(data_dir=pacs.folder), migrate=True) as found:
        take(found.archive, made, MARY)
    (one,) = pacs.json("original", "list", UID)  # type: ignore[misc]
    assert one["size"] == len(made)  # type: ignore[has-type]
    pacs("original", "save", UID, str(tmp_path / "out.dcm"))
    assert (tmp_path / "out.dcm").read_bytes() == made
    assert "cannot be written" in pacs("original", "save", UID, str(tmp_path / "out.dcm"), status=1)
