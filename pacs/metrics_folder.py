"""Where processes leave their figures for each other: `run/metrics/KIND` in the data folder, emptied at each start.

Apart from `pacs.metrics`, because the supervisor needs this and not the libraries behind that.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

# prometheus_client looks here at its first import.
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def process_folder(run_folder: Path, kind: str) -> Path:
    """Where the processes of one kind keep their numbers."""
    return run_folder / "metrics" / kind


def forget(run_folder: Path, kind: str) -> Path:
    """An empty folder for the processes of `kind`: numbers begin at zero with each start."""
    folder = process_folder(run_folder, kind)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def bury(run_folder: Path, kind: str, pid: int) -> None:
    """A process is gone: what it had going on counts no more, what it had done still does."""
    for file in process_folder(run_folder, kind).glob(f"gauge_live*_{pid}.db"):
        file.unlink(missing_ok=True)


def files_of_all(run_folder: Path) -> Iterator[Path]:
    """The files of every process of every kind."""
    return (run_folder / "metrics").glob("*/*.db")
