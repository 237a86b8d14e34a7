"""Encoders: what is written is read again bit for bit, by our decoders and, in files, by those of others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import imagecodecs
import numpy as np
import pytest

from storage.codecs import DecoderPool, Number, PixelDescription, decode_here, described_as
from storage.codecs.encoding import ENCODERS, RECOMPRESSED, encode_here
from storage.codecs.headers import j2k_header, jpeg_header
from storage.codecs.keeping import for_keeping
from storage.codecs.samples import Array
from storage.errors import CannotDecode, NotAcceptable
from storage.transfer_syntaxes import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    JPEG_BASELINE,
    JPEG_XL_JPEG,
    LOSSLESS_TARGETS,
    RLE_LOSSLESS,
    TABLE,
    targets,
)

DEFLATED = "1.2.840.10008.1.2.8.1"
JPEG_70, JPEG_LS, J2K, JXL, HTJ2K = (f"1.2.840.10008.1.2.4.{number}" for number in ("70", "80", "90", "110", "202"))
AS_THEY_LIE = {RLE_LOSSLESS, DEFLATED}


def described(**changes: Any) -> PixelDescription:
    """A 5 x 7 image of unsigned bytes, changed as said."""
    plain = PixelDescription(5, 7, 1, 8, 8, 7, False, "MONOCHROME2", 0, EXPLICIT_LITTLE)
    changes.setdefault("bits_stored", changes.get("bits_allocated", 8))
    changes.setdefault("high_bit", changes["bits_stored"] - 1)
    return replace(plain, **changes)


def colour(interpretation: str = "RGB", **changes: Any) -> PixelDescription:
    return described(samples=3, photometric_interpretation=interpretation, **changes)


def noise(pixels: PixelDescription, bits: int | None = None) -> Array:
    """Every value that `bits` bits, or those stored, can have, in the container of the description."""
    bits = bits or pixels.bits_stored
    low = -(1 << (bits - 1)) if pixels.signed else 0
    made = np.random.default_rng(7).integers(low, low + (1 << bits), pixels.shape, dtype=np.int64).astype(pixels.dtype)
    made.flat[0], made.flat[-1] = low, low + (1 << bits) - 1
    return made


# What is encoded, and of how many bits its values really are where that is not Bits Stored.
KINDS: tuple[tuple[str, PixelDescription, int | None], ...] = (
    ("8 bits", described(), None),
    ("6 of 8 bits", described(bits_stored=6), None),
    ("6 of 8 bits and two above", described(bits_stored=6), 8),
    ("8 bits with sign", described(signed=True), None),
    ("12 of 16 bits", described(bits_allocated=16, bits_stored=12), None),
    ("12 of 16 bits and an overlay above", described(bits_allocated=16, bits_stored=12), 16),
    ("12 of 16 bits with sign", described(bits_allocated=16, bits_stored=12, signed=True), None),
    ("12 of 16 bits with sign and garbage above", described(bits_allocated=16, bits_stored=12, signed=True), 16),
    ("8 of 16 bits", described(bits_allocated=16, bits_stored=8), None),
    ("10 of 16 bits", described(bits_allocated=16, bits_stored=10), None),
    ("16 bits", described(bits_allocated=16), None),
    ("16 bits with sign", described(bits_allocated=16, signed=True), None),
    ("16 bits, large", described(bits_allocated=16, bits_stored=14, rows=301, columns=259), None),
    ("one pixel", described(rows=1, columns=1), None),
    ("one row", described(rows=1, columns=300, bits_allocated=16), None),
    ("one column", described(rows=300, columns=1), None),
    ("inverse", described(photometric_interpretation="MONOCHROME1"), None),
    ("palette", described(photometric_interpretation="PALETTE COLOR", bits_allocated=16), None),
    ("RGB", colour(), None),
    ("RGB, large", colour(rows=200, columns=131), None),
    ("RGB of 16 bits", colour(bits_allocated=16), None),
    ("RGB in planes", colour(planar_configuration=1), None),
    ("RGB in big endian", colour(bits_allocated=16, transfer_syntax_uid=EXPLICIT_BIG), None),
)


def native(values: Array, pixels: PixelDescription) -> bytes:
    """The frame's bytes as stored."""
    if pixels.planar_configuration == 1:
        values = np.moveaxis(values, -1, 0)
    return values.astype(pixels.dtype.newbyteorder("<" if pixels.syntax.little_endian else ">")).tobytes()


def expected_colour(target: str, before: PixelDescription) -> str:
    transformed = before.samples == 3 and target.endswith((".90", ".201", ".202"))
    return "YBR_RCT" if transformed else before.photometric_interpretation


@pytest.mark.parametrize("target", ENCODERS)
@pytest.mark.parametrize(("pixels", "bits"), [row[1:] for row in KINDS], ids=[row[0] for row in KINDS])
def test_what_is_written_is_read_again(target: str, pixels: PixelDescription, bits: int | None) -> None:
    values = noise(pixels, bits)
    stream = encode_here(native(values, pixels), pixels, target)
    after = described_as(pixels, target)
    assert np.array_equal(decode_here(stream, for_keeping(after)), values)
    assert after.transfer_syntax_uid == target
    assert after.photometric_interpretation == expected_colour(target, pixels)
    assert after.planar_configuration == (1 if target == RLE_LOSSLESS and pixels.samples == 3 else 0)
    assert (after.bits_allocated, after.bits_stored, after.signed) == (
        pixels.bits_allocated,
        pixels.bits_stored,
        pixels.signed,
    )
    # For showing, what lies above the stored bits is not part of the value; colour comes as RGB.
    shown = decode_here(native(values, pixels), pixels)
    assert np.array_equal(decode_here(stream, after), shown)


@pytest.mark.parametrize("target", ENCODERS)
def test_the_encoders_are_the_targets(target: str) -> None:
    assert target in LOSSLESS_TARGETS
    assert not TABLE[target].lossy
    assert target in targets(EXPLICIT_LITTLE)


def test_no_target_is_lossy_and_none_is_without_encoder() -> None:
    assert set(LOSSLESS_TARGETS) == set(ENCODERS)
    for stored in TABLE:
        lossy = {uid for uid in targets(stored)[1:] if TABLE[uid].lossy}
        assert lossy == {after for before, after in RECOMPRESSED if before == stored}


BITS = described(bits_allocated=1, rows=5, columns=7)


@pytest.mark.parametrize("target", sorted(AS_THEY_LIE))
@pytest.mark.parametrize("offset", [0, 3])
def test_single_bits_are_packed(target: str, offset: int) -> None:
    values = noise(BITS)
    frame = np.packbits(np.concatenate([np.ones(offset, np.uint8), values.ravel()]), bitorder="little").tobytes()
    stream = encode_here(frame, BITS, target, bit_offset=offset)
    assert np.array_equal(decode_here(stream, described_as(BITS, target)), values)


@pytest.mark.parametrize("target", sorted(AS_THEY_LIE))
@pytest.mark.parametrize("high", [11, 13, 15])
def test_values_that_do_not_begin_at_the_lowest_bit_stay_there(target: str, high: int) -> None:
    pixels = described(bits_allocated=16, bits_stored=12, high_bit=high)
    frame = noise(pixels, 16).tobytes()
    stream, after = encode_here(frame, pixels, target), described_as(pixels, target)
    assert decode_here(stream, for_keeping(after)).tobytes() == frame
    assert after.high_bit == high


@pytest.mark.parametrize("target", [RLE_LOSSLESS, DEFLATED, JPEG_LS, J2K, HTJ2K])
@pytest.mark.parametrize(("interpretation", "planes"), [("YBR_FULL", 0), ("YBR_FULL", 1)])
def test_ycbcr_stays_ycbcr(target: str, interpretation: str, planes: int) -> None:
    """To RGB and back is not the same again."""
    pixels = colour(interpretation, planar_configuration=planes)
    values = noise(pixels)
    stream, after = encode_here(native(values, pixels), pixels, target), described_as(pixels, target)
    assert after.photometric_interpretation == "YBR_FULL"
    assert np.array_equal(decode_here(stream, replace(after, photometric_interpretation="RGB")), values)


def test_halved_colour_is_written_out() -> None:
    pixels = colour("YBR_FULL_422", rows=1, columns=2)
    stream, after = encode_here(b"\x64\x96\x80\x70", pixels, JPEG_LS), described_as(pixels, JPEG_LS)
    assert after.photometric_interpretation == "YBR_FULL"
    raw = decode_here(stream, for_keeping(after))
    assert raw.tolist() == [[[0x64, 0x80, 0x70], [0x96, 0x80, 0x70]]]


REFUSED: tuple[tuple[str, str, PixelDescription, str], ...] = (
    ("bits", JPEG_LS, BITS, "JPEG-LS Lossless cannot hold pixels of 1 bits"),
    ("32 bits", HTJ2K, described(bits_allocated=32), "pixels of 32 bits"),
    ("64 bits", RLE_LOSSLESS, described(bits_allocated=64), "pixels of 64 bits"),
    ("float", RLE_LOSSLESS, described(bits_allocated=32, number=Number.FLOAT), "floating point"),
    ("high", J2K, described(bits_allocated=16, bits_stored=12, high_bit=15), "High Bit is 15 of 12"),
    ("YCbCr", JXL, colour("YBR_FULL"), "'YBR_FULL'"),
    ("YCbCr in JPEG", JPEG_70, colour("YBR_FULL"), "'YBR_FULL'"),
    ("YCbCr out of JPEG 2000", JPEG_LS, colour("YBR_FULL", transfer_syntax_uid=J2K), "without converting"),
)


@pytest.mark.parametrize(("target", "pixels", "why"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_a_syntax_cannot_hold_is_refused_with_the_reason(target: str, pixels: PixelDescription, why: str) -> None:
    with pytest.raises(NotAcceptable, match=why):
        described_as(pixels, target)


# (Bits Allocated, Bits Stored, sign, bits of the values) -> precision of a JPEG-LS or JPEG stream, of JPEG 2000.
PRECISION: tuple[tuple[int, int, bool, int, int, int], ...] = (
    (8, 8, False, 8, 8, 8),
    (8, 6, False, 6, 6, 6),
    (8, 6, False, 8, 8, 8),
    (16, 12, False, 12, 12, 12),
    (16, 12, False, 16, 16, 16),
    (16, 8, False, 8, 9, 9),
    (16, 12, True, 12, 16, 12),
    (16, 12, True, 16, 16, 16),
)


@pytest.mark.parametrize(("allocated", "stored", "signed", "bits", "jpeg", "j2k"), PRECISION)
def test_a_stream_has_no_more_bits_than_it_needs(
    allocated: int, stored: int, signed: bool, bits: int, jpeg: int, j2k: int
) -> None:
    pixels = described(bits_allocated=allocated, bits_stored=stored, signed=signed, rows=40, columns=40)
    frame = noise(pixels, bits).tobytes()
    for target in (JPEG_LS, JPEG_70):
        assert jpeg_header(encode_here(frame, pixels, target)).bits == jpeg
    for target in (J2K, HTJ2K):
        stream = encode_here(frame, pixels, target)
        assert j2k_header(stream).bits == j2k
        assert bool(stream[42] & 0x80) == signed


def test_htj2k_is_rpcl_with_tile_part_lengths_down_to_a_thumbnail() -> None:
    """PS3.5 A.4.4 for 1.2.840.10008.1.2.4.202."""
    pixels = described(bits_allocated=16, bits_stored=12, rows=512, columns=640)
    stream = encode_here(noise(pixels).tobytes(), pixels, HTJ2K)
    cod = stream.index(b"\xff\x52")
    progression, layers, levels = stream[cod + 5], int.from_bytes(stream[cod + 6 : cod + 8], "big"), stream[cod + 9]
    assert (progression, layers, levels) == (2, 1, 3)
    assert b"\xff\x55" in stream[: stream.index(b"\xff\x90")]
    assert imagecodecs.jpeg2k_decode(stream).max() == 4095
    # Another decoder of the same streams: OpenJPH.
    assert np.array_equal(imagecodecs.htj2k_decode(stream), imagecodecs.jpeg2k_decode(stream))


def test_a_jpeg_stream_is_recompressed_and_restored_byte_for_byte() -> None:
    pixels = colour("YBR_FULL_422", rows=40, columns=64, transfer_syntax_uid=JPEG_BASELINE)
    y, x = np.mgrid[0:40, 0:64]
    picture = np.stack([y * 5, x * 3, x + y], axis=-1).astype(np.uint8)
    jpeg = bytes(imagecodecs.jpeg8_encode(picture, 90, subsampling="422"))
    smaller = encode_here(jpeg + b"\0", pixels, JPEG_XL_JPEG)
    after = described_as(pixels, JPEG_XL_JPEG)
    assert after.photometric_interpretation == "YBR_FULL_422"
    assert encode_here(smaller, after, JPEG_BASELINE) == jpeg
    assert np.abs(decode_here(smaller, after).astype(int) - decode_here(jpeg, pixels)).mean() < 1


@pytest.fixture(scope="module")
def pool() -> Any:
    made = DecoderPool(2)
    yield made
    made.close()


def test_workers_encode_what_they_decode(pool: DecoderPool) -> None:
    pixels = described(bits_allocated=16, bits_stored=12, rows=64, columns=48)
    values = noise(pixels)
    first = pool.encode(values.tobytes(), pixels, JPEG_LS)
    second = pool.encode(first, described_as(pixels, JPEG_LS), HTJ2K)
    assert np.array_equal(pool.decode(second, described_as(pixels, HTJ2K)), values)


def test_a_damaged_frame_costs_a_worker_nothing(pool: DecoderPool) -> None:
    pixels = described(bits_allocated=16, transfer_syntax_uid=JPEG_LS)
    with pytest.raises(CannotDecode, match="does not begin with SOI"):
        pool.encode(b"\0" * 40, pixels, HTJ2K)
    with pytest.raises(NotAcceptable, match="pixels of 1 bits"):
        pool.encode(b"\0" * 40, BITS, HTJ2K)
    assert len(pool._idle) >= 1
