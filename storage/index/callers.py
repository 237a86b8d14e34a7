"""Callers that are no known node from where they call: those that want to connect, may once, or are blocked."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, or_, select, update

from storage.errors import BadRequest, NotFound
from storage.index import Index
from storage.index.ae import AeTitle, Rights, changed, known_rights, node_in, put_node, words_of
from storage.index.inserting import insert_into
from storage.index.rows import moment
from storage.index.tables import caller

# How long a permission for one association waits to be used.
ONCE_SECONDS: Final = 3600.0
# Of those that want to connect: how long they are remembered, and how many at most, the latest.
ASKS_DAYS: Final = 14.0
MOST_ASKING: Final = 500


class State(StrEnum):
    """What has been decided about a caller."""

    ASKS = "asks"
    ONCE = "once"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Caller:
    """One caller. `rights` are those that what it has asked for needs; an empty title or address stands for any."""

    id: int
    calling_ae: str
    address: str
    called_ae: str
    state: State
    rights: Rights
    reason: str
    times: int
    first_at: datetime
    last_at: datetime
    # Until when it may come once.
    until: datetime | None
    # The fingerprint of the certificate that it has shown; empty where there was none.
    certificate: str = ""


@dataclass(frozen=True, slots=True)
class Asking:
    """A caller that was refused and can be let in, `times` since this was last told."""

    calling_ae: str
    address: str
    called_ae: str
    rights: Rights
    reason: str
    times: int
    last_at: float
    certificate: str = ""


def remember(connection: Connection, asking: Iterable[Asking]) -> None:
    """Keep who wants to connect; one that is blocked stays so."""
    for one in sorted(asking, key=lambda one: (one.calling_ae, one.address)):
        at = round(one.last_at * 1e6)
        told = {"called_ae": one.called_ae, "rights": words_of(one.rights), "reason": one.reason, "last_at": at}
        told["certificate"] = one.certificate
        key = {"calling_ae": one.calling_ae, "address": one.address}
        values = {**key, **told, "state": State.ASKS.value, "times": one.times, "first_at": at, "until": 0}
        statement = insert_into(connection.dialect.name, caller).values(values)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["calling_ae", "address"], set_={**told, "times": caller.c.times + one.times}
            )
        )


def callers(index: Index, state: State | None = None) -> list[Caller]:
    """All, or those of one state; the latest first."""
    query = select(caller).order_by(caller.c.last_at.desc(), caller.c.pk.desc())
    if state is not None:
        query = query.where(caller.c.state == state)
    with index.database.read() as connection:
        return [_caller(row) for row in connection.execute(query)]


def caller_of(index: Index, caller_id: int) -> Caller:
    """One of them. Raises NotFound."""
    with index.database.read() as connection:
        return _found(connection, caller.c.pk == caller_id)


def caller_named(index: Index, calling_ae: str, address: str = "") -> Caller:
    """The latest of this title, from this address where one is given. Raises NotFound."""
    with index.database.read() as connection:
        same = caller.c.calling_ae == calling_ae
        return _found(connection, and_(same, caller.c.address == address) if address else same)


def allow(
    index: Index, one: Caller, rights: Rights | None = None, *, anywhere: bool = False, tied: bool = False
) -> AeTitle:
    """Make it a node with `rights` (None: what it has asked for), from its address or from `anywhere`; gives the node.

    A node of its title keeps its rights and gets these, its address, and, where it is tied to certificates, the one that was
    shown, in addition. `tied`: from now on it must show that certificate. Raises BadRequest where none was shown.
    """
    if tied and not one.certificate:
        raise BadRequest(f"{one.calling_ae} has shown no certificate: let it call over TLS with one, then allow it")
    given = one.rights if rights is None else rights
    with index.database.write() as connection:
        known = node_in(connection, one.calling_ae)
        here = (one.address,) if one.address and not anywhere else ()
        if known is None:
            shown = (one.certificate,) if tied else ()
            node = AeTitle(one.calling_ae, "", 0, rights=given, addresses=here, certificates=shown)
        else:
            # One that may call from anywhere keeps that.
            addresses = tuple(dict.fromkeys((*known.addresses, *here))) if here and known.addresses else ()
            shown = (one.certificate,) if one.certificate and (tied or known.certificates) else ()
            certificates = tuple(dict.fromkeys((*known.certificates, *shown)))
            node = replace(known, rights=known.rights | given, addresses=addresses, certificates=certificates)
        connection.execute(delete(caller).where(_same(one)))
        # The revision's counter comes last in every transaction, so that no two wait for each other.
        put_node(connection, node)
    return node


def allow_once(index: Index, one: Caller, rights: Rights | None = None) -> None:
    """Let it have one association within the next hour, with `rights` (None: what it has asked for)."""
    until = round((time.time() + ONCE_SECONDS) * 1e6)
    values = {"state": State.ONCE.value, "until": until, "rights": words_of(one.rights if rights is None else rights)}
    with index.database.write() as connection:
        connection.execute(update(caller).where(caller.c.pk == one.id).values(values))
        changed(connection)


def take_once(index: Index, calling_ae: str, address: str, certificate: str = "") -> Rights | None:
    """Use the permission for one association, which is then gone; its rights, or None where there is none.

    Where a certificate was shown when it was asked for, it is for who shows that again.
    """
    mine = (
        *(caller.c.calling_ae == calling_ae, caller.c.address == address, caller.c.state == State.ONCE),
        caller.c.certificate.in_(("", certificate)),
    )
    now = time.time_ns() // 1000
    with index.database.write() as connection:
        used = update(caller).where(*mine, caller.c.until > now).values(state=State.ASKS.value, until=0)
        rights = connection.scalars(used.returning(caller.c.rights)).one_or_none()
        if rights is not None:
            changed(connection)
    return None if rights is None else known_rights(rights)


def block(index: Index, calling_ae: str, address: str = "") -> None:
    """Refuse it from now on, whatever node there is of its title; an empty title or address: any."""
    now = time.time_ns() // 1000
    values = {"calling_ae": calling_ae, "address": address, "called_ae": "", "rights": "", "reason": "", "times": 0}
    values |= {"first_at": now, "last_at": now, "until": 0, "state": State.BLOCKED.value, "certificate": ""}
    state = {"state": State.BLOCKED.value, "until": 0}
    with index.database.write() as connection:
        if not calling_ae:
            # Whatever else it has called itself is settled with it.
            connection.execute(delete(caller).where(caller.c.address == address, caller.c.state == State.ASKS))
        new = insert_into(connection.dialect.name, caller).values(values)
        connection.execute(new.on_conflict_do_update(index_elements=["calling_ae", "address"], set_=state))
        changed(connection)


def forget(index: Index, one: Caller) -> None:
    """Unblock it, or take it off the list of those that want to connect."""
    with index.database.write() as connection:
        connection.execute(delete(caller).where(caller.c.pk == one.id))
        changed(connection)


def tidy(index: Index) -> int:
    """Forget those that asked long ago, and all but the latest; how many."""
    oldest = time.time_ns() // 1000 - round(ASKS_DAYS * 86_400e6)
    asks = caller.c.state == State.ASKS
    latest = select(caller.c.last_at).where(asks).order_by(caller.c.last_at.desc()).offset(MOST_ASKING).limit(1)
    with index.database.read() as connection:
        limit = max(oldest, connection.scalar(latest) or 0)
        if connection.scalar(select(caller.c.pk).where(asks, caller.c.last_at <= limit).limit(1)) is None:
            return 0
    with index.database.write() as connection:
        return connection.execute(delete(caller).where(asks, caller.c.last_at <= limit)).rowcount


def _found(connection: Connection, wanted: ColumnElement[bool]) -> Caller:
    row = connection.execute(select(caller).where(wanted).order_by(caller.c.last_at.desc()).limit(1)).one_or_none()
    if row is None:
        raise NotFound("no such caller is waiting or blocked")
    return _caller(row)


def _same(one: Caller) -> ColumnElement[bool]:
    """The row of a caller, and those of its title that were blocked from any address."""
    everywhere = and_(caller.c.calling_ae == one.calling_ae, caller.c.address == "")
    return or_(caller.c.pk == one.id, everywhere)


def _caller(row: Row[Any]) -> Caller:
    return Caller(
        row.pk,
        row.calling_ae,
        row.address,
        row.called_ae,
        State(row.state),
        known_rights(row.rights),
        row.reason,
        row.times,
        moment(row.first_at),
        moment(row.last_at),
        moment(row.until) if row.until else None,
        row.certificate,
    )
