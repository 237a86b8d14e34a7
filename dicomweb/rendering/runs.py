"""A line of words as runs of one font and one direction, from left to right as they are seen (Unicode UAX #9, without embeddings)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

_RIGHT_TO_LEFT = frozenset({"R", "AL"})
_DIGITS = frozenset({"EN", "AN"})
# A number with what is inside it, or one letter.
_TOKEN = re.compile(r"\d+(?:[.,:/-]\d+)*|.", re.DOTALL)
# Zero width joiner and non-joiner: they are not seen, and say how letters of Arabic and of India's scripts are joined.
JOINERS = frozenset("\u200c\u200d")

# The first font that has a letter, None where there is none; and whether a font has it.
FontFor = Callable[[str], int | None]
Has = Callable[[int, str], bool]


class Run(NamedTuple):
    """Letters as they are spoken, which one font writes in one direction."""

    words: str
    font: int
    backwards: bool


def runs(words: str, font_for: FontFor, has: Has) -> list[Run]:
    """The runs of a line in the order in which they are seen. The first letter that has a direction gives that of the line."""
    directions = _directions(words)
    spoken = list(_cut(words, directions, font_for, has))
    base = _base(words)
    seen: list[Run] = []
    groups = [list(group) for _, group in groupby(spoken, lambda run: run.backwards)]
    for group in reversed(groups) if base else groups:
        seen += reversed(group) if group[0].backwards else group
    return seen


def reversed_letters(words: str) -> str:
    """Letters from left to right as they are seen, for what does not know that they are written backwards: numbers stay as they are."""
    clusters: list[str] = []
    for token in _TOKEN.findall(words):
        if clusters and unicodedata.combining(token[0]):
            clusters[-1] += token
        else:
            clusters.append(token)
    mirrored = str.maketrans("()[]{}<>", ")(][}{><")
    return "".join(one if len(one) > 1 else one.translate(mirrored) for one in reversed(clusters))


def _is_digit(letter: str) -> bool:
    return unicodedata.bidirectional(letter) in _DIGITS


def _strong(letter: str) -> bool | None:
    """Whether a letter is written from right to left; None where it has no direction of its own."""
    kind = unicodedata.bidirectional(letter)
    return True if kind in _RIGHT_TO_LEFT else False if kind == "L" else None


def _base(words: str) -> bool:
    return next((strong for letter in words if (strong := _strong(letter)) is not None), False)


def _directions(words: str) -> list[bool]:
    """Of each letter, whether it belongs to what is written backwards.

    Numbers go with the letters before them; what has no direction goes with both its neighbours where they agree, else with the line.
    """
    base = _base(words)
    known: list[bool | None] = []
    last = base
    for letter in words:
        strong = _strong(letter)
        last = last if strong is None else strong
        known.append(last if strong is not None or _is_digit(letter) else None)
    found: list[bool] = []
    for index, one in enumerate(known):
        before = found[-1] if found else base
        after = next((later for later in known[index:] if later is not None), base)
        found.append(one if one is not None else before if before == after else base)
    return found


def _cut(words: str, directions: Sequence[bool], font_for: FontFor, has: Has) -> Iterator[Run]:
    """Cut where the font or the direction changes; what belongs to the letter before stays with it, and what its font has too."""
    piece, font, backwards = "", 0, False
    for letter, direction in zip(words, directions, strict=True):
        stays = piece and (letter.isspace() or unicodedata.combining(letter) or letter in JOINERS or (_strong(letter) is None and has(font, letter)))
        wanted = font if stays else font_for(letter) or 0
        if piece and (wanted != font or direction != backwards):
            yield Run(piece, font, backwards)
            piece = ""
        font, backwards = wanted, direction
        piece += letter
    if piece:
        yield Run(piece, font, backwards)
