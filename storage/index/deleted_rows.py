"""Deletions as values, read from their rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Select, func, select

from storage.errors import NotFound
from storage.index import rows
from storage.index.deletion_tables import deletion
from storage.index.tables import instance
from storage.rejection import Why
from storage.types import Scope


class State(StrEnum):
    """How far a deletion has come. Only what is `DELETED` can be restored."""

    DELETED = "deleted"
    RESTORED = "restored"
    PURGING = "purging"
    PURGED = "purged"


@dataclass(frozen=True, slots=True)
class Deletion:
    """Who has deleted what, when and why. `instances` and `size` are those of then, `left` is what is still deleted.

    `name` is that of its record in the object store. Who has restored or purged it, and when: `ended_by`, `ended_at`.
    """

    id: int
    name: str
    scope: Scope
    why: Why
    by: str
    at: datetime
    instances: int
    size: int
    left: int
    state: State
    ended_by: str = ""
    ended_at: datetime | None = None
    revision: int = 1


def one(connection: Connection, pk: int) -> Deletion:
    """A deletion by its key. Raises NotFound."""
    found = many(connection, select(deletion).where(deletion.c.pk == pk))
    if not found:
        raise NotFound(f"there is no deletion {pk}")
    return found[0]


def many(connection: Connection, query: Select[Any]) -> list[Deletion]:
    """Deletions from whole rows."""
    found = connection.execute(query).all()
    own = instance.c.deletion_pk.in_([row.pk for row in found])
    counts = select(instance.c.deletion_pk, func.count()).where(own).group_by(instance.c.deletion_pk)
    left: dict[int, int] = {row[0]: row[1] for row in connection.execute(counts)}
    return [_deletion(row, left.get(row.pk, 0)) for row in found]


def _deletion(row: Any, left: int) -> Deletion:
    return Deletion(
        id=row.pk,
        name=row.uid,
        scope=Scope(
            row.study_instance_uid, row.series_instance_uid or None, row.sop_instance_uid or None, row.partition
        ),
        why=Why(row.code, row.comment),
        by=row.deleted_by,
        at=rows.moment(row.deleted_at),
        instances=row.instances,
        size=row.size,
        left=left,
        state=State(row.state),
        ended_by=row.ended_by,
        ended_at=None if row.ended_at is None else rows.moment(row.ended_at),
        revision=row.revision,
    )
