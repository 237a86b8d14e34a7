"""Pages, totals, orders, entity tags and formats of searches (PS3.18 8.3.4.4, 10.6.3), through the routes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from starlette.testclient import TestClient

from dicomweb import search_pages
from dicomweb.native_xml import from_xml
from dicomweb.search_parameters import PARAMETERS
from dicomweb.settings import WebSettings
from storage.archive import Archive
from storage.attributes import tag_of
from tests.support import made, web
from tests.support.archive import close_archive, ingest, open_archive

STUDIES = 7


@pytest.fixture
def filled(archive: Archive) -> Archive:
    for number in range(STUDIES):
        ingest(archive, made.instance(1, study=f"1.{number}", series=f"1.{number}.1", pixels=False, PatientID=f"P{number % 2}",
                                      StudyDate=f"202401{number + 1:02}", PatientName=f"Doe^{number}", StudyID=None))  # fmt: skip
    return archive


@pytest.fixture
def client(filled: Archive) -> Iterator[TestClient]:
    with web.client(filled) as client:
        yield client


def uids(answer: Any) -> list[str]:
    return [row["0020000D"]["Value"][0] for row in answer.json()]


NEWEST_FIRST = [f"1.{number}" for number in reversed(range(STUDIES))]


# --- pages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "found", "remaining"),
    [
        # PS3.18 8.3.4.4.1: results = min(matches - offset, limit), and what remains is said
        ("", 7, None),
        ("?limit=7", 7, None),
        ("?limit=8", 7, None),
        ("?limit=3", 3, 4),
        ("?limit=3&offset=3", 3, 1),
        ("?limit=3&offset=4", 3, None),
        ("?limit=3&offset=9", 0, None),
        ("?limit=1&PatientID=P1", 1, 2),
        ("?limit=2&offset=1&PatientID=P1", 2, None),
    ],
)
def test_what_remains_is_said(client: TestClient, query: str, found: int, remaining: int | None) -> None:
    answer = client.get("studies" + query)
    assert len(answer.json()) == found
    said = answer.headers.get("warning")
    assert said == (remaining and f"299 http://pacs.test/dicom-web: There are {remaining} additional results that can be requested")
    assert ("link" in answer.headers) is (remaining is not None)


@pytest.mark.parametrize("path", ["studies?limit=2", "studies?limit=3&orderby=-PatientName", "series?limit=2&Modality=CT", "instances?limit=1"])
@pytest.mark.parametrize("held", [0, 1000])
def test_links_lead_through_everything(client: TestClient, path: str, held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a page is held in memory or streamed."""
    monkeypatch.setattr(search_pages, "_HELD", held)
    whole = uids(client.get(re.sub(r"limit=\d&?", "", path)))
    seen, url, pages = [], path, 0
    while url:
        answer = client.get(url)
        seen += uids(answer)
        pages += 1
        url = answer.links.get("next", {}).get("url", "")
    assert (seen, pages > 1) == (whole, True)


def test_a_link_keeps_what_was_asked_and_names_no_row_by_its_values(client: TestClient) -> None:
    answer = client.get("studies?PatientName=Doe*&limit=1&orderby=PatientName&includefield=00081030&offset=1")
    url = answer.links["next"]["url"]
    assert url.startswith("http://pacs.test/dicom-web/studies?PatientName=Doe%2A&limit=1&orderby=PatientName&includefield=00081030&cursor=")
    assert "offset" not in url
    assert "Doe" not in url.partition("cursor=")[2]
    assert uids(client.get(url)) == ["1.2"]


def test_pages_do_not_shift_when_something_comes(client: TestClient, filled: Archive) -> None:
    first = client.get("studies?limit=3")
    ingest(filled, made.instance(1, study="1.99", series="1.99.1", StudyDate="20250101"))
    assert uids(client.get(first.links["next"]["url"])) == NEWEST_FIRST[3:6]


@pytest.mark.parametrize(
    "cursor", ["", "x", "1", "1-", "-1", "zz-000000000000", "1-000000000000", "9" * 40 + "-0", "%00"]
)
def test_cursors_that_we_did_not_make(client: TestClient, cursor: str) -> None:
    answer = client.get(f"studies?limit=1&cursor={cursor}")
    assert answer.status_code == (200 if cursor == "" else 400)
    assert cursor == "" or "cursor" in answer.json()["error"]


def test_a_cursor_fits_only_its_own_search(client: TestClient) -> None:
    cursor = client.get("studies?limit=1&PatientID=P1").links["next"]["url"].partition("cursor=")[2]
    assert client.get(f"studies?limit=5&PatientID=P1&includefield=all&cursor={cursor}").status_code == 200
    for other in ("studies?PatientID=P0", "studies?PatientID=P1&orderby=StudyDate", "series?PatientID=P1", "studies?PatientID=P1&fuzzymatching=true"):
        assert client.get(f"{other}&cursor={cursor}").status_code == 400, other


def test_a_server_maximum_cuts_answers_and_says_so(filled: Archive) -> None:
    with web.client(filled, WebSettings(search_most=3)) as client:
        for query, found in (("", 3), ("?limit=2", 2), ("?limit=100", 3), ("?offset=5", 2)):
            answer = client.get("studies" + query)
            assert (len(answer.json()), "warning" in answer.headers) == (found, query != "?offset=5"), query


def test_more_than_is_counted(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_pages, "_COUNTED", 3)
    assert "There are more than 3 additional" in client.get("studies?limit=1").headers["warning"]
    assert "There are 3 additional" in client.get("studies?limit=4").headers["warning"]
    assert "There are 6 additional" in client.get("studies?limit=1&totalcount=true").headers["warning"]


def test_where_only_looking_at_each_tells_the_number_is_left_out(client: TestClient) -> None:
    answer = client.get("instances?limit=1&SamplesPerPixel=%22%22")
    assert answer.headers["warning"].endswith(": There are additional results that can be requested")
    assert client.get("instances?limit=1&SamplesPerPixel=%22%22&totalcount=true").headers["x-total-count"] == "7"


# --- totals and orders --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "total"),
    [("", None), ("?totalcount=false", None), ("?totalcount=true", "7"), ("?totalcount=true&limit=0", "7"), ("?TotalCount=TRUE&limit=2&offset=5", "7"),
     ("?totalcount=true&PatientID=P1&limit=1", "3"), ("?totalcount=true&PatientID=none", "0")],
)  # fmt: skip
def test_totals_on_request(client: TestClient, query: str, total: str | None) -> None:
    assert client.get("studies" + query).headers.get("x-total-count") == total


@pytest.mark.parametrize(
    ("orderby", "expected"),
    [
        ("", NEWEST_FIRST),
        ("StudyDate", NEWEST_FIRST[::-1]),
        ("-00080020", NEWEST_FIRST),
        ("PatientID,-StudyDate", ["1.6", "1.4", "1.2", "1.0", "1.5", "1.3", "1.1"]),
        ("-PatientID&orderby=StudyDate", ["1.1", "1.3", "1.5", "1.0", "1.2", "1.4", "1.6"]),
        ("%2BPatientName", NEWEST_FIRST[::-1]),
    ],
)
def test_orders(client: TestClient, orderby: str, expected: list[str]) -> None:
    assert uids(client.get(f"studies?orderby={orderby}")) == expected


@pytest.mark.parametrize("query", ["orderby=Nonsense", "orderby=--StudyDate", "orderby=Modality", "orderby=PatientID.StudyDate", "totalcount=1"])
def test_what_is_not_understood_is_named(client: TestClient, query: str) -> None:
    answer = client.get(f"studies?{query}")
    assert answer.status_code == 400
    assert query.split("=")[0] in answer.json()["error"] or query.split("=")[1] in answer.json()["error"]


# --- entity tags --------------------------------------------------------------------------------------------------


def test_the_same_search_is_answered_304_until_something_comes(client: TestClient, filled: Archive) -> None:
    first = client.get("studies?limit=2")
    tag = first.headers["etag"]
    same = client.get("studies?limit=2", headers={"If-None-Match": tag})
    assert (same.status_code, same.content, same.headers["etag"], same.headers["vary"]) == (304, b"", tag, "Accept")
    assert client.get("studies?limit=3", headers={"If-None-Match": tag}).status_code == 200
    assert client.get("studies?limit=2", headers={"If-None-Match": tag, "Accept": "text/csv"}).status_code == 200
    assert client.get("studies?limit=2", headers={"If-None-Match": tag, "Host": "other.test"}).status_code == 200
    ingest(filled, made.instance(1, study="1.99", series="1.99.1"))
    again = client.get("studies?limit=2", headers={"If-None-Match": tag})
    assert (again.status_code, again.headers["etag"] != tag) == (200, True)


def test_head_says_what_get_would(client: TestClient) -> None:
    for path in ("studies?limit=2&totalcount=true", "studies?PatientID=none", "studies"):
        got, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        for name in ("etag", "link", "warning", "x-total-count", "content-type"):
            assert head.headers.get(name) == got.headers.get(name), name


def test_nothing_found(filled: Archive) -> None:
    with web.client(filled) as client:
        assert (client.get("studies?PatientID=none").status_code, client.get("studies?PatientID=none").json()) == (200, [])
    with web.client(filled, WebSettings(search_empty_status=204)) as client:
        for path in ("studies?PatientID=none", "studies?offset=99", "studies?limit=0"):
            answer = client.get(path)
            assert (answer.status_code, answer.content) == (204, b""), path


# --- answers ------------------------------------------------------------------------------------------------------


# PS3.18 tables 10.6.3-3, -4, -5 without what is there only when it is known (type C).
STUDY_KEYS = ["StudyDate", "StudyTime", "AccessionNumber", "ModalitiesInStudy", "ReferringPhysicianName", "RetrieveURL", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances"]
SERIES_KEYS = ["Modality", "RetrieveURL", "SeriesInstanceUID", "SeriesNumber", "NumberOfSeriesRelatedInstances"]
INSTANCE_KEYS = ["SOPClassUID", "SOPInstanceUID", "RetrieveURL", "InstanceNumber"]


@pytest.mark.parametrize(
    ("path", "keywords"),
    [
        ("studies", STUDY_KEYS),
        ("studies/1.1/series", SERIES_KEYS),
        ("series", SERIES_KEYS + STUDY_KEYS),
        ("studies/1.1/series/1.1.1/instances", INSTANCE_KEYS),
        ("studies/1.1/instances", INSTANCE_KEYS + SERIES_KEYS),
        ("instances", INSTANCE_KEYS + SERIES_KEYS + STUDY_KEYS),
    ],
)
def test_what_every_answer_has_in_the_order_of_its_tags(client: TestClient, path: str, keywords: list[str]) -> None:
    row = client.get(f"{path}?limit=1").json()[0]
    assert {tag_of(keyword) for keyword in keywords} <= row.keys()
    assert list(row) == sorted(row), "PS3.18 F.2.2"
    assert all(set(element) >= {"vr"} for element in row.values())


def test_what_is_required_is_there_without_a_value(client: TestClient) -> None:
    row = client.get("studies?limit=1").json()[0]
    assert (row["00200010"], row["00100040"], row["00080090"]) == ({"vr": "SH"}, {"vr": "CS"}, {"vr": "PN"})


def test_only_what_was_asked_of_a_sequence(archive: Archive) -> None:
    item = Dataset()
    item.CodeValue, item.CodeMeaning = "1", "Head"
    ingest(archive, made.instance(1, ProcedureCodeSequence=[item]))
    with web.client(archive) as client:
        row = client.get("studies?includefield=ProcedureCodeSequence.00080104").json()[0]
        assert row["00081032"]["Value"] == [{"00080104": {"vr": "LO", "Value": ["Head"]}}]
        row = client.get("studies?includefield=ProcedureCodeSequence").json()[0]
        assert row["00081032"]["Value"][0]["00080100"]["Value"] == ["1"]


# --- XML ----------------------------------------------------------------------------------------------------------


def test_documents_in_xml_say_what_json_says(client: TestClient) -> None:
    """PS3.18 10.6.3.3: each answer is a part of its own."""
    path, accept = "studies?limit=3&includefield=StudyDescription", {"Accept": 'multipart/related; type="application/dicom+xml"'}
    answer = client.get(path, headers=accept)
    assert answer.headers["content-type"].startswith('multipart/related; type="application/dicom+xml"; boundary=')
    found = web.parts(answer)
    assert [part.content_type for part in found] == ["application/dicom+xml"] * 3
    assert [from_xml(part.content) for part in found] == client.get(path).json()
    assert client.get("studies?PatientID=none", headers=accept).status_code == 204


# --- tables for people --------------------------------------------------------------------------------------------


def table(answer: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))


def test_a_table(archive: Archive) -> None:
    awkward = '=HYPERLINK("http://x","a, b")'
    ingest(archive, made.instance(1, StudyDescription=awkward, PatientName="Yamada^Tarou=山田^太郎", PatientID="-1+2", SeriesNumber=-5))
    with web.client(archive) as client:
        answer = client.get("studies?includefield=StudyDescription", headers={"Accept": "text/csv"})
        assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
        assert answer.headers["content-disposition"] == 'attachment; filename="studies.csv"'
        (row,) = table(answer)
        assert (row["StudyDate"], row["StudyTime"], row["PatientName"]) == ("2024-01-02", "10:11:12", "Yamada^Tarou=山田^太郎")
        assert (row["StudyDescription"], row["PatientID"]) == ("'" + awkward, "'-1+2")
        assert row["RetrieveURL"].endswith("/studies/1.2.3")
        assert table(client.get("series?accept=text/csv"))[0]["SeriesNumber"] == "-5", "a number is no formula"
        assert "SOPInstanceUID" in table(client.get("instances?includefield=all&accept=text/csv"))[0]
        assert table(client.get("studies?PatientID=none&accept=text/csv")) == []


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "  @x"])
def test_no_cell_is_a_formula(archive: Archive, text: str) -> None:
    ingest(archive, made.instance(1, StudyDescription=f"{text}"))
    with web.client(archive) as client:
        (row,) = table(client.get("studies?includefield=StudyDescription&accept=text/csv"))
    assert not row["StudyDescription"] or row["StudyDescription"][0] not in "=+-@\t \r\n"


def test_a_long_table_has_every_row(filled: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicomweb.search_formats._ROWS", 2)
    with web.client(filled) as client:
        assert [row["StudyInstanceUID"] for row in table(client.get("studies?accept=text/csv"))] == NEWEST_FIRST


# --- whatever is asked --------------------------------------------------------------------------------------------

_VALUES = st.one_of(
    st.sampled_from(
        ["true", "false", "all", "1", "0", "*", "?", "*a*", '""', "DOE", "20240101-20240103", "-2024", "10-11", "1.2\\1.3", "CT,MR",
         "-StudyDate,PatientName", "00081030", "RequestAttributesSequence.00400009", "ACME", "Ä*", "%", "_", "[a]", "'; --", "text/csv"]
    ),
    st.text(max_size=12),
)  # fmt: skip
_NAMES = st.sampled_from([
    *sorted(PARAMETERS), "PatientName", "PatientID", "StudyDate", "StudyTime", "StudyDescription", "ModalitiesInStudy", "SOPClassesInStudy",
    "SeriesNumber", "Modality", "InstanceNumber", "Rows", "AvailableTransferSyntaxUID", "00400275.00400009", "ImageType", "ContentDate",
    "AcquisitionDateTime", "PatientComments", "SpecificCharacterSet", "InstanceAvailability", "00091001", "00090010", "KVP",
])  # fmt: skip


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    archive = open_archive(tmp_path_factory.mktemp("fuzzed"))
    for number in (1, 2):
        ingest(archive, made.instance(number, ImageType=["ORIGINAL", "PRIMARY"], ContentDate="20240101"))
    with web.client(archive) as client:
        yield client
    close_archive(archive)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    path=st.sampled_from(["studies", "series", "instances", "studies/1.2.3/series", "studies/1.2.3/series/1.2.3.4/instances"]),
    query=st.lists(st.tuples(_NAMES, _VALUES), max_size=5),
)
def test_any_search_is_answered_or_refused_by_name(fuzzed: TestClient, path: str, query: list[tuple[str, str]]) -> None:
    answer = fuzzed.get(f"{path}?{urlencode(query)}")
    assert answer.status_code in (200, 204, 400, 406), answer.text
    if answer.status_code == 400:
        assert answer.json()["reference"] == "PS3.18 10.6"
    elif answer.headers.get("content-type") == "application/dicom+json":
        assert all("00081190" in row for row in answer.json())
