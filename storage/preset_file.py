"""The presets that come with the archive: `viewer-config/presets.json`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

from storage.presets import Layer, read

_ROOT: Final = Path(__file__).resolve().parents[1]
# In an installed wheel the folder is inside the package `pacs`; in a checkout it is beside the packages.
_FOLDERS: Final = (_ROOT / "pacs" / "viewer-config", _ROOT / "viewer-config")


@functools.cache
def built_in() -> Layer:
    """All of them, read once."""
    path = next((folder / "presets.json" for folder in _FOLDERS if (folder / "presets.json").is_file()), None)
    if path is None:
        raise FileNotFoundError("viewer-config/presets.json is neither beside the packages nor inside pacs")
    return read(path.read_bytes())
