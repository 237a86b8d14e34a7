"""What follows a rejection note: the images that it names are deleted, where its sender may reject and the setting says so."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog

from storage.index.ae import Right, ae_title_of, rights_of
from storage.jobs import JobQueue
from storage.rejection_notes import HIDE_KIND, HIDE_SECONDS, act_upon
from storage.rejection_notes import hide as hide_note
from storage.types import Job, Uids

if TYPE_CHECKING:
    from pacs.processing import Work

_log = structlog.get_logger(__name__)


def act(work: Work, payload: Mapping[str, Any]) -> None:
    """Run the job `rejection-note`, for the document of these UIDs."""
    uids, calling = Uids(payload["study"], payload["series"], payload["instance"]), payload["calling_ae"]
    if work.settings.rejection_notes == "keep":
        return
    if payload["source"] == "dimse" and not _may_reject(work, calling):
        _log.info("rejection note", action="kept", note=uids.instance, reason="no right to reject", calling_ae=calling)
        return
    regular_use = work.settings.rejection_notes == "regular-use"
    if act_upon(work.archive, uids, calling or payload["source"], regular_use=regular_use):
        later = datetime.now(UTC) + timedelta(seconds=HIDE_SECONDS)
        JobQueue(work.archive.index).enqueue([Job(HIDE_KIND, payload)], not_before=later)


def hide(work: Work, payload: Mapping[str, Any]) -> None:
    """Run the job `hide-rejection-note`, for a note that was applied."""
    uids = Uids(payload["study"], payload["series"], payload["instance"])
    hide_note(work.archive, uids, payload["calling_ae"] or payload["source"])


def _may_reject(work: Work, calling: str) -> bool:
    """Whether a caller may; one that is no node may what the settings say, where such callers are accepted."""
    node, settings = ae_title_of(work.archive.index, calling), work.settings
    if node is not None:
        return Right.REJECT in node.rights
    return settings.unknown_callers_now == "accept" and Right.REJECT in rights_of(settings.unknown_caller_rights_now)
