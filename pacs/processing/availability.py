"""Nodes are told what has become available, or is no longer (PS3.4 annex R): the periodic work that notices, the job that tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog

from pacs.scu.availability import notification, notify
from storage import availability
from storage.errors import NotFound

if TYPE_CHECKING:
    from pacs.processing import Work

_log = structlog.get_logger(__name__)


def gather(work: Work) -> None:
    """Add the notices that the nodes of the settings are to have."""
    nodes = work.settings.availability_nodes
    while nodes and availability.gather(work.archive.index, nodes):
        pass


def tell(work: Work, payload: Mapping[str, Any]) -> None:
    """Send one notice. Raises NotFound when its node cannot be called, and what keeps it from being taken."""
    title, settings = payload["node"], work.settings
    if title not in settings.availability_nodes:
        return
    destination = work.destination(title)
    if destination is None:
        raise NotFound(f"{title} of PACS_AVAILABILITY_NODES is no node that can be called: pacs ae add {title} HOST PORT, then retry")
    found = availability.held(work.archive.index, payload["study"])
    if not found:
        return
    notify(destination, notification(payload["study"], found, settings.ae_title))
    _log.info("availability.told", study=payload["study"], to=title, instances=len(found))
