"""Indexing an additional searchable attribute: for what was stored before it was added, and for what is left of a study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from storage.index import values_anew
from storage.index.backfill import index_attribute

if TYPE_CHECKING:
    from pacs.processing import Work


def index(work: Work, payload: Mapping[str, Any]) -> None:
    """Run the job `index-attribute`; `attribute` is the key of the attribute's row."""
    index_attribute(work.archive.index, int(payload["attribute"]))


def write_values(work: Work, payload: Mapping[str, Any]) -> None:
    """Run the job `write-values`; `study` is the key of the study's row."""
    values_anew.write_values(work.archive.index, int(payload["study"]))
