"""From a preset to the window that an image is shown in."""

from __future__ import annotations

from dicomweb.rendering.request import Function, Share, Window
from dicomweb.rendering.suv import Unknown
from dicomweb.rendering.uptake import uptake
from storage.errors import BadRequest
from storage.presets import PERCENT, SUV, Preset
from storage.types import Dataset


def window_of(preset: Preset, dataset: Dataset | None = None) -> Window | Share:
    """A preset's window for an image, in the units of its modality LUT. Raises BadRequest where they cannot be had of the preset's."""
    function = Function[preset.function]
    if preset.units == PERCENT:
        return Share(preset.center - preset.width / 2, preset.center + preset.width / 2)
    if preset.units != SUV:
        return Window(preset.center, preset.width, function)
    try:
        factor, offset = uptake(dataset or {})
    except Unknown as error:
        raise BadRequest(f"window {preset.name} is in {preset.units}, which cannot be calculated of this image: {error}") from error
    return Window((preset.center - offset) / factor, preset.width / abs(factor), function)
