"""QIDO-RS (PS3.18 10.6): parameters to the one `Query` of the index, and a page of its answers in what the client accepts."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import orjson

from dicomweb import negotiation, search_pages
from dicomweb.bodies import CACHE_CONTROL, settled, unchanged
from dicomweb.exchange import Answer, Call, Stream
from dicomweb.media_types import CSV
from dicomweb.negotiation import Offer
from dicomweb.search_formats import WRITERS
from dicomweb.search_pages import Page
from dicomweb.search_parameters import INSTANCE, PARAMETERS, SERIES, STUDY, Asked, asked_of, open_levels
from storage import attributes
from storage.index import Index
from storage.types import Dataset, Level

_RETRIEVE_URL = "00081190"
_NAMES = {Level.STUDY: "studies", Level.SERIES: "series", Level.IMAGE: "instances"}


class Search:
    """GET /studies, /series, /instances and those below a study or a series.

    `most` is how many answers one response has at most, None: any number. `empty_status` is the status of an answer
    without any: 204 (PS3.18 8.3.4.4.1), or 200 with an empty list where clients read every answer as JSON.
    """

    def __init__(self, index: Index, level: Level, *, most: int | None = None, empty_status: int = 200) -> None:
        self._index = index
        self._level = level
        self._most = most
        self._empty_status = empty_status

    def __call__(self, call: Call) -> Answer:
        """What matches. Raises BadRequest naming the parameter, NotAcceptable."""
        offer = negotiation.choose(call.accepted(), negotiation.SEARCH)
        asked = self._asked(call)
        if asked.cursor:
            key = search_pages.key_of(asked.cursor, call, self._level)
            asked = replace(asked, query=replace(asked.query, after=key))
        # Read before the answers: when something comes between, the tag is too old, and the next question is answered anew.
        etag = _etag(self._index.state(), call, offer)
        headers = {"ETag": etag, "Cache-Control": CACHE_CONTROL, "Vary": "Accept"}
        if unchanged(call, etag):
            return Answer(304, headers)
        found = search_pages.page(self._index, asked, self._most)
        headers |= self._about(call, found)
        # A multipart without parts is none.
        if found.empty and (self._empty_status == 204 or offer.related):
            return Answer(204, headers)
        boundary = uuid.uuid4().hex
        body = self._body(call, asked, found, offer, boundary)
        return Answer(200, headers | _content(offer, self._level, boundary), body)

    def _asked(self, call: Call) -> Asked:
        """What the request asks for."""
        vrs = {path: one.vr for path, one in self._index.searchables.known().items()}
        return asked_of(call, self._level, vrs)

    def _about(self, call: Call, found: Page) -> dict[str, str]:
        """What is said of a page beside its answers."""
        headers: dict[str, str] = {}
        if found.total is not None:
            headers["X-Total-Count"] = str(found.total)
        if found.more:
            headers["Warning"] = search_pages.warning(call.root, found)
        if found.more and found.last is not None:
            cursor = search_pages.token(found.last, call, self._level)
            headers["Link"] = search_pages.next_link(call, self._resource(call), cursor)
        return headers

    def _resource(self, call: Call) -> str:
        above = [f"{name}/{call.path[one]}" for one, name in (("study", "studies"), ("series", "series")) if one in call.path]
        return "/".join((call.root, *above, _NAMES[self._level]))

    def _body(
        self, call: Call, asked: Asked, found: Page, offer: Offer, boundary: str
    ) -> tuple[bytes, ...] | Stream:
        answers = self._complete(found.answers, call)
        return settled(WRITERS[offer.media_type](answers, asked.query, boundary))

    def _complete(self, answers: Iterable[Dataset], call: Call) -> Iterator[Dataset]:
        """Answers with what they carry in any case, in the order of the tags (PS3.18 F.2.2)."""
        empty: dict[str, dict[str, Any]] = {}
        for level in open_levels(call.path, self._level):
            empty |= {tag: {"vr": vr} for tag, vr in attributes.empty_fields(level).items()}
        for answer in answers:
            url = {"vr": "UR", "Value": [retrieve_url(answer, self._level, call.root)]}
            whole = {**empty, **answer, _RETRIEVE_URL: url}
            yield {tag: whole[tag] for tag in sorted(whole)}


def retrieve_url(row: Any, level: Level, root: str) -> str:
    """Where the found study, series or instance can be retrieved (PS3.18 10.6.3.3)."""
    url = f"{root}/studies/{_uid(row, STUDY)}"
    if level in (Level.SERIES, Level.IMAGE):
        url += f"/series/{_uid(row, SERIES)}"
    return f"{url}/instances/{_uid(row, INSTANCE)}" if level is Level.IMAGE else url


def _etag(state: int, call: Call, offer: Offer) -> str:
    """Weak: answers that mean the same may be written otherwise, and by another release are."""
    asked = orjson.dumps((sorted(call.path.items()), call.query, call.root, str(offer)))
    return f'W/"{state:x}-{hashlib.sha256(asked).hexdigest()[:16]}"'


def _content(offer: Offer, level: Level, boundary: str) -> dict[str, str]:
    if offer.media_type == CSV:
        name = f'attachment; filename="{_NAMES[level]}.csv"'
        return {"Content-Type": f"{CSV}; charset=utf-8; header=present", "Content-Disposition": name}
    return {"Content-Type": f"{offer}; boundary={boundary}" if offer.related else offer.media_type}


def _uid(row: Any, tag: str) -> str:
    return str((row.get(tag, {}).get("Value") or [""])[0])


__all__ = ("PARAMETERS", "Search", "retrieve_url")
