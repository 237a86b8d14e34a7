"""An administrator adds a route, sees what is sent on and what is not, tries that again, and fetches from another archive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.ohif import Complaints
from tests.support import storage_scp
from tests.support.archive import close_archive, ingest, open_archive
from tests.support.children import free_port
from tests.support.dimse_server import serving
from tests.support.lightbox import Lightbox, multipart, running
from tests.support.made import instance

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def lightbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lightbox]:
    with running(tmp_path_factory.mktemp("transfers") / "data", PACS_WORKERS="1") as server:
        yield server


@pytest.fixture
def page(chromium: Browser, lightbox: Lightbox) -> Iterator[Page]:
    """A tab in which nothing may go wrong unseen."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.set_default_timeout(20_000)
    tab.on("dialog", lambda dialog: dialog.accept())
    complaints = Complaints(tab, lightbox.url)
    yield tab
    context.close()
    assert complaints.found == []


def add_node(page: Page, server: Lightbox, title: str, port: int) -> None:
    page.goto(f"{server.url}/admin/")
    form = page.locator("form[data-url='/api/aes/{title}']")
    if not form.is_visible():
        page.get_by_text("Add a node").click()
    form.get_by_label("AE title").first.fill(title)
    form.get_by_label("Host").fill("127.0.0.1")
    form.get_by_label("Port").fill(str(port))
    form.get_by_role("button", name="Add").click()
    expect(page.get_by_role("row", name=title)).to_be_visible()


def stow(server: Lightbox, content: bytes) -> None:
    assert httpx.post(f"{server.url}/dicom-web/studies", **multipart(content)).status_code == 200  # type: ignore[arg-type]


def test_a_route_is_added_and_what_failed_is_tried_again(page: Page, lightbox: Lightbox) -> None:
    with storage_scp.node(title="WS1") as node:
        node.behave = lambda event, _number: 0xC001 if event.dataset.Modality == "MR" else 0
        add_node(page, lightbox, "WS1", node.port)
        page.goto(f"{lightbox.url}/admin/routes")
        form = page.locator("form[data-url='/api/routes/{name}']")
        form.get_by_label("Name").fill("to the ward")
        form.get_by_label("To", exact=True).fill("WS1")
        form.get_by_label("Only what matches").fill("Modality=CT\\MR\nPatientID=P*")
        form.get_by_role("button", name="Save").click()
        expect(page.get_by_role("row", name="to the ward")).to_contain_text("Modality = CT\\MR")
        page.get_by_role("link", name="Transfers").click()
        expect(page.get_by_text("Nothing was sent or fetched.")).to_be_visible()
        stow(lightbox, instance())
        # It appears by itself.
        expect(page.get_by_role("row", name="to WS1")).to_contain_text("1 of 1", timeout=30_000)
        assert node.uids == ["1.2.3.4.1"]
        stow(lightbox, instance(study="1.2.9", series="1.2.9.1", Modality="MR"))
        row = page.get_by_role("row", name="1.2.9")
        expect(row).to_contain_text("the peer answered C001", timeout=30_000)
        expect(row).to_contain_text("1 try")
        page.get_by_role("link", name="Jobs").click()
        expect(page.get_by_role("row", name="send-instances")).to_contain_text("the peer answered C001")
        node.behave = lambda _event, _number: 0
        page.get_by_role("link", name="Transfers").click()
        row.get_by_role("button", name="Now").click()
        expect(page.locator("#notice")).to_contain_text("It is tried now")
        expect(row).to_contain_text("done", timeout=30_000)
    page.get_by_role("link", name="Associations").click()
    page.get_by_label("Asked for by").select_option("this archive")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody tr").first).to_contain_text("sent C-STORE 0000")
    page.goto(f"{lightbox.url}/admin/routes")
    page.get_by_role("button", name="Remove to the ward").click()
    expect(page.get_by_text("Nothing is sent on yet.")).to_be_visible()


def test_a_study_of_another_archive_is_found_and_fetched(page: Page, lightbox: Lightbox, tmp_path: Path) -> None:
    other = open_archive(tmp_path / "other")
    ingest(other, instance(study="1.2.77", series="1.2.77.1", PatientID="P77", StudyDescription="Chest"))
    with serving(other, ae_title="PACS2", unknown_callers="accept") as running_other:
        add_node(page, lightbox, "PACS2", running_other.port)
        page.get_by_role("link", name="Other archives").click()
        page.get_by_label("Archive").select_option("PACS2")
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_text("Say something of what is looked for")).to_be_visible()
        page.get_by_label("Patient ID").fill("P7*")
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_role("row", name="Müller^Hans")).to_contain_text("Chest")
        page.get_by_role("button", name="Fetch 1.2.77").click()
        expect(page.get_by_role("row", name="from PACS2")).to_contain_text("1 of 1", timeout=30_000)
        page.go_back()
        page.reload()
        expect(page.get_by_role("row", name="Müller^Hans").get_by_role("cell").nth(4)).to_have_text("1")
    close_archive(other)


def test_a_rule_for_priors_is_added_and_an_archive_that_is_away_is_told_of(page: Page, lightbox: Lightbox) -> None:
    add_node(page, lightbox, "AWAY", free_port())
    page.goto(f"{lightbox.url}/admin/routes")
    page.locator("section", has_text="Earlier studies").get_by_text("Add a rule, or replace").click()
    form = page.locator("form[data-url='/api/prefetch-rules/{name}']")
    form.get_by_label("Name").fill("priors")
    form.get_by_label("From", exact=True).fill("AWAY")
    form.get_by_label("The newest").fill("2")
    form.get_by_role("button", name="Save").click()
    expect(page.get_by_role("row", name="priors")).to_contain_text("the newest 2 of 10 years, same modality")
    page.goto(f"{lightbox.url}/admin/remote?node=AWAY&PatientID=P1")
    expect(page.locator(".why")).to_contain_text("cannot be reached")
