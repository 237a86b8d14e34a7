"""The pages of administration: what they show, that nothing in them is markup that came from outside, and their guards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.testclient import TestClient
from starlette.types import Scope as WebScope

from pacs import admin
from pacs.admin import pages
from pacs.admin.callers import Allowing
from pacs.admin.entities import OwnTitle, Place
from pacs.admin.principals import Principal
from storage.archive import Archive
from storage.index.ae import AeTitle, OwnAe, Right, add_ae_title, add_own_ae
from storage.index.associations import Entry, Outcome, Proposed, write
from storage.index.callers import block
from storage.problems import WebRefusal
from storage.rules import Prefetch, Route, Rule, put_rule
from storage.transfer_records import RETRIEVE, Order
from storage.transfers import Transfers
from storage.types import Scope
from storage.worklist import Worklist
from storage.worklist_entries import StepState

EVIL = "<b>'\"&"
PATHS = ("/admin/", "/admin/aes/CT1", "/admin/associations", "/admin/associations/1", "/admin/parts/callers", "/admin/parts/associations",
         "/admin/routes", "/admin/transfers", "/admin/parts/transfers", "/admin/jobs", "/admin/parts/jobs",
         "/admin/worklist", "/admin/parts/worklist", "/admin/worklist/1", f"/admin/worklist?PatientName={quote(EVIL)}",
         "/admin/remote", "/admin/remote?node=CT1", "/admin/remote?node=CT1&PatientID=P1")


@pytest.fixture
def web(archive: Archive) -> Iterator[TestClient]:
    index = archive.index
    add_ae_title(index, AeTitle("CT1", EVIL, 104, EVIL))
    add_own_ae(index, OwnAe("RESEARCH", EVIL, ("A'<B",)))
    block(index, EVIL)
    put_rule(index, Rule(EVIL, Route("CT1", {"StudyDescription": EVIL}, calling=(EVIL,))))
    put_rule(index, Rule(EVIL, Prefetch((EVIL,))))
    failed = Transfers(index).retrieve(Order(EVIL, Scope("1.2.3"), RETRIEVE, rule=EVIL, asked_by=EVIL))
    Transfers(index).failed(failed, EVIL)
    Worklist(index).create({"PatientName": EVIL, "PatientID": EVIL, "Modality": "CT", "ScheduledProcedureStepDescription": EVIL})
    write(index, [
        Entry("a", Outcome.REFUSED, "10.0.0.5", EVIL, EVIL, EVIL, contexts=(Proposed(EVIL, (EVIL,), -1),), asks=True, rights=frozenset({Right.ECHO})),
        Entry("b", Outcome.ACCEPTED, "10.0.0.5", "CT1", "LIGHTBOX", "", "released", operations={"C-STORE 0000": 7}, received=5_000_000, seconds=2.5),
    ])  # fmt: skip
    application = Starlette(routes=admin.page_routes(archive, calling="LIGHTBOX", unknown_callers="ask"))
    with TestClient(application, base_url="http://pacs.test", raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("path", PATHS)
def test_nothing_from_outside_is_markup(web: TestClient, path: str) -> None:
    answer = web.get(path)
    assert answer.status_code == 200
    assert "<b>" not in answer.text
    assert answer.headers["cache-control"] == "no-store"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    # No script, style or handler is inline, and nothing comes from elsewhere.
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|style=|https?://", answer.text)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/admin/", ["CT1", "RESEARCH", "LIGHTBOX", "Wants to connect", "10.0.0.5", "for: echo", "Blocked", "<strong>ask</strong>"]),
        ("/admin/aes/CT1", ['value="104"', 'value="store" data-as="list" checked']),
        ("/admin/associations", ["refused", "accepted, released", "7 × C-STORE 0000", "4.8 MiB in", "2.5 s"]),
        ("/admin/associations?outcome=refused&ae=&since=", ["refused"]),
        ("/admin/associations/1", ["not answered", "Presentation contexts"]),
        ("/admin/associations?ae=nobody", ["Nothing is in the log for that."]),
    ],
)
def test_what_is_shown(web: TestClient, path: str, says: list[str]) -> None:
    text = web.get(path).text
    assert [one for one in says if one not in text] == []


@pytest.mark.parametrize(
    ("path", "form", "model"),
    [
        ("/admin/aes/CT1", "/api/aes/CT1", Place),
        ("/admin/", "/api/aes/{title}", Place),
        ("/admin/", "/api/own-aes/{title}", OwnTitle),
        ("/admin/own-aes/RESEARCH", "/api/own-aes/RESEARCH", OwnTitle),
        ("/admin/parts/callers", "/api/callers/2/allow", Allowing),
    ],
)
def test_a_form_has_every_member_of_what_it_replaces(web: TestClient, path: str, form: str, model: type[BaseModel]) -> None:
    """What a form does not name, saving it would reset."""
    (inside,) = re.findall(rf'<form [^>]*data-url="{re.escape(form)}".*?</form>', web.get(path).text, re.DOTALL)
    assert set(re.findall(r' name="(\w+)[".]', inside)) - {"title"} == set(model.model_fields)


def test_many_titles_of_one_address_are_one_card(web: TestClient, archive: Archive) -> None:
    for number in range(5):
        write(archive.index, [Entry(f"x{number}", Outcome.REFUSED, "10.6.6.6", f"X{number}", asks=True)])
    text = web.get("/admin/parts/callers").text
    assert "<strong>5 AE titles</strong> at 10.6.6.6" in text
    assert "data-body=\"{&#34;address&#34;: &#34;10.6.6.6&#34;}\"" in text
    assert text.count("data-caller=") == 6


def test_refusals_that_are_one_entry_say_when_first_and_last(web: TestClient, archive: Archive) -> None:
    write(archive.index, [Entry("again", Outcome.REFUSED, "10.6.6.7", "MR3", at=1e9, last_at=1e9 + 60, untold=3)])
    path = re.findall(r'href="(/admin/associations/\d+)"', web.get("/admin/associations").text)[0]
    text = web.get(path).text
    assert "<dt>First</dt><dd><time datetime=\"2001-09-09T01:46:40+00:00\">" in text
    assert "<dt>Last</dt><dd><time datetime=\"2001-09-09T01:47:40+00:00\">2001-09-09 01:47:40 UTC</time>, 3 times" in text


def test_the_log_has_pages(web: TestClient, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_ROWS", 1)
    text = web.get("/admin/associations").text
    (older,) = re.findall(r'href="(\?[^"]*before=\d+)"', text)
    text = web.get("/admin/associations" + older.replace("&amp;", "&")).text
    assert "refused" in text
    assert "data-feed" not in text, "an older page is not live"
    assert "Older" not in text


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("GET", "/admin/aes/NOBODY", 404, "There is no node of this AE title"),
        ("GET", "/admin/aes/A%00B", 404, "There is no node"),
        ("GET", "/admin/associations/99", 404, "There is no such association"),
        ("GET", "/admin/associations/x", 404, "There is no such association"),
        ("GET", "/admin/associations?limit=x", 400, "use the form above the log"),
        ("GET", "/admin/static/secret", 404, "There is no such file"),
        ("POST", "/admin/", 405, "Use GET"),
    ],
)
def test_refusals(web: TestClient, method: str, path: str, status: int, says: str) -> None:
    answer = web.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert says.lower() in answer.text.lower()


def test_behind_a_prefix_every_address_has_it(archive: Archive) -> None:
    application = Starlette(routes=admin.page_routes(archive, calling="LIGHTBOX", unknown_callers="ask"))
    web = TestClient(application, base_url="http://pacs.test", root_path="/pacs")
    text = web.get("/pacs/admin/").text
    addresses = re.findall(r'(?:href|src)="([^"]*)"', text)
    assert all(one.startswith(("/pacs/", "#", "data:,")) for one in addresses), addresses
    assert 'data-root="/pacs"' in text
    assert web.get("/pacs/admin", follow_redirects=False).headers["location"] == "/pacs/admin/"


def test_style_and_script_are_kept_by_browsers_until_they_change(web: TestClient) -> None:
    for address in re.findall(r'(?:href|src)="(/admin/static/[^"]*)"', web.get("/admin/").text):
        answer = web.get(address)
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-type"].startswith(("text/css", "text/javascript"))
        assert re.search(r"\?v=[0-9a-f]{12}$", address)


def test_every_page_asks_who_it_is_first(archive: Archive) -> None:
    def nobody(_scope: WebScope) -> Principal:
        raise WebRefusal(401, "nobody is signed in", "sign in")

    application = Starlette(
        routes=admin.page_routes(archive, calling="LIGHTBOX", unknown_callers="ask", rule=nobody)
    )
    web = TestClient(application, base_url="http://pacs.test")
    for path in (*PATHS, "/admin/static/admin.js"):
        assert web.get(path).status_code == 401, path


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (5 << 20, "5.0 MiB"), (1 << 52, "4096.0 TiB")]
)
def test_sizes(number: int, text: str) -> None:
    assert pages._size(number) == text


def test_the_worklist_is_searched_as_it_is_typed(web: TestClient, archive: Archive) -> None:
    worklist = Worklist(archive.index)
    given = {"PatientID": "P1", "Modality": "MR", "ScheduledProcedureStepStartDate": "20240102", "ScheduledProcedureStepStartTime": "0930"}
    number = worklist.create({**given, "PatientName": "Doe^Jane", "ScheduledStationAETitle": ["MR1", "MR2"]}).number
    worklist.create({**given, "PatientName": "Roe^Rita", "Modality": "CT", "ScheduledProcedureStepStartDate": "20240103"})
    for query in ("PatientName=doe", "ScheduledProcedureStepStartDate=2024-01-02&PatientID=", "Modality=MR&ScheduledStationAETitle=MR2"):
        text = web.get(f"/admin/worklist?{query}").text
        assert "Doe^Jane" in text, query
        assert "Roe^Rita" not in text, query
        assert "2024-01-02 09:30" in text, query
    page = web.get(f"/admin/worklist/{number}").text
    for value in ("2024-01-02", "09:30:00", "MR1\\MR2", "Doe^Jane"):
        assert f'value="{value}"' in page
    worklist.end(number, StepState.CANCELED)
    assert "Doe^Jane" not in web.get("/admin/parts/worklist").text
    assert "CANCELED" in web.get("/admin/parts/worklist?all=on").text
    assert web.get("/admin/worklist?ScheduledProcedureStepStartDate=soon").status_code == 400
    assert web.get("/admin/worklist/x").status_code == 404
