"""The job that fetches a study, or a part of it, from another node, or has it sent by that to a third."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import structlog

from pacs.processing.sending import open_transfer
from pacs.scp.transport import Ended
from pacs.scu import querying
from pacs.scu.associating import NotReached
from pacs.scu.querying import Progress
from storage.attributes import tag_of
from storage.errors import LightboxError, NotFound
from storage.transfer_records import Order, Transfer
from storage.transfers import Transfers
from storage.types import Dataset, Level, Scope

if TYPE_CHECKING:
    from pacs.processing import Work

_log = structlog.get_logger(__name__)
_NOTE_SECONDS: Final = 1.0
# Between two answers of a node that is getting something out of its own archive.
_ANSWER_SECONDS: Final = 300.0


class NotFetched(LightboxError):
    """Not everything came: another try may help."""


class _Cancelled(Exception):
    """Nobody wants it any more."""


def retrieve(work: Work, payload: Mapping[str, Any]) -> None:
    """Run the job `retrieve-instances`. Raises Postponed, NotFound when the node cannot be called, and what keeps it from coming.

    One at a time from each node: it has others to serve.
    """
    transfers = Transfers(work.archive.index)
    shown = open_transfer(transfers, int(payload["transfer"]))
    if shown is None:
        return
    with work.nodes.calling(shown.node, most=1):
        try:
            transfers.begun(shown.number)
            ended = _fetched(work, transfers, shown)
            _check(shown, ended)
        except _Cancelled:
            return
        except Ended as error:
            failure = NotReached(f"{shown.node} ended the association before everything had come: {error}")
            transfers.failed(shown.number, str(failure))
            raise failure from error
        except querying.Failed as error:
            transfers.failed(shown.number, str(error))
            raise NotFetched(error.without_comment) from error
        except LightboxError as error:
            if isinstance(error, NotReached):
                work.nodes.away(shown.node)
            transfers.failed(shown.number, str(error))
            raise
    then = Order(shown.then_to, shown.scope, rule=shown.rule, asked_by=shown.asked_by, sending=shown.sending) if shown.then_to else None
    transfers.finish(shown.number, then=then)
    _log.info("transfer.fetched", transfer=shown.number, source=shown.node, instances=ended.completed)


def _fetched(work: Work, transfers: Transfers, shown: Transfer) -> Progress:
    destination = work.destination(shown.node, answer_seconds=_ANSWER_SECONDS)
    if destination is None:
        raise NotFound(f"{shown.node} is no node that can be called: pacs ae add {shown.node} HOST PORT, then retry")
    noted = 0.0

    def watch(now: Progress) -> None:
        nonlocal noted
        if now.remaining and time.monotonic() - noted < _NOTE_SECONDS:
            return
        noted = time.monotonic()
        total = now.completed + now.warning + now.failed + now.remaining
        if not transfers.progress(shown.number, total=total, completed=now.completed, warned=now.warning, failed=now.failed):
            raise _Cancelled

    level, keys = (Level.SERIES if shown.scope.series else Level.STUDY), keys_of(shown.scope)
    if shown.target:
        return querying.move(destination, level, keys, shown.target, watch)
    return querying.get(destination, level, keys, work.archive, watch)


def _check(shown: Transfer, ended: Progress) -> None:
    if ended.failed:
        number = f"{ended.failed} of {ended.failed + ended.completed + ended.warning} instances"
        if shown.target:
            raise NotFetched(f"{shown.node} could not send {number} to {shown.target}: its log says why")
        raise NotFetched(f"{number} did not come, or were refused here: the log says why")
    if not ended.completed and not ended.warning:
        raise NotFetched(f"{shown.node} has nothing of that study, or does not show it to us")


def keys_of(scope: Scope) -> Dataset:
    """The unique keys of a study or a series (PS3.4 C.4.2.2.1)."""
    keys = {"StudyInstanceUID": scope.study, "SeriesInstanceUID": scope.series}
    return {tag_of(keyword): {"vr": "UI", "Value": [uid]} for keyword, uid in keys.items() if uid}
