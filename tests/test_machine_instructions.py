"""Instructions of the processor that the kernels take, counted by callgrind: what bytecodes do not tell of, the work that C does.

They depend on the interpreter and on how it was built, so each is held against something counted in the same run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.kernels import SIDES, TIMES

TOP = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def instructions(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, int]:
    """For each kernel, for one instance."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        pytest.skip("NOT COUNTED: there is no valgrind here; apt-get install valgrind")
    written = tmp_path_factory.mktemp("callgrind") / "out"
    options = ["--tool=callgrind", "--toggle-collect=ffi_call", "--dump-after=ffi_call", f"--callgrind-out-file={written}"]
    run = subprocess.run(
        [valgrind, *options, sys.executable, "-m", "tests.support.kernels"],
        cwd=TOP, env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    found = {name: _total(written.with_name(f"out.{number}")) // TIMES for number, name in enumerate(run.stdout.splitlines(), 1)}
    print(found)
    return found


def _total(file: Path) -> int:
    return next(int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith("totals:"))


def test_the_scanner_needs_a_fraction_of_what_a_reader_needs(instructions: Mapping[str, int]) -> None:
    assert instructions["scan, small"] * 7 < instructions["pydicom"]


def test_the_scanner_passes_pixels_over(instructions: Mapping[str, int]) -> None:
    assert instructions["scan, large"] < 1.2 * instructions["scan, small"]


def test_the_multipart_reader_looks_at_each_byte_less_than_once(instructions: Mapping[str, int]) -> None:
    """Boundaries are looked for several bytes at a time."""
    small, large = SIDES
    more = instructions["multipart, large"] - instructions["multipart, small"]
    assert more < 2 * (large**2 - small**2)
