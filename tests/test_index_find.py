"""Searching the index: both engines find what the pure matcher finds, in one order, with what was asked for."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from pydicom.datadict import dictionary_VR
from sqlalchemy import text

from storage.attributes import TABLE, default_fields, tag_of
from storage.errors import LightboxError, UnsupportedQuery
from storage.index import Entry, Index, open_index
from storage.index.find import _Search
from storage.index.plan import Plan
from storage.matching import combined, matches_dataset, parse_all
from storage.scanner import scan
from storage.types import Level, Outcome, Query, Scope, Source
from tests.support.corpus import corpus_files
from tests.support.entries import RECEIVED, entry, values
from tests.support.indexes import conditions, counters_are_exact, find, studies
from tests.test_matching import ALL_OF, FUZZY_ROWS, MOMENTS, ROWS, TEXT_ROWS, TWO_ITEMS, moment_conditions


def level_of(keyword: str) -> Level:
    return TABLE[keyword].level


# --- matching: the rows of test_matching, through SQL -------------------------------------------------------------


def test_sql_agrees_with_the_pure_matcher_row_by_row(index: Index) -> None:
    uids = [f"1.2.{number}" for number in range(len(ROWS))]
    index.add(
        [entry(uid, **{keyword: value}) for uid, (keyword, _, value, _) in zip(uids, ROWS, strict=True)]
    )
    wrong = []
    for uid, (keyword, asked, value, expected) in zip(uids, ROWS, strict=True):
        query = Query(level_of(keyword), conditions({"StudyInstanceUID": uid, keyword: asked}), frozenset())
        assert Plan(query, sqlite=index.database.sqlite).exact, keyword
        if bool(list(index.find(query))) is not expected:
            wrong.append((keyword, asked, value, expected))
    assert wrong == []


def test_sql_agrees_with_the_pure_matcher_across_all_rows(index: Index) -> None:
    """Every question of the table put to every answer of it: what SQL finds is what the pure matcher finds."""
    index.add([entry(f"1.2.{n}", **{keyword: value}) for n, (keyword, _, value, _) in enumerate(ROWS)])
    everything = {level: find(index, level) for level in (Level.STUDY, Level.SERIES, Level.IMAGE)}
    wrong = []
    for keyword, asked, _, _ in ROWS:
        level = Level.STUDY if level_of(keyword) is Level.PATIENT else level_of(keyword)
        found = find(index, level, [], **{keyword: asked})
        expected = [d for d in everything[level] if matches_dataset(conditions({keyword: asked}), d)]
        if values(found, "StudyInstanceUID") != values(expected, "StudyInstanceUID"):
            wrong.append((keyword, asked))
    assert wrong == []


def test_sql_agrees_on_fuzzy_names(index: Index) -> None:
    index.add([entry(f"1.2.{n}", PatientName=value) for n, (_, value, _) in enumerate(FUZZY_ROWS)])
    everything = find(index, Level.STUDY)
    wrong = []
    for number, (asked, value, expected) in enumerate(FUZZY_ROWS):
        found = studies(index, PatientName=asked, fuzzy=True)
        pure = [d for d in everything if matches_dataset(conditions({"PatientName": asked}), d, fuzzy=True)]
        if (f"1.2.{number}" in found) is not expected or found != values(pure, "StudyInstanceUID"):
            wrong.append((asked, value, expected))
    assert wrong == []


def test_sql_agrees_on_moments(index: Index) -> None:
    rows = list(enumerate(MOMENTS))
    index.add([entry(f"1.2.{n}", StudyDate=date, StudyTime=time) for n, (_, _, date, time, _) in rows])
    wrong = []
    for number, (dates, times, _, _, expected) in rows:
        found = list(index.find(Query(Level.STUDY, moment_conditions(dates, times), frozenset())))
        if (f"1.2.{number}" in values(found, "StudyInstanceUID")) is not expected:
            wrong.append((number, MOMENTS[number]))
    assert wrong == []


def test_sql_agrees_on_values_that_must_all_match(index: Index) -> None:
    rows = list(enumerate(ALL_OF))
    index.add([entry(f"1.2.{n}", **{keyword: value}) for n, (keyword, _, value, _) in rows])
    wrong = []
    for number, (keyword, asked, value, expected) in rows:
        level = Level.STUDY if keyword in TABLE else Level.IMAGE
        condition = ((tag_of(keyword),), parse_all((tag_of(keyword),), dictionary_VR(keyword), asked))
        found = values(index.find(Query(level, (condition,), frozenset())), "StudyInstanceUID")
        if (f"1.2.{number}" in found) is not expected:
            wrong.append((keyword, asked, value))
    assert wrong == []


def test_sql_agrees_on_text_without_case(index: Index) -> None:
    rows = list(enumerate(TEXT_ROWS))
    index.add([entry(f"1.2.{n}", **{keyword: value}) for n, (keyword, _, value, _) in rows])
    wrong = []
    for number, (keyword, asked, value, expected) in rows:
        found = studies(index, fuzzy=True, **{keyword: asked})
        if (f"1.2.{number}" in found) is not expected:
            wrong.append((keyword, asked, value))
        own = Level.STUDY if level_of(keyword) is Level.PATIENT else level_of(keyword)
        if values(find(index, own, [], fuzzy=True, **{keyword: asked}), "StudyInstanceUID") != found:
            wrong.append((keyword, asked, own))
    assert wrong == []


# --- find ---------------------------------------------------------------------------------------------------------


def archive_of_three(index: Index) -> None:
    """Two studies of Doe (CT and SR; MR), one of Roe."""
    doe: dict[str, Any] = {
        "PatientName": "Doe^Jane",
        "PatientID": "D",
        "PatientBirthDate": "19700101",
        "PatientComments": "calm",
    }
    first: dict[str, Any] = {
        **doe,
        "StudyDate": "20240101",
        "StudyTime": "10",
        "StudyDescription": "THORAX",
        "AccessionNumber": "A1",
    }
    index.add(
        [
            entry(
                "1.1",
                "1",
                "1",
                Modality="CT",
                SeriesNumber=2,
                InstanceNumber=2,
                Rows=512,
                Manufacturer="Acme",
                **first,
            ),
            entry(
                "1.1",
                "1",
                "2",
                Modality="CT",
                SeriesNumber=2,
                InstanceNumber=1,
                Rows=256,
                Manufacturer="Acme",
                **first,
            ),
            entry(
                "1.1",
                "2",
                "1",
                Modality="SR",
                SeriesNumber=1,
                sop_class="1.2.840.10008.5.1.4.1.1.88.11",
                **first,
            ),
            entry("1.2", "1", "1", Modality="MR", SeriesNumber=1, StudyDate="20240202", **doe),
            entry(
                "1.3",
                "1",
                "1",
                Modality="MR",
                StudyDate="20240101",
                StudyTime="09",
                PatientName="Roe",
                PatientID="R",
            ),
        ]
    )


FOUND: list[tuple[Level, dict[str, str], list[str]]] = [
    (Level.STUDY, {}, ["1.2", "1.1", "1.3"]),
    (Level.STUDY, {"PatientID": "D"}, ["1.2", "1.1"]),
    (Level.STUDY, {"ModalitiesInStudy": "SR"}, ["1.1"]),
    (Level.STUDY, {"ModalitiesInStudy": "CT\\MR"}, ["1.2", "1.1", "1.3"]),
    (Level.STUDY, {"ModalitiesInStudy": "?R"}, ["1.2", "1.1", "1.3"]),
    (Level.STUDY, {"ModalitiesInStudy": "US"}, []),
    (Level.STUDY, {"SOPClassesInStudy": "1.2.840.10008.5.1.4.1.1.88.11"}, ["1.1"]),
    (Level.STUDY, {"SOPClassesInStudy": "1.2.840.10008.5.1.4.1.1.88.1"}, []),
    (Level.STUDY, {"NumberOfStudyRelatedInstances": "3"}, ["1.1"]),
    (Level.STUDY, {"NumberOfStudyRelatedSeries": "1\\2"}, ["1.2", "1.1", "1.3"]),
    (Level.STUDY, {"InstanceAvailability": "ONLINE"}, ["1.2", "1.1", "1.3"]),
    (Level.STUDY, {"InstanceAvailability": "OFFLINE"}, []),
    # What has no column is matched on the row; at lower levels only what some series has.
    (Level.STUDY, {"PatientComments": "CALM"}, []),
    (Level.STUDY, {"PatientComments": "c*m"}, ["1.2", "1.1"]),
    (Level.STUDY, {"Manufacturer": "Acme"}, ["1.1"]),
    (Level.STUDY, {"Manufacturer": "Acme", "Modality": "SR"}, []),
    # Relational queries: one and the same series, and one and the same instance of it.
    (Level.STUDY, {"Modality": "CT"}, ["1.1"]),
    (Level.STUDY, {"Modality": "SR", "SeriesNumber": "2"}, []),
    (Level.STUDY, {"Modality": "SR", "InstanceNumber": "1"}, []),
    (Level.STUDY, {"Modality": "CT", "InstanceNumber": "1"}, ["1.1"]),
    (Level.STUDY, {"SOPInstanceUID": "1.1.2.1"}, ["1.1"]),
    (Level.SERIES, {}, ["1.2.1", "1.1.2", "1.1.1", "1.3.1"]),
    (Level.SERIES, {"PatientName": "doe*"}, ["1.2.1", "1.1.2", "1.1.1"]),
    (Level.SERIES, {"Modality": "CT"}, ["1.1.1"]),
    (Level.SERIES, {"ModalitiesInStudy": "SR"}, ["1.1.2", "1.1.1"]),
    (Level.SERIES, {"NumberOfSeriesRelatedInstances": "2"}, ["1.1.1"]),
    (Level.SERIES, {"InstanceNumber": "1"}, ["1.1.1"]),
    (Level.SERIES, {"PatientComments": "calm", "Manufacturer": "A*"}, ["1.1.1"]),
    (Level.IMAGE, {"StudyInstanceUID": "1.1"}, ["1.1.2.1", "1.1.1.2", "1.1.1.1"]),
    (Level.IMAGE, {"Rows": "512"}, ["1.1.1.1"]),
    (Level.IMAGE, {"PatientComments": "calm", "Rows": "256"}, ["1.1.1.2"]),
    (Level.IMAGE, {"AvailableTransferSyntaxUID": "1.2.840.10008.1.2.1", "Modality": "SR"}, ["1.1.2.1"]),
    (Level.PATIENT, {}, ["D", "R"]),
    (Level.PATIENT, {"PatientName": "r*"}, ["R"]),
    (Level.PATIENT, {"PatientComments": "calm"}, ["D"]),
    (Level.PATIENT, {"StudyDate": "20240202"}, ["D"]),
    (Level.PATIENT, {"Modality": "CT"}, ["D"]),
    (Level.PATIENT, {"InstanceAvailability": "OFFLINE"}, []),
]


def test_what_is_found_in_which_order(index: Index) -> None:
    archive_of_three(index)
    keys = {
        Level.PATIENT: "PatientID",
        Level.STUDY: "StudyInstanceUID",
        Level.SERIES: "SeriesInstanceUID",
        Level.IMAGE: "SOPInstanceUID",
    }
    found = [
        (level, asked, values(find(index, level, [], **asked), keys[level])) for level, asked, _ in FOUND
    ]
    assert found == FOUND


@pytest.mark.parametrize(
    ("level", "asked"),
    [
        (Level.STUDY, {"ConversionType": "WSD"}),
        (Level.SERIES, {"ConversionType": "WSD"}),
        (Level.PATIENT, {"Manufacturer": "Acme"}),
        (Level.PATIENT, {"ProcedureCodeSequence__CodeValue": "X"}),
        (Level.PATIENT, {"NumberOfPatientRelatedStudies": "2"}),
        (Level.STUDY, {"RetrieveAETitle": "X"}),
    ],
)
def test_what_cannot_be_matched_is_refused_at_once(index: Index, level: Level, asked: dict[str, str]) -> None:
    with pytest.raises(UnsupportedQuery, match=next(iter(asked)).split("__")[0]):
        index.find(Query(level, conditions(asked)))


def test_an_answer_has_what_was_asked_for_and_the_unique_keys(index: Index) -> None:
    archive_of_three(index)
    fields = ["PatientName", "ModalitiesInStudy", "SOPClassesInStudy", "NumberOfStudyRelatedSeries"]
    fields += ["NumberOfStudyRelatedInstances", "InstanceAvailability", "SpecificCharacterSet", "StudyID"]
    (found,) = find(index, Level.STUDY, fields, StudyInstanceUID="1.1")
    assert found == {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00080056": {"vr": "CS", "Value": ["ONLINE"]},
        "00080061": {"vr": "CS", "Value": ["CT", "SR"]},
        "00080062": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.11"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
        "0020000D": {"vr": "UI", "Value": ["1.1"]},
        "00201206": {"vr": "IS", "Value": [2]},
        "00201208": {"vr": "IS", "Value": [3]},
    }
    assert list(found) == sorted(found)


def test_an_answer_below_has_what_was_asked_for_from_above(index: Index) -> None:
    archive_of_three(index)
    fields = [
        "PatientName",
        "Manufacturer",
        "Rows",
        "NumberOfSeriesRelatedInstances",
        "NumberOfStudyRelatedSeries",
    ]
    (series,) = find(index, Level.SERIES, fields, SeriesInstanceUID="1.1.1")
    assert values([series], "PatientName") == [{"Alphabetic": "Doe^Jane"}]
    assert values([series], "Manufacturer") == ["Acme"]
    assert values([series], "NumberOfSeriesRelatedInstances") == [2]
    assert tag_of("Rows") not in series
    (instance,) = find(index, Level.IMAGE, fields, SOPInstanceUID="1.1.1.1")
    assert values([instance], "Rows") == [512]
    assert values([instance], "NumberOfStudyRelatedSeries") == [2]
    assert values([instance], "SeriesInstanceUID") == ["1.1.1"]


@pytest.mark.parametrize("level", [Level.STUDY, Level.SERIES, Level.IMAGE])
def test_default_fields_are_there(index: Index, level: Level) -> None:
    """Whatever the attributes say, the standard's computed fields and unique keys are in every answer."""
    archive_of_three(index)
    fields = default_fields(level)
    (found, *_) = index.find(Query(level, conditions({"StudyInstanceUID": "1.1"}), fields))
    assert set(found) <= fields | {tag_of("StudyInstanceUID"), tag_of("SeriesInstanceUID")}
    assert tag_of("SpecificCharacterSet") in found


def test_all_fields_of_an_instance_are_its_metadata_and_more(index: Index) -> None:
    archive_of_three(index)
    (found,) = find(index, Level.IMAGE, None, SOPInstanceUID="1.1.1.1")
    for keyword in (
        "Rows",
        "Manufacturer",
        "PatientComments",
        "ModalitiesInStudy",
        "AvailableTransferSyntaxUID",
    ):
        assert tag_of(keyword) in found


def test_fields_inside_sequences(index: Index) -> None:
    index.add([entry("1.1", RequestAttributesSequence=_items())])
    wanted = ["RequestAttributesSequence__ScheduledProcedureStepID"]
    (found,) = find(index, Level.SERIES, wanted, RequestAttributesSequence__RequestedProcedureID="R2")
    items = found[tag_of("RequestAttributesSequence")]["Value"]
    assert [list(item) for item in items] == [[tag_of("ScheduledProcedureStepID")]] * 2
    assert find(index, Level.SERIES, [], RequestAttributesSequence__RequestedProcedureID="R3") == []
    both = {
        "RequestAttributesSequence__RequestedProcedureID": "R2",
        "RequestAttributesSequence__ScheduledProcedureStepID": "S1",
    }
    assert find(index, Level.SERIES, [], **both) == []


def _items() -> Any:
    return [
        {"ScheduledProcedureStepID": "S1", "RequestedProcedureID": "R1"},
        {"ScheduledProcedureStepID": "S2", "RequestedProcedureID": "R2"},
    ]


def test_sequences_of_the_table_are_those_of_the_matching_rows() -> None:
    assert (
        entry(RequestAttributesSequence=_items()).scan.dataset[tag_of("RequestAttributesSequence")]
        == (TWO_ITEMS[tag_of("RequestAttributesSequence")])
    )


def test_patients_are_studies_of_one_id_and_issuer(index: Index) -> None:
    index.add(
        [
            entry(
                "1.1",
                "1",
                "1",
                PatientID="P",
                IssuerOfPatientID="A",
                PatientName="Old^Name",
                StudyDescription="x",
            ),
            entry("1.2", "1", "1", PatientID="P", IssuerOfPatientID="A", PatientName="New^Name"),
            entry("1.2", "2", "1", PatientID="P", IssuerOfPatientID="A", PatientName="New^Name"),
            entry("1.3", "1", "1", PatientID="P", IssuerOfPatientID="B", PatientName="Other"),
            entry("1.4", "1", "1", PatientName="Nobody"),
        ]
    )
    found = find(index, Level.PATIENT)
    assert [(d["00201200"]["Value"], d["00201202"]["Value"], d["00201204"]["Value"]) for d in found] == [
        ([1], [1], [1]),
        ([2], [3], [3]),
        ([1], [1], [1]),
    ]
    assert values(found, "PatientName") == [{"Alphabetic": n} for n in ("Nobody", "New^Name", "Other")]
    assert values(found, "StudyDescription") == [None] * 3
    # All studies of a patient count, not only those that match.
    (one,) = find(index, Level.PATIENT, ["NumberOfPatientRelatedStudies"], PatientName="old*", PatientID="P")
    assert values([one], "NumberOfPatientRelatedStudies") == [2]


def test_pages_follow_each_other_without_gap_or_overlap(index: Index) -> None:
    many = [
        entry(f"1.{n}", "1", "1", StudyDate=f"202401{n % 28 + 1:02d}" if n % 5 else None, StudyTime="10" if n % 3 else None,
              PatientID=f"P{n % 50}", PatientComments="odd" if n % 2 else "even")
        for n in range(1, 701)
    ]  # fmt: skip
    index.add(many)
    whole = studies(index)
    assert sorted(whole) == sorted(f"1.{n}" for n in range(1, 701))
    for limit, offset in (
        (0, 0),
        (7, 0),
        (300, 100),
        (100, 650),
        (5, 1000),
        (None, 690),
        (700, 0),
        (5000, 0),
    ):
        expected = whole[offset : None if limit is None else offset + limit]
        assert studies(index, limit=limit, offset=offset) == expected
    # The same when Python has the last word.
    odd = studies(index, PatientComments="odd")
    assert len(odd) == 350
    assert odd == [uid for uid in whole if int(uid.split(".")[1]) % 2]
    assert studies(index, PatientComments="odd", limit=20, offset=300) == odd[300:320]
    assert len(find(index, Level.PATIENT, [], limit=30)) == 30
    assert len(find(index, Level.SERIES, [])) == 700
    assert len(find(index, Level.IMAGE)) == 700


# (level, question, the index that must lead the way on SQLite, whether anything is sorted afterwards)
PLANS = [
    (Level.STUDY, {}, "ix_study_order (partition=?)", False),
    (Level.STUDY, {"StudyDate": "20240101-20240107"}, "ix_study_order (partition=? AND study_date>?", False),
    (Level.STUDY, {"ModalitiesInStudy": "US"}, "ix_study_order", False),
    (Level.STUDY, {"StudyInstanceUID": "1.2"}, "sqlite_autoindex_study_1", False),
    (Level.STUDY, {"PatientID": "P"}, "ix_study_patient_id (partition=? AND patient_id=?)", True),
    (
        Level.STUDY,
        {"AccessionNumber": "A"},
        "ix_study_accession_number (partition=? AND accession_number=?)",
        True,
    ),
    (Level.STUDY, {"PatientName": "ab*"}, "ix_study_patient_name (partition=? AND patient_name>?", True),
    (Level.STUDY, {"PatientName": "*abc*"}, "study_text VIRTUAL TABLE", True),
    (Level.STUDY, {"PatientID": "*abc*"}, "study_text VIRTUAL TABLE", True),
    (
        Level.STUDY,
        {"SeriesInstanceUID": "1.2"},
        "ix_series_uid (partition=? AND series_instance_uid=?)",
        True,
    ),
    (Level.STUDY, {"SOPInstanceUID": "1.2"}, "sqlite_autoindex_instance_1", True),
    (Level.SERIES, {"StudyInstanceUID": "1.2"}, "sqlite_autoindex_study_1", True),
    (
        Level.SERIES,
        {"SeriesInstanceUID": "1.2"},
        "ix_series_uid (partition=? AND series_instance_uid=?)",
        True,
    ),
    (Level.IMAGE, {"SOPInstanceUID": "1.2"}, "sqlite_autoindex_instance_1", False),
    (
        Level.IMAGE,
        {"SeriesInstanceUID": "1.2"},
        "ix_series_uid (partition=? AND series_instance_uid=?)",
        True,
    ),
    (Level.PATIENT, {}, "ix_study_patient_id (partition=?)", True),
    (Level.PATIENT, {"PatientID": "P"}, "ix_study_patient_id (partition=? AND patient_id=?)", True),
]


@pytest.mark.parametrize(("level", "asked", "way", "sorted_after"), PLANS)
def test_sqlite_finds_its_way(
    level: Level, asked: dict[str, str], way: str, sorted_after: bool, empty_index_file: Path
) -> None:
    """An index leads to what is asked for, however large the archive is: no question reads every study."""
    index = open_index(f"sqlite:///{empty_index_file}")
    query = Query(level, conditions(asked), default_fields(level), limit=101)
    search = _Search(index.database, query, Plan(query, sqlite=True))
    with index.database.read() as connection:
        statement = search._select([], 101, 0).compile(
            connection.engine, compile_kwargs={"literal_binds": True}
        )
        plan = " / ".join(row[3] for row in connection.execute(text(f"EXPLAIN QUERY PLAN {statement}")))
    index.close()
    assert way in plan
    assert ("ORDER BY" in plan) is sorted_after, plan


def test_a_search_may_be_left_at_any_point(index: Index) -> None:
    archive_of_three(index)
    found = index.find(Query(Level.STUDY))
    next(found)
    found.close()
    abandoned = [index.find(Query(Level.STUDY)) for _ in range(100)]
    for one in abandoned:
        next(one)
    assert len(list(index.find(Query(Level.STUDY)))) == 3, "100 open searches hold no connection"


# --- real files ---------------------------------------------------------------------------------------------------


def scanned_corpus() -> list[Entry]:
    """Every storable file of the corpus, scanned; of several with one UID the first."""
    found: dict[str, Entry] = {}
    for file in corpus_files():
        content = file.path.read_bytes()
        try:
            made = scan(content)
        except LightboxError:
            continue
        sha256 = hashlib.sha256(content).hexdigest()
        key = f"{sha256}.dcm"
        one = Entry(made, key, sha256, len(content), Source("import", file=file.name), RECEIVED)
        found.setdefault(made.uids.instance, one)
    return list(found.values())


# What is asked of the corpus at each level, beyond every single UID.
CORPUS_QUERIES: list[tuple[Level, dict[str, str]]] = [
    (Level.STUDY, {"PatientName": "*a*"}),
    (Level.STUDY, {"PatientName": "*smi*"}),
    (Level.STUDY, {"PatientName": "S*^J*"}),
    (Level.STUDY, {"PatientName": "*山*"}),
    (Level.STUDY, {"PatientName": '""'}),
    (Level.STUDY, {"StudyDate": "20000101-20101231"}),
    (Level.STUDY, {"StudyDate": "20000101-", "StudyTime": "12-"}),
    (Level.STUDY, {"StudyDescription": "*O*"}),
    (Level.STUDY, {"AccessionNumber": "acc*"}),
    (Level.STUDY, {"AccessionNumber": '""'}),
    (Level.STUDY, {"ModalitiesInStudy": "C?\\MR"}),
    (Level.STUDY, {"ReferringPhysicianName": "*e*"}),
    (Level.STUDY, {"PatientWeight": '""'}),
    (Level.SERIES, {"Modality": "US"}),
    (Level.SERIES, {"SeriesNumber": "1\\2"}),
    (Level.SERIES, {"BodyPartExamined": "*E*"}),
    (Level.SERIES, {"Manufacturer": "S*"}),
    (Level.IMAGE, {"InstanceNumber": "1"}),
    (Level.IMAGE, {"Rows": "512", "Modality": "CT"}),
    (Level.IMAGE, {"ImageType": "DERIVED"}),
    (Level.IMAGE, {"ContentDate": "-20151231"}),
]
UNIQUE_KEY = {
    Level.STUDY: "StudyInstanceUID",
    Level.SERIES: "SeriesInstanceUID",
    Level.IMAGE: "SOPInstanceUID",
}


def test_the_corpus_is_kept_and_found(index: Index) -> None:
    entries = scanned_corpus()
    added = [one for first in range(0, len(entries), 50) for one in index.add(entries[first : first + 50])]
    assert {one.outcome for one in added} == {Outcome.STORED}
    assert index.counts().instances == len(entries) > 700
    counters_are_exact(index)
    for one in entries[::7]:
        uids = one.scan.uids
        layout = index.layout(Scope(uids.study, uids.series, uids.instance))
        assert layout is not None
        assert (layout.json, layout.frames, layout.bulk) == (one.scan.json, one.scan.frames, one.scan.bulk)
        assert values(find(index, Level.IMAGE, [], SOPInstanceUID=uids.instance), "SOPInstanceUID") == [
            uids.instance
        ]
    everything = {level: find(index, level) for level in UNIQUE_KEY}
    for level, asked in CORPUS_QUERIES:
        wanted = combined(conditions(asked))
        pure = [one for one in everything[level] if matches_dataset(wanted, one)]
        found = find(index, level, [], **asked)
        assert values(found, UNIQUE_KEY[level]) == values(pure, UNIQUE_KEY[level]), asked
        assert 0 < len(found) < len(everything[level]), f"{asked} tells nothing"
