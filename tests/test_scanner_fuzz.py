"""Whatever the bytes, the scanner answers or refuses, in one of its own errors, and no range leaves the object."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.errors import Refused
from storage.frames import FrameTable
from storage.scanner import Limits, scan
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
    if not found.inflated:
        for number in range(1, min(found.frames.count, 50) + 1):
            assert all(offset + length <= len(content) for offset, length in found.frames.ranges(number))


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


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=600))
def test_any_bytes_at_all(content: bytes) -> None:
    check(content)
