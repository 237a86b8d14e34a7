"""Words in the corners of a picture: whose it is and how it was made (PS3.18 8.3.5.1.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dicomweb.rendering.drawing import Canvas
from dicomweb.rendering.geometry import PIXEL_MEASURES, Picture
from dicomweb.rendering.lettering import SMALLEST, line, readable
from dicomweb.rendering.luts import Lut
from dicomweb.rendering.request import PATIENT, TECHNIQUE, RenderRequest, Share, Window
from dicomweb.rendering.values import macro, number, numbers, text, values
from dicomweb.rendering.voi import CENTER, FRAME_VOI_LUT, WIDTH
from storage.types import Dataset

NAME, PATIENT_ID, BIRTH_DATE, SEX = "00100010", "00100020", "00100030", "00100040"
MODALITY, BODY_PART, VIEW, LATERALITY = "00080060", "00180015", "00185101", "00200062"
# What the image was made with, in lines: words before and after a value, its tag, and the functional group that may have it
# (PS3.3 C.8.15.3, C.8.13.5, C.7.6.16.2.1).
_TECHNIQUE: Final = (
    (("", " kVp", "00180060", "00189325"), ("", " mA", "00181151", "00189321"), ("", " mAs", "00181152", "00189321")),
    (("TR ", " ms", "00180080", "00189112"), ("TE ", " ms", "00180081", ""), ("TE ", " ms", "00189082", "00189114")),
    (("", " mm", "00180050", PIXEL_MEASURES), ("at ", " mm", "00201041", "")),
)
# Between the words and the edge of the picture, in letters.
_MARGIN: Final = 0.4


def annotated(
    picture: Picture, dataset: Dataset, frame: int, request: RenderRequest, window: Window | Lut | Share | None = None, *, windowed: bool = True
) -> Picture:
    """`picture` with what the request wants written into it; without it, itself.

    The patient is at the top left, the technique at the bottom left. `windowed`: the window is `window`, or else the
    image's, and is part of the technique.
    """
    if not request.annotation:
        return picture
    canvas = Canvas(picture)
    if PATIENT in request.annotation:
        _write(canvas, picture, patient(dataset), below=False)
    if TECHNIQUE in request.annotation:
        _write(canvas, picture, technique(dataset, frame, window, windowed=windowed), below=True)
    return canvas.picture


def patient(dataset: Dataset) -> list[str]:
    """Name, ID, date of birth and sex; what is not known is left out."""
    born = text(dataset, BIRTH_DATE)
    date = f"{born[:4]}-{born[4:6]}-{born[6:]}" if len(born) == 8 and born.isdigit() else born
    return [one for one in (_name(dataset), text(dataset, PATIENT_ID), " ".join(filter(None, (date, text(dataset, SEX))))) if one]


def technique(dataset: Dataset, frame: int, window: Window | Lut | Share | None, *, windowed: bool = True) -> list[str]:
    """Modality and part of the body, what the image was made with, and its window."""
    lines = [" ".join(filter(None, (text(dataset, tag) for tag in (MODALITY, BODY_PART, LATERALITY, VIEW))))]
    for parts in _TECHNIQUE:
        found = [
            f"{before}{value:g}{after}"
            for before, after, tag, group in parts
            if (value := number(macro(dataset, frame, group) if group else dataset, tag)) is not None
        ]
        lines.append("  ".join(found))
    return [one for one in (*lines, _window(dataset, frame, window) if windowed else "") if one]


def _window(dataset: Dataset, frame: int, window: Window | Lut | Share | None) -> str:
    """The window that was asked for, else the image's first; one that was made from its values, and a VOI LUT, has no words."""
    if window is None:
        group = macro(dataset, frame, FRAME_VOI_LUT)
        pairs = list(zip(numbers(group, CENTER), numbers(group, WIDTH), strict=False))
        return f"W {pairs[0][1]:g}  C {pairs[0][0]:g}" if pairs else ""
    return f"W {window.width:g}  C {window.center:g}" if isinstance(window, Window) else ""


def _name(dataset: Dataset) -> str:
    """As it is written in letters, and in ideographs where there are fonts for them (PS3.5 6.2.1.2)."""
    name: Any = next(iter(values(dataset, NAME)), None)
    if not isinstance(name, Mapping):
        return ""
    alphabetic, ideographic = (_spoken(str(name.get(group, ""))) for group in ("Alphabetic", "Ideographic"))
    return " ".join(one for one in (alphabetic, ideographic if readable(ideographic) else "") if one)


def _spoken(name: str) -> str:
    """Family name, given and middle names; prefix and suffix are left out."""
    family, *others = (part.strip() for part in name.split("^"))
    return ", ".join(filter(None, (family, " ".join(filter(None, others[:2])))))


def _write(canvas: Canvas, picture: Picture, words: list[str], *, below: bool) -> None:
    rows, columns = picture.shape[:2]
    size = canvas.letters()
    widest = max((line(one, size).width for one in words), default=0.0) + 2 * _MARGIN * size
    size = max(size * min(1.0, columns / max(widest, 1.0)), SMALLEST)
    lines = [line(one, size) for one in words]
    top = rows - sum(one.height for one in lines) - _MARGIN * size if below else _MARGIN * size
    for one in lines:
        canvas.write(_MARGIN * size, top, one)
        top += one.height
