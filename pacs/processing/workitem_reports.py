"""The periodic work that tells subscribers over DIMSE of workitems (PS3.4 CC.2.4)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import TYPE_CHECKING

import structlog

from pacs.scu.reporting import report_events
from storage.errors import LightboxError, NotFound
from storage.index.ae import is_callable
from storage.workitem_reports import Lease, WorkitemReports
from storage.workitems import Event, Workitems

if TYPE_CHECKING:
    from pacs.processing import Work

_log = structlog.get_logger(__name__)
# Of a subscriber's events this many are read at a time.
_BATCH = 100
_ANSWER_SECONDS = 15.0


def deliver(work: Work) -> None:
    """Tell everybody who is due; one that cannot be told is tried again later, and holds up nobody for long."""
    reports = WorkitemReports(work.archive.index)
    for title in reports.due():
        # Who cannot be called opens an association of its own for them, and is told there (`pacs.scp.watching`).
        lease = reports.take(title) if is_callable(work.archive.index, title) else None
        if lease is None:
            continue
        try:
            number = _tell(work, title, lease)
        except LightboxError as error:
            pause = lease.failed()
            _log.warning("workitem.not_reported", to=title, reason=str(error), again_in=pause)
        except BaseException:
            lease.failed()
            raise
        else:
            lease.release()
            _log.info("workitem.reported", to=title, events=number)


def _tell(work: Work, title: str, lease: Lease) -> int:
    destination = work.destination(title, answer_seconds=_ANSWER_SECONDS)
    if destination is None:
        raise NotFound(f"{title} is no node that can be called any more")
    workitems, number = Workitems(work.archive.index), 0
    waiting = takewhile(lambda _: lease.keep(), _waiting(workitems, title))
    for event in report_events(destination, waiting):
        workitems.acknowledge(title, event.sequence)
        number += 1
    return number


def _waiting(workitems: Workitems, title: str) -> Iterator[Event]:
    after = workitems.delivered(title)
    while events := workitems.events(title, after, _BATCH):
        yield from events
        after = events[-1].sequence
