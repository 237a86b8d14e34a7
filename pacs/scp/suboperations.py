"""What C-GET and C-MOVE have in common: the sub-operations' counts, the final status, the instances that failed (PS3.4 C.4.2.3, C.4.3.3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from pacs.dimse import Status
from pacs.scp.association import Association, Message
from pacs.scp.identifiers import Encoder, Identifier, decode
from pacs.scp.query import WrongLevel
from pacs.scp.retrieval import QUERY_LEVEL, MissingKey
from pacs.scu.storing import Outcome, Result
from storage.attributes import tag_of
from storage.errors import BadRequest, LightboxError, LimitExceeded, Unavailable, statuses

FAILED_INSTANCES: Final = tag_of("FailedSOPInstanceUIDList")
# Instances that are named as failed: as many as an element of Explicit VR holds whatever their UIDs. The log has all.
MOST_NAMED: Final = 900


class RetrieveStatus(IntEnum):
    """(0000,0900) of C-MOVE and C-GET (PS3.4 tables C.4-2 and C.4-3) beside those of every service."""

    CANNOT_COUNT = 0xA701
    CANNOT_SEND = 0xA702
    UNKNOWN_DESTINATION = 0xA801
    SOME_FAILED = 0xB000


@dataclass(slots=True)
class Counts:
    """How far a retrieve has come."""

    total: int
    completed: int = 0
    failed: int = 0
    warning: int = 0
    failures: list[str] = field(default_factory=list)
    reason: str = ""

    def add(self, instance: str, outcome: Outcome) -> None:
        """One sub-operation is over."""
        if outcome.result is Result.COMPLETED:
            self.completed += 1
        elif outcome.result is Result.WARNING:
            self.warning += 1
        else:
            self.failed += 1
            self.reason = self.reason or outcome.reason
            if len(self.failures) < MOST_NAMED:
                self.failures.append(instance)

    @property
    def remaining(self) -> int:
        return max(0, self.total - self.completed - self.failed - self.warning)

    def elements(self, *, remaining: bool) -> dict[str, Any]:
        """The numbers as a response has them; 65535 is the most that it can say. `remaining`: pending and cancelled ones."""
        numbers = {
            "NumberOfCompletedSuboperations": self.completed,
            "NumberOfFailedSuboperations": self.failed,
            "NumberOfWarningSuboperations": self.warning,
        }
        if remaining:
            numbers["NumberOfRemainingSuboperations"] = self.remaining
        return {keyword: min(number, 0xFFFF) for keyword, number in numbers.items()}

    def status(self, *, cancelled: bool) -> int:
        """The final status: warning when some were sent and some failed, failure when none was sent."""
        if cancelled:
            return Status.CANCEL
        if self.failed and not self.completed and not self.warning:
            return RetrieveStatus.CANNOT_SEND
        return RetrieveStatus.SOME_FAILED if self.failed or self.warning else Status.SUCCESS


def respond_finally(association: Association, message: Message, counts: Counts, *, cancelled: bool) -> int:
    """Send the last response, with the instances that failed; gives its status."""
    status = counts.status(cancelled=cancelled)
    more: dict[str, Any] = dict(counts.elements(remaining=cancelled))
    data = None
    if counts.failed:
        more["ErrorComment"] = comment_of(counts.reason)
        failed = {FAILED_INSTANCES: {"vr": "UI", "Value": counts.failures}}
        data = Encoder(message.context.transfer_syntax).encode(failed)
    association.respond(message, status, data=data, **more)
    return status


def respond_refused(association: Association, message: Message, error: BaseException) -> int:
    """Send the response to a retrieve of which nothing came; gives its status."""
    status, more = refusal(error)
    association.respond(message, status, **more)
    return status


def refusal(error: BaseException) -> tuple[int, dict[str, Any]]:
    """Status and further elements for what is raised before anything is sent."""
    if not isinstance(error, LightboxError):
        return statuses(error).query, {"ErrorComment": "an error of the archive; its log says more"}
    status = int(RetrieveStatus.CANNOT_COUNT) if isinstance(error, Unavailable) else statuses(error).query
    more: dict[str, Any] = {"ErrorComment": comment_of(str(error))}
    if isinstance(error, WrongLevel):
        more["OffendingElement"] = (int(QUERY_LEVEL, 16),)
    elif isinstance(error, MissingKey):
        more["OffendingElement"] = (int(error.tag, 16),)
    return status, more


def comment_of(text: str) -> str:
    """An Error Comment (0000,0902): LO has no backslash."""
    return text.replace("\\", "/")


def identifier_of(association: Association, message: Message, limit: int) -> Identifier:
    """The identifier of a query or retrieve. Raises BadRequest where there is none, LimitExceeded, Truncated."""
    if not message.data_pending:
        raise BadRequest("the command came without an identifier; send one")
    data = association.read_data(message, limit)
    if data is None:
        raise LimitExceeded(f"the identifier is larger than {limit} bytes; ask in several requests")
    return decode(data, message.context.transfer_syntax)
