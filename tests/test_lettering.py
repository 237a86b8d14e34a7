"""Lines of words in every direction: which run is where, and that what is seen is what who reads the script expects."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont, features

from dicomweb.rendering import lettering
from dicomweb.rendering.fonts import font_files
from dicomweb.rendering.lettering import Line, line, readable, write_on
from dicomweb.rendering.runs import reversed_letters, runs

HEBREW = "כהן, דוד"
ARABIC = "محمد, أحمد"
# As in UAX #9, capitals stand for letters that are written from right to left: what is spoken, and what is seen from left to right.
BACKWARDS: dict[str, str | int | None] = {chr(ord("A") + number): chr(ord("א") + number) for number in range(22)}
SEEN: tuple[tuple[str, str], ...] = (
    ("", ""),
    ("doe, jane", "doe, jane"),
    ("ABC, DEF", "FED ,CBA"),
    ("cohen, david ABC, DEF", "cohen, david FED ,CBA"),
    # The first letter gives the direction of the line.
    ("ABC david", "david CBA"),
    ("ABC (david)", "(david) CBA"),
    ("ABC david DEF", "FED david CBA"),
    # What is between both directions is of the line.
    ("david (ABC) cohen", "david (CBA) cohen"),
    ("david - ABC", "david - CBA"),
    ("david ABC.", "david CBA."),
    # Numbers are read from left to right, in their place among the letters.
    ("ABC 12, 3.5 DEF", "FED 3.5 ,12 CBA"),
    ("12 ABC", "CBA 12"),
    ("w 12 ABC", "w 12 CBA"),
    ("1980-01-02 f", "1980-01-02 f"),
)  # fmt: skip


@pytest.mark.parametrize(("spoken", "expected"), SEEN)
def test_what_is_seen_from_left_to_right(spoken: str, expected: str) -> None:
    found = runs(spoken.translate(str.maketrans(BACKWARDS)), lambda letter: 0, lambda font, letter: True)
    seen = "".join(reversed_letters(run.words) if run.backwards else run.words for run in found)
    names = {str(letter): name for name, letter in BACKWARDS.items()}
    assert "".join(names.get(letter, letter) for letter in seen) == expected


def test_a_font_that_lacks_the_comma_does_not_tear_a_name_apart() -> None:
    """Only font 1 has Hebrew, and not the comma; the names are still in their order, from the right."""
    found = runs(HEBREW, lambda letter: int("א" <= letter <= "ת"), lambda font, letter: font == int("א" <= letter <= "ת"))
    assert [(run.words, run.font) for run in found] == [("דוד", 1), (", ", 0), ("כהן", 1)]
    assert all(run.backwards for run in found)


@pytest.mark.parametrize(
    ("spoken", "seen"), [("דוד", "דוד"[::-1]), ("דוד 12", "12 " + "דוד"[::-1]), ("דוד 1.5", "1.5 " + "דוד"[::-1]), ("(ד)", "(ד)"), ("שָׁ", "שָׁ")]
)
def test_without_a_shaper_letters_are_turned(spoken: str, seen: str) -> None:
    assert reversed_letters(spoken) == seen


def drawn(set_line: Line) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    image = Image.new("L", (500, 60))
    write_on(ImageDraw.Draw(image), 10, 40, set_line, 255)
    return np.asarray(image)


def alone(words: str, direction: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """By Pillow in one go, in a font that has all of the letters."""
    image = Image.new("L", (500, 60))
    font = next(lettering.font(index, 30) for index, name in enumerate(font_files()) if "DejaVu" in name)
    ImageDraw.Draw(image).text((10, 40), words, fill=255, font=font, anchor="ls", direction=direction)
    return np.asarray(image)


needs = pytest.mark.skipif(
    not features.check("raqm") or not any("DejaVu" in name for name in font_files()), reason="needs libfribidi and DejaVu Sans (apt-get install libfribidi0 fonts-dejavu-core)"
)


@needs
@pytest.mark.parametrize("words", [HEBREW, ARABIC, "שָׁלוֹם", "דוד 12 כהן", "می‌خواهم"])
def test_what_is_seen_is_as_the_shaper_has_it(words: str) -> None:
    assert readable(words.replace("\u200c", ""))
    assert np.array_equal(drawn(line(words, 30)), alone(words, "rtl"))
    assert not np.array_equal(drawn(line(words, 30)), alone(words[::-1], "rtl"))


@needs
def test_without_a_shaper_hebrew_is_seen_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    right = drawn(line("דוד כהן", 30))
    monkeypatch.setattr(lettering, "_shapes", lambda: False)
    monkeypatch.setattr(lettering, "font", lambda index, size: ImageFont.truetype(font_files()[index], size, layout_engine=ImageFont.Layout.BASIC))
    turned = line("דוד כהן", 30)
    assert [(piece.words, piece.direction) for piece in turned.pieces] == [("דוד כהן"[::-1], None)]
    assert np.abs(drawn(turned).astype(int) - right).mean() < 1.0
    assert np.abs(drawn(turned)[:, ::-1].astype(int) - right).mean() > 3.0, "this test could not tell"
