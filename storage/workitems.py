"""The store of workitems (PS3.4 annex CC): UPS-RS and DIMSE change it alike, each change with its events in one transaction.

What is right and what follows from it is in `procedure_steps`. Who subscribes is told by ordered rows, which any process can
read on: an event is there exactly when its change is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import orjson
import structlog
from pydicom.uid import generate_uid
from sqlalchemy import ColumnElement, Connection, and_, delete, exists, insert, or_, select, update

from storage import json_model, matching, procedure_steps
from storage.errors import Gone, IndexUnavailable, NotFound, WorkitemRefused
from storage.index import Index
from storage.index.database import Rerun
from storage.index.tables import (
    counter,
    workitem,
    workitem_event,
    workitem_gone,
    workitem_key,
    workitem_subscriber,
    workitem_subscription,
)
from storage.matching import Conditions, OneOf
from storage.procedure_steps import FILTERED, FINAL, GLOBAL, STATE, Changed, Refusal, State, Told, Workitem
from storage.types import DEFAULT_PARTITION, Dataset
from storage.workitem_keys import KEYED, Span, keys_of, spans_of

_log = structlog.get_logger(__name__)
_RUNS: Final = 5
# Rows that are looked through at a time.
_BATCH: Final = 200
_COUNTER: Final = "workitem event"
# How long it is known of a workitem that there was one.
_GONE_SECONDS: Final = 2 * 365 * 86_400.0
Clauses = tuple[ColumnElement[bool], ...]
Result = TypeVar("Result")
# A key of a filter as it is kept: its path of tags, its VR, and its values.
FilterKey = tuple[tuple[str, ...], str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Event:
    """An event report for one subscriber."""

    sequence: int
    uid: str
    kind: int
    fields: Dataset


@dataclass(frozen=True, slots=True)
class Search:
    """What workitems are looked for; `limit` None means all."""

    conditions: Conditions = ()
    limit: int | None = None
    offset: int = 0
    fuzzy: bool = False


class Workitems:
    """The workitems of one index. Thread-safe; any number of processes may change them at once.

    Every method may raise IndexUnavailable; those about one workitem raise NotFound when there is none, Gone when there was
    one. `clock` gives
    seconds since 1970.
    """

    def __init__(self, index: Index, *, clock: Callable[[], float] = time.time) -> None:
        self._database = index.database
        self._clock = clock

    def create(self, dataset: Dataset, uid: str | None = None) -> Changed:
        """Add a workitem, with a new UID where none is given. Raises BadRequest, WorkitemRefused."""
        made = procedure_steps.created(uid or generate_uid(), dataset, self._now())

        def run(connection: Connection) -> Changed:
            known = select(workitem.c.pk).where(workitem.c.uid == made.item.uid)
            if connection.execute(known).first() is not None:
                raise WorkitemRefused(Refusal.DUPLICATE, "there is a workitem of that UID already; choose another one")
            if connection.execute(select(workitem_gone.c.uid).where(workitem_gone.c.uid == made.item.uid)).first() is not None:
                raise WorkitemRefused(Refusal.DUPLICATE, "there was a workitem of that UID, which is removed; choose another one")
            at = self._microseconds()
            row = insert(workitem).values(partition=DEFAULT_PARTITION, created_at=at, **_row(made.item, at))
            _put_keys(connection, connection.execute(row.returning(workitem.c.pk)).scalar_one(), made.item)
            _subscribe_globals(connection, made.item)
            self._tell(connection, made)
            return made

        return self._written(run)

    def get(self, uid: str) -> Workitem:
        """A workitem as it is."""
        with self._database.read() as connection:
            return _read(connection, uid)

    def update(self, uid: str, transaction: str, dataset: Dataset) -> Changed:
        """Change attributes. Raises BadRequest, WorkitemRefused."""
        return self._change(uid, lambda item, _: procedure_steps.updated(item, transaction, dataset, self._now()))

    def change_state(self, uid: str, transaction: str, state: str) -> Changed:
        """Claim, complete or cancel. Raises BadRequest, WorkitemRefused."""
        return self._change(uid, lambda item, _: procedure_steps.state_changed(item, transaction, state, self._now()))

    def request_cancel(self, uid: str, request: Dataset, requester: str) -> Changed:
        """Ask for cancellation. Raises BadRequest, WorkitemRefused."""

        def asked(item: Workitem, connection: Connection) -> Changed:
            heard = bool(_subscribers(connection, uid))
            return procedure_steps.cancel_asked(item, request, requester, self._now(), heard=heard)

        return self._change(uid, asked)

    def find(self, search: Search) -> list[int]:
        """Keys of what matches, in the order of creation, for `read`."""
        found: list[int] = []
        skipped = 0
        for pk, item in self._all(_narrowed(search)):
            if search.limit is not None and len(found) >= search.limit:
                break
            if not matching.matches_dataset(search.conditions, item.dataset, fuzzy=search.fuzzy):
                continue
            if skipped < search.offset:
                skipped += 1
            else:
                found.append(pk)
        return found

    def read(self, keys: Sequence[int]) -> Iterator[Dataset]:
        """The data sets of what `find` has found, a few in memory at a time; those that are gone by now are left out."""
        for at in range(0, len(keys), _BATCH):
            query = select(workitem.c.dataset).where(workitem.c.pk.in_(keys[at : at + _BATCH])).order_by(workitem.c.pk)
            with self._database.read() as connection:
                rows = connection.scalars(query).all()
            yield from filter(None, map(json_model.read, rows))

    def subscribe(
        self, uid: str, ae_title: str, *, locked: bool, filters: Sequence[FilterKey] = (), dimse: bool = False
    ) -> None:
        """Have an AE told of a workitem, or of all (GLOBAL), or of all that match (FILTERED); `locked`: and keep them for it.

        By PS3.4 table CC.2.3-2: of a workitem that it names, and of all with a lock, it is told at once in which state they are;
        and to subscribe to all changes nothing of what it subscribes to already, the lock on a single one say.
        """

        def run(connection: Connection) -> None:
            _known_subscriber(connection, ae_title, dimse=dimse)
            single = uid not in (GLOBAL, FILTERED)
            if single:
                items: Iterable[Workitem] = [_read(connection, uid)]
            else:
                _put(connection, "", ae_title, locked, filters)
                already = _subscriptions(connection, ae_title)
                items = (one for _, one in _every(connection) if one.uid not in already and _matches(filters, one.dataset))
            for item in items:
                _put(connection, item.uid, ae_title, locked)
                if single or locked:
                    self._tell(connection, Changed(item, (procedure_steps.state_report(item),)), [ae_title])

        self._written(run)

    def unsubscribe(self, uid: str, ae_title: str) -> None:
        """End that; of GLOBAL or FILTERED all that the AE subscribes to."""
        gone = delete(workitem_subscription).where(workitem_subscription.c.ae_title == ae_title)

        def run(connection: Connection) -> None:
            if uid in (GLOBAL, FILTERED):
                connection.execute(gone)
                return
            _read(connection, uid)
            connection.execute(gone.where(workitem_subscription.c.uid == uid))

        self._written(run)

    def suspend(self, ae_title: str) -> None:
        """Tell an AE of no further workitems than those to which it subscribes by now."""
        with self._database.write() as connection:
            connection.execute(
                delete(workitem_subscription).where(
                    workitem_subscription.c.ae_title == ae_title, workitem_subscription.c.uid == ""
                )
            )

    def latest(self) -> int:
        """The number of the newest event: when it has not changed, nobody needs to be told of anything."""
        with self._database.read() as connection:
            return int(connection.execute(select(counter.c.value).where(counter.c.name == _COUNTER)).scalar_one())

    def delivered(self, ae_title: str) -> int:
        """The number of the last event that a subscriber has been told; of one that is not known the newest."""
        query = select(workitem_subscriber.c.delivered).where(workitem_subscriber.c.ae_title == ae_title)
        with self._database.read() as connection:
            found: int | None = connection.scalars(query).first()
        return self.latest() if found is None else found

    def events(self, ae_title: str, after: int, limit: int = 100) -> list[Event]:
        """A subscriber's next events, oldest first."""
        query = (
            select(workitem_event)
            .where(workitem_event.c.ae_title == ae_title, workitem_event.c.sequence > after)
            .order_by(workitem_event.c.sequence)
            .limit(limit)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [Event(row.sequence, row.uid, row.kind, orjson.loads(row.report)) for row in rows]

    def acknowledge(self, ae_title: str, sequence: int) -> None:
        """Up to here the subscriber has been told."""
        known = update(workitem_subscriber).where(
            workitem_subscriber.c.ae_title == ae_title, workitem_subscriber.c.delivered < sequence
        )
        with self._database.write() as connection:
            connection.execute(known.values(delivered=sequence))

    def tidy(self, *, ended_seconds: float, event_seconds: float) -> int:
        """Remove workitems that have ended so long ago, unless somebody has them locked, and old events; how many workitems."""
        now = self._microseconds()
        locked = exists().where(workitem_subscription.c.uid == workitem.c.uid, workitem_subscription.c.locked)
        over = select(workitem.c.uid).where(
            workitem.c.state.in_(FINAL), workitem.c.updated_at < now - round(ended_seconds * 1e6), ~locked
        )
        with self._database.write() as connection:
            uids = connection.scalars(over.limit(_BATCH)).all()
            removed = workitem.c.uid.in_(uids)
            connection.execute(delete(workitem_subscription).where(workitem_subscription.c.uid.in_(uids)))
            connection.execute(delete(workitem_key).where(workitem_key.c.workitem_pk.in_(select(workitem.c.pk).where(removed))))
            connection.execute(delete(workitem).where(removed))
            if uids:
                connection.execute(insert(workitem_gone), [{"uid": uid, "at": now} for uid in uids])
            connection.execute(delete(workitem_gone).where(workitem_gone.c.at < now - round(_GONE_SECONDS * 1e6)))
            connection.execute(delete(workitem_event).where(workitem_event.c.at < now - round(event_seconds * 1e6)))
        return len(uids)

    def _change(self, uid: str, change: Callable[[Workitem, Connection], Changed]) -> Changed:
        def run(connection: Connection) -> Changed:
            item = _read(connection, uid)
            changed = change(item, connection)
            if changed.item is not item:
                row = _row(changed.item, self._microseconds())
                same = workitem.c.uid == uid, workitem.c.version == item.version
                if connection.execute(update(workitem).where(*same).values(row)).rowcount == 0:
                    # Somebody was faster: what was decided is about a workitem that is not so any more.
                    raise Rerun
                if keys_of(changed.item.dataset) != keys_of(item.dataset):
                    pk = connection.execute(select(workitem.c.pk).where(workitem.c.uid == uid)).scalar_one()
                    connection.execute(delete(workitem_key).where(workitem_key.c.workitem_pk == pk))
                    _put_keys(connection, pk, changed.item)
            self._tell(connection, changed)
            return changed

        return self._written(run)

    def _written(self, run: Callable[[Connection], Result]) -> Result:
        for _ in range(_RUNS):
            try:
                with self._database.write() as connection:
                    return run(connection)
            except Rerun:
                continue
        raise IndexUnavailable("the transaction lost to others again and again; send again later")

    def _tell(self, connection: Connection, changed: Changed, only: Sequence[str] | None = None) -> None:
        """Write the events of a change for whoever subscribes; last in a transaction, for the counter is held until its end."""
        told = _subscribers(connection, changed.item.uid) if only is None else only
        reports: list[tuple[str, Told]] = [(ae_title, one) for one in changed.events for ae_title in told]
        if not reports:
            return
        taken = update(counter).where(counter.c.name == _COUNTER).values(value=counter.c.value + len(reports))
        last: int = connection.execute(taken.returning(counter.c.value)).scalar_one()
        at, first = self._microseconds(), last - len(reports) + 1
        rows = [
            {"sequence": number, "ae_title": ae_title, "uid": changed.item.uid, "kind": int(one.kind), "at": at,
             "report": orjson.dumps(one.fields)}
            for number, (ae_title, one) in enumerate(reports, first)
        ]
        connection.execute(insert(workitem_event), rows)

    def _all(self, narrowed: Clauses) -> Iterator[tuple[int, Workitem]]:
        """Every workitem within `narrowed`, each batch in a transaction of its own."""
        after = 0
        while True:
            with self._database.read() as connection:
                rows = _batch(connection, after, narrowed)
            yield from rows
            if len(rows) < _BATCH:
                return
            after = rows[-1][0]

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).strftime("%Y%m%d%H%M%S.%f+0000")

    def _microseconds(self) -> int:
        return round(self._clock() * 1e6)


def _row(item: Workitem, at: int) -> dict[str, Any]:
    return {
        "uid": item.uid,
        "state": item.state,
        "transaction_uid": item.transaction,
        "version": item.version,
        "dataset": orjson.dumps(item.dataset),
        "updated_at": at,
    }


def _item(row: Any, dataset: Dataset | None = None) -> Workitem:
    whole = orjson.loads(row.dataset) if dataset is None else dataset
    return Workitem(row.uid, State(row.state), whole, row.transaction_uid, row.version)


def _read(connection: Connection, uid: str) -> Workitem:
    row = connection.execute(select(workitem).where(workitem.c.uid == uid)).first()
    if row is not None:
        return _item(row)
    if connection.execute(select(workitem_gone.c.uid).where(workitem_gone.c.uid == uid)).first() is not None:
        raise Gone("the workitem has ended, and was removed after its time; search /workitems for those that there are")
    raise NotFound("there is no workitem of that UID; search /workitems for those that there are")


def _put_keys(connection: Connection, pk: int, item: Workitem) -> None:
    if keys := sorted(keys_of(item.dataset)):
        connection.execute(insert(workitem_key), [{"name": name, "value": value, "workitem_pk": pk} for name, value in keys])


def _narrowed(search: Search) -> Clauses:
    """What the rows of all that matches fulfil, and not many others: the rest is for the matcher."""
    clauses: list[ColumnElement[bool]] = []
    for path, condition in search.conditions:
        if path == (STATE,) and isinstance(condition, OneOf) and not condition.patterns:
            clauses.append(workitem.c.state.in_(condition.keys))
        elif (spans := spans_of(path, condition, fuzzy=search.fuzzy)) is not None:
            of_path = workitem_key.c.name == KEYED[path]
            within = or_(*(_within(workitem_key.c.value, span) for span in spans))
            clauses.append(workitem.c.pk.in_(select(workitem_key.c.workitem_pk).where(of_path, within)))
    return tuple(clauses)


def _within(column: ColumnElement[str], span: Span) -> ColumnElement[bool]:
    return column == span.low if span.low == span.high else and_(column >= span.low, column <= span.high)


def _batch(connection: Connection, after: int, narrowed: Clauses = ()) -> list[tuple[int, Workitem]]:
    query = select(workitem).where(workitem.c.pk > after, *narrowed).order_by(workitem.c.pk).limit(_BATCH)
    return [(row.pk, _item(row, json_model.read(row.dataset) or _unreadable(row))) for row in connection.execute(query)]


def _unreadable(row: Any) -> Dataset:
    """What is taken for a data set that cannot be read: it is told of, and does not keep others from being found."""
    _log.error("workitem.unreadable", uid=row.uid)
    return {}


def _every(connection: Connection) -> Iterator[tuple[int, Workitem]]:
    """Every workitem, in the caller's transaction."""
    after = 0
    while rows := _batch(connection, after):
        yield from rows
        after = rows[-1][0]


def _subscribers(connection: Connection, uid: str) -> Sequence[str]:
    query = select(workitem_subscription.c.ae_title).where(workitem_subscription.c.uid == uid)
    return connection.scalars(query.order_by(workitem_subscription.c.ae_title)).all()


def _subscriptions(connection: Connection, ae_title: str) -> frozenset[str]:
    table = workitem_subscription
    return frozenset(connection.scalars(select(table.c.uid).where(table.c.ae_title == ae_title)))


def _subscribe_globals(connection: Connection, item: Workitem) -> None:
    """A new workitem's subscriptions, by those to all (PS3.4 CC.2.5.3)."""
    for row in connection.execute(select(workitem_subscription).where(workitem_subscription.c.uid == "")).all():
        filters = [(tuple(path), vr, tuple(values)) for path, vr, values in orjson.loads(row.filter or b"[]")]
        if _matches(filters, item.dataset):
            _put(connection, item.uid, row.ae_title, row.locked)


def _matches(filters: Sequence[FilterKey], dataset: Dataset) -> bool:
    return matching.matches_dataset(conditions_of(filters), dataset)


def conditions_of(filters: Sequence[FilterKey]) -> Conditions:
    """What a filter asks for. Raises BadRequest naming the attribute."""
    return matching.combined(tuple((path, matching.parse(path, vr, list(values))) for path, vr, values in filters))


def _put(connection: Connection, uid: str, ae_title: str, locked: bool, filters: Sequence[FilterKey] = ()) -> None:
    """Write a subscription over the one that may be there."""
    table = workitem_subscription
    same = table.c.uid == uid, table.c.ae_title == ae_title
    values = {"locked": locked, "filter": orjson.dumps(filters) if filters else None}
    if connection.execute(update(table).where(*same).values(values)).rowcount == 0:
        connection.execute(insert(table).values(uid=uid, ae_title=ae_title, **values))


def _known_subscriber(connection: Connection, ae_title: str, *, dimse: bool) -> None:
    """From its first subscription on events wait for a subscriber until it opens its channel, or is called."""
    table = workitem_subscriber
    known = update(table).where(table.c.ae_title == ae_title)
    if connection.execute(known.values({"dimse": True} if dimse else {"ae_title": ae_title})).rowcount == 0:
        newest = select(counter.c.value).where(counter.c.name == _COUNTER).scalar_subquery()
        values = {"dimse": dimse, "not_before": 0, "failures": 0}
        connection.execute(insert(table).values(ae_title=ae_title, delivered=newest, **values))
