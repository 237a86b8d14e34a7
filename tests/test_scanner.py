"""The scanner against pydicom as its oracle, over every real file there is, with the differences listed and justified."""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from storage.errors import LightboxError, LimitExceeded, NotDicom, NotStorable, Truncated
from storage.part10 import file_meta
from storage.scanner import Limits, Scan, inflate, scan
from storage.transfer_syntaxes import Coding, lookup
from tests.support import made as instances
from tests.support.corpus import CorpusFile, corpus_files

# Files that pydicom reads differently as a whole: the reason, and nothing of them is compared.
NOT_COMPARED = {
    "malformed/3gb-bulk-data-truncated": "pydicom gives up at the value that claims 3 GB, before Pixel Data",
    "malformed/GH177_D_CLUNIE_CT1_IVRLE_BigEndian_undefined_length.dcm": "pydicom cannot read it",
    "malformed/badVR.dcm": "pydicom raises for the IS `1A`, which is kept as the string that it is",
    "badVR.dcm": "the same file",
    "transfer-syntaxes/synthetic/jpip_deflate_95.dcm": "pydicom 3.0 does not inflate this syntax",
    "transfer-syntaxes/one-ct-every-syntax/CTImage.dcm_BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2.dcm": (
        "private values under UN were left in little endian by the converter, which did not know them; read as big"
        " endian, as pydicom does, they are nonsense (912 becomes -1878851584)"
    ),
}
# Attributes that differ by intent, wherever they stand.
BY_INTENT = {
    "00080005": "the JSON is UTF-8, so Specific Character Set says so (PS3.18 F.2)",
    "7FE00010": "Pixel Data is always referred to, and left out for video (OHIF waits for it otherwise)",
    "7FE00008": "Float Pixel Data is always referred to",
    "7FE00001": "the Extended Offset Table is of no use without the bytes that it counts in",
    "7FE00002": "the lengths that go with it",
    "FFFCFFFC": "Data Set Trailing Padding has no meaning (PS3.10 7.2)",
}


def _tolerant_pydicom(path: Path) -> dict[str, Any]:
    """What pydicom makes of a file; binary values of any size as the digest of their bytes."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data_set = pydicom.dcmread(path, force=True)
        return data_set.to_json_dict(bulk_data_threshold=0, bulk_data_element_handler=lambda e: _digest(e.value))


def _digest(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()


def _digests(content: bytes, found: Scan) -> dict[str, Any]:
    """Our data set, binary values as the digest of their bytes, wherever the JSON says that they are."""
    source = inflate(content, found.dataset_offset) if found.inflated else content
    items = {item.path: item for item in found.bulk}
    little = lookup(found.transfer_syntax_uid).little_endian

    def element(path: str, given: dict[str, Any]) -> dict[str, Any]:
        if "InlineBinary" in given:
            raw = base64.b64decode(given["InlineBinary"])
            # Inline values are little endian (PS3.18 F.2.7), pydicom gives them as they lie.
            return {"vr": given["vr"], "BulkDataURI": _digest(raw if little else _swapped(raw, given["vr"]))}
        if "BulkDataURI" in given:
            item = items[path]
            assert given["BulkDataURI"].endswith(f"/instances/{found.uids.instance}/bulkdata/{path}")
            return {"vr": given["vr"], "BulkDataURI": _digest(source[item.offset : item.offset + item.length])}
        if given["vr"] == "SQ":
            values = given.get("Value", [])
            return {"vr": "SQ", "Value": [data_set(value, f"{path}/{at}/") for at, value in enumerate(values)]}
        return given

    def data_set(given: dict[str, Any], path: str = "") -> dict[str, Any]:
        return {tag: element(path + tag, value) for tag, value in given.items()}

    return data_set(dict(found.dataset))


def _swapped(raw: bytes, vr: str) -> bytes:
    width = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}.get(vr, 1)
    return b"".join(raw[at : at + width][::-1] for at in range(0, len(raw), width))


def _differences(ours: Any, theirs: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    for tag in sorted(set(ours) | set(theirs)):
        if tag in BY_INTENT or tag.endswith("0000"):
            continue
        one, other = ours.get(tag), theirs.get(tag)
        if one and other and one["vr"] == other["vr"] == "SQ":
            items, others = one.get("Value", []), other.get("Value", [])
            if len(items) != len(others):
                yield path + tag, f"{len(items)} items", f"{len(others)} items"
            for at, (item, another) in enumerate(zip(items, others, strict=False)):
                yield from _differences(item, another, f"{path}{tag}/{at}/")
        elif not _same(one, other):
            yield path + tag, one, other


def _same(one: Any, other: Any) -> bool:
    """Equal, but for how little is said differently."""
    if one is None or other is None:
        # An assigned UID: see test_missing_study_and_series_are_assigned.
        return bool(one) and str(one.get("Value", [""])[0]).startswith("2.25.")
    if one["vr"] != other["vr"]:
        # An ambiguous VR that pydicom settles only when it writes: OB or OW, US or SS.
        return {one["vr"], str(other["vr"])} in ({"OB", "OW"}, {"US", "SS"}, {"US", "OW"}) or " or " in str(other["vr"])
    return bool(_values(one) == _values(other))


def _values(element: dict[str, Any]) -> Any:
    """Empty values of several are null (PS3.18 F.2.5), and spaces that pad a value mean nothing (PS3.5 6.2)."""
    if "BulkDataURI" in element:
        return element["BulkDataURI"]
    if element["vr"] in ("SV", "UV"):
        # Beyond 53 bits ours are strings, as readers of JSON need them.
        return [int(value) for value in element.get("Value", [])]
    values = [value.strip(" \0") if isinstance(value, str) else value for value in element.get("Value", [])]
    return [value or None if isinstance(value, str | dict) else value for value in values]


def _bundled() -> list[Path]:
    folder = Path(pydicom.__file__).parent / "data"
    return sorted(path for kind in ("test_files", "charset_files") for path in (folder / kind).rglob("*") if path.is_file())


def _compare(path: Path) -> list[tuple[str, Any, Any]] | None:
    content = path.read_bytes()
    try:
        found = scan(content)
    except LightboxError:
        return None
    if any(flag.code in ("truncated", "bad-vr") for flag in found.flags):
        return None
    return list(_differences(_digests(content, found), _tolerant_pydicom(path)))


@pytest.mark.slow
def test_corpus_gives_the_json_that_pydicom_gives() -> None:
    odd = {
        file.name: rows
        for file in corpus_files()
        if file.name not in NOT_COMPARED and (rows := _compare(file.path))
    }
    assert odd == {}


def test_pydicoms_own_files_give_the_json_that_pydicom_gives() -> None:
    paths = _bundled()
    assert len(paths) > 80
    odd = {path.name: rows for path in paths if path.name not in NOT_COMPARED and (rows := _compare(path))}
    assert odd == {}


def _refusal(path: Path) -> str:
    """Why a file is refused; empty when it is not."""
    try:
        scan(path.read_bytes())
    except LightboxError as error:
        return str(error)
    return ""


def test_the_corpus_is_stored_or_refused_as_its_manifest_says() -> None:
    wrong = []
    for file in corpus_files():
        # A DICOMDIR can be parsed, but it is no instance (PS3.10 8.6).
        expected = file.storable and "DICOMDIR" not in file.name
        why = _refusal(file.path)
        if "doubtful" not in file.row["expected_parse"] and expected == bool(why):
            wrong.append((file.name, why))
    assert wrong == []


def test_what_has_no_uids_is_not_storable_rather_than_no_dicom() -> None:
    files = [file for file in corpus_files() if "not storable" in file.row["expected_parse"]]
    assert len(files) == 12
    for file in files:
        with pytest.raises(NotStorable, match="is missing"):
            scan(file.path.read_bytes())


def test_doubtful_files_are_stored_or_refused_with_a_reason() -> None:
    doubtful = [file for file in corpus_files() if "doubtful" in file.row["expected_parse"]]
    assert {file.name: why for file in doubtful if (why := _refusal(file.path))} == {
        "structure/no_preamble_dicm_in_data": "SOP Class UID is missing; an instance without it cannot be told from others"
    }


def _frame_bytes(content: bytes, found: Scan, number: int) -> bytes:
    source = inflate(content, found.dataset_offset) if found.inflated else content
    return b"".join(source[offset : offset + length] for offset, length in found.frames.ranges(number))


def _expected_frames(data_set: Dataset, count: int) -> list[bytes] | None:
    if lookup(data_set.file_meta.TransferSyntaxUID).encapsulated:
        return list(generate_frames(data_set.PixelData, number_of_frames=count))
    whole = data_set.PixelData
    bits = data_set.Rows * data_set.Columns * data_set.SamplesPerPixel * data_set.BitsAllocated
    if bits % 8 or data_set.PhotometricInterpretation == "YBR_FULL_422":
        return None
    return [whole[at * bits // 8 : (at + 1) * bits // 8] for at in range(count)]


def _has_frames(file: CorpusFile) -> bool:
    return file.storable and file.row["expected_decode"].startswith("ok") and bool(file.row["transfer_syntax_uid"])


@pytest.mark.slow
def test_frames_are_the_bytes_that_pydicom_gives() -> None:
    compared, wrong = 0, []
    for file in corpus_files():
        if not _has_frames(file) or "no declared" in file.row["transfer_syntax"]:
            continue
        content = file.path.read_bytes()
        found = scan(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data_set = pydicom.dcmread(file.path, force=True)
        if "PixelData" not in data_set or "TransferSyntaxUID" not in data_set.file_meta:
            continue
        expected = _expected_frames(data_set, found.frames.count)
        if expected is None:
            continue
        ours = [_frame_bytes(content, found, number) for number in range(1, found.frames.count + 1)]
        compared += 1
        if ours != expected:
            wrong.append((file.name, [len(frame) for frame in ours][:5], [len(frame) for frame in expected][:5]))
    assert wrong == []
    assert compared > 500


def test_no_range_leaves_the_object() -> None:
    for file in corpus_files():
        content = file.path.read_bytes()
        try:
            found = scan(content)
        except LightboxError:
            continue
        size = len(inflate(content, found.dataset_offset)) if found.inflated else len(content)
        for number in range(1, found.frames.count + 1):
            assert all(0 <= offset <= offset + length <= size for offset, length in found.frames.ranges(number)), file.name
        assert all(item.offset + max(0, item.length) <= size for item in found.bulk), file.name


def test_video_is_one_frame_and_its_pixel_data_is_not_referred_to() -> None:
    videos = [file for file in corpus_files() if lookup(file.row["transfer_syntax_uid"]).coding is Coding.VIDEO]
    assert len(videos) > 5
    for file in videos:
        found = scan(file.path.read_bytes())
        assert found.frames.count == 1
        assert "7FE00010" not in found.dataset


# ---- made instances


def made(**attributes: Any) -> bytes:
    """A small instance with these attributes, as Part 10 bytes."""
    data_set = Dataset()
    data_set.SOPClassUID, data_set.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3.1"
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID = "1.2.3.2", "1.2.3.3"
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword, value in attributes.items():
            if value is None:
                delattr(data_set, keyword)
            else:
                setattr(data_set, keyword, value)
        pydicom.dcmwrite(buffer, data_set, implicit_vr=False, little_endian=True)
    return file_meta("1.2.840.10008.5.1.4.1.1.7", "1.2.3.1", ExplicitVRLittleEndian) + buffer.getvalue()


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    """One element in explicit VR little endian with a 16-bit length."""
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


BARE = b"".join(
    (
        element(8, 0x16, b"UI", b"1.2.840.10008.5.1.4.1.1.7\0"),
        element(8, 0x18, b"UI", b"1.2.3.1\0"),
        element(0x20, 0x0D, b"UI", b"1.2.3.2\0"),
        element(0x20, 0x0E, b"UI", b"1.2.3.3\0"),
    )
)
META = file_meta("1.2.840.10008.5.1.4.1.1.7", "1.2.3.1", ExplicitVRLittleEndian)


def codes(found: Scan) -> set[str]:
    return {flag.code for flag in found.flags}


REFUSED = [
    (b"", NotDicom),
    (b"hello, this is no image at all, only text" * 10, NotDicom),
    (b"\x89PNG\r\n\x1a\n" + bytes(300), NotDicom),
    (b"PK\x03\x04" + bytes(300), NotDicom),
    (bytes(1000), NotDicom),
    (b"\xff" * 1000, NotDicom),
    (META, NotDicom),
    (made(SOPInstanceUID=None), NotStorable),
    (made(SOPClassUID=None), NotStorable),
    (made(SOPInstanceUID="1.2/../3"), NotStorable),
    (made(SOPInstanceUID=".."), NotStorable),
    (made(StudyInstanceUID=".."), NotStorable),
    (META + BARE[:-16] + element(0x20, 0x0E, b"UI", b"1.2.3\n"), NotStorable),
    (made(SOPInstanceUID="1." + "2" * 200), NotStorable),
    (META + BARE[:20], Truncated),
    (META + BARE[:60], Truncated),
]


@pytest.mark.parametrize(("content", "error"), REFUSED)
def test_refused(content: bytes, error: type[LightboxError]) -> None:
    with pytest.raises(error):
        scan(content)


FLAGGED = [
    (BARE, {"no-meta", "guessed-syntax"}),
    (META[128:] + BARE, {"bad-meta"}),
    (META[132:] + BARE, {"bad-meta"}),
    (b"MZ" + META[2:] + BARE, {"executable-preamble"}),
    (b"\x7fELF" + META[4:] + BARE, {"executable-preamble"}),
    (b"II*\0" + META[4:] + BARE, set()),
    (META + BARE + bytes(6), set()),
    (META + BARE + b"\x28\0\x10\0US\x02", {"truncated"}),
    (META + BARE + element(0x28, 0x10, b"US", b"\1\0\2"), {"bad-length"}),
    (META + BARE + element(0x20, 0x13, b"IS", b"seven "), {"bad-number"}),
    (META + BARE + element(0x20, 0x4000, b"LT", b"caf\xe9"), {"unreadable-text"}),
    (META + BARE + element(0x20, 0x4000, b"??", b"abcd"), {"bad-vr"}),
    (META + BARE + bytes(5000), {"trailing-zeros"}),
    (META + BARE + element(0x20, 0x0E, b"UI", b"1.2.3.9\0"), {"repeated-element"}),
    (META + BARE + element(0x20, 0x4000, b"LT", b"ab") * 2, {"repeated-element"}),
    (META + element(8, 5, b"US", b"ab") + BARE, {"unknown-charset"}),
    (META + element(8, 5, b"PN", b"ab") + BARE, {"unknown-charset"}),
    (META + BARE[:-16] + element(0x20, 0x0E, b"UI", b"1.2.3\\1.2.4 "), {"odd-uid"}),
    (made(SOPInstanceUID="1.02.3"), {"odd-uid"}),
    (made(SeriesInstanceUID=None), {"assigned-uid"}),
]


@pytest.mark.parametrize(("content", "expected"), FLAGGED)
def test_flagged_and_kept(content: bytes, expected: set[str]) -> None:
    assert codes(scan(content)) == expected


def test_of_an_attribute_that_stands_twice_the_last_counts() -> None:
    twice = META + BARE + element(0x20, 0x0E, b"UI", b"1.2.3.9\0")
    large = struct.pack("<HH2sHI", 0x42, 0x11, b"OB", 0, 2000)
    found = scan(twice + large + bytes(2000) + large + b"x" * 2000)
    assert found.uids.series == "1.2.3.9"
    (item,) = found.bulk
    assert item.offset == len(twice) + 2012 + 12


FIRST = [
    # A private attribute whose group number is the smaller read the other way round, in the declared order.
    ("1.2.840.10008.1.2", struct.pack("<HHI", 0x3F03, 0x10, 4) + b"ABC ", "3F030010"),
    ("1.2.840.10008.1.2.1", struct.pack("<HH2sH", 0x3F03, 0x10, b"LO", 4) + b"ABC ", "3F030010"),
]


@pytest.mark.parametrize(("syntax", "first", "tag"), FIRST)
def test_the_first_attribute_may_be_anybodys(syntax: str, first: bytes, tag: str) -> None:
    rest = BARE if syntax.endswith("2.1") else _implicit(BARE)
    found = scan(file_meta("1.2.840.10008.5.1.4.1.1.7", "1.2.3.1", syntax) + first + rest)
    assert found.dataset[tag] == {"vr": "LO", "Value": ["ABC"]}
    assert codes(found) == set()


def _implicit(explicit: bytes) -> bytes:
    """The elements of `explicit`, all with a 16-bit length, in implicit VR."""
    out, at = b"", 0
    while at < len(explicit):
        group, number, _, length = struct.unpack_from("<HH2sH", explicit, at)
        out += struct.pack("<HHI", group, number, length) + explicit[at + 8 : at + 8 + length]
        at += 8 + length
    return out


def test_missing_study_and_series_are_assigned_the_same_each_time() -> None:
    content = made(StudyInstanceUID=None, SeriesInstanceUID=None)
    first, again = scan(content), scan(content)
    assert first.uids == again.uids
    assert first.uids.study != first.uids.series
    assert first.dataset["0020000D"]["Value"] == [first.uids.study]
    assert len(first.uids.study) <= 64


def test_the_same_bytes_give_the_same_json() -> None:
    content = made(PatientName="Ångström^Ä", SpecificCharacterSet="ISO_IR 192")
    assert scan(content).json == scan(bytes(content)).json


def test_large_binary_values_are_referred_to_and_small_ones_inline() -> None:
    found = scan(made(EncapsulatedDocument=bytes(5000), ICCProfile=bytes(200)))
    assert found.dataset["00420011"] == {
        "vr": "OB",
        "BulkDataURI": "bulk:/studies/1.2.3.2/series/1.2.3.3/instances/1.2.3.1/bulkdata/00420011",
    }
    assert "InlineBinary" in found.dataset["00282000"]
    (item,) = found.bulk
    assert (item.path, item.vr, item.length) == ("00420011", "OB", 5000)
    assert orjson.loads(found.json) == found.dataset


def test_palettes_are_inline_however_large() -> None:
    found = scan(made(RedPaletteColorLookupTableData=bytes(131072)))
    assert "InlineBinary" in found.dataset["00281201"]


def test_bulk_data_inside_sequences_has_a_path() -> None:
    inner = Dataset()
    inner.EncapsulatedDocument = bytes(2000)
    found = scan(made(ReferencedImageSequence=Sequence([Dataset(), inner])))
    assert [item.path for item in found.bulk] == ["00081140/1/00420011"]


def _nested(depth: int) -> bytes:
    begin = struct.pack("<HH2sHI", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return META + BARE[:60] + begin * depth + end * depth + BARE[60:]


def test_depth_is_bounded() -> None:
    with pytest.raises(LimitExceeded, match="deep"):
        scan(META + BARE + _nested(10_000)[len(META) + 60 :])
    assert scan(META + BARE + _nested(60)[len(META) + 60 : -len(BARE) + 60]).uids.instance == "1.2.3.1"


@pytest.mark.parametrize(
    ("limits", "content"),
    [
        (Limits(elements=5000), META + BARE + element(0x20, 0x4000, b"LT", b"") * 9000),
        (Limits(header_bytes=1 << 20), META + BARE + element(0x20, 0x4000, b"LT", bytes(60_000)) * 2000),
    ],
)
def test_width_and_weight_are_bounded(limits: Limits, content: bytes) -> None:
    with pytest.raises(LimitExceeded):
        scan(content, limits)


def _deflated(data_set: bytes) -> bytes:
    meta = file_meta("1.2.840.10008.5.1.4.1.1.7", "1.2.3.1", "1.2.840.10008.1.2.1.99")
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return meta + squeezer.compress(data_set) + squeezer.flush()


def test_deflated_data_sets_are_inflated_within_bounds() -> None:
    found = scan(_deflated(BARE))
    assert found.inflated
    assert found.uids.instance == "1.2.3.1"
    bomb = BARE + struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, 1 << 28) + bytes(1 << 28)
    with pytest.raises(LimitExceeded, match="inflates"):
        scan(_deflated(bomb))
    with pytest.raises(LimitExceeded, match="inflates"):
        scan(_deflated(BARE), Limits(inflated_bytes=len(BARE) - 1))


def test_deflated_data_sets_as_they_should_not_be() -> None:
    meta = file_meta("1.2.840.10008.5.1.4.1.1.7", "1.2.3.1", "1.2.840.10008.1.2.1.99")
    wrapped = scan(meta + zlib.compress(BARE))
    assert (wrapped.inflated, codes(wrapped)) == (True, set())
    plain = scan(meta + BARE)
    assert (plain.inflated, plain.transfer_syntax_uid, codes(plain)) == (False, ExplicitVRLittleEndian, {"wrong-syntax"})
    noise = hashlib.sha512(b"noise").digest() * 40
    cut = scan(_deflated(BARE + struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, len(noise)) + noise)[:-20])
    assert "truncated" in codes(cut)


def test_a_broken_deflated_stream_is_refused_with_its_reason() -> None:
    with pytest.raises(Truncated, match="inflated"):
        scan(file_meta("1.2.3", "1.2.3.1", "1.2.840.10008.1.2.1.99") + b"\x07\xff" * 40)


def test_nothing_of_the_content_is_held_afterwards() -> None:
    content = bytearray(made(EncapsulatedDocument=bytes(5000)))
    scan(memoryview(content))
    content.append(0)  # raises BufferError while anybody holds a view


NUMBERS = [
    (b"1", "IS", [1]),
    (b" 12 ", "IS", [12]),
    (b"1.0 ", "IS", [1]),
    (b"1\\\\3", "IS", [1, None, 3]),
    (b"1.50", "DS", [1.5]),
    (b"1e3\\ -2.5 ", "DS", [1000.0, -2.5]),
    (b"1_0 ", "DS", ["1_0"]),
    (b"nan ", "DS", ["nan"]),
    (b"", "DS", None),
]


@pytest.mark.parametrize(("raw", "vr", "expected"), NUMBERS)
def test_numbers(raw: bytes, vr: str, expected: list[Any] | None) -> None:
    found = scan(META + BARE + element(0x20, 0x4001, vr.encode(), raw))
    assert found.dataset["00204001"] == ({"vr": vr} if expected is None else {"vr": vr, "Value": expected})


def test_infinities_are_strings() -> None:
    raw = struct.pack("<4d", 1.5, float("inf"), float("-inf"), float("nan"))
    found = scan(META + BARE + element(0x20, 0x4001, b"FD", raw))
    assert orjson.loads(found.json)["00204001"]["Value"] == [1.5, "Infinity", "-Infinity", "NaN"]


def test_a_vr_that_was_guessed_is_not_remembered() -> None:
    """The same bytes are a signed number in one image and an unsigned one in the next (PS3.5 6.2.2, PS3.3 C.7.6.3.1.1)."""
    found = []
    for representation in (0, 1, 0):
        one = instances.instance(PixelRepresentation=representation, SmallestImagePixelValue=5)
        at = one.index(struct.pack("<HH", 0x0028, 0x0106))
        odd = one[: at + 4] + struct.pack("<I", 2) + struct.pack("<H", 65000) + one[at + 10 :]
        found.append(scan(odd).dataset["00280106"])
    assert found[0] == found[2]
    assert [one["Value"] for one in found] == [[65000], [-536], [65000]]
