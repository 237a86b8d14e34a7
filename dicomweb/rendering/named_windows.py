"""Windows by their names: of presets, and of the image itself by its Window Center & Width Explanation and LUT Explanation (PS3.3 C.11.2)."""

from __future__ import annotations

from typing import Final

from dicomweb.rendering.luts import Lut, lut
from dicomweb.rendering.presets import window_of
from dicomweb.rendering.request import OwnWindow, Share, Window
from dicomweb.rendering.values import Bulk, items, macro, numbers, text, values
from dicomweb.rendering.voi import (
    CENTER,
    DESCRIPTOR,
    FRAME_VOI_LUT,
    LUT_DATA,
    MODALITY,
    VOI_LUT,
    WIDTH,
    function_of,
    gives_negatives,
    modality_of,
)
from storage.codecs.pixels import PixelDescription
from storage.errors import BadRequest
from storage.preset_file import built_in
from storage.presets import Presets, key_of
from storage.types import Dataset

EXPLANATION, LUT_EXPLANATION, FRAMES = "00281055", "00283003", "00280008"
# Of so many frames the names are looked for: windows with names belong to a few frames, or are those of all.
MOST_FRAMES: Final = 1000


def window_named(name: str, presets: Presets | None = None, dataset: Dataset | None = None) -> Window | OwnWindow | Share | None:
    """The window of the preset with this id or name, in any case, for an image; None where there is none.

    Without `presets` those that come with the archive. What the image itself calls so is after presets of its modality and before
    those of others. Raises BadRequest where the name is there for several other modalities, where the units of the preset cannot be
    had of this image, and, with their names, where only the image has windows with names, and none with this.
    """
    there = presets or Presets(built_in())
    modality = text(dataset, MODALITY) if dataset else ""
    if dataset and not any(one.is_called(name) and one.modality == modality for one in there.shown):
        own = names(dataset)
        if key_of(name) in map(key_of, own):
            return OwnWindow(key_of(name))
        if own and not any(one.is_called(name) for one in there.shown):
            raise BadRequest(f"window is neither the name of a preset (/api/presets) nor of one of the image's own windows: {', '.join(own)}")
    found = there.named(name, modality)
    return window_of(found, dataset) if found is not None else None


def names(dataset: Dataset) -> tuple[str, ...]:
    """What the windows and VOI LUTs of an image are called, each once, in the order in which they are there."""
    frames = int(next(iter(numbers(dataset, FRAMES)), 1.0))
    found = (name for frame in range(1, min(frames, MOST_FRAMES) + 1) for name in _names(dataset, frame))
    return tuple({key_of(name): name for name in found if name}.values())


def own_window(
    wanted: OwnWindow, dataset: Dataset, frame: int, pixels: PixelDescription, bulk: Bulk | None
) -> Window | Lut:
    """The window or VOI LUT of frame `frame` (from 1) that has this name. Raises BadRequest where it has none, or an impossible one."""
    named = [one for one in _tables(dataset, frame) if key_of(text(one, LUT_EXPLANATION)) == wanted.key]
    if named:
        signed = gives_negatives(modality_of(dataset, frame, pixels, bulk), pixels)
        return lut(named[0], DESCRIPTOR, LUT_DATA, bulk, signed=signed)
    windows = (Window(center, width, function_of(dataset, frame, pixels)) for name, center, width in _windows(dataset, frame) if key_of(name) == wanted.key)
    found = next(windows, None)
    if found is None:
        raise BadRequest(f"frame {frame} has no window of this name; it has: {', '.join(filter(None, _names(dataset, frame))) or 'none with a name'}")
    if not found.possible:
        raise BadRequest(f"the window of this name has an impossible width in the image, {found.width:g} (PS3.3 C.11.2.1.2); give window=center,width")
    return found


def _names(dataset: Dataset, frame: int) -> list[str]:
    tables = [text(one, LUT_EXPLANATION) for one in _tables(dataset, frame)]
    return [*tables, *(name for name, _, _ in _windows(dataset, frame))]


def _tables(dataset: Dataset, frame: int) -> list[Dataset]:
    return items(macro(dataset, frame, FRAME_VOI_LUT), VOI_LUT)


def _windows(dataset: Dataset, frame: int) -> list[tuple[str, float, float]]:
    """Name, center and width; none where these do not belong together one by one."""
    group = macro(dataset, frame, FRAME_VOI_LUT)
    centers, widths, named = numbers(group, CENTER), numbers(group, WIDTH), values(group, EXPLANATION)
    if not len(centers) == len(values(group, CENTER)) == len(widths) == len(values(group, WIDTH)):
        return []
    return [(str(name or "").strip(), center, width) for name, center, width in zip(named, centers, widths, strict=False)]
