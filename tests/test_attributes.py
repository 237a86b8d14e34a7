"""The table of attributes against the standard's tables and against itself."""

from __future__ import annotations

import re

import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword

from storage import attributes
from storage.attributes import (
    BY_TAG,
    LEVELS,
    TABLE,
    above,
    default_fields,
    indexed_at,
    kept_tags,
    level_of,
    name_of,
    tag_of,
)
from storage.types import Level

# PS3.18 tables 10.6.3-3, -4, -5: what an answer must carry. RetrieveURL is DICOMweb's to add.
RETURNED = {
    Level.STUDY: """SpecificCharacterSet StudyDate StudyTime AccessionNumber InstanceAvailability ModalitiesInStudy
        ReferringPhysicianName TimezoneOffsetFromUTC PatientName PatientID PatientBirthDate PatientSex StudyInstanceUID
        StudyID NumberOfStudyRelatedSeries NumberOfStudyRelatedInstances""",
    Level.SERIES: """SpecificCharacterSet Modality TimezoneOffsetFromUTC SeriesDescription SeriesInstanceUID SeriesNumber
        NumberOfSeriesRelatedInstances PerformedProcedureStepStartDate PerformedProcedureStepStartTime
        RequestAttributesSequence""",
    Level.IMAGE: """SpecificCharacterSet SOPClassUID SOPInstanceUID InstanceAvailability TimezoneOffsetFromUTC
        InstanceNumber Rows Columns BitsAllocated NumberOfFrames""",
}
# PS3.4 tables C.6-1 to C.6-4 and PS3.18 table 10.6.1-5: (keyword, level, key type), all of them searchable fast.
KEYS = [
    ("PatientName", Level.PATIENT, "R"),
    ("PatientID", Level.PATIENT, "U"),
    ("StudyInstanceUID", Level.STUDY, "U"),
    ("StudyDate", Level.STUDY, "R"),
    ("StudyTime", Level.STUDY, "R"),
    ("AccessionNumber", Level.STUDY, "R"),
    ("StudyID", Level.STUDY, "R"),
    ("Modality", Level.SERIES, "R"),
    ("SeriesNumber", Level.SERIES, "R"),
    ("SeriesInstanceUID", Level.SERIES, "U"),
    ("InstanceNumber", Level.IMAGE, "R"),
    ("SOPInstanceUID", Level.IMAGE, "U"),
]


@pytest.mark.parametrize("level", RETURNED)
def test_answers_carry_what_the_standard_requires(level: Level) -> None:
    required = {tag_of(keyword) for keyword in RETURNED[level].split()}
    assert required - default_fields(level) == set()


@pytest.mark.parametrize(("keyword", "level", "key"), KEYS)
def test_keys_of_the_query_model(keyword: str, level: Level, key: str) -> None:
    attribute = TABLE[keyword]
    assert (attribute.level, attribute.key, attribute.indexed) == (level, key, True)


@pytest.mark.parametrize("keyword", TABLE)
def test_every_row_is_of_the_dictionary(keyword: str) -> None:
    attribute = TABLE[keyword]
    tag = tag_for_keyword(keyword)
    assert tag is not None
    assert attribute.tag == f"{tag:08X}"
    assert attribute.vr in dictionary_VR(tag)
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", attribute.column)


def test_the_lists_name_nothing_twice() -> None:
    names = [row[0] for row in attributes._SEARCHED]
    names += (
        attributes._OF_THE_PATIENT.split()
        + attributes._OF_THE_STUDY.split()
        + attributes._OF_THE_SERIES.split()
    )
    assert sorted(names) == sorted(set(names))
    assert len(BY_TAG) == len(TABLE) == len(names)


@pytest.mark.parametrize(
    ("keyword", "column"),
    [
        ("PatientName", "patient_name"),
        ("PatientID", "patient_id"),
        ("SOPInstanceUID", "sop_instance_uid"),
        ("IssuerOfPatientID", "issuer_of_patient_id"),
        ("StudyID", "study_id"),
        ("TimezoneOffsetFromUTC", "timezone_offset_from_utc"),
    ],
)
def test_a_column_is_the_keyword_in_snake_case(keyword: str, column: str) -> None:
    assert TABLE[keyword].column == column


@pytest.mark.parametrize(
    ("tag", "level", "name"),
    [
        ("00100010", Level.PATIENT, "PatientName"),
        ("00101010", Level.STUDY, "PatientAge"),
        ("00080070", Level.SERIES, "Manufacturer"),
        ("00280010", Level.IMAGE, "Rows"),
        ("00189087", Level.IMAGE, "DiffusionBValue"),
        ("00091001", Level.IMAGE, "00091001"),
    ],
)
def test_what_the_table_does_not_name_belongs_to_the_instance(tag: str, level: Level, name: str) -> None:
    assert (level_of(tag), name_of(tag)) == (level, name)


def test_levels_lie_above_one_another() -> None:
    assert [[above(a, b) for b in LEVELS] for a in LEVELS] == [
        [False, False, False, False],
        [True, False, False, False],
        [True, True, False, False],
        [True, True, True, False],
    ]


def test_an_unknown_keyword_has_no_tag() -> None:
    with pytest.raises(KeyError):
        tag_of("NoSuchAttribute")


def test_what_is_computed_is_not_kept() -> None:
    kept = kept_tags(*LEVELS)
    assert all(not BY_TAG[tag].computed for tag in kept)
    assert tag_of("ModalitiesInStudy") not in kept
    assert tag_of("StudyDescription") in kept_tags(Level.STUDY)
    assert tag_of("StudyDescription") not in kept_tags(Level.SERIES)


def test_indexed_attributes_have_one_value() -> None:
    """Their columns hold one; several values would need a table of their own."""
    assert [a.keyword for a in indexed_at(*LEVELS) if a.multiple] == []
