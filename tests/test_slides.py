"""Slides of many tiles: stored however many there are, with little of them in memory, and a tile costs a tile; bombs are still refused."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final
from xml.etree import ElementTree

import numpy as np
import orjson
import pytest
import zstandard
from PIL import Image
from pydicom import DataElement, dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from starlette.testclient import TestClient

from storage.archive import Archive
from storage.differences import Version, differences
from storage.errors import LightboxError, LimitExceeded
from storage.index import Index, rows
from storage.item_parts import ITEMS
from storage.per_frame import PER_FRAME_GROUPS, Items
from storage.scanner import Limits, Scan, scan
from storage.types import Scope
from tests.support import slides, web
from tests.support.counting import bytecodes
from tests.support.entries import entry
from tests.support.slides import element, group, item, sequence, slide

MANY: Final = 2 * ITEMS + 88
PATH: Final = f"studies/1.2.3/series/1.2.3.{MANY}/instances/1.2.3.{MANY}.1"
COMMENT: Final = 0x00204000


def whole(found: Scan) -> Any:
    return orjson.loads(b"".join(found.encoded.pieces()))


def plainly(content: bytes) -> Any:
    """The same, of a data set that is in memory as it was read."""
    found = scan(content, Limits(frames=0))
    assert found.encoded.parts is None
    assert orjson.loads(found.json) == found.dataset
    return found.dataset


# --- what is kept ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tiles", [1, ITEMS - 1, ITEMS, ITEMS + 1, 2 * ITEMS, MANY])
def test_whatever_way_they_are_read_they_are_the_same(tiles: int) -> None:
    content = slide(tiles)
    found, expected = scan(content), plainly(content)
    assert (found.encoded.parts is not None) is (tiles >= ITEMS)
    assert whole(found) == expected
    items = found.dataset[PER_FRAME_GROUPS]["Value"]
    assert list(items) == expected[PER_FRAME_GROUPS]["Value"]
    assert [items[number] for number in (0, tiles // 2, tiles - 1)] == [expected[PER_FRAME_GROUPS]["Value"][number] for number in (0, tiles // 2, tiles - 1)]
    assert found.frames.count == tiles


@pytest.mark.parametrize("tiles", [ITEMS - 1, 2 * ITEMS, MANY])
def test_they_are_stored_and_read_again_and_others_can_read_them_too(tiles: int) -> None:
    content = slide(tiles)
    found = scan(content)
    stored = rows.stored(found.encoded)
    again = rows.encoded(stored)
    assert list(again.pieces()) == list(found.encoded.pieces())
    assert again.dataset() | {PER_FRAME_GROUPS: 0} == dict(found.dataset) | {PER_FRAME_GROUPS: 0}
    assert list(again.dataset()[PER_FRAME_GROUPS]["Value"]) == list(found.dataset[PER_FRAME_GROUPS]["Value"])
    assert (PER_FRAME_GROUPS in again.without_items()) is (tiles < ITEMS)
    assert again.checksum == found.encoded.checksum
    assert orjson.loads(zstandard.ZstdDecompressor().stream_reader(stored, read_across_frames=True).read()) == plainly(content)


def test_items_that_refer_to_bulk_data_have_its_address() -> None:
    """Which is made of UIDs that the whole data set is read for; and what is in strings does not look like the end of an item."""
    large, odd = bytes(range(256)) * 8, b'},\n{"52009230":{"vr":"SQ","Value":[] '
    own = {3: element(COMMENT, b"LT", odd), ITEMS + 7: element(0x00091001, b"OB", large), MANY - 1: element(0x00091001, b"OB", large)}
    groups = b"".join(item(own.get(number, b"") + group(number + 1)[8:]) for number in range(MANY))
    content = slide(MANY, groups=groups)
    found = scan(content)
    assert whole(found) == plainly(content)
    assert [place.path for place in found.bulk if place.path.startswith(PER_FRAME_GROUPS)] == [f"{PER_FRAME_GROUPS}/{number}/00091001" for number in sorted(own)[1:]]
    items = found.dataset[PER_FRAME_GROUPS]["Value"]
    assert items[ITEMS + 7]["00091001"]["BulkDataURI"].endswith(f"1.2.3.{MANY}.1/bulkdata/{PER_FRAME_GROUPS}/{ITEMS + 7}/00091001")
    assert items[3]["00204000"]["Value"] == [odd.decode().rstrip()]


def test_a_sequence_of_undefined_length_is_the_same() -> None:
    groups = [group(number) for number in range(1, MANY + 1)]
    content = slide(MANY).replace(element(0x52009230, b"SQ", b"".join(groups)), sequence(0x52009230, *groups))
    found = scan(content)
    assert found.encoded.parts is not None
    assert whole(found) == plainly(content) == plainly(slide(MANY)) | {"7FE00010": found.dataset["7FE00010"]}


def test_of_several_sequences_the_last_counts() -> None:
    """As of any attribute that stands twice."""
    twice = element(0x52009230, b"SQ", b"".join(map(group, range(1, MANY + 1))))
    content = slide(MANY).replace(twice, twice + element(0x52009230, b"SQ", group(9)))
    assert whole(scan(content)) == plainly(content)
    assert len(scan(content).dataset[PER_FRAME_GROUPS]["Value"]) == 1


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian], ids=lambda syntax: syntax.name)
def test_in_every_encoding_they_are_what_pydicom_reads(syntax: UID) -> None:
    dataset = dcmread(io.BytesIO(slide(MANY)))
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset["PixelData"] = DataElement(0x7FE00010, "OW", bytes(slides.SIDE**2) * MANY)
    file = io.BytesIO()
    dcmwrite(file, dataset, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian, force_encoding=True)
    found = scan(file.getvalue())
    assert found.encoded.parts is not None
    assert (found.inflated, found.frames.count, found.flags) == (syntax.is_deflated, MANY, ())
    file.seek(0)
    expected = dcmread(file).to_json_dict(bulk_data_threshold=0, bulk_data_element_handler=lambda _element: found.dataset["7FE00010"]["BulkDataURI"])
    assert whole(found) == expected


@pytest.mark.parametrize("vr", [b"LO", b"US", b"OB", b"UN"])
@pytest.mark.parametrize("value", [b"", b"ab"])
def test_what_stands_behind_them_with_another_vr_counts_too(vr: bytes, value: bytes) -> None:
    groups = element(0x52009230, b"SQ", b"".join(map(group, range(1, MANY + 1))))
    content = slide(MANY).replace(groups, groups + element(0x52009230, vr, value))
    found = scan(content)
    assert whole(found) == found.dataset == plainly(content)


def _comment(number: int) -> bytes:
    return element(COMMENT, b"LT", f"tile {number}".ljust(10).encode())


def _number(value: str) -> bytes:
    return element(0x0040072A, b"DS", value.encode() + b" " * (len(value) % 2))


def _inside(number: int, **how: bool) -> bytes:
    return sequence(0x00209111, item(_comment(number), **how), item(b"", **how), item(_comment(number + 1) + _number("1"), **how))


# Contents of the item of a tile, from 0: some are all like each other, some never.
KINDS_OF_ITEMS: Final[dict[str, Callable[[int], bytes]]] = {
    "tiles": lambda number: group(number + 1)[8:],
    "nothing": lambda _number: b"",
    "an empty sequence": lambda number: element(0x00209111, b"SQ", b"") + _comment(number),
    "an empty sequence of undefined length": lambda number: sequence(0x00209111) + _comment(number),
    "empty values": lambda number: element(COMMENT, b"LT", b"") + _number("" if number % 3 else "1.5"),
    "numbers of any length": lambda number: _number(f"{number * 7.25:.{number % 5}f}"),
    "several numbers": lambda number: _number(f"{number}\\{number / 4}\\-1e3"),
    "numbers that are none": lambda number: _number(("1,5", "2.5", "nan")[number % 3]),
    "letters": lambda number: element(0x00100010, b"PN", f"Möller^{number % 9}".encode() + b"=x"),
    "letters in a character set of the item": lambda number: element(0x00080005, b"CS", b"ISO_IR 100") + element(0x00100010, b"PN", f"M\xf6ller^{number % 10}".encode("latin-1") + b" "),
    "text that is not in the character set": lambda number: element(COMMENT, b"LT", b"\xff\xfe" if number % 2 else b"ab"),
    "sequences of undefined length": lambda number: _inside(number),
    "items of undefined length": lambda number: _inside(number, delimited=True),
    "numbers of several VRs": lambda number: element(0x0048021E, b"SL", struct.pack("<i", -number)) + element(0x00189306, b"FD", struct.pack("<d", number / 3)) + element(0x00280009, b"AT", struct.pack("<HH", number, 16)),
    "integers of the wrong length": lambda number: element(0x0048021E, b"SL", bytes(2 + 2 * (number % 2))),
    "private": lambda number: element(0x00090010, b"LO", b"ACME") + element(0x00091001, b"DS", f"{number:4}".encode()),
    "private of no known creator": lambda number: element(0x00091001, b"DS", f"{number:4}".encode()),
    "signed or not": lambda number: element(0x00280103, b"US", bytes((number % 2, 0))) + element(0x00280120, b"US", b"\xff\xff"),
    "bytes": lambda number: element(0x00091001, b"OB", bytes((number % 256, 0))),
    "group lengths": lambda number: element(0x00200000, b"UL", bytes(4)) + _comment(number),
    "the same attribute twice": lambda number: _comment(number) + _comment(number + 1),
    "a delimiter too much": lambda number: _comment(number) + struct.pack("<HHI", 0xFFFE, 0xE00D, 0),
    "values that are longer than the item": lambda number: _comment(number) + element(0x00204001, b"LT", b"ab")[:-2],
    "an unknown VR": lambda number: element(0x00204001, b"ZZ", b"ab") + _comment(number),
    "implicit VR": lambda number: struct.pack("<HHI", 0x0020, 0x4000, 4) + f"{number % 9000 + 1000}".encode(),
    "two kinds by turns": lambda number: _comment(number) if number % 2 else _number("12.5") + b"",
}


@pytest.mark.parametrize("delimited", [False, True])
@pytest.mark.parametrize("kind", KINDS_OF_ITEMS)
def test_items_that_are_like_others_are_what_reading_them_gives(kind: str, delimited: bool) -> None:
    groups = b"".join(item(KINDS_OF_ITEMS[kind](number), delimited=delimited) for number in range(MANY))
    content = slide(MANY, groups=groups)
    found, expected = scan(content), scan(content, Limits(frames=0))
    assert whole(found) == expected.dataset
    assert (found.flags, found.frames) == (expected.flags, expected.frames)
    # As it is written, and not only in what it means.
    assert b"".join(found.encoded.pieces()).replace(b",\n", b",") == expected.json


def _outcome(content: bytes, limits: Limits | None) -> Any:
    try:
        found = scan(content, limits)
    except LightboxError as error:
        return type(error), str(error)
    return whole(found), found.flags, found.frames, found.bulk


def test_damaged_items_are_what_reading_them_gives() -> None:
    """Whatever byte of them is another: in a length, a tag, a VR or a value."""
    content, chance = slide(ITEMS + 40), random.Random(5)
    begin, end = content.index(group(1)), content.index(group(ITEMS + 40))
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(end - 40 * len(group(1)), end) if chance.randrange(4) else chance.randrange(begin, end)
            damaged[at] = chance.choice((0, 1, 8, 0xFF, chance.randrange(256), damaged[at] ^ 1))
        assert _outcome(bytes(damaged), None) == _outcome(bytes(damaged), Limits(frames=0))


def test_a_tile_takes_less_than_a_third_of_the_instructions() -> None:
    taken = [bytecodes(partial(scan, slide(tiles))) for tiles in (2 * ITEMS, 4 * ITEMS)]
    each = (taken[1] - taken[0]) / (2 * ITEMS)
    plain = [bytecodes(partial(scan, slide(tiles), Limits(frames=0))) for tiles in (2 * ITEMS, 4 * ITEMS)]
    print(f"{each:.0f} of {(plain[1] - plain[0]) / (2 * ITEMS):.0f} bytecodes")
    assert each < (plain[1] - plain[0]) / (2 * ITEMS) / 3


# --- limits ----------------------------------------------------------------------------------------------------------


def test_a_slide_may_have_more_elements_than_fit_in_memory() -> None:
    found = scan(slide(3000), Limits(elements=9000))
    assert len(found.dataset[PER_FRAME_GROUPS]["Value"]) == 3000


NOTHING: Final = item(b"")
TINY: Final = item(element(COMMENT, b"LT", b""))


@pytest.mark.parametrize(
    ("content", "limits"),
    [
        pytest.param(slide(3000, said=300), Limits(elements=9000), id="more items than frames"),
        pytest.param(slide(3000, said=0), Limits(elements=9000), id="no frames"),
        pytest.param(slide(3000), Limits(elements=9000, frames=400), id="more items than there may be"),
        pytest.param(slide(3000), Limits(frame_elements=9000), id="more elements of frames than there may be"),
        pytest.param(slide(600, groups=item(TINY[8:] * 300) * 600), Limits(elements=9000), id="an item of too many elements"),
        pytest.param(slide(3000), Limits(header_bytes=9000), id="too much of it"),
        pytest.param(slide(1, said=2**31 - 1, groups=NOTHING * 300_000), None, id="more frames than there is room for"),
        pytest.param(slide(3000, groups=NOTHING * 30_000), Limits(elements=20_000), id="nothing, many times"),
        pytest.param(slide(1, said=2**31 - 1, groups=element(0x00209111, b"SQ", NOTHING * 210_000).join((struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF), b""))), None, id="inside an item"),
        pytest.param(slide(1, OtherPatientIDsSequence=[Dataset()] * 210_000), None, id="another sequence"),
        pytest.param(slide(1) + element(0x00091010, b"SQ", NOTHING * 210_000), None, id="a private sequence"),
        pytest.param(slide(3000).replace(element(0x52009230, b"SQ", b"")[:8], element(0x52009231, b"SQ", b"")[:8]), Limits(elements=9000), id="a sequence beside it"),
    ],
)
def test_bombs_are_refused(content: bytes, limits: Limits | None) -> None:
    with pytest.raises(LimitExceeded, match="more than"):
        scan(content, limits)


def test_the_same_room_is_for_all_sequences_of_one_name() -> None:
    groups = element(0x52009230, b"SQ", b"".join(map(group, range(1, MANY + 1))))
    content = slide(MANY).replace(groups, groups * 20)
    with pytest.raises(LimitExceeded):
        scan(content, Limits(elements=14 * MANY))


def test_few_of_them_are_in_memory_at_a_time() -> None:
    """As they are read, the items of a slide of 4,000 tiles take 20 MB."""
    content = slide(4000)
    scan(slide(ITEMS))
    tracemalloc.start()
    found = scan(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"{peak >> 10} KB")
    assert found.frames.count == 4000
    assert peak < 5 << 20


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(lambda number: element(COMMENT, b"LT", f"{number:08}".encode() + b"x" * 4000), id="long texts, each another"),
        pytest.param(lambda number: element(COMMENT, b"LT", b"x" * (number // 2 * 2)) + element(0x00209111, b"SQ", b""), id="ever other lengths"),
    ],
)
def test_what_is_remembered_of_them_is_little(content: Callable[[int], bytes]) -> None:
    whole = slide(4000, groups=b"".join(item(content(number)) for number in range(4000)))
    tracemalloc.start()
    scan(whole)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"{peak >> 10} KB")
    assert peak < 12 << 20


@pytest.mark.parametrize(("other", "same"), [(slide(MANY), True), (slide(MANY, groups=b"".join(map(group, range(2, MANY + 2)))), False), (slide(MANY, groups=group(1) * (MANY - 1)), False)])
def test_what_differs_between_two_of_them_is_told(other: bytes, same: bool) -> None:
    content = slide(MANY)
    found = differences(*(Version(scan(one), memoryview(one)) for one in (content, other)))
    assert [one.tag for one in found] == ([] if same else [PER_FRAME_GROUPS])


def test_the_index_gives_them_back(index: Index) -> None:
    found = scan(slide(MANY))
    index.add([replace(entry("1.2.3", f"1.2.3.{MANY}", f"1.2.3.{MANY}.1"), scan=found)])
    scope = Scope("1.2.3", f"1.2.3.{MANY}", f"1.2.3.{MANY}.1")
    layout = index.layout(scope)
    assert layout is not None
    assert layout.dataset() == found.dataset
    assert layout.size < 40 * MANY
    assert [b"".join(one.pieces()) for one in index.metadata(scope)] == [b"".join(found.encoded.pieces())]


# --- on the web ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def content() -> bytes:
    return slide(MANY)


@pytest.fixture
def client(archive: Archive, content: bytes) -> Iterator[TestClient]:
    with web.client(archive) as client:
        assert web.stow(client, [content]).status_code == 200
        yield client


def test_metadata_are_what_pydicom_reads(client: TestClient, content: bytes) -> None:
    stored = dcmread(io.BytesIO(content), stop_before_pixels=True)
    for path in (PATH, PATH.partition("/instances")[0]):
        answer = client.get(f"{path}/metadata", headers={"Accept": "application/dicom+json"})
        (dataset,) = answer.json()
        assert len(dataset[PER_FRAME_GROUPS]["Value"]) == MANY
        for number in (0, ITEMS - 1, ITEMS, MANY - 1):
            assert Dataset.from_json(dataset[PER_FRAME_GROUPS]["Value"][number]) == stored.PerFrameFunctionalGroupsSequence[number]
        assert client.get(f"{path}/metadata", headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304


def test_metadata_in_xml_have_them_all(client: TestClient) -> None:
    answer = client.get(f"{PATH}/metadata", headers={"Accept": 'multipart/related; type="application/dicom+xml"'})
    document = ElementTree.fromstring(answer.content.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0])
    model = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"
    items = document.findall(f"{model}DicomAttribute[@tag='{PER_FRAME_GROUPS}']/{model}Item")
    assert [one.get("number") for one in items] == [str(number) for number in range(1, MANY + 1)]
    (pixels,) = document.findall(f"{model}DicomAttribute[@tag='7FE00010']/{model}BulkData")
    assert str(pixels.get("uri")).endswith(f"/{PATH}/bulkdata/7FE00010")
    assert "bulk:" not in str(pixels.get("uri"))


def test_tiles_are_those_of_their_number(client: TestClient) -> None:
    for number in (1, 2, ITEMS, ITEMS + 1, MANY):
        frame = client.get(f"{PATH}/frames/{number}", headers={"Accept": 'multipart/related; type="image/jpeg"; transfer-syntax=*'})
        assert slides.tile(number) in frame.content
        picture = np.asarray(Image.open(io.BytesIO(client.get(f"{PATH}/frames/{number}/rendered?window=128,256,LINEAR_EXACT", headers={"Accept": "image/png"}).content)).convert("L"))
        assert picture.shape == (slides.SIDE, slides.SIDE)
        assert abs(int(picture[8, 8]) - (8 + 15 * ((number - 1) % slides.KINDS))) <= 1


def test_searches_leave_out_what_is_no_answer_to_them(client: TestClient) -> None:
    (found,) = client.get(f"{PATH.partition('/instances')[0]}/instances?includefield=all").json()
    assert found["00280008"]["Value"] == [MANY]
    assert PER_FRAME_GROUPS not in found


def test_items_are_read_one_by_one(archive: Archive, client: TestClient) -> None:
    (one,) = archive.index.metadata(Scope("1.2.3", f"1.2.3.{MANY}"))
    items = one.dataset()[PER_FRAME_GROUPS]["Value"]
    assert isinstance(items, Items)
    assert items[MANY - 1] == list(items)[-1]
