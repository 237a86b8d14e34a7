"""STOW-RS of metadata and bulk data (PS3.18 10.5.1): put together right, or refused with a reason; nothing is fetched."""

from __future__ import annotations

import io
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from dicomweb.settings import WebSettings
from storage.archive import Archive
from storage.errors import LightboxError
from storage.non_patient import partition_of
from storage.scanner import scan
from storage.transfer_syntaxes import Coding, lookup
from storage.types import Scope
from tests.support import made, web
from tests.support.archive import close_archive, open_archive
from tests.support.corpus import corpus_files
from tests.support.separate import JSON, XML, Sent, metadata, request, taken_apart

REFERENCED, FAILED, OTHER = "00081199", "00081198", "0008119A"


@pytest.fixture
def client(archive: Archive) -> Iterator[TestClient]:
    with web.client(archive, WebSettings(store_in_flight=3)) as client:
        yield client


def post(client: TestClient, parts: list[Sent], kind: str = JSON, path: str = "studies") -> Any:
    body, headers = request(parts, kind)
    return client.post(path, content=body, headers=headers)


def reasons(answer: Any, tag: str = FAILED) -> list[int]:
    return [item["00081197"]["Value"][0] for item in answer.json().get(tag, {}).get("Value", [])]


def stored(archive: Archive, content_or_uids: Any) -> bytes:
    (located,) = archive.index.locate(content_or_uids)
    return archive.blobs.read(located.object_key)


def described(**changes: Any) -> dict[str, Any]:
    """The metadata of a CT of 4 x 4 pixels of 16 bits, with pixel data at `bulk/pixels`; None takes an attribute out."""
    dataset = {
        "00080016": {"vr": "UI", "Value": [made.CT]},
        "00080018": {"vr": "UI", "Value": ["1.2.3.4.1"]},
        "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
        "0020000E": {"vr": "UI", "Value": ["1.2.3.4"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Müller^Hans"}]},
        "00280002": {"vr": "US", "Value": [1]},
        "00280004": {"vr": "CS", "Value": ["MONOCHROME2"]},
        "00280010": {"vr": "US", "Value": [4]},
        "00280011": {"vr": "US", "Value": [4]},
        "00280100": {"vr": "US", "Value": [16]},
        "00280101": {"vr": "US", "Value": [16]},
        "00280102": {"vr": "US", "Value": [15]},
        "00280103": {"vr": "US", "Value": [0]},
        "7FE00010": {"vr": "OW", "BulkDataURI": "bulk/pixels"},
    } | {f"{tag[1:]}": value for tag, value in changes.items()}
    return {tag: value for tag, value in dataset.items() if value is not None}


PIXELS = Sent("application/octet-stream", bytes(range(32)), "bulk/pixels")
SCOPE = Scope("1.2.3", "1.2.3.4", "1.2.3.4.1")


@pytest.mark.parametrize("kind", [JSON, XML])
def test_native_pixel_data(client: TestClient, archive: Archive, kind: str) -> None:
    answer = post(client, [*metadata([described()], kind), PIXELS], kind)
    assert (answer.status_code, answer.json()["00081190"]["Value"]) == (200, ["http://pacs.test/dicom-web/studies/1.2.3"])
    read = pydicom.dcmread(io.BytesIO(stored(archive, SCOPE)))
    assert read.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert read.file_meta.MediaStorageSOPInstanceUID == read.SOPInstanceUID == "1.2.3.4.1"
    assert (read.PatientName, read.SpecificCharacterSet) == ("Müller^Hans", "ISO_IR 192")
    assert (read.PixelData, read["PixelData"].VR) == (bytes(range(32)), "OW")


def test_metadata_without_bulk_data(client: TestClient, archive: Archive) -> None:
    """Reports and presentation states have none; they may come alone (extension) or in a multipart of one."""
    dataset = described(_7FE00010=None)
    for number, (content, headers) in enumerate(
        [
            (orjson.dumps([dataset]), {"Content-Type": JSON}),
            (orjson.dumps(dataset), {"Content-Type": "application/json"}),
            (metadata([dataset], XML)[0].content, {"Content-Type": XML}),
            request(metadata([dataset])),
        ]
    ):
        answer = client.post("studies", content=content, headers=headers)
        assert answer.status_code == 200, (number, answer.text, answer.headers)
    assert archive.index.counts().instances == 1


# How locations are spelt: (BulkDataURI, Content-Location)
@pytest.mark.parametrize(
    ("uri", "location"),
    [
        ("bulk/pixels", "bulk/pixels"),
        ("/bulk/pixels", "bulk/pixels"),
        ("http://one.example/bulk/pixels?x=1", "http://two.example/bulk/pixels?x=1"),
        ("https://pacs.example/bulk/pixels", "/bulk/pixels"),
        ("urn:uuid:0a", " urn:uuid:0a "),
        ("./pixels", "pixels"),
    ],
)
def test_locations(client: TestClient, uri: str, location: str) -> None:
    dataset = described(_7FE00010={"vr": "OW", "BulkDataURI": uri})
    answer = post(client, [*metadata([dataset]), Sent("application/octet-stream", bytes(32), location)])
    assert answer.status_code == 200, answer.headers


def test_content_id_and_bulk_data_first(client: TestClient) -> None:
    """RFC 2387 has the root first; another order costs room on the disk and nothing else."""
    body = (
        b"--b\r\nContent-Type: application/octet-stream\r\nContent-ID: <pixels@x>\r\n\r\n" + bytes(32)
        + b"\r\n--b\r\nContent-Type: application/dicom+json\r\n\r\n"
        + orjson.dumps([described(_7FE00010={"vr": "OW", "BulkDataURI": "cid:pixels@x"})])
        + b"\r\n--b--"
    )
    answer = client.post("studies", content=body, headers={"Content-Type": f'multipart/related; type="{JSON}"; boundary=b'})
    assert answer.status_code == 200, answer.headers


def test_nested_bulk_data_and_odd_lengths(client: TestClient, archive: Archive) -> None:
    icon = {"00280010": {"vr": "US", "Value": [1]}, "7FE00010": {"vr": "OB", "BulkDataURI": "icon"}}
    dataset = described(_00880200={"vr": "SQ", "Value": [{}, icon]}, _00420010={"vr": "ST", "BulkDataURI": "title"})
    parts = [Sent("application/octet-stream", b"abc", "icon"), Sent("text/plain", "Größe".encode(), "title"), PIXELS]
    assert post(client, [*metadata([dataset]), *parts]).status_code == 200
    read = pydicom.dcmread(io.BytesIO(stored(archive, SCOPE)))
    assert read.IconImageSequence[1].PixelData == b"abc\0"
    assert read.DocumentTitle == "Größe"
    assert read.PixelData == bytes(range(32))


def test_one_location_for_several_instances(client: TestClient, archive: Archive) -> None:
    datasets = [described(_00080018={"vr": "UI", "Value": [f"1.2.3.4.{number}"]}) for number in range(1, 4)]
    answer = post(client, [*metadata(datasets), PIXELS])
    assert (answer.status_code, archive.index.counts().instances) == (200, 3)


# ---- what fails, and how: (parts, status, reasons in Failed, reasons in Other, words of the Warning)

_FRAME = Sent("image/jpeg", b"\xff\xd8nothing", "bulk/pixels")
FAILURES: list[tuple[str, list[Sent], list[int], list[int], str]] = [
    ("no bulk data", metadata([described()]), [0xC000], [], "7FE00010 is missing"),
    ("another location", [*metadata([described()]), Sent("application/octet-stream", b"", "elsewhere")], [0xC000], [0xC000], "no BulkDataURI in the metadata names"),
    ("no location", [*metadata([described()]), Sent("application/octet-stream", b"")], [0xC000], [0xC000], "no Content-Location"),
    ("a URL to fetch", metadata([described(_7FE00010={"vr": "OW", "BulkDataURI": "http://127.0.0.1:9/x"})]), [0xC000], [], "nothing is fetched"),
    ("a file to read", metadata([described(_7FE00010={"vr": "OW", "BulkDataURI": "file:///etc/passwd"})]), [0xC000], [], "nothing is fetched"),
    ("no Rows", [*metadata([described(_00280010=None, _00280103=None)]), PIXELS], [0xA900], [], "Rows (0028,0010), Pixel Representation (0028,0103): Type 1"),
    ("no Rows, and RLE does not say", [*metadata([described(_00280010=None)]), Sent("image/dicom-rle", bytes(64), "bulk/pixels")], [0xA900], [], "Rows (0028,0010): Type 1"),
    ("no Rows, and a video does not say", [*metadata([described(_00280010=None)]), Sent("video/mp4", bytes(64), "bulk/pixels")], [0xA900], [], "Rows (0028,0010): Type 1"),
    ("no SOP Instance UID", [*metadata([described(_00080018=None)]), PIXELS], [], [0xA900, 0xC000], "SOP Instance UID (0008,0018): Type 1"),
    ("no study", [*metadata([described(_0020000D=None)]), PIXELS], [0xA900], [0xC000], "Study Instance UID (0020,000D)"),
    ("not a picture", [*metadata([described()]), Sent("text/plain", b"x", "bulk/pixels")], [0xC000], [], "does not come as text/plain"),
    ("a broken stream", [*metadata([described()]), _FRAME], [0xC000], [], "cannot be read"),
    ("no stream at all", [*metadata([described()]), Sent("image/jls", bytes(32), "bulk/pixels")], [0xC000], [], "not what image/jls holds"),
    ("no base64", metadata([described(_7FE00010={"vr": "OW", "InlineBinary": "%%%"})]), [0xC000], [], "7FE00010 is not base64"),
    ("no such vr", metadata([described(_00100020={"vr": "XX", "Value": ["1"]})]), [0xC000], [], "vr of 00100020"),
    ("a vr that is a list", metadata([described(_00100020={"vr": ["LO"], "Value": ["1"]})]), [0xC000], [], "vr of 00100020"),
    ("a value that is an object", metadata([described(_00100020={"vr": "LO", "Value": [{"a": 1}]})]), [0xC000], [], "value of 00100020"),
    ("a tag that is half of one", metadata([described(_00280009={"vr": "AT", "Value": ["0018"]})]), [0xC000], [], "value of 00280009"),
    ("a UID without end", metadata([described(_0020000D={"vr": "UI", "Value": ["1" * 70000]})]), [0xA900], [], "Study Instance UID: longer"),
    ("a number that is none", metadata([described(_00280010={"vr": "US", "Value": ["many"]})]), [0xC000], [], "value of 00280010"),
    ("a number too large", metadata([described(_00280010={"vr": "US", "Value": [70000]})]), [0xC000], [], "value of 00280010"),
    ("a text in no ASCII", metadata([described(_00080060={"vr": "CS", "Value": ["Ö"]})]), [0xC000], [], "value of 00080060"),
    ("two of a kind", metadata([described(_7FE00010={"vr": "OW", "InlineBinary": "", "BulkDataURI": "x"})]), [0xC000], [], "more than one of"),
    ("an odd name", metadata([described(_PatientID={"vr": "LO"})]), [0xC000], [], "eight hexadecimal digits"),
    ("a command", metadata([described(_00000100={"vr": "US", "Value": [1]})]), [0xC000], [], "no attribute of a data set"),
    ("not in the dictionary of vr", metadata([described(_00100020={"vr": "OB", "Value": [1]})]), [0xC000], [], "InlineBinary or BulkDataURI"),
]


@pytest.mark.parametrize(("parts", "failed", "other", "says"), [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES])
def test_what_fails(client: TestClient, archive: Archive, parts: list[Sent], failed: list[int], other: list[int], says: str) -> None:
    answer = post(client, parts)
    assert (answer.status_code, reasons(answer), reasons(answer, OTHER)) == (409, failed, other), answer.headers
    assert says in answer.headers["warning"]
    assert "Müller" not in answer.text + str(answer.headers)
    assert archive.index.counts().instances == 0
    assert _left(archive) == []


def _left(archive: Archive) -> list[Path]:
    return list(archive.spool_folder.glob("spool-*"))


def test_the_neighbours_of_a_failure_are_stored(client: TestClient, archive: Archive) -> None:
    datasets = [described(), described(_00080018={"vr": "UI", "Value": ["1.2.3.4.2"]}, _7FE00010={"vr": "OW", "BulkDataURI": "other"})]
    answer = post(client, [*metadata(datasets), PIXELS])
    assert (answer.status_code, reasons(answer), archive.index.counts().instances) == (202, [0xC000], 1)


def test_metadata_that_is_no_json_and_its_neighbours(client: TestClient, archive: Archive) -> None:
    good = orjson.dumps(described(_7FE00010=None))
    answer = post(client, [Sent(JSON, b'[{"00080016": nonsense}, ' + good + b"]")])
    assert (answer.status_code, reasons(answer, OTHER), archive.index.counts().instances) == (202, [0xC000], 1)


@pytest.mark.parametrize("content", [b"", b"[", b"[]", b"7", b'"x"', b"[1]", b"[[{}]]", b"{}{}", b'[{}"x"]', b"[{}] {", b"nonsense", b"[{},{}", b"]"])
@pytest.mark.parametrize("kind", [JSON, XML])
def test_metadata_that_is_none(client: TestClient, content: bytes, kind: str) -> None:
    answer = post(client, [Sent(kind, content)], kind)
    assert answer.status_code in (400, 409), answer.text


def test_a_part_that_comes_twice(client: TestClient, archive: Archive) -> None:
    two = described(_7FE00010={"vr": "OW", "BulkDataURI": "bulk/pixels"}, _00420010={"vr": "ST", "BulkDataURI": "title"})
    answer = post(client, [*metadata([two]), PIXELS, PIXELS, Sent("text/plain", b"x", "title")])
    assert (answer.status_code, reasons(answer)) == (409, [0xC000])
    assert "2 parts for the uncompressed pixel data" in answer.headers["warning"]
    answer = post(client, [*metadata([described()]), PIXELS, PIXELS])
    assert (answer.status_code, reasons(answer, OTHER)) == (202, [0xC000])
    assert "same Content-Location" in answer.headers["warning"]


def test_the_study_of_the_url_holds(client: TestClient) -> None:
    answer = post(client, [*metadata([described()]), PIXELS], path="studies/1.2.9")
    assert (answer.status_code, reasons(answer)) == (409, [0xA900])


def test_pixel_data_that_is_too_short_is_kept_with_a_warning(client: TestClient) -> None:
    answer = post(client, [*metadata([described()]), Sent("application/octet-stream", bytes(10), "bulk/pixels")])
    (item,) = answer.json()[REFERENCED]["Value"]
    assert (answer.status_code, item["00081196"]["Value"]) == (202, [0xB007])


def test_a_body_that_breaks_off(client: TestClient, archive: Archive) -> None:
    datasets = [described(), described(_00080018={"vr": "UI", "Value": ["1.2.3.4.2"]}, _7FE00010={"vr": "OW", "BulkDataURI": "other"})]
    body, headers = request([*metadata(datasets), PIXELS, Sent("application/octet-stream", bytes(5000), "other")])
    answer = client.post("studies", content=body[:-1000], headers=headers)
    assert (answer.status_code, len(answer.json()[REFERENCED]["Value"]), reasons(answer)) == (202, 1, [0xC000])
    assert (archive.index.counts().instances, _left(archive)) == (1, [])


def test_nothing_is_ever_fetched(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """RELIABILITY 15: a listener that a BulkDataURI names hears nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.3)
        port = listener.getsockname()[1]
        dataset = described(_7FE00010={"vr": "OW", "BulkDataURI": f"http://127.0.0.1:{port}/pixels"})
        assert post(client, metadata([dataset])).status_code == 409
        with pytest.raises(TimeoutError):
            listener.accept()


# ---- whole instances of every kind, taken apart and put together again


# Files that do not come back as they were, and why.
_OTHERWISE = {
    "ophthalmic/sample-op.dcm": "its frames are not in the transfer syntax that it names",
    "transfer-syntaxes/GDCMJ2K_TextGBR.dcm": "its frame has JP2 boxes around it, which are taken off",
    "structure/synthetic/private_blocks_two_creators_and_orphan.dcm": "it has a value of odd length",
}


@pytest.mark.parametrize(("kind", "start"), [(JSON, 0), (XML, 7)])
def test_the_corpus_taken_apart_comes_together_again(client: TestClient, archive: Archive, kind: str, start: int) -> None:
    """Every fourteenth file: the same values, and every frame byte for byte in its transfer syntax."""
    wrong: list[Any] = []
    compared = 0
    known: set[str] = set()
    for file in corpus_files()[start::14]:
        content = file.path.read_bytes()
        try:
            dataset, parts, found = taken_apart(content)
        except LightboxError:
            continue
        unnamed = {flag.code for flag in found.flags} & {"assigned-uid", "odd-uid", "truncated", "short-pixel-data", "no-fragments", "frames-unclear", "wrong-syntax"}
        if unnamed or file.name in _OTHERWISE or found.inflated or found.uids.instance in known or lookup(found.transfer_syntax_uid).coding is Coding.VIDEO:
            continue
        known.add(found.uids.instance)
        answer = post(client, [*metadata([dataset], kind), *parts], kind)
        compared += 1
        if answer.status_code not in (200, 202):
            wrong.append((file.name, answer.status_code, dict(answer.headers)))
            continue
        # Objects of no patient are kept apart from studies.
        scope = Scope(found.uids.study, found.uids.series, found.uids.instance, partition_of(found.sop_class_uid))
        again = stored(archive, scope)
        wrong += [(file.name, *row) for row in _differences(content, again)]
    assert wrong == []
    assert compared > 30


def _differences(content: bytes, again: bytes) -> Iterator[tuple[Any, ...]]:
    first, second = scan(content), scan(again)
    native = lookup(first.transfer_syntax_uid).coding is Coding.NATIVE
    if second.transfer_syntax_uid != ("1.2.840.10008.1.2.1" if native else first.transfer_syntax_uid):
        yield "transfer syntax", first.transfer_syntax_uid, second.transfer_syntax_uid
    if first.frames.count != second.frames.count:
        yield "frames", first.frames.count, second.frames.count
    for number in range(1, min(first.frames.count, second.frames.count) + 1):
        if _frame(content, first, number).rstrip(b"\0") != _frame(again, second, number).rstrip(b"\0"):
            yield "frame", number
    ours, theirs = _comparable(first.dataset), _comparable(second.dataset)
    for key in ours.keys() | theirs.keys():
        if ours.get(key) != theirs.get(key):
            yield key, str(ours.get(key))[:200], str(theirs.get(key))[:200]


def _frame(content: bytes, found: Any, number: int) -> bytes:
    return b"".join(content[offset : offset + length] for offset, length in found.frames.ranges(number))


def _comparable(dataset: Any) -> Any:
    """Values without what may rightly differ: where bulk data lies, the character set, the VR of pixel data."""
    found = {}
    for key, element in dataset.items():
        if key in ("00080005", "7FE00010"):
            continue
        values = element.get("Value", element.get("InlineBinary", "bulk" if "BulkDataURI" in element else None))
        if element["vr"] == "SQ" and values:
            values = [_comparable(item) for item in values]
        elif element["vr"] == "PN" and values:
            # Empty components at the end of a name are none in XML (PS3.19 A.1.5).
            values = [{group: text.rstrip("^") for group, text in name.items() if text.rstrip("^")} for name in values if name]
        found[key] = [value for value in values if value] if isinstance(values, list) and element["vr"] == "PN" else values
        found[key] = found[key] or None
    return found


# ---- compressed frames


def _jpeg(name: str) -> bytes:
    """The first frame of a file of the corpus."""
    (file,) = [file for file in corpus_files() if file.name.endswith(name)][:1]
    content = file.path.read_bytes()
    return _frame(content, scan(content), 1)


# (file of the corpus, media type, parameter, transfer syntax that it is stored in): PS3.18 table 8.7.3-5.
STREAMS = [
    ("CTImage.dcm_JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57.dcm", "image/jpeg", "", "1.2.840.10008.1.2.4.57"),
    ("CTImage.dcm_JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70.dcm", "image/jpeg", "", "1.2.840.10008.1.2.4.70"),
    ("CTImage.dcm_JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80.dcm", "image/jls", "", "1.2.840.10008.1.2.4.80"),
    ("CTImage.dcm_JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90.dcm", "image/jp2", "", "1.2.840.10008.1.2.4.90"),
    ("CTImage.dcm_JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90.dcm", "image/jp2", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.91"),
    ("CTImage.dcm_RLELosslessTransferSyntax_1.2.840.10008.1.2.5.dcm", "image/dicom-rle", "", "1.2.840.10008.1.2.5"),
]


def _named(parameter: str) -> str:
    return f"; transfer-syntax={parameter}" if parameter else ""


@pytest.mark.parametrize(("name", "media_type", "parameter", "syntax"), STREAMS)
def test_a_stream_says_what_it_is(client: TestClient, archive: Archive, name: str, media_type: str, parameter: str, syntax: str) -> None:
    """The Image Pixel module is taken from the stream where the metadata has none of it (PS3.18 10.5.2)."""
    matching = [file for file in corpus_files() if file.name.endswith(name)]
    if not matching:
        pytest.skip(f"{name} is not in the corpus")
    content = matching[0].path.read_bytes()
    frame, original = _frame(content, scan(content), 1), scan(content).dataset
    left_out = {} if media_type == "image/dicom-rle" else {f"_{tag}": None for tag in described() if tag.startswith("0028")}
    dataset = described(**left_out)
    if media_type == "image/dicom-rle":
        dataset |= {tag: value for tag, value in original.items() if tag.startswith("0028") and "Value" in value}
    answer = post(client, [*metadata([dataset]), Sent(media_type + _named(parameter), frame, "bulk/pixels")])
    assert answer.status_code == 200, answer.headers
    again = scan(stored(archive, SCOPE))
    assert again.transfer_syntax_uid == syntax
    for tag in ("00280002", "00280004", "00280010", "00280011", "00280100"):
        assert again.dataset[tag]["Value"] == original[tag]["Value"], tag


@pytest.mark.parametrize(
    ("changes", "content_type", "says"),
    [
        ({"_00280010": {"vr": "US", "Value": [7]}}, "image/jls", "Rows (0028,0010) is 7 in the metadata and"),
        ({}, "image/jls; transfer-syntax=1.2.840.10008.1.2.4.90", "is not that of its frames"),
        ({}, "image/jls; transfer-syntax=1.2.3", "is not that of its frames"),
        ({"_00280008": {"vr": "IS", "Value": [2]}}, "image/jls", "1 of 2 frames came"),
    ],
)
def test_a_stream_and_metadata_that_disagree(client: TestClient, changes: dict[str, Any], content_type: str, says: str) -> None:
    frame = _jpeg("CTImage.dcm_JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80.dcm")
    plain = {f"_{tag}": None for tag in described() if tag.startswith("0028")}
    answer = post(client, [*metadata([described(**{**plain, **changes})]), Sent(content_type, frame, "bulk/pixels")])
    assert (answer.status_code, reasons(answer)) == (409, [0xC000])
    assert says in answer.headers["warning"]


def test_frames_in_order_with_a_table_of_their_offsets(client: TestClient, archive: Archive) -> None:
    frame = _jpeg("CTImage.dcm_JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80.dcm")
    frames = [frame + bytes(number) for number in range(5)]
    plain = {f"_{tag}": None for tag in described() if tag.startswith("0028")}
    dataset = described(**plain, _7FE00001={"vr": "OV", "InlineBinary": ""}) | {"00280008": {"vr": "IS", "Value": ["5"]}}
    answer = post(client, [*metadata([dataset]), *(Sent("image/jls", one, "bulk/pixels") for one in frames)])
    assert answer.status_code == 200, answer.headers
    content = stored(archive, SCOPE)
    found = scan(content)
    assert [_frame(content, found, number)[: len(one)] for number, one in enumerate(frames, 1)] == frames
    assert found.flags == ()


def test_a_jp2_file_is_taken_out_of_its_boxes(client: TestClient, archive: Archive) -> None:
    stream = _jpeg("CTImage.dcm_JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90.dcm")
    jp2 = b"\0\0\0\x0cjP  \r\n\x87\n" + struct.pack(">I4s", 8, b"ftyp") + struct.pack(">I4s", 8 + len(stream), b"jp2c") + stream
    plain = {f"_{tag}": None for tag in described() if tag.startswith("0028")}
    answer = post(client, [*metadata([described(**plain)]), Sent("image/jp2", jp2, "bulk/pixels")])
    assert answer.status_code == 200, answer.headers
    content = stored(archive, SCOPE)
    assert _frame(content, scan(content), 1)[: len(stream)] == stream


@pytest.mark.parametrize(
    ("media_type", "syntax"),
    [("video/mp4", "1.2.840.10008.1.2.4.102"), ("video/mp4; transfer-syntax=1.2.840.10008.1.2.4.104", "1.2.840.10008.1.2.4.104"), ("video/mpeg", "1.2.840.10008.1.2.4.100")],
)
def test_a_video_is_one_fragment(client: TestClient, archive: Archive, media_type: str, syntax: str) -> None:
    dataset = described(_00080016={"vr": "UI", "Value": [made.VIDEO]}, _00280008={"vr": "IS", "Value": [100]})
    answer = post(client, [*metadata([dataset]), Sent(media_type, b"not really a video", "bulk/pixels")])
    assert answer.status_code == 200, answer.headers
    content = stored(archive, SCOPE)
    assert scan(content).transfer_syntax_uid == syntax
    assert _frame(content, scan(content), 1) == b"not really a video"


@pytest.mark.parametrize(
    ("media_type", "said", "status"),
    [("application/pdf", None, 200), ("application/pdf", "application/pdf", 200), ("application/octet-stream", "model/stl", 200), ("text/xml", "text/XML; charset=utf-8", 200), ("model/obj", "application/pdf", 409)],
)
def test_encapsulated_documents(client: TestClient, archive: Archive, media_type: str, said: str | None, status: int) -> None:
    """PS3.3 C.24.2: its type and its length without padding are there even where the metadata has not got them."""
    named = {"_00420012": {"vr": "LO", "Value": [said]}} if said else {}
    dataset = described(_00080016={"vr": "UI", "Value": [made.PDF]}, _7FE00010=None, _00420011={"vr": "OB", "BulkDataURI": "document"}, **named)
    answer = post(client, [*metadata([dataset]), Sent(media_type, b"%PDF-", "document")])
    assert answer.status_code == status, answer.headers
    if status == 200:
        read = pydicom.dcmread(io.BytesIO(stored(archive, SCOPE)))
        assert read.MIMETypeOfEncapsulatedDocument == (said or media_type)
        assert (read.EncapsulatedDocument, read.EncapsulatedDocumentLength) == (b"%PDF-\0", 5)


# ---- anything at all


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Archive, TestClient]]:
    archive = open_archive(tmp_path_factory.mktemp("anything"))
    with web.client(archive) as client:
        yield archive, client
    close_archive(archive)


_PIECES = st.sampled_from(
    [
        b"\r\n--boundary\r\n",
        b"--boundary--",
        b"Content-Type: application/dicom+json\r\n",
        b"Content-Type: application/octet-stream\r\nContent-Location: bulk/pixels\r\n",
        b"Content-Type: image/jpeg\r\nContent-Location: bulk/pixels\r\n",
        b"Content-Type: application/dicom+xml\r\n",
        b"\r\n",
        orjson.dumps([described()]),
        orjson.dumps(described(_7FE00010=None)),
        metadata([described()], XML)[0].content,
        b"[{",
        b'"',
        b"\xff\xd8\xff\xf7",
        bytes(32),
    ]
)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["vr", "Value", "InlineBinary", "BulkDataURI", "00080060", "Alphabetic"]), inner, max_size=3),
    max_leaves=6,
)
_ELEMENTS = st.fixed_dictionaries(
    {"vr": st.sampled_from(["US", "SQ", "PN", "AT", "DS", "IS", "OB", "LO", "FL", "UI", "UT"]) | _JSON}, optional={"Value": st.lists(_JSON, max_size=3) | _JSON}
)


@settings(max_examples=150, deadline=None)
@given(tag=st.sampled_from(["00080060", "00081115", "00100010", "00280009", "00280010", "7FE00010", "00080018", "00191001"]), element=_ELEMENTS | _JSON)
def test_any_data_set_is_answered_as_documented(everything: tuple[Archive, TestClient], tag: str, element: Any) -> None:
    _, client = everything
    answer = client.post("studies", content=orjson.dumps([described() | {tag: element}]), headers={"Content-Type": JSON})
    assert answer.status_code in (200, 202, 409)
    assert 0x0110 not in reasons(answer) + reasons(answer, OTHER), "a failure that nobody foresaw"


@settings(max_examples=60, deadline=None)
@given(body=st.lists(_PIECES | st.binary(max_size=20), max_size=12).map(b"".join), kind=st.sampled_from([JSON, XML, "application/dicom", ""]))
def test_any_body_is_answered_as_documented(everything: tuple[Archive, TestClient], body: bytes, kind: str) -> None:
    archive, client = everything
    inner = f'type="{kind}"; ' if kind else ""
    answer = client.post("studies", content=body, headers={"Content-Type": f"multipart/related; {inner}boundary=boundary"})
    assert answer.status_code in (200, 202, 400, 409, 413)
    assert _left(archive) == []
