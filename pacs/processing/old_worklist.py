"""Entries of the modality worklist that are long over, or long overdue, are removed; so is what is known of old HL7 messages."""

from __future__ import annotations

from typing import Final

import structlog

from pacs.settings import Settings
from storage.archive import Archive
from storage.worklist import Worklist
from storage.worklist_orders import Orders

_log = structlog.get_logger(__name__)
# A sender that got no answer repeats its message within hours.
_MESSAGE_DAYS: Final = 14.0


def remove(archive: Archive, settings: Settings) -> None:
    """Remove what is due, some at a time."""
    worklist = Worklist(archive.index)
    while removed := worklist.tidy(days=settings.worklist_days):
        _log.info("worklist entries removed", action="worklist entries removed", number=removed)
    Orders(archive.index).tidy(days=_MESSAGE_DAYS)
