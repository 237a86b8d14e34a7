"""Who is to be told of workitems, and by whom: one worker or association at a time for each subscriber, in order.

So each event is told once (PS3.4 CC.2.4), and again only where whoever told it died before it could note that. The events wait in
the store (`workitems`). A subscriber that cannot be reached is tried again with growing pauses, until its events are old enough to
be removed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import ColumnElement, exists, func, or_, select, update

from storage.index import Index
from storage.index.database import Database
from storage.index.tables import workitem_event, workitem_subscriber

# How long a worker has a subscriber to itself, unless it says that it still goes on.
LEASE_SECONDS: Final = 120.0
# After how long it says that; the rest is for the answer to an event.
_KEEP_SECONDS: Final = LEASE_SECONDS / 4
_FIRST_PAUSE: Final = 5.0
_LONGEST_PAUSE: Final = 600.0
_MOST_DOUBLINGS: Final = 10


class Lease:
    """A subscriber that one worker or association has in hand, so that nobody else tells it of an event meanwhile. Of one thread.

    It ends by itself where whoever has it dies. Who is held up for longer between two events than it lasts has lost it then.
    """

    def __init__(self, database: Database, ae_title: str, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._title = ae_title
        self._until = 0

    def begin(self, *free: ColumnElement[bool], **values: Any) -> bool:
        """Have it in hand from now on; False where the subscriber is not as it must be."""
        until = round((self._clock() + LEASE_SECONDS) * 1e6)
        begun = self._put(*free, not_before=until, **values)
        self._until = until if begun else self._until
        return begun

    def keep(self) -> bool:
        """Whether it still is in hand: to be asked before each event."""
        if self._until / 1e6 - self._clock() > LEASE_SECONDS - _KEEP_SECONDS:
            return True
        return self.begin(self._ours())

    def release(self) -> None:
        """Others may have it, unless they do already."""
        self._put(self._ours(), not_before=0, failures=0)

    def failed(self) -> float:
        """It could not be told; for how many seconds nobody calls it again."""
        table = workitem_subscriber
        with self._database.read() as connection:
            found = connection.execute(select(table.c.failures).where(table.c.ae_title == self._title)).scalar_one_or_none()
        failures = abs(int(found or 0))
        pause: float = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures, _MOST_DOUBLINGS))
        self._put(self._ours(), failures=failures + 1, not_before=round((self._clock() + pause) * 1e6))
        return pause

    def _ours(self) -> ColumnElement[bool]:
        return workitem_subscriber.c.not_before == self._until

    def _put(self, *condition: ColumnElement[bool], **values: Any) -> bool:
        changed = update(workitem_subscriber).where(workitem_subscriber.c.ae_title == self._title, *condition)
        with self._database.write() as connection:
            return connection.execute(changed.values(**values)).rowcount > 0


class WorkitemReports:
    """The subscribers over DIMSE of one index. Thread-safe. `clock` gives seconds since 1970."""

    def __init__(self, index: Index, *, clock: Callable[[], float] = time.time) -> None:
        self._database = index.database
        self._clock = clock

    def due(self) -> list[str]:
        """AE titles for which events wait, and that nobody has in hand."""
        table, event = workitem_subscriber, workitem_event
        waiting = exists().where(event.c.ae_title == table.c.ae_title, event.c.sequence > table.c.delivered)
        query = select(table.c.ae_title).where(table.c.dimse, table.c.not_before <= self._now(), waiting)
        with self._database.read() as connection:
            return list(connection.scalars(query.order_by(table.c.not_before, table.c.ae_title)))

    def take(self, ae_title: str) -> Lease | None:
        """Have a subscriber in hand that is to be called; None when another worker was faster."""
        table, now = workitem_subscriber, self._now()
        # Failures of who is in hand are below zero: its pause is over, and who watches may not have it.
        return self._lease(ae_title, table.c.not_before <= now, failures=-func.abs(table.c.failures))

    def claim(self, ae_title: str) -> Lease | None:
        """The same for who tells it on an association of the subscriber's own: a pause after failures does not count, for it is
        there now. None where nobody of that title has subscribed over DIMSE, or another has it in hand."""
        table, now = workitem_subscriber, self._now()
        free = table.c.dimse, or_(table.c.not_before <= now, table.c.failures > 0)
        with self._database.read() as connection:
            if connection.execute(select(table.c.ae_title).where(table.c.ae_title == ae_title, *free)).first() is None:
                return None
        return self._lease(ae_title, *free, failures=0)

    def _lease(self, ae_title: str, *free: ColumnElement[bool], failures: Any) -> Lease | None:
        lease = Lease(self._database, ae_title, self._clock)
        return lease if lease.begin(*free, failures=failures) else None

    def _now(self) -> int:
        return round(self._clock() * 1e6)
