"""Deleting: rows first marked and so hidden at once, brought back as they were, or taken out for good.

Each is one transaction, or one for each few hundred instances where they go for good. Order of locks as in `add`: the study,
what belongs to it, the deletion, the change counter.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from sqlalchemy import BigInteger, Connection, Select, cast, func, insert, literal, select, update

from storage.errors import NotFound, Settled
from storage.index import deleted_rows, rows, statements
from storage.index.add import WRITE_RECORD, job_values
from storage.index.attempts import attempt
from storage.index.deleted_rows import Deletion, State
from storage.index.deletion_tables import deletion, tombstone
from storage.index.holds import refuse_held
from storage.index.purging import purge_some
from storage.index.settle import kept_tags, series_of, settle
from storage.index.tables import change, instance, job, series, study
from storage.rejection import Why
from storage.types import Scope, Uids

if TYPE_CHECKING:
    from storage.index import Index

_log = structlog.get_logger(__name__)
_PAGE = 1000


class Deletions:
    """The deletions of one index. Thread-safe."""

    def __init__(self, index: Index) -> None:
        self._database = index.database

    def delete(self, scope: Scope, why: Why, by: str) -> Deletion:
        """Hide a study, a series or an instance from every reader. Raises NotFound when nothing is there, Held."""
        name = uuid.uuid4().hex

        def work(connection: Connection) -> Deletion:
            return _delete(connection, scope, why, by, name)

        made = attempt(self._database, work, lambda: self._named(name))
        _note("deleted", made, by)
        return made

    def restore(self, pk: int, by: str) -> Deletion:
        """Bring back what is left of a deletion, as it was. Raises NotFound, Settled when it is restored or purged."""

        def work(connection: Connection) -> Deletion:
            return _restore(connection, pk, by)

        back = attempt(self._database, work, lambda: self._in(pk, State.RESTORED))
        _note("restored", back, by)
        return back

    def purge_some(self, pk: int, by: str) -> int:
        """Take out up to some hundred instances of a deletion for good, with a job that removes their bytes: how many.

        Fewer than `purging.PAGE`: it is purged. From the first call on it can no longer be restored. Raises NotFound,
        Settled, Held.
        """
        return attempt(self._database, lambda connection: purge_some(connection, pk, by), lambda: None)

    def one(self, pk: int) -> Deletion:
        """A deletion by its number. Raises NotFound."""
        with self._database.read() as connection:
            return deleted_rows.one(connection, pk)

    def page(
        self,
        *,
        before: int | None = None,
        limit: int = 100,
        states: Collection[State] = tuple(State),
        study_uid: str = "",
        until: int | None = None,
    ) -> list[Deletion]:
        """Deletions, the latest first; go on with the last `id` as `before`. `until`: made at that microsecond or earlier."""
        query = select(deletion).where(deletion.c.state.in_([str(state) for state in states]))
        if before is not None:
            query = query.where(deletion.c.pk < before)
        if study_uid:
            query = query.where(deletion.c.study_instance_uid == study_uid)
        if until is not None:
            query = query.where(deletion.c.deleted_at <= until)
        with self._database.read() as connection:
            return deleted_rows.many(connection, query.order_by(deletion.c.pk.desc()).limit(limit))

    def left(self) -> int:
        """How many instances are deleted and not gone for good."""
        query = select(func.count()).select_from(instance).where(instance.c.deletion_pk.is_not(None))
        with self._database.read() as connection:
            return int(connection.scalar(query) or 0)

    def remains(self, pk: int) -> Iterator[tuple[Uids, str, bool]]:
        """The instances of a deletion, with their digest: those still deleted, then those gone for good that are not taken
        again (True)."""
        after = 0
        while True:
            with self._database.read() as connection:
                page = connection.execute(_remaining(pk, after)).all()
            yield from ((_uids(row), row.sha256, False) for row in page)
            if len(page) < _PAGE:
                break
            after = page[-1].pk
        gone = select(tombstone).where(tombstone.c.deletion_pk == pk).order_by(tombstone.c.sop_instance_uid)
        with self._database.read() as connection:
            buried = connection.execute(gone).all()
        yield from ((_uids(row), row.sha256, True) for row in buried)

    def _named(self, name: str) -> Deletion | None:
        with self._database.read() as connection:
            found = deleted_rows.many(connection, select(deletion).where(deletion.c.uid == name))
        return found[0] if found else None

    def _in(self, pk: int, state: State) -> Deletion | None:
        found = self.one(pk)
        return found if found.state is state else None


def _note(action: str, one: Deletion, by: str) -> None:
    """For the log of who did what; a comment is somebody's own words, and stays in the index."""
    scope = one.scope
    place = {"study": scope.study, "series": scope.series or "", "instance": scope.instance or ""}
    _log.info(action, action=action, deletion=one.id, **place, instances=one.instances, reason=one.why.code, by=by)


def _remaining(pk: int, after: int) -> Select[Any]:
    names = (instance.c.pk, instance.c.sop_instance_uid, instance.c.sha256)
    return (
        select(*names, series.c.series_instance_uid, study.c.study_instance_uid)
        .join_from(instance, series, instance.c.series_pk == series.c.pk)
        .join(study, series.c.study_pk == study.c.pk)
        .where(instance.c.deletion_pk == pk, instance.c.pk > after)
        .order_by(instance.c.pk)
        .limit(_PAGE)
    )


def _uids(row: Any) -> Uids:
    return Uids(row.study_instance_uid, row.series_instance_uid, row.sop_instance_uid)


def _delete(connection: Connection, scope: Scope, why: Why, by: str, name: str) -> Deletion:
    now = time.time_ns() // 1000
    (held,) = statements.STUDIES.run(connection, {"in_partition": scope.partition, "uids": [scope.study]}) or (None,)
    if held is None:
        raise _nothing(connection, scope)
    refuse_held(connection, scope.partition, scope.study, "deleted")
    chosen = _chosen(held.pk, scope)
    touched = series_of(connection, chosen)
    if not touched:
        raise _nothing(connection, scope)
    number, size = connection.execute(
        select(func.count(), func.sum(instance.c.size)).where(instance.c.pk.in_(chosen))
    ).one()
    tags = kept_tags(connection, held.pk, touched)
    pk = _record(connection, scope, why, by, name, {"instances": number, "size": int(size), "deleted_at": now}, tags)
    marked = update(instance).where(instance.c.pk.in_(chosen))
    connection.execute(marked.values(deleted_at=now, deletion_pk=pk, revision=instance.c.revision + 1))
    settle(connection, held.pk, touched, now, {})
    tell(connection, pk, number, "instance-deleted", now)
    return deleted_rows.one(connection, pk)


def _chosen(study_pk: int, scope: Scope) -> Select[Any]:
    """The keys of the instances of a scope that are there."""
    query = (
        select(instance.c.pk)
        .join_from(instance, series, instance.c.series_pk == series.c.pk)
        .where(series.c.study_pk == study_pk, instance.c.deleted_at.is_(None))
    )
    if scope.series is not None:
        query = query.where(series.c.series_instance_uid == scope.series)
    return query if scope.instance is None else query.where(instance.c.sop_instance_uid == scope.instance)


def _record(
    connection: Connection,
    scope: Scope,
    why: Why,
    by: str,
    name: str,
    more: dict[str, int],
    tags: dict[str, list[str]],
) -> int:
    values = {
        "partition": scope.partition,
        "uid": name,
        "study_instance_uid": scope.study,
        "series_instance_uid": scope.series or "",
        "sop_instance_uid": scope.instance or "",
        "code": why.code,
        "comment": why.comment,
        "deleted_by": by,
        "state": State.DELETED,
        "ended_by": "",
        "revision": 1,
        "kept": orjson.dumps(tags),
    }
    return int(connection.execute(insert(deletion).values(values | more).returning(deletion.c.pk)).scalar_one())


def _restore(connection: Connection, pk: int, by: str) -> Deletion:
    now = time.time_ns() // 1000
    found = deleted_rows.one(connection, pk)
    scope = found.scope
    held = statements.STUDIES.run(connection, {"in_partition": scope.partition, "uids": [scope.study]})
    row = connection.execute(select(deletion).where(deletion.c.pk == pk).with_for_update()).one()
    if row.state != State.DELETED:
        raise Settled(f"deletion {pk} is {row.state} already")
    own = select(instance.c.pk).where(instance.c.deletion_pk == pk)
    touched = series_of(connection, own)
    mine = update(instance).where(instance.c.deletion_pk == pk)
    number = connection.execute(mine.values(deleted_at=None, revision=instance.c.revision + 1)).rowcount
    if number:
        settle(connection, held[0].pk, touched, now, orjson.loads(row.kept))
    ended = {"state": State.RESTORED, "ended_by": by, "ended_at": now, "revision": row.revision + 1}
    connection.execute(update(deletion).where(deletion.c.pk == pk).values(ended))
    tell(connection, pk, number, "instance-restored", now)
    connection.execute(mine.values(deletion_pk=None))
    return deleted_rows.one(connection, pk)


def tell(connection: Connection, pk: int, number: int, kind: str, now: int) -> None:
    """A line of the change feed for each instance of a deletion, and the job that writes its record anew."""
    connection.execute(insert(job).values(job_values(WRITE_RECORD, {"deletion": pk}, now)))
    if not number:
        return
    ((last,),) = statements.TAKE_CHANGES.run(connection, {"number": number})
    place = cast(literal(last - number), BigInteger) + func.row_number().over(order_by=instance.c.pk)
    of_each = (
        select(
            place,
            instance.c.partition,
            literal(kind),
            study.c.study_instance_uid,
            series.c.series_instance_uid,
            instance.c.sop_instance_uid,
            cast(literal(now), BigInteger),
        )
        .join_from(instance, series, instance.c.series_pk == series.c.pk)
        .join(study, series.c.study_pk == study.c.pk)
        .where(instance.c.deletion_pk == pk)
    )
    names = ["sequence", "partition", "kind", "study_instance_uid", "series_instance_uid", "sop_instance_uid", "at"]
    connection.execute(insert(change).from_select(names, of_each))


def _nothing(connection: Connection, scope: Scope) -> NotFound:
    """Why there is nothing to delete: it never was there, or it has been deleted."""
    what = f"instance {scope.instance}" if scope.instance else f"series {scope.series}" if scope.series else "study"
    place = what if what == "study" else f"{what} of study"
    latest = select(deletion).where(
        deletion.c.partition == scope.partition,
        deletion.c.study_instance_uid == scope.study,
        deletion.c.series_instance_uid.in_(_or_above(scope.series)),
        deletion.c.sop_instance_uid.in_(_or_above(scope.instance)),
        deletion.c.state == State.DELETED,
    )
    found: Sequence[Any] = connection.execute(latest.order_by(deletion.c.pk.desc()).limit(1)).all()
    if not found:
        return NotFound(f"nothing is stored for {place} {scope.study}")
    when = f"{rows.moment(found[0].deleted_at):%Y-%m-%d %H:%M} UTC"
    return NotFound(f"{place} {scope.study} was deleted on {when} (deletion {found[0].pk})")


def _or_above(uid: str | None) -> tuple[str, ...]:
    return ("",) if uid is None else ("", uid)


__all__ = ("Deletion", "Deletions", "State", "tell")
