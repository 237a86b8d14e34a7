"""What is to be sent on of what has come: read on from the change feed, which is written with every instance.

So nothing that was acknowledged is ever forgotten, whatever crashes, and storing costs nothing for it. One process reads on at
a time; what it has read and the transfers that follow from that are one transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Row, func, select, update

from storage.index import Index, rows
from storage.index.ae import ae_titles
from storage.index.ae import revision as ae_revision
from storage.index.tables import change, counter, instance, instance_content, series, study
from storage.index.transfer_tables import transfer
from storage.matching import Condition, Conditions, OneOf, matches, matches_dataset
from storage.rules import Route, Rule, When, conditions_of, revision, rules, titles_condition
from storage.transfer_records import RETRIEVE, TOGETHER_SECONDS, Order
from storage.transfers import Transfers
from storage.types import DEFAULT_PARTITION, Dataset, Scope, Source

ROUTING: Final = "routing"
_BATCH: Final = 2000
_CHUNK: Final = 500
_STORED, _REPLACED = "instance-stored", "instance-replaced"
# What a retrieve of ours brings may come a little after its last word.
_RETRIEVE_SECONDS: Final = 120.0
_ABOVE: Final = rows.STUDY_TAGS | rows.SERIES_TAGS


@dataclass(frozen=True, slots=True)
class Arrival:
    """An instance that has come: by which change, from whom, and its attributes (`whole` only where somebody asks for them)."""

    sequence: int
    replaced: bool
    key: int
    scope: Scope
    source: Source
    at: int
    attributes: Dataset
    whole: bytes | None = None

    @property
    def dataset(self) -> Dataset:
        """The attributes of the study and the series, and of the instance where they were read."""
        if self.whole is None:
            return self.attributes
        return rows.encoded(self.whole).dataset()


@dataclass(frozen=True, slots=True)
class _Ready:
    """A route as it is matched."""

    name: str
    route: Route
    since: int
    calling: Condition | None
    called: Condition | None
    conditions: Conditions

    @property
    def asks_whole(self) -> bool:
        return any(path[0] not in _ABOVE for path, _ in self.conditions)

    def matches(self, one: Arrival, dataset: Dataset, *, retrieved: bool) -> bool:
        """Whether it is to be sent on by this route."""
        route, source = self.route, one.source
        if one.sequence <= self.since or source.kind == "rebuild":
            return False
        if (source.kind == "import" and not route.imported) or (one.replaced and not route.replaced):
            return False
        if retrieved and not route.retrieved:
            return False
        if source.calling_ae == route.to:
            # It has it.
            return False
        for condition, title in ((self.calling, source.calling_ae), (self.called, source.called_ae)):
            if condition is not None and not matches(condition, [title]):
                return False
        return matches_dataset(self.conditions, dataset)


def ready(rule: Rule) -> _Ready:
    """A rule of the kind `Route`, to be matched."""
    route = rule.definition
    assert isinstance(route, Route)
    called, calling = titles_condition(route.called), titles_condition(route.calling)
    return _Ready(rule.name, route, rule.since, calling, called, conditions_of(route.conditions))


class Feed:
    """The change feed as one reader goes through it, whose place is the counter `name`."""

    def __init__(self, index: Index, name: str) -> None:
        self._database = index.database
        self._name = name

    def news(self) -> tuple[int, int]:
        """The place, and the newest change."""
        names = (self._name, "change")
        with self._database.read() as connection:
            found = {row.name: row.value for row in connection.execute(select(counter).where(counter.c.name.in_(names)))}
        return found[self._name], found["change"]

    def read(self, after: int) -> list[Row[Any]]:
        """What has changed after a place, not all at once."""
        query = select(change).where(change.c.sequence > after).order_by(change.c.sequence).limit(_BATCH)
        with self._database.read() as connection:
            return list(connection.execute(query).all())

    def pass_over(self, after: int, newest: int) -> None:
        """There is nobody for whom these matter: nobody looks at them."""
        with self._database.write() as connection:
            self.move(connection, after, newest)

    def move(self, connection: Connection, after: int, to: int) -> bool:
        """In the transaction that does what follows: go on from `after`. False when somebody else has been faster."""
        mine = (counter.c.name == self._name, counter.c.value == after)
        return connection.execute(update(counter).where(*mine).values(value=to)).rowcount > 0

    def arrivals(self, changes: Iterable[Row[Any]], *, whole: bool) -> Iterator[Arrival]:
        """The instances that have come and are still there, by what the feed says of them."""
        came = {
            row.sop_instance_uid: row
            for row in changes
            if row.partition == DEFAULT_PARTITION and row.kind in (_STORED, _REPLACED)
        }
        uids, above = list(came), dict[int, Dataset]()
        for first in range(0, len(uids), _CHUNK):
            with self._database.read() as connection:
                found = connection.execute(_arrived(uids[first : first + _CHUNK], whole=whole)).all()
            for row in found:
                of = came[row.sop_instance_uid]
                if row.series_pk not in above:
                    above[row.series_pk] = {**orjson.loads(row.study_attributes), **orjson.loads(row.series_attributes)}
                yield Arrival(
                    of.sequence,
                    of.kind == _REPLACED,
                    row.pk,
                    Scope(row.study_instance_uid, row.series_instance_uid, row.sop_instance_uid),
                    rows.source_of(row.source),
                    of.at,
                    above[row.series_pk],
                    row.json if whole else None,
                )


def _arrived(uids: Sequence[str], *, whole: bool) -> Any:
    columns = [
        instance.c.pk,
        instance.c.sop_instance_uid,
        instance.c.source,
        instance.c.series_pk,
        series.c.series_instance_uid,
        series.c.attributes.label("series_attributes"),
        study.c.study_instance_uid,
        study.c.attributes.label("study_attributes"),
    ]
    query = (
        select(*columns, *([instance_content.c.json] if whole else []))
        .join_from(instance, series, instance.c.series_pk == series.c.pk)
        .join(study, series.c.study_pk == study.c.pk)
        .where(instance.c.partition == DEFAULT_PARTITION, instance.c.sop_instance_uid.in_(uids))
        .where(instance.c.deleted_at.is_(None))
    )
    return query.join(instance_content, instance_content.c.instance_pk == instance.c.pk) if whole else query


class Router:
    """Reads on and has sent what the routes say; keeps them until their revision changes. For one thread."""

    def __init__(self, index: Index, *, clock: Callable[[], float] = time.time) -> None:
        self._index = index
        self._clock = clock
        self._feed = Feed(index, ROUTING)
        self._transfers = Transfers(index, clock=clock)
        self._revision = (-1, -1)
        self._routes: list[_Ready] = []

    def gather(self) -> int:
        """Have sent what has come since the last time; how many changes were read, 0 when none are left."""
        after, newest = self._feed.news()
        if newest <= after:
            return 0
        # After the newest change was read: a route that is made now holds for what comes behind that.
        self._look()
        if not self._routes:
            self._feed.pass_over(after, newest)
            return 0
        changes = self._feed.read(after)
        if not changes:
            return 0
        orders = list(self._orders(changes))
        with self._index.database.write() as connection:
            if not self._feed.move(connection, after, changes[-1].sequence):
                # Another process is at it.
                return 0
            for order in orders:
                self._transfers.join(connection, order)
        return len(changes)

    def _look(self) -> None:
        with self._index.database.read() as connection:
            now = (revision(connection), ae_revision(self._index))
        if now != self._revision:
            said = [ready(one) for one in rules(self._index, Route) if one.enabled]
            implied = [
                replace(ready(Rule(f"={node.title}", Route(to, retrieved=True))), calling=OneOf("AE", (node.title,)))
                for node in ae_titles(self._index)
                for to in node.destinations
            ]
            self._routes, self._revision = said + implied, now

    def _orders(self, changes: Sequence[Row[Any]]) -> Iterator[Order]:
        """What is to be sent, together as far as it goes together."""
        fetched = fetched_of_late(self._index, self._clock())
        whole = any(one.asks_whole for one in self._routes)
        together: dict[tuple[str, str, Scope], tuple[_Ready, list[int]]] = {}
        for one in self._feed.arrivals(changes, whole=whole):
            dataset = one.dataset
            retrieved = was_fetched(fetched, one)
            for route in self._routes:
                if route.matches(one, dataset, retrieved=retrieved):
                    scope = Scope(one.scope.study, one.scope.series if route.route.when is When.SERIES else None)
                    key = (route.name, route.route.to, scope)
                    together.setdefault(key, (route, []))[1].append(one.key)
        for (name, to, scope), (matched, keys) in together.items():
            said = matched.route
            wait = TOGETHER_SECONDS if said.when is When.INSTANCE else max(TOGETHER_SECONDS, said.quiet_seconds)
            yield Order(to, scope, rule=name, sending=said.sending, instances=tuple(keys), wait=wait)


Fetched = dict[tuple[str, str], list[tuple[int, int]]]


def fetched_of_late(index: Index, now: float) -> Fetched:
    """From which nodes we have fetched which studies of late, and when: from and to."""
    late = round((now - _RETRIEVE_SECONDS - 3600) * 1e6)
    columns = transfer.c.node, transfer.c.study_instance_uid, transfer.c.created_at, transfer.c.updated_at
    query = select(*columns).where(transfer.c.kind == RETRIEVE, transfer.c.updated_at >= late)
    found: Fetched = {}
    with index.database.read() as connection:
        for row in connection.execute(query):
            end = row.updated_at + round(_RETRIEVE_SECONDS * 1e6)
            found.setdefault((row.node, row.study_instance_uid), []).append((row.created_at, end))
    return found


def was_fetched(fetched: Fetched, one: Arrival) -> bool:
    """Whether an instance has come because we have fetched it."""
    spans = fetched.get((one.source.calling_ae, one.scope.study), ())
    return any(begin <= one.at <= end for begin, end in spans)


def lag(index: Index, name: str = ROUTING) -> int:
    """How many changes a reader of the feed has not looked at yet."""
    with index.database.read() as connection:
        place = func.coalesce(func.max(counter.c.value).filter(counter.c.name == name), 0)
        newest = func.coalesce(func.max(counter.c.value).filter(counter.c.name == "change"), 0)
        return int(connection.execute(select(newest - place)).scalar_one())
