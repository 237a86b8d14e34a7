"""`/api/deleted`: what was deleted, by whom and why; brought back, or taken out for good."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pacs.admin.api import Asked, Operation
from storage import deletion
from storage.archive import Archive
from storage.errors import NotFound
from storage.index.deletions import Deletion, Deletions, State
from storage.rejection import meaning_of

_ALL = "/api/deleted"
_ONE = "/api/deleted/{id}"
_LARGEST = 2**31


class Which(BaseModel):
    """Which deletions, and how many at a time; `before` is the `next` of the page before."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["deleted", "restored", "purging", "purged"] | None = None
    study: Annotated[str, Field(max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""
    before: Annotated[int, Field(ge=0, le=_LARGEST)] | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class Deleted(BaseModel):
    """A deletion. `left` is how many of its instances are still deleted and not yet gone for good."""

    id: int
    study: str
    series: str | None
    instance: str | None
    reason: str
    meaning: str
    comment: str
    by: str
    at: datetime
    instances: int
    size: int
    left: int
    state: State
    ended_by: str
    ended_at: datetime | None


class Page(BaseModel):
    """Some deletions, the latest first, and from where to go on; null at the end."""

    deletions: list[Deleted]
    next: int | None


def operations(archive: Archive) -> tuple[Operation, ...]:
    """The operations on deletions. To delete, ask DICOMweb: DELETE of what is to go."""
    deletions = Deletions(archive.index)

    def page(asked: Asked) -> Page:
        query: Which = asked.query
        states = tuple(State) if query.state is None else (State(query.state),)
        found = deletions.page(before=query.before, limit=query.limit, states=states, study_uid=query.study)
        return Page(deletions=[shown(one) for one in found], next=found[-1].id if len(found) == query.limit else None)

    def one(asked: Asked) -> Deleted:
        return shown(deletions.one(number(asked)))

    def restore(asked: Asked) -> Deleted:
        return shown(deletions.restore(number(asked), asked.principal.name))

    def purge(asked: Asked) -> Deleted:
        return shown(deletion.purge(archive, number(asked), asked.principal.name))

    return (
        Operation("GET", _ALL, page, "What was deleted, the latest first.", gives=Page, asks=Which),
        Operation("GET", _ONE, one, "One deletion.", gives=Deleted),
        Operation("POST", f"{_ONE}/restore", restore, "Bring back what is left of it.", gives=Deleted),
        Operation("POST", f"{_ONE}/purge", purge, "Take it out for good; a worker removes the bytes.", gives=Deleted),
    )


def number(asked: Asked) -> int:
    """The number in the path. Raises NotFound for what can be none."""
    text = asked.path["id"]
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise NotFound("there is nothing of this number; the list has those there are")
    return int(text)


def shown(found: Deletion) -> Deleted:
    """A deletion as the API says it."""
    return Deleted(
        id=found.id,
        study=found.scope.study,
        series=found.scope.series,
        instance=found.scope.instance,
        reason=found.why.code,
        meaning=meaning_of(found.why.code),
        comment=found.why.comment,
        by=found.by,
        at=found.at,
        instances=found.instances,
        size=found.size,
        left=found.left,
        state=found.state,
        ended_by=found.ended_by,
        ended_at=found.ended_at,
    )
