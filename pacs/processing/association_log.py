"""The log of associations keeps so many days and rows, and who wants to connect is forgotten after a while."""

from __future__ import annotations

from pacs.settings import Settings
from storage.archive import Archive
from storage.index import associations, callers

_DAY = 86_400.0


def remove(archive: Archive, settings: Settings) -> None:
    """Remove what is due, a part at a time."""
    while associations.tidy(archive.index, seconds=settings.association_log_days * _DAY):
        pass
    callers.tidy(archive.index)
