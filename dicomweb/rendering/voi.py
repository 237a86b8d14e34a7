"""Which grey transform a frame gets: from the request, else from its data set, else from its own values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicomweb.rendering.grey import GreyTransform, Rescale
from dicomweb.rendering.luts import Lut, lut
from dicomweb.rendering.presets import window_of
from dicomweb.rendering.request import Function, Share, Window
from dicomweb.rendering.values import Bulk, items, macro, number, numbers, text
from storage.codecs.pixels import Number, PixelDescription
from storage.errors import BadRequest, CannotDecode
from storage.presets import Layer, default_for
from storage.types import Dataset

MODALITY, BODY_PART, PRESENTATION_SHAPE = "00080060", "00180015", "20500020"
INTERCEPT, SLOPE = "00281052", "00281053"
CENTER, WIDTH, FUNCTION = "00281050", "00281051", "00281056"
MODALITY_LUT, VOI_LUT, DESCRIPTOR, LUT_DATA = "00283000", "00283010", "00283002", "00283006"
# Pixel Padding Value and Range Limit, also of floating point pixels (PS3.3 C.7.5.1.1.2).
_PADDING = {Number.INTEGER: ("00280120", "00280121"), Number.FLOAT: ("00280122", "00280124"), Number.DOUBLE: ("00280123", "00280125")}
# Functional group macros (PS3.3 C.7.6.16.2.9 and C.7.6.16.2.10).
PIXEL_VALUE_TRANSFORMATION, FRAME_VOI_LUT = "00289145", "00289132"
MAXIMUM_FRACTION = "0062000E"

# Photometric Interpretation of what has one sample to a pixel, and no palette (PS3.3 C.7.6.3.1.2).
GREY = ("MONOCHROME1", "MONOCHROME2")

# The automatic window leaves out this share of the sampled values at either end: specks, markers, metal.
TAILS = Share(0.5, 99.5)
SAMPLE = 1 << 14
# What a CT without a window is most often wanted in: soft tissue.
CT_WINDOW = Window(40, 400)


def transform(
    stored: NDArray[Any],
    dataset: Dataset,
    frame: int,
    pixels: PixelDescription,
    window: Window | Lut | Share | None,
    bulk: Bulk | None,
    defaults: Layer | None = None,
) -> GreyTransform:
    """The transform for frame `frame` (from 1) of samples `stored`; `window` is the request's, and wins.

    `defaults` are presets for images that bring no window of their own; None: as the archive comes.
    Raises CannotDecode for pixels that are not known to be grey: one that is taken for white may be black.
    """
    if pixels.photometric_interpretation not in GREY:
        raise CannotDecode(
            f"Photometric Interpretation (0028,0004) is {pixels.photometric_interpretation!r}, and one sample to a pixel can only be shown"
            f" as {', '.join(GREY)} or PALETTE COLOR"
        )
    modality = modality_of(dataset, frame, pixels, bulk)
    hidden = padding(dataset, pixels)
    made = GreyTransform(
        bits=pixels.bits_stored,
        signed=pixels.signed,
        modality=modality,
        voi=CT_WINDOW,
        # DX says INVERSE with MONOCHROME1: that is one inversion, not two (PS3.3 C.8.11.3.1.2).
        inverted=pixels.photometric_interpretation == "MONOCHROME1"
        or text(dataset, PRESENTATION_SHAPE) == "INVERSE",
        padding=hidden,
    )
    voi = (
        (_of_sample(stored, made, window) if isinstance(window, Share) else window)
        or described(dataset, frame, pixels, bulk, signed=gives_negatives(modality, pixels))
        or _automatic(stored, dataset, pixels, made, defaults)
    )
    return GreyTransform(made.bits, made.signed, modality, voi, made.inverted, hidden)


def describes_voi(dataset: Dataset, frame: int) -> bool:
    """Whether the data set itself says how a frame is to be shown."""
    return bool(items(dataset, VOI_LUT)) or bool(numbers(macro(dataset, frame, FRAME_VOI_LUT), WIDTH))


def impossible_width(dataset: Dataset, frame: int, pixels: PixelDescription) -> float | None:
    """The first width of a grey frame's own windows where none of them can be, so that it is shown in another; else None."""
    widths = numbers(macro(dataset, frame, FRAME_VOI_LUT), WIDTH)
    if pixels.photometric_interpretation not in GREY or not widths or items(dataset, VOI_LUT):
        return None
    function = function_of(dataset, frame, pixels)
    return None if any(Window(0, width, function).possible for width in widths) else widths[0]


def modality_of(dataset: Dataset, frame: int, pixels: PixelDescription, bulk: Bulk | None) -> Rescale | Lut:
    """A modality LUT, or slope and intercept of this frame, or nothing done (PS3.3 C.11.1)."""
    tables = items(dataset, MODALITY_LUT)
    if tables and pixels.number is Number.INTEGER and pixels.bits_stored <= 16:
        return lut(tables[0], DESCRIPTOR, LUT_DATA, bulk, signed=pixels.signed)
    group = macro(dataset, frame, PIXEL_VALUE_TRANSFORMATION)
    slope, intercept = number(group, SLOPE), number(group, INTERCEPT)
    return Rescale(slope or 1.0, intercept or 0.0)


def described(dataset: Dataset, frame: int, pixels: PixelDescription, bulk: Bulk | None, *, signed: bool) -> Window | Lut | None:
    """The data set's own VOI LUT, else its first possible window (PS3.3 C.11.2). `signed`: whether what they take can be negative."""
    tables = items(dataset, VOI_LUT)
    if tables:
        return lut(tables[0], DESCRIPTOR, LUT_DATA, bulk, signed=signed)
    group = macro(dataset, frame, FRAME_VOI_LUT)
    function = function_of(dataset, frame, pixels)
    pairs = zip(numbers(group, CENTER), numbers(group, WIDTH), strict=False)
    windows = (Window(center, width, function) for center, width in pairs)
    return next((window for window in windows if window.possible), None)


def function_of(dataset: Dataset, frame: int, pixels: PixelDescription) -> Function:
    """VOI LUT Function (0028,1056) of a frame's own windows."""
    name = text(macro(dataset, frame, FRAME_VOI_LUT), FUNCTION)
    function = Function[name] if name in Function.__members__ else Function.LINEAR
    if function is Function.LINEAR and pixels.number is not Number.INTEGER:
        # LINEAR's half unit is for whole numbers; on a parametric map from 0 to 1 it would leave black and white.
        return Function.LINEAR_EXACT
    return function


def gives_negatives(modality: Rescale | Lut, pixels: PixelDescription) -> bool:
    """Whether the modality LUT's output, the VOI LUT's input, can be negative (PS3.3 C.11.2.1.1)."""
    if isinstance(modality, Lut):
        return False
    return pixels.signed or modality.intercept < 0 or modality.slope < 0


def _automatic(
    stored: NDArray[Any], dataset: Dataset, pixels: PixelDescription, made: GreyTransform, defaults: Layer | None
) -> Window:
    """A window for an image that comes with none."""
    modality = text(dataset, MODALITY)
    if modality == "SEG" or pixels.bits_stored == 1:
        return _between(0, number(dataset, MAXIMUM_FRACTION) or _highest(stored) or 1)
    preset = _default(dataset, made, defaults)
    if preset is not None:
        return _of_sample(stored, made, preset) if isinstance(preset, Share) else preset
    if isinstance(made.modality, Lut):
        # Descriptors say 16 bits of tables that use ten: what is in the table is what there is to see.
        return _between(float(made.modality.table.min()), float(made.modality.table.max()))
    if pixels.number is Number.INTEGER and pixels.bits_stored <= 8:
        # Already made for display: shown as it is.
        low = -(1 << (pixels.bits_stored - 1)) if pixels.signed else 0
        ends = made.modality_values(np.array([low, low + (1 << pixels.bits_stored) - 1]))
        return _between(float(ends.min()), float(ends.max()))
    return _of_sample(stored, made, TAILS)


def _default(dataset: Dataset, made: GreyTransform, defaults: Layer | None) -> Window | Share | None:
    """The preset that is the default for such an image."""
    modality = text(dataset, MODALITY)
    if modality == "CT" and (isinstance(made.modality, Lut) or not made.modality.intercept):
        return None  # these are no Hounsfield units
    if defaults is None:
        return CT_WINDOW if modality == "CT" else None
    preset = default_for(defaults, modality, text(dataset, BODY_PART))
    try:
        return window_of(preset, dataset) if preset is not None else None
    except BadRequest:
        # In units that this image does not give: nobody has asked for them.
        return None


def _of_sample(stored: NDArray[Any], made: GreyTransform, share: Share) -> Window:
    """Between percentiles of a regular sample, without padding and what is not a number."""
    flat = stored.reshape(-1)
    sample = flat[:: max(1, flat.size // SAMPLE)]
    if made.padding is not None:
        inside = (sample < made.padding[0]) | (sample > made.padding[1])
        sample = sample[inside] if inside.any() else sample
    values = made.modality_values(sample)
    values = values[np.isfinite(values)]
    if not values.size:
        return _between(0, 1)
    low, high = np.percentile(values, (share.low, share.high))
    if low == high:
        low, high = values.min(), values.max()
    return _between(float(low), float(high))


def _between(low: float, high: float) -> Window:
    """Black at `low`, white at `high`; of one value only, that value is in the middle."""
    return Window((low + high) / 2, (high - low) or 1.0, Function.LINEAR_EXACT)


def _highest(stored: NDArray[Any]) -> float:
    return float(stored.max(initial=0))


def padding(dataset: Dataset, pixels: PixelDescription) -> tuple[float, float] | None:
    """Pixel Padding Value and Range Limit as stored values; writers mix up their sign (PS3.3 C.7.5.1.1.2)."""
    named, limited = _PADDING[pixels.number]
    value, limit = number(dataset, named), number(dataset, limited)
    if value is None or pixels.bits_allocated == 1:
        return None
    if pixels.number is not Number.INTEGER:
        return min(value, value if limit is None else limit), max(value, value if limit is None else limit)
    ends = [_signed_as_stored(int(end), pixels) for end in (value, value if limit is None else limit)]
    lowest = -(1 << (pixels.bits_stored - 1)) if pixels.signed else 0
    if min(ends) < lowest or max(ends) >= lowest + (1 << pixels.bits_stored):
        return None  # no stored value can be it: masking it to fit would blacken real ones
    return min(ends), max(ends)


def _signed_as_stored(value: int, pixels: PixelDescription) -> int:
    half = 1 << (pixels.bits_allocated - 1)
    if pixels.signed and value >= half:
        return value - 2 * half
    return value + 2 * half if not pixels.signed and value < 0 else value
