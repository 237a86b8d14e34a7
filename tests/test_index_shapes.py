"""Queries that differ in their values alone share statements, and are answered by their own values all the same."""

from __future__ import annotations

import pytest

from storage.index import Index
from storage.index import ways as module
from storage.index.shapes import shape_of
from storage.types import Level, Query
from tests.support.entries import entry
from tests.support.indexes import conditions, studies

# Two queries of one shape, and what each finds of the studies below.
ALIKE: list[tuple[dict[str, str], dict[str, str], list[str], list[str]]] = [
    ({"PatientID": "P1"}, {"PatientID": "P2"}, ["1.1"], ["1.2"]),
    ({"PatientID": "P1\\P3"}, {"PatientID": "P2\\P3"}, ["1.1", "1.3"], ["1.2", "1.3"]),
    ({"StudyInstanceUID": "1.1"}, {"StudyInstanceUID": "1.4"}, ["1.1"], []),
    ({"StudyDate": "20240101-20240102"}, {"StudyDate": "20240102-20240103"}, ["1.1", "1.2"], ["1.2", "1.3"]),
    ({"StudyDate": "20240102-"}, {"StudyDate": "20240103-"}, ["1.2", "1.3"], ["1.3"]),
    ({"PatientName": "DOE*"}, {"PatientName": "ROEDER*"}, ["1.1"], ["1.2"]),
    ({"PatientName": "*JANE*"}, {"PatientName": "*JOHN*"}, ["1.1"], ["1.2", "1.3"]),
    ({"PatientName": "DOE^JANE"}, {"PatientName": "POE^JOHN"}, ["1.1"], ["1.3"]),
    ({"ModalitiesInStudy": "CT"}, {"ModalitiesInStudy": "MR"}, ["1.1", "1.3"], ["1.2"]),
    ({"Modality": "MR", "StudyDate": "20240102"}, {"Modality": "CT", "StudyDate": "20240103"}, ["1.2"], ["1.3"]),
    ({"StudyDescription": "*[A]*"}, {"StudyDescription": "*%_\"*"}, ["1.1"], ["1.2"]),
]
# Those that are planned for themselves.
SHAPELESS: list[Query] = [
    Query(Level.STUDY, conditions({"PatientName": "doe"}), fuzzy=True),
    Query(Level.PATIENT, conditions({"PatientID": "P1"})),
    Query(Level.STUDY, conditions({"PatientName": "D*E^J*"})),
    Query(Level.STUDY, conditions({"PatientName": "Doe=x"})),
    Query(Level.STUDY, conditions({"PatientID": "\\".join(map(str, range(9)))})),
    Query(Level.STUDY, conditions({"InstitutionName": "H"})),
    Query(Level.STUDY, conditions({"SOPClassesInStudy": "1.2.840.10008.5.1.4.1.1.2"})),
]


@pytest.mark.parametrize(("one", "other", "found", "found_by_other"), ALIKE)
def test_what_is_alike_has_one_statement_and_its_own_answers(
    one: dict[str, str], other: dict[str, str], found: list[str], found_by_other: list[str], index: Index
) -> None:
    index.add([
        entry("1.1", PatientID="P1", PatientName="Doe^Jane", StudyDate="20240101", Modality="CT", StudyDescription="x[A]y"),
        entry("1.2", PatientID="P2", PatientName="Roeder^John", StudyDate="20240102", Modality="MR", StudyDescription='x%_"y'),
        entry("1.3", PatientID="P3", PatientName="Poe^John", StudyDate="20240103", Modality="CT", StudyDescription="x%A"),
    ])  # fmt: skip
    module._node.cache_clear()
    assert sorted(studies(index, **one)) == found
    made = module._node.cache_info().misses
    assert made > 0
    assert sorted(studies(index, **other)) == found_by_other
    assert module._node.cache_info().misses == made


@pytest.mark.parametrize("query", SHAPELESS)
def test_what_has_no_shape(query: Query) -> None:
    assert shape_of(query, {}) is None


def test_an_additional_attribute_has_no_shape() -> None:
    query = Query(Level.STUDY, conditions({"PatientID": "P1"}))
    assert shape_of(query, {}) is not None
    assert shape_of(query, {("00100020",): object()}) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Query(Level.STUDY), Query(Level.SERIES)),
        (Query(Level.STUDY), Query(Level.STUDY, partition="other")),
        (Query(Level.STUDY), Query(Level.STUDY, order=(("00080020", True),))),
        (Query(Level.STUDY, conditions({"StudyDate": "20240101-"})), Query(Level.STUDY, conditions({"StudyDate": "-20240101"}))),
        (Query(Level.STUDY, conditions({"PatientID": "PPP*"})), Query(Level.STUDY, conditions({"PatientID": "*PPP"}))),
        (Query(Level.STUDY, conditions({"PatientID": '""'})), Query(Level.STUDY, conditions({"PatientID": "P"}))),
    ],
)
def test_what_differs_in_more_than_values_has_another_shape(one: Query, other: Query) -> None:
    assert _shape(one) != _shape(other)


def _shape(query: Query) -> object:
    found = shape_of(query, {})
    assert found is not None
    return found[0]
