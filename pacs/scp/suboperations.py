"""What C-GET and C-MOVE have in common: the sub-operations' counts, the final status, the instances that failed (PS3.4 C.4.2.3, C.4.3.3)."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, TypeAlias

import structlog

from pacs.dimse import Status
from pacs.scp import non_patient
from pacs.scp.association import Association, Message, NoDataSet
from pacs.scp.identifiers import Encoder, Identifier, decode
from pacs.scp.provider import Provider
from pacs.scp.query import WrongLevel
from pacs.scp.retrieval import QUERY_LEVEL, MissingKey, understand
from pacs.scp.selection import Selection, select
from pacs.scp.sop_classes import SOP_CLASSES
from pacs.scp.transport import Ended
from pacs.scu.storing import Outcome, Result
from storage.attributes import tag_of
from storage.errors import LightboxError, LimitExceeded, Unavailable, statuses
from storage.types import Located

_log = structlog.get_logger(__name__)

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


class Refusal(LightboxError):
    """A retrieve that is answered with a status of its own."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


# Sends one instance; the second is what will be sent after it, which may be read meanwhile.
Send: TypeAlias = Callable[[Located, Located | None], Outcome]


class Retrieve(ABC):
    """One C-GET or C-MOVE from its identifier to its last response; `counts` tell how far it came."""

    # As logs and figures call it.
    operation: str

    def __init__(self, association: Association, message: Message, provider: Provider) -> None:
        self.association = association
        self.message = message
        self.provider = provider
        self.counts = Counts(0)

    @abstractmethod
    def sending(self, kinds: Iterable[tuple[str, str]]) -> AbstractContextManager[Send]:
        """What sends one instance, for as long as instances of `kinds` go out. May raise Refusal."""

    @abstractmethod
    def progress(self) -> None:
        """A sub-operation is over: tell the peer."""

    def run(self) -> None:
        """Send the instances and every response."""
        begun = time.perf_counter()
        status = self._answered()
        seconds = time.perf_counter() - begun
        self.provider.observer.retrieved(self.operation, status, seconds, self.counts.completed)

    def _answered(self) -> int:
        try:
            selection = self._selection()
            kinds = selection.kinds()
            self.counts.total = kinds.total()
            sending = self.sending(kinds)
        except Ended:
            raise
        except Exception as error:  # noqa: BLE001
            return self._refused(error)
        with sending as send:
            cancelled = self._send_all(selection, send)
        return self._respond_finally(cancelled=cancelled)

    def _selection(self) -> Selection:
        limit = self.provider.settings.max_identifier_bytes
        identifier = identifier_of(self.association, self.message, limit)
        model, index = self.message.context.abstract_syntax, self.provider.archive.index
        about = SOP_CLASSES[model].about
        if about:
            return non_patient.select(identifier.dataset, about, index)
        return select(index, understand(identifier.dataset, model))

    def _send_all(self, selection: Selection, send: Send) -> bool:
        """Whether it was cancelled."""
        association, counts = self.association, self.counts
        for one, following in _with_following(selection.located()):
            if association.cancelled(self.message):
                return True
            if self.provider.stopping.over:
                raise association.aborted("stopped", "the server is stopping")
            counts.add(one.uids.instance, send(one, following))
            self.progress()
        return association.cancelled(self.message)

    def _respond_finally(self, *, cancelled: bool) -> int:
        """Send the last response, with the instances that failed; gives its status."""
        counts = self.counts
        status = counts.status(cancelled=cancelled)
        more = counts.elements(remaining=cancelled)
        data = None
        if counts.failed:
            self._tell("retrieve.incomplete", status, counts.reason)
            more["ErrorComment"] = comment_of(counts.reason)
            failed = {FAILED_INSTANCES: {"vr": "UI", "Value": counts.failures}}
            data = Encoder(self.message.context.transfer_syntax).encode(failed)
        self.association.respond(self.message, status, data=data, **more)
        return status

    def _refused(self, error: Exception) -> int:
        """Send the response to a retrieve of which nothing came; gives its status."""
        status, more = refusal(error)
        if isinstance(error, LightboxError):
            self._tell("retrieve.refused", status, str(error))
        else:
            _log.exception("retrieve.failed", operation=self.operation, address=self.association.peer.address)
        self.association.respond(self.message, status, **more)
        return status

    def _tell(self, event: str, status: int, reason: str) -> None:
        peer, counts = self.association.peer, self.counts
        _log.warning(
            event,
            operation=self.operation,
            status=f"{status:04X}",
            reason=reason,
            failed=counts.failed,
            completed=counts.completed,
            destination=str(self.message.command.get("MoveDestination", "")),
            calling_ae=peer.calling_ae,
            address=peer.address,
        )


def _with_following(instances: Iterable[Located]) -> Iterator[tuple[Located, Located | None]]:
    before: Located | None = None
    for one in instances:
        if before is not None:
            yield before, one
        before = one
    if before is not None:
        yield before, None


def refusal(error: BaseException) -> tuple[int, dict[str, Any]]:
    """Status and further elements for what is raised before anything is sent."""
    if not isinstance(error, LightboxError):
        return statuses(error).query, {"ErrorComment": "an error of the archive; its log says more"}
    status = statuses(error).query
    if isinstance(error, Refusal):
        status = error.status
    elif isinstance(error, Unavailable):
        status = RetrieveStatus.CANNOT_COUNT
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
    """The identifier of a query or retrieve. Raises NoDataSet, LimitExceeded, Truncated."""
    if not message.data_pending:
        raise NoDataSet("the command came without an identifier; send one")
    data = association.read_data(message, limit)
    if data is None:
        raise LimitExceeded(f"the identifier is larger than {limit} bytes; ask in several requests")
    return decode(data, message.context.transfer_syntax, assumed=association.assumed)
