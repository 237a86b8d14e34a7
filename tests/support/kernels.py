"""Run under callgrind: each kernel once in a call by way of `ffi_call`, inside which alone instructions are counted.

`--toggle-collect` needs a C function around what is counted: ctypes calls libc by that one, and libc calls back.
Takes the folder with the instances and bodies (`write`); prints the names of the kernels in their order, and callgrind writes a
file for each. It loads nothing but them: callgrind makes everything fifty times as long.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from dicomweb.multipart import PartReader
from storage.scanner import scan

ITERATIONS = 100_000
_BEFORE = 3
_Comparison = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


def _scanned(instances: list[bytes]) -> None:
    for one in instances:
        scan(one)


def _taken_apart(body: bytes) -> None:
    for _ in PartReader("boundary").feed(body):
        pass


def _looped() -> None:
    """What this interpreter takes for nothing, as a measure of what it takes for something."""
    for _ in range(ITERATIONS):
        pass


def _kernels(folder: Path) -> dict[str, Callable[[], None]]:
    found: dict[str, Callable[[], None]] = {"loop": _looped}
    for size in ("small", "large"):
        instances = [file.read_bytes() for file in sorted(folder.glob(f"{size}-*.dcm"))]
        found[f"scan, {size}"] = partial(_scanned, instances)
        found[f"multipart, {size}"] = partial(_taken_apart, (folder / f"{size}.multipart").read_bytes())
    return found


def main(folder: Path) -> None:
    """Call them, each a few times before: what is counted is what it takes in the long run."""
    libc, one = ctypes.CDLL(None), ctypes.create_string_buffer(1)
    for name, kernel in _kernels(folder).items():
        for _ in range(_BEFORE):
            kernel()
        compare = _Comparison(lambda _one, _other, kernel=kernel: kernel() or 0)
        libc.bsearch(one, one, ctypes.c_size_t(1), ctypes.c_size_t(1), compare)
        print(name, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
