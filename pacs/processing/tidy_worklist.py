"""The modality worklist kept tidy: entries whose images are here are completed, those long over or overdue are removed."""

from __future__ import annotations

from typing import Final

import structlog

from pacs.settings import Settings
from storage.archive import Archive
from storage.worklist import Worklist
from storage.worklist_arrivals import complete_arrived
from storage.worklist_orders import Orders

_log = structlog.get_logger(__name__)
# A sender that got no answer repeats its message within hours.
_MESSAGE_DAYS: Final = 14.0


def complete(archive: Archive, settings: Settings) -> None:
    """Complete what no modality will say that it has completed."""
    if settings.worklist_complete_minutes:
        completed = complete_arrived(archive.index, quiet_seconds=settings.worklist_complete_minutes * 60)
        if completed:
            _log.info("worklist entries completed", action="worklist entries completed", number=completed)


def remove(archive: Archive, settings: Settings) -> None:
    """Remove what is due, some at a time, and what is known of old HL7 messages."""
    worklist = Worklist(archive.index)
    while removed := worklist.tidy(days=settings.worklist_days):
        _log.info("worklist entries removed", action="worklist entries removed", number=removed)
    Orders(archive.index).tidy(days=_MESSAGE_DAYS)
