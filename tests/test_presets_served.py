"""Presets while everything runs: by the API, the page and the command; on pictures of other processes; never an old picture."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from dicomweb.settings import WebSettings
from pacs import admin
from storage.archive import Archive
from storage.index.presets import put_presets
from storage.presets import Preset
from tests.support import made, web
from tests.support.commands import Pacs
from tests.support.lightbox import Lightbox, running

SIDE = 64
PATH = "studies/1.2.3/series/1.2.3.4/instances/1.2.3.4.1"
PNG = {"accept": "image/png"}
# Hounsfield units from -1024 to 3071, each once.
RAMP = np.arange(SIDE * SIDE, dtype="<u2").reshape(SIDE, SIDE)
NODULES = {"name": "Nodules", "modality": "CT", "center": -500, "width": 1400}


def ramp(**attributes: Any) -> bytes:
    """A CT of every value once, without a window."""
    return made.instance(side=SIDE, PixelData=RAMP.tobytes(), RescaleSlope=1, RescaleIntercept=-1024, **attributes)


def levels(content: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(Image.open(io.BytesIO(content)))


def expected(center: float, width: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """LINEAR by its formula (PS3.3 C.11.2.1.2.1), from 0 to 255."""
    units = RAMP.astype(np.float64) - 1024
    return np.clip(((units - (center - 0.5)) / (width - 1) + 0.5) * 255, 0, 255)


def is_shown(content: bytes, center: float, width: float) -> bool:
    return bool(np.abs(levels(content) - expected(center, width)).max() <= 1)


@pytest.fixture
def api(archive: Archive) -> TestClient:
    routes = admin.routes(archive, calling="LIGHTBOX")
    routes += admin.page_routes(archive, calling="LIGHTBOX", unknown_callers="ask")
    return TestClient(Starlette(routes=routes), base_url="http://pacs.test", raise_server_exceptions=False)


@pytest.fixture
def viewer(archive: Archive) -> Iterator[TestClient]:
    """DICOMweb that remembers instances for ever, and looks for presets as it does."""
    with web.client(archive, WebSettings(layout_cache_seconds=60)) as client:
        assert web.stow(client, [ramp()]).status_code == 200
        yield client


def within_a_second(right: Callable[[], bool]) -> None:
    """`right` is so a second from now at the latest, and stays so."""
    deadline = time.monotonic() + 1
    while not right() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert right()


def test_a_preset_is_added_changed_and_removed(api: TestClient) -> None:
    added = api.post("/api/presets", json=NODULES)
    whole = {"id": "ct-nodules", **NODULES, "function": "LINEAR", "body_part": "", "default": False, "units": "", "hidden": False}
    assert (added.status_code, added.json()) == (200, {**whole, "origin": "site", "viewer": True})
    assert api.get("/api/presets/ct-nodules").json() == added.json()
    assert api.post("/api/presets", json=NODULES).status_code == 409
    changed = api.put("/api/presets/ct-lung", json={**NODULES, "name": "Lung"}).json()
    assert (changed["center"], changed["origin"]) == (-500, "site")
    assert api.delete("/api/presets/ct-lung").status_code == 204
    back = api.get("/api/presets/ct-lung").json()
    assert (back["center"], back["origin"]) == (-600, "built-in")
    assert api.delete("/api/presets/ct-lung").status_code == 409
    assert api.delete("/api/presets/ct-nothing").status_code == 404
    assert api.get("/api/presets/ct-nothing").status_code == 404


def test_a_users_presets_are_that_users(api: TestClient) -> None:
    assert api.post("/api/presets?user=anna", json=NODULES).json()["origin"] == "user"
    ids = [{one["id"] for one in api.get(f"/api/presets{query}").json()} for query in ("?user=anna", "", "?user=bert")]
    assert ["ct-nodules" in one for one in ids] == [True, False, False]
    assert all("ct-brain" in one for one in ids)
    assert api.delete("/api/presets/ct-nodules").status_code == 404
    assert api.delete("/api/presets/ct-nodules?user=anna").status_code == 204


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"width": 0}, "the width of a window is at least 1"),
        ({"function": "linear"}, "function is one of LINEAR, LINEAR_EXACT, SIGMOID"),
        ({"modality": "ct"}, "give the modality"),
        ({"body_part": "chest"}, "give the body part"),
        ({"name": "a, b"}, "no comma"),
        ({"center": "1"}, "center"),
        ({"colour": "red"}, "colour"),
        ({"units": "SUV"}, "for modality PT"),
    ],
)
def test_what_cannot_be_is_refused_in_words(api: TestClient, change: dict[str, object], says: str) -> None:
    for method, path in (("POST", "/api/presets"), ("PUT", "/api/presets/ct-x")):
        answer = api.request(method, path, json={**NODULES, **change})
        assert answer.status_code == 400
        assert says in answer.json()["error"]


def test_the_page_has_them(api: TestClient) -> None:
    api.post("/api/presets", json={**NODULES, "name": "<b>", "body_part": "CHEST", "default": True})
    text = api.get("/admin/presets").text
    assert "&lt;b&gt;" in text
    assert "images without a window" in text
    assert 'value="-500"' in api.get("/admin/presets/ct-b").text
    assert api.get("/admin/presets/ct-nothing").status_code == 404


@pytest.mark.parametrize("path", [f"{PATH}/rendered", f"{PATH}/frames/1/rendered", f"{PATH}/thumbnail", "studies/1.2.3/rendered"])
def test_pictures_have_a_preset_within_a_second_and_never_an_old_one(api: TestClient, viewer: TestClient, path: str) -> None:
    asked = f"{path}?window=nodules"
    assert viewer.get(asked, headers=PNG).status_code == 400
    api.post("/api/presets", json=NODULES)
    within_a_second(lambda: viewer.get(asked, headers=PNG).status_code == 200)
    first = viewer.get(asked, headers=PNG)
    assert is_shown(first.content, -500, 1400)
    api.put("/api/presets/ct-nodules", json={**NODULES, "width": 700})
    within_a_second(lambda: is_shown(viewer.get(asked, headers=PNG).content, -500, 700))
    tagged = PNG | {"if-none-match": first.headers["etag"]}
    assert viewer.get(asked, headers=tagged).status_code == 200, "another preset is another ETag"
    api.delete("/api/presets/ct-nodules")
    within_a_second(lambda: viewer.get(asked, headers=PNG).status_code == 400)


def test_wado_uri_has_presets_by_name_too(api: TestClient, viewer: TestClient) -> None:
    wado = "http://testserver/wado?requestType=WADO&studyUID=1.2.3&seriesUID=1.2.3.4&objectUID=1.2.3.4.1&contentType=image/png"
    api.post("/api/presets?user=anna", json=NODULES)
    within_a_second(lambda: viewer.get(f"{wado}&window=nodules&user=anna").status_code == 200)
    assert is_shown(viewer.get(f"{wado}&window=Nodules&user=anna").content, -500, 1400)
    assert is_shown(viewer.get(f"{wado}&window=ct-lung").content, -600, 1500)
    for refused in ("window=nodules", "window=nodules&user=bert", "window=ct-lung&windowCenter=1&windowWidth=2", "window=ct-lung&presentationUID=1&presentationSeriesUID=2"):
        assert viewer.get(f"{wado}&{refused}").status_code == 400, refused


def test_images_without_a_window_have_the_sites_default(api: TestClient, viewer: TestClient) -> None:
    series = "studies/1.2.3/series/1.2.3.5/instances/1.2.3.5.1"
    windowed = "studies/1.2.3/series/1.2.3.6/instances/1.2.3.6.1"
    web.stow(viewer, [ramp(series="1.2.3.5", BodyPartExamined="HEAD"), ramp(series="1.2.3.6", BodyPartExamined="HEAD", WindowCenter=0, WindowWidth=100)])

    def shows(kind: str) -> bool:
        return is_shown(viewer.get(f"{series}/{kind}", headers=PNG).content, 35, 90)

    for kind in ("rendered", "thumbnail"):
        assert is_shown(viewer.get(f"{PATH}/{kind}", headers=PNG).content, 40, 400)
    api.put("/api/presets/ct-brain", json={"name": "Brain", "modality": "CT", "body_part": "HEAD", "center": 35, "width": 90, "default": True})
    for kind in ("rendered", "thumbnail"):
        within_a_second(partial(shows, kind))
        assert is_shown(viewer.get(f"{PATH}/{kind}", headers=PNG).content, 40, 400), "another body part"
        assert is_shown(viewer.get(f"{windowed}/{kind}", headers=PNG).content, 0, 100), "its own window"
    api.post("/api/presets?user=anna", json={**NODULES, "default": True})
    within_a_second(lambda: is_shown(viewer.get(f"{series}/rendered?user=anna", headers=PNG).content, -500, 1400))
    assert is_shown(viewer.get(f"{series}/rendered?user=bert", headers=PNG).content, 35, 90)


def test_a_change_while_a_picture_is_drawn_is_not_kept_under_the_new_presets(
    archive: Archive, viewer: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The preset changes after it was looked up, and before the picture is remembered."""
    from dicomweb import rendered

    put_presets(archive.index, [Preset("ct-nodules", "Nodules", "CT", -500, 1400)])
    draw = rendered.draw_one

    def slowly(*arguments: Any) -> object:
        made = draw(*arguments)
        put_presets(archive.index, [Preset("ct-nodules", "Nodules", "CT", -500, 700)])
        time.sleep(0.6)
        return made

    within_a_second(lambda: viewer.get(f"{PATH}/rendered?window=Lung", headers=PNG).status_code == 200)
    monkeypatch.setattr(rendered, "draw_one", slowly)
    time.sleep(0.6)
    assert is_shown(viewer.get(f"{PATH}/rendered?window=nodules", headers=PNG).content, -500, 1400)
    monkeypatch.setattr(rendered, "draw_one", draw)
    assert is_shown(viewer.get(f"{PATH}/rendered?window=nodules", headers=PNG).content, -500, 700)


def test_the_command(pacs: Pacs, tmp_path: Path) -> None:
    assert "added" in pacs("presets", "add", "CT", "Nodules", "--body-part", "CHEST", "--", "-500", "1400")
    known = {one["id"]: one for one in orjson.loads(pacs("presets", "list", "--json"))}
    assert known["ct-nodules"]["center"] == -500
    assert known["ct-lung"]["origin"] == "built-in"
    pacs("presets", "change", "ct-nodules", "--width", "700", "--default")
    pacs("presets", "hide", "ct-liver")
    listed = pacs("presets", "list")
    assert "-500 / 700  CHEST, default, site" in listed
    exported = pacs("presets", "export")
    assert [one["id"] for one in orjson.loads(exported)["presets"]] == ["ct-liver", "ct-nodules"]
    for id_ in ("ct-nodules", "ct-liver"):
        pacs("presets", "remove", id_)
    assert orjson.loads(pacs("presets", "export"))["presets"] == []
    file = tmp_path / "presets.json"
    file.write_text(exported)
    pacs("presets", "import", str(file), "--user", "anna")
    assert "ct-nodules" not in pacs("presets", "list")
    assert "default, user" in pacs("presets", "list", "--user", "anna")
    pacs("presets", "add", "PT", "SUV 0 to 3", "1.5", "3", "--units", "SUV")
    assert "LINEAR_EXACT" in pacs("presets", "list")
    file.write_text('{"presets": [{"name": "X", "modality": "CT", "center": 1, "width": 0}]}')
    for arguments, says in (
        (("import", str(file)), "preset X: the width of a window"),
        (("import", str(tmp_path / "nothing")), "cannot be read"),
        (("remove", "ct-nothing"), "there is no preset ct-nothing"),
        (("remove", "ct-lung"), "hide it instead"),
        (("change", "ct-nothing", "--width", "5"), "pacs presets list"),
        (("add", "CT", "Lung", "1", "2"), "there is a preset ct-lung already"),
    ):
        assert says in pacs("presets", *arguments, status=1)


@pytest.fixture(scope="module")
def lightbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lightbox]:
    """A whole server with two web processes."""
    folder = tmp_path_factory.mktemp("presets")
    with running(folder / "data", PACS_WORKERS="2") as server:
        (folder / "image.dcm").write_bytes(ramp())
        server.store([folder / "image.dcm"])
        yield server


def test_a_preset_by_the_command_is_in_every_process_of_the_server(lightbox: Lightbox) -> None:
    asked = f"{lightbox.url}/dicom-web/{PATH}/rendered"

    def picture() -> httpx.Response:
        # A new connection is accepted by whichever process is free.
        return httpx.get(asked, params={"window": "Nodules"}, headers=PNG)

    assert {picture().status_code for _ in range(8)} == {400}
    lightbox.command("presets", "add", "CT", "Nodules", "--", "-500", "1400")
    time.sleep(1)
    assert all(is_shown(picture().content, -500, 1400) for _ in range(8))
    lightbox.command("presets", "change", "ct-nodules", "--width", "700")
    time.sleep(1)
    assert all(is_shown(picture().content, -500, 700) for _ in range(8))
    script = httpx.get(f"{lightbox.url}/app-config.js").content
    if script.startswith(b"window."):
        presets = orjson.loads(script.partition(b"window.config = ")[2].rstrip(b";\n"))["customizationService"]["cornerstone.windowLevelPresets"]["$set"]
        assert {"id": "ct-nodules", "description": "Nodules", "window": 700, "level": -500} in presets["CT"]
