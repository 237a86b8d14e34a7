"""`make` and the Python that it makes the environment with: one built with optimizations where there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_MAKE = shutil.which("make")
_ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(_MAKE is None, reason="there is no make")

# Stands for a Python: of the right age, with or without optimizations, with or without the modules that make an environment.
_PYTHON = """#!/bin/sh
case "$*" in
    *optimizations*) exit {optimized} ;;
    *ensurepip*) exit {bare} ;;
    *version_info*) exit {wrong_age} ;;
    --version) echo "{name}" ;;
    "-m venv .venv") mkdir .venv && echo "{name}" >.venv/made-with ;;
    *) echo "unexpected: $*" >&2; exit 3 ;;
esac
"""
_SLOW, _FAST, _BARE, _OLD = (1, 0, 0), (0, 0, 0), (0, 1, 0), (0, 0, 1)

_CASES = {
    "the first of the fast ones": ({"python3.12": _FAST, "python3.11": _FAST}, "python3.12", ""),
    "a fast one before a slow one of a later version": ({"python3.13": _SLOW, "python3.11": _FAST}, "python3.11", ""),
    "a slow one is better than none": ({"python3.11": _SLOW, "python3.12": _OLD}, "python3.11", "without optimizations"),
    "a fast one that cannot make an environment is no help": ({"python3.13": _BARE, "python3": _SLOW}, "python3", "without optimizations"),
    "only what cannot make one": ({"python3.13": _BARE}, None, "python3.13 cannot make an environment"),
    "none of the right age": ({"python3.13": _OLD}, None, "Lightbox needs Python 3.11, 3.12 or 3.13"),
}


@pytest.mark.parametrize("case", _CASES)
def test_which_python_makes_the_environment(case: str, tmp_path: Path) -> None:
    pythons, chosen, said = _CASES[case]
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, (optimized, bare, wrong_age) in pythons.items():
        _program(programs / name, _PYTHON.format(name=name, optimized=optimized, bare=bare, wrong_age=wrong_age))
    ran = _make(tmp_path, programs, " ".join(pythons))
    assert said in ran.stdout + ran.stderr
    made = tmp_path / ".venv" / "made-with"
    assert (made.read_text().strip() if made.exists() else None) == chosen, ran.stdout + ran.stderr
    assert (ran.returncode == 0) == (chosen is not None)


def test_the_python_that_is_asked_for_is_taken(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, optimized in (("python3.13", 0), ("mine", 1)):
        _program(programs / name, _PYTHON.format(name=name, optimized=optimized, bare=0, wrong_age=0))
    _make(tmp_path, programs, str(programs / "mine"))
    assert (tmp_path / ".venv" / "made-with").read_text().strip() == "mine"


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _make(folder: Path, programs: Path, pythons: str) -> subprocess.CompletedProcess[str]:
    """`pythons` are the names to look for, by words, because this machine has Pythons too."""
    shutil.copy(_ROOT / "Makefile", folder)
    assert _MAKE is not None
    environment = {"PATH": f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin", "PYTHON": pythons}
    return subprocess.run(
        [_MAKE, ".venv/.created"], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
