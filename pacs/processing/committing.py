"""Storage commitment for what a transfer has sent: asked for, waited for wherever the report comes, and asked for again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pacs.scp.transport import Ended
from pacs.scu.associating import Destination
from pacs.scu.committing import ask
from pacs.worker import Postponed
from storage.commitment import Reference
from storage.errors import LightboxError, Refused
from storage.sent_commitments import Asked, SentCommitments
from storage.transfer_records import Transfer
from storage.transfers import Transfers

if TYPE_CHECKING:
    from pacs.processing import Work

# Instances in one request.
_MOST_ASKED: Final = 200
# How long the association that asked is kept for its report; who has not reported by then calls us.
SAME_ASSOCIATION_SECONDS: Final = 5.0
# How long a report may take before it is asked for again, and how often it is asked for.
REPORT_SECONDS: Final = 1800.0
_TRIES: Final = 3
# A report wakes its transfer; where just then nobody slept, it is looked for after so long.
_LOOK_SECONDS: Final = 60.0


class NotSent(LightboxError):
    """Some instances were not sent: another try may help."""


class NotReported(Refused):
    """A node has taken our requests for storage commitment, and never reported."""


def commit(work: Work, shown: Transfer, destination: Destination) -> str:
    """Ask for what was sent and not asked for yet, and see what has come of all of it; a remark when all is committed to.

    Raises NotSent for what is not committed to, which is sent again by the next try; Postponed while a report is to come;
    NotReported when none comes.
    """
    commitments, transfers = SentCommitments(work.archive.index), Transfers(work.archive.index)
    known = {key for one in commitments.of(shown.number) for key in one.keys}
    found = transfers.located([key for key in transfers.sent(shown.number) if key not in known])
    sent = [(Reference(one.sop_class_uid, one.uids.instance), key) for key, one in found]
    for first in range(0, len(sent), _MOST_ASKED):
        _ask(commitments, shown, destination, sent[first : first + _MOST_ASKED], tries=1)
    _ask_again(commitments, shown, destination)
    asked = commitments.of(shown.number)
    _expect_all(transfers, commitments, shown, asked)
    pending = [one for one in asked if one.committed is None]
    if pending:
        until = min(one.at for one in pending) + REPORT_SECONDS
        number = sum(len(one.references) for one in pending)
        text = f"sent; waits for {shown.node} to report on storage commitment of {number} instances, until {_clock(until)} UTC"
        transfers.failed(shown.number, text)
        raise Postponed(min(max(0.0, until - time.time()), _LOOK_SECONDS))
    commitments.forget([one.uid for one in asked])
    return f"sent; {shown.node} commits to {sum(len(one.references) for one in asked)} instances"


def _ask(
    commitments: SentCommitments, shown: Transfer, destination: Destination, part: Sequence[tuple[Reference, int]], *, tries: int
) -> None:
    uid = commitments.begin(shown.node, part, transfer=shown.number, tries=tries)
    try:
        report = ask(destination, (reference for reference, _ in part), uid, report_seconds=SAME_ASSOCIATION_SECONDS)
    except (Ended, LightboxError) as error:
        # What was sent is known by the request that did not reach the node: the next try asks anew.
        commitments.renew([uid])
        raise NotSent(f"everything was sent, but {shown.node} did not answer for storage commitment: {error}") from error
    if report is not None:
        commitments.report(uid, report.committed, report.failed)


def _ask_again(commitments: SentCommitments, shown: Transfer, destination: Destination) -> None:
    """What was not reported in time, as a transaction of its own."""
    late = [one for one in commitments.of(shown.number) if one.committed is None and time.time() - one.at >= REPORT_SECONDS]
    if any(one.tries >= _TRIES for one in late):
        commitments.renew([one.uid for one in late])
        raise NotReported(
            f"everything was sent, and {shown.node} was asked {_TRIES} times for storage commitment and never reported:"
            " does it know this archive's AE title, address and port? Then try again"
        )
    for one in late:
        commitments.forget([one.uid])
        _ask(commitments, shown, destination, list(zip(one.references, one.keys, strict=True)), tries=one.tries + 1)


def _expect_all(transfers: Transfers, commitments: SentCommitments, shown: Transfer, asked: Sequence[Asked]) -> None:
    refused = [one for one in asked if one.committed is not None and one.missing]
    missing = [key for one in refused for key in one.missing]
    if not missing:
        return
    transfers.again_waiting(shown.number, missing)
    commitments.forget([one.uid for one in refused])
    total = sum(len(one.references) for one in asked)
    raise NotSent(f"{shown.node} does not commit to {len(missing)} of {total} instances: ask its administrator why")


def _clock(at: float) -> str:
    return time.strftime("%H:%M", time.gmtime(at))
