"""Text on pages in A4, for who wants a picture of a document."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final

from dicomweb.rendering import lettering
from dicomweb.rendering.sheet import BLACK, GREY, Sheet

WIDTH, HEIGHT, MARGIN = 210.0, 297.0, 15.0
SIZE, TITLE_SIZE, LEADING = 3.2, 5.0, 4.6
ROWS: Final = int((HEIGHT - 2 * MARGIN - 10) / LEADING)
# What a document is broken into lines of, at most: it is a picture of a report, not a book.
MOST_PAGES: Final = 200
_MEASURED: Final = 32.0


def paginated(lines: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """The pages of a text, its lines broken where they are too long; one empty page of nothing."""
    pages: list[tuple[str, ...]] = []
    page: list[str] = []
    for row in _rows(lines):
        if len(page) == ROWS:
            pages.append(tuple(page))
            page = []
        if len(pages) == MOST_PAGES:
            break
        page.append(row)
    return (*pages, tuple(page)) if page or not pages else tuple(pages)


def page(title: str, rows: Iterable[str], number: int, count: int) -> Sheet:
    """Page `number` of `count`."""
    sheet = Sheet(WIDTH, HEIGHT)
    y = MARGIN + TITLE_SIZE
    if number == 1:
        sheet.words(MARGIN, y, _cut(title, (WIDTH - 2 * MARGIN) * SIZE / TITLE_SIZE), TITLE_SIZE)
    y += LEADING
    for row in rows:
        y += LEADING
        indent = len(row) - len(row.lstrip(" "))
        sheet.words(MARGIN + indent * 1.6, y, row.lstrip(" "), SIZE, BLACK)
    sheet.words(WIDTH - MARGIN, HEIGHT - MARGIN / 2, f"{number} / {count}", SIZE, GREY, "end")
    return sheet


def _rows(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        for part in line.split("\n"):
            indent = " " * (len(part) - len(part.lstrip(" ")))
            yield from _broken(part.strip(), indent, WIDTH - 2 * MARGIN - len(indent) * 1.6)


def _broken(text: str, indent: str, width: float) -> Iterator[str]:
    width = max(width, 40.0)
    if not text:
        yield ""
    while text:
        head = _cut(text, width)
        if len(head) < len(text) and (space := head.rfind(" ")) > 0:
            head = head[:space]
        yield indent + head
        text = text[len(head) :].lstrip(" ")


def _cut(text: str, width: float) -> str:
    """As much of the text as fits `width` mm."""
    used = 0.0
    for index, one in enumerate(text):
        used += _advance(one)
        if used > width:
            return text[: max(index, 1)]
    return text


@functools.lru_cache(maxsize=4096)
def _advance(letter: str) -> float:
    """How far a letter moves the pen, in mm."""
    if unicodedata.combining(letter):
        return 0.0
    return lettering.line(letter, _MEASURED).width / _MEASURED * SIZE
