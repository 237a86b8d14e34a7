"""The Storage Commitment service (PS3.18 13): a request to keep instances for good, and what came of it.

What is quickly read is verified while the client waits; the rest is a worker's, and the client asks again (13.1). DIMSE's
storage commitment verifies by the same function, and its jobs are in the same queue.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import anyio
import orjson
import structlog
from anyio import to_thread
from starlette.types import Receive

from dicomweb import negotiation
from dicomweb.errors import WebRefusal
from dicomweb.exchange import Answer, Call
from dicomweb.media_types import DICOM_XML
from dicomweb.native_xml import to_xml
from dicomweb.request_body import batches
from dicomweb.settings import WebSettings
from dicomweb.ups import dataset_of
from storage.archive import Archive
from storage.attributes import tag_of
from storage.commitment import AT_ONCE, AT_ONCE_BYTES, Checked, Reference, bytes_of
from storage.commitment_requests import CommitmentRequests, verify_request
from storage.errors import BadRequest, LimitExceeded, Unavailable
from storage.procedure_steps import is_uid
from storage.types import Dataset

_log = structlog.get_logger(__name__)
# A request for some hundred thousand instances.
BODY_BYTES: Final = 32 << 20
# How soon a client is to ask again.
_AGAIN_SECONDS: Final = 5
# Verifying reads disks: requests that are verified at once, at the same time.
_THREADS: Final = 4

_SOPS, _FAILED_SOPS = tag_of("ReferencedSOPSequence"), tag_of("FailedSOPSequence")
_STUDIES, _FAILED_STUDIES = tag_of("ReferencedStudySequence"), tag_of("FailedStudySequence")
_SERIES, _CLASSES = tag_of("ReferencedSeriesSequence"), tag_of("ReferencedInstancesBySOPClassSequence")
_INSTANCES = tag_of("ReferencedInstanceSequence")
_SOP_CLASS, _SOP_INSTANCE = tag_of("ReferencedSOPClassUID"), tag_of("ReferencedSOPInstanceUID")
_STUDY, _ONE_SERIES, _REASON = tag_of("StudyInstanceUID"), tag_of("SeriesInstanceUID"), tag_of("FailureReason")


class StorageCommitment:
    """POST and GET /commitment-requests/{transaction}."""

    def __init__(self, archive: Archive, settings: WebSettings) -> None:
        self._archive = archive
        self._requests = CommitmentRequests(archive.index)
        self._settings = settings
        self._threads = anyio.CapacityLimiter(_THREADS)

    async def request(self, call: Call, receive: Receive) -> Answer:
        """Ask for commitment (13.4): 200 with the result, or 202 when a worker verifies. Raises BadRequest, WebRefusal 409."""
        uid = _transaction(call)
        negotiation.choose(call.accepted(), negotiation.STORE)
        whole = bytearray()
        async for batch in batches(receive, self._settings):
            whole += batch
            if len(whole) > BODY_BYTES:
                raise LimitExceeded(f"the body is larger than {BODY_BYTES >> 20} MiB; ask for fewer instances at a time")
        references = list(references_in(dataset_of(call.headers.get("content-type", ""), bytes(whole))))
        return await to_thread.run_sync(self._asked, call, uid, references, limiter=self._threads)

    def check(self, call: Call) -> Answer:
        """What came of a request (13.5): 200, or 202 as long as that is not known. Raises NotFound."""
        uid = _transaction(call)
        offer = negotiation.choose(call.accepted(), negotiation.STORE)
        checked = self._requests.result(uid)
        if checked is None:
            return _later({})
        dataset = response(checked)
        body = to_xml(dataset) if offer.media_type == DICOM_XML else orjson.dumps([dataset])
        headers = {"Content-Type": offer.media_type, "Cache-Control": "private, no-cache", "Vary": "Accept"}
        return Answer(200, headers, (body,))

    def _asked(self, call: Call, uid: str, references: list[Reference]) -> Answer:
        later = _prefers_later(call)
        at_once = not later and len(references) <= AT_ONCE and bytes_of(self._archive, references) <= AT_ONCE_BYTES
        if not self._requests.begin(uid, references, at_once=at_once):
            raise WebRefusal(
                409,
                "the Transaction UID is in use",
                "GET this address for the result of the request that has it, or ask with a new UID",
            )
        if not at_once:
            return _later({"Preference-Applied": "respond-async"} if later else {})
        try:
            checked = verify_request(self._archive, uid)
        except Unavailable as error:
            _log.warning("commitment.postponed", action="commitment postponed", reason=str(error))
            return _later({})
        _log.info("commitment.reported", transaction=uid, references=len(checked))
        return self.check(call)


def references_in(dataset: Dataset) -> Iterator[Reference]:
    """What a Storage Commitment Request Module names (table J.1-1). Raises BadRequest for what is none."""
    if not {_SOPS, _STUDIES} & dataset.keys():
        raise BadRequest(
            "the body has neither ReferencedSOPSequence (0008,1199) nor ReferencedStudySequence (0008,1110); name the instances"
        )
    for item in _items(dataset, _SOPS, optional=True):
        yield Reference(_uid(item, _SOP_CLASS), _uid(item, _SOP_INSTANCE))
    for study in _items(dataset, _STUDIES, optional=True):
        for series in _items(study, _SERIES):
            for of_class in _items(series, _CLASSES):
                for item in _items(of_class, _INSTANCES):
                    yield Reference(
                        _uid(of_class, _SOP_CLASS), _uid(item, _SOP_INSTANCE), _uid(study, _STUDY), _uid(series, _ONE_SERIES)
                    )


def response(checked: Iterable[Checked]) -> dict[str, Any]:
    """The Storage Commitment Response Module (table J.2-1): each instance in the kind of sequence that it was asked in."""
    found: dict[str, list[Checked]] = {}
    for one in checked:
        names = (_STUDIES, _FAILED_STUDIES) if one.reference.study else (_SOPS, _FAILED_SOPS)
        found.setdefault(names[one.failure is not None], []).append(one)
    answer: dict[str, Any] = {}
    for tag in sorted(found):
        items = _studies(found[tag]) if tag in (_STUDIES, _FAILED_STUDIES) else map(_instance, found[tag])
        answer[tag] = _sequence(items)
    return answer


def _instance(checked: Checked) -> dict[str, Any]:
    item = {_SOP_CLASS: _element("UI", checked.reference.sop_class_uid), **_reference(checked)}
    return {tag: item[tag] for tag in sorted(item)}


def _reference(checked: Checked) -> dict[str, Any]:
    item = {_SOP_INSTANCE: _element("UI", checked.reference.sop_instance_uid)}
    return item if checked.failure is None else {**item, _REASON: _element("US", int(checked.failure))}


def _studies(checked: Iterable[Checked]) -> Iterator[dict[str, Any]]:
    """By study, series and SOP class, in the order in which they first came."""
    tree: dict[str, dict[str, dict[str, list[dict[str, Any]]]]] = {}
    for one in checked:
        asked = one.reference
        series = tree.setdefault(asked.study, {}).setdefault(asked.series, {})
        series.setdefault(asked.sop_class_uid, []).append(_reference(one))
    for study, below in tree.items():
        items = [
            {
                _CLASSES: _sequence(
                    {_INSTANCES: _sequence(found), _SOP_CLASS: _element("UI", uid)} for uid, found in classes.items()
                ),
                _ONE_SERIES: _element("UI", series_uid),
            }
            for series_uid, classes in below.items()
        ]
        yield {_SERIES: _sequence(items), _STUDY: _element("UI", study)}


def _sequence(items: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {"vr": "SQ", "Value": list(items)}


def _element(vr: str, value: str | int) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}


def _items(dataset: Mapping[str, Any], tag: str, *, optional: bool = False) -> list[Mapping[str, Any]]:
    found = dataset.get(tag, {}).get("Value")
    if found and all(isinstance(one, Mapping) for one in found):
        return list(found)
    if optional and tag not in dataset:
        return []
    raise BadRequest(f"a sequence {tag} is missing, or has no items that are data sets; name every instance (PS3.18 J.1)")


def _uid(item: Mapping[str, Any], tag: str) -> str:
    values = item.get(tag, {}).get("Value")
    uid = values[0].strip() if values and isinstance(values[0], str) else ""
    if not is_uid(uid):
        raise BadRequest(f"an item of the request has no UID in {tag}; every instance needs its SOP Class and Instance UID (PS3.18 J.1)")
    return uid


def _transaction(call: Call) -> str:
    uid = call.path["transaction"]
    if not is_uid(uid):
        raise BadRequest("the path has no UID where the Transaction UID belongs; write digits and dots, at most 64")
    return uid


def _prefers_later(call: Call) -> bool:
    """Whether the client would rather not wait (RFC 7240 4.1)."""
    return any(one.strip().lower() == "respond-async" for one in call.headers.get("prefer", "").split(","))


def _later(headers: Mapping[str, str]) -> Answer:
    return Answer(202, {**headers, "Retry-After": str(_AGAIN_SECONDS), "Cache-Control": "no-store"})
