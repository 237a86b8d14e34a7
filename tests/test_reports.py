"""Structured reports as HTML, text and pages: what DCMTK reads in them is what is shown, and nothing in them runs."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from starlette.testclient import TestClient

from dicomweb.rendering.content import MOST_ITEMS, Report, report
from dicomweb.rendering.content_html import as_html
from dicomweb.rendering.content_text import as_text
from dicomweb.rendering.pages import ROWS, page, paginated
from storage.archive import Archive
from tests.support import made, web
from tests.support.archive import ingest
from tests.support.corpus import corpus_file
from tests.test_wado import ONE, get, store

SR = "1.2.840.10008.5.1.4.1.1.88.33"
REPORTS = (
    "derived/reportsi.dcm",
    "derived/sample-sr.dcm",
    "derived/sr.dcm",
    "derived/sr_document_with_multiple_groups.dcm",
    "derived/synthetic/ko_three_mr_key_images.dcm",
    "derived/synthetic/sr_tid1500_three_rois.dcm",
    "derived/test-SR.dcm",
)


@pytest.fixture
def client(archive: Archive) -> Iterator[TestClient]:
    with web.client(archive) as client:
        yield client


def code(meaning: str, value: str = "1", scheme: str = "99T") -> Sequence:
    one = Dataset()
    one.CodeValue, one.CodingSchemeDesignator, one.CodeMeaning = value, scheme, meaning
    return Sequence([one])


def item(kind: str, concept: str = "Concept", relationship: str = "CONTAINS", **attributes: Any) -> Dataset:
    one = Dataset()
    one.RelationshipType, one.ValueType, one.ConceptNameCodeSequence = relationship, kind, code(concept)
    for keyword, value in attributes.items():
        setattr(one, keyword, value)
    return one


def document(*content: Dataset, title: str = "Report", **attributes: Any) -> bytes:
    root: dict[str, Any] = {"ValueType": "CONTAINER", "ContinuityOfContent": "SEPARATE", "ConceptNameCodeSequence": code(title)}
    return made.instance(pixels=False, sop_class=SR, Modality="SR", ContentSequence=Sequence(content), **root, **attributes)


def json_of(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = get(client, f"{ONE}/metadata").json()[0]
    return found


class Tags(HTMLParser):
    """What a page is made of; fails where elements are not closed in their order."""

    VOID = frozenset({"meta", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


# ---- beside DCMTK

_DUMPED = re.compile(r'^( *)<(?:([a-z ]+) )?([A-Z0-9]+):(?:\((?:[^()"]*,)*"((?:[^"\\]|\\.)*)"\))?=(.*)>(?: \{(.*)\})?$|^( *)<([a-z ]+) ([0-9.]+)>$')


def _expected(*groups: str | None) -> tuple[int, str, str, str, str, str]:
    indent, relation, kind, concept, _, observed, *reference = groups
    if kind is None:
        return len(reference[0] or "") // 2, reference[1] or "", "", "", reference[2] or "", ""
    return len(indent or "") // 2, relation or "", kind, concept or "", "", observed or ""


@pytest.mark.dcmtk
@pytest.mark.parametrize("name", REPORTS)
def test_every_item_is_as_dsrdump_reads_it(client: TestClient, archive: Archive, name: str) -> None:
    dump = shutil.which("dsrdump")
    if dump is None:
        pytest.skip("dsrdump is not installed")
    uids = ingest(archive, corpus_file(name)).uids
    path = f"studies/{uids.study}/series/{uids.series}/instances/{uids.instance}"
    found = report(get(client, f"{path}/metadata").json()[0])
    said = subprocess.run([dump, "-q", "-Er", "-Ev", "-Ec", "-Ee", "+Pl", "+U8", str(corpus_file(name))], capture_output=True, check=True).stdout.decode()
    lines = [match for line in said.splitlines() if (match := _DUMPED.match(line))]
    expected = [_expected(*match.groups()) for match in lines]
    assert [
        (line.depth, line.relationship.lower(), line.value_type, line.concept, line.target, line.observed) for line in found.lines
    ] == expected
    for line, match in zip(found.lines, lines, strict=True):
        value = match.group(5) or ""
        if line.value_type in ("TEXT", "UIDREF"):
            plain = value.strip('"').replace("\\r", "\r").replace("\\n", "\n")
            assert line.value.split() == plain.split()
        if line.value_type == "NUM" and value.startswith('"'):
            assert float(line.value.split()[0]) == float(value.split('"')[1])
        if line.value_type == "CODE":
            assert line.value.partition(" (")[0] in value
    for body in (as_html(found, lambda to, what: ""), as_text(found)):
        shown = " ".join("".join(Tags(body.decode()).text).split() if body.startswith(b"<!") else body.decode().split())
        assert all(line.concept in shown for line in found.lines)


# ---- every value type (PS3.3 table C.17.3-7)

_UNITS = code("square millimeter", "mm2", "UCUM")


def _measured(value: str) -> Sequence:
    one = Dataset()
    one.NumericValue, one.MeasurementUnitsCodeSequence = value, _UNITS
    return Sequence([one])


def _image(**attributes: Any) -> Sequence:
    one = Dataset()
    one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = made.CT, "1.2.3.4.7"
    for keyword, value in attributes.items():
        setattr(one, keyword, value)
    return Sequence([one])


VALUES: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("TEXT", {"TextValue": "two\r\nlines"}, "two\nlines"),
    ("CODE", {"ConceptCodeSequence": code("Liver", "10200004", "SCT")}, "Liver (10200004, SCT)"),
    ("NUM", {"MeasuredValueSequence": _measured("1.5")}, "1.5 mm2"),
    ("NUM", {"MeasuredValueSequence": Sequence(), "NumericValueQualifierCodeSequence": code("Not a number")}, "no value (Not a number)"),
    ("DATETIME", {"DateTime": "20240102030405.5+0100"}, "2024-01-02 03:04:05.5+0100"),
    ("DATE", {"Date": "20240102"}, "2024-01-02"),
    ("TIME", {"Time": "0304"}, "03:04"),
    ("PNAME", {"PersonName": "Yamada^Tarou^^Dr=山田^太郎"}, "Yamada, Dr Tarou (山田, 太郎)"),
    ("UIDREF", {"UID": "1.2.3"}, "1.2.3"),
    ("IMAGE", {"ReferencedSOPSequence": _image(ReferencedFrameNumber=[2, 3])}, "frame 2, 3"),
    ("COMPOSITE", {"ReferencedSOPSequence": _image()}, ""),
    ("WAVEFORM", {"ReferencedSOPSequence": _image(ReferencedWaveformChannels=[1, 2])}, "channel 1, 2"),
    ("SCOORD", {"GraphicType": "POINT", "GraphicData": [1.5, 2]}, "POINT 1.5/2"),
    ("SCOORD3D", {"GraphicType": "POINT", "GraphicData": [1, 2, 3], "ReferencedFrameOfReferenceUID": "1.9"}, "POINT 1/2/3 in frame of reference 1.9"),
    ("TCOORD", {"TemporalRangeType": "SEGMENT", "ReferencedSamplePositions": [1, 9]}, "SEGMENT sample 1, 9"),
    ("TCOORD", {"TemporalRangeType": "POINT", "ReferencedTimeOffsets": ["0.5"]}, "POINT 0.5 s"),
    ("CONTAINER", {}, ""),
    ("TABLE", {}, "a value of type TABLE, which is not shown"),
)  # fmt: skip


@pytest.mark.parametrize(("kind", "attributes", "expected"), VALUES)
def test_values(client: TestClient, kind: str, attributes: dict[str, Any], expected: str) -> None:
    store(client, document(item(kind, **attributes)))
    line = report(json_of(client)).lines[1]
    assert (line.value_type, line.value) == (kind, expected)


def test_who_it_is_about_and_who_has_signed_it(client: TestClient) -> None:
    who = Dataset()
    who.VerifyingObserverName, who.VerifyingOrganization, who.VerificationDateTime = "House^Gregory", "PPTH", "20240102"
    store(client, document(VerificationFlag="VERIFIED", CompletionFlag="COMPLETE", VerifyingObserverSequence=Sequence([who])))
    about = dict(report(json_of(client)).about)
    assert about["Patient"] == "Müller, Hans"
    assert (about["Completion"], about["Verification"]) == ("COMPLETE", "VERIFIED")
    assert about["Verified"] == "2024-01-02 by House, Gregory, PPTH"


def test_images_of_the_evidence_are_links_and_others_are_named(client: TestClient) -> None:
    series = Dataset()
    series.SeriesInstanceUID, series.ReferencedSOPSequence = "1.2.3.9", _image()
    study = Dataset()
    study.StudyInstanceUID, study.ReferencedSeriesSequence = "1.2.3", Sequence([series])
    elsewhere = _image()
    elsewhere[0].ReferencedSOPInstanceUID = "1.2.99"
    content = (
        item("IMAGE", ReferencedSOPSequence=_image(ReferencedFrameNumber=4)),
        item("IMAGE", ReferencedSOPSequence=elsewhere),
    )
    store(client, document(*content, CurrentRequestedProcedureEvidenceSequence=Sequence([study])))
    page = Tags(get(client, f"{ONE}/rendered").text)
    links = [attributes["href"] for tag, attributes in page.seen if tag == "a"]
    assert links == ["/dicom-web/studies/1.2.3/series/1.2.3.9/instances/1.2.3.4.7/frames/4/rendered"]
    assert [attributes["src"] for tag, attributes in page.seen if tag == "img"] == [str(links[0]).replace("rendered", "thumbnail")]
    assert "1.2.99" in "".join(page.text)


# ---- hostile

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(1)>&amp;'


def test_nothing_in_a_report_is_markup(client: TestClient) -> None:
    evil = item("TEXT", EVIL[:60], TextValue=EVIL)
    wrong = _image()
    wrong[0].ReferencedSOPInstanceUID = "1.2.3"
    series = Dataset()
    series.SeriesInstanceUID, series.ReferencedSOPSequence = "1.2.3", wrong
    store(client, document(evil, item("CODE", ConceptCodeSequence=code(EVIL[:60], "<b>")), title=EVIL[:60], PatientID=EVIL[:60]))
    answer = get(client, f"{ONE}/rendered", "text/html")
    page = Tags(answer.text)
    assert not {tag for tag, _ in page.seen} & {"script", "img", "b"}
    assert "".join(page.text).count("alert(1)") >= 3
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert "allow-scripts" not in policy


def test_uids_that_are_none_make_no_links(client: TestClient) -> None:
    dataset: Any = {
        "0040A040": {"vr": "CS", "Value": ["CONTAINER"]},
        "0040A375": {"vr": "SQ", "Value": [{"0020000D": {"vr": "UI", "Value": ["../../.."]}, "00081115": {"vr": "SQ", "Value": [
            {"0020000E": {"vr": "UI", "Value": ["1.2"]}, "00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.3"]}}]}}]}}]},
    }  # fmt: skip
    assert report(dataset).lines[0].references == ()


def test_references_in_a_circle_are_links_and_nothing_more(client: TestClient) -> None:
    first = item("CONTAINER", "First")
    again = Dataset()
    again.RelationshipType, again.ReferencedContentItemIdentifier = "INFERRED FROM", [1, 1]
    missing = Dataset()
    missing.RelationshipType, missing.ReferencedContentItemIdentifier = "INFERRED FROM", [1, 7]
    first.ContentSequence = Sequence([again, missing])
    store(client, document(first))
    page = Tags(get(client, f"{ONE}/rendered").text)
    assert [attributes["href"] for tag, attributes in page.seen if tag == "a"] == ["#item-1.1"]
    assert "item 1.7, which is not in the document" in "".join(page.text)


def test_however_deep_and_however_long() -> None:
    deep: Any = {"0040A040": {"vr": "CS", "Value": ["TEXT"]}}
    for _ in range(3000):
        deep = {"0040A040": {"vr": "CS", "Value": ["CONTAINER"]}, "0040A730": {"vr": "SQ", "Value": [deep]}}
    found = report(deep)
    assert len(found.lines) == 3001
    assert len(Tags(as_html(found, lambda to, what: "").decode()).seen) > 3000
    assert paginated(as_text(found).decode().split("\n"))
    wide: Any = {"0040A040": {"vr": "CS", "Value": ["CONTAINER"]}, "0040A730": {"vr": "SQ", "Value": [{}] * (MOST_ITEMS + 5)}}
    assert str(MOST_ITEMS) in report(wide).left_out


@pytest.mark.parametrize("empty", [{}, {"0040A730": {"vr": "SQ"}}, {"0040A730": {"vr": "SQ", "Value": [None, 3, {}]}}])
def test_empty(empty: Any) -> None:
    found = report(empty)
    assert found.title == "Untitled document"
    Tags(as_html(found, lambda to, what: "").decode())


# ---- pages


def test_long_lines_are_broken_and_nothing_is_lost() -> None:
    words = [f"word{number}" for number in range(2000)]
    pages = paginated(["  " + " ".join(words), "", "x" * 500])
    rows = [row for page in pages for row in page]
    assert max(len(page) for page in pages) == ROWS
    assert " ".join(rows).split()[:2000] == words
    assert "".join(rows).count("x") == 500


def test_a_picture_of_a_report(client: TestClient) -> None:
    lines = "\n".join(f"line {number}" for number in range(80))
    store(client, document(item("TEXT", TextValue=lines)))
    answer = get(client, f"{ONE}/rendered", "image/png")
    pixels = np.asarray(Image.open(io.BytesIO(answer.content)).convert("L"))
    assert pixels.shape == (1188, 840)
    assert (pixels < 128).mean() > 0.005
    assert get(client, f"{ONE}/frames/2/rendered", "image/png").content != answer.content
    assert get(client, f"{ONE}/frames/3/rendered", "image/png").status_code == 404
    small = get(client, f"{ONE}/rendered?viewport=200,200", "image/jpeg")
    assert Image.open(io.BytesIO(small.content)).size == (141, 200)
    assert Image.open(io.BytesIO(get(client, f"{ONE}/thumbnail", "image/png").content)).size == (128, 128)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "text/html; charset=utf-8"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", "text/html; charset=utf-8"),
        ("text/plain", "text/plain; charset=utf-8"),
        ("image/*", "image/jpeg"),
        ("application/pdf", "application/json"),
    ],
)
def test_media_types(client: TestClient, accept: str, expected: str) -> None:
    store(client, document())
    assert get(client, f"{ONE}/rendered", accept).headers["content-type"] == expected


def test_an_answer_that_is_known_is_not_made_again(client: TestClient) -> None:
    store(client, document())
    first = get(client, f"{ONE}/rendered")
    assert get(client, f"{ONE}/rendered", **{"If-None-Match": first.headers["etag"]}).status_code == 304


def test_by_wado_uri(client: TestClient, archive: Archive) -> None:
    store(client, document())
    with TestClient(web.application(archive), base_url="http://pacs.test") as root:
        query = "requestType=WADO&studyUID=1.2.3&seriesUID=1.2.3.4&objectUID=1.2.3.4.1"
        assert root.get(f"/wado?{query}").headers["content-type"].startswith("text/html")
        assert root.get(f"/wado?{query}&contentType=text/plain").text.startswith("Report\n")


def test_report_type() -> None:
    assert isinstance(report({}), Report)


@pytest.mark.parametrize(("one", "other"), [("Müller", "Moller"), ("山田", "太郎"), ("김희", "이준"), ("Ελένη", "Ιωάννα")])
def test_letters_of_many_scripts_are_on_a_page(one: str, other: str) -> None:
    """What no font has would be the same box for each."""
    shown, differs = (page("", [name], 1, 1).picture() for name in (one, other))
    assert not np.array_equal(shown, differs)
