"""Graphic annotations of presentation states as lines and words in a picture (PS3.3 C.10.5, C.10.7)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from dicomweb.rendering.colours import Rgb, cielab
from dicomweb.rendering.display import Display, Points
from dicomweb.rendering.references import applying
from dicomweb.rendering.values import items, number, numbers, text
from storage.types import Dataset

LAYERS, LAYER, ORDER = "00700060", "00700002", "00700062"
GREY_VALUE, RGB_VALUE, CIELAB_VALUE = "00700066", "00700067", "00700401"
ANNOTATIONS, TEXTS, GRAPHICS = "00700001", "00700008", "00700009"
COMPOUNDS, COMPOUND_TYPE, COMPOUND_ID = "00700209", "00700294", "00700226"
UNITS, DATA, TYPE, FILLED = "00700005", "00700022", "00700023", "00700024"
TEXT_STYLE, LINE_STYLE, FILL_STYLE = "00700231", "00700232", "00700233"
ALIGNED, STANDING = "00700242", "00700243"
TEXT_COLOUR, PATTERN_COLOUR, THICKNESS, DASHING, OPACITY = "00700241", "00700251", "00700253", "00700254", "00700284"
BOX_UNITS, WORDS, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT, JUSTIFIED = "00700003", "00700006", "00700010", "00700011", "00700012"
ANCHOR, ANCHOR_SHOWN, ANCHOR_UNITS = "00700014", "00700015", "00700004"

WHITE: Final[Rgb] = (255, 255, 255)
# More points than a hand can draw, and farther from the picture than a slip of the pen.
_MOST_POINTS: Final = 50_000
_FARTHEST: Final = 64_000
# Farther than that in any unit.
_BEYOND: Final = 1e12
# Points of a curve between two that are given.
_FINE: Final = 12


@dataclass(frozen=True, slots=True)
class Stroke:
    """A line through points of the picture; `filled` is what is inside it. `opacity` from 0 to 1."""

    points: Points
    colour: Rgb
    width: float = 1.0
    filled: bool = False
    opacity: float = 1.0
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Caption:
    """Words in a box of the picture (left, top, right, bottom), or to the right of a point where it has no size."""

    words: str
    box: tuple[float, float, float, float]
    justified: str
    colour: Rgb
    anchor: tuple[float, float] | None
    # Where in the box they stand: TOP, CENTER or BOTTOM.
    standing: str = "TOP"


@dataclass(frozen=True, slots=True)
class Layer:
    """A graphic layer, its colour, and whether that is grey."""

    name: str
    colour: Rgb


@dataclass(frozen=True, slots=True)
class Marks:
    """Everything of one layer, and in words what of it cannot be drawn."""

    layer: Layer
    strokes: tuple[Stroke, ...]
    captions: tuple[Caption, ...]
    missing: tuple[str, ...]


def layers(state: Dataset) -> list[Layer]:
    """The layers of a state, what lies below first; one that is not described comes on top, in white."""
    described = sorted(items(state, LAYERS), key=lambda one: number(one, ORDER) or 0)
    known = [Layer(text(one, LAYER), _layer_colour(one)) for one in described]
    names = {one.name for one in known}
    others = dict.fromkeys(text(one, LAYER) for one in items(state, ANNOTATIONS))
    return known + [Layer(name, WHITE) for name in others if name not in names]


def marks(state: Dataset, layer: Layer, uid: str, frame: int, display: Display) -> Marks:
    """What is drawn in a layer on a frame of an image."""
    strokes: list[Stroke] = []
    captions: list[Caption] = []
    missing: list[str] = []
    for annotation in applying(state, ANNOTATIONS, uid, frame):
        if text(annotation, LAYER) != layer.name:
            continue
        for item in items(annotation, GRAPHICS):
            drawn = list(_strokes(item, layer, display))
            strokes += drawn
            if not drawn:
                missing.append(f"{text(item, TYPE) or 'a graphic without type'} of {len(numbers(item, DATA)) // 2} points")
        for item in items(annotation, TEXTS):
            caption = _caption(item, layer, display)
            if caption is not None:
                captions.append(caption)
            else:
                missing.append("a text without place")
        missing += _without_parts(annotation)
    return Marks(layer, tuple(strokes), tuple(captions), tuple(missing))


def _without_parts(annotation: Dataset) -> Iterator[str]:
    """Compound graphics that come without the graphics and texts by which they are drawn here (PS3.4 N.3, PS3.3 C.10.5)."""
    parts = {number(one, COMPOUND_ID) for one in (*items(annotation, GRAPHICS), *items(annotation, TEXTS))}
    for compound in items(annotation, COMPOUNDS):
        if number(compound, COMPOUND_ID) not in parts - {None}:
            yield f"a compound graphic {text(compound, COMPOUND_TYPE) or 'of no type'}".rstrip()


def _strokes(item: Dataset, layer: Layer, display: Display) -> Iterator[Stroke]:
    """The outline of a graphic, after what fills it; nothing where its data is not of its type."""
    given = numbers(item, DATA)
    shape = _SHAPES.get(text(item, TYPE))
    if shape is None or not given or len(given) % 2 or len(given) > 2 * _MOST_POINTS:
        return
    points = _placed(np.array(given).reshape(-1, 2), text(item, UNITS), display)
    if points is None or np.abs(points).max() > _FARTHEST:
        return
    outline = shape(points)
    if outline is None:
        return
    style = next(iter(items(item, LINE_STYLE)), {})
    colour = cielab(style, PATTERN_COLOUR) or layer.colour
    if text(item, FILLED) == "Y":
        fill = next(iter(items(item, FILL_STYLE)), {})
        yield Stroke(outline, cielab(fill, PATTERN_COLOUR) or colour, filled=True, opacity=_opacity(fill))
    width = min(max(number(style, THICKNESS) or 1.0, 1.0), 100.0)
    yield Stroke(outline, colour, width, opacity=_opacity(style), dashed=text(style, DASHING) == "DASHED")


def _caption(item: Dataset, layer: Layer, display: Display) -> Caption | None:
    """A text object; it stands upright however the image is turned, in the box between its two corners."""
    style = next(iter(items(item, TEXT_STYLE)), {})
    colour = cielab(style, TEXT_COLOUR) or layer.colour
    anchor = _point(item, ANCHOR, text(item, ANCHOR_UNITS), display)
    corners = [_point(item, tag, text(item, BOX_UNITS), display) for tag in (BOX_TOP_LEFT, BOX_BOTTOM_RIGHT)]
    first, last = corners
    if first is not None and last is not None:
        box = (min(first[0], last[0]), min(first[1], last[1]), max(first[0], last[0]), max(first[1], last[1]))
        seen = anchor if text(item, ANCHOR_SHOWN) == "Y" else None
        return Caption(text(item, WORDS), box, text(style, ALIGNED) or text(item, JUSTIFIED), colour, seen, text(style, STANDING) or "TOP")
    if anchor is None:
        return None
    return Caption(text(item, WORDS), (*anchor, *anchor), "LEFT", colour, anchor if text(item, ANCHOR_SHOWN) == "Y" else None)


def _point(item: Dataset, tag: str, units: str, display: Display) -> tuple[float, float] | None:
    given = numbers(item, tag)
    points = _placed(np.array([given]), units, display) if len(given) == 2 else None
    if points is None or np.abs(points).max() > _FARTHEST:
        return None
    return float(points[0, 0]), float(points[0, 1])


def _placed(points: Points, units: str, display: Display) -> Points | None:
    """PIXEL counts from the upper left edge of the image, DISPLAY in parts of what is shown (PS3.3 C.10.5.1)."""
    points = np.clip(points, -_BEYOND, _BEYOND)
    if units == "PIXEL":
        return display.at(points)
    if units == "DISPLAY":
        return points * (display.width, display.height)
    return None


def _opacity(style: Dataset) -> float:
    given = number(style, OPACITY)
    return 1.0 if given is None else min(max(given, 0.0), 1.0)


def _layer_colour(layer: Dataset) -> Rgb:
    if (colour := cielab(layer, CIELAB_VALUE)) is not None:
        return colour
    primaries = numbers(layer, RGB_VALUE)
    grey = number(layer, GREY_VALUE)
    values = primaries if len(primaries) == 3 else [65535 if grey is None else grey] * 3
    red, green, blue = (int(min(max(value, 0), 65535)) >> 8 for value in values)
    return red, green, blue


def _polyline(points: Points) -> Points | None:
    return points if len(points) > 1 else None


def _circle(points: Points) -> Points | None:
    """About the first point, through the second; round on the screen."""
    if len(points) != 2:
        return None
    radius = float(np.hypot(*(points[1] - points[0])))
    return _round(points[0], np.array([radius, 0.0]), np.array([0.0, radius]))


def _ellipse(points: Points) -> Points | None:
    """By the ends of its two axes."""
    if len(points) != 4:
        return None
    return _round(points.mean(axis=0), (points[1] - points[0]) / 2, (points[3] - points[2]) / 2)


def _round(centre: Points, one: Points, other: Points) -> Points:
    turns = np.linspace(0, 2 * np.pi, 181)[:, None]
    return centre + np.cos(turns) * one + np.sin(turns) * other


def _interpolated(points: Points) -> Points | None:
    """A smooth curve through all points: cubic pieces whose slopes are those of the neighbours' chords."""
    if len(points) < 3:
        return _polyline(points)
    closed = bool(np.allclose(points[0], points[-1]))
    before, after = (points[-2], points[1]) if closed else (points[0], points[-1])
    around = np.concatenate([before[None], points, after[None]])
    start, stop = around[1:-2, None], around[2:-1, None]
    first, second = (around[2:-1, None] - around[:-3, None]) / 2, (around[3:, None] - around[1:-2, None]) / 2
    t = (np.arange(_FINE) / _FINE)[None, :, None]
    curve = (
        (2 * t**3 - 3 * t**2 + 1) * start + (t**3 - 2 * t**2 + t) * first + (3 * t**2 - 2 * t**3) * stop + (t**3 - t**2) * second
    )
    return np.concatenate([curve.reshape(-1, 2), points[-1:]])


def _points(points: Points) -> Points | None:
    """A cross where the point is."""
    if len(points) != 1:
        return None
    x, y = points[0]
    return np.array([(x - 4, y), (x + 4, y), (x, y), (x, y - 4), (x, y + 4)])


_SHAPES: Final[dict[str, Callable[[Points], Points | None]]] = {
    "POINT": _points,
    "POLYLINE": _polyline,
    "INTERPOLATED": _interpolated,
    "CIRCLE": _circle,
    "ELLIPSE": _ellipse,
}
