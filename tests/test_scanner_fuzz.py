"""Whatever the bytes, the scanner answers or refuses, in one of its own errors, and no range leaves the object."""

from __future__ import annotations

import struct
from functools import cache

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.dictionary import EXPLICIT_VRS
from storage.errors import Refused
from storage.frames import FrameTable
from storage.scanner import Limits, inflate, scan
from tests.support.corpus import corpus_file, present
from tests.test_scanner import BARE, META, made

# Small files of every kind of encoding, so that mutations reach every branch.
_SEEDS = (
    "structure/synthetic/every_vr_explicit_le.dcm",
    "structure/synthetic/every_vr_implicit_le.dcm",
    "structure/synthetic/nested_sequences_24_mixed_lengths.dcm",
    "structure/synthetic/undefined_lengths.dcm",
    "structure/image_dfl.dcm",
    "structure/MR_small_bigendian.dcm",
    "structure/MR_small_RLE.dcm",
    "charsets/chrH31.dcm",
    "charsets/chrX2.dcm",
    "transfer-syntaxes/JPEG2000.dcm",
)
_LIMITS = Limits(depth=32, elements=20_000, header_bytes=1 << 20)


@cache
def seeds() -> tuple[bytes, ...]:
    own = (META + BARE, made(PatientName="A^B", NumberOfFrames="3", EncapsulatedDocument=bytes(64)))
    if not present():
        return own
    return (*own, *(corpus_file(name).read_bytes() for name in _SEEDS))


def check(content: bytes) -> None:
    try:
        found = scan(content, _LIMITS)
    except Refused as error:
        if not str(error):
            pytest.fail("a refusal without a reason")
        return
    assert FrameTable.from_bytes(found.frames.to_bytes()) == found.frames
    assert orjson.loads(found.json) == found.dataset
    assert scan(content, _LIMITS).json == found.json
    size = len(inflate(content, found.dataset_offset, _LIMITS)) if found.inflated else len(content)
    for number in {*range(1, min(found.frames.count, 50) + 1), found.frames.count} - {0}:
        assert all(0 <= offset <= offset + length <= size for offset, length in found.frames.ranges(number))
    assert all(0 <= item.offset <= item.offset + max(0, item.length) <= size for item in found.bulk)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_mutated_files(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(seeds())))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        piece = data.draw(st.binary(min_size=1, max_size=8))
        content[at : at + len(piece)] = piece
    check(bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=600))
def test_any_bytes_after_a_proper_head(tail: bytes) -> None:
    check(META + BARE + tail)


# Attributes that steer the reading of others, in every VR that they should not have.
_STEERING = (0x00080005, 0x00080018, 0x00280002, 0x00280004, 0x00280008, 0x00280010, 0x00280103, 0x00290010, 0x7FE00001)
_VALUES = (b"", b"1", b"-1", b"999999999999", b"\\", b"a=b^c", b"\x1b$B\xff", b"ISO 2022 IR 87", b"\xff" * 8, bytes(16))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(_STEERING), st.sampled_from(sorted(EXPLICIT_VRS)), st.sampled_from(_VALUES)),
        max_size=6,
    )
)
def test_attributes_of_the_wrong_kind(elements: list[tuple[int, bytes, bytes]]) -> None:
    middle = b"".join(
        struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
        + struct.pack("<xxI" if EXPLICIT_VRS[vr][1] else "<H", len(value))
        + value
        for tag, vr, value in elements
    )
    check(META + BARE + middle + struct.pack("<HH2sxxI", 0x7FE0, 0x10, b"OW", 32) + bytes(32))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=600))
def test_any_bytes_at_all(content: bytes) -> None:
    check(content)
