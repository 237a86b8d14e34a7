"""Rows of objects as they were received, where others have been made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, select

from storage.index import rows
from storage.index.coercion_tables import original
from storage.index.entries import Original
from storage.index.inserting import insert_into
from storage.index.tables import instance

if TYPE_CHECKING:
    from storage.index import Index

_PAGE = 500


class Originals:
    """The originals of one index. Thread-safe."""

    def __init__(self, index: Index) -> None:
        self._database = index.database

    def received(self, digest: str) -> list[Original]:
        """Those with this data set, the first one first."""
        return self._found(original.c.digest == digest)

    def made_into(self, object_key: str) -> list[Original]:
        """What an object was made of: several where different ones have led to the same."""
        return self._found(original.c.made_key == object_key)

    def of_instance(self, uid: str) -> list[Original]:
        """What an instance that is not deleted was made of, by the SOP Instance UID that it has here."""
        own = select(instance.c.object_key).where(instance.c.sop_instance_uid == uid, instance.c.deleted_at.is_(None))
        return self._found(original.c.made_key.in_(own))

    def page(self, after: str = "", limit: int = _PAGE) -> list[Original]:
        """Some, for a walk over all of them; go on with the last `object_key`."""
        return self._found(original.c.object_key > after, order=original.c.object_key, limit=limit)

    def add(self, found: Sequence[Original]) -> None:
        """Those that are not known yet."""
        with self._database.write() as connection:
            add(connection, found)

    def forget(self, made_key: str) -> None:
        """Those of an object that is gone."""
        with self._database.write() as connection:
            connection.execute(delete(original).where(original.c.made_key == made_key))

    def _found(self, *conditions: Any, order: Any = original.c.coerced_at, limit: int = _PAGE) -> list[Original]:
        query = select(original).where(*conditions).order_by(order).limit(limit)
        with self._database.read() as connection:
            return [_original(row) for row in connection.execute(query)]


def add(connection: Connection, found: Sequence[Original]) -> None:
    """Add those that are not known yet, in a transaction."""
    if found:
        into = insert_into(connection.dialect.name, original)
        connection.execute(into.on_conflict_do_nothing(), [_values(one) for one in found])


def _values(one: Original) -> dict[str, Any]:
    return {
        "object_key": one.object_key,
        "sop_instance_uid": one.sop_instance_uid,
        "made_key": one.made_key,
        "sha256": one.sha256,
        "digest": one.digest,
        "size": one.size,
        "coerced_at": rows.microseconds(one.coerced_at),
    }


def _original(row: Any) -> Original:
    return Original(
        sop_instance_uid=row.sop_instance_uid,
        made_key=row.made_key,
        object_key=row.object_key,
        sha256=row.sha256,
        size=row.size,
        digest=row.digest,
        coerced_at=rows.moment(row.coerced_at),
    )
