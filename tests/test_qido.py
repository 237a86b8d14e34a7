"""QIDO-RS parameters to queries by tables, and searches of a real archive through the routes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from dicomweb.exchange import Call
from dicomweb.qido import retrieve_url
from dicomweb.search_parameters import asked_of
from storage import attributes, matching
from storage.archive import Archive
from storage.errors import BadRequest, NotFound, UnsupportedQuery
from storage.types import Level
from tests.support import made, web

NAME, ID, STUDY, SERIES = "00100010", "00100020", "0020000D", "0020000E"


def call(*pairs: tuple[str, str], **path: str) -> Call:
    return Call("GET", path, tuple(pairs))


@pytest.mark.parametrize(
    ("pairs", "path", "vr", "value"),
    [
        # PS3.18 8.3.4.1: keyword, tag, dotted sequence path of either
        ([("PatientID", "a")], (ID,), "LO", "a"),
        ([("00100020", "a")], (ID,), "LO", "a"),
        ([("0020000d", "1.2")], (STUDY,), "UI", "1.2"),
        ([("PatientName", "*do?")], (NAME,), "PN", "*do?"),
        ([("PatientName", "")], (NAME,), "PN", ""),
        ([("StudyDate", "20200101-20201231")], ("00080020",), "DA", "20200101-20201231"),
        ([("RequestAttributesSequence.ScheduledProcedureStepID", "7")], ("00400275", "00400009"), "SH", "7"),
        ([("00400275.00400009", "7")], ("00400275", "00400009"), "SH", "7"),
        # lists: UIDs by comma or backslash or by repeating, coded strings by comma
        ([("StudyInstanceUID", "1.2,1.3")], (STUDY,), "UI", ["1.2", "1.3"]),
        ([("StudyInstanceUID", "1.2\\1.3")], (STUDY,), "UI", ["1.2", "1.3"]),
        ([("StudyInstanceUID", "1.2"), ("StudyInstanceUID", "1.3")], (STUDY,), "UI", ["1.2", "1.3"]),
        ([("ModalitiesInStudy", "CT,MR")], ("00080061",), "CS", ["CT", "MR"]),
        ([("StudyDescription", "CHEST, PA")], ("00081030",), "LO", "CHEST, PA"),
        ([("PatientID", "a,b"), ("multiplevaluematching", "true")], (ID,), "LO", ["a", "b"]),
        # emptyvaluematching
        ([("PatientID", ""), ("emptyvaluematching", "true")], (ID,), "LO", '""'),
        ([("PatientID", '""')], (ID,), "LO", '""'),
    ],
)
def test_matching_parameters(pairs: list[tuple[str, str]], path: tuple[str, ...], vr: str, value: Any) -> None:
    query = asked_of(call(*pairs), Level.STUDY).query
    assert query.conditions == ((path, matching.parse(path, vr, value)),)
    assert query.fields is not None
    assert path[0] in query.fields


def test_what_is_not_matching() -> None:
    query = asked_of(
        call(("limit", "101"), ("offset", "7"), ("fuzzymatching", "true"), ("charset", "utf-8"), ("accept", "application/json")),
        Level.STUDY,
    ).query
    assert (query.limit, query.offset, query.fuzzy, query.conditions) == (101, 7, True, ())
    assert query.fields == attributes.default_fields(Level.STUDY)


@pytest.mark.parametrize(
    ("pairs", "fields"),
    [
        ([("includefield", "00081030%2C00080060".replace("%2C", ","))], {"00081030", "00080060"}),
        ([("includefield", "StudyDescription"), ("includefield", "PatientAge, 00101030")], {"00081030", "00101010", "00101030"}),
        ([("includefield", "RequestAttributesSequence.ScheduledProcedureStepID")], {"00400275.00400009"}),
        ([("includefield", "00091001")], {"00091001"}),
        # PS3.18 8.3.4.3, PS3.5 7.8.1: with its creator, whatever block that has where it is found
        ([("includefield", "00091001"), ("00090010", "ACME 1.1")], {"0009xx01:ACME 1%2E1"}),
        ([("00090010", "ACME"), ("includefield", "00091001,00081030")], {"0009xx01:ACME", "00081030"}),
        ([("includefield", "")], set()),
    ],
)
def test_included_fields(pairs: list[tuple[str, str]], fields: set[str]) -> None:
    assert asked_of(call(*pairs), Level.STUDY).query.fields == attributes.default_fields(Level.STUDY) | fields


@pytest.mark.parametrize("value", ["all", "ALL", "PatientName,all"])
def test_all_fields(value: str) -> None:
    assert asked_of(call(("includefield", value)), Level.STUDY).query.fields is None


@pytest.mark.parametrize(
    ("level", "path", "levels"),
    [
        (Level.STUDY, {}, {Level.STUDY}),
        (Level.SERIES, {}, {Level.STUDY, Level.SERIES}),
        (Level.SERIES, {"study": "1.2"}, {Level.SERIES}),
        (Level.IMAGE, {}, {Level.STUDY, Level.SERIES, Level.IMAGE}),
        (Level.IMAGE, {"study": "1.2"}, {Level.SERIES, Level.IMAGE}),
        (Level.IMAGE, {"study": "1.2", "series": "1.3"}, {Level.IMAGE}),
    ],
)
def test_defaults_of_the_levels_that_the_path_leaves_open(level: Level, path: dict[str, str], levels: set[Level]) -> None:
    """PS3.18 10.6.3.3."""
    expected = frozenset[str]().union(*(attributes.default_fields(each) for each in levels))
    query = asked_of(call(**path), level).query
    assert query.fields == expected
    assert [tags for tags, _condition in query.conditions] == [(tag,) for tag in (STUDY, SERIES)[: len(path)]]


@pytest.mark.parametrize(
    ("pairs", "named"),
    [
        ([("NoSuchAttribute", "x")], "NoSuchAttribute"),
        ([("0010002", "x")], "0010002"),
        ([("_", "1700000000")], "'_'"),
        ([("PatientID.", "x")], "PatientID."),
        ([("limit", "-1")], "limit"),
        ([("limit", "many")], "limit"),
        ([("limit", "٣")], "limit"),
        ([("limit", "9" * 30)], "limit"),
        ([("offset", "1.5")], "offset"),
        ([("fuzzymatching", "maybe")], "fuzzymatching"),
        ([("includefield", "Nonsense")], "Nonsense"),
        ([("StudyDate", "yesterday")], "StudyDate"),
        ([("StudyDate", "20201231-20200101")], "StudyDate"),
        ([("StudyTime", "25:61")], "StudyTime"),
        ([("SeriesNumber", "x")], "SeriesNumber"),
        ([("StudyInstanceUID", "1.2*")], "StudyInstanceUID"),
        ([("00091001", "x")], "00090010"),
        ([("00091001", "x"), ("00090011", "ACME")], "00090010"),
        ([("PixelData", "x")], "PixelData"),
        ([("RequestAttributesSequence", "x")], "RequestAttributesSequence"),
        ([("ModalitiesInStudy", "C*,MR"), ("multiplevaluematching", "true")], "ModalitiesInStudy"),
        ([("OtherPatientIDs", ",".join(map(str, range(101)))), ("multiplevaluematching", "true")], "OtherPatientIDs"),
    ],
)
def test_what_is_not_understood_is_named(pairs: list[tuple[str, str]], named: str) -> None:
    with pytest.raises(BadRequest) as refused:
        asked_of(call(*pairs), Level.STUDY)
    assert named in str(refused.value)


def test_a_parameter_may_repeat_the_path_but_not_contradict_it() -> None:
    assert len(asked_of(call(("StudyInstanceUID", "1.2"), study="1.2"), Level.SERIES).query.conditions) == 1
    with pytest.raises(BadRequest):
        asked_of(call(("StudyInstanceUID", "1.3"), study="1.2"), Level.SERIES)


@pytest.mark.parametrize("uid", ["*", "1.?", "1.2\\1.3", '""'])
def test_wildcards_in_the_path_find_nothing(uid: str) -> None:
    with pytest.raises(NotFound):
        asked_of(call(study=uid), Level.SERIES)


def test_retrieve_urls() -> None:
    row = {STUDY: {"vr": "UI", "Value": ["1"]}, SERIES: {"vr": "UI", "Value": ["2"]}, "00080018": {"vr": "UI", "Value": ["3"]}}
    assert [retrieve_url(row, level, "/d") for level in (Level.STUDY, Level.SERIES, Level.IMAGE)] == [
        "/d/studies/1",
        "/d/studies/1/series/2",
        "/d/studies/1/series/2/instances/3",
    ]


@given(
    st.lists(
        st.tuples(
            st.one_of(st.text(max_size=20), st.sampled_from(["PatientName", "StudyDate", "limit", "includefield", "StudyTime", "00080061"])),
            st.text(max_size=40),
        ),
        max_size=5,
    )
)
def test_any_parameters_give_a_query_or_a_documented_refusal(pairs: list[tuple[str, str]]) -> None:
    try:
        query = asked_of(call(*pairs), Level.IMAGE).query
    except BadRequest as error:
        assert str(error)  # noqa: PT017 - UnsupportedQuery is one of them
    else:
        assert query.limit is None or query.limit >= 0
    assert issubclass(UnsupportedQuery, BadRequest)


# --- through the routes, against a real index -----------------------------------------------------------------


@pytest.fixture
def client(archive: Archive) -> Iterator[TestClient]:
    with web.client(archive) as client:
        instances = [
            made.instance(1, study="1.2.3", series="1.2.3.4"),
            made.instance(2, study="1.2.3", series="1.2.3.4"),
            made.instance(1, study="1.2.3", series="1.2.3.5", Modality="SR", SeriesNumber=2, SeriesDescription="Report"),
            made.instance(1, study="1.2.6", series="1.2.6.1", PatientName="Doe^Jane", PatientID="P2", StudyDate="20200101", Modality="US"),
        ]
        assert web.stow(client, instances).status_code == 200
        yield client


def found(client: TestClient, path: str, tag: str = STUDY) -> list[str]:
    answer = client.get(path, headers={"Accept": "application/dicom+json"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/dicom+json"
    return [row[tag]["Value"][0] for row in answer.json()]


@pytest.mark.parametrize(
    ("path", "tag", "values"),
    [
        ("studies", STUDY, ["1.2.3", "1.2.6"]),
        ("studies?limit=1", STUDY, ["1.2.3"]),
        ("studies?limit=1&offset=1", STUDY, ["1.2.6"]),
        ("studies?limit=0", STUDY, []),
        ("studies?offset=2", STUDY, []),
        # what OHIF asks (VIEWERS.md)
        ("studies?limit=101&offset=0&fuzzymatching=false&includefield=00081030%2C00080060", STUDY, ["1.2.3", "1.2.6"]),
        ("studies?PatientName=*do*&limit=101", STUDY, ["1.2.6"]),
        ("studies?PatientName=*m%C3%BCll*", STUDY, ["1.2.3"]),
        ("studies?00100020=*P1*", STUDY, ["1.2.3"]),
        ("studies?00100020=P1", STUDY, ["1.2.3"]),
        ("studies?StudyDate=20200101-20201231", STUDY, ["1.2.6"]),
        ("studies?ModalitiesInStudy=US", STUDY, ["1.2.6"]),
        ("studies?ModalitiesInStudy=US%2CSR", STUDY, ["1.2.3", "1.2.6"]),
        # PS3.4 C.2.2.2.8: each of the values must be there, in any order, and others may be there too
        ("studies?ModalitiesInStudy=SR%2CCT&multiplevaluematching=true", STUDY, ["1.2.3"]),
        ("studies?ModalitiesInStudy=SR%5CCT&multiplevaluematching=true", STUDY, ["1.2.3"]),
        ("studies?ModalitiesInStudy=US%2CSR&multiplevaluematching=true", STUDY, []),
        ("studies?ModalitiesInStudy=US&multiplevaluematching=true", STUDY, ["1.2.6"]),
        ("studies?StudyInstanceUID=1.2.6,1.2.3&multiplevaluematching=true", STUDY, ["1.2.3", "1.2.6"]),
        ("studies?StudyInstanceUID=1.2.6", STUDY, ["1.2.6"]),
        ("studies?StudyInstanceUID=1.2.6,1.2.3", STUDY, ["1.2.3", "1.2.6"]),
        ("studies?StudyInstanceUID=9.9", STUDY, []),
        ("studies?PatientName=muller&fuzzymatching=true", STUDY, ["1.2.3"]),
        # universal matching (C.2.2.2.3), of whatever attribute at whatever level
        ("studies?ImageType=&Modality=*&KVP=", STUDY, ["1.2.3", "1.2.6"]),
        ("studies?StudyDescription=a%20b", STUDY, []),
        # OHIF's study list where fuzzy matching is on (viewer-config): as typed, whatever the case
        ("studies?StudyInstanceUID=1.2.3&PatientName=*%C3%BCll*&fuzzymatching=true&limit=101", STUDY, ["1.2.3"]),
        ("studies?00100020=*p1*&fuzzymatching=true&limit=101", STUDY, ["1.2.3"]),
        ("studies?00100020=*p1*&limit=101", STUDY, []),
        ("series?SeriesDescription=*report*&fuzzymatching=true", SERIES, ["1.2.3.5"]),
        ("studies?PatientID=P1%00", STUDY, ["1.2.3"]),
        ("studies/1.2.3/series?includefield=0008103E%2C00080021", SERIES, ["1.2.3.4", "1.2.3.5"]),
        ("studies/1.2.3/series?Modality=SR", SERIES, ["1.2.3.5"]),
        ("studies/9.9/series", SERIES, []),
        ("series?PatientID=P2", SERIES, ["1.2.6.1"]),
        ("series?Modality=CT&StudyInstanceUID=1.2.3", SERIES, ["1.2.3.4"]),
        ("studies/1.2.3/series/1.2.3.4/instances", "00080018", ["1.2.3.4.1", "1.2.3.4.2"]),
        ("studies/1.2.3/instances?limit=1&offset=2", "00080018", ["1.2.3.5.1"]),
        ("instances?SOPInstanceUID=1.2.6.1.1", "00080018", ["1.2.6.1.1"]),
        ("instances?InstanceNumber=2", "00080018", ["1.2.3.4.2"]),
    ],
)
def test_searches(client: TestClient, path: str, tag: str, values: list[str]) -> None:
    assert found(client, path, tag) == values


def test_a_study_row_is_complete(client: TestClient) -> None:
    """PS3.18 table 10.6.3-3, and what OHIF's list shows."""
    (row,) = client.get("studies?PatientID=P1").json()
    values = {tag: element.get("Value") for tag, element in row.items()}
    assert values["00100010"] == [{"Alphabetic": "Müller^Hans"}]
    assert (values["00201206"], values["00201208"]) == ([2], [3])
    assert sorted(values["00080061"]) == ["CT", "SR"]
    assert values["00080056"] == ["ONLINE"]
    assert values["00081190"] == ["http://pacs.test/dicom-web/studies/1.2.3"]
    assert {"00080020", "00080030", "00080050", "00100020", "0020000D"} <= values.keys()


def test_private_attributes(archive: Archive) -> None:
    """PS3.18 8.3.4.3: matched and included by their creator, which comes back with them."""
    with web.client(archive) as client:
        for number, creator in enumerate(("ACME 1.1", "ACME 1.1", "OTHER"), 1):
            dataset = pydicom.dcmread(io.BytesIO(made.instance(number)))
            block = dataset.private_block(0x0009, creator, create=True)
            block.add_new(0x01, "LO", f"value {number}")
            file = io.BytesIO()
            dataset.save_as(file)
            web.stow(client, [file.getvalue()])
        path = "instances?00091001=value*&00090010=ACME%201.1"
        assert found(client, path, "00080018") == ["1.2.3.4.1", "1.2.3.4.2"]
        row = client.get("instances?includefield=00091001&00090010=ACME%201.1&InstanceNumber=2").json()[0]
        assert (row["00091001"]["Value"], row["00090010"]["Value"]) == (["value 2"], ["ACME 1.1"])
        assert "00091001" not in client.get("instances?includefield=00091001&00090010=ACME%201.1&InstanceNumber=3").json()[0]
        refused = client.get("studies?00091001=value*&00090010=ACME%201.1")
        assert (refused.status_code, "0009xx01" in refused.json()["error"]) == (400, True)
        assert found(client, "instances?00090010=OTHER", "00080018") == ["1.2.3.4.3"], "alone it is an attribute as any other"
        archive.index.searchables.add(("0009xx01:ACME 1.1",), "LO", Level.STUDY)
        archive.index.searchables.progressed(1, done=0, total=0, ready=True)
        archive.index.searchables.forget()
        assert client.get("studies?00091001=value*&00090010=ACME%201.1").json() == []


def test_series_rows_count_their_instances_and_say_whose_they_are(client: TestClient) -> None:
    first, _second = client.get("studies/1.2.3/series").json()
    assert first["00201209"]["Value"] == [2]
    assert first["00081190"]["Value"] == ["http://pacs.test/dicom-web/studies/1.2.3/series/1.2.3.4"]
    assert "00100020" not in first
    assert client.get("series?SeriesInstanceUID=1.2.3.4").json()[0]["00100020"]["Value"] == ["P1"]


def test_errors_through_the_routes(client: TestClient) -> None:
    for path in ("studies?limit=x", "studies?Nonsense=1", "studies?StudyDate=x", "studies?PatientID=%FF"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["reference"]) == (400, "PS3.18 10.6"), path
    assert client.get("studies", headers={"Accept": "text/html"}).status_code == 406
