"""`/api/quarantine` and `/api/history`: newcomers under a UID that is taken, and the versions that others took the place of."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pacs.admin.api import Asked, Operation
from pacs.admin.deleted import number
from storage import quarantine
from storage.archive import Archive
from storage.differences import Difference
from storage.index import Quarantined
from storage.index.kept_objects import Earlier, KeptObjects

_ALL, _ONE = "/api/quarantine", "/api/quarantine/{id}"
_LARGEST = 2**31
Limit = Annotated[int, Field(ge=1, le=1000)]
Number = Annotated[int, Field(ge=0, le=_LARGEST)]


class Which(BaseModel):
    """Which newcomers, and how many at a time; `after` is the `next` of the page before."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["waiting", "rejected"] | None = None
    after: Number = 0
    limit: Limit = 100


class Version(BaseModel):
    """An object that is not the current one of its instance, and where it came from."""

    id: int
    study: str
    series: str
    instance: str
    sop_class: str
    transfer_syntax: str
    size: int
    sha256: str
    source: str
    calling_ae: str
    address: str
    received_at: datetime
    reason: str


class Newcomer(Version):
    """An instance that was refused. `existing_sha256` had its UID then; `times`: how often it was sent."""

    existing_sha256: str
    times: int
    state: Literal["waiting", "rejected"]
    rejected_by: str
    rejected_at: datetime | None


class Attribute(BaseModel):
    """An attribute that differs, its values shortened; null where a version has not got it."""

    tag: str
    name: str
    stored: str | None
    sent: str | None


class Compared(Newcomer):
    """A newcomer, and in what it differs from what has its UID now; null when nothing has."""

    differences: list[Attribute] | None


class Newcomers(BaseModel):
    """Some newcomers, the longest there first, and from where to go on; null at the end."""

    newcomers: list[Newcomer]
    next: int | None


class Of(BaseModel):
    """Earlier versions of which instance, of all without one; `before` is the `next` of the page before."""

    model_config = ConfigDict(extra="forbid")

    instance: Annotated[str, Field(max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""
    before: Number | None = None
    limit: Limit = 100


class Replaced(Version):
    """An earlier version of an instance."""

    replaced_at: datetime


class History(BaseModel):
    """Some earlier versions, the latest first, and from where to go on; null at the end."""

    versions: list[Replaced]
    next: int | None


def operations(archive: Archive) -> tuple[Operation, ...]:
    """The operations on newcomers and on earlier versions."""
    kept = KeptObjects(archive.index)

    def page(asked: Asked) -> Newcomers:
        query: Which = asked.query
        rejected = None if query.state is None else query.state == "rejected"
        found = kept.quarantined(after=query.after, limit=query.limit, rejected=rejected)
        return Newcomers(newcomers=[newcomer(one) for one in found], next=found[-1].id if len(found) == query.limit else None)

    def one(asked: Asked) -> Compared:
        return compared(archive, kept.one(number(asked)))

    def accept(asked: Asked) -> Newcomer:
        return newcomer(quarantine.accept(archive, number(asked), asked.principal.name))

    def reject(asked: Asked) -> Newcomer:
        return newcomer(quarantine.reject(archive, number(asked), asked.principal.name))

    def purge(asked: Asked) -> None:
        quarantine.purge(archive, number(asked), asked.principal.name)

    def history(asked: Asked) -> History:
        query: Of = asked.query
        found = kept.history(before=query.before, limit=query.limit, instance_uid=query.instance)
        return History(versions=[earlier(one) for one in found], next=found[-1].id if len(found) == query.limit else None)

    def restore(asked: Asked) -> Replaced:
        return earlier(quarantine.restore(archive, number(asked), asked.principal.name))

    return (
        Operation("GET", _ALL, page, "Instances that were refused since their UID is taken.", gives=Newcomers, asks=Which),
        Operation("GET", _ONE, one, "One of them, and in what it differs from what has its UID.", gives=Compared),
        Operation("POST", f"{_ONE}/accept", accept, "It takes its UID; what had it becomes history.", gives=Newcomer),
        Operation("POST", f"{_ONE}/reject", reject, "It is not wanted; it stays until it is purged.", gives=Newcomer),
        Operation("POST", f"{_ONE}/purge", purge, "A rejected one goes for good; a worker removes the bytes."),
        Operation("GET", "/api/history", history, "Earlier versions of instances, the latest first.", gives=History, asks=Of),
        Operation("POST", "/api/history/{id}/restore", restore, "It becomes current again; what is current becomes history.", gives=Replaced),
    )


def newcomer(found: Quarantined) -> Newcomer:
    """A newcomer as the API says it."""
    return Newcomer(
        **_version(found),
        existing_sha256=found.existing_sha256,
        times=found.times,
        state="waiting" if found.rejected_at is None else "rejected",
        rejected_by=found.rejected_by,
        rejected_at=found.rejected_at,
    )


def compared(archive: Archive, found: Quarantined) -> Compared:
    """A newcomer with its differences."""
    differences = quarantine.compare(archive, found)
    return Compared(
        **newcomer(found).model_dump(),
        differences=None if differences is None else [_attribute(one) for one in differences],
    )


def earlier(found: Earlier) -> Replaced:
    """An earlier version as the API says it."""
    return Replaced(**_version(found), replaced_at=found.replaced_at)


def _version(found: Quarantined | Earlier) -> dict[str, Any]:
    return {
        "id": found.id,
        "study": found.uids.study,
        "series": found.uids.series,
        "instance": found.uids.instance,
        "sop_class": found.sop_class_uid,
        "transfer_syntax": found.transfer_syntax_uid,
        "size": found.size,
        "sha256": found.sha256,
        "source": found.source.kind,
        "calling_ae": found.source.calling_ae,
        "address": found.source.address,
        "received_at": found.received_at,
        "reason": found.reason,
    }


def _attribute(one: Difference) -> Attribute:
    return Attribute(tag=one.tag, name=one.name, stored=one.stored, sent=one.sent)
