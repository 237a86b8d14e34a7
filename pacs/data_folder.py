"""The data folder: what lies where in it, and its making.

The data folder (`PACS_DATA_DIR`) holds, unless settings say that objects and index are elsewhere:

    objects/        the instances, by digest; objects/tmp/ is what is being written
    index.sqlite    the index, with its -wal and -shm beside it
    tmp/            what is being received, where the objects are not in a folder
    run/            locks and figures of the running server; may be deleted when none runs
    viewer/         the viewer, where it is not in the checkout
"""

from __future__ import annotations

from pathlib import Path

from pacs.settings import Settings
from storage.errors import StoreUnavailable


def make(settings: Settings) -> Path:
    """The data folder, made where it is not there yet, for its owner alone. Raises StoreUnavailable when it cannot be."""
    try:
        for folder in (settings.folder, settings.folder / "tmp", run_folder(settings)):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(
            f"the data folder {settings.folder} cannot be made ({error.strerror}); change PACS_DATA_DIR"
        ) from error
    return settings.folder


def run_folder(settings: Settings) -> Path:
    """Where a running server keeps its locks and figures."""
    return settings.folder / "run"
