"""The log of associations: every one that was accepted, refused or dropped, with why; written in batches, searched, pruned."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import orjson
import zstandard
from sqlalchemy import ColumnElement, Connection, Row, bindparam, delete, func, or_, select, update

from storage.index import Index
from storage.index.ae import EVERY_RIGHT, Rights
from storage.index.callers import Asking, remember
from storage.index.inserting import insert_into
from storage.index.tables import association, counter

_COUNTER: Final = "association"
# Of an association that goes on its process says so again and again; after so long it has ended with its process.
SILENT_SECONDS: Final = 300.0
# The most that are kept, however young.
MOST_KEPT: Final = 100_000
_AT_A_TIME: Final = 5000
_LONGEST_REASON: Final = 2000


class Outcome(StrEnum):
    """How an association began."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    # A connection that came to no association.
    DROPPED = "dropped"


class Direction(StrEnum):
    """Who has asked for an association: the other node, or this archive."""

    IN = "in"
    OUT = "out"


@dataclass(frozen=True, slots=True)
class Proposed:
    """One presentation context: what was proposed, the result (PS3.8 table 9-18), and the transfer syntax that was taken."""

    sop_class: str
    syntaxes: tuple[str, ...]
    result: int
    accepted: str = ""


@dataclass(slots=True)
class Entry:
    """One association, or several refusals for the same reason (`times`). Times are seconds since 1970.

    `operations` counts responses by command and status, such as {"C-STORE 0000": 12}; of sub-operations and requests of
    ours too. `seconds` None: it goes on.
    """

    id: str
    outcome: Outcome
    address: str
    calling_ae: str = ""
    called_ae: str = ""
    reason: str = ""
    # Released, aborted by peer, lost, violation, idle, stopped, error; empty while it goes on and where it never was.
    how: str = ""
    contexts: tuple[Proposed, ...] = ()
    operations: dict[str, int] = field(default_factory=dict)
    received: int = 0
    sent: int = 0
    at: float = field(default_factory=time.time)
    last_at: float = 0.0
    seconds: float | None = None
    times: int = 1
    # Whether it can be let in, the rights that what it proposed needs, and the fingerprint of the certificate that it has
    # shown; `untold` are the times that are not written yet.
    asks: bool = False
    rights: Rights = EVERY_RIGHT
    certificate: str = ""
    untold: int = 1
    direction: Direction = Direction.IN
    pk: int = 0
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for. `ae` is part of a calling or called AE title, `address` its beginning; times as in `Entry`."""

    ae: str = ""
    address: str = ""
    outcome: Outcome | None = None
    since: float | None = None
    until: float | None = None
    direction: Direction | None = None


def write(index: Index, entries: Sequence[Entry]) -> None:
    """Add them, or bring those that are there up to date, in one transaction.

    Of one that is there already, by whichever process, the times that are untold are added to its own.
    """
    with index.database.write() as connection:
        asking = [one for one in entries if one.asks and one.untold]
        remember(connection, map(_asking, asking))
        last = _numbers(connection, len(entries))
        rows = [_values(one, last - len(entries) + 1 + n) for n, one in enumerate(entries)]
        statement = insert_into(connection.dialect.name, association)
        changing = {name: statement.excluded[name] for name in rows[0] if name not in ("id", "at", "untold")}
        changing["times"] = association.c.times + bindparam("untold")
        connection.execute(
            statement.on_conflict_do_update(index_elements=["id"], set_=changing), rows
        )


def _numbers(connection: Connection, number: int) -> int:
    """The last of so many sequence numbers. It is held until the end: another process's batch waits, and comes after ours."""
    taken = update(counter).where(counter.c.name == _COUNTER).values(value=counter.c.value + number)
    return int(connection.execute(taken.returning(counter.c.value)).scalar_one())


def _asking(one: Entry) -> Asking:
    last = one.last_at or one.at
    return Asking(one.calling_ae, one.address, one.called_ae, one.rights, one.reason, one.untold, last, one.certificate)


def _values(one: Entry, sequence: int) -> dict[str, Any]:
    last_at = round((one.last_at or one.at) * 1e6)
    return {
        "id": one.id,
        "outcome": one.outcome.value,
        "direction": one.direction.value,
        "address": one.address,
        "calling_ae": one.calling_ae,
        "called_ae": one.called_ae,
        "reason": one.reason[:_LONGEST_REASON],
        "how": one.how,
        "contexts": _packed([[c.sop_class, c.syntaxes, c.result, c.accepted] for c in one.contexts]),
        "operations": orjson.dumps(one.operations),
        "received": one.received,
        "sent": one.sent,
        "at": round(one.at * 1e6),
        "last_at": last_at,
        "seen_at": time.time_ns() // 1000,
        "seconds": one.seconds,
        "times": max(one.untold, 1),
        "untold": one.untold,
        "sequence": sequence,
    }


def search(index: Index, wanted: Wanted, *, before: int | None = None, limit: int = 100) -> list[Entry]:
    """What has happened last, first: an entry that counts on, or goes on, is where its last is, not its first.

    `before` is the `sequence` of the last of the page before; what changes meanwhile is on an earlier one then.
    """
    query = select(association).where(*_conditions(wanted))
    if before is not None:
        query = query.where(association.c.sequence < before)
    with index.database.read() as connection:
        found = connection.execute(query.order_by(association.c.sequence.desc()).limit(limit)).all()
    return [_entry(row) for row in found]


def one_of(index: Index, pk: int) -> Entry | None:
    """One entry, or None."""
    with index.database.read() as connection:
        row = connection.execute(select(association).where(association.c.pk == pk)).one_or_none()
    return _entry(row) if row else None


def since(index: Index, sequence: int, wanted: Wanted | None = None, *, limit: int = 200) -> list[Entry]:
    """What was added or has changed after `sequence`, in that order."""
    query = select(association).where(association.c.sequence > sequence, *_conditions(wanted or Wanted()))
    with index.database.read() as connection:
        return [_entry(row) for row in connection.execute(query.order_by(association.c.sequence).limit(limit))]


def latest(index: Index) -> int:
    """The sequence of the latest change."""
    with index.database.read() as connection:
        return int(connection.execute(select(counter.c.value).where(counter.c.name == _COUNTER)).scalar_one())


def _conditions(wanted: Wanted) -> Iterator[ColumnElement[bool]]:
    table = association.c
    if wanted.ae:
        asked = wanted.ae.lower()
        titles = (func.lower(table.calling_ae), func.lower(table.called_ae))
        yield or_(*(title.contains(asked, autoescape=True) for title in titles))
    if wanted.address:
        yield table.address.startswith(wanted.address, autoescape=True)
    if wanted.outcome is not None:
        yield table.outcome == wanted.outcome.value
    if wanted.direction is not None:
        yield table.direction == wanted.direction.value
    if wanted.since is not None:
        yield table.last_at >= round(wanted.since * 1e6)
    if wanted.until is not None:
        yield table.at < round(wanted.until * 1e6)


def tidy(index: Index, *, seconds: float, most: int = MOST_KEPT) -> int:
    """Remove what is older than `seconds` and all but the latest `most`; end what its process has left open. How many went.

    A part at a time: call it until it is 0.
    """
    now = time.time_ns() // 1000
    _end_silent(index, now)
    # The newest of those that are too many; keys are in the order of their coming.
    newest = select(association.c.pk).order_by(association.c.pk.desc()).offset(most).limit(1)
    with index.database.read() as connection:
        limit = connection.scalar(newest) or 0
        old = or_(association.c.pk <= limit, association.c.last_at < now - round(seconds * 1e6))
        gone = connection.scalars(select(association.c.pk).where(old).limit(_AT_A_TIME)).all()
    if not gone:
        return 0
    with index.database.write() as connection:
        for first in range(0, len(gone), 500):
            connection.execute(delete(association).where(association.c.pk.in_(gone[first : first + 500])))
    return len(gone)


def _end_silent(index: Index, now: int) -> None:
    silent = (association.c.seconds.is_(None), association.c.seen_at < now - round(SILENT_SECONDS * 1e6))
    open_now = (association.c.outcome == Outcome.ACCEPTED.value, *silent)
    with index.database.read() as connection:
        found = connection.execute(select(association.c.pk, association.c.at, association.c.seen_at).where(*open_now)).all()
    if not found:
        return
    with index.database.write() as connection:
        last = _numbers(connection, len(found))
        for n, row in enumerate(found):
            values = {"how": "lost", "seconds": (row.seen_at - row.at) / 1e6, "sequence": last - n}
            values["reason"] = "the process that served it ended before it did; the server's log says why"
            connection.execute(update(association).where(association.c.pk == row.pk, *open_now).values(values))


def _entry(row: Row[Any]) -> Entry:
    return Entry(
        row.id,
        Outcome(row.outcome),
        row.address,
        row.calling_ae,
        row.called_ae,
        row.reason,
        row.how,
        tuple(Proposed(c[0], tuple(c[1]), c[2], c[3]) for c in _unpacked(row.contexts)),
        orjson.loads(row.operations),
        row.received,
        row.sent,
        row.at / 1e6,
        row.last_at / 1e6,
        row.seconds,
        row.times,
        direction=Direction(row.direction),
        pk=row.pk,
        sequence=row.sequence,
    )


def _packed(value: Iterable[Any]) -> bytes:
    return zstandard.compress(orjson.dumps(list(value)), 3)


def _unpacked(value: bytes) -> Any:
    return orjson.loads(zstandard.decompress(value))
