"""Where frames lie: native by arithmetic, encapsulated by tables, by counting or by looking (PS3.5 8.1.1, A.4)."""

from __future__ import annotations

import struct

import pytest

from storage.errors import LimitExceeded, NotFound
from storage.frames import FrameTable
from storage.part10 import file_meta
from storage.scanner import Limits, Scan, scan

EXPLICIT, RLE, JPEG, JPEG_2000 = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.90",
)
MP4 = "1.2.840.10008.1.2.4.102"
CT = "1.2.840.10008.5.1.4.1.1.2"
_LONG = (b"OB", b"OW", b"OF", b"OD", b"OV", b"UN", b"SQ")


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2) if vr == b"UI" else b" " * (len(value) % 2)
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    return head + struct.pack("<xxI" if vr in _LONG else "<H", len(value)) + value


def short(tag: int, number: int) -> bytes:
    return element(tag, b"US", struct.pack("<H", number))


IDENTIFIERS = (
    element(0x00080016, b"UI", CT.encode())
    + element(0x00080018, b"UI", b"1.2.3.4")
    + element(0x0020000D, b"UI", b"1.2.3.2")
    + element(0x0020000E, b"UI", b"1.2.3.3")
)


def described(
    rows: int = 2,
    columns: int = 2,
    bits: int = 16,
    samples: int = 1,
    frames: bytes | None = None,
    colours: bytes = b"MONOCHROME2",
) -> bytes:
    """Identifiers and the Image Pixel module (PS3.3 C.7.6.3), in explicit VR little endian."""
    return b"".join(
        (
            IDENTIFIERS,
            short(0x00280002, samples),
            element(0x00280004, b"CS", colours),
            b"" if frames is None else element(0x00280008, b"IS", frames),
            short(0x00280010, rows),
            short(0x00280011, columns),
            short(0x00280100, bits),
        )
    )


def item(value: bytes, tag: int = 0xE000) -> bytes:
    return struct.pack("<HHI", 0xFFFE, tag, len(value)) + value


def encapsulated(fragments: list[bytes], table: bytes = b"", end: bytes | None = None) -> bytes:
    begin = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF)
    return begin + item(table) + b"".join(map(item, fragments)) + (item(b"", 0xE0DD) if end is None else end)


def longs(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


def extended(offsets: list[int], lengths: list[int]) -> bytes:
    """Extended Offset Table and its lengths (PS3.3 C.7.6.3.1.8)."""
    return element(0x7FE00001, b"OV", struct.pack(f"<{len(offsets)}Q", *offsets)) + element(
        0x7FE00002, b"OV", struct.pack(f"<{len(lengths)}Q", *lengths)
    )


def frames_of(content: bytes, found: Scan) -> list[list[bytes]]:
    table = found.frames
    return [
        [content[offset : offset + length] for offset, length in table.ranges(number)]
        for number in range(1, table.count + 1)
    ]


def check(content: bytes, expected: list[list[bytes]], flags: set[str]) -> None:
    found = scan(content)
    assert frames_of(content, found) == expected
    assert {flag.code for flag in found.flags} == flags
    assert FrameTable.from_bytes(found.frames.to_bytes()) == found.frames


A, B, C = b"\xff\xd8a1", b"\xff\xd8b1", b"\xff\xd8c1"
REST = b"more\xff\xd9"
J2K = b"\xff\x4f\xff\x51"
SHORT, LONG, NONE = {"short-pixel-data"}, {"long-pixel-data"}, set[str]()

ENCAPSULATED: list[tuple[str, str, bytes | None, bytes, list[list[bytes]], set[str]]] = [
    # what, transfer syntax, Number of Frames, pixel data, frames as their fragments, flags
    ("one fragment", JPEG, None, encapsulated([A]), [[A]], NONE),
    ("one frame of several fragments", JPEG, b"1", encapsulated([A, REST]), [[A, REST]], NONE),
    ("a fragment each", JPEG, b"3", encapsulated([A, B, C]), [[A], [B], [C]], NONE),
    ("a fragment each, RLE", RLE, b"2", encapsulated([b"aa", b"bb"]), [[b"aa"], [b"bb"]], NONE),
    ("by the basic table", JPEG, b"2", encapsulated([A, REST, B], longs(0, 26)), [[A, REST], [B]], NONE),
    ("by looking", JPEG, b"2", encapsulated([A, REST, B, REST]), [[A, REST], [B, REST]], NONE),
    ("by looking, JPEG 2000", JPEG_2000, b"2", encapsulated([J2K, b"xx", J2K, b"yy"]), [[J2K, b"xx"], [J2K, b"yy"]], NONE),
    ("a basic table past the end", JPEG, b"2", encapsulated([A, REST, B], longs(0, 9999)), [[A, REST], [B]], {"bad-offset-table"}),
    ("a basic table between fragments", JPEG, b"2", encapsulated([A, REST, B], longs(0, 5)), [[A, REST], [B]], {"bad-offset-table"}),
    ("a basic table backwards", JPEG, b"2", encapsulated([A, REST, B], longs(26, 0)), [[A, REST], [B]], {"bad-offset-table"}),
    ("a basic table of another length", JPEG, b"2", encapsulated([A, REST, B], longs(0)), [[A, REST], [B]], {"bad-offset-table"}),
    ("a basic table of odd bytes", JPEG, b"2", encapsulated([A, REST, B], b"xyz"), [[A, REST], [B]], {"bad-offset-table"}),
    ("a table that is not needed", JPEG, b"2", encapsulated([A, B], longs(0, 12)), [[A], [B]], NONE),
    ("a wrong table that is not needed", JPEG, b"2", encapsulated([A, B], longs(0, 13)), [[A], [B]], {"bad-offset-table"}),
    ("a short table that is not needed", JPEG, b"2", encapsulated([A, B], longs(0)), [[A], [B]], {"bad-offset-table"}),
    ("empty fragments", JPEG, b"2", encapsulated([A, b"", B, b""]), [[A], [B]], NONE),
    ("the extended table", JPEG, b"2", extended([0, 12], [3, 4]) + encapsulated([A, B]), [[A[:3]], [B]], NONE),
    ("an extended table past the end", JPEG, b"2", extended([0, 1 << 63], [4, 4]) + encapsulated([A, B]), [[A], [B]], {"bad-offset-table"}),
    ("extended lengths past the end", JPEG, b"2", extended([0, 12], [4, 5]) + encapsulated([A, B]), [[A], [B]], {"bad-offset-table"}),
    ("an extended table of odd bytes", JPEG, b"2", element(0x7FE00001, b"OV", b"abcdef") + encapsulated([A, B]), [[A], [B]], {"bad-offset-table"}),
    ("more frames than fragments", JPEG, b"3", encapsulated([A, B]), [[A], [B]], {"frames-unclear"}),
    ("more frames than can be", JPEG, b"999999999999", encapsulated([A, B]), [[A], [B]], {"frames-unclear"}),
    ("nothing to tell by", RLE, b"2", encapsulated([b"aa", b"bb", b"cc"]), [[b"aa"], [b"bb"]], {"frames-unclear"}),
    ("a negative number of frames", JPEG, b"-3", encapsulated([A]), [[A]], {"bad-frame-count"}),
    ("a number of frames that is none", JPEG, b"many", encapsulated([A]), [[A]], {"bad-number"}),
    ("no fragments", JPEG, b"2", encapsulated([]), [], {"no-fragments"}),
    ("not delimited", JPEG, b"2", encapsulated([A, B], end=b""), [[A], [B]], {"truncated"}),
    ("cut off", JPEG, b"2", encapsulated([A, B], end=b"")[:-1], [[A], [B[:3]]], {"truncated"}),
    ("something else behind", JPEG, b"2", encapsulated([A, B], end=element(0xFFFCFFFC, b"OB", b"")), [[A], [B]], {"bad-fragments"}),
    ("a video is one frame", MP4, b"250", encapsulated([A, B, C]), [[A, B, C]], NONE),
    ("encapsulated in a native syntax", EXPLICIT, b"2", encapsulated([A, B]), [[A], [B]], {"wrong-syntax"}),
    ("native in an encapsulated syntax", JPEG, None, element(0x7FE00010, b"OW", b"12345678"), [[b"12345678"]], {"wrong-syntax"}),
]


@pytest.mark.parametrize(("what", "syntax", "count", "pixels", "expected", "flags"), ENCAPSULATED, ids=[r[0] for r in ENCAPSULATED])
def test_encapsulated_frames(
    what: str, syntax: str, count: bytes | None, pixels: bytes, expected: list[list[bytes]], flags: set[str]
) -> None:
    check(file_meta(CT, "1.2.3.4", syntax) + described(frames=count) + pixels, expected, flags)


def pixel_data(value: bytes, tag: int = 0x7FE00010, vr: bytes = b"OW") -> bytes:
    return element(tag, vr, value)


W = b"12345678"
SIZE = {"rows": 65535, "columns": 65535, "bits": 65535, "samples": 65535, "frames": b"9007199254740991"}
YBR = {"rows": 1, "columns": 4, "bits": 8, "samples": 3, "frames": b"2", "colours": b"YBR_FULL_422"}

NATIVE: list[tuple[str, bytes, bytes, list[list[bytes]], set[str]]] = [
    # what, description, pixel data, frames, flags
    ("one", described(), pixel_data(W), [[W]], NONE),
    ("two", described(frames=b"2"), pixel_data(W + W[::-1]), [[W], [W[::-1]]], NONE),
    ("colour", described(bits=8, samples=3), pixel_data(W + b"9abc"), [[W + b"9abc"]], NONE),
    ("12 bits allocated", described(bits=12, frames=b"2"), pixel_data(W + b"9abc"), [[b"123456"], [b"789abc"]], NONE),
    ("float", described(), pixel_data(W * 2, 0x7FE00008, b"OF"), [[W * 2]], NONE),
    ("double float", described(), pixel_data(W * 4, 0x7FE00009, b"OD"), [[W * 4]], NONE),
    ("a byte of padding", described(1, 3, 8), pixel_data(b"123"), [[b"123"]], NONE),
    ("longer than it says", described(), pixel_data(W * 2), [[W]], LONG),
    ("the second is cut off", described(frames=b"3"), pixel_data(W + b"1234"), [[W], [b"1234"]], SHORT),
    ("empty", described(), pixel_data(b""), [], NONE),
    ("no size", IDENTIFIERS, pixel_data(W), [[W]], {"no-image-size"}),
    ("a size of nothing", described(0, 0), pixel_data(W), [[W]], {"no-image-size"}),
    ("more frames than can be", described(frames=b"9007199254740991"), pixel_data(W), [[W]], SHORT),
    ("larger than can be", described(**SIZE), pixel_data(W), [[W]], SHORT),  # type: ignore[arg-type]
    ("chrominance shared", described(**YBR), pixel_data(W * 2), [[W], [W]], NONE),  # type: ignore[arg-type]
    ("chrominance not shared", described(**YBR), pixel_data(W * 3), [[W + W[:4]], [W[4:] + W]], NONE),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("what", "description", "pixels", "expected", "flags"), NATIVE, ids=[row[0] for row in NATIVE])
def test_native_frames(what: str, description: bytes, pixels: bytes, expected: list[list[bytes]], flags: set[str]) -> None:
    check(file_meta(CT, "1.2.3.4", EXPLICIT) + description + pixels, expected, flags)


def test_frames_of_bits_need_not_begin_on_a_byte() -> None:
    content = file_meta(CT, "1.2.3.4", EXPLICIT) + described(1, 5, 1, frames=b"3") + pixel_data(b"\xaa\x55")
    found = scan(content)
    assert frames_of(content, found) == [[b"\xaa"], [b"\xaa\x55"], [b"\x55"]]
    assert [found.frames.bit_offset(number) for number in (1, 2, 3)] == [0, 5, 2]


def test_a_value_longer_than_the_object_keeps_what_there_is() -> None:
    head = file_meta(CT, "1.2.3.4", EXPLICIT) + described(frames=b"2")
    check(head + struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, 3 << 30) + W, [[W]], {"truncated", "short-pixel-data"})


def test_pixel_data_that_is_empty_is_not_referred_to() -> None:
    found = scan(file_meta(CT, "1.2.3.4", EXPLICIT) + described() + pixel_data(b""))
    assert found.dataset["7FE00010"] == {"vr": "OW"}
    assert found.bulk == ()


def test_fragments_are_bounded() -> None:
    content = file_meta(CT, "1.2.3.4", JPEG) + described(frames=b"9") + encapsulated([b""] * 50)
    with pytest.raises(LimitExceeded, match="40 fragments"):
        scan(content, Limits(fragments=40))


TABLES = [
    FrameTable.EMPTY,
    FrameTable.native(3, 100, 16, 6),
    FrameTable.native(3, 1 << 40, 5, 2),
    FrameTable.fragments([((1, 2),), ((10, 4),)]),
    FrameTable.fragments([((1, 2), (5, 6)), ((1 << 40, 4),)]),
]


@pytest.mark.parametrize("table", TABLES)
def test_tables_come_back_from_their_bytes(table: FrameTable) -> None:
    again = FrameTable.from_bytes(table.to_bytes())
    assert again == table
    assert [again.ranges(n) for n in range(1, table.count + 1)] == [table.ranges(n) for n in range(1, table.count + 1)]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("number", [-1, 0, 4, 1 << 40])
def test_no_other_frames(table: FrameTable, number: int) -> None:
    with pytest.raises(NotFound, match="frame"):
        table.ranges(number)
