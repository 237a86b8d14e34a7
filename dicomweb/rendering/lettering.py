"""Words on pictures: fonts for the scripts of the world, one after the other, and an edge that keeps letters legible."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final, NamedTuple

from PIL import Image, ImageDraw, ImageFont, features

from dicomweb.rendering.fonts import font_files
from dicomweb.rendering.runs import JOINERS, Run, reversed_letters, runs

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Ink = int | tuple[int, int, int]

# No font has a letter for this: what it looks like is what is drawn where a letter is missing.
_NOBODYS: Final = "\U000ffffd"
_PROBE: Final = 16.0
SMALLEST: Final = 6.0
_MOST_LETTERS: Final = 1024


class Piece(NamedTuple):
    """What one font writes in one go, from left to right or, `direction` rtl, from right to left."""

    words: str
    font: Font
    direction: str | None

    @property
    def length(self) -> float:
        """How wide it is, in pixels."""
        return self.font.getlength(self.words, direction=self.direction)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text as pieces in the order in which they are seen, and its size in pixels."""

    pieces: tuple[Piece, ...]
    width: float
    height: float


def line(words: str, size: float) -> Line:
    """Set a line in letters `size` pixels high; what cannot be printed is left out, what has no letter gets a box."""
    size = max(size, SMALLEST)
    shown = "".join(letter for letter in words[:_MOST_LETTERS] if letter.isprintable() or (letter in JOINERS and _shapes()))
    pieces = tuple(_piece(run, size) for run in runs(shown, _font_for, _has))
    return Line(pieces, sum(piece.length for piece in pieces), size * 1.3)


def _piece(run: Run, size: float) -> Piece:
    used = font(run.font, size)
    if _shapes() and isinstance(used, ImageFont.FreeTypeFont):
        return Piece(run.words, used, "rtl" if run.backwards else "ltr")
    return Piece(reversed_letters(run.words) if run.backwards else run.words, used, None)


@functools.cache
def _shapes() -> bool:
    """Whether letters are joined and turned by who draws them (libraqm, which needs the machine's libfribidi)."""
    return bool(features.check("raqm"))


def write(pen: ImageDraw.ImageDraw, left: float, top: float, set_line: Line, ink: Ink, edge: Ink | None = None) -> None:
    """Write a line with its upper left corner there, in `ink` and with a thin edge around the letters."""
    write_on(pen, left, top + set_line.height * 0.78, set_line, ink, edge)


def write_on(pen: ImageDraw.ImageDraw, left: float, base: float, set_line: Line, ink: Ink, edge: Ink | None = None) -> None:
    """The same on a base line."""
    stroke = max(1, round(set_line.height / 18)) if edge is not None else 0
    passes = ((edge, stroke), (ink, 0)) if edge is not None else ((ink, 0),)
    for colour, width in passes:
        across = left
        for piece in set_line.pieces:
            pen.text((across, base), piece.words, fill=colour, font=piece.font, anchor="ls", stroke_width=width, stroke_fill=colour, direction=piece.direction)
            across += piece.length


def readable(words: str) -> bool:
    """Whether every letter can be written with the fonts of this machine."""
    return all(_font_for(letter) is not None for letter in words if not letter.isspace())


@functools.lru_cache(maxsize=256)
def font(index: int, size: float) -> Font:
    """A font by its place in the list, in the size of a letter in pixels."""
    found = font_files()
    if index < len(found):
        return ImageFont.truetype(found[index], size)
    return ImageFont.load_default(size)


@functools.lru_cache(maxsize=8192)
def _font_for(letter: str) -> int | None:
    """The first font that has a letter."""
    for index in range(max(len(font_files()), 1)):
        if _has(index, letter):
            return index
    return None


@functools.lru_cache(maxsize=8192)
def _has(index: int, letter: str) -> bool:
    """Whether a font has a letter."""
    used = font(index, _PROBE)
    return _shape(used, letter) != _shape(used, _NOBODYS)


def _shape(used: Font, letter: str) -> bytes:
    image = Image.new("L", (32, 32))
    ImageDraw.Draw(image).text((4, 24), letter, fill=255, font=used, anchor="ls")
    return image.tobytes()
