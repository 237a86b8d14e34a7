"""UPS-RS (PS3.18 11): workitems created, searched, changed and subscribed to, over the store that DIMSE shares."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import orjson
from anyio import to_thread
from pydicom.datadict import dictionary_VR
from starlette.types import Receive

from dicomweb import negotiation
from dicomweb.bodies import settled
from dicomweb.errors import WebRefusal
from dicomweb.exchange import Answer, Call
from dicomweb.media_types import DICOM_JSON, DICOM_XML, JSON, parse_accept
from dicomweb.native_xml import from_xml, to_xml
from dicomweb.negotiation import Offer
from dicomweb.request_body import batches
from dicomweb.search_formats import WRITERS
from dicomweb.search_parameters import asked_of, attribute_path
from dicomweb.settings import WebSettings
from storage import json_model
from storage.attributes import tag_of
from storage.errors import BadRequest, LimitExceeded, WorkitemRefused
from storage.procedure_steps import (
    FILTERED,
    GLOBAL,
    PERFORMED,
    RULES,
    STATE,
    TRANSACTION,
    Changed,
    Refusal,
    Remark,
    is_uid,
)
from storage.types import Dataset, Level
from storage.workitems import FilterKey, Search, Workitems, conditions_of

# A workitem in its longest body; real ones have a few kilobytes.
BODY_BYTES: Final = 4 << 20

# Refusal -> status (PS3.18 tables 11.4.3-1, 11.6.3-1, 11.7.3-1, 11.8.3-1). 400: the request is wrong whatever the state.
STATUSES: Final[dict[int, int]] = {
    Refusal.INVALID_VALUE: 400,
    Refusal.MISSING_ATTRIBUTE: 400,
    Refusal.MISSING_VALUE: 400,
    Refusal.NOT_SCHEDULED: 400,
}
_CONFLICT: Final = 409

# Warnings of one action beside its refusals and remarks (PS3.18 11.4.3.2, 11.6.3.2, 11.7.3.2, 11.8.3.2).
_UPDATE: Final[dict[int, str]] = {
    Refusal.WRONG_TRANSACTION: "The Transaction UID is incorrect.",
    Refusal.NOT_IN_PROGRESS: "The target URI did not reference a claimed Workitem.",
    Refusal.NO_LONGER: "The submitted request is inconsistent with the current state of the Workitem.",
    Remark.UPDATED_WITH_MODIFICATIONS: "The Workitem was updated with modifications.",
}
_INCONSISTENT: Final = "The submitted request is inconsistent with the state of the UPS Instance."
_STATE: Final[dict[int, str]] = {
    Refusal.WRONG_TRANSACTION: "The Transaction UID is incorrect.",
    **dict.fromkeys(
        (
            Refusal.NO_LONGER,
            Refusal.ALREADY_IN_PROGRESS,
            Refusal.ONLY_BY_CREATION,
            Refusal.NOT_FINISHED,
            Refusal.NOT_IN_PROGRESS,
        ),
        _INCONSISTENT,
    ),
    Remark.ALREADY_CANCELED: "The UPS is already in the requested state of CANCELED.",
    Remark.ALREADY_COMPLETED: "The UPS is already in the requested state of COMPLETED.",
}
_CREATE: Final[dict[int, str]] = {Remark.CREATED_WITH_MODIFICATIONS: "The Workitem was created with modifications."}
_CANCEL: Final[dict[int, str]] = {
    Refusal.ALREADY_COMPLETED: "The UPS is already COMPLETED.",
    Refusal.NOBODY_LISTENS: "The performer cannot be contacted.",
    Remark.ALREADY_CANCELED: "The UPS is already in the requested state of CANCELED.",
}
_MISSING: Final = "The Transaction UID is missing."
_TODO: Final = "change the request as the error says; GET the workitem shows its state"

_ONE: Final = (Offer(DICOM_JSON), Offer(JSON), Offer(DICOM_XML))
_MANY: Final = (Offer(DICOM_JSON), Offer(JSON), Offer(DICOM_XML, related=True))
# What a search returns unasked: what table CC.2.5-3 has as return keys.
_RETURNED: Final = frozenset(tag_of(rule.keyword) for rule in RULES) - {TRANSACTION, PERFORMED}
# VRs whose values cannot contain a comma (as in searches for instances).
_COMMA_SEPARATES: Final = frozenset({"UI", "CS"})


class Worklist:
    """The transactions of the worklist service. Each raises what the store raises, with the Warning that PS3.18 has for it."""

    def __init__(self, workitems: Workitems, settings: WebSettings) -> None:
        self._workitems = workitems
        self._settings = settings

    async def create(self, call: Call, receive: Receive) -> Answer:
        """POST /workitems, its UID in the query, in the data set or nowhere (11.4)."""
        dataset = await self._body(call, receive)
        uid = _named(call, "workitem", "affectedsopinstanceuid")
        # Clients also put it where the data set has it, though N-CREATE carries it beside.
        uid = uid or str(next(iter(dataset.get("00080018", {}).get("Value") or ()), "")) or None
        changed = await _done(call, _CREATE, partial(self._workitems.create, dataset, uid))
        url = f"{call.root}/workitems/{changed.item.uid}"
        headers = {"Location": url, "Content-Location": url, **_remark(call, changed, _CREATE)}
        return Answer(201, headers)

    def retrieve(self, call: Call) -> Answer:
        """GET /workitems/{uid} (11.5): never with its Transaction UID."""
        offer = negotiation.choose(call.accepted(), _ONE)
        dataset = self._workitems.get(_uid(call)).dataset
        body = to_xml(dataset) if offer.media_type == DICOM_XML else orjson.dumps([dataset])
        return Answer(200, {"Content-Type": offer.media_type, "Cache-Control": "private, no-cache", "Vary": "Accept"}, (body,))

    async def update(self, call: Call, receive: Receive) -> Answer:
        """POST /workitems/{uid}, the Transaction UID in the query or in the data set (11.6)."""
        dataset = await self._body(call, receive)
        transaction = _transaction(call, dataset)
        changed = await _done(call, _UPDATE, partial(self._workitems.update, _uid(call), transaction, dataset))
        url = f"{call.root}/workitems/{changed.item.uid}"
        return Answer(200, {"Content-Location": url, **_remark(call, changed, _UPDATE)})

    async def change_state(self, call: Call, receive: Receive) -> Answer:
        """PUT /workitems/{uid}/state (11.7)."""
        dataset = await self._body(call, receive)
        state = str(next(iter(dataset.get(STATE, {}).get("Value") or ()), ""))
        transaction = _transaction(call, dataset)
        change = partial(self._workitems.change_state, _uid(call), transaction, state)
        changed = await _done(call, _STATE, change)
        return Answer(200, _remark(call, changed, _STATE))

    async def request_cancel(self, call: Call, receive: Receive) -> Answer:
        """POST /workitems/{uid}/cancelrequest, perhaps with a reason (11.8)."""
        dataset = await self._body(call, receive, needed=False)
        requester = _ae_title(call.path["requester"]) if "requester" in call.path else ""
        ask = partial(self._workitems.request_cancel, _uid(call), dataset, requester)
        changed = await _done(call, _CANCEL, ask)
        return Answer(202, _remark(call, changed, _CANCEL))

    def search(self, call: Call) -> Answer:
        """GET /workitems (11.9), with the parameters of other searches."""
        offer = negotiation.choose(call.accepted(), _MANY)
        # Keys and their values are read as those of studies are; levels and columns do not matter here.
        asked = asked_of(call, Level.STUDY)
        if asked.query.order or asked.cursor or asked.total:
            raise BadRequest("orderby, cursor and totalcount are not possible for workitems; use limit and offset")
        query, most = asked.query, self._settings.search_most
        limit = query.limit if most is None else min(query.limit if query.limit is not None else most, most)
        search = Search(query.conditions, None if limit is None else limit + 1, query.offset, query.fuzzy)
        keys = self._workitems.find(search)
        headers = {"Cache-Control": "private, no-cache", "Vary": "Accept"}
        if limit is not None and len(keys) > limit:
            keys = keys[:limit]
            headers["Warning"] = f"299 {call.root}: There are additional results that can be requested"
        if not keys and (self._settings.search_empty_status == 204 or offer.related):
            return Answer(204, headers)
        boundary = uuid.uuid4().hex
        kind = f"{offer}; boundary={boundary}" if offer.related else offer.media_type
        answers = _with_fields(self._workitems.read(keys), query.fields)
        body = settled(WRITERS[offer.media_type](answers, query, boundary))
        return Answer(200, {**headers, "Content-Type": kind}, body)

    async def subscribe(self, call: Call, receive: Receive) -> Answer:
        """POST /workitems/{uid}/subscribers/{AE}; of the well-known UIDs to all, or to all that match a filter (11.10)."""
        ae_title, uid = _ae_title(call.path["requester"]), _uid(call)
        locked, filters = _subscription(call)
        if filters and uid == GLOBAL:
            uid = FILTERED
        if filters and uid != FILTERED:
            raise BadRequest("a subscription to one workitem takes no filter; leave it out")
        if uid == FILTERED and not filters:
            raise BadRequest(f"a filtered subscription needs attributes to match, such as ?WorklistLabel=…; to all: {GLOBAL}")
        conditions_of(filters)
        subscribe = partial(self._workitems.subscribe, uid, ae_title, locked=locked, filters=filters)
        await to_thread.run_sync(subscribe)
        channel = f"{call.root}/subscribers/{quote(ae_title)}"
        return Answer(201, {"Content-Location": channel.replace("http", "ws", 1) if channel.startswith("http") else channel})

    def unsubscribe(self, call: Call) -> Answer:
        """DELETE of the same (11.11)."""
        self._workitems.unsubscribe(_uid(call), _ae_title(call.path["requester"]))
        return Answer(200, {})

    async def suspend(self, call: Call, receive: Receive) -> Answer:
        """POST /workitems/{well-known UID}/subscribers/{AE}/suspend (11.12)."""
        if _uid(call) not in (GLOBAL, FILTERED):
            raise BadRequest(f"only subscriptions to all workitems are suspended: of {GLOBAL} or {FILTERED}")
        await to_thread.run_sync(self._workitems.suspend, _ae_title(call.path["requester"]))
        return Answer(200, {})

    async def _body(self, call: Call, receive: Receive, *, needed: bool = True) -> Dataset:
        whole = bytearray()
        async for batch in batches(receive, self._settings):
            whole += batch
            if len(whole) > BODY_BYTES:
                raise LimitExceeded(f"the body is larger than the {BODY_BYTES >> 20} MiB that a workitem may have")
        if not whole and not needed:
            return {}
        return dataset_of(call.headers.get("content-type", ""), bytes(whole))


def dataset_of(content_type: str, body: bytes) -> Dataset:
    """The one data set in a body. Raises BadRequest, and WebRefusal 415 for a type that is neither JSON nor XML."""
    kinds = parse_accept(content_type)
    kind = kinds[0].type if kinds else ""
    if kind not in (DICOM_JSON, JSON, DICOM_XML):
        accepted = ", ".join((DICOM_JSON, JSON, DICOM_XML))
        raise WebRefusal(415, "the body is of a type that is not read here", f"send one of {accepted}", {"Accept": accepted})
    found = from_xml(body) if kind == DICOM_XML else _from_json(body)
    json_model.check(found)
    return found


def _from_json(body: bytes) -> Dataset:
    try:
        found: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadRequest("the body is not JSON in UTF-8") from None
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if not isinstance(found, dict):
        raise BadRequest("the body must be one data set of the DICOM JSON model, perhaps in an array")
    return found


async def _done(call: Call, warnings: Mapping[int, str], change: Callable[[], Changed]) -> Changed:
    """A change, made in a worker thread. Raises WebRefusal with the status and the Warning for a refusal."""
    try:
        return await to_thread.run_sync(change)
    except WorkitemRefused as refused:
        text = _MISSING if refused.missing else warnings.get(refused.reason)
        headers = {"Warning": f"299 {call.root}: {text}"} if text else {}
        status = 400 if refused.missing else STATUSES.get(refused.reason, _CONFLICT)
        raise WebRefusal(status, str(refused), _TODO, headers) from refused


def _remark(call: Call, changed: Changed, warnings: Mapping[int, str]) -> dict[str, str]:
    if changed.remark is None:
        return {}
    return {"Warning": f"299 {call.root}: {warnings[changed.remark]}"}


def _with_fields(datasets: Iterable[Dataset], fields: frozenset[str] | None) -> Iterator[Dataset]:
    wanted = None if fields is None else _RETURNED | {path.split(".")[0] for path in fields}
    for dataset in datasets:
        yield dataset if wanted is None else {tag: one for tag, one in dataset.items() if tag in wanted}


def _uid(call: Call) -> str:
    uid = call.path["workitem"]
    if not is_uid(uid):
        raise BadRequest("the path has no UID where that of a workitem belongs; write digits and dots")
    return uid


def _named(call: Call, *names: str) -> str | None:
    """A UID in the query: the value of one of `names`, or a query that is nothing but the UID (11.4.1)."""
    for name, value in call.query:
        if name.lower() in names:
            return value
        if not value and is_uid(name):
            return name
    return None


def _transaction(call: Call, dataset: Dataset) -> str:
    named = _named(call, "transaction", "transaction-uid", "transactionuid")
    given = str(next(iter(dataset.get(TRANSACTION, {}).get("Value") or ()), ""))
    if named and given and named != given:
        raise BadRequest("the query and the data set have different Transaction UIDs; send one of them")
    return named or given


def _ae_title(text: str) -> str:
    title = text.strip()
    if not title or len(title) > 16 or not title.isascii() or not title.isprintable() or "\\" in title:
        raise BadRequest("the AE title in the path is none: 1 to 16 characters of ASCII, no backslash (PS3.5 6.2)")
    return title


def _subscription(call: Call) -> tuple[bool, list[FilterKey]]:
    """Whether to lock, and what to match: parameters by themselves, or in `filter` as name=value, separated by commas."""
    locked, pairs = False, []
    for name, value in call.query:
        if name.lower() == "deletionlock":
            if value.lower() not in ("true", "false"):
                raise BadRequest("deletionlock is neither true nor false")
            locked = value.lower() == "true"
        elif name.lower() == "filter":
            pairs += [(key, text) for key, _, text in (piece.partition("=") for piece in value.split(",")) if key]
        else:
            pairs.append((name, value))
    return locked, [_filter_key(name, value) for name, value in pairs]


def _filter_key(name: str, value: str) -> FilterKey:
    path = attribute_path(name, "")
    try:
        vr = dictionary_VR(int(path[-1], 16)).split(" or ")[0]
    except KeyError:
        raise BadRequest(f"{path[-1]} is not in the data dictionary, so its values cannot be compared; leave it out") from None
    return path, vr, tuple(value.split(",")) if vr in _COMMA_SEPARATES else (value,)
