"""The order of answers and pages of it, on both engines: sorted as asked, nothing twice, nothing left out."""

from __future__ import annotations

import random
from dataclasses import replace
from importlib import import_module
from itertools import islice
from typing import Any

import pytest

from storage.attributes import tag_of
from storage.errors import BadRequest, UnsupportedQuery
from storage.index import Index
from storage.index.anchors import Anchors
from storage.index.order import sortable
from storage.types import Level, Query
from tests.support.entries import entry, values
from tests.support.indexes import conditions

UID = {Level.STUDY: "StudyInstanceUID", Level.SERIES: "SeriesInstanceUID", Level.IMAGE: "SOPInstanceUID"}


def by(*keywords: str) -> tuple[tuple[str, bool], ...]:
    return tuple((tag_of(one.lstrip("-")), one.startswith("-")) for one in keywords)


@pytest.fixture
def filled(index: Index) -> Index:
    """Thirty studies with few different values, so that most places in any order are shared."""
    chosen = random.Random(1)
    entries = []
    for number in range(30):
        study: dict[str, Any] = {
            "StudyDate": chosen.choice(["20240101", "20240102", ""]),
            "StudyTime": chosen.choice(["10", "11", ""]),
            "PatientName": chosen.choice(["Doe^A", "doe^a", "Roe", "Ähre", ""]),
            "PatientID": f"P{number % 4}",
            "AccessionNumber": f"A{number}",
        }
        for series in range(1, 1 + number % 3):
            entries += [
                entry(f"1.{number}", str(series), str(one), Modality=chosen.choice(["CT", "MR"]), SeriesNumber=chosen.choice([1, 2]),
                      InstanceNumber=chosen.choice([1, 2]), **study)
                for one in (1, 2)
            ]  # fmt: skip
        entries.append(entry(f"1.{number}", "9", "9", Modality="SR", **study))
    index.add(entries)
    return index


ORDERS = [
    (Level.STUDY, ()),
    (Level.STUDY, by("PatientName")),
    (Level.STUDY, by("-PatientName", "StudyDate")),
    (Level.STUDY, by("PatientID", "-StudyDate", "StudyTime")),
    (Level.STUDY, by("-NumberOfStudyRelatedInstances", "-AccessionNumber")),
    (Level.STUDY, by("ModalitiesInStudy")),
    (Level.SERIES, ()),
    (Level.SERIES, by("Modality", "-SeriesNumber")),
    (Level.SERIES, by("-NumberOfSeriesRelatedInstances", "PatientName")),
    (Level.IMAGE, ()),
    (Level.IMAGE, by("-InstanceNumber", "Modality", "-PatientID")),
]


@pytest.mark.parametrize(("level", "order"), ORDERS)
@pytest.mark.parametrize("size", [1, 7])
def test_pages_are_the_whole_in_its_order(
    filled: Index, level: Level, order: tuple[tuple[str, bool], ...], size: int
) -> None:
    """Whether pages go on behind a row or at an offset."""
    query = Query(level, fields=frozenset(), order=order)
    whole = values(filled.find(query), UID[level])
    assert len(whole) == len(set(whole)) == filled.count(query)
    by_key: list[Any] = []
    key = None
    while True:
        page = filled.find(replace(query, after=key, limit=size))
        found = values(page, UID[level])
        by_key += found
        if len(found) < size:
            break
        key = page.key
    assert by_key == whole
    by_offset = [uid for at in range(0, len(whole), size) for uid in values(filled.find(replace(query, offset=at, limit=size)), UID[level])]
    assert by_offset == whole


def test_sorted_as_asked(filled: Index) -> None:
    query = Query(Level.STUDY, fields=frozenset({tag_of("PatientID"), tag_of("StudyDate")}), order=by("-PatientID", "StudyDate"))
    found = [(row["00100020"]["Value"][0], (row["00080020"].get("Value") or [""])[0]) for row in filled.find(query)]
    assert found == sorted(sorted(found, key=lambda one: one[1]), key=lambda one: one[0], reverse=True)


def test_names_are_sorted_without_case(filled: Index) -> None:
    query = Query(Level.STUDY, fields=frozenset({tag_of("PatientName")}), order=by("PatientName"))
    names = [(row["00100010"].get("Value") or [{}])[0].get("Alphabetic", "").casefold() for row in filled.find(query)]
    assert names == sorted(names)


def test_going_on_where_columns_do_not_decide(filled: Index) -> None:
    """A condition that is looked at row by row pages as any other."""
    filled.add([entry(f"2.{n}", PatientComments="calm" if n % 2 else "loud") for n in range(9)])
    query = Query(Level.STUDY, conditions({"PatientComments": "calm"}), frozenset())
    whole = values(filled.find(query), "StudyInstanceUID")
    first = filled.find(replace(query, limit=1))
    assert [*values(islice(first, 1), "StudyInstanceUID"), *values(filled.find(replace(query, after=first.key)), "StudyInstanceUID")] == whole
    assert filled.count(query) == 4


def test_counting_looks_at_no_limit(filled: Index) -> None:
    assert filled.count(Query(Level.STUDY, conditions({"PatientID": "P1"}), limit=3, offset=1)) == 8


@pytest.mark.parametrize(
    ("level", "keyword"),
    [(Level.STUDY, "Modality"), (Level.STUDY, "PatientComments"), (Level.SERIES, "InstanceNumber"), (Level.IMAGE, "PixelData")],
)
def test_what_cannot_be_sorted_by_is_named(index: Index, level: Level, keyword: str) -> None:
    with pytest.raises(UnsupportedQuery, match=keyword):
        index.find(Query(level, order=by(keyword)))


@pytest.mark.parametrize("level", [Level.STUDY, Level.SERIES, Level.IMAGE])
def test_everything_that_is_said_to_be_sortable_is(filled: Index, level: Level) -> None:
    for keyword in sortable(level):
        assert len(list(filled.find(Query(level, fields=frozenset(), order=by(keyword))))) == filled.count(Query(level)), keyword


def test_a_place_that_is_gone(filled: Index) -> None:
    with pytest.raises(BadRequest, match="first page"):
        list(filled.find(Query(Level.STUDY, after=10**6)))


@pytest.mark.parametrize(("level", "order"), ORDERS)
def test_pages_by_offset_begin_where_others_ended(
    filled: Index, level: Level, order: tuple[tuple[str, bool], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forwards, backwards, again, left early, and after something has come."""
    monkeypatch.setattr(import_module("storage.index.find"), "LEAST_OFFSET", 1)
    query = Query(level, fields=frozenset(), order=order)
    whole = values(filled.find(query), UID[level])
    offsets = [*range(0, len(whole) + 3, 4), *range(len(whole), 0, -3), 2, 2]
    for offset in offsets:
        assert values(filled.find(replace(query, offset=offset, limit=4)), UID[level]) == whole[offset : offset + 4]
        left_early = filled.find(replace(query, offset=offset))
        next(left_early, None)
        left_early.close()
    filled.add([entry("3.1", "1", "1", StudyDate="20990101", PatientName="A", PatientID="P0", AccessionNumber="A", Modality="CR")])
    whole = values(filled.find(query), UID[level])
    for offset in offsets:
        assert values(filled.find(replace(query, offset=offset, limit=4)), UID[level]) == whole[offset : offset + 4]


def test_anchors_are_few_and_of_one_state() -> None:
    anchors = Anchors()
    for number in range(1000):
        anchors.keep("a", 1, number * 10, (number,))
    assert anchors.nearest("a", 1, 9_995) == (9_990, (999,))
    assert anchors.nearest("a", 2, 9_995) is None
    anchors.keep("a", 2, 20, ("new",))
    anchors.keep("a", 1, 30, ("old",))
    assert (anchors.nearest("a", 2, 35), anchors.nearest("a", 2, 19)) == ((20, ("new",)), None)
    for number in range(200):
        anchors.keep(number, 2, 1, ())
    assert anchors.nearest("a", 2, 35) is None, "the search that was longest ago is forgotten"
