"""Workitems that ended long ago are removed, and events that nobody came for (PS3.4 CC.2.1.3: not while they are locked)."""

from __future__ import annotations

from typing import Final

import structlog

from pacs.settings import Settings
from storage.archive import Archive
from storage.workitems import Workitems

_log = structlog.get_logger(__name__)
_DAY: Final = 86_400.0
# How long an event waits for its subscriber to open its channel.
_EVENT_DAYS: Final = 7.0


def remove(archive: Archive, settings: Settings) -> None:
    """Remove what is due, some at a time."""
    items = Workitems(archive.index)
    while removed := items.tidy(ended_seconds=settings.workitem_days * _DAY, event_seconds=_EVENT_DAYS * _DAY):
        _log.info("workitems removed", action="workitems removed", number=removed)
