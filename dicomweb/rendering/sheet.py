"""A sheet of paper, measured in millimetres, that is drawn on once and comes out as SVG or as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from dicomweb.rendering import lettering
from dicomweb.rendering.geometry import Picture, fitted
from dicomweb.rendering.request import Viewport

Colour = tuple[int, int, int]
Point = tuple[float, float]

BLACK: Final[Colour] = (20, 24, 28)
GREY: Final[Colour] = (96, 108, 116)
WHITE: Final[Colour] = (255, 255, 255)
# About what screens have, and as fine as a large one.
DOTS, MOST_DOTS = 4.0, 16.0
# A picture is drawn this much larger and made smaller: Pillow draws lines without smoothing.
FINER: Final = 2
MOST_AREA: Final = 1 << 26


@dataclass(frozen=True, slots=True)
class Stroke:
    """A line through points."""

    points: Sequence[Point]
    colour: Colour
    width: float


@dataclass(frozen=True, slots=True)
class Words:
    """Text from `x`, standing on `y`; `end` and `middle` are where its end, or its middle, is at `x`."""

    x: float
    y: float
    text: str
    size: float
    colour: Colour = BLACK
    anchor: str = "start"


@dataclass(frozen=True, slots=True)
class Grid:
    """Squared paper: a fine line to a millimetre, a strong one to five (ECG recorders)."""

    x: float
    y: float
    width: float
    height: float
    fine: Colour = (250, 215, 215)
    strong: Colour = (240, 165, 165)


@dataclass
class Sheet:
    """`width` and `height` in mm, the origin top left."""

    width: float
    height: float
    marks: list[Stroke | Words | Grid] = field(default_factory=list)

    def stroke(self, points: Sequence[Point], colour: Colour = BLACK, width: float = 0.25) -> None:
        """Draw a line."""
        self.marks.append(Stroke(points, colour, width))

    def words(
        self, x: float, y: float, text: str, size: float = 3.0, colour: Colour = BLACK, anchor: str = "start"
    ) -> None:
        """Write; `size` is the height of the letters in mm."""
        self.marks.append(Words(x, y, text, size, colour, anchor))

    def grid(self, x: float, y: float, width: float, height: float) -> None:
        """Rule a part of the sheet."""
        self.marks.append(Grid(x, y, width, height))

    def svg(self, title: str) -> bytes:
        """The sheet in its true size; `title` is what a screen reader says."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{self.width:g}mm" height="{self.height:g}mm"'
            f' viewBox="0 0 {self.width:g} {self.height:g}" font-family="DejaVu Sans, Arial, sans-serif">'
            f"<title>{escape(_plain(title))}</title>"
            f'<rect width="100%" height="100%" fill="{_hex(WHITE)}"/>'
        )
        body = "".join(_svg(mark, number) for number, mark in enumerate(self.marks))
        return f"{head}{body}</svg>\n".encode("utf-8", "replace")

    def picture(self, viewport: Viewport | None = None) -> Picture:
        """RGB, as large as fits the viewport, or `DOTS` to a millimetre."""
        dots = DOTS
        if viewport is not None and viewport.source_width is None and viewport.source_height is None:
            dots = min(viewport.width / self.width, viewport.height / self.height, MOST_DOTS)
        dots = min(max(dots, 0.5), (MOST_AREA / FINER**2 / (self.width * self.height)) ** 0.5) * FINER
        size = max(round(self.width * dots), FINER), max(round(self.height * dots), FINER)
        image = Image.new("RGB", size, WHITE)
        pen = ImageDraw.Draw(image)
        for mark in self.marks:
            _draw(pen, mark, dots)
        small = image.resize((size[0] // FINER, size[1] // FINER), Image.Resampling.BOX)
        return fitted(np.asarray(small), viewport, 1.0)


# ---- SVG


def _svg(mark: Stroke | Words | Grid, number: int) -> str:
    if isinstance(mark, Stroke):
        points = " ".join(f"{x:.2f},{y:.2f}" for x, y in mark.points)
        return (
            f'<polyline fill="none" stroke="{_hex(mark.colour)}" stroke-width="{mark.width:g}" stroke-linejoin="round"'
            f' points="{points}"/>'
        )
    if isinstance(mark, Words):
        return (
            f'<text x="{mark.x:.2f}" y="{mark.y:.2f}" font-size="{mark.size:g}" fill="{_hex(mark.colour)}"'
            f' text-anchor="{mark.anchor}">{escape(_plain(mark.text))}</text>'
        )
    lines = (
        f'<pattern id="{name}{number}" x="{mark.x:g}" y="{mark.y:g}" width="{step}" height="{step}" patternUnits="userSpaceOnUse">'
        f'<path d="M{step},0H0V{step}" fill="none" stroke="{_hex(colour)}" stroke-width="{width}"/></pattern>'
        for name, step, colour, width in (("fine", 1, mark.fine, 0.1), ("strong", 5, mark.strong, 0.2))
    )
    place = f'x="{mark.x:g}" y="{mark.y:g}" width="{mark.width:g}" height="{mark.height:g}"'
    return "".join(lines) + "".join(f'<rect {place} fill="url(#{name}{number})"/>' for name in ("fine", "strong"))


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _plain(text: str) -> str:
    """Without the characters that XML has no way to write."""
    return "".join(one if one >= " " and not "\ud800" <= one <= "\udfff" and one not in "\ufffe\uffff" else " " for one in text)


# ---- picture


def _draw_stroke(pen: ImageDraw.ImageDraw, mark: Stroke, dots: float) -> None:
    points = [(x * dots, y * dots) for x, y in mark.points]
    pen.line(points, fill=mark.colour, width=max(1, round(mark.width * dots)), joint="curve")


def _draw_words(pen: ImageDraw.ImageDraw, mark: Words, dots: float) -> None:
    set_line = lettering.line(_plain(mark.text), mark.size * dots)
    before = {"start": 0.0, "middle": set_line.width / 2, "end": set_line.width}[mark.anchor]
    lettering.write_on(pen, mark.x * dots - before, mark.y * dots, set_line, mark.colour)


def _draw_grid(pen: ImageDraw.ImageDraw, mark: Grid, dots: float) -> None:
    right, bottom = mark.x + mark.width, mark.y + mark.height
    for step, colour, width in ((1, mark.fine, 0.1), (5, mark.strong, 0.2)):
        # Too close together, the fine lines would be a colour and no lines.
        if step * dots < 3 * FINER:
            continue
        thick = max(1, round(width * dots))
        for index in range(int(mark.width / step) + 1):
            x = (mark.x + index * step) * dots
            pen.line(((x, mark.y * dots), (x, bottom * dots)), fill=colour, width=thick)
        for index in range(int(mark.height / step) + 1):
            y = (mark.y + index * step) * dots
            pen.line(((mark.x * dots, y), (right * dots, y)), fill=colour, width=thick)


def _draw(pen: ImageDraw.ImageDraw, mark: Stroke | Words | Grid, dots: float) -> None:
    if isinstance(mark, Stroke):
        _draw_stroke(pen, mark, dots)
    elif isinstance(mark, Words):
        _draw_words(pen, mark, dots)
    else:
        _draw_grid(pen, mark, dots)
