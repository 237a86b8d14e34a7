"""From a preset to the window that an image is shown in."""

from __future__ import annotations

from dicomweb.rendering.request import Function, Window
from dicomweb.rendering.values import text
from storage.errors import BadRequest
from storage.preset_file import built_in
from storage.presets import Preset, Presets
from storage.types import Dataset

MODALITY = "00080060"


def window_named(name: str, presets: Presets | None = None, dataset: Dataset | None = None) -> Window | None:
    """The window of the preset with this id or name, in any case, for an image; None where there is none.

    Without `presets` those that come with the archive. Raises BadRequest where the name is there for several other modalities,
    and where the units of the preset cannot be had of this image.
    """
    modality = text(dataset, MODALITY) if dataset else ""
    found = (presets or Presets(built_in())).named(name, modality)
    return window_of(found) if found is not None else None


def window_of(preset: Preset) -> Window:
    """A preset's window for an image. Raises BadRequest where its units are not those of the modality LUT."""
    if preset.units:
        raise BadRequest(f"window {preset.name} is in {preset.units}, which this image does not give")
    return Window(preset.center, preset.width, Function[preset.function])
