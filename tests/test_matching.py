"""Attribute matching (PS3.4 C.2.2.2) as a table of rows; `test_index` runs the same rows through SQL on both engines."""

from __future__ import annotations

import csv
from typing import Any

import pytest
from pydicom.datadict import dictionary_VR

from storage.attributes import TABLE, tag_of
from storage.errors import BadRequest, UnsupportedQuery
from storage.matching import (
    ONE,
    STAR,
    DateTimeRange,
    Universal,
    combined,
    in_order,
    like,
    matches,
    matches_dataset,
    parse,
    parse_all,
)
from storage.matching.names import fuzzy_key, group_key, name_keys, sound, words
from storage.matching.times import moment, time_span
from tests.support.corpus import FOLDER, present
from tests.support.entries import json_of

YAMADA = "Yamada^Tarou=山田^太郎=やまだ^たろう"

# (keyword, values asked for, values stored, are all of the first among the second): C.2.2.2.8.
ALL_OF: list[tuple[str, str, Any, bool]] = [
    ("ImageType", "ORIGINAL\\PRIMARY", ["ORIGINAL", "PRIMARY", "AXIAL"], True),
    ("ImageType", "AXIAL\\ORIGINAL", ["ORIGINAL", "PRIMARY", "AXIAL"], True),
    ("ImageType", "ORIGINAL\\SECONDARY", ["ORIGINAL", "PRIMARY"], False),
    ("ImageType", "ORIGINAL", ["ORIGINAL", "PRIMARY"], True),
    ("ImageType", "ORIGINAL\\ORIGINAL", ["ORIGINAL"], True),
    ("ImageType", "ORIGINAL\\PRIMARY", None, False),
    ("OtherPatientNames", "DOE\\roe", ["Roe", "Doe"], True),
    ("OtherPatientNames", "Doe\\Poe", ["Roe", "Doe"], False),
]

# (keyword, what is asked, what is stored, does it match). None stores the attribute without a value.
ROWS: list[tuple[str, str, Any, bool]] = [
    # C.2.2.2.1 single value; trailing and leading spaces are padding (PS3.5 6.2).
    ("AccessionNumber", "ACC1", "ACC1", True),
    ("AccessionNumber", "ACC1", "ACC1  ", True),
    ("AccessionNumber", " ACC1 ", "ACC1", True),
    ("AccessionNumber", "ACC1", "ACC12", False),
    ("AccessionNumber", "acc1", "ACC1", False),
    ("AccessionNumber", "ACC1", None, False),
    ("PatientID", "P 1", "P 1", True),
    ("PatientID", "100%", "100%", True),
    ("PatientID", "100%", "100X", False),
    ("PatientID", "a_c", "abc", False),
    ("PatientID", "[a]", "a", False),
    ("PatientID", "O'Neil", "O'Neil", True),
    ("PatientID", 'say "x"', 'say "x"', True),
    ("StudyDescription", "Tête", "Te\u0302te", True),
    ("Modality", "CT", "CT", True),
    ("Modality", "CT", "MR", False),
    ("SeriesNumber", "3", 3, True),
    ("SeriesNumber", "03", 3, True),
    ("SeriesNumber", "3", 30, False),
    ("SeriesNumber", "-1", -1, True),
    ("SeriesNumber", "0", None, False),
    ("InstanceNumber", "2", 2, True),
    ("Rows", "512", 512, True),
    # C.2.2.2.2 and C.2.2.2.7 lists.
    ("AccessionNumber", "A\\B", "B", True),
    ("AccessionNumber", "A\\B", "C", False),
    ("AccessionNumber", "A\\B*", "Bcd", True),
    ("SeriesNumber", "1\\2\\3", 2, True),
    ("StudyDate", "20200101\\20210101", "20210101", True),
    ("StudyDate", "20200101\\20210101", "20200601", False),
    ("PatientName", "Doe^*\\Roe^*", "Roe^Jane", True),
    # C.2.2.2.3 universal.
    ("AccessionNumber", "*", None, True),
    ("AccessionNumber", "**", "x", True),
    ("AccessionNumber", "", None, True),
    ("PatientName", "*^*", None, True),
    ("StudyDate", "*", None, True),
    ("SeriesNumber", "*", 4, True),
    # C.2.2.2.4 wildcards.
    ("PatientID", "P*", "P1", True),
    ("PatientID", "P*", "P", True),
    ("PatientID", "P*", "QP", False),
    ("PatientID", "*P", "QP", True),
    ("PatientID", "*P", "PQ", False),
    ("PatientID", "P?", "P1", True),
    ("PatientID", "P?", "P", False),
    ("PatientID", "P?", "P12", False),
    ("PatientID", "?", "山", True),
    ("PatientID", "*1*3", "0123", True),
    ("PatientID", "*1*3", "0321", False),
    ("PatientID", "*a?c*", "xxabcxx", True),
    ("PatientID", "?*", None, False),
    ("PatientID", "p*", "P1", False),
    ("PatientID", "10%*", "10%1", True),
    ("PatientID", "10%*", "1001", False),
    ("PatientID", "*_1*", "A_1", True),
    ("PatientID", "*_1*", "AB1", False),
    ("PatientID", "*[1]*", "A[1]", True),
    ("PatientID", "*[1]*", "A1", False),
    ("PatientID", "*]x", "]x", True),
    ("PatientID", "*a/b*", "a/b", True),
    ("PatientID", '*y "x*', 'say "x"', True),
    ("PatientID", "*O'N*", "O'Neil", True),
    ("PatientID", "*-1*", "A-1", True),
    ("StudyDescription", "*^x*", "a^x", True),
    ("StudyDescription", "*Knee*", "Left Knee, 2 planes", True),
    ("StudyDescription", "*knee*", "Left Knee, 2 planes", False),
    ("StudyDescription", "*AND*", "HAND", True),
    ("StudyDescription", "*left knee*", "left knee", True),
    ("StudyDescription", "*ne*", "Knee", True),
    ("Modality", "C?", "CT", True),
    ("Modality", "C*", "MR", False),
    # C.2.2.2.5 ranges of dates and times, open ends, old forms.
    ("StudyDate", "20240101", "20240101", True),
    ("StudyDate", "20240101", "2024.01.01", True),
    ("StudyDate", "2024.01.01", "20240101", True),
    ("StudyDate", "20240101-20241231", "20240630", True),
    ("StudyDate", "20240101-20241231", "20240101", True),
    ("StudyDate", "20240101-20241231", "20241231", True),
    ("StudyDate", "20240101-20241231", "20250101", False),
    ("StudyDate", "20240101 - 20241231", "20240630", True),
    ("StudyDate", "20240101-", "20240101", True),
    ("StudyDate", "20240101-", "20231231", False),
    ("StudyDate", "-20240101", "20240101", True),
    ("StudyDate", "-20240101", "20240102", False),
    ("StudyDate", "-20240101", None, False),
    ("StudyDate", "20240101-", None, False),
    ("StudyDate", "-20240101", "nonsense", False),
    ("StudyDate", "20240229", "20240229", True),
    ("StudyTime", "101530", "101530", True),
    ("StudyTime", "101530", "10:15:30", True),
    ("StudyTime", "10:15:30", "101530", True),
    ("StudyTime", "1015", "101530", True),
    ("StudyTime", "10", "105959.999999", True),
    ("StudyTime", "10", "110000", False),
    ("StudyTime", "101530", "101530.5", True),
    ("StudyTime", "101530.5", "101530.500000", True),
    ("StudyTime", "101530.5", "101530", False),
    ("StudyTime", "10-11", "115959", True),
    ("StudyTime", "10-11", "120000", False),
    ("StudyTime", "1015-", "101500", True),
    ("StudyTime", "-1015", "101559", True),
    ("StudyTime", "-1015", "1016", False),
    ("StudyTime", "-1015", None, False),
    ("PatientBirthDate", "19500101-19591231", "19550505", True),
    ("SeriesDate", "20240101-", "20240102", True),
    ("SeriesTime", "12", "123000", True),
    ("PerformedProcedureStepStartDate", "20240102", "20240102", True),
    # C.2.2.2.8 empty value.
    ("AccessionNumber", '""', None, True),
    ("AccessionNumber", '""', "  ", True),
    ("AccessionNumber", '""', "A", False),
    ("StudyDate", '""', None, True),
    ("StudyDate", '""', "20240101", False),
    ("PatientName", '""', None, True),
    ("PatientName", '""', "^", True),
    ("PatientName", '""', "A", False),
    ("SeriesNumber", '""', None, True),
    ("SeriesNumber", '""', 1, False),
    # Person names: without case, component by component, any component group.
    ("PatientName", "Smith^John", "SMITH^JOHN", True),
    ("PatientName", "SMITH^JOHN", "Smith^John", True),
    ("PatientName", "smith^john^", "Smith^John", True),
    ("PatientName", "Smith^John", "Smith^John^^^", True),
    ("PatientName", "Smith ^ John", "Smith^John", True),
    ("PatientName", "Smith", "Smith^John", False),
    ("PatientName", "Smith*", "Smith^John", True),
    ("PatientName", "Smith^*", "Smith^John", True),
    ("PatientName", "Smith^*", "Smith", True),
    ("PatientName", "Smith^*^*", "Smith^John", True),
    ("PatientName", "Smith^*", "Smithson^John", False),
    ("PatientName", "*john", "Smith^John", True),
    ("PatientName", "*^John", "Smith^John", True),
    ("PatientName", "*mith*", "Smith^John", True),
    ("PatientName", "*it*", "Smith^John", True),
    ("PatientName", "smi?h^*", "Smith^John", True),
    ("PatientName", "STRASSE*", "Straße^Anna", True),
    ("PatientName", "müller^*", "MÜLLER^Jörg", True),
    ("PatientName", "muller^*", "Müller^Jörg", False),
    ("PatientName", "*100%_*", "100%_Name^Wild", True),
    ("PatientName", "*100?_*", "100%_Name^Wild", True),
    ("PatientName", "*'Brien*", "O'Brien^Pat", True),
    ("PatientName", "van der Berg*", "van der Berg^^^Dr^Jr", True),
    ("PatientName", "van  der Berg*", "van der Berg^^^Dr^Jr", True),
    ("PatientName", "*^dr^jr", "van der Berg^^^Dr^Jr", True),
    ("PatientName", "^OnlyGiven", "^OnlyGiven", True),
    ("PatientName", "OnlyGiven", "^OnlyGiven", False),
    ("PatientName", "Yamada^*", YAMADA, True),
    ("PatientName", "山田^太郎", YAMADA, True),
    ("PatientName", "山田*", YAMADA, True),
    ("PatientName", "*田*", YAMADA, True),
    ("PatientName", "やまだ^*", YAMADA, True),
    ("PatientName", "=山田^太郎", YAMADA, True),
    ("PatientName", "==やまだ*", YAMADA, True),
    ("PatientName", "=山口*", YAMADA, False),
    ("PatientName", "Yamada^Tarou=山田^太郎", YAMADA, True),
    ("PatientName", "Yamada^Jirou=山田^太郎", YAMADA, False),
    ("PatientName", "Yamada*=山*=やまだ*", YAMADA, True),
    ("PatientName", "=Yamada*", YAMADA, False),
    ("PatientName", "ivanov^иВАН", "Ivanov^Иван", True),
    ("PatientName", "αλφα*", "ΑΛΦΑΣ^Βητα", True),
    ("PatientName", "김*", "김^희중", True),
    ("PatientName", "*قبان*", "قباني^لنزار", True),
    ("ReferringPhysicianName", "doc*", "Doctor^Who", True),
    ("ReferringPhysicianName", "*octo*", "Doctor^Who", True),
    ("ReferringPhysicianName", "Doctor", None, False),
]

# (typed, stored, does it match) with fuzzy matching of names (PS3.18 8.3.4.2).
FUZZY_ROWS: list[tuple[str, str | None, bool]] = [
    ("smith", "SMITH^JOHN", True),
    ("john smith", "SMITH^JOHN", True),
    ("Smith^John", "John^Smith", True),
    ("smyth", "Smith^John", True),
    ("jon smyth", "Smith^John", True),
    ("smi", "Smith^John", True),
    ("ith", "Smith^John", False),
    ("smith jane", "Smith^John", True),  # Jane sounds like John
    ("smith peter", "Smith^John", False),
    ("muller", "Müller^Jörg", True),
    ("mueller", "Müller^Jörg", True),
    ("MÜLLER", "Muller^Jorg", True),
    ("katherine", "Catherine^X", True),
    ("obrien", "O'Brien^Pat", True),
    ("o'brien", "OBrien^Pat", True),
    ("jones smith", "Smith-Jones^Ann", True),
    ("cruz maria", "de la Cruz^María", True),
    ("delacruz", "DE LA CRUZ^MARIA", True),
    ("maria delacruz", "de la Cruz^María", True),
    ("vander berg", "van der Berg^Jan", True),
    ("lacruz", "de la Cruz^María", False),
    ("de la cruz", "Delacruz^Maria", True),
    ("De La Cruz^Maria", "DELACRUZ^MARIA", True),
    ("maria de la cruz", "DELACRUZ^MARIA", True),
    ("van der berg", "Vanderberg^Jan", True),
    ("von der berg", "Vanderberg^Jan", False),
    ("muller-ludenscheidt", "Müllerlüdenscheidt^Karl", True),
    ("smith john", "Smithjohn^Ann", True),
    ("Smith^John", "Smithjohn^Ann", False),  # two components are two words
    ("lukasz", "Łukasz^Ø", True),
    ("山田", YAMADA, True),
    ("田", YAMADA, True),
    ("太郎", YAMADA, True),
    ("山田太郎", YAMADA, True),
    ("山口", YAMADA, False),
    ("tarou yamada", YAMADA, True),
    ("김희", "김^희중", True),
    ("иван", "Ivanov^Иван", True),
    ("*smi*", "Smith^John", True),
    ("wei", "Wei^Li", True),
    ("li", "Wei^Li", True),
    ("lo", "Wei^Li", False),
    ("smith", None, False),
    ("", None, True),
    ("*", None, True),
    ("-", "Smith", False),
]

# (keyword, what is asked, what is stored, does it match when the search is fuzzy): free text without case.
TEXT_ROWS: list[tuple[str, str, Any, bool]] = [
    ("StudyDescription", "*knee*", "MR KNEE LEFT", True),
    ("StudyDescription", "mr knee", "MR Knee", True),
    ("StudyDescription", "mr*", "MR Knee", True),
    ("StudyDescription", "*KNEE*", "knee", True),
    ("StudyDescription", "*knie*", "MR KNEE", False),
    ("StudyDescription", "?r", "MR", True),
    ("StudyDescription", "*gehör*", "GEHÖRGANG", True),
    ("StudyDescription", "*gehör*", "GEHURGANG", False),
    ("StudyDescription", "*ΚΕΦ*", "κεφαλή", True),
    ("StudyDescription", "\u0131", "I", False),  # dotless i
    ("StudyDescription", "*100%_[a]*", "X 100%_[A] Y", True),
    ("StudyDescription", "*%*", "100", False),
    ("StudyDescription", "*c:d*", "C:D", True),
    ("PatientID", "p1", "P1", True),
    ("SeriesDescription", "*t2 ax*", "T2 AX", True),
    ("SeriesDescription", "*größe*", "GRÖSSE", False),
    ("SeriesDescription", "*tête*", "TÊTE", True),
    # Codes are codes.
    ("Modality", "ct", "CT", False),
    ("BodyPartExamined", "knee", "KNEE", False),
    # What has no column.
    ("ProtocolName", "*thorax*", "Thorax PA", True),
    ("PatientComments", "calm", "CALM", True),
    # Names: what matches to the letter is found too, in the midst of a word as well.
    ("PatientName", "*mit*", "Smith^John", True),
    ("PatientName", "smith^j*", "Smith^John", True),
]

# (keyword, VR, value): refused, with the keyword in the text.
MALFORMED = [
    ("StudyDate", "DA", "abc"),
    ("StudyDate", "DA", "2024"),
    ("StudyDate", "DA", "20241301"),
    ("StudyDate", "DA", "20230229"),
    ("StudyDate", "DA", "2024-01-19"),
    ("StudyDate", "DA", "-"),
    ("StudyDate", "DA", "20240101--"),
    ("StudyDate", "DA", "20241231-20240101"),
    ("StudyDate", "DA", "2024*"),
    ("StudyDate", "DA", "20240101\\20240201-20240301"),
    ("StudyTime", "TM", "25"),
    ("StudyTime", "TM", "1"),
    ("StudyTime", "TM", "12-11"),
    ("StudyTime", "TM", "noon"),
    ("AcquisitionDateTime", "DT", "20241"),
    ("AcquisitionDateTime", "DT", "2024-2023-2022"),
    ("AcquisitionDateTime", "DT", "20250101-20240101"),
    ("SeriesNumber", "IS", "1*"),
    ("SeriesNumber", "IS", "one"),
    ("PatientWeight", "DS", "heavy"),
    ("StudyInstanceUID", "UI", "1.2.*"),
    ("PatientName", "PN", "*a" * 20),
    ("PatientID", "LO", "*a" * 20),
    ("StudyInstanceUID", "UI", "\\".join(f"1.{n}" for n in range(10_001))),
]

# Attributes without a column: matched on the data set alone. (keyword, VR, asked, stored values, does it match)
OTHERS = [
    ("AcquisitionDateTime", "DT", "20240101", ["20240101101530"], True),
    ("AcquisitionDateTime", "DT", "2024", ["20240101101530"], True),
    ("AcquisitionDateTime", "DT", "20240101-20240131", ["20240131235959.999999"], True),
    ("AcquisitionDateTime", "DT", "20240101-20240131", ["20240201"], False),
    ("AcquisitionDateTime", "DT", "20240101-", ["2024"], True),
    ("AcquisitionDateTime", "DT", "-202401", ["20240131235959"], True),
    ("AcquisitionDateTime", "DT", "20240101100000+0100", ["20240101090000+0000"], True),
    ("AcquisitionDateTime", "DT", "20240101100000+0100", ["20240101100000+0000"], False),
    ("AcquisitionDateTime", "DT", "20240101-0500", ["20240101120000-0500"], True),
    ("AcquisitionDateTime", "DT", "20240101000000-0500-20240102000000-0500", ["20240101120000-0500"], True),
    ("AcquisitionDateTime", "DT", "2024", ["nonsense"], False),
    ("AcquisitionDateTime", "DT", '""', [], True),
    ("PatientWeight", "DS", "70", ["70.0"], True),
    ("PatientWeight", "DS", "70", [70.5], False),
    ("ImageType", "CS", "PRIMARY", ["ORIGINAL", "PRIMARY"], True),
    ("ImageType", "CS", "DERIVED", ["ORIGINAL", "PRIMARY"], False),
    ("ImageType", "CS", "PRIM*", [None, "PRIMARY"], True),
    ("FrameIncrementPointer", "AT", "0018106a", ["0018106A"], True),
    ("PixelAspectRatio", "IS", "2", [1, 2], True),
    ("OtherPatientNames", "PN", "roe*", [{"Alphabetic": "Doe"}, {"Alphabetic": "Roe^X"}], True),
    ("TextValue", "UT", "a\\b", ["a\\b"], True),
]


def condition(keyword: str, asked: str) -> Any:
    tag = tag_of(keyword)
    return parse((tag,), TABLE[keyword].vr, asked)


def stored(keyword: str, value: Any) -> dict[str, Any]:
    return json_of({keyword: value})


@pytest.mark.parametrize(("keyword", "asked", "value", "expected"), ROWS)
def test_rows(keyword: str, asked: str, value: Any, expected: bool) -> None:
    conditions = [((tag_of(keyword),), condition(keyword, asked))]
    assert matches_dataset(conditions, stored(keyword, value)) is expected
    if value is None:
        assert matches_dataset(conditions, {}) is expected


@pytest.mark.parametrize(("asked", "value", "expected"), FUZZY_ROWS)
def test_fuzzy_rows(asked: str, value: str | None, expected: bool) -> None:
    conditions = [((tag_of("PatientName"),), condition("PatientName", asked))]
    assert matches_dataset(conditions, stored("PatientName", value), fuzzy=True) is expected


@pytest.mark.parametrize(("keyword", "vr", "asked", "values", "expected"), OTHERS)
def test_attributes_without_a_column(
    keyword: str, vr: str, asked: str, values: list[Any], expected: bool
) -> None:
    assert matches(parse((tag_of(keyword),), vr, asked), values) is expected


@pytest.mark.parametrize(("keyword", "vr", "asked"), MALFORMED)
def test_what_is_malformed_is_refused_by_name_and_without_its_value(
    keyword: str, vr: str, asked: str
) -> None:
    path = (tag_of(keyword),)
    with pytest.raises(BadRequest) as refused:
        in_order(((path, parse(path, vr, asked)),))
    assert keyword in str(refused.value)
    assert asked not in str(refused.value)


@pytest.mark.parametrize(("tag", "vr"), [("7FE00010", "OW"), ("00091002", "UN"), ("00400275", "SQ")])
def test_binary_and_sequences_cannot_be_asked_for_by_value(tag: str, vr: str) -> None:
    assert parse((tag,), vr, "") == Universal()
    with pytest.raises(UnsupportedQuery):
        parse((tag,), vr, "x")


def test_values_may_come_one_by_one() -> None:
    assert parse((tag_of("AccessionNumber"),), "SH", ["A", "B"]) == parse(
        (tag_of("AccessionNumber"),), "SH", "A\\B"
    )
    assert parse((tag_of("AccessionNumber"),), "SH", []) == Universal()
    assert parse((tag_of("AccessionNumber"),), "SH", ["", " "]) == Universal()


SEQUENCE = tag_of("RequestAttributesSequence")
STEP, PROCEDURE = tag_of("ScheduledProcedureStepID"), tag_of("RequestedProcedureID")
TWO_ITEMS = json_of(
    {
        "RequestAttributesSequence": [
            {"ScheduledProcedureStepID": "S1", "RequestedProcedureID": "R1"},
            {"ScheduledProcedureStepID": "S2", "RequestedProcedureID": "R2"},
        ]
    }
)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({STEP: "S1"}, True),
        ({STEP: "S3"}, False),
        ({STEP: "S1", PROCEDURE: "R1"}, True),
        # C.2.2.2.6: one and the same item meets all of its keys.
        ({STEP: "S1", PROCEDURE: "R2"}, False),
        ({STEP: "S*", PROCEDURE: "R2"}, True),
        ({STEP: ""}, True),
    ],
)
def test_sequences_match_item_by_item(keys: dict[str, str], expected: bool) -> None:
    conditions = [((SEQUENCE, tag), parse((SEQUENCE, tag), "SH", asked)) for tag, asked in keys.items()]
    assert matches_dataset(conditions, TWO_ITEMS) is expected


def test_an_absent_sequence_matches_only_what_absence_does() -> None:
    for asked, expected in (("", True), ('""', True), ("S1", False)):
        conditions = [((SEQUENCE, STEP), parse((SEQUENCE, STEP), "SH", asked))]
        assert matches_dataset(conditions, {}) is expected


# (dates, times, stored date, stored time, does it match) taken together as one range of moments.
MOMENTS: list[tuple[str, str, str | None, str | None, bool]] = [
    ("20240101-20240103", "1000-1200", "20240101", "1000", True),
    ("20240101-20240103", "1000-1200", "20240101", "0959", False),
    ("20240101-20240103", "1000-1200", "20240102", "0300", True),
    ("20240101-20240103", "1000-1200", "20240103", "120059", True),
    ("20240101-20240103", "1000-1200", "20240103", "1201", False),
    ("20240101-20240103", "1000-1200", "20240104", "1100", False),
    ("20240101-", "1000-", "20240101", "0900", False),
    ("20240101-", "1000-", "20240102", "0900", True),
    ("-20240103", "-1200", "20240103", "1300", False),
    ("-20240103", "-1200", "20240102", "1300", True),
    ("-20240103", "-1200", None, "1100", False),
    # A night: from the evening of the first day to the morning of the last.
    ("20240101-20240102", "1800-0900", "20240101", "1900", True),
    ("20240101-20240102", "1800-0900", "20240102", "0800", True),
    ("20240101-20240102", "1800-0900", "20240101", "1700", False),
    ("20240101-20240102", "1800-0900", "20240102", "0901", False),
    # A date without a time stands for the whole of its day.
    ("20240101-20240103", "1000-1200", "20240101", None, True),
    ("20240101-20240103", "1000-1200", "20240103", None, True),
    ("20240101-20240103", "1000-1200", "20240104", None, False),
    ("20240101-20240103", "1000-1200", None, None, False),
]


def moment_conditions(dates: str, times: str) -> Any:
    pairs = (("StudyDate", dates), ("StudyTime", times))
    return combined(tuple(((tag_of(keyword),), condition(keyword, asked)) for keyword, asked in pairs))


@pytest.mark.parametrize(("dates", "times", "date", "time", "expected"), MOMENTS)
def test_dates_and_times_together(
    dates: str, times: str, date: str | None, time: str | None, expected: bool
) -> None:
    conditions = moment_conditions(dates, times)
    assert [type(one) for _, one in conditions] == [DateTimeRange]
    assert matches_dataset(conditions, json_of({"StudyDate": date, "StudyTime": time})) is expected


def test_only_two_ranges_are_taken_together() -> None:
    assert len(moment_conditions("20240101", "1000-1200")) == 2
    assert len(moment_conditions("20240101-20240102", "")) == 2
    of_series = tuple(
        ((tag_of(k),), condition(k, v)) for k, v in (("StudyDate", "2024.01.01-"), ("SeriesTime", "10-"))
    )
    assert combined(of_series) == of_series


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (("a",), "a", True),
        ((STAR,), "", True),
        ((ONE,), "", False),
        (("a", STAR, "b"), "ab", True),
        (("a", STAR, "b"), "axxb", True),
        (("a", STAR, "b"), "axxbc", False),
        ((STAR, "ab", STAR, "ab"), "abab", True),
        ((STAR, "ab", STAR, "ab"), "aba", False),
        ((ONE, STAR, ONE), "a", False),
        ((ONE, STAR, ONE), "ab", True),
    ],
)
def test_patterns(pattern: Any, text: str, expected: bool) -> None:
    assert like(pattern, text) is expected


def test_clever_patterns_are_no_work() -> None:
    pattern = parse((tag_of("PatientID"),), "LO", "*a" * 15 + "*b")
    for _ in range(100):
        assert not matches(pattern, ["a" * 10_000])


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("SMITH^John", "smith^john"),
        ("  Smith  Jones ^ John ^^", "smith jones^john"),
        ("^^^", ""),
        ("A\0B", "ab"),
        ("X" * 300, "x" * 256),
    ],
)
def test_keys_of_names(text: str, key: str) -> None:
    assert group_key(text) == key


def test_names_as_text_and_as_groups_have_the_same_keys() -> None:
    assert name_keys(YAMADA) == name_keys(stored("PatientName", YAMADA)["00100010"]["Value"][0])
    assert name_keys(None) == ("", "", "")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("smith", "smyth", True),
        ("smith", "schmidt", True),
        ("philip", "filip", True),
        ("knight", "night", True),
        ("catherine", "katherine", True),
        ("meier", "mayer", True),
        ("smith", "jones", False),
        ("robert", "rubin", False),
    ],
)
def test_sounds(one: str, other: str, same: bool) -> None:
    assert (sound(one) == sound(other)) is same


def test_only_latin_words_have_a_sound() -> None:
    assert [sound(word) for word in ("li", "иван", "山田", "x9z")] == ["", "", "", ""]


def test_fuzzy_keys_have_words_and_sounds_between_spaces() -> None:
    assert fuzzy_key(name_keys("O'Brien-Łuk^Zoë")) == " obrien luk zoe obrienluk O165 L200 S000 O165 "
    assert fuzzy_key(("", "", "")) == ""
    assert words("de la Cruz^María") == ["de", "la", "cruz", "maria"]


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("10", "100000.000000", "105959.999999"),
        ("1015", "101500.000000", "101559.999999"),
        ("235960", "235960.000000", "235960.999999"),
        ("10:15:30.25", "101530.250000", "101530.259999"),
    ],
)
def test_times_of_limited_precision_are_spans(text: str, low: str, high: str) -> None:
    assert time_span(text) == (low, high)


@pytest.mark.parametrize("text", ["", "1", "101", "24", "1060", "10:1530", "101530.", "101530.1234567"])
def test_what_is_no_time(text: str) -> None:
    assert time_span(text) is None


@pytest.mark.parametrize(
    ("text", "low", "high", "offset"),
    [
        ("2024", "20240101000000.000000", "20241231235959.999999", False),
        ("202402", "20240201000000.000000", "20240229235959.999999", False),
        ("2024010110", "20240101100000.000000", "20240101105959.999999", False),
        ("20240101101530.5", "20240101101530.500000", "20240101101530.599999", False),
        ("20240101000000+0100", "20231231230000.000000", "20231231230000.999999", True),
    ],
)
def test_datetimes_of_limited_precision_are_spans(text: str, low: str, high: str, offset: bool) -> None:
    assert moment(text) == (low, high, offset)


@pytest.mark.parametrize("text", ["", "24", "20241301", "2024.5", "20240101+9900", "0000"])
def test_what_is_no_datetime(text: str) -> None:
    assert moment(text) is None


def corpus_names() -> list[str]:
    """Every name of the query corpus: Greek, Cyrillic, Japanese, Chinese, German, wildcards in names, empty ones."""
    if not present():
        return []
    with (FOLDER / "query-corpus" / "query_corpus.tsv").open(encoding="utf-8", newline="") as lines:
        return sorted({row["PatientName"] for row in csv.DictReader(lines, delimiter="\t")})


@pytest.mark.parametrize("name", corpus_names())
def test_real_names_are_found_by_themselves_in_any_case_and_by_any_part(name: str) -> None:
    values = stored("PatientName", name or None)["00100010"].get("Value", [])
    for asked in (name, name.upper(), name.lower(), f"{name[:3]}*" if name else "", f"*{name[1:4]}*"):
        assert matches(condition("PatientName", asked), values), asked
    for word in words(name):
        assert matches(condition("PatientName", word), values, fuzzy=True), word


@pytest.mark.parametrize(("keyword", "asked", "stored", "expected"), ALL_OF)
def test_several_values_that_must_all_match(keyword: str, asked: str, stored: Any, expected: bool) -> None:
    condition = parse_all((tag_of(keyword),), dictionary_VR(keyword), asked)
    assert matches_dataset([((tag_of(keyword),), condition)], json_of({keyword: stored})) is expected


@pytest.mark.parametrize(("keyword", "asked", "stored", "expected"), TEXT_ROWS)
def test_text_without_case_where_the_search_is_fuzzy(keyword: str, asked: str, stored: Any, expected: bool) -> None:
    path = (tag_of(keyword),)
    condition = parse(path, dictionary_VR(keyword), asked)
    assert matches_dataset([(path, condition)], json_of({keyword: stored}), fuzzy=True) is expected
