"""Unified Procedure Steps as provider (PS3.4 annex CC): UPS Push, Pull, Watch and Query over the store that UPS-RS shares.

Every workitem is an instance of UPS Push, whichever SOP class was agreed (CC.3.1). Events go out on WebSockets alone, so
who wants to subscribe here is told that there are no event reports (C315).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import structlog

from pacs.dimse import Status
from pacs.scp.association import Association, Message
from pacs.scp.identifiers import CHARACTER_SET, Encoder, text_values
from pacs.scp.normalized import Answer, Failure, Perform, Request
from pacs.scp.provider import Provider
from pacs.scp.store import comment
from pacs.scp.suboperations import identifier_of
from pacs.scp.transport import Ended
from storage import matching
from storage.errors import LightboxError, NotFound, WorkitemRefused, statuses
from storage.procedure_steps import PUSH_SOP_CLASS, STATE, TRANSACTION, Changed, Refusal
from storage.types import Dataset
from storage.workitems import Search, Workitems

_log = structlog.get_logger(__name__)
# Action Type IDs (PS3.4 tables CC.2.1-1, CC.2.2-1, CC.2.3-1).
_CHANGE_STATE: Final = 1
_REQUEST_CANCEL: Final = 2
_SUBSCRIPTIONS: Final = frozenset({3, 4, 5})
# What a C-FIND may name that is no key.
_NO_KEYS: Final = frozenset({CHARACTER_SET, TRANSACTION})
_NO_EVENT_REPORTS: Final = 0xC315


def _refusing(perform: Perform) -> Perform:
    """A function whose refusals are answered with the statuses of annex CC."""

    def performed(request: Request, provider: Provider) -> Answer:
        try:
            return perform(request, provider)
        except WorkitemRefused as refused:
            raise Failure(refused.reason, str(refused)) from refused
        except NotFound as error:
            raise Failure(Refusal.UNKNOWN, str(error)) from error

    return performed


@_refusing
def create(request: Request, provider: Provider) -> Answer:
    """N-CREATE (CC.2.5), with a UID of our own where the request has none."""
    changed = _workitems(provider).create(request.dataset, request.instance or None)
    return _done(changed)


@_refusing
def update(request: Request, provider: Provider) -> Answer:
    """N-SET (CC.2.6), the Transaction UID in the data set."""
    transaction = _first(request.dataset, TRANSACTION)
    return _done(_workitems(provider).update(request.instance, transaction, request.dataset))


@_refusing
def get(request: Request, provider: Provider) -> Answer:
    """N-GET (CC.2.7): what is asked for and there, or everything; the Transaction UID never."""
    dataset = _workitems(provider).get(request.instance).dataset
    wanted = request.wanted
    found = {tag: one for tag, one in dataset.items() if tag != CHARACTER_SET and (not wanted or tag in wanted)}
    return Answer(dataset=found, more=_named(request.instance))


@_refusing
def act(request: Request, provider: Provider) -> Answer:
    """N-ACTION: change the state (CC.2.1), request cancellation (CC.2.2)."""
    action, dataset = request.command.get("ActionTypeID"), request.dataset
    if action == _CHANGE_STATE:
        transaction, state = _first(dataset, TRANSACTION), _first(dataset, STATE)
        return _done(_workitems(provider).change_state(request.instance, transaction, state))
    if action == _REQUEST_CANCEL:
        return _done(_workitems(provider).request_cancel(request.instance, dataset, request.peer.calling_ae))
    if action in _SUBSCRIPTIONS:
        text = "events go out on WebSockets alone: subscribe by UPS-RS (PS3.18 11.10)"
        raise Failure(_NO_EVENT_REPORTS, text)
    raise Failure(Status.NO_SUCH_ACTION_TYPE, "Action Type ID 1 changes the state, 2 requests cancellation")


def find(association: Association, message: Message, provider: Provider) -> None:
    """C-FIND (CC.2.8): one pending response for each match, by the matching of every other search."""
    begun, answers = time.perf_counter(), 0
    more: dict[str, Any] = {}
    try:
        identifier = identifier_of(association, message, provider.settings.max_identifier_bytes)
        keys = {tag: one for tag, one in identifier.dataset.items() if tag not in _NO_KEYS}
        pending = association.pending(message, Status.PENDING)
        encoder = Encoder(message.context.transfer_syntax, identifier.character_set)
        workitems = _workitems(provider)
        search = Search(matching.combined(tuple(_conditions(keys))))
        status = Status.SUCCESS
        for one in workitems.read(workitems.find(search)):
            answers += 1
            if pending.add(encoder.encode({tag: one.get(tag, {"vr": key["vr"]}) for tag, key in keys.items()})):
                status = Status.CANCEL
                break
        else:
            status = Status.CANCEL if pending.flush() else Status.SUCCESS
        final = int(status)
    except Ended:
        raise
    except LightboxError as error:
        final, more = statuses(error).query, {"ErrorComment": comment(error)}
        _log.warning("find.refused", status=f"{final:04X}", reason=str(error), calling_ae=association.peer.calling_ae)
    association.respond(message, final, **more)
    provider.observer.found("WORKITEM", final, time.perf_counter() - begun, answers)


def _conditions(dataset: Dataset, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], matching.Condition]]:
    """The keys with a value, those in sequences by their paths (PS3.4 C.2.2.2.6)."""
    for tag, element in dataset.items():
        path = (*above, tag)
        if element["vr"] == "SQ":
            for item in (element.get("Value") or ())[:1]:
                yield from _conditions(item, path)
        elif values := text_values(element):
            yield path, matching.parse(path, element["vr"], "\\".join(values))


def _workitems(provider: Provider) -> Workitems:
    return Workitems(provider.archive.index)


def _done(changed: Changed) -> Answer:
    status = Status.SUCCESS if changed.remark is None else changed.remark
    return Answer(int(status), more=_named(changed.item.uid))


def _named(uid: str) -> Mapping[str, Any]:
    return {"AffectedSOPClassUID": PUSH_SOP_CLASS, "AffectedSOPInstanceUID": uid}


def _first(dataset: Dataset, tag: str) -> str:
    return next(iter(text_values(dataset.get(tag, {}))), "").strip()
