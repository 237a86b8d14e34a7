"""Requests for storage commitment over the web (PS3.18 13): verified by a worker, and forgotten long after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import structlog

from storage.commitment_requests import CommitmentRequests, verify_request
from storage.sent_commitments import SentCommitments

if TYPE_CHECKING:
    from pacs.processing import Work

_log = structlog.get_logger(__name__)
# How long the result of a request can be asked for.
RESULT_DAYS: Final = 30.0


def verify(work: Work, payload: Mapping[str, Any]) -> None:
    """Run the job `verify-commitment`. Raises Unavailable."""
    requests = CommitmentRequests(work.archive.index)
    if requests.result(payload["transaction"]) is None:
        checked = verify_request(work.archive, payload["transaction"])
        _log.info("commitment.reported", transaction=payload["transaction"], references=len(checked))


def forget(work: Work) -> None:
    """Forget results that are old, and what others were asked for long ago, some at a time."""
    requests = CommitmentRequests(work.archive.index)
    while SentCommitments(work.archive.index).tidy():
        pass
    while forgotten := requests.tidy(RESULT_DAYS * 86_400):
        _log.info("commitment results forgotten", action="commitment results forgotten", number=forgotten)
