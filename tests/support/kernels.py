"""Run under callgrind: each kernel once in a call by way of `ffi_call`, inside which alone instructions are counted.

`--toggle-collect` needs a C function around what is counted: ctypes calls libc by that one, and libc calls back.
Prints the names of the kernels in their order; callgrind writes a file for each.
"""

from __future__ import annotations

import ctypes
import io
from collections.abc import Callable
from functools import partial
from typing import Any

from pydicom import dcmread

from dicomweb.multipart import PartReader
from storage.scanner import scan
from tests.support import made, web

TIMES = 10
SIDES = (64, 512)
_BEFORE = 3
_Comparison = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


def _attributes(number: int) -> dict[str, Any]:
    """Some more, as a scanner writes them: all of a series alike but for a few."""
    return {
        "SliceThickness": "1.25", "KVP": "120", "PixelSpacing": ["0.7", "0.7"], "ImagePositionPatient": ["0", "0", str(number)],
        "SliceLocation": str(number), "ContentTime": f"10{number:04d}", "SeriesDescription": "Ax Soft 1.25 mm", "SeriesDate": "20240102",
    }  # fmt: skip


def _series(side: int) -> list[bytes]:
    return [made.instance(number, side=side, **_attributes(number)) for number in range(TIMES)]


def _scanned(instances: list[bytes]) -> None:
    for one in instances:
        scan(one)


def _parsed(instances: list[bytes]) -> None:
    for one in instances:
        dcmread(io.BytesIO(one), stop_before_pixels=True).to_json_dict()


def _taken_apart(body: bytes) -> None:
    for _ in PartReader("boundary").feed(body):
        pass


def kernels() -> dict[str, Callable[[], None]]:
    """What is counted, each for `TIMES` instances."""
    small, large = (_series(side) for side in SIDES)
    return {
        "scan, small": partial(_scanned, small),
        "scan, large": partial(_scanned, large),
        "pydicom": partial(_parsed, small),
        "multipart, small": partial(_taken_apart, web.related(small)[0]),
        "multipart, large": partial(_taken_apart, web.related(large)[0]),
    }


def main() -> None:
    """Call them, each a few times before: what is counted is what it takes in the long run."""
    libc, one = ctypes.CDLL(None), ctypes.create_string_buffer(1)
    for name, kernel in kernels().items():
        for _ in range(_BEFORE):
            kernel()
        compare = _Comparison(lambda _one, _other, kernel=kernel: kernel() or 0)
        libc.bsearch(one, one, ctypes.c_size_t(1), ctypes.c_size_t(1), compare)
        print(name, flush=True)


if __name__ == "__main__":
    main()
