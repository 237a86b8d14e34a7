"""PDF documents, drawn and read by PDFium; only ever in the process of `apart_child`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import pypdfium2

from dicomweb.apart_child import Made, Refusal

# Points to an inch, and what a page is drawn in without a wish: 110 dots to an inch.
_INCH, _USUAL = 72.0, 110.0
MOST_SIDE, MOST_AREA = 16_384, 1 << 26
# Pages whose text is read, and its letters.
MOST_PAGES, MOST_LETTERS = 500, 4 << 20


@contextmanager
def _opened(document: IO[bytes]) -> Iterator[pypdfium2.PdfDocument]:
    try:
        opened = pypdfium2.PdfDocument(document)
    except pypdfium2.PdfiumError as error:
        raise Refusal(f"the document cannot be opened as PDF ({_reason(error)})") from error
    try:
        yield opened
    finally:
        opened.close()


def draw_page(document: IO[bytes], asked: Mapping[str, Any]) -> Made:
    """Page `page` (from 1) in RGB, to fit `width` and `height` where they are given."""
    with _opened(document) as pdf:
        count, number = len(pdf), int(asked["page"])
        if not 1 <= number <= count:
            raise Refusal(f"there is no page {number}: the document has {count}")
        try:
            page = pdf[number - 1]
            bitmap = page.render(scale=_scale(page.get_size(), asked), rev_byteorder=True, fill_color=(255, 255, 255, 255))
        except pypdfium2.PdfiumError as error:
            raise Refusal(f"page {number} cannot be drawn ({_reason(error)})") from error
        pixels = bitmap.to_numpy()[:, :, :3]
        about = {"pages": count, "rows": pixels.shape[0], "columns": pixels.shape[1]}
        return Made(about, pixels.tobytes())


def read_text(document: IO[bytes], asked: Mapping[str, Any]) -> Made:
    """The text of the pages, each behind the other."""
    found: list[str] = []
    with _opened(document) as pdf:
        for number in range(min(len(pdf), MOST_PAGES)):
            try:
                found.append(pdf[number].get_textpage().get_text_bounded())
            except pypdfium2.PdfiumError:
                found.append(f"[page {number + 1} cannot be read]")
            if sum(map(len, found)) > MOST_LETTERS:
                break
    text = "\n\f\n".join(found).replace("\r\n", "\n")[:MOST_LETTERS]
    return Made({}, text.encode("utf-8", "replace"))


def _scale(size: tuple[float, float], asked: Mapping[str, Any]) -> float:
    """Dots to a point. PDF pages may be a hundred metres long."""
    width, height = (max(side, 0.01) for side in size)
    wanted = _USUAL / _INCH
    if asked.get("width") and asked.get("height"):
        wanted = min(asked["width"] / width, asked["height"] / height)
    return float(min(wanted, MOST_SIDE / width, MOST_SIDE / height, (MOST_AREA / (width * height)) ** 0.5))


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
