"""The job that sends a transfer's instances to a node, and the periodic work that notices what is to be sent on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import structlog

from pacs.dimse import Status
from pacs.processing.committing import NotSent, commit
from pacs.processing.nodes import MOST_AT_ONCE
from pacs.scu.associating import Destination
from pacs.scu.delivery import deliver
from pacs.scu.sources import Stored
from pacs.scu.storing import Outcome, Result
from pacs.scu.web import WebDestination, deliver_web, web_destination_of
from pacs.worker import Postponed
from storage.errors import LightboxError, NotFound, Refused
from storage.index.ae import ae_title_of
from storage.jobs import JobQueue
from storage.mpps import PerformedSteps
from storage.rules import Priority, Route, When, rule_named
from storage.transfer_records import Done, Failure, State, Transfer
from storage.transfers import Transfers
from storage.types import Located

if TYPE_CHECKING:
    from pacs.processing import Work

_log = structlog.get_logger(__name__)
# What was done is written down so often, and is what at most is sent once more after a crash.
_NOTE_SECONDS: Final = 1.0
# A study that is still coming keeps its association for so long after the last that came.
LINGER_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.25
_STILL_GOING_ON_SECONDS: Final = 30.0
# A performed procedure step that its modality has forgotten to end holds up its study no longer than this.
_LONGEST_STEP_SECONDS: Final = 4 * 3600.0


class NotTaken(Refused):
    """The node takes none of what was not sent: trying again is in vain."""


def gather(work: Work) -> None:
    """Have sent on what has come."""
    while work.router.gather():
        pass
    _hasten(work)


def _hasten(work: Work) -> None:
    """What waits for its study to be quiet need not wait, when the modality has ended its steps and all of them is here."""
    steps, queue = PerformedSteps(work.archive.index), JobQueue(work.archive.index)
    for number, study in Transfers(work.archive.index).settling():
        if all(step.announced and step.complete for step in steps.find(study_uid=study)):
            queue.hasten(number)


def send(work: Work, payload: Mapping[str, Any]) -> None:
    """Run the job `send-instances`. Raises Postponed, NotFound when the node cannot be called, and NotSent."""
    transfers = Transfers(work.archive.index)
    shown = open_transfer(transfers, int(payload["transfer"]))
    if shown is None:
        return
    coming = _wait_for_its_time(work, shown)
    # What is urgent does not wait for the end of what is not.
    with work.nodes.calling(shown.node, MOST_AT_ONCE + (shown.sending.priority is Priority.HIGH)):
        try:
            destination = web_destination_of(ae_title_of(work.archive.index, shown.node)) or work.destination(shown.node)
            if destination is None:
                raise NotFound(f"{shown.node} is no node that can be called: pacs ae add {shown.node} HOST PORT, then retry")
            _Sending(work, transfers, shown, destination, coming=coming).run()
        except LightboxError as error:
            transfers.failed(shown.number, str(error))
            raise


def open_transfer(transfers: Transfers, number: int) -> Transfer | None:
    """The transfer, unless it is over or was cancelled."""
    try:
        shown = transfers.one(number)
    except NotFound:
        return None
    return None if shown.state in (State.DONE, State.CANCELLED) else shown


def _wait_for_its_time(work: Work, shown: Transfer) -> bool:
    """Whether more may just be coming to it. Raises Postponed outside its hours, and while a modality says that it is still at
    a study that is to be sent whole."""
    wait = shown.sending.wait(time.time())
    if wait:
        raise Postponed(wait)
    rule = rule_named(work.archive.index, Route, shown.rule) if shown.rule else None
    if rule is None or not isinstance(rule.definition, Route) or rule.definition.when is When.INSTANCE:
        return bool(shown.rule)
    if PerformedSteps(work.archive.index).goes_on(shown.scope.study, _LONGEST_STEP_SECONDS):
        raise Postponed(_STILL_GOING_ON_SECONDS)
    return False


class _Sending:
    """One try: sends what waits, and what comes to it meanwhile, on the same associations."""

    def __init__(
        self, work: Work, transfers: Transfers, shown: Transfer, destination: Destination | WebDestination, *, coming: bool
    ) -> None:
        self._work = work
        self._transfers = transfers
        self._shown = shown
        self._destination = destination
        self._coming = coming
        self._keys: dict[str, int] = {}
        self._tried: set[int] = set()
        self._done = Done()
        self._noted = time.monotonic()
        self._over = ""
        self._sent = 0
        self._failures: list[Outcome] = []

    def run(self) -> None:
        """Raises NotSent, NotTaken; Postponed when the worker stops."""
        number, transfers = self._shown.number, self._transfers
        transfers.begun(number)
        while True:
            waiting = self._more()
            if waiting:
                self._deliver(waiting)
            self._note()
            if self._over == "stopping":
                raise Postponed(0.0)
            if self._over:
                return
            self._complain()
            note = self._commit() if self._shown.sending.commit else ""
            if transfers.finish(number, note):
                break
        _log.info("transfer.sent", transfer=number, to=self._shown.node, instances=self._sent, rule=self._shown.rule)

    def _deliver(self, waiting: list[Located]) -> None:
        source, how, to = Stored(self._work.archive), self._shown.sending, self._destination
        if isinstance(to, WebDestination):
            deliver_web(source, to, self._instances(waiting), parallel=how.parallel, watch=self._watch)
            return
        kinds = {(one.sop_class_uid, one.transfer_syntax_uid) for one in waiting}
        elements = {"Priority": how.priority.number}
        deliver(source, to, kinds, self._instances(waiting), parallel=how.parallel, watch=self._watch, elements=elements)

    def _commit(self) -> str:
        """A remark. What a node over the web has answered with success is all that it promises."""
        if isinstance(self._destination, WebDestination):
            return f"sent; {self._shown.node} is not asked for storage commitment, for it is sent to by STOW-RS"
        return commit(self._work, self._shown, self._destination)

    def _more(self) -> list[Located]:
        """What waits and was not tried yet; what was deleted meanwhile is no longer waited for."""
        keys = [key for key in self._transfers.waiting(self._shown.number) if key not in self._tried]
        found = dict(self._transfers.located(keys))
        if len(found) < len(keys):
            self._transfers.gone(self._shown.number, [key for key in keys if key not in found])
        self._tried.update(found)
        self._keys.update({one.uids.instance: key for key, one in found.items()})
        return list(found.values())

    def _instances(self, waiting: list[Located]) -> Iterator[Located]:
        """What is to be sent, and what comes to it while the associations are open. Never called twice at a time."""
        while waiting:
            for one in waiting:
                if self._work.stopping.is_set():
                    self._over = "stopping"
                if self._over:
                    return
                yield one
            waiting = self._lingering()

    def _lingering(self) -> list[Located]:
        """What comes within a short time after the last; nothing is waited for where sending goes badly."""
        until = time.monotonic() + (LINGER_SECONDS if self._coming and not self._failures else 0.0)
        while not (found := self._more()) and time.monotonic() < until and not self._is_wanted_elsewhere():
            time.sleep(_LOOK_SECONDS)
        return found

    def _is_wanted_elsewhere(self) -> bool:
        """Whether the worker stops, or another transfer waits for its turn with the node."""
        return self._work.stopping.is_set() or self._transfers.waits_for(self._shown.node)

    def _watch(self, one: Located, outcome: Outcome) -> None:
        key = self._keys[one.uids.instance]
        if outcome.result is Result.FAILED:
            self._failures.append(outcome)
            reason = outcome.told
            self._done.failures.append((key, Failure(one.uids.instance, outcome.status, reason)))
        else:
            self._done.sent.append(key)
            self._done.warned += outcome.result is Result.WARNING
            self._sent += 1
        if time.monotonic() - self._noted >= _NOTE_SECONDS:
            self._note()

    def _note(self) -> None:
        done, self._done, self._noted = self._done, Done(), time.monotonic()
        if not self._transfers.note(self._shown.number, done):
            self._over = "cancelled"

    def _complain(self) -> None:
        if not self._failures:
            return
        if not self._sent and all(one.status == Status.PROCESSING_FAILURE and not one.from_peer for one in self._failures):
            self._work.nodes.away(self._shown.node)
        number, total = len(self._failures), len(self._failures) + self._sent
        text = f"{number} of {total} instances were not sent to {self._shown.node}: {self._failures[0].reason}"
        if all(one.status == Status.SOP_CLASS_NOT_SUPPORTED for one in self._failures):
            raise NotTaken(text)
        raise NotSent(text)
