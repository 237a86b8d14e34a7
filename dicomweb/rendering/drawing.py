"""Marks drawn on pictures: smooth lines, areas, and words that stay legible on any background."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from dicomweb.rendering.colours import Rgb
from dicomweb.rendering.geometry import Picture
from dicomweb.rendering.lettering import Ink, Line, line, write
from dicomweb.rendering.marks import Caption, Stroke

# Lines are drawn this much larger and made smaller: Pillow draws them without smoothing. A large picture needs none.
FINER: Final = 2
_FINE_AREA: Final = 1 << 23
_MOST_LINES: Final = 64
_EDGE, _EDGE_OPACITY = 1.0, 0.6
# A line of one pixel between two rows would be half as bright in both.
_THINNEST: Final = 1.5


class Canvas:
    """A picture that is drawn on; it becomes one of colours when the first colour is laid on it."""

    def __init__(self, picture: Picture) -> None:
        self._image = Image.fromarray(picture)

    @property
    def picture(self) -> Picture:
        """What there is so far."""
        return np.asarray(self._image)

    def lay(self, mask: Picture, colour: Rgb, opacity: float = 1.0) -> None:
        """Cover what is set in `mask`, from 0 to 255 in the size of the picture."""
        covered = Image.fromarray(mask if opacity == 1 else (mask * opacity).astype(np.uint8))
        ink = self._ink(colour)
        self._image.paste(ink, mask=covered)

    def strokes(self, strokes: Iterable[Stroke]) -> None:
        """Draw lines and areas, one over the other."""
        for (colour, opacity), alike in groupby(strokes, key=lambda one: (one.colour, one.opacity)):
            drawn = list(alike)
            if not all(stroke.filled for stroke in drawn):
                # White lines on white bone would not be seen.
                self.lay(self._mask(drawn, _EDGE, lines_only=True), _against(colour), opacity * _EDGE_OPACITY)
            self.lay(self._mask(drawn), colour, opacity)

    def caption(self, caption: Caption) -> None:
        """Write words in their box, and the line from there to what they are about."""
        if caption.anchor is not None:
            self.strokes(_leader(caption, caption.anchor))
        left, top, right, bottom = caption.box
        lines = [line(words, self._letters(caption)) for words in _lines(caption.words)]
        below = max(bottom - top - sum(one.height for one in lines), 0.0)
        top += {"CENTER": below / 2, "BOTTOM": below}.get(caption.standing, 0.0)
        for one in lines:
            spare = right - left - one.width
            self.write(left + {"RIGHT": spare, "CENTER": spare / 2}.get(caption.justified, 0.0), top, one, caption.colour)
            top += one.height

    def write(self, left: float, top: float, words: Line, colour: Rgb = (255, 255, 255)) -> None:
        """Write one line, inside the picture as far as it fits, with an edge of the opposite brightness."""
        left = min(max(left, 0.0), max(self._image.width - words.width, 0.0))
        top = min(max(top, 0.0), max(self._image.height - words.height, 0.0))
        ink = self._ink(colour)
        write(ImageDraw.Draw(self._image), left, top, words, ink, self._ink(_against(colour)))

    def letters(self) -> float:
        """How high letters are that can be read in a picture of this size."""
        return min(max(min(self._image.size) / 30, 10.0), 48.0)

    def _letters(self, caption: Caption) -> float:
        """As the box has it, but neither too small to read nor larger than a word on an image is wont to be."""
        left, top, right, bottom = caption.box
        lines = _lines(caption.words)
        if right <= left or bottom <= top or not lines:
            return self.letters()
        widest = max((line(words, 100.0).width for words in lines), default=0.0) or 1.0
        fits = min((bottom - top) / len(lines) / 1.3, (right - left) / widest * 100)
        return min(max(fits, 10.0), max(self.letters() * 1.5, 10.0))

    def _ink(self, colour: Rgb) -> Ink:
        """A colour in the picture's own terms."""
        grey = colour[0] == colour[1] == colour[2]
        if self._image.mode == "L" and not grey:
            self._image = self._image.convert("RGB")
        return colour[0] if self._image.mode == "L" else colour

    def _mask(self, strokes: Sequence[Stroke], wider: float = 0.0, *, lines_only: bool = False) -> Picture:
        """What lines and areas cover, from 0 to 255; lines `wider` by so many pixels on either side."""
        finer = FINER if self._image.width * self._image.height <= _FINE_AREA else 1
        mask = Image.new("L", (self._image.width * finer, self._image.height * finer))
        pen = ImageDraw.Draw(mask)
        for stroke in strokes:
            # Coordinates are edges of pixels; Pillow's are the middles.
            corners = [(x, y) for x, y in (stroke.points * finer - 0.5).tolist()]
            if stroke.filled:
                if not lines_only:
                    pen.polygon(corners, fill=255)
                continue
            thick = max(stroke.width, _THINNEST) * max(1.0, min(self._image.size) / 768) + 2 * wider
            width = max(round(thick * finer), 1)
            for piece in _dashes(corners, 6.0 * stroke.width * finer) if stroke.dashed else (corners,):
                pen.line(piece, fill=255, width=width, joint="curve")
        return np.asarray(mask.reduce(finer) if finer > 1 else mask)


def _against(colour: Rgb) -> Rgb:
    """Black for what is bright, white for what is dark."""
    return (0, 0, 0) if sum(colour) > 3 * 96 else (255, 255, 255)


def _lines(words: str) -> list[str]:
    """The lines of a text, which ends them with CR and LF (PS3.3 C.10.5)."""
    return [one.strip() for one in re.split(r"\r\n|\r|\n", words.rstrip())][:_MOST_LINES]


def _leader(caption: Caption, anchor: tuple[float, float]) -> tuple[Stroke, ...]:
    """The line from the nearest edge of a box to its anchor, and a ring there."""
    left, top, right, bottom = caption.box
    near = (min(max(anchor[0], left), right), min(max(anchor[1], top), bottom))
    turns = np.linspace(0, 2 * np.pi, 25)
    ring = np.stack([np.cos(turns), np.sin(turns)], axis=-1) * 3 + anchor
    return Stroke(np.array([near, anchor]), caption.colour), Stroke(ring, caption.colour)


def _dashes(corners: Sequence[tuple[float, float]], length: float) -> list[list[tuple[float, float]]]:
    """A line cut into dashes with gaps of their length between them."""
    points = np.array(corners)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    starts = np.arange(0, min(float(along[-1]), 4000 * length), 2 * length)
    ends = np.minimum(starts + length, along[-1])
    dashes = []
    for start, end in zip(starts, ends, strict=True):
        inside = points[(along > start) & (along < end)]
        first, last = (np.array([np.interp(at, along, points[:, axis]) for axis in (0, 1)]) for at in (start, end))
        dashes.append([(float(x), float(y)) for x, y in (first, *inside, last)])
    return dashes
