"""Images as a softcopy presentation state wants them shown (PS3.3 A.33, PS3.4 annex N).

What the state says takes the place of what the image says: without a modality or VOI LUT in the state there is none.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from dicomweb.rendering import angiography, supplemental
from dicomweb.rendering.colour import palette_colour, true_colour
from dicomweb.rendering.display import Display, display
from dicomweb.rendering.drawing import Canvas
from dicomweb.rendering.geometry import Picture, fitted
from dicomweb.rendering.grey import GreyTransform, coloured, show
from dicomweb.rendering.lettering import line
from dicomweb.rendering.luts import Lut, lut, palette
from dicomweb.rendering.marks import Layer, layers, marks
from dicomweb.rendering.masks import Subtraction, stated_subtraction
from dicomweb.rendering.overlays import GROUPS, Overlay, drawn, embedded, of_bit, overlays
from dicomweb.rendering.references import ANGIOGRAPHY, PSEUDO_COLOUR, VARIABLE, applying, sop_class
from dicomweb.rendering.request import Function, RenderRequest, Window
from dicomweb.rendering.shutters import shuttered, under
from dicomweb.rendering.subtraction import (
    NUMBER_OF_FRAMES,
    Difference,
    Scale,
    can_subtract,
    difference,
    of_difference,
    scale,
    show_difference,
)
from dicomweb.rendering.values import SHARED_GROUPS, Bulk, items, number, text, words
from dicomweb.rendering.values import values as values_of
from dicomweb.rendering.voi import (
    CENTER,
    DESCRIPTOR,
    FUNCTION,
    INTERCEPT,
    LUT_DATA,
    MODALITY_LUT,
    PRESENTATION_SHAPE,
    SLOPE,
    VOI_LUT,
    WIDTH,
    described,
    transform,
)
from storage.codecs.pixels import Number, PixelDescription
from storage.errors import CannotDecode
from storage.per_frame import PER_FRAME_GROUPS
from storage.types import Dataset

PRESENTATION_LUT, SOFTCOPY_VOI, VARIABLE_MODALITY, PHOTOMETRIC = "20500010", "00283110", "00283001", "00280004"
ACTIVATION, SHUTTER_OVERLAY = "1001", "00181623"
_MODALITY: Final = frozenset({MODALITY_LUT, INTERCEPT, SLOPE})
_VOI: Final = frozenset({VOI_LUT, CENTER, WIDTH, FUNCTION})
_SHUTTER: Final = tuple(f"001816{number:02d}" for number in (0, 2, 4, 6, 8, 10, 12, 20, 22, 24))
_ANY: Final = Window(0, 1)
_OF_THE_STATE: Final = _MODALITY | _VOI | {*_SHUTTER, PRESENTATION_SHAPE, SHARED_GROUPS, PER_FRAME_GROUPS}

# Decoded samples of the frame that is shown, from its pixel description; with every bit, or those alone that are of the pixel.
Samples = Callable[[PixelDescription, bool], np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True)
class Shown:
    """One frame of an image that a state shows. `bulk` and `state_bulk` fetch what either has by reference."""

    image: Dataset
    uid: str
    transfer_syntax_uid: str
    frame: int
    samples: Samples
    bulk: Bulk | None = None
    state_bulk: Bulk | None = None
    # Decoded samples of another frame of the image, by its number from 1: for masks.
    others: Callable[[PixelDescription, int], np.ndarray[Any, Any]] | None = None
    # From the colours that come of it to those that are asked for.
    recoloured: Callable[[Picture], Picture] | None = None


def presented(state: Dataset, shown: Shown, request: RenderRequest, own: Picture | None = None) -> Picture:
    """The picture of one frame through a state, with everything that is drawn on it, in the request's viewport.

    A source region of the viewport is one of this picture (PS3.18 8.3.5.1). Marks that the state describes so that they
    cannot be drawn are named at the foot of the picture: an image without them would be taken for all there is. `own` takes the
    place of the image's own pixels. Raises CannotDecode where the image or the state cannot be shown.
    """
    state = fetched(state, shown.state_bulk)
    viewport = request.viewport
    region = viewport is not None and any(
        one is not None for one in (viewport.source_x, viewport.source_y, viewport.source_width, viewport.source_height)
    )
    seen = display(state, shown.image, shown.uid, shown.frame, None if region else viewport)
    picture = seen.of(transformed(state, shown) if own is None else own)
    # Those of marks are device independent (PS3.3 C.10.7.1.1): they are drawn on what has its colours.
    picture = _marked(shown.recoloured(picture) if shown.recoloured is not None else picture, state, shown, seen)
    return fitted(picture, viewport, 1.0) if region else picture


def transformed(state: Dataset, shown: Shown) -> Picture:
    """The image's own pixels through the LUTs and under the shutters of the state (PS3.4 N.2)."""
    dataset = _as_stated(state, shown)
    pixels = PixelDescription.from_dataset(dataset, shown.transfer_syntax_uid)
    values = shown.samples(pixels, False)
    picture: Picture
    if pixels.samples == 3:
        picture = true_colour(values, pixels)
    elif pixels.photometric_interpretation == "PALETTE COLOR":
        picture = palette_colour(values, dataset, pixels, shown.bulk)
    else:
        picture = _of_values(values, state, dataset, shown, pixels)
    picture = shuttered(picture, dataset)
    if sop_class(state) == ANGIOGRAPHY:
        for shutter in angiography.frame_shutters(state, shown.uid, shown.frame):
            picture = shuttered(picture, shutter)
    return _under_overlay(picture, state)


def _of_values(values: np.ndarray[Any, Any], state: Dataset, dataset: Dataset, shown: Shown, pixels: PixelDescription) -> Picture:
    """One value to a pixel: in grey, or in the colours of a pseudo-colour state, with the mask of the state subtracted."""
    made = _grey(values, state, dataset, shown, pixels)
    colours = palette(state, None, signed=False) if sop_class(state) == PSEUDO_COLOUR else None
    strength = angiography.filter_strength(state, shown.uid, shown.frame) if sop_class(state) == ANGIOGRAPHY else 0.0
    taken = _subtraction(state, shown, pixels)
    if taken is None:
        return _shown(_filtered(values, strength, pixels), made, colours, shown, pixels)
    found = _difference(taken, values, state, made, shown, pixels)
    found = replace(found, values=angiography.sharpened(found.values, strength, -found.reach, found.reach))
    how = of_difference(found, made, described(dataset, shown.frame, pixels, None, signed=True))
    return show_difference(found, how, colours)


def _filtered(values: np.ndarray[Any, Any], strength: float, pixels: PixelDescription) -> np.ndarray[Any, Any]:
    low = -(1 << (pixels.bits_stored - 1)) if pixels.signed else 0
    return angiography.sharpened(values, strength, low, low + (1 << pixels.bits_stored) - 1)


def _shown(
    values: np.ndarray[Any, Any], made: GreyTransform, colours: tuple[Lut, Lut, Lut] | None, shown: Shown, pixels: PixelDescription
) -> Picture:
    """The state's grey, or pseudo-colour of all values; without that the image's own colours stay as they are (PS3.4 N.1)."""
    if colours is not None:
        return coloured(values, made, colours)
    own = supplemental.colours(shown.image, shown.frame, pixels, shown.bulk)
    return show(values, made) if own is None else supplemental.show_both(values, made, own)


def _grey(values: np.ndarray[Any, Any], state: Dataset, dataset: Dataset, shown: Shown, pixels: PixelDescription) -> GreyTransform:
    """The LUTs of the state; without one for VOI all that the modality LUT can give is shown (PS3.4 N.2.1.2)."""
    has_voi = VOI_LUT in dataset or WIDTH in dataset or pixels.number is not Number.INTEGER
    made = transform(values, dataset, shown.frame, pixels, None if has_voi else _ANY, None)
    if not has_voi:
        made = replace(made, voi=_everything(made))
    tables = items(state, PRESENTATION_LUT)
    return replace(made, presentation=lut(tables[0], DESCRIPTOR, LUT_DATA, None, signed=False)) if tables else made


def _subtraction(state: Dataset, shown: Shown, pixels: PixelDescription) -> Subtraction | None:
    if not can_subtract(pixels):
        return None
    count = int(number(shown.image, NUMBER_OF_FRAMES) or 1)
    if sop_class(state) == ANGIOGRAPHY:
        return angiography.subtraction(state, shown.uid, shown.frame, count)
    return stated_subtraction(state, shown.image, shown.frame, count)


def _difference(
    wanted: Subtraction, values: np.ndarray[Any, Any], state: Dataset, made: GreyTransform, shown: Shown, pixels: PixelDescription
) -> Difference:
    """With the mask that the state names taken away: after its modality LUT and before its VOI LUT (PS3.4 N.2.1.2).

    A state of angiography has logarithms of the beam in place of the modality LUT, and may have others for each frame (PS3.4 N.2.5.1).
    """
    frames = {*wanted.contrast, *wanted.mask} if sop_class(state) == ANGIOGRAPHY else set[int]()
    found = {frame: angiography.intensity_lut(state, shown.uid, frame, signed=pixels.signed) for frame in frames}
    logarithms = {frame: table for frame, table in found.items() if table is not None}

    def samples(frame: int) -> np.ndarray[Any, Any]:
        if frame == shown.frame:
            stored = values
        elif shown.others is None:
            raise CannotDecode(f"frame {frame}, which the presentation state subtracts, cannot be had here")
        else:
            stored = shown.others(pixels, frame)
        return logarithms[frame].look_up(stored) if frame in logarithms else stored

    if not logarithms:
        return difference(wanted, samples, scale(pixels, made.modality))
    return difference(wanted, samples, Scale(max(table.bits if table else pixels.bits_stored for table in found.values())))


def _everything(made: GreyTransform) -> Window:
    """From the least to the greatest value that the modality LUT can give."""
    if isinstance(made.modality, Lut):
        ends = np.array([0.0, (1 << made.modality.bits) - 1.0])
    else:
        first = -(1 << (made.bits - 1)) if made.signed else 0
        ends = made.modality_values(np.array([first, first + (1 << made.bits) - 1]))
    # A slope can make them infinite, whose middle would be no number.
    low, high = (float(end) for end in np.clip([ends.min(), ends.max()], -1e300, 1e300))
    return Window((low + high) / 2, max(high - low, 1.0), Function.LINEAR_EXACT)


def _as_stated(state: Dataset, shown: Shown) -> Dataset:
    """The image's data set with the state's word where both have one."""
    image = {tag: value for tag, value in shown.image.items() if tag not in _OF_THE_STATE and tag[:4] not in GROUPS}
    if text(image, PHOTOMETRIC) == "MONOCHROME1":
        # The state says what is white: its presentation LUT has the last word (PS3.3 C.11.6).
        image[PHOTOMETRIC] = {"vr": "CS", "Value": ["MONOCHROME2"]}
    voi = next(iter(applying(state, SOFTCOPY_VOI, shown.uid, shown.frame)), {})
    modality = next(iter(applying(state, VARIABLE_MODALITY, shown.uid, shown.frame)), {}) if sop_class(state) == VARIABLE else state
    stated = {tag: state[tag] for tag in (*_SHUTTER, PRESENTATION_SHAPE) if tag in state}
    return {
        **image,
        **stated,
        **{tag: modality[tag] for tag in _MODALITY if tag in modality},
        **{tag: voi[tag] for tag in _VOI if tag in voi},
    }


def _under_overlay(picture: Picture, state: Dataset) -> Picture:
    """A bitmap shutter: an overlay that covers where it is set (PS3.3 C.7.6.15)."""
    group = f"{int(number(state, SHUTTER_OVERLAY) or 0):04X}"
    if "BITMAP" not in values_of(state, "00181600") or group not in GROUPS:
        return picture
    for overlay in overlays({tag: value for tag, value in state.items() if tag[:4] == group}, 1, None):
        picture = under(picture, drawn(np.zeros(picture.shape[:2], np.uint8), overlay) > 0, state)
    return picture


def _marked(picture: Picture, state: Dataset, shown: Shown, seen: Display) -> Picture:
    """Overlays, lines and words of every layer, what lies below first (PS3.3 C.10.7)."""
    canvas = Canvas(picture)
    missing: list[str] = []
    for layer in layers(state):
        for mask in _activated(state, shown, layer):
            canvas.lay(seen.of(mask), layer.colour)
        found = marks(state, layer, shown.uid, shown.frame, seen)
        canvas.strokes(found.strokes)
        for caption in found.captions:
            canvas.caption(caption)
        missing += found.missing
    if missing:
        more = f" and {len(missing) - 2} more" if len(missing) > 2 else ""
        canvas.write(0, picture.shape[0], line(f"Not drawn: {', '.join(missing[:2])}{more}", canvas.letters()))
    return canvas.picture


def _activated(state: Dataset, shown: Shown, layer: Layer) -> Iterator[Picture]:
    """What is set in the overlays that the state has in a layer: its own ones, else those of the image (PS3.3 C.11.7)."""
    rows, columns = (int(number(shown.image, tag) or 1) for tag in ("00280010", "00280011"))
    for group in GROUPS:
        if text(state, group + ACTIVATION) != layer.name:
            continue
        holder, fetch = (state, None) if f"{group}3000" in state else (shown.image, shown.bulk)
        alone = {tag: value for tag, value in holder.items() if tag[:4] == group}
        for overlay in (*overlays(alone, shown.frame, fetch), *_in_pixels(alone, shown)):
            yield drawn(np.zeros((rows, columns), np.uint8), overlay)


def _in_pixels(alone: Dataset, shown: Shown) -> Iterator[Overlay]:
    """The overlay of a group that lies in unused bits of the image's pixels."""
    pixels = PixelDescription.from_dataset(shown.image, shown.transfer_syntax_uid)
    for position in embedded(alone, pixels):
        yield of_bit(shown.samples(pixels, True), position)


def fetched(dataset: Dataset, bulk: Bulk | None) -> dict[str, Any]:
    """The data set with every value in it that it has by reference."""
    return {tag: _value(element, bulk) for tag, element in dataset.items()}


def _value(element: Any, bulk: Bulk | None) -> Any:
    if "BulkDataURI" in element:
        found = words({"00000000": element}, "00000000", bulk)
        return {"vr": element.get("vr", "OW"), "InlineBinary": base64.b64encode(found).decode()}
    if element.get("vr") == "SQ":
        return {"vr": "SQ", "Value": [fetched(item, bulk) for item in element.get("Value", ()) if isinstance(item, dict)]}
    return element
