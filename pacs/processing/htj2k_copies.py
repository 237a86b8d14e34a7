"""The job that makes HTJ2K copies of images that have come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from storage import copies
from storage.types import Scope

if TYPE_CHECKING:
    from pacs.processing import Work


def make(work: Work, payload: Mapping[str, Any]) -> None:
    """Run the job `htj2k-copy` for one instance; one that is gone by now needs none."""
    copies.make(work.archive, Scope(payload["study"], payload["series"], payload["instance"]))
