"""The Non-Patient Instance service (PS3.18 12): hanging protocols, colour palettes and the like, each retrieved, stored, searched.

They are instances like all others, in a partition of the index that searches for studies do not see; what answers here puts
their place there into the terms of the studies service, and leaves the rest to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

import orjson
from starlette.types import Receive

from dicomweb import negotiation
from dicomweb.bodies import CACHE_CONTROL, unchanged
from dicomweb.bulkdata import BulkData
from dicomweb.deletion import Delete
from dicomweb.exchange import Answer, Call
from dicomweb.layouts import Layouts
from dicomweb.media_types import DICOM, DICOM_XML
from dicomweb.multipart import boundary_for, closing, part_head
from dicomweb.native_xml import to_xml
from dicomweb.qido import Search
from dicomweb.search_parameters import INSTANCE, SERIES, STUDY, Asked, asked_of
from dicomweb.wado import Instances
from storage.archive import Archive
from storage.attributes import tag_of
from storage.errors import Mismatch, NotFound
from storage.index import Index
from storage.ingest import Expect
from storage.matching import combined, parse
from storage.non_patient import CATEGORIES, PARTITION, Category
from storage.scanner import Scan
from storage.types import Dataset, Level, Located

_SOP_CLASS: Final = tag_of("SOPClassUID")
_RETRIEVE_URL: Final = tag_of("RetrieveURL")


def category_of(call: Call) -> Category:
    """What the path is about: every route of the service says it."""
    return CATEGORIES[call.path["npi"]]


class NonPatientInstances:
    """/{npi-name}/{uid}: one instance, its bulk data, its deletion."""

    def __init__(self, archive: Archive, layouts: Layouts, instances: Instances, deletion: Delete) -> None:
        self._index = archive.index
        self._instances = instances
        self._bulk_data = BulkData(layouts, archive.blobs)
        self._deletion = deletion

    def retrieve(self, call: Call) -> Answer:
        """The instance as a file or as a data set (12.4). Raises NotFound, NotAcceptable."""
        located = self._located(call)
        offer = negotiation.choose(call.accepted(), negotiation.non_patient(located.transfer_syntax_uid))
        if offer.media_type == DICOM:
            return self._instances.one(_placed(call, located))
        layout = self._index.layout(located.scope)
        if layout is None:
            raise NotFound("the instance was deleted a moment ago")
        tag = f"{located.sha256[:32]}-{layout.encoded.checksum:x}"
        boundary = boundary_for(tag, str(offer))
        headers = {"ETag": f'W/"{boundary}"', "Cache-Control": CACHE_CONTROL, "Vary": "Accept"}
        if unchanged(call, headers["ETag"]):
            return Answer(304, headers)
        content = _completed(b"".join(layout.encoded.pieces()), located, call)
        if offer.media_type != DICOM_XML:
            return Answer(200, {**headers, "Content-Type": offer.media_type}, (b"[" + content + b"]",))
        document = to_xml(orjson.loads(content))
        if not offer.related:
            return Answer(200, {**headers, "Content-Type": DICOM_XML}, (document,))
        parts = (part_head(boundary, {"Content-Type": DICOM_XML}, first=True), document, closing(boundary))
        return Answer(200, {**headers, "Content-Type": f"{offer}; boundary={boundary}"}, parts)

    def bulk_data(self, call: Call) -> Answer:
        """One value that the data set refers to, with Range. Raises NotFound, NotAcceptable."""
        return self._bulk_data(_placed(call, self._located(call)))

    async def delete(self, call: Call, receive: Receive) -> Answer:
        """Delete, for the reason in query or body, as a study is deleted (not in the standard). Raises NotFound, BadRequest."""
        return await self._deletion.delete(_placed(call, self._located(call)), receive)

    def _located(self, call: Call) -> Located:
        category, uid = category_of(call), call.path["uid"]
        for located in self._index.instances([uid], (PARTITION,)):
            if located.sop_class_uid in category.sop_classes:
                return located
        raise NotFound(f"there is no instance {uid} among the {category.name}")


class NonPatientSearch(Search):
    """GET /{npi-name} (12.6): by any attribute of the instance, in sequences too."""

    def __init__(self, index: Index, *, most: int | None = None, empty_status: int = 200) -> None:
        super().__init__(index, Level.IMAGE, most=most, empty_status=empty_status)

    def _asked(self, call: Call) -> Asked:
        category = category_of(call)
        asked = asked_of(call, Level.IMAGE, unasked=category.tags)
        # Only those of the category, whatever SOP class the search names.
        own = ((_SOP_CLASS,), parse((_SOP_CLASS,), "UI", category.sop_classes))
        conditions = (*combined((own,)), *asked.query.conditions)
        # The order of studies and series says nothing here.
        order = asked.query.order or ((INSTANCE, False),)
        query = replace(asked.query, conditions=conditions, partition=PARTITION, order=order)
        return replace(asked, query=query)

    def _resource(self, call: Call) -> str:
        return f"{call.root}/{category_of(call).name}"

    def _complete(self, answers: Iterable[Dataset], call: Call) -> Iterator[Dataset]:
        """Answers without the study and the series that only the index knows."""
        for answer in answers:
            uid = (answer[INSTANCE].get("Value") or [""])[0]
            whole: dict[str, Any] = {**answer, _RETRIEVE_URL: {"vr": "UR", "Value": [f"{self._resource(call)}/{uid}"]}}
            yield {tag: whole[tag] for tag in sorted(whole) if tag not in (STUDY, SERIES)}


def expected(call: Call) -> Expect:
    """What may be stored at a path (12.5): instances of the category, and only the one that the path names, if it does."""
    category, uid = category_of(call), call.path.get("uid")

    def expect(found: Scan) -> None:
        if found.sop_class_uid not in category.sop_classes:
            raise Mismatch(f"SOP class {found.sop_class_uid} is none of the {category.name}; send it to its own category")
        if uid is not None and found.uids.instance != uid:
            raise Mismatch(f"the SOP Instance UID {found.uids.instance} is not the {uid} of the path; make them agree")

    return expect


def _placed(call: Call, located: Located) -> Call:
    """The call as the studies service understands it."""
    uids = located.uids
    place = {"study": uids.study, "series": uids.series, "instance": uids.instance, "partition": located.partition}
    return replace(call, path={**call.path, **place})


def _completed(content: bytes, located: Located, call: Call) -> bytes:
    """With BulkDataURIs below the instance's own path."""
    uids = located.uids
    inside = f"bulk:/studies/{uids.study}/series/{uids.series}/instances/{uids.instance}/"
    own = f"{call.mount}/{category_of(call).name}/{uids.instance}/"
    return content.replace(f'"BulkDataURI":"{inside}'.encode(), f'"BulkDataURI":"{own}'.encode())
