"""Transfers that were over long ago are forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from storage.transfers import Transfers

if TYPE_CHECKING:
    from pacs.processing import Work

_log = structlog.get_logger(__name__)
_DAY: Final = 86_400.0


def forget(work: Work) -> None:
    """Remove what is due, some at a time."""
    transfers = Transfers(work.archive.index)
    while forgotten := transfers.tidy(seconds=work.settings.transfer_days * _DAY):
        _log.info("transfers forgotten", action="transfers forgotten", number=forgotten)
