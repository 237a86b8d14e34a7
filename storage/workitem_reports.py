"""Who is to be told of workitems on associations of ours, and when: one worker at a time for each subscriber, in order.

The events wait in the store (`workitems`). A subscriber that cannot be reached is tried again with growing pauses, until its
events are old enough to be removed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from sqlalchemy import exists, or_, select, update

from storage.index import Index
from storage.index.tables import workitem_event, workitem_subscriber

# How long a worker has a subscriber to itself, unless it says that it still goes on.
LEASE_SECONDS: Final = 120.0
_FIRST_PAUSE: Final = 5.0
_LONGEST_PAUSE: Final = 600.0
_MOST_DOUBLINGS: Final = 10


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

    def take(self, ae_title: str) -> bool:
        """Have a subscriber in hand; False when another worker was faster."""
        table, now = workitem_subscriber, self._now()
        free = update(table).where(table.c.ae_title == ae_title, table.c.not_before <= now)
        with self._database.write() as connection:
            return connection.execute(free.values(not_before=now + round(LEASE_SECONDS * 1e6))).rowcount > 0

    def claim(self, ae_title: str, held: int = 0) -> int:
        """The same for who tells it on an association of the subscriber's own, until `release`: a pause after failures does not
        count, for it is there now. Gives what is held from now on; 0 where nobody of that title has subscribed over DIMSE, or
        another has it in hand.

        `held` is what the caller has, and wants to keep: to be called again well within LEASE_SECONDS.
        """
        table, now = workitem_subscriber, self._now()
        # Who was called in vain has failures, and who is told here none: an attempt to call it may still be going on, and
        # then it may be told of an event twice, which is better than late.
        ours = table.c.not_before == held if held else or_(table.c.not_before <= now, table.c.failures > 0)
        free = table.c.ae_title == ae_title, table.c.dimse, ours
        with self._database.read() as connection:
            if connection.execute(select(table.c.ae_title).where(*free)).first() is None:
                return 0
        until = now + round(LEASE_SECONDS * 1e6)
        with self._database.write() as connection:
            taken = connection.execute(update(table).where(*free).values(not_before=until, failures=0)).rowcount
        return until if taken else 0

    def release(self, ae_title: str, held: int) -> None:
        """Others may have it, unless they do already."""
        table = workitem_subscriber
        with self._database.write() as connection:
            same = table.c.ae_title == ae_title, table.c.not_before == held
            connection.execute(update(table).where(*same).values(not_before=0))

    def keep(self, ae_title: str) -> None:
        """It still is in hand: the lease begins anew."""
        self._set(ae_title, not_before=self._now() + round(LEASE_SECONDS * 1e6))

    def told(self, ae_title: str) -> None:
        """Everything that waited was taken."""
        self._set(ae_title, not_before=0, failures=0)

    def failed(self, ae_title: str) -> float:
        """It could not be told; for how many seconds nobody tries again."""
        table = workitem_subscriber
        with self._database.write() as connection:
            one = connection.execute(select(table.c.failures).where(table.c.ae_title == ae_title)).scalar_one_or_none() or 0
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(one, _MOST_DOUBLINGS))
            values = {"failures": one + 1, "not_before": self._now() + round(pause * 1e6)}
            connection.execute(update(table).where(table.c.ae_title == ae_title).values(values))
        return pause

    def _set(self, ae_title: str, **values: int) -> None:
        with self._database.write() as connection:
            connection.execute(
                update(workitem_subscriber).where(workitem_subscriber.c.ae_title == ae_title).values(values)
            )

    def _now(self) -> int:
        return round(self._clock() * 1e6)
