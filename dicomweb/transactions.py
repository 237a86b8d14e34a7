"""What each transaction takes and gives, as a table: what answers it (`Resource.methods`) -> its description.

Capabilities are made from it; media types, search parameters and statuses in it come from the tables that the
transactions themselves go by.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from dicomweb import negotiation
from dicomweb.bulkdata import DOCUMENT_TYPES
from dicomweb.deletion import PARAMETERS as DELETING
from dicomweb.media_types import DICOM, DICOM_JSON, DICOM_XML, JSON, OCTETS, RELATED, ZIP
from dicomweb.negotiation import Offer
from dicomweb.rendering.request import PARAMETERS as RENDERING
from dicomweb.search_parameters import PARAMETERS as SEARCHING
from dicomweb.stow import METADATA
from dicomweb.wado_uri import PARAMETERS as URI
from storage.attributes import tag_of
from storage.codecs.decoding import DECODERS
from storage.procedure_steps import RULES
from storage.transfer_syntaxes import EXPLICIT_LITTLE, TABLE, Coding
from storage.types import Level


class Resource(NamedTuple):
    """A path, the name of what answers each method there, and what the path says beside its variables."""

    path: str
    methods: dict[str, str]
    fixed: Mapping[str, str] = MappingProxyType({})


class Transaction(NamedTuple):
    """One transaction of PS3.18, wherever its path is.

    `name` is how annex H calls it; `{level}` stands for what the path ends in, `{parents}` for all that it fixes, `{npi}` for the
    category of non-patient instances. `gives` and
    `takes` are media types, the default first; `parameters` are those of the query. `level`: the attributes that are
    matched are those of a search at that level. `sends` and `answers` are header fields beside Accept and Content-Type.
    """

    name: str
    gives: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    parameters: Iterable[str] = ()
    level: Level | None = None
    sends: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    success: str = "200"
    failure: str = "400 404 406 503"


def _texts(*offers: Offer) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(str, offers)))


def _named(offers: tuple[str, ...], *plain: str) -> tuple[str, ...]:
    """The offers, and before them how the first is asked for without a transfer syntax, after them as stored, whatever that is."""
    return (*plain, *offers, *(f"{one}; transfer-syntax=*" for one in plain))


def _instances(*, single: bool) -> tuple[str, ...]:
    def found() -> Iterator[Offer]:
        for uid in sorted(TABLE, key=lambda one: (one != EXPLICIT_LITTLE, one)):
            yield from (*negotiation.instances(uid, single=single), *negotiation.zips(uid))

    alone = (DICOM,) if single else ()
    return _named(_texts(*found()), f'{RELATED}; type="{DICOM}"', *alone, ZIP)


def _non_patient() -> tuple[str, ...]:
    named = (offer for uid in sorted(TABLE) for offer in negotiation.non_patient(uid))
    return (*_texts(*named), f'{RELATED}; type="{DICOM}"', DICOM)


def _frames() -> tuple[str, ...]:
    def found() -> Iterator[Offer]:
        for syntax in TABLE.values():
            if syntax.coding in DECODERS:
                yield from negotiation.frames(syntax, decodable=True, single=True)

    return _named(_texts(*found()), f'{RELATED}; type="{OCTETS}"', OCTETS)


_VIDEOS: Final = tuple(sorted({one.media_type for one in TABLE.values() if one.coding is Coding.VIDEO}))
_PICTURES: Final = _texts(
    *negotiation.PICTURES,
    *(Offer(one.media_type, related=True) for one in negotiation.PICTURES),
    *map(Offer, _VIDEOS),
    *negotiation.DOCUMENTS,
)
_BULK: Final = _texts(*negotiation.bulk(OCTETS), *map(Offer, (*_VIDEOS, *sorted(DOCUMENT_TYPES))))
_ALL_BULK: Final = tuple(
    dict.fromkeys(one for one in (*_texts(*negotiation.bulk(OCTETS, single=False)), *_frames()) if one.startswith(RELATED))
)
_STORED: Final = (
    f'{RELATED}; type="{DICOM}"',
    *(f'{RELATED}; type="{one}"' for one in sorted(METADATA)),
    DICOM,
    *sorted(METADATA),
)
_DATASET: Final = (DICOM_JSON, JSON, DICOM_XML)
_METADATA, _FOUND, _OUTCOME = _texts(*negotiation.METADATA), _texts(*negotiation.SEARCH), _texts(*negotiation.STORE)
_NEGOTIATION: Final = ("accept", "charset")
_VALIDATOR: Final = ("If-None-Match",)
_RANGE: Final = (*_VALIDATOR, "Range", "If-Range")
_RANGED: Final = ("ETag", "Accept-Ranges", "Content-Range", "Content-Length")
_PAGED: Final = ("ETag", "Link", "Warning", "X-Total-Count")
_WHOLE: Final = "200 206 304"
# Any attribute of a workitem is matched; the table has those that it can be expected to have.
_WORKITEMS: Final = (SEARCHING - {"orderby", "totalcount", "cursor"}) | {
    name for rule in RULES for name in (rule.keyword, tag_of(rule.keyword)) if rule.keyword != "TransactionUID"
}
_CHANGED: Final = "400 404 409 413 415 503"


def _search(name: str, level: Level) -> Transaction:
    return Transaction(name, _FOUND, (), SEARCHING, level, _VALIDATOR, _PAGED, "200 204 304", "400 406 503")


DESCRIBED: Final[dict[str, Transaction]] = {
    "instances": Transaction("Retrieve{level}", _instances(single=False), (), _NEGOTIATION),
    "instance": Transaction("Retrieve{level}", _instances(single=True), (), _NEGOTIATION, None, _RANGE, _RANGED, _WHOLE),
    "metadata": Transaction("Retrieve{level}Metadata", _METADATA, (), _NEGOTIATION, None, _VALIDATOR, ("ETag",), "200 304"),
    "rendered": Transaction("RetrieveRendered{level}", _PICTURES, (), {*_NEGOTIATION, *RENDERING}, None, _RANGE, _RANGED, _WHOLE),
    "thumbnail": Transaction("Retrieve{level}Thumbnail", _PICTURES, (), {*_NEGOTIATION, *RENDERING}, None, _RANGE, _RANGED, _WHOLE),
    "bulk data": Transaction("RetrieveBulkdata", _BULK, (), _NEGOTIATION, None, _RANGE, _RANGED, _WHOLE),
    "all bulk data": Transaction("Retrieve{level}Bulkdata", _ALL_BULK, (), _NEGOTIATION),
    "all pixel data": Transaction("Retrieve{level}PixelData", _ALL_BULK, (), _NEGOTIATION),
    "frames": Transaction("RetrieveFrames", _frames(), (), _NEGOTIATION, None, _RANGE, _RANGED, _WHOLE),
    "search studies": _search("SearchForStudies", Level.STUDY),
    "search series": _search("SearchFor{parents}Series", Level.SERIES),
    "search instances": _search("SearchFor{parents}Instances", Level.IMAGE),
    "store": Transaction(
        "Store{parents}Instances", _OUTCOME, _STORED, (), None, (), ("Warning",), "200 202", "400 409 413 415 503 507"
    ),
    "search non-patient instances": Transaction(
        "SearchFor{npi}", _FOUND, (), SEARCHING, None, _VALIDATOR, _PAGED, "200 204 304", "400 406 503"
    ),
    "store non-patient instances": Transaction(
        "Store{npi}", _OUTCOME, _STORED, (), None, (), ("Warning",), "200 202", "400 409 413 415 503 507"
    ),
    "non-patient instance": Transaction("Retrieve{npi}", _non_patient(), (), _NEGOTIATION, None, _RANGE, _RANGED, _WHOLE),
    "store non-patient instance": Transaction(
        "StoreOneOf{npi}", _OUTCOME, _STORED, (), None, (), ("Warning",), "200 202", "400 409 413 415 503 507"
    ),
    "bulk data of a non-patient instance": Transaction(
        "RetrieveBulkdataOf{npi}", _BULK, (), _NEGOTIATION, None, _RANGE, _RANGED, _WHOLE
    ),
    "delete non-patient instance": Transaction("Delete{npi}", (JSON,), (JSON,), DELETING, failure=_CHANGED),
    "delete": Transaction("Delete{level}", (JSON,), (JSON,), DELETING, failure=_CHANGED),
    "reject": Transaction("Reject{level}", (), (JSON,), ("comment",), success="204", failure=_CHANGED),
    "create workitem": Transaction(
        "CreateWorkitem", (), _DATASET, ("workitem",), None, (), ("Content-Location", "Location", "Warning"), "201", _CHANGED
    ),
    "workitem": Transaction("RetrieveWorkitem", _OUTCOME, (), _NEGOTIATION),
    "update workitem": Transaction(
        "UpdateWorkitem", (), _DATASET, ("transaction-uid",), None, (), ("Content-Location", "Warning"), "200", _CHANGED
    ),
    "change state": Transaction("ChangeWorkitemState{end}", (), _DATASET, ("transaction-uid",), None, (), ("Warning",), "200", _CHANGED),
    "request cancellation": Transaction(
        "RequestWorkitemCancellation{end}", (), _DATASET, (), None, (), ("Warning",), "202", _CHANGED
    ),
    "search workitems": Transaction(
        "SearchForWorkitems", _METADATA, (), _WORKITEMS, None, (), ("Warning",), "200 204", "400 406 503"
    ),
    "subscribe": Transaction("Subscribe", (), (), ("deletionlock", "filter"), None, (), ("Content-Location",), "201"),
    "unsubscribe": Transaction("Unsubscribe"),
    "suspend": Transaction("SuspendGlobalSubscription"),
    "event channel": Transaction("OpenEventChannel", sends=("Upgrade",), success="101", failure="400 403 426"),
    "request commitment": Transaction(
        "RequestStorageCommitment", _OUTCOME, _DATASET, (), None, ("Prefer",), ("Retry-After", "Preference-Applied"), "200 202", _CHANGED
    ),
    "commitment result": Transaction(
        "CheckStorageCommitmentResult", _OUTCOME, (), _NEGOTIATION, None, (), ("Retry-After",), "200 202"
    ),
    "capabilities": Transaction("RetrieveCapabilities", _texts(*negotiation.CAPABILITIES), (), _NEGOTIATION, failure="404 406"),
    "WADO-URI": Transaction("RetrieveInstanceByURI", (DICOM, *_PICTURES), (), URI, None, _RANGE, _RANGED, _WHOLE, "400 404 406 501 503"),
}
