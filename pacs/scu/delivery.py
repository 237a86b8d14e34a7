"""Stored instances to a node by C-STORE: which contexts to ask for, on how many associations, and what to do when one breaks.

Associations are opened when the first instance needs them and kept to the end. One that breaks is asked for again, and
the instance in hand sent once more; a node that cannot be reached any more, or breaks again and again, is given up,
and what is left counts as failed without being tried.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, Protocol

import structlog

from pacs.dimse import Status
from pacs.scp.transport import Ended, Stopping
from pacs.scu.associating import (
    MOST_CONTEXTS,
    Destination,
    NothingAccepted,
    NotReached,
    Proposal,
    Rejection,
    Requested,
    associate,
)
from pacs.scu.sources import Source
from pacs.scu.storing import Outcome, Result, Sender
from storage.errors import LightboxError
from storage.transfer_syntaxes import EXPLICIT_LITTLE, IMPLICIT_LITTLE, LOSSLESS_TARGETS
from storage.types import Located

_log = structlog.get_logger(__name__)
# Seconds before an association is asked for again.
_PAUSES = (0.5, 2.0)
# Breaks in a row, with nothing sent between them, after which a node is given up.
MOST_BREAKS: Final = 3
# A node that says it is out of resources (A7xx) is asked again after a pause, so often in one delivery.
MOST_REPEATS: Final = 5
_REPEAT_SECONDS = 1.0


class Delivery:
    """Sends instances to one node; used by one thread. Use as a context manager."""

    def __init__(
        self,
        source: Source,
        destination: Destination,
        kinds: Iterable[tuple[str, str]],
        *,
        originator: Mapping[str, Any] | None = None,
        stopping: Stopping | None = None,
    ) -> None:
        """`kinds`: SOP class and transfer syntax of all that will be sent; `originator`: see `Sender.send`."""
        self._source = source
        self._destination = destination
        self._originator = originator
        self._stopping = stopping
        self._plan = plan(kinds, destination.syntaxes)
        # On which association of the plan the instances of a SOP class go.
        self._place = {one.abstract_syntax: n for n, proposals in enumerate(self._plan) for one in proposals}
        self._open: dict[int, tuple[Requested, Sender]] = {}
        self._refused: dict[int, LightboxError] = {}
        self._given_up = ""
        self._breaks = 0
        self._repeats = 0

    def send(self, one: Located, following: Located | None = None) -> Outcome:
        """C-STORE of one instance, with a second try where that makes sense; never raises for what the node does.

        `following` as in `Sender.send`.
        """
        for again in (False, True):
            if self._given_up:
                return self._failed(one, self._given_up)
            place = self._place_of(one)
            same = following is not None and self._place_of(following) == place
            try:
                outcome = self._sender(place).send(one, following if same else None, self._originator)
            except Ended as error:
                self._broken(place, error)
                if again:
                    return self._failed(one, f"the association broke twice: {error}")
                continue
            except (NotReached, Rejection) as error:
                self._given_up = str(error)
                continue
            except NothingAccepted as error:
                return self._failed(one, str(error), Status.SOP_CLASS_NOT_SUPPORTED)
            except LightboxError as error:
                return self._failed(one, str(error))
            self._breaks = 0
            if again or not self._worth_repeating(outcome):
                return outcome
        return self._failed(one, self._given_up)

    def _place_of(self, one: Located) -> int:
        """On which association of the plan it goes. What is stored while a study is being sent may be of a kind of its own."""
        if one.sop_class_uid not in self._place:
            self._place[one.sop_class_uid] = len(self._plan)
            self._plan += plan([(one.sop_class_uid, one.transfer_syntax_uid)], self._destination.syntaxes)
        return self._place[one.sop_class_uid]

    def close(self) -> None:
        """Release every association."""
        for association, _ in self._open.values():
            association.release()
        self._open.clear()

    def __enter__(self) -> Delivery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _sender(self, place: int) -> Sender:
        if place in self._open:
            return self._open[place][1]
        if place in self._refused:
            raise self._refused[place]
        try:
            association = self._associated(place)
        except (NotReached, Rejection):
            raise
        except LightboxError as error:
            self._refused[place] = error
            raise
        sender = Sender(association, self._source, association.contexts.values(), self._destination.syntaxes)
        self._open[place] = association, sender
        return sender

    def _associated(self, place: int) -> Requested:
        for pause in (*_PAUSES, None):
            try:
                return associate(self._destination, self._plan[place], stopping=self._stopping)
            except (NotReached, Rejection) as error:
                if pause is None or (isinstance(error, Rejection) and not error.transient):
                    raise
                _log.info("delivery.waiting", to=self._destination.title, reason=str(error))
                time.sleep(pause)
        raise AssertionError

    def _broken(self, place: int, error: Ended) -> None:
        association, _ = self._open.pop(place)
        association.abandon(error)
        _log.warning("delivery.broken", to=self._destination.title, how=error.how, reason=str(error))
        self._breaks += 1
        if self._breaks >= MOST_BREAKS or (self._stopping is not None and self._stopping.over):
            self._given_up = f"the association broke again and again: {error}"

    def _worth_repeating(self, outcome: Outcome) -> bool:
        """A7xx is out of resources (PS3.4 B.2.3): a moment later there may be room."""
        if outcome.result is not Result.FAILED or outcome.status >> 8 != 0xA7 or not outcome.from_peer:
            return False
        self._repeats += 1
        if self._repeats > MOST_REPEATS:
            return False
        time.sleep(_REPEAT_SECONDS)
        return True

    def _failed(self, one: Located, reason: str, status: int = Status.PROCESSING_FAILURE) -> Outcome:
        _log.warning("delivery.failed", instance=one.uids.instance, to=self._destination.title, reason=reason)
        return Outcome(status, reason)


def deliver(
    source: Source,
    destination: Destination,
    kinds: Iterable[tuple[str, str]],
    instances: Iterable[Located],
    *,
    parallel: int = 1,
    elements: Mapping[str, Any] | None = None,
    watch: Callable[[Located, Outcome], None] = lambda _one, _outcome: None,
) -> None:
    """Send `instances`, which are of `kinds`, on `parallel` associations side by side.

    They are taken from the iterator as they are sent. `elements` are further ones of each command. `watch` is told of each,
    never twice at a time.
    """
    kinds = set(kinds)
    side_by_side(lambda: Delivery(source, destination, kinds, originator=elements), instances, parallel, watch)


class Sends(Protocol):
    """A way to a node that is open: an association, or a connection."""

    def __enter__(self) -> Sends: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def send(self, one: Located) -> Outcome:
        """Send one instance; never raises for what the node does."""


def side_by_side(
    opened: Callable[[], Sends], instances: Iterable[Located], parallel: int, watch: Callable[[Located, Outcome], None]
) -> None:
    """Send `instances` by `parallel` of what `opened` gives: see `deliver`."""
    left, lock = iter(instances), threading.Lock()

    def work() -> None:
        with opened() as delivery:
            while True:
                with lock:
                    one = next(left, None)
                if one is None:
                    return
                outcome = delivery.send(one)
                with lock:
                    watch(one, outcome)

    with ThreadPoolExecutor(parallel, "deliver") as pool:
        for done in [pool.submit(work) for _ in range(parallel)]:
            done.result()


def plan(kinds: Iterable[tuple[str, str]], preferred: tuple[str, ...] = ()) -> list[list[Proposal]]:
    """The contexts to ask for, on as few associations as hold them: all those of a SOP class on the same.

    A context for each transfer syntax, so that the peer decides about each by itself: those that it prefers, those in
    which something is stored, and the uncompressed ones, into which nearly everything can be brought. Of the compressed ones
    into which pixels can be brought without loss it may choose one, for the sake of those that take nothing else.
    """
    stored: dict[str, list[str]] = {}
    for sop_class, syntax in sorted(kinds):
        stored.setdefault(sop_class, []).append(syntax)
    associations: list[list[Proposal]] = [[]]
    for sop_class, syntaxes in stored.items():
        wanted = dict.fromkeys((*preferred, *syntaxes, EXPLICIT_LITTLE, IMPLICIT_LITTLE))
        encoded = tuple(syntax for syntax in LOSSLESS_TARGETS if syntax not in wanted)
        each = [Proposal(sop_class, (syntax,)) for syntax in wanted]
        proposals = [*each[: MOST_CONTEXTS - 1], Proposal(sop_class, encoded)]
        if len(associations[-1]) + len(proposals) > MOST_CONTEXTS:
            associations.append([])
        associations[-1] += proposals
    return associations
