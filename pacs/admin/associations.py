"""`/api/associations`: the log of associations, a page at a time, and as it is written by server-sent events."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Annotated, Final

import anyio
from anyio import to_thread
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from pacs.admin.api import Asked, Operation
from pacs.admin.entities import PRINTABLE
from pacs.scp import reasons
from storage.errors import LightboxError, NotFound
from storage.index import Index, associations
from storage.index.associations import Direction, Entry, Outcome, Wanted
from storage.problems import WebRefusal

# How often it is looked for news, and how long a quiet stream says nothing.
_LOOK_SECONDS: Final = 0.5
_QUIET_SECONDS: Final = 15.0
MOST_STREAMS: Final = 32
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Accel-Buffering": "no"}


class Association(BaseModel):
    """One association, or refusals for the same reason, `times` of them."""

    number: int
    direction: Annotated[Direction, Field(description="in: another node has asked for it; out: this archive.")]
    outcome: Outcome
    calling_ae: str
    called_ae: str
    address: str
    reason: Annotated[str, Field(description="What was wrong, and what to do; empty where nothing was.")]
    ended: Annotated[str, Field(description="How it ended; empty while it goes on, and where it never was.")]
    begun_at: datetime
    last_at: datetime
    seconds: Annotated[float | None, Field(description="null while it goes on.")]
    times: int
    proposed: Annotated[int, Field(description="Presentation contexts.")]
    accepted: int
    operations: Annotated[dict[str, int], Field(description="Responses by command and status; 'sent': to requests of ours.")]
    bytes_received: int
    bytes_sent: int


class PresentationContext(BaseModel):
    """One presentation context, proposed and answered (PS3.8 9.3.3.2)."""

    sop_class: str
    name: str
    transfer_syntaxes: list[str]
    result: Annotated[int | None, Field(description="0 accepted, 1 no right, 3 SOP class, 4 transfer syntaxes; null: not answered.")]
    transfer_syntax: Annotated[str, Field(description="The one that was taken.")]


class WholeAssociation(Association):
    """One association with all that was proposed."""

    presentation_contexts: list[PresentationContext]


class AssociationPage(BaseModel):
    """Some of the log, the latest first; `next` is `before` of the page after it, null on the last."""

    associations: list[Association]
    next: int | None


class _Filter(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ae: Annotated[str, Field(max_length=64, pattern=PRINTABLE, description="Part of the calling or called AE title.")] = ""
    address: Annotated[str, Field(max_length=64, pattern=PRINTABLE, description="How the address begins.")] = ""
    outcome: Outcome | None = None
    direction: Direction | None = None

    @property
    def wanted(self) -> Wanted:
        """As the log is searched."""
        return Wanted(self.ae, self.address, self.outcome, direction=self.direction)


class AssociationFilter(_Filter):
    """Which of the log."""

    since: Annotated[datetime | None, Field(description="With a time zone, or in UTC.")] = None
    until: datetime | None = None
    before: Annotated[int | None, Field(ge=1, le=2**62)] = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100

    @property
    def wanted(self) -> Wanted:
        """As the log is searched."""
        return Wanted(self.ae, self.address, self.outcome, _seconds(self.since), _seconds(self.until), self.direction)


class FeedFilter(_Filter):
    """Which of what comes."""

    after: Annotated[int | None, Field(ge=0, le=2**62, description="The id of the last event that was seen.")] = None


def operations(index: Index, stopping: Callable[[], bool] = lambda: False) -> tuple[Operation, ...]:
    """The operations on the log. Streams end when the server is `stopping`."""
    feeds = _Feeds(index, stopping)

    def page(asked: Asked) -> AssociationPage:
        query = asked.query
        found = associations.search(index, query.wanted, before=query.before, limit=query.limit + 1)
        shown = found[: query.limit]
        following = shown[-1].sequence if len(found) > query.limit else None
        return AssociationPage(associations=[shown_of(one) for one in shown], next=following)

    def one(asked: Asked) -> WholeAssociation:
        return whole(index, asked.path["number"])

    return (
        Operation("GET", "/api/associations", page, "The log of associations.", gives=AssociationPage, asks=AssociationFilter),
        Operation(
            "GET",
            "/api/associations/events",
            lambda asked: feeds.open(asked.query, asked.headers.get("last-event-id", "")),
            "What is written to the log, as it is written.",
            gives=Association,
            asks=FeedFilter,
            media_type="text/event-stream",
        ),
        Operation("GET", "/api/associations/{number}", one, "One of them, with what was proposed.", gives=WholeAssociation),
    )


class _Feeds:
    """The streams of this process."""

    def __init__(self, index: Index, stopping: Callable[[], bool]) -> None:
        self._index = index
        self._stopping = stopping
        self._open = 0

    def open(self, asked: FeedFilter, last: str = "") -> StreamingResponse:
        """A stream of what is added and changed from now on, or after what was seen.

        A client that connects again says what that was in Last-Event-ID (HTML 9.2.4), which counts before `after`.
        """
        if self._open >= MOST_STREAMS:
            raise WebRefusal(503, "as many streams are open as one process serves", "close a page, or try again later")
        after = int(last) if last.isascii() and last.isdigit() and len(last) < 19 else asked.after
        if after is None:
            after = associations.latest(self._index)
        return StreamingResponse(self._events(asked.wanted, after), headers=_HEADERS, media_type="text/event-stream")

    async def _events(self, wanted: Wanted, after: int) -> AsyncIterator[str]:
        self._open += 1
        try:
            yield f"retry: 1000\nid: {after}\n\n"
            said = time.monotonic()
            while not self._stopping():
                found = await self._news(wanted, after)
                for one in found:
                    after = one.sequence
                    yield f"id: {after}\ndata: {shown_of(one).model_dump_json()}\n\n"
                if found:
                    said = time.monotonic()
                elif time.monotonic() - said >= _QUIET_SECONDS:
                    said = time.monotonic()
                    yield f"id: {after}\n: still here\n\n"
                await anyio.sleep(_LOOK_SECONDS)
        finally:
            self._open -= 1

    async def _news(self, wanted: Wanted, after: int) -> list[Entry]:
        try:
            return await to_thread.run_sync(associations.since, self._index, after, wanted)
        except LightboxError:
            # The database is away: what is written when it is back comes then.
            return []


def whole(index: Index, number: str) -> WholeAssociation:
    """The entry of this number, as text. Raises NotFound."""
    known = number.isascii() and number.isdigit() and len(number) < 19
    found = associations.one_of(index, int(number)) if known else None
    if found is None:
        raise NotFound("there is no such association in the log, or it was long ago; search it with GET /api/associations")
    contexts = [_context(context) for context in found.contexts]
    return WholeAssociation(**shown_of(found).model_dump(), presentation_contexts=contexts)


def shown_of(one: Entry) -> Association:
    """An entry of the log as the API gives it."""
    return Association(
        number=one.pk,
        direction=one.direction,
        outcome=one.outcome,
        calling_ae=one.calling_ae,
        called_ae=one.called_ae,
        address=one.address,
        reason=one.reason,
        ended=one.how,
        begun_at=datetime.fromtimestamp(one.at, UTC),
        last_at=datetime.fromtimestamp(one.last_at, UTC),
        seconds=one.seconds,
        times=one.times,
        proposed=len(one.contexts),
        accepted=sum(context.result == 0 for context in one.contexts),
        operations=one.operations,
        bytes_received=one.received,
        bytes_sent=one.sent,
    )


def _context(one: associations.Proposed) -> PresentationContext:
    return PresentationContext(
        sop_class=one.sop_class,
        name=reasons.name_of(one.sop_class),
        transfer_syntaxes=list(one.syntaxes),
        result=one.result if one.result >= 0 else None,
        transfer_syntax=one.accepted,
    )


def _seconds(when: datetime | None) -> float | None:
    if when is None:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
