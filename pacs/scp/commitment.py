"""Storage commitment as provider (PS3.4 annex J): N-ACTION asks, N-EVENT-REPORT answers, and a job sees to it that it does.

The request is in the job queue before it is answered, so no crash loses it. A small one is verified at once, and the report
goes out on the same association, if the requester has kept it; else a worker verifies and reports on an association of
our own to the requester, which must be a known node. And what other archives report, that we have asked, is taken here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final

import structlog

from pacs.dimse import Status
from pacs.scp.association import Association
from pacs.scp.identifiers import text_values
from pacs.scp.normalized import Answer, Failure, Request
from pacs.scp.provider import Provider
from pacs.scp.sop_classes import COMMITMENT_INSTANCE, UID_GRAMMAR
from pacs.scp.transport import Ended
from pacs.scu.committing import (
    FAILURES_EXIST,
    REFERENCED,
    SOP_CLASS,
    SOP_INSTANCE,
    SUCCESSFUL,
    TRANSACTION,
    report,
    report_in,
    send_report,
)
from storage.archive import Archive
from storage.commitment import AT_ONCE, Reference, verify
from storage.errors import LightboxError
from storage.index.ae import is_callable
from storage.jobs import Claimed, JobQueue
from storage.sent_commitments import SentCommitments
from storage.types import Dataset, Job

_log = structlog.get_logger(__name__)
KIND: Final = "commitment-report"
_REQUEST_STORAGE_COMMITMENT: Final = 1


def ask(request: Request, provider: Provider) -> Answer:
    """N-ACTION Request Storage Commitment (J.3.2). Success means that a report will come, not that anything is committed to."""
    _check(request)
    payload = _payload(request)
    queue = JobQueue(provider.archive.index)
    at_once = len(payload["references"]) <= AT_ONCE or not is_callable(provider.archive.index, request.peer.calling_ae)
    if not at_once:
        queue.enqueue([Job(KIND, payload)])
        return Answer()
    claimed = queue.begin(Job(KIND, payload), f"dimse:{request.peer.address}:{threading.get_ident()}")
    return Answer(then=lambda association: _report_here(association, provider, queue, claimed))


def take(request: Request, provider: Provider) -> Answer:
    """N-EVENT-REPORT of another archive that we have asked: on an association of its own, on which it is the provider (J.3.3)."""
    if request.command.get("EventTypeID") not in (SUCCESSFUL, FAILURES_EXIST):
        raise Failure(Status.NO_SUCH_EVENT_TYPE, "Event Type ID 1 says that all is committed to, 2 that some is not")
    said = report_in(request.dataset)
    if not SentCommitments(provider.archive.index).report(said.transaction, said.committed, said.failed):
        text = "this archive has not asked for storage commitment with that Transaction UID, or it was long ago"
        raise Failure(Status.INVALID_ARGUMENT_VALUE, text)
    _log.info(
        "commitment.taken",
        transaction=said.transaction,
        committed=len(said.committed),
        failed=len(said.failed),
        calling_ae=request.peer.calling_ae,
    )
    return Answer()


def references_in(payload: Mapping[str, Any]) -> Iterator[Reference]:
    """What a job of `KIND` is about."""
    return (Reference(*one) for one in payload["references"])


def outcome(archive: Archive, payload: Mapping[str, Any], retrieve_ae: str) -> tuple[int, Dataset]:
    """Verify, and put it as event type and event information. Raises Unavailable."""
    return report(payload["transaction"], verify(archive, references_in(payload)), retrieve_ae)


def _check(request: Request) -> None:
    if request.instance != COMMITMENT_INSTANCE:
        raise Failure(Status.NO_SUCH_SOP_INSTANCE, f"ask the well-known instance {COMMITMENT_INSTANCE}")
    if request.command.get("ActionTypeID") != _REQUEST_STORAGE_COMMITMENT:
        raise Failure(Status.NO_SUCH_ACTION_TYPE, "Action Type ID 1 requests storage commitment")


def _payload(request: Request) -> dict[str, Any]:
    dataset = request.dataset
    transaction = _uid(dataset, TRANSACTION)
    items = dataset.get(REFERENCED, {}).get("Value") or ()
    references = [[_uid(item, SOP_CLASS), _uid(item, SOP_INSTANCE)] for item in items]
    if not UID_GRAMMAR.fullmatch(transaction) or not references or not all(all(one) for one in references):
        text = "give Transaction UID, and class and instance UID of each item"
        raise Failure(Status.INVALID_ARGUMENT_VALUE, text)
    return {"requester": request.peer.calling_ae, "transaction": transaction, "references": references}


def _uid(dataset: Dataset, tag: str) -> str:
    values = text_values(dataset.get(tag, {}))
    return values[0].strip() if values else ""


def _report_here(association: Association, provider: Provider, queue: JobQueue, claimed: Claimed) -> None:
    """After the response: verify and report on this association; whatever prevents that leaves it to a worker."""
    try:
        event, dataset = outcome(provider.archive, claimed.payload, provider.settings.ae_title)
        if association.is_ending():
            queue.fail(claimed, "the requester ended the association before the report")
            return
        send_report(association, event, dataset)
    except Ended:
        queue.fail(claimed, "the association ended before the report was answered")
        raise
    except LightboxError as error:
        _log.warning("commitment.postponed", reason=str(error), calling_ae=association.peer.calling_ae)
        queue.fail(claimed, str(error))
        return
    queue.done(claimed)
    _log.info(
        "commitment.reported",
        transaction=claimed.payload["transaction"],
        event_type=event,
        references=len(claimed.payload["references"]),
        calling_ae=association.peer.calling_ae,
    )
