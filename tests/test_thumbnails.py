"""Thumbnails that are drawn before anybody asks: when nothing more comes, used only while they are right, gone with their instances."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from dicomweb import rendered
from dicomweb.settings import WebSettings
from dicomweb.thumbnails import Thumbnails
from pacs.processing import KINDS, LANES, Work, kinds
from pacs.processing import thumbnails as processing
from pacs.settings import Settings
from storage import thumbnails, upkeep
from storage.archive import Archive
from storage.copying import order_thumbnails
from storage.deletion import remove_object
from storage.index import open_index
from storage.index.presets import put_presets
from storage.jobs import JobQueue
from storage.presets import Preset
from storage.thumbnails import Arrivals
from storage.types import Scope
from tests.support import made, web
from tests.support.archive import Store
from tests.support.lightbox import running
from tests.support.web import Watched

KEPT = WebSettings(thumbnails=True)
SERIES, STUDY = "studies/1.2.3/series/1.2.3.4", "studies/1.2.3"
MIDDLE = f"{SERIES}/instances/1.2.3.4.2"
SIDE = 256


def slice_(number: int, **attributes: Any) -> bytes:
    """A CT without a window, brighter in the middle slice."""
    pixels = np.full((SIDE, SIDE), 1024 + 40 + (100 if number == 2 else -100), "<u2")
    return made.instance(number, side=SIDE, PixelData=pixels.tobytes(), RescaleSlope=1, RescaleIntercept=-1024, **attributes)


def drawn(archive: Archive, *scopes: Scope) -> None:
    for scope in scopes or (Scope("1.2.3", "1.2.3.4"), Scope("1.2.3")):
        Thumbnails(archive).keep(scope)


@pytest.fixture
def series(store: Store) -> None:
    for number in (1, 2, 3):
        store(slice_(number))


def refuse(*_arguments: object, **_more: object) -> None:
    raise AssertionError("drawn for the request")


@pytest.fixture
def client(archive: Archive, series: None) -> Iterator[TestClient]:
    with web.client(archive, replace(KEPT, layout_cache_seconds=0, preset_cache_seconds=0)) as opened:
        yield opened


@pytest.mark.parametrize("path", [SERIES, STUDY, MIDDLE, f"{MIDDLE}/frames/1"])
def test_the_first_to_ask_finds_it_and_nothing_is_decoded(archive: Archive, series: None, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    with web.client(archive) as plain:
        expected = plain.get(f"{path}/thumbnail")
    drawn(archive)
    for name in ("draw_small", "draw_one"):
        refusing = lambda *_: refuse()  # noqa: E731 - it needs the name of what it stands for
        refusing.__name__ = name
        monkeypatch.setattr(rendered, name, refusing)
    blobs: Any = Watched(archive.blobs)
    with web.client(replace(archive, blobs=blobs), KEPT) as client:
        found = client.get(f"{path}/thumbnail")
        assert (found.status_code, found.content, found.headers["etag"]) == (200, expected.content, expected.headers["etag"])
        assert max(Image.open(io.BytesIO(found.content)).size) == 128
        assert blobs.asked == ["read"], "the thumbnail alone is read"
        again = client.get(f"{path}/thumbnail", headers={"if-none-match": found.headers["etag"]})
        assert again.status_code == 304


def test_it_is_of_the_middle_slice(client: TestClient, archive: Archive) -> None:
    drawn(archive)
    shown = np.asarray(Image.open(io.BytesIO(client.get(f"{SERIES}/thumbnail").content)))
    # 140 HU in the window 40/400, as images have that bring none.
    assert shown.mean() == pytest.approx(((140 - 39.5) / 399 + 0.5) * 255, abs=2)


def test_one_that_is_no_longer_right_is_not_used(client: TestClient, archive: Archive, store: Store) -> None:
    drawn(archive)
    before = client.get(f"{SERIES}/thumbnail").content
    put_presets(archive.index, [Preset("ct-ours", "Ours", "CT", 140, 10, default=True)])
    after = client.get(f"{SERIES}/thumbnail").content
    assert after != before
    assert np.asarray(Image.open(io.BytesIO(after))).mean() == pytest.approx(((140 - 139.5) / 9 + 0.5) * 255, abs=2)
    for number in (4, 5):
        store(slice_(number))
    other = np.asarray(Image.open(io.BytesIO(client.get(f"{SERIES}/thumbnail").content)))
    assert other.mean() == pytest.approx(0, abs=2), "the middle is another slice"


@pytest.mark.parametrize("query", ["?viewport=64,64", "?window=0,100", "?accept=image/png"])
def test_what_is_asked_for_otherwise_is_drawn(client: TestClient, archive: Archive, query: str) -> None:
    drawn(archive)
    usual = client.get(f"{SERIES}/thumbnail").content
    assert client.get(f"{SERIES}/thumbnail{query}").content not in (b"", usual)


@pytest.mark.parametrize("damage", [lambda whole: whole[:-1], lambda whole: b"X" + whole[1:], lambda whole: b"", lambda whole: whole[:-9] + b"X" + whole[-8:]])
def test_a_damaged_one_is_not_used(client: TestClient, archive: Archive, damage: Any) -> None:
    drawn(archive)
    right = client.get(f"{SERIES}/thumbnail").content
    (key,) = [blob.key for blob in archive.blobs.list("copies/thumbnail/")]
    whole = b"".join(archive.blobs.stream(key))
    archive.blobs.delete(key)
    with archive.spool() as spool:
        spool.write(damage(whole))
        archive.blobs.put(key, spool)
    assert [(finding.fault, finding.key) for finding in upkeep.verify(archive)] == [(upkeep.Fault.DAMAGED, key)]
    with web.client(archive, KEPT) as fresh:
        assert fresh.get(f"{SERIES}/thumbnail").content == right


def test_what_is_no_image_has_its_icon_kept(archive: Archive, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store(made.instance(1, series="1.2.3.9", sop_class="1.2.840.10008.5.1.4.1.1.88.11", pixels=False, Modality="SR"))
    drawn(archive, Scope("1.2.3", "1.2.3.9"))
    monkeypatch.setattr("dicomweb.rendering.placeholder", refuse)
    with web.client(archive, KEPT) as client:
        assert client.get("studies/1.2.3/series/1.2.3.9/thumbnail").status_code == 200


def test_it_goes_with_its_instance_and_is_neither_instance_nor_orphan(client: TestClient, archive: Archive, tmp_path: Path) -> None:
    drawn(archive)
    (key,) = [blob.key for blob in archive.blobs.list("copies/thumbnail/")]
    assert list(upkeep.verify(archive)) == []
    other = replace(archive, index=open_index(f"sqlite:///{tmp_path / 'rebuilt.db'}"))
    assert list(upkeep.rebuild(other)) == []
    assert other.index.counts().instances == 3
    other.index.close()
    original = key.removeprefix("copies/thumbnail/")
    assert client.delete("studies/1.2.3").status_code < 300
    with archive.index.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM instance_content")
        connection.exec_driver_sql("DELETE FROM instance")
    assert remove_object(archive, original)
    assert list(archive.blobs.list("copies/")) == []
    thumbnails.keep(archive, original, "basis", b"picture")
    assert list(archive.blobs.list("copies/")) == [], "it had gone before"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_series_is_noticed_once_when_nothing_comes(archive: Archive, store: Store) -> None:
    clock = Clock()
    arrivals = Arrivals(archive.index, 10, clock=clock)
    store(slice_(1))
    assert arrivals.quiet() == []
    clock.now = 9
    store(slice_(2))
    store(slice_(1, series="1.2.3.5"))
    assert arrivals.quiet() == []
    clock.now = 18
    assert arrivals.quiet() == [], "9 s ago something came"
    clock.now = 19
    assert arrivals.quiet() == [Scope("1.2.3", "1.2.3.4"), Scope("1.2.3", "1.2.3.5")]
    clock.now = 60
    assert arrivals.quiet() == []
    assert Arrivals(archive.index, 0, clock=clock).quiet() == [], "what another process has noticed"


def test_what_is_long_past_is_passed_over(archive: Archive, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "_MOST_BEHIND", 2)
    for number in range(1, 5):
        store(slice_(1, series=f"1.2.3.{number}"))
    assert {one.series for one in Arrivals(archive.index, 0).quiet()} == {"1.2.3.3", "1.2.3.4"}


def test_a_whole_archive_at_once_is_noticed_some_at_a_time(archive: Archive, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a migration a hundred thousand series come: neither they nor their jobs are to fill the memory."""
    monkeypatch.setattr(thumbnails, "_MOST_COMING", 3)
    monkeypatch.setattr(thumbnails, "_AT_ONCE", 2)
    clock = Clock()
    arrivals = Arrivals(archive.index, 10, clock=clock)
    for number in range(1, 8):
        store(slice_(1, series=f"1.2.3.{number}"))
    given = [[one.series for one in arrivals.quiet()] for _ in range(3)]
    assert given == [["1.2.3.1", "1.2.3.2"], ["1.2.3.3", "1.2.3.4"], []], "what is over the limit does not wait"
    clock.now = 10
    given = [[one.series for one in arrivals.quiet()] for _ in range(3)]
    assert given == [["1.2.3.5", "1.2.3.6"], ["1.2.3.7"], []]


def test_where_something_always_comes_nobody_waits_for_ever(archive: Archive, store: Store) -> None:
    clock = Clock()
    arrivals = Arrivals(archive.index, 10, clock=clock)
    store(slice_(1, series="1.2.3.5"))
    found = []
    for number in range(1, 70):
        store(slice_(number))
        found += [(clock.now, scope.series) for scope in arrivals.quiet()]
        clock.now += 5
    assert found == [(300, "1.2.3.5")]


def test_by_jobs_of_a_worker(archive: Archive, series: None) -> None:
    settings = Settings(thumbnail_quiet_seconds=0)
    work = Work(archive, settings, draw_thumbnail=Thumbnails(archive).keep)
    processing.gather(replace(work, settings=Settings(thumbnails=False)))
    assert JobQueue(archive.index).claim("test", kinds=[thumbnails.KIND]) == []
    processing.gather(work)
    (job,) = JobQueue(archive.index).claim("test", kinds=[thumbnails.KIND], limit=9)
    assert [lane.threads for lane in LANES if thumbnails.KIND in lane.kinds] == [1]
    kinds(work)[thumbnails.KIND](job)
    assert len(list(archive.blobs.list("copies/thumbnail/"))) == 1
    KINDS[thumbnails.KIND](work, {"study": "1.2.3", "series": "1.2.99"})


def test_those_of_what_is_stored_already_are_drawn_by_jobs_too(archive: Archive, series: None, store: Store) -> None:
    store(slice_(1, series="1.2.3.5", Modality="MR"))
    store(slice_(1, study="1.2.9", series="1.2.9.1"))
    assert [order_thumbnails(archive.index, *asked) for asked in ((["MR"],), (["*"], "1.2.3"), (["*"],), (["US"],))] == [1, 2, 3, 0]
    queue, run = JobQueue(archive.index), kinds(Work(archive, Settings(), draw_thumbnail=Thumbnails(archive).keep))
    while claimed := queue.claim("test", kinds=[thumbnails.KIND]):
        run[thumbnails.KIND](claimed[0])
        queue.done(claimed[0])
    kept = {tuple(one.split("/")[2:4]) for one in (blob.key for blob in archive.blobs.list("copies/thumbnail/"))}
    assert len(kept) == 3


def test_in_a_whole_server(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.dcm" for number in (1, 2, 3)]
    for number, file in enumerate(files, 1):
        file.write_bytes(slice_(number))
    with running(tmp_path / "data", PACS_THUMBNAIL_QUIET_SECONDS="0.5") as server:
        server.store(files)
        folder = tmp_path / "data"
        deadline = time.monotonic() + 30
        while not list(folder.rglob("copies/thumbnail/**/*.dcm")) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert list(folder.rglob("copies/thumbnail/**/*.dcm"))
        found = httpx.get(f"{server.url}/dicom-web/{SERIES}/thumbnail")
        assert found.headers["content-type"] == "image/jpeg"
        again = httpx.get(f"{server.url}/dicom-web/{SERIES}/thumbnail", headers={"if-none-match": found.headers["etag"]})
        assert again.status_code == 304
