"""Indexing an additional searchable attribute for what was stored before it was added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from storage.index.backfill import index_attribute

if TYPE_CHECKING:
    from pacs.processing import Work


def index(work: Work, payload: Mapping[str, Any]) -> None:
    """Run the job `index-attribute`; `attribute` is the key of the attribute's row."""
    index_attribute(work.archive.index, int(payload["attribute"]))
