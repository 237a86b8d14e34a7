"""`/api/jobs`: the queue of what this archive does by itself: what waits, what runs, and what was given up after three tries."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pacs.admin.api import Asked, Operation
from pacs.admin.entities import PRINTABLE
from pacs.admin.transfers import number_of
from storage import jobs as queue_of
from storage.errors import NotFound, Settled
from storage.index import Index
from storage.jobs import JobQueue

State = Literal["waiting", "running", "dead"]


class Job(BaseModel):
    """A job; `dead` ones were given up, and wait for an administrator."""

    id: int
    kind: str
    state: State
    about: Annotated[dict[str, str | int | float | bool], Field(description="What it is about; lists are left out.")]
    tries: int
    error: Annotated[str, Field(description="Why the last try failed.")]
    worker: str
    created_at: datetime
    updated_at: datetime
    due_at: Annotated[datetime, Field(description="When its next try begins; of a running one, when another worker takes it over.")]


class Page(BaseModel):
    """Some of the jobs, the latest first; `next` is `before` of the page after it, null on the last. `counts` are of all."""

    counts: dict[State, int]
    jobs: list[Job]
    next: int | None


class Filter(BaseModel):
    """Which jobs."""

    model_config = ConfigDict(extra="forbid")

    state: State | None = None
    kind: Annotated[str, Field(max_length=64, pattern=PRINTABLE)] = ""
    before: Annotated[int | None, Field(ge=1, le=2**62)] = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


def operations(index: Index) -> tuple[Operation, ...]:
    """The operations on jobs."""
    queue = JobQueue(index)

    def one(asked: Asked) -> Job:
        found = queue.one(number_of(asked.path["id"]))
        if found is None:
            raise _nothing()
        return shown_of(found)

    def retry(asked: Asked) -> Job:
        number = number_of(asked.path["id"])
        if not queue.retry(number) and not queue.hasten(number):
            one(asked)
            raise Settled("it is running now")
        return one(asked)

    def remove(asked: Asked) -> None:
        if not queue.remove(number_of(asked.path["id"])):
            one(asked)
            raise Settled("only what was given up can be removed; POST /api/transfers/{number}/cancel cancels a transfer")

    path = "/api/jobs/{id}"
    return (
        Operation("GET", "/api/jobs", lambda asked: page(queue, asked.query), "Jobs: what waits, runs, or was given up.", gives=Page, asks=Filter),
        Operation("GET", path, one, "One of them.", gives=Job),
        Operation("POST", f"{path}/retry", retry, "Give one that was given up all its tries again; one that waits is done now.", gives=Job),
        Operation("DELETE", path, remove, "Forget one that was given up."),
    )


def page(queue: JobQueue, asked: Filter) -> Page:
    """A page of what is looked for."""
    found = queue.search(state=asked.state or "", kind=asked.kind, before=asked.before, limit=asked.limit + 1)
    some = found[: asked.limit]
    counts: Any = queue.counts()
    return Page(counts=counts, jobs=[shown_of(one) for one in some], next=some[-1].id if len(found) > asked.limit else None)


def shown_of(one: queue_of.Shown) -> Job:
    """A job as the API gives it."""
    state: Any = one.state
    return Job(
        id=one.id,
        kind=one.kind,
        state=state,
        about={name: value for name, value in one.payload.items() if isinstance(value, str | int | float)},
        tries=one.attempts,
        error=one.error,
        worker=one.worker,
        created_at=one.created_at,
        updated_at=one.updated_at,
        due_at=one.due_at,
    )


def _nothing() -> NotFound:
    return NotFound("there is no such job: it is done, or never was")
