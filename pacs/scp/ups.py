"""Unified Procedure Steps as provider (PS3.4 annex CC): UPS Push, Pull, Watch and Query over the store that UPS-RS shares.

Every workitem is an instance of UPS Push, whichever SOP class was agreed (CC.3.1). Who subscribes here is told by N-EVENT-REPORT
on an association that it has opened with a context of UPS Event (`watching`), while it has none on associations of ours
(`pacs.processing.workitem_reports`); one of the two must be possible.
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
from pacs.scp.watching import takes_events
from storage import matching
from storage.attributes import tag_of
from storage.errors import LightboxError, NotFound, WorkitemRefused, statuses
from storage.index.ae import is_callable
from storage.procedure_steps import FILTERED, GLOBAL, PUSH_SOP_CLASS, STATE, TRANSACTION, Changed, Refusal
from storage.types import Dataset
from storage.workitems import FilterKey, Search, Workitems, conditions_of

_log = structlog.get_logger(__name__)
# Action Type IDs (PS3.4 tables CC.2.1-1, CC.2.2-1, CC.2.3-1).
_CHANGE_STATE: Final = 1
_REQUEST_CANCEL: Final = 2
_SUBSCRIBE: Final = 3
_UNSUBSCRIBE: Final = 4
_SUSPEND: Final = 5
_RECEIVER: Final = tag_of("ReceivingAE")
_LOCK: Final = tag_of("DeletionLock")
# What a C-FIND may name that is no key.
_NO_KEYS: Final = frozenset({CHARACTER_SET, TRANSACTION})
# What a subscription may name that is no key of its filter.
_NO_FILTER: Final = _NO_KEYS | {_RECEIVER, _LOCK}
# Receiving AE-TITLE is Unknown to this SCP (table CC.2.3-3).
_UNKNOWN_RECEIVER: Final = 0xC308


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
    """N-ACTION: change the state (CC.2.1), request cancellation (CC.2.2), subscribe and end that (CC.2.3)."""
    action, dataset = request.command.get("ActionTypeID"), request.dataset
    if action == _CHANGE_STATE:
        transaction, state = _first(dataset, TRANSACTION), _first(dataset, STATE)
        return _done(_workitems(provider).change_state(request.instance, transaction, state))
    if action == _REQUEST_CANCEL:
        return _done(_workitems(provider).request_cancel(request.instance, dataset, request.peer.calling_ae))
    if action in (_SUBSCRIBE, _UNSUBSCRIBE, _SUSPEND):
        return _subscription(request, int(action), provider)
    text = "Action Type ID 1 changes the state, 2 requests cancellation, 3 subscribes, 4 unsubscribes, 5 suspends"
    raise Failure(Status.NO_SUCH_ACTION_TYPE, text)


def _subscription(request: Request, action: int, provider: Provider) -> Answer:
    """Subscribe, unsubscribe, suspend (CC.2.3), for the Receiving AE, which need not be who asks."""
    workitems, uid, receiver = _workitems(provider), request.instance, _first(request.dataset, _RECEIVER)
    if not receiver:
        raise Failure(Refusal.MISSING_VALUE, "Receiving AE (0074,1234) says who is to be told, and is missing")
    if action == _UNSUBSCRIBE:
        workitems.unsubscribe(uid, receiver)
    elif action == _SUSPEND:
        if uid not in (GLOBAL, FILTERED):
            raise Failure(Refusal.INVALID_VALUE, "only subscriptions to all workitems are suspended")
        workitems.suspend(receiver)
    else:
        _subscribe(request, receiver, provider)
    return Answer(more=_named(uid))


def _subscribe(request: Request, receiver: str, provider: Provider) -> None:
    if not _can_be_told(request, receiver, provider):
        text = f"{receiver} is no node that can be called: register it with pacs ae add, or have it take its events on an association of its own"
        raise Failure(_UNKNOWN_RECEIVER, text)
    lock = _first(request.dataset, _LOCK).upper()
    if lock not in ("TRUE", "FALSE"):
        raise Failure(Refusal.INVALID_VALUE, "Deletion Lock (0074,1230) is neither TRUE nor FALSE")
    filters = tuple(_filter({tag: one for tag, one in request.dataset.items() if tag not in _NO_FILTER}))
    if (request.instance == FILTERED) is not bool(filters):
        raise Failure(Refusal.INVALID_VALUE, f"a filter belongs to {FILTERED}, which needs one, and to nothing else")
    conditions_of(filters)
    _workitems(provider).subscribe(request.instance, receiver, locked=lock == "TRUE", filters=filters, dimse=True)


def _can_be_told(request: Request, receiver: str, provider: Provider) -> bool:
    """Whether it can be called; or asks for itself where events are taken, and so can come again for them."""
    here = receiver == request.peer.calling_ae and takes_events(request.contexts) is not None
    return here or is_callable(provider.archive.index, receiver)


def _filter(dataset: Dataset, above: tuple[str, ...] = ()) -> Iterator[FilterKey]:
    """The keys with a value, as they are kept."""
    for tag, element in dataset.items():
        path = (*above, tag)
        if element["vr"] == "SQ":
            for item in (element.get("Value") or ())[:1]:
                yield from _filter(item, path)
        elif values := tuple(text_values(element)):
            yield path, element["vr"], values


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
        if encoder.odd:
            _log.warning("find.values_left_empty", attributes=sorted(encoder.odd), calling_ae=association.peer.calling_ae)
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
