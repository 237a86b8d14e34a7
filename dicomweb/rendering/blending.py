"""Presentation states that blend images: which are the inputs, in which order, and how their colours mix (PS3.3 C.11.14, C.11.33, C.11.34)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dicomweb.rendering.geometry import Picture
from dicomweb.rendering.planes import Plane
from dicomweb.rendering.presentation import Shown, transformed
from dicomweb.rendering.references import (
    BLENDING,
    PSEUDO_COLOUR,
    SERIES,
    SERIES_UID,
    STUDY_UID,
    Reference,
    image_references,
    sop_class,
)
from dicomweb.rendering.values import items, number, text
from dicomweb.rendering.voi import padding
from storage.codecs.pixels import PixelDescription
from storage.errors import CannotDecode, NotAcceptable
from storage.types import Dataset

BLENDED, POSITION, OPACITY = "00700402", "00700405", "00700403"
INPUTS, INPUT_NUMBER, GEOMETRY, PALETTE, THRESHOLDS, TIME_SERIES = "00701B01", "00701B02", "00701B08", "00480120", "00701B11", "00701B07"
STEPS, STEP_INPUTS, MODE = "00701B04", "00701B03", "00701B06"
# Descriptors, data and segmented data of the Palette Color LUT module (PS3.3 C.7.9).
_PALETTE: Final = tuple(f"0028{kind}{index}" for kind in ("110", "120", "122") for index in (1, 2, 3))


@dataclass(frozen=True, slots=True)
class Input:
    """Images of one series that are blended. `state` is what a presentation state of them alone would say; no images are all of them."""

    state: Dataset
    study: str
    series: str
    images: tuple[Reference, ...]


class Step(NamedTuple):
    """A blending operation of inputs by their numbers: of two, the first with `opacity`, or, without it, of all in equal parts."""

    inputs: tuple[int, ...]
    opacity: float | None
    result: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """Inputs by their numbers, the operations in their order, and the input on whose pixels the picture is."""

    inputs: Mapping[int, Input]
    steps: tuple[Step, ...]
    base: int


class Blended(NamedTuple):
    """Colours of (rows, columns, 3) from 0 to 255, and where there are any: neither padding nor outside the image."""

    colours: NDArray[np.float64]
    seen: NDArray[np.bool_]


def plan(state: Dataset) -> Plan:
    """What a state blends. Raises NotAcceptable for what is not done here, CannotDecode for a state that contradicts itself."""
    return _of_two(state) if sop_class(state) == BLENDING else _of_many(state)


def _of_two(state: Dataset) -> Plan:
    """PS3.4 N.2.4: a greyscale image below, and one in the colours of the state's palette above."""
    found = {text(item, POSITION): item for item in items(state, BLENDED)}
    opacity = number(state, OPACITY)
    if not {"SUPERIMPOSED", "UNDERLYING"} <= found.keys() or opacity is None:
        raise CannotDecode("the presentation state does not say which images are above and below, or how opaque (PS3.3 C.11.14)")
    palette = {tag: state[tag] for tag in _PALETTE if tag in state}
    above = _input(found["SUPERIMPOSED"], palette)
    below = _input(found["UNDERLYING"], {})
    return Plan({1: above, 2: below}, (Step((1, 2), min(max(opacity, 0.0), 1.0), None),), 2)


def _of_many(state: Dataset) -> Plan:
    """PS3.4 N.2.6."""
    inputs: dict[int, Input] = {}
    base = 0
    for item in items(state, INPUTS):
        if items(item, THRESHOLDS) or text(item, TIME_SERIES) == "TRUE":
            raise NotAcceptable("thresholds and time series of blended images are not drawn; get …/rendered of the images")
        own = int(number(item, INPUT_NUMBER) or 0)
        inputs[own] = _input(item, next(iter(items(item, PALETTE)), {}))
        base = own if not base or text(item, GEOMETRY) == "TRUE" else base
    steps = tuple(map(_step, items(state, STEPS)))
    if not inputs or not steps:
        raise CannotDecode("the presentation state names nothing to be blended (PS3.3 C.11.33, C.11.34)")
    return Plan(inputs, steps, base)


def _step(item: Dataset) -> Step:
    numbers = tuple(int(number(one, INPUT_NUMBER) or 0) for one in items(item, STEP_INPUTS))
    opacity = number(item, OPACITY)
    foreground = text(item, MODE) == "FOREGROUND"
    if not numbers or (foreground and (len(numbers) != 2 or opacity is None)):
        raise CannotDecode("the presentation state blends in the foreground what is not two inputs and an opacity (PS3.3 C.11.34)")
    result = number(item, INPUT_NUMBER)
    return Step(numbers, min(max(opacity, 0.0), 1.0) if foreground and opacity is not None else None, None if result is None else int(result))


def _input(item: Dataset, palette: Dataset) -> Input:
    series = items(item, SERIES)[:1] or [item]
    said = {**item, **palette, "00080016": {"vr": "UI", "Value": [PSEUDO_COLOUR]}} if palette else item
    return Input(said, text(item, STUDY_UID), text(series[0], SERIES_UID), tuple(image_references(series[0], text(item, STUDY_UID))))


def layer(source: Input, shown: Shown) -> Blended:
    """One frame of an input in its colours (PS3.4 N.2.4.2, N.2.6)."""
    kept: dict[tuple[PixelDescription, bool], np.ndarray[Any, Any]] = {}

    def samples(pixels: PixelDescription, every_bit: bool) -> np.ndarray[Any, Any]:
        key = pixels, every_bit
        if key not in kept:
            kept[key] = shown.samples(pixels, every_bit)
        return kept[key]

    picture = transformed(source.state, replace(shown, samples=samples))
    colours = (picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=-1)).astype(np.float64)
    seen = np.ones(picture.shape[:2], np.bool_)
    pixels = PixelDescription.from_dataset(shown.image, shown.transfer_syntax_uid)
    range_of_padding = padding(shown.image, pixels) if pixels.samples == 1 else None
    if range_of_padding is not None:
        values = next(iter(kept.values()))
        seen &= (values < range_of_padding[0]) | (values > range_of_padding[1])
    return Blended(colours, seen)


def onto(above: Blended, of: Plane, plane: Plane, shape: tuple[int, int]) -> Blended:
    """A layer as the pixels of another plane see it, its colours interpolated between the nearest four."""
    rows, columns = shape
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2).astype(np.float64)
    places = of.to_pixels(plane.to_patient(grid))[0]
    highest = np.array([above.seen.shape[1] - 1, above.seen.shape[0] - 1])
    inside = ((places > -0.5) & (places < highest + 0.5)).all(axis=1)
    places = np.clip(places, 0, highest)
    nearest = np.rint(places).astype(np.int64)
    first = np.minimum(np.floor(places).astype(np.int64), np.maximum(highest - 1, 0))
    second = np.minimum(first + 1, highest)
    across, down = (places - first).T[..., None]
    upper = above.colours[first[:, 1], first[:, 0]] * (1 - across) + above.colours[first[:, 1], second[:, 0]] * across
    lower = above.colours[second[:, 1], first[:, 0]] * (1 - across) + above.colours[second[:, 1], second[:, 0]] * across
    colours = upper * (1 - down) + lower * down
    seen = inside & above.seen[nearest[:, 1], nearest[:, 0]]
    return Blended(colours.reshape(rows, columns, 3), seen.reshape(rows, columns))


def blended(steps: tuple[Step, ...], layers: Mapping[int, Blended]) -> Picture:
    """The result of the step whose result is no input of another (PS3.4 N.2.4.3, N.2.6)."""
    known = dict(layers)
    for step in steps:
        if missing := [one for one in step.inputs if one not in known]:
            raise CannotDecode(f"the presentation state blends input {missing[0]}, which it does not describe before (PS3.3 C.11.34)")
        mixed = _mixed([known[one] for one in step.inputs], step.opacity)
        if step.result is None:
            return np.rint(np.where(mixed.seen[..., None], mixed.colours, 0)).astype(np.uint8)
        known[step.result] = mixed
    raise CannotDecode("none of the blending operations of the presentation state is its last (PS3.3 C.11.34)")


def _mixed(layers: list[Blended], opacity: float | None) -> Blended:
    """Where only some have a value, these share what the others leave."""
    weights = np.array([1.0] * len(layers) if opacity is None else [opacity, 1 - opacity])
    seen = np.stack([one.seen for one in layers])
    if opacity is not None:
        alone = seen.sum(axis=0) == 1
        shares = np.where(alone, seen, weights[:, None, None] * seen.all(axis=0))
    else:
        shares = seen / np.maximum(seen.sum(axis=0), 1)
    colours = sum(share[..., None] * one.colours for share, one in zip(shares, layers, strict=True))
    return Blended(np.asarray(colours), np.asarray(seen.any(axis=0)))
