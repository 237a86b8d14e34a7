"""WADO-RS metadata (PS3.18 10.4.1.1.2): a join of the JSON that ingest kept, almost always without parsing any of it.

The join of a series or a study is kept as it was sent (`finished`) for as long as its ETag says that nothing changed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from xml.sax.saxutils import escape

import orjson

from dicomweb import negotiation
from dicomweb.bodies import CACHE_CONTROL, settled, unchanged
from dicomweb.exchange import Answer, Call
from dicomweb.finished import IDENTITY, Finished, coding_of
from dicomweb.frames import scope_of
from dicomweb.instance import YBR, served_decoded
from dicomweb.media_types import DICOM_XML
from dicomweb.multipart import boundary_for, closing, part_head
from dicomweb.native_xml import xml_pieces
from storage.archive import Archive
from storage.errors import NotFound
from storage.per_frame import Encoded
from storage.transfer_syntaxes import Coding, lookup
from storage.types import Located, Scope

_KEPT_SCOPES = 1024
_VARY = "Accept, Accept-Encoding"
_SOP_INSTANCE_UID, _SAMPLES, _PHOTOMETRIC, _PLANAR = "00080018", "00280002", "00280004", "00280006"
_AVAILABLE = "00083002"
_STORED, _HIGH_BIT = "00280101", "00280102"


@dataclass(frozen=True, slots=True)
class Remade:
    """Which instances of a scope have frames that go out decoded, and so other than their data set describes them."""

    always: frozenset[str]
    # Those whose frames are native: they are remade when chroma is subsampled. None: all of the scope.
    native: frozenset[str] | None
    # Transfer syntax by instance of those that are video, which no frame request can show.
    videos: Mapping[str, str]

    @classmethod
    def among(cls, instances: Iterable[Located]) -> Remade:
        """Sort the instances of a scope; one syntax to a series is the rule, and costs no list of UIDs."""
        always, native, others = set(), set(), 0
        videos: dict[str, str] = {}
        for located in instances:
            syntax = lookup(located.transfer_syntax_uid)
            if syntax.coding is Coding.VIDEO:
                videos[located.uids.instance] = syntax.uid
            if served_decoded(syntax, ""):
                always.add(located.uids.instance)
            elif syntax.coding is Coding.NATIVE:
                native.add(located.uids.instance)
            else:
                others += 1
        return cls(frozenset(always), frozenset(native) if always or others else None, videos)

    def describe(self, item: Encoded) -> Encoded:
        """One instance's JSON, describing its frames as they are served: colour is RGB by pixel (PS3.3 C.7.6.3).

        Viewers read a frame by the Image Pixel module, so the two must agree whatever the stored coding was.
        """
        subsampled = self.native != frozenset() and YBR in item.json
        if not self.always and not subsampled and not self.videos:
            return item
        dataset: dict[str, Any] = orjson.loads(item.json)
        instance = _first(dataset, _SOP_INSTANCE_UID)
        if instance in self.videos:
            # A viewer has to know that it must ask for the whole as /rendered, and group 0002 is not in metadata.
            dataset[_AVAILABLE] = {"vr": "UI", "Value": [self.videos[instance]]}
            return replace(item, json=orjson.dumps(dict(sorted(dataset.items()))))
        native = self.native is None or instance in self.native
        if instance in self.always or (native and str(_first(dataset, _PHOTOMETRIC)).endswith("_422")):
            _as_decoded(dataset)
            return replace(item, json=orjson.dumps(dataset))
        return item


class Metadata:
    """GET …/metadata of a study, a series or an instance."""

    def __init__(self, archive: Archive, *, max_bytes: int) -> None:
        """`max_bytes`: memory for answers that have been made."""
        self._index = archive.index
        self._finished = Finished(max_bytes)
        self._remade: OrderedDict[tuple[Scope, str], Remade] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, call: Call) -> Answer:
        """Every instance's data set, with bulk data by reference. Raises NotFound, NotAcceptable."""
        scope = scope_of(call)
        offer = negotiation.choose(call.accepted(), negotiation.METADATA)
        tag, items = self._instance(scope) if scope.instance else self._many(scope)
        xml = offer.media_type == DICOM_XML
        etag = f'W/"{tag}{"-xml" if xml else ""}"'
        if unchanged(call, etag):
            return Answer(304, {"ETag": etag, "Cache-Control": CACHE_CONTROL, "Vary": _VARY})
        boundary = boundary_for(tag, DICOM_XML)
        headers = {
            "Content-Type": f"{offer}; boundary={boundary}" if xml else offer.media_type,
            "ETag": etag,
            "Cache-Control": CACHE_CONTROL,
            "Vary": _VARY,
        }
        coding = coding_of(call.headers.get("accept-encoding", ""))
        if coding != IDENTITY:
            headers["Content-Encoding"] = coding

        def pieces() -> Iterator[bytes]:
            return _documents(items, call.mount, boundary) if xml else _array(items, call.mount)

        # One instance's is not worth the place: what tells its ETag is all of it.
        key = None if scope.instance else (scope, etag, call.mount)
        body = self._finished.body(key, coding, pieces)
        content = iter(()) if call.method == "HEAD" else settled(body.pieces)
        if body.length is not None and not isinstance(content, tuple):
            headers["Content-Length"] = str(body.length)
        return Answer(200, headers, content)

    def _instance(self, scope: Scope) -> tuple[str, Iterator[Encoded]]:
        """One instance in one query; its ETag is made of what it answers from."""
        layout = self._index.layout(scope)
        if layout is None:
            raise NotFound("there is no such instance")
        tag = f"{layout.located.sha256[:32]}-{layout.encoded.checksum:x}"
        return tag, map(Remade.among((layout.located,)).describe, (layout.encoded,))

    def _many(self, scope: Scope) -> tuple[str, Iterator[Encoded]]:
        tag = self._index.etag(scope)
        if tag is None:
            raise NotFound("nothing is stored under the UIDs of this URL")
        return tag, self._series(scope, tag)

    def _series(self, scope: Scope, tag: str) -> Iterator[Encoded]:
        yield from map(self._remade_in(scope, tag).describe, self._index.metadata(scope))

    def _remade_in(self, scope: Scope, tag: str) -> Remade:
        """Remembered for as long as nothing changes in the scope, which its ETag tells."""
        with self._lock:
            known = self._remade.get((scope, tag))
        if known is None:
            known = Remade.among(self._index.locate(scope))
            with self._lock:
                self._remade[scope, tag] = known
                while len(self._remade) > _KEPT_SCOPES:
                    self._remade.popitem(last=False)
        return known


def _completed(piece: bytes, mount: str) -> bytes:
    """With BulkDataURIs that begin at the root of the web as the client sees it, behind whatever proxy."""
    # Unescaped quotes cannot stand inside a JSON string, so this is a BulkDataURI and nothing else.
    return piece.replace(b'"BulkDataURI":"bulk:/', b'"BulkDataURI":"' + mount.encode() + b"/")


def _array(items: Iterator[Encoded], mount: str) -> Iterator[bytes]:
    before = b"["
    for item in items:
        for piece in item.pieces():
            yield before + _completed(piece, mount)
            before = b""
        before = b","
    yield b"]" if before == b"," else b"[]"


def _documents(items: Iterator[Encoded], mount: str, boundary: str) -> Iterator[bytes]:
    """Each data set in the Native DICOM Model, in a part of its own (PS3.18 8.7.3.2, PS3.19 A.1)."""
    begin = b'<BulkData uri="' + escape(mount, {'"': "&quot;"}).encode() + b"/"
    first = True
    for item in items:
        yield part_head(boundary, {"Content-Type": DICOM_XML}, first=first)
        for piece in xml_pieces(item.dataset()):
            yield piece.replace(b'<BulkData uri="bulk:/', begin)
        first = False
    yield closing(boundary)


def _first(dataset: dict[str, Any], tag: str) -> Any:
    return (dataset.get(tag, {}).get("Value") or [""])[0]


def _as_decoded(dataset: dict[str, Any]) -> None:
    stored = _first(dataset, _STORED)
    if isinstance(stored, int) and stored > 0:
        dataset[_HIGH_BIT] = {"vr": "US", "Value": [stored - 1]}
    if _first(dataset, _SAMPLES) == 3:
        dataset[_PHOTOMETRIC] = {"vr": "CS", "Value": ["RGB"]}
        dataset[_PLANAR] = {"vr": "US", "Value": [0]}
