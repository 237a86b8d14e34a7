"""From rows to answers: a data set in the DICOM JSON model with just the attributes that were asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from storage import private
from storage.attributes import LEVELS, TABLE, above, kept_tags, level_of, tag_of
from storage.index import rows
from storage.index.parents import unlisted
from storage.matching.keys import NO_NUMBER
from storage.types import Dataset, Level

Element = dict[str, Any]
_Wanted = dict[str, "_Wanted | None"]


class Projection:
    """The attributes that a query wants back. `fields` are tags, or paths of tags with dots between; None is all."""

    def __init__(self, fields: Iterable[str] | None, level: Level) -> None:
        self.all = fields is None
        self._wanted: _Wanted = {}
        for field in fields or ():
            _add(self._wanted, private.split(field))
        for tag in _UNIQUE[level]:
            self._wanted[tag] = None

    def wants(self, tag: str) -> bool:
        """Whether an attribute is wanted, or something in it."""
        return self.all or tag in self._wanted

    def tags(self) -> frozenset[str]:
        """The tags wanted by name."""
        return frozenset(self._wanted)

    def of(self, dataset: Dataset) -> dict[str, Any]:
        """What is wanted of a data set, in the order of its tags."""
        if self.all:
            return {tag: dataset[tag] for tag in sorted(dataset)}
        return _projected(dataset, self._wanted)


def _add(wanted: _Wanted, path: list[str]) -> None:
    for tag in path[:-1]:
        inner = wanted.setdefault(tag, {})
        if inner is None:
            return
        wanted = inner
    wanted[path[-1]] = None


def _projected(dataset: Dataset, wanted: _Wanted) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if not dataset.keys() >= wanted.keys():
        wanted = _settled(dataset, wanted)
    for tag in sorted(dataset.keys() & wanted.keys()):
        inner = wanted[tag]
        element = dataset[tag]
        if inner is not None and element.get("vr") == "SQ":
            items = [_projected(item, inner) for item in element.get("Value") or ()]
            element = {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
        found[tag] = element
    return found


def _settled(dataset: Dataset, wanted: _Wanted) -> _Wanted:
    """With private attributes under the tags that they have in this data set, and with their creators (PS3.18 10.6.3.3)."""
    keys = [key for key in wanted if ":" in key]
    if not keys:
        return wanted
    settled = dict(wanted)
    for key in keys:
        tag = private.tag_in(dataset, key)
        if tag in dataset:
            settled[tag] = settled.pop(key)
            settled[private.creator_tag(tag)] = None
    return settled


_PATIENT, _STUDY = tag_of("PatientID"), tag_of("StudyInstanceUID")
_SERIES, _INSTANCE = tag_of("SeriesInstanceUID"), tag_of("SOPInstanceUID")
_UNIQUE: dict[Level, tuple[str, ...]] = {
    Level.PATIENT: (_PATIENT,),
    Level.STUDY: (_STUDY,),
    Level.SERIES: (_STUDY, _SERIES),
    Level.IMAGE: (_STUDY, _SERIES, _INSTANCE),
}


def element(keyword: str, *values: Any) -> Element:
    """An element of the DICOM JSON model; without values when there are none."""
    vr = TABLE[keyword].vr
    return {"vr": vr, "Value": [*values]} if values else {"vr": vr}


_UTF_8 = element("SpecificCharacterSet", "ISO_IR 192")
_ONLINE = element("InstanceAvailability", "ONLINE")

# Made when answering: keyword, the levels at which it is, and how it comes from a row.
_COMPUTED: tuple[tuple[str, frozenset[Level], Callable[[Any], Element]], ...] = tuple(
    (keyword, frozenset(levels), made)
    for keyword, levels, made in (
        ("SpecificCharacterSet", LEVELS, lambda row: _UTF_8),
        ("InstanceAvailability", LEVELS[1:], lambda row: _ONLINE),
        (
            "ModalitiesInStudy",
            LEVELS[1:],
            lambda row: element("ModalitiesInStudy", *unlisted(row.modalities)),
        ),
        (
            "SOPClassesInStudy",
            LEVELS[1:],
            lambda row: element("SOPClassesInStudy", *unlisted(row.sop_classes)),
        ),
        (
            "NumberOfStudyRelatedSeries",
            LEVELS[1:],
            lambda row: element("NumberOfStudyRelatedSeries", row.study_series),
        ),
        (
            "NumberOfStudyRelatedInstances",
            LEVELS[1:],
            lambda row: element("NumberOfStudyRelatedInstances", row.study_instances),
        ),
        (
            "NumberOfSeriesRelatedInstances",
            LEVELS[2:],
            lambda row: element("NumberOfSeriesRelatedInstances", row.series_instances),
        ),
        (
            "AvailableTransferSyntaxUID",
            LEVELS[3:],
            lambda row: element("AvailableTransferSyntaxUID", row.transfer_syntax_uid),
        ),
        (
            "NumberOfPatientRelatedStudies",
            LEVELS[:1],
            lambda row: element("NumberOfPatientRelatedStudies", row.patient_studies),
        ),
        (
            "NumberOfPatientRelatedSeries",
            LEVELS[:1],
            lambda row: element("NumberOfPatientRelatedSeries", int(row.patient_series)),
        ),
        (
            "NumberOfPatientRelatedInstances",
            LEVELS[:1],
            lambda row: element("NumberOfPatientRelatedInstances", int(row.patient_instances)),
        ),
    )
)

# What an instance's own columns can say, so that a plain list of instances needs no metadata unpacked.
_OF_THE_ROW: dict[str, tuple[str, str]] = {
    TABLE[keyword].tag: (keyword, TABLE[keyword].column)
    for keyword in (
        "SOPInstanceUID",
        "SOPClassUID",
        "InstanceNumber",
        "Rows",
        "Columns",
        "BitsAllocated",
        "NumberOfFrames",
    )
}
_PATIENT_TAGS = kept_tags(Level.PATIENT)
_COMPUTED_TAGS = frozenset(attribute.tag for attribute in TABLE.values() if attribute.computed)


class Answers:
    """Makes the answers of one query. What several rows share (their study, their series) is unpacked once.

    `looked_at` are the tags of conditions that no column can answer: they are loaded whether wanted or not.
    """

    def __init__(self, level: Level, projection: Projection, looked_at: Iterable[str] = ()) -> None:
        self._level = level
        self._projection = projection
        self._computed = [
            (tag_of(keyword), made)
            for keyword, levels, made in _COMPUTED
            if level in levels and projection.wants(tag_of(keyword))
        ]
        needed = {*projection.tags(), *looked_at} - {tag for tags in _UNIQUE.values() for tag in tags}
        needed = needed - _OF_THE_ROW.keys() - _COMPUTED_TAGS
        levels = {level_of(tag) for tag in needed} if not projection.all else set(LEVELS)
        self.needs_study = level in LEVELS[:2] or not levels.isdisjoint(LEVELS[:2])
        self.needs_series = level is Level.SERIES or (level is Level.IMAGE and Level.SERIES in levels)
        self.needs_metadata = level is Level.IMAGE and Level.IMAGE in levels
        self._unpacked: dict[str, tuple[bytes, dict[str, Any]]] = {}

    def whole(self, row: Any) -> dict[str, Any]:
        """Everything that was loaded for a row, before the projection: what conditions without a column look at."""
        found: dict[str, Any] = {}
        if self.needs_metadata:
            found.update(rows.encoded(row.json).without_items())
        elif self._level is Level.IMAGE:
            found.update(_own(row))
        if self.needs_series:
            found.update(self._once("series", row.series_attributes))
        if self.needs_study:
            attributes = self._once("study", row.study_attributes)
            if self._level is Level.PATIENT:
                attributes = rows.subset(attributes, _PATIENT_TAGS)
            found.update(attributes)
        found.update(_keys(self._level, row))
        found.update((tag, made(row)) for tag, made in self._computed)
        return found

    def of(self, whole: Mapping[str, Any]) -> dict[str, Any]:
        """The answer."""
        return self._projection.of(whole)

    def _once(self, which: str, packed: bytes) -> Mapping[str, Any]:
        last = self._unpacked.get(which)
        if last is None or last[0] != packed:
            last = self._unpacked[which] = (packed, orjson.loads(packed))
        return last[1]


def _own(row: Any) -> dict[str, Element]:
    found = {}
    for tag, (keyword, column) in _OF_THE_ROW.items():
        value = getattr(row, column)
        if value != NO_NUMBER:
            found[tag] = element(keyword, value)
    return found


def _keys(level: Level, row: Any) -> dict[str, Element]:
    """The unique keys under which the rows were made, whatever their attributes say."""
    if level is Level.PATIENT:
        return {_PATIENT: element("PatientID", *filter(None, [row.patient_id]))}
    found = {_STUDY: element("StudyInstanceUID", row.study_instance_uid)}
    if above(level, Level.STUDY):
        found[_SERIES] = element("SeriesInstanceUID", row.series_instance_uid)
    if level is Level.IMAGE:
        found[_INSTANCE] = element("SOPInstanceUID", row.sop_instance_uid)
    return found
