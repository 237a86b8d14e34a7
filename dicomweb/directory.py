"""DICOMDIR: the directory of a file-set, from the metadata of its instances (PS3.3 annex F, PS3.10 8.6)."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, NamedTuple

from pydicom.uid import UID

from dicomweb.encoding import element, encode, header
from storage.attributes import tag_of
from storage.dictionary import vr_of
from storage.errors import BadRequest, LimitExceeded
from storage.levels import Limits
from storage.part10 import file_meta
from storage.transfer_syntaxes import EXPLICIT_LITTLE

SOP_CLASS: Final = "1.2.840.10008.1.3.10"
_ITEM: Final = b"\xfe\xff\x00\xe0"
_IN_USE: Final = b"\xff\xff"
# Of each element of a record, and of the directory, that says where another is: 4 bytes.
_NEXT, _LOWER = 0x00041400, 0x00041420
_CONTENT, _CONCEPT_NAME = "0040A730", "ConceptNameCodeSequence"


class _Kind(NamedTuple):
    """A type of directory record: which SOP classes it stands for, by their keyword, and its keys (PS3.3 F.5)."""

    type: str
    classes: str
    keys: tuple[str, ...]


_NUMBERED: Final = ("InstanceNumber",)
_DATED: Final = ("ContentDate", "ContentTime", *_NUMBERED)
_LABELLED: Final = (*_DATED, "ContentLabel", "ContentDescription", "ContentCreatorName")
PATIENT: Final = ("PatientName", "PatientID")
STUDY: Final = ("StudyDate", "StudyTime", "AccessionNumber", "StudyDescription", "StudyInstanceUID", "StudyID")
SERIES: Final = ("Modality", "SeriesDescription", "SeriesInstanceUID", "SeriesNumber")
# The first whose pattern is found decides; the last is for all that is not named.
_KINDS: Final = tuple(
    _Kind(*row)
    for row in (
        ("RT DOSE", "RTDose", (*_NUMBERED, "DoseSummationType", "DoseComment")),
        ("RT STRUCTURE SET", "RTStructureSet", (*_NUMBERED, "StructureSetLabel", "StructureSetDate", "StructureSetTime")),
        ("RT PLAN", "RT(Ion)?PlanStorage", (*_NUMBERED, "RTPlanLabel", "RTPlanDate", "RTPlanTime")),
        ("RT TREAT RECORD", "^RT.*TreatmentRecord|RTTreatmentSummary", (*_NUMBERED, "TreatmentDate", "TreatmentTime")),
        (
            "PRESENTATION",
            "PresentationState|BasicStructuredDisplay",
            (
                *("PresentationCreationDate", "PresentationCreationTime", *_NUMBERED, "ContentLabel", "ContentDescription"),
                *("ContentCreatorName", "ReferencedSeriesSequence", "BlendingSequence"),
            ),
        ),
        ("WAVEFORM", "Waveform", _DATED),
        ("KEY OBJECT DOC", "KeyObjectSelection", (*_DATED, _CONCEPT_NAME)),
        (
            "SPECTROSCOPY",
            "MRSpectroscopy",
            (*_DATED, "ImageType", "NumberOfFrames", "Rows", "Columns", "DataPointRows", "DataPointColumns"),
        ),
        ("RAW DATA", "RawData", _DATED),
        ("REGISTRATION", "SpatialRegistration", _LABELLED),
        ("FIDUCIAL", "SpatialFiducials", _LABELLED),
        ("VALUE MAP", "RealWorldValueMapping", _LABELLED),
        ("STEREOMETRIC", "StereometricRelationship", ()),
        (
            "ENCAP DOC",
            "^Encapsulated",
            (*_DATED, "DocumentTitle", "HL7InstanceIdentifier", _CONCEPT_NAME, "MIMETypeOfEncapsulatedDocument"),
        ),
        ("MEASUREMENT", "MeasurementsStorage", _DATED),
        ("SURFACE SCAN", "SurfaceScan", _DATED),
        ("SURFACE", "SurfaceSegmentation", _LABELLED),
        ("TRACT", "Tractography", _LABELLED),
        ("ASSESSMENT", "ContentAssessment", (*_NUMBERED, "InstanceCreationDate", "InstanceCreationTime")),
        (
            "SR DOCUMENT",
            "SRStorage|ReportStorage|ProcedureLog",
            (*_DATED, "CompletionFlag", "VerificationFlag", "VerificationDateTime", _CONCEPT_NAME),
        ),
        ("IMAGE", "", (*_NUMBERED, "ImageType", "NumberOfFrames", "Rows", "Columns")),
    )
)


def kind_of(sop_class_uid: str) -> _Kind:
    """The type of record for an instance of this SOP class; IMAGE for all that have no other (PS3.3 table F.4-1)."""
    keyword = UID(sop_class_uid).keyword if sop_class_uid else ""
    return next(kind for kind in _KINDS if re.search(kind.classes, keyword))


class File(NamedTuple):
    """A file of the file-set: its ID in components (PS3.10 8.5), and what it is."""

    components: tuple[str, ...]
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


@dataclass(slots=True)
class _Record:
    """One directory record, and the records of the level below."""

    type: str
    keys: bytes
    file: File | None = None
    below: dict[str, _Record] = field(default_factory=dict)

    def item(self, following: int, first_below: int) -> bytes:
        """The item of the Directory Record Sequence; the offsets are those of the next record and of the first below."""
        body = _number(_NEXT, following) + element(0x00041410, "US", _IN_USE) + _number(_LOWER, first_below)
        body += element(0x00041430, "CS", self.type.encode())
        if self.file is not None:
            body += element(0x00041500, "CS", "\\".join(self.file.components).encode())
            for tag, uid in zip((0x00041510, 0x00041511, 0x00041512), self.file[1:], strict=True):
                body += element(tag, "UI", uid.encode("ascii", "replace"))
        body += self.keys
        return _ITEM + struct.pack("<I", len(body)) + body


class Directory:
    """The directory of the files added so far: patients, their studies, series and instances."""

    def __init__(self) -> None:
        self._patients: dict[str, _Record] = {}

    def add(self, dataset: Mapping[str, Any], file: File) -> None:
        """Add a file, whose data set is `dataset` in the DICOM JSON model."""
        levels: tuple[tuple[str, Sequence[str], str], ...] = (
            ("PATIENT", PATIENT, _value(dataset, "PatientID")),
            ("STUDY", STUDY, _value(dataset, "StudyInstanceUID")),
            ("SERIES", SERIES, _value(dataset, "SeriesInstanceUID")),
        )
        place = self._patients
        for kind, keys, identifier in levels:
            if identifier not in place:
                place[identifier] = _Record(kind, _keys(dataset, keys))
            place = place[identifier].below
        kind_found = kind_of(file.sop_class_uid)
        place[file.sop_instance_uid] = _Record(kind_found.type, _keys(_modified(dataset), kind_found.keys), file)

    def to_bytes(self, sop_instance_uid: str) -> bytes:
        """The DICOMDIR, a Part 10 file in Explicit VR Little Endian."""
        meta = file_meta(SOP_CLASS, sop_instance_uid, EXPLICIT_LITTLE)
        # The two offsets do not change how long anything is.
        start = len(meta) + len(_set_head(0, 0)) + len(header(0x00041220, "SQ", 0))
        records = list(_flat(self._patients))
        places: dict[int, int] = {}
        for record in records:
            places[id(record)] = start
            start += len(record.item(0, 0))
        following = dict(_following(self._patients))
        items = [
            record.item(
                places.get(following.get(id(record), 0), 0),
                places[id(next(iter(record.below.values())))] if record.below else 0,
            )
            for record in records
        ]
        roots = list(self._patients.values())
        head = _set_head(places[id(roots[0])], places[id(roots[-1])]) if roots else _set_head(0, 0)
        return b"".join((meta, head, header(0x00041220, "SQ", sum(map(len, items))), *items))


def _flat(records: Mapping[str, _Record]) -> Iterator[_Record]:
    for record in records.values():
        yield record
        yield from _flat(record.below)


def _following(records: Mapping[str, _Record]) -> Iterator[tuple[int, int]]:
    """Each record's successor at its level, by identity."""
    siblings = list(records.values())
    for record, after in pairwise(siblings):
        yield id(record), id(after)
    for record in siblings:
        yield from _following(record.below)


def _set_head(first: int, last: int) -> bytes:
    """The elements before the records (PS3.3 F.3.2.1, F.3.2.2): no name, no descriptor, consistent."""
    return b"".join(
        (
            element(0x00041130, "CS", b""),
            _number(0x00041200, first),
            _number(0x00041202, last),
            element(0x00041212, "US", b"\0\0"),
        )
    )


def _number(tag: int, value: int) -> bytes:
    return element(tag, "UL", struct.pack("<I", value))


def _value(dataset: Mapping[str, Any], keyword: str) -> str:
    return str((dataset.get(tag_of(keyword), {}).get("Value") or [""])[0])


def _modified(dataset: Mapping[str, Any]) -> Mapping[str, Any]:
    """With the concept modifiers alone of its content, which are what a record has of that (PS3.3 F.5.23, F.5.24)."""
    items = dataset.get(_CONTENT, {}).get("Value") or []
    return {**dataset, _CONTENT: {"vr": "SQ", "Value": [one for one in items if _value(one, "RelationshipType") == "HAS CONCEPT MOD"]}}


def _keys(dataset: Mapping[str, Any], keywords: Sequence[str]) -> bytes:
    """The elements of these attributes, empty where the instance has no value or none that can be written."""
    chosen = {tag_of(keyword): dataset.get(tag_of(keyword)) for keyword in keywords}
    if _CONCEPT_NAME in keywords and (dataset.get(_CONTENT) or {}).get("Value"):
        chosen[_CONTENT] = dataset[_CONTENT]
    written = {tag: _writable(tag, described) for tag, described in chosen.items()}
    encoded = encode(written, Limits())
    return b"".join(piece for _tag, pieces in encoded.elements for piece in pieces if isinstance(piece, bytes))


def _writable(tag: str, described: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if described is not None and "BulkDataURI" not in described:
        try:
            encode({tag: described}, Limits())
        except (BadRequest, LimitExceeded):
            # Kept as it came in the file itself; the directory only helps to find that.
            pass
        else:
            return described
    return {"vr": vr_of(int(tag, 16), None, signed=False)}
