"""What follows a deletion: its record beside the objects, the bytes of what is purged, and purging by policy."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pacs.settings import Settings
from storage import deletion, records
from storage.archive import Archive
from storage.index.kept_objects import KeptObjects
from storage.index.rows import microseconds

if TYPE_CHECKING:
    from pacs.processing import Work

POLICY = "PACS_PURGE_DAYS"


def write_record(work: Work, payload: Mapping[str, Any]) -> None:
    """Run the job `write-record`; `deletion` is the number of the deletion."""
    records.write_deletion(work.archive, int(payload["deletion"]))


def write_hold(work: Work, payload: Mapping[str, Any]) -> None:
    """Run the job `write-hold`, for the hold on `study` in `partition`."""
    records.write_hold(work.archive, payload["partition"], payload["study"])


def write_versions(work: Work, payload: Mapping[str, Any]) -> None:
    """Run the job `write-versions`, for the `instance` of this UID in `partition`."""
    records.write_versions(work.archive, payload["partition"], payload["instance"])


def remove_objects(work: Work, payload: Mapping[str, Any]) -> None:
    """Run the job `remove-objects`: those of `keys`, then the record of the `deletion` that they belonged to, if any."""
    deletion.remove_objects(work.archive, payload["keys"])
    if "deletion" in payload:
        records.write_deletion(work.archive, int(payload["deletion"]))


def purge(archive: Archive, settings: Settings) -> None:
    """Remove for good what the policy says, and go on where a purge was cut short."""
    days = settings.purge_days
    before = None if days is None else datetime.now(UTC) - timedelta(days=days)
    deletion.purge_due(archive, before, POLICY)
    if before is not None:
        KeptObjects(archive.index).purge_rejected(microseconds(before))
