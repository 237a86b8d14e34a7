"""Pages of a search: which answers are on one, whether there are more, and where the next one begins."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from urllib.parse import quote, urlencode

import orjson

from dicomweb.exchange import Call
from dicomweb.search_parameters import Asked
from storage.errors import BadRequest
from storage.index import Index
from storage.types import Dataset, Level, Query

# Answers of a page that are held in memory, at about a kilobyte each; a larger page is streamed.
_HELD = 1000
# How far the answers behind a page are counted for its warning: a page must not cost what all of them would.
_COUNTED = 100
# What does not change which answers there are, or in which order.
_NOT_THE_SEARCH = frozenset({"accept", "charset", "limit", "offset", "includefield", "totalcount", "cursor"})


@dataclass(frozen=True, slots=True)
class Page:
    """Answers, whether more follow and how many (None: not known; `many`: more than are counted), and the row behind which
    those begin."""

    answers: Iterable[Dataset]
    empty: bool = False
    more: bool = False
    remaining: int | None = None
    many: bool = False
    last: int | None = None
    total: int | None = None


def page(index: Index, asked: Asked, most: int | None) -> Page:
    """The page that a search asks for, of at most `most` answers. `asked.query.after` is where it begins."""
    query = asked.query
    total = index.count(replace(query, after=None)) if asked.total else None
    limit = query.limit if most is None else min(query.limit if query.limit is not None else most, most)
    if limit is None:
        return replace(_beginning(index, query), total=total)
    found = _held(index, query, limit) if limit <= _HELD else _streamed(index, query, limit)
    if found.more and total is not None and query.after is None:
        # The total is known anyway, and says exactly how many follow.
        found = replace(found, remaining=total - query.offset - limit, many=False)
    return replace(found, total=total)


def token(key: int, call: Call, level: Level) -> str:
    """Where a page ends, for the client to bring back: it names no patient, and it fits no other search."""
    return f"{key:x}-{_fingerprint(call, level)}"


def key_of(cursor: str, call: Call, level: Level) -> int:
    """The row that a cursor names. Raises BadRequest for one that we have not made for this search."""
    number, _, fingerprint = cursor.partition("-")
    if fingerprint != _fingerprint(call, level) or not 0 < len(number) <= 16:
        raise BadRequest("cursor is not one that was given for this search; take it from the Link header, with the same parameters")
    try:
        return int(number, 16)
    except ValueError:
        raise BadRequest("cursor is not one that was given; take it from the Link header as it is") from None


def next_link(call: Call, resource: str, cursor: str) -> str:
    """The Link header (RFC 8288) that leads to the next page."""
    kept = [(name, value) for name, value in call.query if name.lower() not in ("offset", "cursor")]
    return f'<{resource}?{urlencode([*kept, ("cursor", cursor)], quote_via=quote)}>; rel="next"'


def warning(root: str, found: Page) -> str:
    """The Warning header of a page that is not all (PS3.18 8.3.4.4.1)."""
    number = f"more than {_COUNTED} " if found.many else "" if found.remaining is None else f"{found.remaining} "
    return f"299 {root}: There are {number}additional results that can be requested"


def _beginning(index: Index, query: Query) -> Page:
    """Everything, streamed; whether there is anything is known before the first byte."""
    found = index.find(query)
    first = list(islice(found, 1))
    return Page(_chained(first, found), empty=not first)


def _chained(first: list[Dataset], rest: Iterable[Dataset]) -> Iterable[Dataset]:
    yield from first
    yield from rest


def _held(index: Index, query: Query, limit: int) -> Page:
    found = index.find(replace(query, limit=limit + 1), beyond=_COUNTED)
    answers = list(islice(found, limit))
    last = found.key
    more = next(found, None) is not None
    remaining = None if found.beyond is None else found.beyond + 1
    many = remaining is not None and remaining > _COUNTED
    return Page(answers, not answers, more, None if many else remaining, many, last)


def _streamed(index: Index, query: Query, limit: int) -> Page:
    """A page too large to hold. Its end is looked up first: headers go out before the body."""
    found = index.find(replace(query, limit=limit))
    begun = list(islice(found, _HELD))
    if len(begun) < _HELD:
        return Page(begun, empty=not begun)
    end = _held(index, replace(query, fields=frozenset(), offset=query.offset + limit - 1), 1)
    return replace(end, answers=_chained(begun, found), empty=False)


def _fingerprint(call: Call, level: Level) -> str:
    asked = sorted((name.lower(), value) for name, value in call.query if name.lower() not in _NOT_THE_SEARCH)
    order = [(name, value) for name, value in call.query if name.lower() == "orderby"]
    text = orjson.dumps((level, sorted(call.path.items()), asked, order))
    return hashlib.sha256(text).hexdigest()[:12]
