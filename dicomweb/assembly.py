"""Metadata and bulk data on their way to becoming Part 10 files (PS3.18 10.5.1, 10.5.2), in memory that does not grow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from dicomweb import errors
from dicomweb.bulk_parts import BulkPart, location_of
from dicomweb.codestreams import FRAMES
from dicomweb.encoding import encode
from dicomweb.filling import DOCUMENT_TYPE, IMAGE_PIXEL, PIXELS, SIZE, Filling, Waiting, encapsulated
from dicomweb.intake import Intake
from dicomweb.json_array import ObjectReader
from dicomweb.media_types import DICOM_JSON, DICOM_XML, JSON, OCTETS, MediaType, parse_media_type
from dicomweb.multipart import Part
from dicomweb.native_xml import from_xml
from dicomweb.store_response import Failed
from storage.dictionary import spell
from storage.errors import BadRequest, LightboxError, LimitExceeded, NotStorable
from storage.levels import Limits
from storage.non_patient import BY_SOP_CLASS
from storage.part10 import file_meta

# What one instance's metadata may be as text, and what may wait for its bulk data at any time.
METADATA_BYTES: Final = 16 << 20
WAITING_BYTES: Final = 64 << 20
# Objects and commas of a JSON text, before it is read: each costs hundreds of bytes once it is.
_MOST_OBJECTS, _MOST_VALUES = 400_000, 4_000_000

# The last two not of objects of no patient.
_IDENTIFYING: Final = {
    "00080016": "SOP Class UID",
    "00080018": "SOP Instance UID",
    "0020000D": "Study Instance UID",
    "0020000E": "Series Instance UID",
}
# What the scanner takes for a UID is no longer than this.
_LONGEST_UID: Final = 128
_APART: Final = frozenset({0x0028, 0x0042, 0x7FE0})
_SYNTAX_OF_FILE, _AVAILABLE = 0x00020010, "00083002"


class Assembly:
    """The parts of one request: metadata, and bulk data by the location that it refers to.

    Blocking; used by one thread at a time. What is complete is handed to `intake`. A BulkDataURI is looked for in this
    request and nowhere else: nothing is ever fetched.
    """

    def __init__(self, intake: Intake, folder: Path, most: int, root: MediaType, *, most_instances: int = 10_000) -> None:
        self._intake = intake
        self._folder = folder
        self._most = most
        self._limits = Limits()
        self._root = root
        self._instances_left = most_instances
        self._parts: dict[str, list[BulkPart]] = {}
        self._used: set[str] = set()
        self._waiting: dict[str, dict[int, Waiting]] = defaultdict(dict)
        self._waiting_bytes = 0
        self._objects: ObjectReader | None = None
        self._xml: bytearray | None = None
        self._bulk: BulkPart | None = None
        self._location = ""
        self._error: LightboxError | None = None

    # ---- a part begins, goes on, ends

    def begin(self, part: Part) -> None:
        """A part begins: metadata or bulk data, by its media type."""
        self._objects, self._xml, self._bulk, self._error = None, None, None, None
        media_type = parse_media_type(part.content_type) if part.content_type else self._unnamed()
        if media_type.type in (DICOM_JSON, JSON):
            self._objects = ObjectReader(METADATA_BYTES)
        elif media_type.type == DICOM_XML:
            self._xml = bytearray()
        else:
            self._location = location_of(part.location) or (f"cid:{part.identifier}" if part.identifier else "")
            self._bulk = BulkPart(self._folder, media_type, self._most)

    def _unnamed(self) -> MediaType:
        """A part without Content-Type: metadata when it is the first, as the request says; otherwise bytes."""
        return MediaType(self._root.inner or self._root.type if not (self._parts or self._waiting) else OCTETS)

    def write(self, data: bytes | memoryview) -> None:
        """Its bytes. What is wrong with a part is the failure of what it belongs to; the rest of its bytes is dropped."""
        if self._error is not None:
            return
        try:
            if self._bulk is not None:
                self._bulk.write(data)
            elif self._objects is not None:
                for text in self._objects.feed(data):
                    self._take_json(text)
            elif self._xml is not None:
                if len(self._xml) + len(data) > METADATA_BYTES:
                    raise LimitExceeded(f"the metadata of an instance is more than {METADATA_BYTES} bytes; send its large values as parts of their own")
                self._xml += data
        except LightboxError as error:
            self._error = error

    def end(self) -> None:
        """The part is complete."""
        if self._bulk is not None:
            self._end_bulk(self._bulk)
        elif self._objects is not None:
            self._end_json(self._objects)
        elif self._xml is not None:
            self._end_xml(bytes(self._xml))
        self._objects, self._xml, self._bulk = None, None, None

    def _end_bulk(self, part: BulkPart) -> None:
        part.end()
        key = self._location
        error = self._error or self._misplaced(key)
        if error is None:
            self._parts.setdefault(key, []).append(part)
            for waiting in list(self._waiting.get(key, {}).values()):
                self._look(waiting)
            return
        part.remove()
        self._used.add(key)
        concerned = list(self._waiting.get(key, {}).values())
        for waiting in concerned:
            self._give_up(waiting, error)
        if not concerned:
            self._intake.fail(Failed(error))

    def _misplaced(self, key: str) -> BadRequest | None:
        if not key:
            return BadRequest("a part has no Content-Location; give it the BulkDataURI of its attribute (PS3.18 8.6.1)")
        if key in self._used:
            return BadRequest("two parts have the same Content-Location; send each bulk data once")
        return None

    def _end_json(self, objects: ObjectReader) -> None:
        try:
            if self._error is None:
                objects.finish()
        except BadRequest as error:
            self._error = error
        if self._error is not None:
            self._intake.fail(Failed(self._error))

    def _end_xml(self, document: bytes) -> None:
        try:
            if self._error is not None:
                raise self._error
            self._take(from_xml(document, self._limits))
        except LightboxError as error:
            self._intake.fail(Failed(error))

    # ---- metadata

    def _take_json(self, text: bytes) -> None:
        try:
            if text.count(b"{") > _MOST_OBJECTS or text.count(b",") > _MOST_VALUES:
                raise LimitExceeded("the metadata of an instance has too many values; send large ones as parts of their own")
            dataset = orjson.loads(text)
        except orjson.JSONDecodeError:
            self._intake.fail(Failed(BadRequest("the metadata of an instance is not JSON in UTF-8 (RFC 8259)")))
        except LimitExceeded as error:
            self._intake.fail(Failed(error))
        else:
            self._take(dataset)

    def _take(self, dataset: dict[str, Any]) -> None:
        """One instance's metadata: stored at once when it refers to nothing."""
        self._instances_left -= 1
        if self._instances_left < 0:
            raise LimitExceeded("the request has metadata of too many instances; send fewer at a time")
        sop_class, sop_instance = (_first(dataset, tag) for tag in ("00080016", "00080018"))
        try:
            waiting = self._described(dataset, str(sop_class), str(sop_instance))
        except Exception as error:  # noqa: BLE001 - one instance's failure is its answer, not its neighbours'
            errors.note(error, "store")
            self._intake.fail(Failed(error, str(sop_class), str(sop_instance)) if sop_class and sop_instance else Failed(error))
            return
        self._waiting_bytes += waiting.encoded.size
        for hole in waiting.encoded.holes():
            key = location_of(hole.uri)
            waiting.missing.add(key)
        for key in waiting.missing:
            self._waiting[key][id(waiting)] = waiting
        if self._waiting_bytes > WAITING_BYTES:
            self._give_up(waiting, LimitExceeded(f"more than {WAITING_BYTES} bytes of metadata wait for their bulk data; send it right behind, or fewer instances at a time"))
            return
        self._look(waiting)

    def _described(self, dataset: dict[str, Any], sop_class: str, sop_instance: str) -> Waiting:
        needed = list(_IDENTIFYING.items())[: 2 if sop_class in BY_SOP_CLASS else None]
        absent = [f"{name} ({tag[:4]},{tag[4:]})" for tag, name in needed if not _first(dataset, tag)]
        if absent:
            raise NotStorable(f"{', '.join(absent)}: Type 1, but missing in the metadata; send the instance with all of them")
        odd = [name for tag, name in _IDENTIFYING.items() if len(str(_first(dataset, tag))) > _LONGEST_UID]
        if odd:
            raise NotStorable(f"{', '.join(odd)}: longer than the {_LONGEST_UID} characters that are kept of a UID (PS3.5 9.1 has 64)")
        encoded = encode(dataset, self._limits, apart=_APART)
        named = encoded.meta.get(_SYNTAX_OF_FILE) or str(_first(dataset, _AVAILABLE) or "") or self._root.transfer_syntax
        frames = _first(dataset, "00280008")
        described = {tag: _first(dataset, spell(tag)) for tag in (*SIZE, *(int(tag, 16) for tag in IMAGE_PIXEL), DOCUMENT_TYPE)}
        return Waiting(encoded, described, sop_class, sop_instance, named if named != "*" else "", _whole(frames))

    # ---- together

    def _look(self, waiting: Waiting) -> None:
        """Assemble the instance if all of it is here."""
        for key in [key for key in waiting.missing if self._complete(waiting, key)]:
            waiting.missing.discard(key)
        if waiting.missing:
            return
        try:
            self._assemble(waiting)
        except Exception as error:  # noqa: BLE001 - one instance's failure is its answer, not its neighbours'
            errors.note(error, "store")
            self._intake.fail(Failed(error, waiting.sop_class_uid, waiting.sop_instance_uid))
        self._forget(waiting)

    def _complete(self, waiting: Waiting, key: str) -> bool:
        """Pixel data in frames is complete with its last; everything else with its one part."""
        parts = self._parts.get(key)
        if not parts:
            return False
        kind = parts[0].media_type
        framed = kind.type in FRAMES or (kind.type == OCTETS and encapsulated(kind.transfer_syntax))
        wanted = waiting.frames if framed and _holds_pixels(waiting, key) else 1
        return len(parts) >= wanted

    def _give_up(self, waiting: Waiting, error: LightboxError) -> None:
        self._intake.fail(Failed(error, waiting.sop_class_uid, waiting.sop_instance_uid))
        self._forget(waiting)

    def _forget(self, waiting: Waiting) -> None:
        """The instance is done with: what only it was waiting for is not needed any more."""
        self._waiting_bytes -= waiting.encoded.size
        for key in {location_of(hole.uri) for hole in waiting.encoded.holes()}:
            others = self._waiting.get(key, {})
            others.pop(id(waiting), None)
            if others:
                continue
            self._waiting.pop(key, None)
            if key in self._parts:
                self._used.add(key)
            for part in self._parts.pop(key, ()):
                part.remove()

    def _assemble(self, waiting: Waiting) -> None:
        holes = {hole: self._parts[location_of(hole.uri)] for hole in waiting.encoded.holes()}
        pixels = next((hole for hole in holes if hole.path == spell(PIXELS)), None)
        for hole, parts in holes.items():
            if hole is not pixels and len(parts) > 1:
                raise BadRequest(f"there are {len(parts)} parts for {hole.path}, which has one value; send one")
        filling = Filling(waiting, holes)
        syntax = filling.native(pixels) if pixels is None else filling.pixels(pixels)
        self._intake.begin()
        self._intake.write(file_meta(waiting.sop_class_uid, waiting.sop_instance_uid, syntax))
        for data in filling.written():
            self._intake.write(data)
        self._intake.end()

    # ---- the end

    def finish(self) -> None:
        """The request is complete: what still waits has failed, and so have parts that nothing refers to."""
        for waiting in {id(one): one for ones in self._waiting.values() for one in ones.values()}.values():
            paths = sorted({hole.path for hole in waiting.encoded.holes() if location_of(hole.uri) in waiting.missing})
            got = max((len(self._parts.get(key, ())) for key in waiting.missing), default=0)
            what = f"{got} of {waiting.frames} frames came" if got else "no part has its BulkDataURI as Content-Location"
            self._give_up(waiting, BadRequest(f"the bulk data of {', '.join(paths[:4])} is missing: {what}; nothing is fetched from elsewhere"))
        for _ in self._parts:
            self._intake.fail(Failed(BadRequest("a part has a Content-Location that no BulkDataURI in the metadata names")))
        self.close()

    def close(self) -> None:
        """Forget everything that waits."""
        if self._bulk is not None:
            self._bulk.remove()
            self._bulk = None
        for parts in self._parts.values():
            for part in parts:
                part.remove()
        self._parts.clear()


def _holds_pixels(waiting: Waiting, key: str) -> bool:
    return any(hole.path == spell(PIXELS) and location_of(hole.uri) == key for hole in waiting.encoded.holes())


def _first(dataset: Mapping[str, Any], tag: str) -> Any:
    described = dataset.get(tag)
    values = described.get("Value") if isinstance(described, dict) else None
    return values[0] if isinstance(values, list) and values else None


def _whole(value: Any) -> int:
    """Number of Frames, 1 where it is not there; a text of digits is one too (PS3.18 F.2.3)."""
    try:
        return max(1, int(value)) if value not in (None, "") else 1
    except (TypeError, ValueError):
        return 1
