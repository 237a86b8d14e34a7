"""WADO-RS through the routes: instances, metadata, frames, bulk data and pictures, as viewers ask for them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx2
import numpy as np
import pydicom
import pytest
import zstandard
from PIL import Image
from starlette.testclient import TestClient

from dicomweb.native_xml import from_xml
from dicomweb.settings import WebSettings
from storage.archive import Archive
from storage.codecs import PixelDescription, decode_here
from storage.transfer_syntaxes import LOSSLESS_TARGETS
from storage.types import Scope
from tests.support import made, web
from tests.support.archive import ingest
from tests.support.corpus import corpus_file
from tests.support.web import Watched

SERIES = "studies/1.2.3/series/1.2.3.4"
ONE = f"{SERIES}/instances/1.2.3.4.1"
ELE, BIG, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
JPEG, JXL, RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.5"
HTJ2K, JPEG_LS, J2K = (f"1.2.840.10008.1.2.4.{number}" for number in ("202", "80", "90"))
# Those that pydicom reads with what is installed here.
WITNESSED = {JPEG_LS, J2K, RLE}
PLAIN = PixelDescription(4, 4, 1, 16, 16, 15, False, "MONOCHROME2", 0, "1.2.840.10008.1.2.1")
RELATED_DICOM = 'multipart/related; type="application/dicom"'
ANY_FRAME = "multipart/related; type=application/octet-stream; transfer-syntax=*"


@pytest.fixture
def client(archive: Archive) -> Iterator[TestClient]:
    # Nothing is remembered between requests, so that each test sees what the index says.
    with web.client(archive, WebSettings(layout_cache_seconds=-1)) as client:
        yield client


def get(client: TestClient, path: str, accept: str = "*/*", **headers: str) -> httpx2.Response:
    return client.get(path, headers={"Accept": accept, **{name.replace("_", "-"): text for name, text in headers.items()}})


def store(client: TestClient, *instances: bytes) -> None:
    answer = web.stow(client, instances)
    assert answer.status_code == 200, answer.text


# --- instances ------------------------------------------------------------------------------------------------


def test_instances_come_back_byte_for_byte(client: TestClient) -> None:
    sent = [made.instance(number) for number in range(1, 4)] + [made.instance(1, series="1.2.3.5", SeriesNumber=2)]
    store(client, *sent)
    for path, expected in (("studies/1.2.3", sent), (SERIES, sent[:3]), (ONE, sent[:1])):
        answer = get(client, path, 'multipart/related; type="application/dicom"; transfer-syntax=*')
        assert answer.status_code == 200
        assert [part.content for part in web.parts(answer)] == expected
        assert {part.content_type for part in web.parts(answer)} == {f"application/dicom; transfer-syntax={ELE}"}


def test_a_single_part_instance_with_range(client: TestClient) -> None:
    sent = made.instance(side=1200)
    store(client, sent)
    whole = get(client, ONE, "application/dicom")
    assert (whole.status_code, whole.content) == (200, sent)
    assert whole.headers["content-type"] == f"application/dicom; transfer-syntax={ELE}"
    assert whole.headers["content-length"] == str(len(sent))
    part = get(client, ONE, "application/dicom", Range="bytes=100-299")
    assert (part.status_code, part.content) == (206, sent[100:300])
    assert part.headers["content-range"] == f"bytes 100-299/{len(sent)}"
    assert get(client, ONE, "application/dicom", If_None_Match=whole.headers["etag"]).status_code == 304


@pytest.mark.parametrize(
    ("accept", "syntax"),
    [
        # PS3.18 8.7.3: what a client gets that names none.
        ("application/dicom", ELE),
        ('multipart/related; type="application/dicom"', ELE),
        (f"application/dicom; transfer-syntax={ELE}", ELE),
        ("application/dicom; transfer-syntax=*", None),
        ("*/*", None),
        (f"application/dicom; transfer-syntax={ELE};q=0.5, application/dicom; transfer-syntax=*;q=0.4", ELE),
    ],
)
@pytest.mark.parametrize("stored", [BIG, DEFLATED, RLE])
def test_an_instance_in_the_transfer_syntax_that_is_accepted(
    client: TestClient, accept: str, syntax: str | None, stored: str
) -> None:
    sent = made.rle() if stored == RLE else made.instance(syntax=stored)
    store(client, sent)
    answer = get(client, ONE, accept)
    assert answer.status_code == 200, answer.text
    (content, kind) = (
        (web.parts(answer)[0].content, web.parts(answer)[0].content_type)
        if answer.headers["content-type"].startswith("multipart")
        else (answer.content, answer.headers["content-type"])
    )
    assert kind == f"application/dicom; transfer-syntax={syntax or stored}"
    assert (content == sent) == (syntax is None)
    found, expected = pydicom.dcmread(io.BytesIO(content)), pydicom.dcmread(io.BytesIO(sent))
    assert found.file_meta.TransferSyntaxUID == (syntax or stored)
    assert np.array_equal(found.pixel_array, expected.pixel_array)
    assert found.PatientName == expected.PatientName


def test_a_transcoded_instance_has_range_etag_and_length_of_its_own(client: TestClient) -> None:
    store(client, made.rle())
    whole = get(client, ONE, "application/dicom")
    assert whole.headers["content-length"] == str(len(whole.content))
    part = get(client, ONE, "application/dicom", Range="bytes=300-499")
    assert (part.status_code, part.content) == (206, whole.content[300:500])
    as_stored = get(client, ONE, "application/dicom; transfer-syntax=*")
    assert as_stored.headers["etag"] != whole.headers["etag"]
    assert get(client, ONE, "application/dicom", If_None_Match=whole.headers["etag"]).status_code == 304
    assert get(client, ONE, "application/dicom", If_None_Match=as_stored.headers["etag"]).status_code == 200


@pytest.mark.parametrize("syntax", [*LOSSLESS_TARGETS])
@pytest.mark.parametrize("stored", [ELE, BIG, RLE])
def test_instances_encoded_for_who_names_the_syntax(client: TestClient, syntax: str, stored: str) -> None:
    """PS3.18 8.7.3: at every level, in multipart or alone, without loss."""
    if syntax == stored:
        return
    sent = made.rle() if stored == RLE else made.instance(syntax=stored, side=64, frames=2)
    store(client, sent)
    related = f'multipart/related; type="application/dicom"; transfer-syntax={syntax}'
    whole = get(client, ONE, f"application/dicom; transfer-syntax={syntax}")
    assert whole.status_code == 200, whole.text
    assert whole.headers["content-type"] == f"application/dicom; transfer-syntax={syntax}"
    assert whole.headers["content-length"] == str(len(whole.content))
    for path in ("studies/1.2.3", SERIES, ONE):
        (part,) = web.parts(get(client, path, related))
        assert (part.content, part.content_type) == (whole.content, whole.headers["content-type"])
    assert get(client, ONE, f"application/dicom; transfer-syntax={syntax}", Range="bytes=300-399").content == whole.content[300:400]
    for accept, answer in ((f"application/dicom; transfer-syntax={syntax}", whole), (related, get(client, ONE, related))):
        assert get(client, ONE, accept, If_None_Match=answer.headers["etag"]).status_code == 304
    found, expected = pydicom.dcmread(io.BytesIO(whole.content)), pydicom.dcmread(io.BytesIO(sent))
    assert found.file_meta.TransferSyntaxUID == syntax
    if syntax in WITNESSED:
        assert np.array_equal(found.pixel_array, expected.pixel_array)


@pytest.mark.parametrize(("kind", "syntax"), [("image/jls", JPEG_LS), ("image/jp2", J2K), ("application/octet-stream", JPEG_LS), ("image/dicom-rle", RLE)])
def test_frames_encoded_for_who_names_the_type(client: TestClient, kind: str, syntax: str) -> None:
    store(client, made.instance(frames=3, side=32))
    accept = f"{kind}; transfer-syntax={syntax}"
    alone = get(client, f"{ONE}/frames/2", accept)
    assert (alone.status_code, alone.headers["content-type"]) == (200, accept)
    parts = web.parts(get(client, f"{ONE}/frames/3,2", f'multipart/related; type="{kind}"; transfer-syntax={syntax}'))
    assert [part.content_type for part in parts] == [accept, accept]
    assert parts[1].content == alone.content
    pixels = replace(PLAIN, rows=32, columns=32, transfer_syntax_uid=syntax)
    assert [int(decode_here(part.content, pixels).max()) for part in parts] == [300, 200]
    assert get(client, f"{ONE}/frames/2", accept, If_None_Match=alone.headers["etag"]).status_code == 304


def test_what_cannot_be_encoded_is_refused_alone_and_comes_as_stored_among_others(client: TestClient) -> None:
    bits = made.instance(2, side=8, BitsAllocated=1, BitsStored=1, HighBit=0, PixelData=b"\x55" * 8)
    store(client, made.instance(side=8), bits)
    accept = f"application/dicom; transfer-syntax={JPEG_LS}"
    refused = get(client, f"{SERIES}/instances/1.2.3.4.2", accept)
    assert refused.status_code == 406
    assert "cannot hold pixels of 1 bits" in refused.text
    parts = web.parts(get(client, SERIES, f'multipart/related; type="application/dicom"; transfer-syntax={JPEG_LS}'))
    assert [part.content_type.rpartition("=")[2] for part in parts] == [JPEG_LS, ELE]
    assert get(client, f"{SERIES}/instances/1.2.3.4.2/frames/1", "image/jls").status_code == 406


def test_one_instance_that_cannot_be_read_does_not_cost_its_series(client: TestClient) -> None:
    """Each part says in which transfer syntax it is: what cannot be decoded comes as it is stored."""
    broken = made.encapsulated([b"\0" * 64], RLE, SOPInstanceUID="1.2.3.4.2", InstanceNumber=2, BitsAllocated=12)
    store(client, made.rle(), broken)
    answer = get(client, SERIES, "multipart/related; type=application/dicom")
    assert answer.status_code == 200
    assert [part.content_type.rpartition("=")[2] for part in web.parts(answer)] == [ELE, RLE]
    assert web.parts(answer)[1].content == broken
    alone = get(client, f"{SERIES}/instances/1.2.3.4.2", "application/dicom")
    assert (alone.status_code, alone.headers["content-type"]) == (200, f"application/dicom; transfer-syntax={RLE}")
    assert alone.content == broken
    assert "as stored" in alone.headers["warning"]
    named = get(client, f"{SERIES}/instances/1.2.3.4.2", f"application/dicom; transfer-syntax={ELE}")
    assert (named.status_code, "warning" in named.headers) == (406, False)


def test_one_instance_that_ends_early_comes_as_it_is_stored(client: TestClient) -> None:
    """The same as in its series: nothing can be written anew of a data set that is cut off."""
    cut = made.instance(2, syntax="1.2.840.10008.1.2")[:-5]
    assert web.stow(client, (cut,)).status_code == 202
    answer = get(client, f"{SERIES}/instances/1.2.3.4.2", "application/dicom")
    assert (answer.status_code, answer.content) == (200, cut)
    assert "transfer-syntax=1.2.840.10008.1.2" in answer.headers["content-type"]
    assert "ends in the middle of a value" in answer.headers["warning"]


def test_metadata_in_xml(client: TestClient) -> None:
    """PS3.18 8.7.3.2: each data set in a part of its own, in the Native DICOM Model; the same content as in JSON."""
    store(client, made.instance(1), made.instance(2))
    answer = get(client, f"{SERIES}/metadata", 'multipart/related; type="application/dicom+xml"')
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith('multipart/related; type="application/dicom+xml"; boundary=')
    parts = web.parts(answer)
    assert [part.content_type for part in parts] == ["application/dicom+xml"] * 2
    json_answer = get(client, f"{SERIES}/metadata", "application/dicom+json")
    assert [from_xml(part.content) for part in parts] == json_answer.json()
    assert answer.headers["etag"] != json_answer.headers["etag"]
    again = get(client, f"{SERIES}/metadata", 'multipart/related; type="application/dicom+xml"', If_None_Match=answer.headers["etag"])
    assert again.status_code == 304
    one = get(client, f"{ONE}/metadata?accept=multipart/related;type=%22application/dicom%2Bxml%22")
    assert [from_xml(part.content)["00080018"]["Value"] for part in web.parts(one)] == [["1.2.3.4.1"]]


def test_a_large_series_is_streamed_whole(client: TestClient) -> None:
    sent = [made.instance(number, side=900) for number in range(1, 5)]
    store(client, *sent)
    assert [part.content for part in web.parts(get(client, SERIES))] == sent


def test_dangerous_preambles_and_missing_meta_are_made_good_on_the_way_out(client: TestClient) -> None:
    plain = made.instance()
    bare = pydicom.dcmread(io.BytesIO(made.instance(2)))
    offset = made.instance(2).index(b"\x08\x00\x05\x00CS")
    store(client, b"MZ" + plain[2:], made.instance(2)[offset:])
    assert get(client, ONE, "application/dicom").content == plain
    again = pydicom.dcmread(io.BytesIO(get(client, f"{SERIES}/instances/1.2.3.4.2", "application/dicom").content))
    assert (again, again.file_meta.TransferSyntaxUID) == (bare, ELE)
    assert [part.content[:4] for part in web.parts(get(client, SERIES))] == [bytes(4), bytes(4)]


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        (ONE, "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.53", 406),
        (ONE, "text/html", 406),
        (SERIES, "application/dicom", 406),
        (SERIES, 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.53', 406),
        (SERIES, f'multipart/related; type="application/dicom"; transfer-syntax={ELE}', 200),
        (ONE, f"application/dicom; transfer-syntax={ELE}", 200),
        (ONE, "nonsense", 400),
        ("studies/1.2.4", "*/*", 404),
        ("studies/1.2.3/series/1", "*/*", 404),
        (f"{SERIES}/instances/1", "*/*", 404),
        ("studies/1.2.4/series/1.2.3.4/instances/1.2.3.4.1", "*/*", 404),
        ("studies/1.2.4/metadata", "*/*", 404),
        (f"{SERIES}/metadata", "application/dicom+json", 200),
        (f"{SERIES}/metadata", "text/csv", 406),
        (f"{ONE}/frames/1", "*/*", 200),
        (f"{ONE}/frames/2", "*/*", 404),
        (f"{ONE}/frames/0", "*/*", 400),
        (f"{ONE}/frames/-1", "*/*", 400),
        (f"{ONE}/frames/one", "*/*", 400),
        (f"{ONE}/frames/1,", "*/*", 400),
        (f"{ONE}/frames/99999999999", "*/*", 400),
        (f"{ONE}/frames/1", "image/gif", 406),
        (f"{ONE}/frames/1", "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50", 406),
        (f"{ONE}/frames/1", "application/octet-stream", 200),
        (f"{ONE}/frames/1,1", "application/octet-stream", 406),
        (f"{ONE}/bulkdata/00281201", "*/*", 404),
        (f"{ONE}/bulkdata/no/such/path", "*/*", 404),
        (f"{ONE}/bulkdata/7FE00010", "*/*", 200),
        (f"{ONE}/rendered", "image/png", 200),
        (f"{ONE}/rendered", "video/mp4", 406),
        (f"{ONE}/rendered?window=a", "*/*", 400),
        (f"{ONE}/frames/2/rendered", "*/*", 404),
        (f"{ONE}/frames/x/rendered", "*/*", 400),
        ("studies/1.2.4/rendered", "*/*", 404),
        ("studies/1.2.4/thumbnail", "*/*", 404),
        ("nonsense", "*/*", 404),
        ("nonsense/with%0Aa/line%0Abreak", "*/*", 404),
        ("", "*/*", 405),
    ],
)
def test_statuses(client: TestClient, path: str, accept: str, status: int) -> None:
    store(client, made.instance())
    answer = get(client, path, accept)
    assert answer.status_code == status, answer.text
    if status >= 400:
        assert sorted(answer.json()) == ["error", "reference", "status", "todo"]
        head = client.head(path, headers={"Accept": accept})
        assert (head.status_code, head.content) == (status, b"")


PATHS = [
    "studies",
    "studies/1.2.3",
    "studies/1.2.3/metadata",
    SERIES,
    f"{SERIES}/instances",
    f"{SERIES}/metadata",
    ONE,
    f"{ONE}/metadata",
    f"{ONE}/frames/1",
    f"{ONE}/bulkdata/7FE00010",
    f"{ONE}/rendered",
    f"{ONE}/thumbnail",
]


@pytest.mark.parametrize("path", PATHS)
def test_head_is_get_without_its_body_and_options_says_what_is_allowed(client: TestClient, path: str) -> None:
    store(client, made.instance())
    whole, head = (client.request(method, path, headers={"Accept-Encoding": "identity"}) for method in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (whole.status_code, b"")
    same = ("content-type", "etag", "cache-control", "accept-ranges")
    if not whole.headers["content-type"].startswith("multipart/related; type=\"application/dicom\"; boundary"):
        assert [head.headers.get(name) for name in same] == [whole.headers.get(name) for name in same]
    options = client.options(path)
    assert (options.status_code, "GET, HEAD" in options.headers["allow"]) == (200, True)
    assert client.put(path).status_code == 405
    assert whole.headers["x-content-type-options"] == "nosniff"


# --- metadata -------------------------------------------------------------------------------------------------


def test_metadata_is_complete_and_refers_to_bulk_data_that_can_be_fetched(client: TestClient) -> None:
    curve = bytes(range(256)) * 8
    store(client, made.instance(EncapsulatedDocument=curve, MIMETypeOfEncapsulatedDocument="text/xml"))
    answer = get(client, f"{ONE}/metadata", "application/dicom+json")
    (dataset,) = answer.json()
    assert answer.headers["content-type"] == "application/dicom+json"
    assert dataset["00100010"]["Value"] == [{"Alphabetic": "Müller^Hans"}]
    for tag, expected in (("00420011", curve), ("7FE00010", made.frame_of(1, 4))):
        uri = dataset[tag]["BulkDataURI"]
        assert uri == f"/dicom-web/{ONE}/bulkdata/{tag}"
        bulk = get(client, f"http://pacs.test{uri}")
        assert (bulk.content, bulk.headers["content-type"]) == (expected, "application/octet-stream")
        related = get(client, f"http://pacs.test{uri}", 'multipart/related; type="application/octet-stream"')
        assert [part.content for part in web.parts(related)] == [expected]


def test_the_uri_in_a_text_is_left_alone(client: TestClient) -> None:
    text = '"BulkDataURI":"bulk:/x"'
    store(client, made.instance(ImageComments=text))
    assert get(client, f"{ONE}/metadata").json()[0]["00204000"]["Value"] == [text]


def test_metadata_of_every_level_in_a_useful_order(client: TestClient) -> None:
    store(client, *(made.instance(number) for number in (3, 1, 2)), made.instance(1, series="1.2.3.5", SeriesNumber=0))
    found = {
        path: [item["00080018"]["Value"][0] for item in get(client, f"{path}/metadata").json()]
        for path in ("studies/1.2.3", SERIES, ONE)
    }
    series = ["1.2.3.4.1", "1.2.3.4.2", "1.2.3.4.3"]
    assert found == {"studies/1.2.3": ["1.2.3.5.1", *series], SERIES: series, ONE: ["1.2.3.4.1"]}


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", "ISO-8859-1", "no-such"])
@pytest.mark.parametrize("path", [f"{SERIES}/metadata", "studies", f"{ONE}/rendered", f"{ONE}/frames/1"])
def test_the_charset_parameter_changes_nothing(client: TestClient, path: str, charset: str) -> None:
    """PS3.18 8.3.3.2: answers are in UTF-8, which 8.8.1 has as the default."""
    store(client, made.instance(PatientName="Müller^Hans"))
    plain, asked = get(client, path), get(client, f"{path}?charset={charset}")
    assert (asked.status_code, asked.content) == (200, plain.content)


def test_metadata_that_has_not_changed_is_not_sent_again(client: TestClient) -> None:
    store(client, made.instance(1))
    tag = get(client, f"{SERIES}/metadata").headers["etag"]
    assert get(client, f"{SERIES}/metadata", If_None_Match=tag).status_code == 304
    store(client, made.instance(2))
    again = get(client, f"{SERIES}/metadata", If_None_Match=tag)
    assert (again.status_code, len(again.json())) == (200, 2)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_json_is_compressed_and_frames_never(client: TestClient, encoding: str) -> None:
    store(client, *(made.instance(number, side=64) for number in range(1, 20)))
    metadata = get(client, f"{SERIES}/metadata", Accept_Encoding=encoding)
    content = metadata.content
    if encoding == "zstd" and content[:4] == b"\x28\xb5\x2f\xfd":
        # The client leaves to us what it has no library for.
        content = zstandard.ZstdDecompressor().decompressobj().decompress(content)
    assert (metadata.headers["content-encoding"], len(json.loads(content))) == (encoding, 19)
    frame = get(client, f"{ONE}/frames/1", Accept_Encoding=encoding)
    assert "content-encoding" not in frame.headers


def test_another_mount_point(archive: Archive) -> None:
    with web.client(archive, WebSettings(path="/pacs/rs")) as client:
        answer = web.stow(client, [made.instance()], "http://pacs.test/pacs/rs/studies")
        assert answer.json()["00081190"]["Value"] == ["http://pacs.test/pacs/rs/studies/1.2.3"]
        (dataset,) = get(client, f"http://pacs.test/pacs/rs/{ONE}/metadata").json()
        assert dataset["7FE00010"]["BulkDataURI"] == f"/pacs/rs/{ONE}/bulkdata/7FE00010"


# --- frames ---------------------------------------------------------------------------------------------------


def test_frames_in_the_order_asked(client: TestClient) -> None:
    store(client, made.instance(frames=5))
    answer = get(client, f"{ONE}/frames/4,2,2", ANY_FRAME)
    kind = f"application/octet-stream; transfer-syntax={ELE}"
    assert [(part.content, part.content_type) for part in web.parts(answer)] == [
        (made.frame_of(number, 4), kind) for number in (4, 2, 2)
    ]
    alone = get(client, f"{ONE}/frames/3", "application/octet-stream")
    assert (alone.content, alone.headers["content-type"]) == (made.frame_of(3, 4), kind)


def test_a_frame_with_range_and_etag(client: TestClient) -> None:
    store(client, made.instance(frames=2, side=64))
    whole = get(client, f"{ONE}/frames/2", ANY_FRAME)
    part = get(client, f"{ONE}/frames/2", ANY_FRAME, Range="bytes=50-8000")
    assert (part.status_code, part.content) == (206, whole.content[50:8001])
    assert get(client, f"{ONE}/frames/2", ANY_FRAME, If_None_Match=whole.headers["etag"]).status_code == 304
    assert get(client, f"{ONE}/frames/2", ANY_FRAME, Range="bytes=999999-").status_code == 416


@pytest.mark.parametrize("named", [f'type="image/jphc"; transfer-syntax={HTJ2K}', 'type="image/jphc"'])
def test_a_progressive_frame_comes_in_ranges_of_its_multipart_body(client: TestClient, named: str) -> None:
    """OHIF 3.13 shows what the first 64 KiB hold and asks for the rest: the boundary must stay, and Content-Range be readable."""
    stream = b"\xff\x4f\xff\x51" + bytes(range(256)) * 400
    image: dict[str, Any] = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "Rows": 512, "Columns": 512}
    store(client, made.encapsulated([stream], HTJ2K, **image))
    accept = f"multipart/related; {named}"
    whole = get(client, f"{ONE}/frames/1", accept)
    (part,) = web.parts(whole)
    assert (part.content, part.content_type) == (stream, f"image/jphc; transfer-syntax={HTJ2K}")
    size = len(whole.content)
    begin = get(client, f"{ONE}/frames/1", accept, Range="bytes=0-65535")
    rest = get(client, f"{ONE}/frames/1", accept, Range="bytes=65536-", If_Range=whole.headers["etag"])
    assert [(one.status_code, one.headers["content-range"]) for one in (begin, rest)] == [
        (206, f"bytes 0-65535/{size}"), (206, f"bytes 65536-{size - 1}/{size}"),
    ]
    assert begin.content + rest.content == whole.content
    assert begin.headers["content-type"] == whole.headers["content-type"]


FRAME_LISTS = [
    ("0", 400), ("1,0", 400), ("-1", 400), ("1.5", 400), ("one", 400), ("1,,2", 400), ("1,", 400), ("%D9%A1", 400),
    ("1" * 10, 400), ("6", 404), ("1,6", 404), ("5,1,5", 200),
]  # fmt: skip


@pytest.mark.parametrize(("numbers", "status"), FRAME_LISTS)
@pytest.mark.parametrize("accept", [ANY_FRAME, "*/*"])
def test_frame_lists(client: TestClient, numbers: str, status: int, accept: str) -> None:
    """PS3.18 10.4.1.1.6: numbers from 1, in any order; no frame of a list that names one too many is sent."""
    store(client, made.instance(frames=5))
    answer = get(client, f"{ONE}/frames/{numbers}", accept)
    assert answer.status_code == status
    if status != 200:
        assert answer.json()["status"] == status


def test_a_frame_of_a_hot_instance_is_one_read_and_no_query(archive: Archive) -> None:
    index, blobs = Watched(archive.index), Watched(archive.blobs)
    with web.client(replace(archive, index=index, blobs=blobs)) as client:  # type: ignore[arg-type]
        store(client, made.instance(frames=5))
        index.asked.clear()
        get(client, f"{ONE}/frames/1", ANY_FRAME)
        assert index.asked == ["layouts"]
        index.asked.clear()
        cases = (("4", ANY_FRAME, "resident"), ("5", "application/octet-stream", "resident"), ("2,3", ANY_FRAME, "read"))
        for frames, accept, asked in cases:
            path = f"{ONE}/frames/{frames}"
            blobs.asked.clear()
            assert get(client, path, accept).status_code == 200
            assert (index.asked, blobs.asked) == ([], [asked])


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", ELE, BIG, DEFLATED])
def test_native_frames_go_out_in_little_endian(client: TestClient, syntax: str) -> None:
    store(client, made.instance(frames=3, syntax=syntax))
    for path in (f"{ONE}/frames/1,2,3", f"{ONE}/frames/3"):
        parts = web.parts(get(client, path, ANY_FRAME))
        assert parts[-1].content == made.frame_of(3, 4)
        assert {part.content_type for part in parts} == {f"application/octet-stream; transfer-syntax={ELE}"}
    bulk = get(client, f"{ONE}/bulkdata/7FE00010", "application/octet-stream")
    assert bulk.content == b"".join(made.frame_of(number, 4) for number in (1, 2, 3))


def test_compressed_frames_as_stored_or_decoded(client: TestClient) -> None:
    values = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "JPEG", quality=95)
    stream = buffer.getvalue() + b"\0" * (len(buffer.getvalue()) % 2)
    image: dict[str, Any] = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "Rows": 64, "Columns": 64}
    store(client, made.encapsulated([stream, stream], JPEG, **image))
    for accept, media_type in ((ANY_FRAME, "application/octet-stream"), ("*/*", "image/jpeg")):
        (part,) = web.parts(get(client, f"{ONE}/frames/2", accept))
        assert (part.content, part.content_type) == (stream, f"{media_type}; transfer-syntax={JPEG}")
    (decoded,) = web.parts(get(client, f"{ONE}/frames/2", "multipart/related; type=application/octet-stream"))
    assert decoded.content_type == f"application/octet-stream; transfer-syntax={ELE}"
    assert decoded.content == np.asarray(Image.open(buffer)).tobytes()
    assert [part.content for part in web.parts(get(client, f"{ONE}/bulkdata/7FE00010"))] == [stream, stream]


def test_raw_ybr_422_goes_out_as_rgb_and_metadata_says_so(client: TestClient) -> None:
    image: dict[str, Any] = {"SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_FULL_422", "PlanarConfiguration": 0}
    image |= {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    store(client, made.instance(PixelData=bytes([100, 200, 128, 128] * 8), **image))
    (part,) = web.parts(get(client, f"{ONE}/frames/1", ANY_FRAME))
    assert part.content == bytes([100] * 3 + [200] * 3) * 8
    (dataset,) = get(client, f"{ONE}/metadata").json()
    assert dataset["00280004"]["Value"] == ["RGB"]


def test_single_bit_frames_begin_on_a_byte_of_their_own(client: TestClient) -> None:
    bits = np.random.default_rng(1).integers(0, 2, (3, 5, 5), np.uint8)
    image: dict[str, Any] = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "Rows": 5, "Columns": 5, "NumberOfFrames": 3}
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    store(client, made.instance(PixelData=packed, **image))
    for number in (1, 2, 3):
        (part,) = web.parts(get(client, f"{ONE}/frames/{number}", ANY_FRAME))
        unpacked = np.unpackbits(np.frombuffer(part.content, np.uint8), bitorder="little")[:25].reshape(5, 5)
        assert (unpacked == bits[number - 1]).all()


def test_bytes_in_big_endian_words_are_read_by_whole_words(client: TestClient) -> None:
    image: dict[str, Any] = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "Rows": 3, "Columns": 3, "NumberOfFrames": 3}
    values = np.arange(27, dtype=np.uint8)
    words = np.append(values, np.uint8(0)).reshape(-1, 2)[:, ::-1].tobytes()
    store(client, made.instance(syntax=BIG, PixelData=words, **image))
    for number in (1, 2, 3):
        (part,) = web.parts(get(client, f"{ONE}/frames/{number}", ANY_FRAME))
        assert part.content == values[9 * number - 9 : 9 * number].tobytes()
    assert get(client, f"{ONE}/frames/2/rendered").status_code == 200


def test_frames_that_are_cut_off_are_not_there(client: TestClient) -> None:
    whole = made.instance(frames=3)
    assert web.stow(client, [whole[: -len(made.frame_of(1, 4))]]).status_code == 202
    assert [get(client, f"{ONE}/frames/{number}").status_code for number in (1, 2, 3)] == [200, 200, 404]


# --- videos, documents, pictures ------------------------------------------------------------------------------


def test_a_video_is_played_by_range(client: TestClient) -> None:
    video = [bytes([number]) * 1000 for number in range(1, 4)]
    store(client, made.encapsulated(video, made.MP4, sop_class=made.VIDEO, NumberOfFrames=100))
    answer = get(client, f"{ONE}/rendered", Range="bytes=0-")
    assert (answer.status_code, answer.headers["content-type"]) == (206, "video/mp4")
    assert (answer.content, answer.headers["content-range"]) == (b"".join(video), "bytes 0-2999/3000")
    assert get(client, f"{ONE}/rendered", Range="bytes=500-1500").content == b"".join(video)[500:1501]
    assert get(client, f"{ONE}/rendered").content == b"".join(video)
    assert get(client, f"{ONE}/bulkdata/7FE00010", "video/mp4").content == b"".join(video)
    assert get(client, f"{ONE}/thumbnail").headers["content-type"] == "image/jpeg"
    assert get(client, f"{ONE}/frames/1").status_code == 404
    assert "7FE00010" not in get(client, f"{ONE}/metadata").json()[0]


@pytest.mark.parametrize("padding", [b"", b"\0"])
def test_a_pdf_is_a_document_without_its_padding(client: TestClient, padding: bytes) -> None:
    pdf = b"%PDF-1.4\n" + b"x" * 1999 + (b"y" if padding else b"")
    document: dict[str, Any] = {"EncapsulatedDocument": pdf + padding, "MIMETypeOfEncapsulatedDocument": "application/pdf"}
    store(client, made.instance(pixels=False, sop_class=made.PDF, EncapsulatedDocumentLength=len(pdf), **document))
    ohif = 'multipart/related; type="application/pdf", multipart/related; type="application/octet-stream"'
    assert get(client, f"{ONE}/rendered").content == pdf
    assert get(client, f"{ONE}/rendered").headers["content-type"] == "application/pdf"
    (part,) = web.parts(get(client, f"{ONE}/bulkdata/00420011", ohif))
    assert (part.content, part.content_type) == (pdf, "application/pdf")
    assert get(client, f"{ONE}/bulkdata/00420011", Range="bytes=0-3").content == b"%PDF"
    assert get(client, f"{ONE}/rendered", "image/jpeg").status_code == 406


def test_a_document_cannot_choose_how_a_browser_reads_it(client: TestClient) -> None:
    document: dict[str, Any] = {"EncapsulatedDocument": b"<script>" * 500, "MIMETypeOfEncapsulatedDocument": "text/html"}
    store(client, made.instance(pixels=False, sop_class=made.PDF, **document))
    assert get(client, f"{ONE}/bulkdata/00420011").headers["content-type"] == "application/octet-stream"
    assert get(client, f"{ONE}/rendered").status_code == 406


def picture(answer: httpx2.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    found = Image.open(io.BytesIO(answer.content))
    assert answer.headers["content-type"] == f"image/{str(found.format).lower()}"
    return found


@pytest.mark.parametrize("level", ["studies/1.2.3", SERIES, ONE, f"{ONE}/frames/1"])
@pytest.mark.parametrize(
    ("query", "accept", "kind"),
    [
        ("", "*/*", "JPEG"),
        ("", "image/png", "PNG"),
        ("", "image/webp,image/apng,image/*,*/*;q=0.8", "JPEG"),
        ("?accept=image/gif", ANY_FRAME, "GIF"),
        ("?accept=image/jpeg", 'multipart/related; type="application/octet-stream"', "JPEG"),
    ],
)
@pytest.mark.parametrize("resource", ["rendered", "thumbnail"])
def test_pictures(client: TestClient, level: str, query: str, accept: str, kind: str, resource: str) -> None:
    store(client, *(made.instance(number, side=200) for number in (1, 2, 3)))
    found = picture(get(client, f"{level}/{resource}{query}", accept))
    assert (found.format, found.size) == (kind, (128, 128) if resource == "thumbnail" else (200, 200))


@pytest.mark.parametrize(
    ("query", "missing"),
    [
        ("", ""),
        ("?iccprofile=no", ""),
        ("?iccprofile=srgb", "iccprofile"),
        ("?annotation=patient,technique", ""),
        ("?annotation=patient&iccprofile=yes&window=200,100", "iccprofile"),
    ],
)
@pytest.mark.parametrize("resource", [f"{ONE}/rendered", f"{ONE}/frames/1,2/rendered", f"{SERIES}/thumbnail"])
def test_what_is_not_applied_to_a_picture_is_said(client: TestClient, resource: str, query: str, missing: str) -> None:
    """PS3.18 8.3.5.1.1, 8.3.5.1.5."""
    store(client, made.instance(side=64, frames=2))
    accept = 'multipart/related; type="image/jpeg"' if "1,2" in resource else "image/jpeg"
    answer = get(client, resource + query, accept)
    assert answer.status_code == 200
    warning = answer.headers.get("warning", "")
    assert warning.startswith("299 ") if missing else not warning
    assert warning.endswith(missing)


def test_a_picture_is_drawn_once(archive: Archive) -> None:
    blobs = Watched(archive.blobs)
    with web.client(replace(archive, blobs=blobs)) as client:
        store(client, made.instance(side=64, frames=3))
        paths = [f"{ONE}/rendered", f"{ONE}/frames/2/rendered?window=200,100", f"{ONE}/thumbnail", f"{SERIES}/thumbnail", f"{ONE}/rendered?accept=image/gif"]
        first = [get(client, path).content for path in paths]
        blobs.asked.clear()
        assert [get(client, path).content for path in paths] == first
        assert blobs.asked == []
        assert get(client, f"{ONE}/frames/2/rendered?window=201,100").status_code == 200
        assert blobs.asked != []


def test_rendering_parameters_and_etags(client: TestClient) -> None:
    store(client, made.instance(side=64, frames=2))
    plain = get(client, f"{ONE}/frames/2/rendered?viewport=32,32&window=200,1&accept=image/png")
    assert picture(plain).size == (32, 32)
    other = get(client, f"{ONE}/frames/2/rendered?viewport=16,16&window=200,1&accept=image/png")
    assert plain.headers["etag"] != other.headers["etag"]
    again = get(client, f"{ONE}/frames/2/rendered?viewport=16,16&window=200,1&accept=image/png", If_None_Match=other.headers["etag"])
    assert again.status_code == 304


def test_several_pictures_at_once(client: TestClient) -> None:
    store(client, made.instance(side=64, frames=3))
    answer = get(client, f"{ONE}/frames/1,3/rendered", "multipart/related; type=image/png")
    assert [part.content[1:4] for part in web.parts(answer)] == [b"PNG", b"PNG"]


def test_a_study_is_pictured_by_its_middle_image_and_not_by_its_report(client: TestClient) -> None:
    images = [made.instance(number, side=10 * number) for number in (1, 2, 3)]
    store(client, *images, made.instance(1, series="1.2.3.5", SeriesNumber=9, pixels=False))
    assert picture(get(client, "studies/1.2.3/rendered")).size == (20, 20)
    assert get(client, "studies/1.2.3/series/1.2.3.5/rendered").status_code == 406
    assert picture(get(client, "studies/1.2.3/series/1.2.3.5/thumbnail")).size == (128, 128)


# --- damage ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [ONE, SERIES, f"{ONE}/frames/1", f"{ONE}/bulkdata/7FE00010", f"{ONE}/rendered"])
def test_a_lost_object_is_damage_and_said_to_be(client: TestClient, archive: Archive, path: str) -> None:
    store(client, made.instance())
    (located,) = archive.index.locate(Scope("1.2.3"))
    archive.blobs.delete(located.object_key)
    answer = get(client, path)
    assert (answer.status_code, "pacs verify" in answer.json()["todo"]) == (500, True)
    assert get(client, f"{ONE}/metadata").status_code == 200

# --- damage among neighbours -----------------------------------------------------------------------------------


def damaged(archive: Archive, number: int, *, keep: int | None) -> None:
    """Take an object away, or all but its first bytes, as a broken disk would."""
    (located,) = archive.index.locate(Scope("1.2.3", "1.2.3.4", f"1.2.3.4.{number}"))
    content = archive.blobs.read(located.object_key)
    archive.blobs.delete(located.object_key)
    if keep is not None:
        archive.blobs.path(located.object_key).write_bytes(content[:keep])  # type: ignore[attr-defined]


@pytest.mark.parametrize("accept", [f"{RELATED_DICOM}; transfer-syntax=*", RELATED_DICOM, "application/zip"])
@pytest.mark.parametrize("keep", [None, 0, 100])
def test_what_is_lost_does_not_cost_its_neighbours_their_place(
    client: TestClient, archive: Archive, accept: str, keep: int | None
) -> None:
    store(client, *(made.instance(number) for number in (1, 2, 3)))
    damaged(archive, 2, keep=keep)
    answer = get(client, SERIES, accept)
    assert answer.status_code == 206
    assert answer.headers["warning"].endswith("has not got them whole: 1")
    if accept == "application/zip":
        with zipfile.ZipFile(io.BytesIO(answer.content)) as found:
            assert len(found.namelist()) == 3
    else:
        numbers = [pydicom.dcmread(io.BytesIO(part.content)).InstanceNumber for part in web.parts(answer)]
        assert numbers == [1, 3]
    for number in (1, 3):
        damaged(archive, number, keep=None)
    assert get(client, SERIES, accept).status_code == 500


def test_an_answer_that_turns_out_short_does_not_come_to_its_end(archive: Archive) -> None:
    """A truncated object is never served as if it were all; of a long answer it can only be said by not ending it."""
    with web.serving(archive) as url, web.client(archive) as client:
        store(client, *(made.instance(number, side=700) for number in (1, 2, 3, 4)))
        damaged(archive, 4, keep=500_000)
        with pytest.raises(httpx2.RemoteProtocolError):
            httpx2.get(f"{url}/{SERIES}", headers={"Accept": f"{RELATED_DICOM}; transfer-syntax=*"})
        damaged(archive, 4, keep=None)
        with pytest.raises(httpx2.RemoteProtocolError):
            httpx2.get(f"{url}/{SERIES}", headers={"Accept": f"{RELATED_DICOM}; transfer-syntax=*"})


def test_head_takes_no_range_and_304_says_what_it_depends_on(client: TestClient) -> None:
    """RFC 9110 14.2, 15.4.5."""
    store(client, made.instance())
    head = client.head(f"{ONE}/frames/1", headers={"Range": "bytes=0-3", "Accept": "application/octet-stream"})
    assert (head.status_code, head.headers["content-length"]) == (200, "32")
    for path in (f"{ONE}/frames/1", f"{ONE}/rendered", f"{ONE}/metadata", ONE):
        tag = get(client, path).headers["etag"]
        again = get(client, path, If_None_Match=tag)
        assert again.status_code == 304
        assert "Accept" in again.headers["vary"]


def test_a_video_says_in_its_metadata_that_it_is_one(client: TestClient, archive: Archive) -> None:
    """OHIF asks for /rendered where (0008,3002) is a video syntax, and else for frames that a video has not got."""
    stored = ingest(archive, corpus_file("video/h264_hp41_102_mp4.dcm"))
    (described,) = client.get(f"/studies/{stored.uids.study}/metadata").json()
    assert described["00083002"] == {"vr": "UI", "Value": ["1.2.840.10008.1.2.4.102"]}
    assert "7FE00010" not in described
