"""The Range header over a body of known length (RFC 9110 14): one range is honoured, several are answered whole."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ONE = re.compile(r"bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` up to but not including `stop`."""

    start: int
    stop: int


class Unsatisfiable(Exception):
    """The range lies outside the body: 416, with the body's length (RFC 9110 15.5.17)."""

    def __init__(self, length: int) -> None:
        super().__init__(f"the requested range is outside the {length} bytes of this body")
        self.length = length


def parse_range(header: str, length: int) -> Span | None:
    """The span that `header` asks of a body of `length` bytes; None when the whole body is the right answer.

    Malformed headers, other units and lists of ranges are ignored, as RFC 9110 14.2 allows a server to do; that
    also makes floods of ranges harmless. Raises Unsatisfiable.
    """
    found = _ONE.fullmatch(header.strip())
    if found is None:
        return None
    first, last = found.groups()
    if not first and not last:
        return None
    if not first:
        wanted = int(last)
        if wanted == 0 or length == 0:
            raise Unsatisfiable(length)
        return Span(max(0, length - wanted), length)
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= length:
        raise Unsatisfiable(length)
    return Span(start, min(length, int(last) + 1) if last else length)
