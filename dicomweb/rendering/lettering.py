"""Words on pictures: fonts for the scripts of the world, one after the other, and an edge that keeps letters legible."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from dicomweb.rendering.fonts import font_files

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Ink = int | tuple[int, int, int]

# No font has a letter for this: what it looks like is what is drawn where a letter is missing.
_NOBODYS: Final = "\U000ffffd"
_PROBE: Final = 16.0
SMALLEST: Final = 6.0
_MOST_LETTERS: Final = 1024


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text as pieces that one font each can write, and its size in pixels."""

    pieces: tuple[tuple[str, Font], ...]
    width: float
    height: float


def line(words: str, size: float) -> Line:
    """Set a line in letters `size` pixels high; what cannot be printed is left out, what has no letter gets a box."""
    size = max(size, SMALLEST)
    shown = "".join(letter for letter in words[:_MOST_LETTERS] if letter.isprintable())
    pieces = tuple((piece, font(index, size)) for piece, index in _pieces(shown))
    return Line(pieces, sum(used.getlength(piece) for piece, used in pieces), size * 1.3)


def write(pen: ImageDraw.ImageDraw, left: float, top: float, set_line: Line, ink: Ink, edge: Ink | None = None) -> None:
    """Write a line with its upper left corner there, in `ink` and with a thin edge around the letters."""
    write_on(pen, left, top + set_line.height * 0.78, set_line, ink, edge)


def write_on(pen: ImageDraw.ImageDraw, left: float, base: float, set_line: Line, ink: Ink, edge: Ink | None = None) -> None:
    """The same on a base line."""
    stroke = max(1, round(set_line.height / 18)) if edge is not None else 0
    passes = ((edge, stroke), (ink, 0)) if edge is not None else ((ink, 0),)
    for colour, width in passes:
        across = left
        for piece, used in set_line.pieces:
            pen.text((across, base), piece, fill=colour, font=used, anchor="ls", stroke_width=width, stroke_fill=colour)
            across += used.getlength(piece)


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


def _pieces(words: str) -> Iterator[tuple[str, int]]:
    """The text cut where its font changes; spaces go with what is before them."""
    piece, current = "", 0
    for letter in words:
        wanted = current if letter.isspace() else _font_for(letter) or 0
        if wanted != current and piece:
            yield piece, current
            piece = ""
        current = wanted
        piece += letter
    if piece:
        yield piece, current


@functools.lru_cache(maxsize=8192)
def _font_for(letter: str) -> int | None:
    """The first font that has a letter."""
    for index in range(max(len(font_files()), 1)):
        used = font(index, _PROBE)
        if _shape(used, letter) != _shape(used, _NOBODYS):
            return index
    return None


def _shape(used: Font, letter: str) -> bytes:
    image = Image.new("L", (32, 32))
    ImageDraw.Draw(image).text((4, 24), letter, fill=255, font=used, anchor="ls")
    return image.tobytes()
