"""From a preset to the window that an image is shown in."""

from __future__ import annotations

from dicomweb.rendering.request import Function, Window
from dicomweb.rendering.suv import Unknown
from dicomweb.rendering.uptake import uptake
from dicomweb.rendering.values import text
from storage.errors import BadRequest
from storage.preset_file import built_in
from storage.presets import SUV, Preset, Presets
from storage.types import Dataset

MODALITY = "00080060"


def window_named(name: str, presets: Presets | None = None, dataset: Dataset | None = None) -> Window | None:
    """The window of the preset with this id or name, in any case, for an image; None where there is none.

    Without `presets` those that come with the archive. Raises BadRequest where the name is there for several other modalities,
    and where the units of the preset cannot be had of this image.
    """
    modality = text(dataset, MODALITY) if dataset else ""
    found = (presets or Presets(built_in())).named(name, modality)
    return window_of(found, dataset) if found is not None else None


def window_of(preset: Preset, dataset: Dataset | None = None) -> Window:
    """A preset's window for an image, in the units of its modality LUT. Raises BadRequest where they cannot be had of the preset's."""
    function = Function[preset.function]
    if preset.units != SUV:
        return Window(preset.center, preset.width, function)
    try:
        factor, offset = uptake(dataset or {})
    except Unknown as error:
        raise BadRequest(f"window {preset.name} is in {preset.units}, which cannot be calculated of this image: {error}") from error
    return Window((preset.center - offset) / factor, preset.width / abs(factor), function)
