"""What is done after an instance is stored, or without anybody asking: the kinds of job, and the periodic work.

A kind is a module of this package with a function that takes a `Work` and the job's payload. To add one, write the module
and its row in `KINDS`; whoever enqueues it (with an ingest, or by `JobQueue.enqueue`) names it by the row's key. What a
function raises is why the job failed: a `LightboxError` in words that an administrator reads, `Refused` when trying again
would be in vain. A job may be run more than once, so running it twice must do no harm.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from pacs.processing import (
    association_log,
    attributes,
    availability,
    commitment_report,
    commitment_requests,
    deletions,
    ended_workitems,
    htj2k_copies,
    prefetching,
    rejections,
    retrieving,
    sending,
    thumbnails,
    tidy_worklist,
    transfers,
    workitem_reports,
)
from pacs.processing.nodes import Nodes
from pacs.scp import commitment
from pacs.scp.journal import Journal
from pacs.scu.associating import Destination
from pacs.scu.nodes import destination_of
from pacs.settings import Settings
from pacs.worker import Lane, Periodic, Run
from storage import commitment_requests as commitment_jobs
from storage import copies
from storage.archive import Archive
from storage.availability import KIND as NOTIFICATION
from storage.errors import LightboxError
from storage.index.add import WRITE_RECORD, WRITE_VERSIONS
from storage.index.holds import WRITE_HOLD
from storage.index.purging import REMOVE_OBJECTS
from storage.index.searchable import INDEX_ATTRIBUTE
from storage.index.settle import WRITE_VALUES
from storage.jobs import Claimed, JobQueue
from storage.priors import KIND as PREFETCH
from storage.priors import Priors
from storage.rejection_notes import HIDE_KIND as HIDE_NOTE
from storage.rejection_notes import KIND as REJECTION_NOTE
from storage.routing import Router
from storage.thumbnails import KIND as THUMBNAIL
from storage.thumbnails import Arrivals
from storage.transfer_records import JOB_KINDS, RETRIEVE, SEND
from storage.types import Scope


@dataclass(frozen=True)
class Work:
    """What a job has to work with."""

    archive: Archive
    settings: Settings
    # What is told of the associations that jobs ask for.
    journal: Journal | None = None
    nodes: Nodes = field(default_factory=Nodes)
    # Set when the worker is to stop: what takes long goes on at the next start.
    stopping: threading.Event = field(default_factory=threading.Event)
    # Draws and keeps the thumbnail of a series or study; None where nothing is drawn.
    draw_thumbnail: Callable[[Scope], None] | None = None

    @cached_property
    def router(self) -> Router:
        """What notices what is to be sent on; for the one thread that does so."""
        return Router(self.archive.index)

    @cached_property
    def arrivals(self) -> Arrivals:
        """What notices which series have come; for the one thread that does so."""
        return Arrivals(self.archive.index, self.settings.thumbnail_quiet_seconds)

    @cached_property
    def priors(self) -> Priors:
        """What notices for whom earlier studies are to be fetched; for the one thread that does so."""
        return Priors(self.archive.index)

    def destination(self, title: str, *, answer_seconds: float = 60.0) -> Destination | None:
        """The node `title` as it is called now; None when it is not known, or only calls. Raises TlsSettings."""
        return destination_of(
            self.archive.index,
            title,
            calling_ae=self.settings.ae_title,
            credentials=self.settings.tls_credentials,
            answer_seconds=answer_seconds,
            journal=self.journal,
        )


# Kind of job -> what runs it.
KINDS: Mapping[str, Callable[[Work, Mapping[str, Any]], None]] = {
    commitment.KIND: commitment_report.run,
    commitment_jobs.KIND: commitment_requests.verify,
    INDEX_ATTRIBUTE: attributes.index,
    NOTIFICATION: availability.tell,
    WRITE_VALUES: attributes.write_values,
    JOB_KINDS[SEND]: sending.send,
    JOB_KINDS[RETRIEVE]: retrieving.retrieve,
    PREFETCH: prefetching.fetch,
    REJECTION_NOTE: rejections.act,
    HIDE_NOTE: rejections.hide,
    copies.KIND: htj2k_copies.make,
    THUMBNAIL: thumbnails.make,
    WRITE_RECORD: deletions.write_record,
    WRITE_HOLD: deletions.write_hold,
    WRITE_VERSIONS: deletions.write_versions,
    REMOVE_OBJECTS: deletions.remove_objects,
}
# (name, seconds between two runs, what runs); each worker process does them.
PERIODIC: tuple[tuple[str, float, Callable[[Work], None]], ...] = (
    ("ended workitems", 600.0, lambda work: ended_workitems.remove(work.archive, work.settings)),
    ("availability", 2.0, availability.gather),
    ("workitem reports", 0.5, workitem_reports.deliver),
    ("commitment results", 3600.0, lambda work: commitment_requests.forget(work)),
    ("arrived worklist entries", 60.0, lambda work: tidy_worklist.complete(work.archive, work.settings)),
    ("old worklist entries", 600.0, lambda work: tidy_worklist.remove(work.archive, work.settings)),
    ("purge", 600.0, lambda work: deletions.purge(work.archive, work.settings)),
    ("routing", 1.0, sending.gather),
    ("prefetch", 2.0, prefetching.gather),
    ("thumbnails", 2.0, thumbnails.gather),
    ("old transfers", 600.0, lambda work: transfers.forget(work)),
    ("association log", 60.0, lambda work: association_log.remove(work.archive, work.settings)),
)

# What waits for other nodes, or takes long: threads, and seconds before the second try and the third.
LANES: tuple[Lane, ...] = (
    Lane((JOB_KINDS[SEND],), threads=4, waits=(30.0, 300.0)),
    Lane((JOB_KINDS[RETRIEVE], PREFETCH), threads=2, waits=(30.0, 300.0)),
    Lane((copies.KIND,), threads=1, waits=(30.0, 300.0)),
    Lane((THUMBNAIL,), threads=1, waits=(30.0, 300.0), niceness=10),
)

# What touches nobody but the archive itself.
_QUICK = (WRITE_RECORD, WRITE_HOLD, WRITE_VERSIONS, WRITE_VALUES, REMOVE_OBJECTS)


def kinds(work: Work) -> dict[str, Run]:
    """The kinds as the worker runs them."""

    def bound(function: Callable[[Work, Mapping[str, Any]], None]) -> Run:
        def run(job: Claimed) -> None:
            function(work, job.payload)

        return run

    return {name: bound(function) for name, function in KINDS.items()}


def periodic(work: Work) -> tuple[Periodic, ...]:
    """The periodic work as the worker runs it."""
    return tuple(Periodic(name, seconds, partial(function, work)) for name, seconds, function in PERIODIC)


def work_off(work: Work) -> None:
    """Do what is due, here and now, for a command whose archive may have no worker running. Raises what a job raises."""
    run, queue = kinds(work), JobQueue(work.archive.index)
    while claimed := queue.claim(f"command {os.getpid()}", kinds=_QUICK, limit=10):
        for job in claimed:
            try:
                run[job.kind](job)
            except Exception as error:
                queue.fail(job, str(error) if isinstance(error, LightboxError) else type(error).__name__)
                raise
            queue.done(job)
