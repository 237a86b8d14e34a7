"""The job that answers a request for storage commitment on an association of our own (PS3.4 J.3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog

from pacs.scp.commitment import outcome
from pacs.scu.committing import report_to
from storage.errors import NotFound

if TYPE_CHECKING:
    from pacs.processing import Work

_log = structlog.get_logger(__name__)


def run(work: Work, payload: Mapping[str, Any]) -> None:
    """Verify now, and report to the requester. Raises NotFound when it is no known node, and what keeps it from being reached."""
    title = payload["requester"]
    destination = work.destination(title)
    if destination is None:
        raise NotFound(f"a report of storage commitment for {title} cannot be sent: pacs ae add {title} HOST PORT, then retry")
    event, dataset = outcome(work.archive, payload, work.settings.ae_title)
    report_to(destination, event, dataset)
    _log.info(
        "commitment.reported",
        transaction=payload["transaction"],
        event_type=event,
        references=len(payload["references"]),
        to=title,
    )
