"""Pages of other origins in a real Chromium: what their scripts may do here, and pages of ours that are isolated."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pydicom
import pytest
from playwright.sync_api import Browser

from pacs.viewer import find
from tests.browser.conftest import absent
from tests.browser.ohif import Ohif, detail
from tests.support.corpus import corpus_file
from tests.support.lightbox import Lightbox, running

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MR = "transfer-syntaxes/wg04/MR2_J2KR.dcm"
READ = """async ([url, options]) => {
    try {
        const answer = await fetch(url, options);
        return {status: answer.status, headers: Object.fromEntries(answer.headers), size: (await answer.arrayBuffer()).byteLength};
    } catch (error) {
        return {failed: String(error)};
    }
}"""
SHOW = """url => new Promise(done => {
    const picture = new Image();
    picture.onload = () => done(picture.naturalWidth);
    picture.onerror = () => done(0);
    picture.src = url;
})"""


class Page(BaseHTTPRequestHandler):
    """A page of somebody else's, itself cross-origin isolated."""

    def do_GET(self) -> None:
        self.send_response(200)
        for name, value in (
            ("Content-Type", "text/html"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Embedder-Policy", "require-corp"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>another viewer</title>")

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def page_elsewhere() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(10)


@pytest.fixture(scope="module")
def viewer() -> Iterator[str]:
    """The origin that is allowed."""
    with page_elsewhere() as origin:
        yield origin


@pytest.fixture(scope="module")
def lightbox(viewer: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lightbox]:
    folder = tmp_path_factory.mktemp("cross-origin") / "data"
    with running(folder, PACS_CORS_ORIGINS=viewer, PACS_CROSS_ORIGIN_ISOLATION="true") as server:
        server.store([corpus_file(MR)])
        yield server


def frame() -> str:
    stored = pydicom.dcmread(corpus_file(MR), stop_before_pixels=True)
    return (
        f"/dicom-web/studies/{stored.StudyInstanceUID}/series/{stored.SeriesInstanceUID}"
        f"/instances/{stored.SOPInstanceUID}/frames/1"
    )


def path_of(asked: str) -> str:
    """The path of a case: the frame's is read from the corpus, which may not be there when the cases are collected."""
    return frame() if asked == FRAME else asked


FRAME = "a frame"
# Path, options of fetch, status, headers that the script must see.
FETCHES: list[tuple[str, dict[str, Any], int, set[str]]] = [
    ("/dicom-web/studies", {"headers": {"Accept": "application/dicom+json", "Authorization": "Bearer x"}}, 200, {"etag", "content-type"}),
    ("/dicom-web/studies?totalcount=true", {"headers": {"If-None-Match": "W/none"}}, 200, {"x-total-count"}),
    (FRAME, {"headers": {"Range": "bytes=0-99", "Accept": "multipart/related; type=application/octet-stream; transfer-syntax=*"}}, 206, {"content-range", "accept-ranges", "content-length"}),
    ("/dicom-web/studies/1.2.3", {}, 404, {"content-type"}),
    ("/dicom-web/studies", {"method": "POST", "headers": {"Content-Type": "application/dicom"}, "body": "x"}, 409, {"content-type", "warning"}),
    ("/dicom-web/studies", {"credentials": "include"}, 200, {"etag"}),
    ("/wado?requestType=WADO", {}, 400, {"content-type"}),
]


@pytest.mark.parametrize(("path", "options", "status", "headers"), FETCHES, ids=[f"{case[0][:30]} {case[2]}" for case in FETCHES])
def test_a_script_that_is_allowed_reads_answers_and_headers(
    chromium: Browser, lightbox: Lightbox, viewer: str, path: str, options: dict[str, Any], status: int, headers: set[str]
) -> None:
    with contextlib.closing(chromium.new_context()) as context:
        page = context.new_page()
        page.goto(viewer)
        answer = page.evaluate(READ, [lightbox.url + path_of(path), options])
    assert answer.get("status") == status, answer
    assert set(answer["headers"]) >= headers
    assert answer["size"] > 0


def test_other_scripts_read_nothing(chromium: Browser, lightbox: Lightbox) -> None:
    with page_elsewhere() as stranger, contextlib.closing(chromium.new_context()) as context:
        page = context.new_page()
        page.goto(stranger)
        for path, options, _status, _headers in FETCHES:
            assert "Failed to fetch" in page.evaluate(READ, [lightbox.url + path_of(path), options]).get("failed", "read it")


def test_an_isolated_page_elsewhere_embeds_pictures(chromium: Browser, lightbox: Lightbox, viewer: str) -> None:
    with contextlib.closing(chromium.new_context()) as context:
        page = context.new_page()
        page.goto(viewer)
        assert page.evaluate("crossOriginIsolated")
        assert page.evaluate(SHOW, f"{lightbox.url}{frame()}/rendered") > 0


def test_the_viewer_works_isolated(chromium: Browser, lightbox: Lightbox, tmp_path: Path) -> None:
    if find() is None:
        absent("NO VIEWER: OHIF is not fetched (make viewer): it is not seen isolated")
    with contextlib.closing(chromium.new_context(viewport={"width": 1280, "height": 800})) as context:
        ohif = Ohif(context, lightbox.url)
        ohif.open_study(frame().split("/")[3])
        assert ohif.page.evaluate("crossOriginIsolated")
        picture = ohif.settled()
        ohif.page.screenshot(path=tmp_path / "isolated.png")
    assert detail(picture) > 2.0
    assert ohif.complaints.found == []
