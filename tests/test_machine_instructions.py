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
from typing import Any

import pytest

from tests.support import made, web
from tests.support.kernels import ITERATIONS

TOP = Path(__file__).parent.parent
TIMES = 10
# Rounds of an empty loop, in which an instance is scanned.
SCAN = 3_600
SIDES = {"small": 64, "large": 512}


def _attributes(number: int) -> dict[str, Any]:
    """Some more, as a scanner writes them: all of a series alike but for a few."""
    return {
        "SliceThickness": "1.25", "KVP": "120", "PixelSpacing": ["0.7", "0.7"], "ImagePositionPatient": ["0", "0", str(number)],
        "SliceLocation": str(number), "ContentTime": f"10{number:04d}", "SeriesDescription": "Ax Soft 1.25 mm", "SeriesDate": "20240102",
    }  # fmt: skip


def _write(folder: Path) -> None:
    for size, side in SIDES.items():
        instances = [made.instance(number, side=side, **_attributes(number)) for number in range(TIMES)]
        for number, one in enumerate(instances):
            (folder / f"{size}-{number:02d}.dcm").write_bytes(one)
        (folder / f"{size}.multipart").write_bytes(web.related(instances)[0])


@pytest.fixture(scope="module")
def instructions(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, float]:
    """For one instance of each kernel, in rounds of an empty loop; for multipart by the byte that a large instance has more."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        pytest.skip("NOT COUNTED: there is no valgrind here; apt-get install valgrind")
    folder = tmp_path_factory.mktemp("callgrind")
    _write(folder)
    options = ["--tool=callgrind", "--toggle-collect=ffi_call", "--dump-after=ffi_call", f"--callgrind-out-file={folder / 'out'}"]
    run = subprocess.run(
        [valgrind, *options, sys.executable, "-m", "tests.support.kernels", folder],
        cwd=TOP, env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    found = {name: _total(folder / f"out.{number}") / TIMES for number, name in enumerate(run.stdout.splitlines(), 1)}
    one_round = found["loop"] * TIMES / ITERATIONS
    print(found, one_round)
    more = 2 * (SIDES["large"] ** 2 - SIDES["small"] ** 2)
    return {
        **{name: found[name] / one_round for name in ("scan, small", "scan, large")},
        "multipart, a byte": (found["multipart, large"] - found["multipart, small"]) / more,
    }


def _total(file: Path) -> int:
    return next(int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith("totals:"))


def test_what_the_scanner_takes(instructions: Mapping[str, float]) -> None:
    print(instructions)
    assert instructions["scan, small"] < SCAN
    # Pixels are passed over.
    assert instructions["scan, large"] < 1.2 * instructions["scan, small"]


def test_the_multipart_reader_takes_less_than_an_instruction_for_a_byte(instructions: Mapping[str, float]) -> None:
    """Boundaries are looked for several bytes at a time."""
    assert instructions["multipart, a byte"] < 1
