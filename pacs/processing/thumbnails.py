"""The job that draws the thumbnails of a series that has come, and the periodic work that notices when nothing more of it comes."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from storage.errors import NotFound
from storage.jobs import JobQueue
from storage.thumbnails import KIND
from storage.types import Job, Scope

if TYPE_CHECKING:
    from pacs.processing import Work


def gather(work: Work) -> None:
    """Have drawn what has come to an end."""
    if work.settings.thumbnails:
        quiet = work.arrivals.quiet()
        JobQueue(work.archive.index).enqueue([Job(KIND, {"study": one.study, "series": one.series}) for one in quiet])


def make(work: Work, payload: Mapping[str, Any]) -> None:
    """Run the job `thumbnail` for one series, and the study that it belongs to; what has gone by now needs none."""
    if work.draw_thumbnail is None:
        return
    for scope in (Scope(payload["study"], payload["series"]), Scope(payload["study"])):
        with contextlib.suppress(NotFound):
            work.draw_thumbnail(scope)
