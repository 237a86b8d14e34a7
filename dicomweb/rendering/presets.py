"""The window/level presets of `viewer-config/presets.json`: one table for rendered pictures and for the viewer."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from dicomweb.rendering.request import Function, Window

_ROOT = Path(__file__).resolve().parents[2]
# In an installed wheel the folder is inside the package `pacs`; in a checkout it is beside the packages.
_FOLDERS = (_ROOT / "pacs" / "viewer-config", _ROOT / "viewer-config")


@dataclass(frozen=True, slots=True)
class Preset:
    """One named window. `units` other than those of the modality LUT (SUV) are for viewers that calculate them."""

    id: str
    name: str
    modality: str
    window: Window
    body_part: str = ""
    default: bool = False
    units: str = ""


def read(content: bytes) -> tuple[Preset, ...]:
    """Parse the file's content. Raises ValueError, naming the preset, where it cannot be used."""
    presets = tuple(_preset(entry) for entry in orjson.loads(content)["presets"])
    for names in ([preset.id for preset in presets], [preset.name.casefold() for preset in presets]):
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"presets named twice: {', '.join(sorted(twice))}")
    return presets


@functools.cache
def presets() -> tuple[Preset, ...]:
    """Every preset, read once."""
    path = next((folder / "presets.json" for folder in _FOLDERS if (folder / "presets.json").is_file()), None)
    if path is None:
        raise FileNotFoundError("viewer-config/presets.json is neither beside the packages nor inside pacs")
    return read(path.read_bytes())


def window_named(name: str) -> Window | None:
    """The window of the preset with this id or name, in any case; None where there is none.

    Presets in units that a single image's modality LUT does not give are not for rendering (PS3.3 C.8.9.1: SUV).
    """
    wanted = name.casefold()
    found = (preset for preset in presets() if wanted in (preset.id.casefold(), preset.name.casefold()))
    return next((preset.window for preset in found if not preset.units), None)


def _preset(entry: dict[str, Any]) -> Preset:
    window = Window(float(entry["center"]), float(entry["width"]), Function[entry.get("function", "LINEAR")])
    if not window.possible:
        raise ValueError(f"preset {entry['id']}: no image can have a window of width {window.width:g}")
    return Preset(
        id=entry["id"],
        name=entry["name"],
        modality=entry["modality"],
        window=window,
        body_part=entry.get("body_part", ""),
        default=entry.get("default", False),
        units=entry.get("units", ""),
    )
