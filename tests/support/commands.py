"""Commands of `pacs`, run in this process against an archive of the test's own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pacs.cli import app
from tests.support import made

RUNNER = CliRunner()


class Pacs:
    """Runs commands against an archive of this test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments: str, status: int = 0) -> str:
        done = RUNNER.invoke(app, list(arguments), catch_exceptions=False)
        assert done.exit_code == status, f"{done.exit_code}: {done.stdout}{done.stderr}"
        return done.stdout if status == 0 or done.stdout else done.stderr

    def json(self, *arguments: str, status: int = 0) -> object:
        return json.loads(self(*arguments, "--json", status=status))


@pytest.fixture
def pacs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pacs]:
    for name in list(os.environ):
        if name.startswith("PACS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PACS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    umask = os.umask(0o022)
    yield Pacs(tmp_path / "data")
    os.umask(umask)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(1, 4):
        (folder / f"IM{number}").write_bytes(made.instance(number))
    return folder
