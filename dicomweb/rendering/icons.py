"""Small drawn pictures for instances that have none: reports, documents, plans, waveforms, video, damaged images."""

from __future__ import annotations

import functools
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dicomweb.rendering.geometry import Picture
from dicomweb.rendering.values import text
from storage.types import Dataset

SOP_CLASS, MODALITY = "00080016", "00080060"
_STORAGE = "1.2.840.10008.5.1.4.1.1."

# What is drawn, by SOP class (the longest prefix that fits), else by modality (PS3.3 C.7.3.1.1.1).
BY_SOP_CLASS: dict[str, tuple[str, str]] = {
    f"{_STORAGE}104.1": ("page", "PDF"),
    f"{_STORAGE}104.2": ("page", "CDA"),
    f"{_STORAGE}104.": ("page", "3D"),
    f"{_STORAGE}9.": ("wave", ""),
    f"{_STORAGE}11.": ("page", "PR"),
    f"{_STORAGE}67": ("page", "RWV"),
    f"{_STORAGE}88.59": ("page", "KO"),
    f"{_STORAGE}88.": ("page", "SR"),
    f"{_STORAGE}481.": ("target", "RT"),
    f"{_STORAGE}77.1.1.1": ("film", ""),
    f"{_STORAGE}77.1.2.1": ("film", ""),
    f"{_STORAGE}77.1.4.1": ("film", ""),
}
BY_MODALITY: dict[str, tuple[str, str]] = {
    **{modality: ("page", modality) for modality in ("SR", "KO", "PR", "DOC", "PLAN", "ANN", "REG")},
    **dict.fromkeys(("ECG", "HD", "EPS", "RESP", "EEG", "EMG", "AU"), ("wave", "")),
    **dict.fromkeys(("RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "RTINTENT"), ("target", "RT")),
}
DAMAGED = ("broken", "")
LONGEST_LABEL = 8

BACKGROUND, LINE, PALE = (24, 28, 33), (168, 184, 196), (92, 106, 118)
# Drawn this much larger, then shrunk: Pillow draws without smoothing.
FINER = 4


def kind(dataset: Dataset) -> tuple[str, str]:
    """Shape and label for an instance."""
    sop_class, modality = text(dataset, SOP_CLASS), text(dataset, MODALITY)
    prefixes = sorted((prefix for prefix in BY_SOP_CLASS if sop_class.startswith(prefix)), key=len)
    if prefixes:
        return BY_SOP_CLASS[prefixes[-1]]
    label = "".join(letter for letter in modality.upper() if letter.isascii() and letter.isalnum())[
        :LONGEST_LABEL
    ]
    return BY_MODALITY.get(modality, ("page", label))


@functools.lru_cache(maxsize=64)
def icon(shape: str, label: str, side: int) -> Picture:
    """A square RGB picture of `side` pixels, read-only."""
    image = Image.new("RGB", (side * FINER, side * FINER), BACKGROUND)
    pen = _Pen(image)
    {"page": pen.page, "wave": pen.wave, "target": pen.target, "film": pen.film, "broken": pen.broken}[
        shape
    ]()
    if label:
        pen.label(label, 0.76 if shape == "page" else 0.85)
    picture = np.asarray(image.resize((side, side), Image.Resampling.BOX))
    picture.flags.writeable = False
    return picture


class _Pen:
    """Draws in a unit square, whatever the picture's size."""

    def __init__(self, image: Image.Image) -> None:
        self._side = image.width
        self._draw = ImageDraw.Draw(image)

    def page(self) -> None:
        self._line([(0.26, 0.12), (0.62, 0.12), (0.74, 0.24), (0.74, 0.88), (0.26, 0.88), (0.26, 0.12)])
        self._line([(0.62, 0.12), (0.62, 0.24), (0.74, 0.24)])
        for row in range(4):
            end = 0.66 if row % 2 == 0 else 0.58
            self._line([(0.34, 0.34 + row * 0.075), (end, 0.34 + row * 0.075)], PALE)

    def wave(self) -> None:
        """One beat of an ECG, three times."""
        beat = [
            (0.0, 0.0),
            (0.06, 0.0),
            (0.09, -0.05),
            (0.12, 0.0),
            (0.14, 0.06),
            (0.16, -0.32),
            (0.18, 0.14),
        ]
        beat += [(0.2, 0.0), (0.23, -0.08), (0.26, 0.0)]
        self._line([(0.11 + start * 0.26 + x, 0.52 + y) for start in range(3) for x, y in beat])

    def target(self) -> None:
        for radius, colour in ((0.26, PALE), (0.16, LINE)):
            turns = [index * math.tau / 48 for index in range(49)]
            self._line([(0.5 + radius * math.cos(t), 0.38 + radius * math.sin(t)) for t in turns], colour)
        self._line([(0.5, 0.06), (0.5, 0.7)], PALE)
        self._line([(0.18, 0.38), (0.82, 0.38)], PALE)

    def film(self) -> None:
        self._line([(0.14, 0.24), (0.86, 0.24), (0.86, 0.76), (0.14, 0.76), (0.14, 0.24)])
        self._draw.polygon(self._scaled([(0.42, 0.36), (0.64, 0.5), (0.42, 0.64)]), fill=LINE)

    def broken(self) -> None:
        self._line([(0.18, 0.2), (0.82, 0.2), (0.82, 0.8), (0.18, 0.8), (0.18, 0.2)], PALE)
        self._line([(0.4, 0.38), (0.6, 0.62)])
        self._line([(0.6, 0.38), (0.4, 0.62)])

    def label(self, label: str, height: float) -> None:
        size = self._side * min(0.2, 0.62 / len(label))
        self._draw.text(
            self._scaled([(0.5, height)])[0], label, fill=LINE, font=ImageFont.load_default(size), anchor="mm"
        )

    def _line(self, points: list[tuple[float, float]], colour: tuple[int, int, int] = LINE) -> None:
        self._draw.line(self._scaled(points), fill=colour, width=max(1, self._side // 48), joint="curve")

    def _scaled(self, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(x * self._side, y * self._side) for x, y in points]
