"""Metrics: what is counted, added up over processes; the store and the requests watched on their way; health routes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest
import sqlalchemy
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from pacs import health, metrics_folder, observed
from pacs.health import Check, disk
from pacs.metrics import Gauges, Metrics
from pacs.metrics_folder import bury, forget, process_folder
from pacs.observed import CountedBlobs, Observed
from pacs.scp.settings import Observer
from storage.errors import IndexUnavailable, ObjectMissing, StoreFull
from storage.index import open_index, watch
from storage.index.database import Rerun
from storage.index.prepared import Prepared
from storage.types import Blob, Blobs, Content

KEY = "0123456789abcdef/0123456789abcdef/" + "0" * 64 + ".dcm"


def value(page: bytes, series: str) -> float | None:
    """The number behind `name{label="x"}` in a page of Prometheus's text format."""
    found = re.search(rf"^{re.escape(series)} (\S+)$", page.decode(), re.MULTILINE)
    return float(found[1]) if found else None


@pytest.fixture
def figures() -> Metrics:
    return Metrics()


def test_ingest(figures: Metrics) -> None:
    figures.ingested("dimse", "stored", 0.03, 1000)
    figures.ingested("dimse", "stored", 0.3, 500)
    figures.ingested("stow", "Conflict", 0.01, 7)
    page = figures.page()
    stored = '{kind="dimse",outcome="stored"}'
    assert value(page, f"lightbox_ingest_seconds_count{stored}") == 2
    assert value(page, f"lightbox_ingest_bytes_total{stored}") == 1500
    assert value(page, 'lightbox_ingest_seconds_bucket{kind="dimse",le="0.05",outcome="stored"}') == 1
    assert value(page, 'lightbox_ingest_seconds_count{kind="stow",outcome="Conflict"}') == 1


def test_associations(figures: Metrics) -> None:
    observer: Observer = figures
    observer.association_accepted()
    observer.association_accepted()
    observer.association_accepted()
    observer.association_ended("idle", 61)
    observer.association_ended("released", 0.2)
    observer.association_rejected("called AE")
    observer.connection_dropped("too slow")
    observer.stored(0xA700, 0.1, 5)
    observer.found("STUDY", 0, 0.1, 3)
    page = figures.page()
    assert value(page, "lightbox_associations_active") == 1
    for reason, result in (
        ("idle", "aborted"),
        ("released", "released"),
        ("called AE", "rejected"),
        ("too slow", "dropped"),
    ):
        assert value(page, f'lightbox_associations_total{{reason="{reason}",result="{result}"}}') == 1
    assert value(page, "lightbox_association_seconds_count") == 2
    assert value(page, 'lightbox_dimse_seconds_count{operation="C-STORE",status="0xA700"}') == 1
    assert value(page, 'lightbox_dimse_seconds_count{operation="C-FIND",status="0x0000"}') == 1


_CHILD = """
import sys
from pathlib import Path
from pacs.metrics import Metrics
figures = Metrics(Path(sys.argv[1]))
figures.ingested("dimse", "stored", 0.03, 1000)
figures.association_accepted()
if len(sys.argv) > 2:
    sys.stdout.buffer.write(figures.page())
"""


def _process(run_folder: Path, kind: str, *more: str) -> tuple[int, bytes]:
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(run_folder), *more],
        stdout=subprocess.PIPE,
        env={**os.environ, metrics_folder.VARIABLE: str(process_folder(run_folder, kind))},
    )
    page, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    return child.pid, page


def test_processes_are_added_up_and_the_dead_forgotten(tmp_path: Path) -> None:
    for kind in ("dimse", "web"):
        forget(tmp_path, kind)
    dead, _ = _process(tmp_path, "dimse")
    bury(tmp_path, "dimse", dead)
    _process(tmp_path, "dimse")
    _, page = _process(tmp_path, "web", "page")
    assert value(page, 'lightbox_ingest_seconds_count{kind="dimse",outcome="stored"}') == 3
    assert value(page, "lightbox_associations_active") == 2
    forget(tmp_path, "dimse")
    _, page = _process(tmp_path, "web", "page")
    assert value(page, 'lightbox_ingest_seconds_count{kind="dimse",outcome="stored"}') == 2


def test_looked_up_figures_are_believed_for_a_while(figures: Metrics) -> None:
    asked = 0

    def read() -> Iterator[tuple[str, str, dict[str, str], float]]:
        nonlocal asked
        asked += 1
        yield "lightbox_jobs", "Jobs.", {"state": "waiting"}, 3
        yield "lightbox_jobs", "Jobs.", {"state": "dead"}, 1

    figures.registry.register(Gauges(read, seconds=60))
    figures.page()
    page = figures.page()
    assert value(page, 'lightbox_jobs{state="waiting"}') == 3
    assert value(page, 'lightbox_jobs{state="dead"}') == 1
    assert asked == 1


def test_figures_survive_a_database_that_is_away(figures: Metrics) -> None:
    def away() -> list[tuple[str, str, dict[str, str], float]]:
        raise IndexUnavailable("the database does not answer")

    figures.registry.register(Gauges(away))
    figures.ingested("stow", "stored", 0.1, 1)
    assert b"lightbox_ingest_seconds" in figures.page()


class FullStore:
    """A store that takes nothing and has nothing."""

    def put(self, key: str, content: Content, *, replace: bool = False) -> bool:
        raise StoreFull("no room; free space")

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        raise ObjectMissing("not there")

    def stream(self, key: str, offset: int = 0, length: int | None = None, *, fresh: bool = False) -> Iterator[bytes]:
        return iter([b"abc"])

    def resident(self, key: str, offset: int, length: int) -> bytes | None:
        return None

    def opened(self, key: str) -> int | None:
        return None

    def delete(self, key: str) -> None:
        return None

    def list(self, prefix: str = "") -> Iterator[Blob]:
        return iter([])


def test_failures_of_the_store_are_counted_and_passed_on(figures: Metrics) -> None:
    blobs: Blobs = CountedBlobs(FullStore(), figures)
    with pytest.raises(StoreFull):
        blobs.put(KEY, None)  # type: ignore[arg-type]
    with pytest.raises(ObjectMissing):
        blobs.read(KEY)
    assert (list(blobs.stream(KEY)), list(blobs.list())) == ([b"abc"], [])
    blobs.delete(KEY)
    page = figures.page()
    assert value(page, 'lightbox_store_errors_total{error="StoreFull",operation="put"}') == 1
    assert b'operation="read"' not in page


def test_failures_of_the_database_are_counted(figures: Metrics, tmp_path: Path) -> None:
    index = open_index(f"sqlite:///{tmp_path / 'index.sqlite'}")
    done = watch(figures.database_failed)
    wrong = Prepared(sqlalchemy.text("SELECT * FROM nowhere"))
    twice = Prepared(sqlalchemy.text("INSERT INTO counter (name, value) VALUES ('change', 0)"))
    try:
        for asked in (
            lambda connection: connection.execute(sqlalchemy.text("SELECT * FROM nowhere")),
            lambda connection: wrong.run(connection, {}),
        ):
            with pytest.raises(IndexUnavailable), index.database.read() as connection:
                asked(connection)
        for lost in (
            lambda connection: connection.execute(sqlalchemy.text("INSERT INTO counter VALUES ('change', 0)")),
            lambda connection: twice.run(connection, {}),
        ):
            with pytest.raises(Rerun), index.database.write() as connection:
                lost(connection)
    finally:
        done()
        index.close()
    page = figures.page()
    assert value(page, 'lightbox_database_errors_total{error="OperationalError"}') == 2
    assert b"IntegrityError" not in page


async def _study(request: Request) -> Response:
    if "fail" in request.query_params:
        raise RuntimeError("DOE^JANE")
    return PlainTextResponse("ok")


def test_requests_are_counted_by_template_and_logged_without_words(
    figures: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[tuple[str, dict[str, object]]] = []

    class Log:
        def debug(self, action: str, **values: object) -> None:
            logged.append((action, values))

        info = error = debug

    monkeypatch.setattr(observed, "_log", Log())
    inner = Starlette(routes=[Route("/dicom-web/studies/{study}", _study)])
    client = TestClient(Observed(inner, figures), raise_server_exceptions=False)
    assert client.get("/dicom-web/studies/1.2.3?PatientName=DOE").status_code == 200
    assert client.get("/dicom-web/studies/DOE%5EJANE").status_code == 200
    assert client.get("/dicom-web/studies/1.2?fail=1").status_code == 500
    assert client.request("BREW", "/elsewhere/DOE").status_code == 404
    page = figures.page()
    route = 'route="/dicom-web/studies/{study}"'
    assert value(page, f'lightbox_http_seconds_count{{method="GET",{route},status="200"}}') == 2
    assert value(page, f'lightbox_http_seconds_count{{method="GET",{route},status="500"}}') == 1
    assert value(page, 'lightbox_http_seconds_count{method="other",route="none",status="404"}') == 1
    assert [values.get("study") for _, values in logged] == ["1.2.3", None, "1.2", None]
    assert "DOE" not in repr(logged)
    assert b"DOE" not in page


def _client(checks: Mapping[str, Check]) -> TestClient:
    return TestClient(Starlette(routes=health.routes(checks, Metrics())))


def _well() -> None:
    return None


def _ill() -> None:
    raise IndexUnavailable("the database does not answer; send again later")


def _unforeseen() -> None:
    raise KeyError("DOE^JANE")


@pytest.mark.parametrize(
    ("checks", "status", "shown"),
    [
        ({"index": _well, "store": _well}, 200, {"index": "ok", "store": "ok"}),
        (
            {"index": _ill, "store": _well},
            503,
            {"index": "the database does not answer; send again later", "store": "ok"},
        ),
        ({"index": _unforeseen}, 503, {"index": "KeyError"}),
    ],
)
def test_readiness(checks: Mapping[str, Check], status: int, shown: Mapping[str, str]) -> None:
    answer = _client(checks).get("/readyz")
    assert answer.status_code == status
    assert answer.json() == {"status": "ready" if status == 200 else "not ready", "checks": shown}
    assert answer.headers["cache-control"] == "no-store"


def test_alive_whatever_the_checks_say() -> None:
    answer = _client({"index": _ill}).get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


def test_readiness_is_not_asked_more_often_than_once_a_second() -> None:
    asked = 0

    def count() -> None:
        nonlocal asked
        asked += 1

    with _client({"index": count}) as client:
        for _ in range(20):
            client.get("/readyz")
    assert asked <= 2


def test_a_check_that_hangs_keeps_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_SECONDS", 0.05)
    monkeypatch.setattr(health, "_BELIEVED_SECONDS", 0.0)
    release, begun = threading.Event(), []

    def hang() -> None:
        begun.append(1)
        release.wait(10)

    with _client({"store": hang}) as client:
        answers: list[httpx.Response] = [client.get("/readyz") for _ in range(3)]  # type: ignore[misc]
        release.set()
    assert [answer.status_code for answer in answers] == [503] * 3
    assert "no answer" in answers[0].json()["checks"]["store"]
    assert len(begun) == 1


def test_disk_check(tmp_path: Path) -> None:
    disk(tmp_path, 0)()
    with pytest.raises(health.NotReady, match="MiB of disk are free"):
        disk(tmp_path, 1 << 60)()
    with pytest.raises(health.NotReady, match="cannot be written to"):
        disk(tmp_path / "gone", 0)()
    assert list(tmp_path.iterdir()) == []


def test_metrics_route() -> None:
    answer = _client({}).get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "lightbox_associations_active 0.0" in answer.text
