"""`/api/holds`: studies under a legal hold, of which nothing may be deleted, purged or replaced."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from pacs.admin.api import Asked, Operation
from storage.errors import NotFound
from storage.index import Index
from storage.index.holds import Hold, Holds

_ONE = "/api/holds/{study}"


class Reason(BaseModel):
    """Why a study is held."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: Annotated[str, Field(min_length=1, max_length=1000)]


class Held(BaseModel):
    """A hold: on which study, why, since when and by whom."""

    study: str
    reason: str
    by: str
    at: datetime


def operations(index: Index) -> tuple[Operation, ...]:
    """The operations on holds."""
    holds = Holds(index)

    def every(_asked: Asked) -> list[Held]:
        return [_shown(one) for one in holds.all()]

    def one(asked: Asked) -> Held:
        found = holds.of(_study(asked))
        if found is None:
            raise NotFound("this study is not held")
        return _shown(found)

    def put(asked: Asked) -> Held:
        return _shown(holds.add(_study(asked), asked.body.reason, asked.principal.name))

    def remove(asked: Asked) -> None:
        holds.remove(_study(asked), asked.principal.name)

    return (
        Operation("GET", "/api/holds", every, "The studies that are held, the oldest hold first.", gives=list[Held]),
        Operation("GET", _ONE, one, "The hold on a study.", gives=Held),
        Operation("PUT", _ONE, put, "Hold a study.", takes=Reason, gives=Held),
        Operation("DELETE", _ONE, remove, "Lift the hold on a study."),
    )


def _study(asked: Asked) -> str:
    uid = asked.path["study"]
    if not uid.isprintable():
        raise NotFound("there is no study of this UID")
    return uid


def _shown(hold: Hold) -> Held:
    return Held(study=hold.study, reason=hold.reason, by=hold.by, at=hold.at)
