"""Transcoding to compressed transfer syntaxes: the decoders of others find the pixels in them, and the data set says what they are."""

from __future__ import annotations

import io
import shutil
import subprocess
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from storage import encapsulation
from storage.archive import Archive
from storage.encapsulation import encapsulated
from storage.errors import CannotDecode, LimitExceeded, NotAcceptable
from storage.pieces import Made, streamed
from storage.scanner import scan
from storage.spool import Spool
from storage.transcoding import transcoded
from storage.transfer_syntaxes import EXPLICIT_LITTLE, LOSSLESS_TARGETS, RLE_LOSSLESS
from tests.support.archive import Store
from tests.support.corpus import corpus_file
from tests.test_transcoding import (
    file_in,
    layout_of,
    made,
    packed_frames,
    read_pixels,
    rle,
    same_data_set,
    written,
)

JPEG_57, JPEG_70, JPEG_LS, J2K, JXL, HTJ2K_201, HTJ2K = (
    f"1.2.840.10008.1.2.4.{number}" for number in ("57", "70", "80", "90", "110", "201", "202")
)
DEFLATED = "1.2.840.10008.1.2.8.1"

Pixels = np.ndarray[Any, Any]


def by_dcmtk(tool: str) -> Callable[[bytes, Path], Pixels]:
    def witness(file: bytes, folder: Path) -> Pixels:
        if shutil.which(tool) is None:
            pytest.skip(f"DCMTK's {tool} is not installed")
        (folder / "compressed.dcm").write_bytes(file)
        subprocess.run([tool, folder / "compressed.dcm", folder / "native.dcm"], check=True, capture_output=True)
        return read_pixels(folder / "native.dcm")

    return witness


def frame_by_frame(decode: Callable[[bytes], Any]) -> Callable[[bytes, Path], Pixels]:
    def witness(file: bytes, _folder: Path) -> Pixels:
        one = pydicom.dcmread(io.BytesIO(file))
        count = int(one.get("NumberOfFrames", 1))
        frames = [decode(frame) for frame in generate_frames(one.PixelData, number_of_frames=count)]
        return np.stack(frames) if count > 1 else frames[0]

    return witness


def openjph(frame: bytes) -> Pixels:
    values: Pixels = imagecodecs.htj2k_decode(frame, planar=False)
    return values


# Of each syntax a decoder that is not ours; for JPEG XL there is no second one here, so ours reads it in `test_encoding`.
WITNESSES: dict[str, Callable[[bytes, Path], Pixels]] = {
    RLE_LOSSLESS: by_dcmtk("dcmdrle"),
    JPEG_57: by_dcmtk("dcmdjpeg"),
    JPEG_70: by_dcmtk("dcmdjpeg"),
    JPEG_LS: by_dcmtk("dcmdjpls"),
    J2K: lambda file, _: pixel_array(io.BytesIO(file), raw=True),
    HTJ2K_201: frame_by_frame(openjph),
    HTJ2K: frame_by_frame(openjph),
    JXL: frame_by_frame(imagecodecs.jpegxl_decode),
}

# Small files of the corpus of every kind of pixels, in every kind of transfer syntax.
NAMES = (
    "enhanced/emri_small_jpeg_ls_lossless.dcm",
    "encapsulation/ct0012/CT0012.explicit_little_endian.dcm",
    "encapsulation/ct1/CT1_UNC.explicit_big_endian.dcm",
    "photometric/SC_rgb_jpeg_gdcm.dcm",
    "photometric/SC_rgb_small_odd_big_endian.dcm",
    "photometric/SC_ybr_full_422_uncompressed.dcm",
    "photometric/color-pl.dcm",
    "structure/MR_small_bigendian.dcm",
    "structure/MR_small_jp2klossless.dcm",
    "transfer-syntaxes/JLSL_16_15_1_1F.dcm",
    "transfer-syntaxes/synthetic/encapsulated_uncompressed_98_6frames.dcm",
    "transfer-syntaxes/synthetic/htj2k_rpcl_202_mono12.dcm",
    "transfer-syntaxes/synthetic/jpegxl_lossless_110_mono12.dcm",
    "ultrasound/YBR_FULL-RLE.dcm",
)


@pytest.mark.dcmtk
@pytest.mark.parametrize("name", NAMES)
def test_another_decoder_finds_the_same_pixels(archive: Archive, store: Store, tmp_path: Path, name: str) -> None:
    stored = store(corpus_file(name))
    layout = layout_of(archive, stored.uids.study, stored.uids.series, stored.uids.instance)
    native = file_in(archive, layout, EXPLICIT_LITTLE)
    expected = pixel_array(io.BytesIO(native), raw=True)
    shown = read_pixels(io.BytesIO(native))
    found = set()
    without_ycbcr = {JPEG_57, JPEG_70, JXL}
    for target, witness in WITNESSES.items():
        if target == stored.transfer_syntax_uid:
            continue
        if target in without_ycbcr and scan(native).dataset["00280004"]["Value"][0].startswith("YBR"):
            continue
        file = file_in(archive, layout, target)
        same_data_set(scan(native), scan(file))
        assert not scan(file).flags or {flag.code for flag in scan(file).flags} <= {flag.code for flag in scan(native).flags}
        values = witness(file, tmp_path)
        # Signed samples come out of unsigned streams as their two's complement; pydicom makes RGB of YBR_FULL.
        values = values.astype(expected.dtype) if values.dtype.kind != expected.dtype.kind else values
        assert values.shape == expected.shape, target
        assert np.array_equal(values, expected) or np.array_equal(values, shown), target
        found.add(target)
    assert {RLE_LOSSLESS, JPEG_LS, J2K, HTJ2K} <= found | {stored.transfer_syntax_uid}


def test_what_the_data_set_says_of_the_pixels(archive: Archive, store: Store) -> None:
    one = made(BitsAllocated=8, BitsStored=8, HighBit=7, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=1)
    one.PixelData = bytes(range(72))
    one["PixelData"].VR = "OB"
    store(written(one))
    layout = layout_of(archive, "1.2.4", "1.2.5", "1.2.3")
    said = {}
    for target in LOSSLESS_TARGETS:
        found = pydicom.dcmread(io.BytesIO(file_in(archive, layout, target)))
        assert found.file_meta.TransferSyntaxUID == target
        assert found.SOPInstanceUID == "1.2.3"
        assert (found["PixelData"].VR, found["PixelData"].is_undefined_length) == ("OB", True)
        said[target] = found.PhotometricInterpretation, found.PlanarConfiguration
    rct = dict.fromkeys((J2K, HTJ2K, HTJ2K_201), ("YBR_RCT", 0))
    assert said == {**dict.fromkeys(LOSSLESS_TARGETS, ("RGB", 0)), **rct, RLE_LOSSLESS: ("RGB", 1)}


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, "1.2.840.10008.1.2.1.99"])
@pytest.mark.parametrize("frames", [1, 7])
def test_frames_of_native_pixel_data(archive: Archive, store: Store, syntax: str, frames: int) -> None:
    values = np.arange(24 * frames, dtype="<u2").reshape(frames, 4, 6)
    one = made(syntax, NumberOfFrames=frames, PixelData=values.tobytes())
    store(written(one))
    file = file_in(archive, layout_of(archive, "1.2.4", "1.2.5", "1.2.3"), JPEG_LS)
    assert np.array_equal(read_pixels(io.BytesIO(file)).reshape(values.shape), values)


@pytest.mark.parametrize("odd", [3, 5])
def test_bytes_in_big_endian_words(archive: Archive, store: Store, odd: int) -> None:
    """PS3.5 7.3: frames of an odd number of bytes begin inside a word."""
    values = np.arange(3 * odd * 5, dtype=np.uint8).reshape(3, odd, 5)
    flat = values.tobytes() + b"\0" * (values.size % 2)
    one = made(ExplicitVRBigEndian, Rows=odd, Columns=5, BitsAllocated=8, BitsStored=8, HighBit=7, NumberOfFrames=3)
    one.PixelData = flat
    one["PixelData"].VR = "OW"
    store(written(one))
    file = file_in(archive, layout_of(archive, "1.2.4", "1.2.5", "1.2.3"), JPEG_LS)
    assert np.array_equal(read_pixels(io.BytesIO(file)), values)


@pytest.mark.parametrize("target", [DEFLATED, RLE_LOSSLESS])
def test_segmentations_of_single_bits(archive: Archive, store: Store, target: str) -> None:
    one, pixels = packed_frames(3, 5, 5)
    store(written(one))
    file = file_in(archive, layout_of(archive, "1.2.4", "1.2.5", "1.2.3"), target)
    found = scan(file)
    assert found.frames.count == 5
    if target == DEFLATED:
        for number in range(1, 6):
            ((offset, length),) = found.frames.ranges(number)
            packed = np.frombuffer(zlib.decompressobj(-15).decompress(file[offset : offset + length]), np.uint8)
            assert np.array_equal(np.unpackbits(packed, count=15, bitorder="little").reshape(3, 5), pixels[number - 1])
    else:
        store(file.replace(b"1.2.3\0", b"1.2.6\0"))
        again = file_in(archive, layout_of(archive, "1.2.4", "1.2.5", "1.2.6"), EXPLICIT_LITTLE)
        assert np.array_equal(read_pixels(io.BytesIO(again)), pixels)


def test_an_overlay_in_the_pixel_bits_survives_every_syntax(archive: Archive, store: Store) -> None:
    values = np.array([0x8001, 0x0FFF, 0x7123, 0, 1, 0x8FFF] * 4, "<u2")
    store(written(made(PixelData=values.tobytes(), SOPInstanceUID="1.2.300")))
    layout = layout_of(archive, "1.2.4", "1.2.5", "1.2.300")
    for number, target in enumerate(LOSSLESS_TARGETS, 301):
        file = file_in(archive, layout, target)
        one = pydicom.dcmread(io.BytesIO(file))
        assert (one.BitsAllocated, one.BitsStored, one.HighBit) == (16, 12, 11)
        store(file.replace(b"1.2.300\0", f"1.2.{number}\0".encode()))
        again = file_in(archive, layout_of(archive, "1.2.4", "1.2.5", f"1.2.{number}"), EXPLICIT_LITTLE)
        assert pydicom.dcmread(io.BytesIO(again)).PixelData == values.tobytes(), target


def test_what_has_no_pixels_is_not_compressed(archive: Archive, store: Store) -> None:
    one = made()
    del one.PixelData
    store(written(one))
    with pytest.raises(NotAcceptable, match="no pixel data"):
        transcoded(layout_of(archive, "1.2.4", "1.2.5", "1.2.3"), archive.blobs, JPEG_LS, archive.spool)


def test_a_damaged_frame_is_known_before_anything_is_sent(archive: Archive, store: Store) -> None:
    one, _ = rle(3)
    fragments = list(generate_frames(one.PixelData, number_of_frames=3))
    fragments[2] = b"\7" * 70
    one.PixelData = pydicom.encaps.encapsulate(fragments)
    store(written(one))
    with pytest.raises(CannotDecode):
        transcoded(layout_of(archive, "1.2.4", "1.2.5", "1.2.3"), archive.blobs, JPEG_LS, archive.spool)
    assert not list(archive.spool_folder.glob("spool-*"))


def test_many_frames_cost_few_of_them(archive: Archive, store: Store) -> None:
    """48 MB of pixels that do not become smaller: in memory are the frames in work, and nothing is left on disk."""
    one = made(Rows=500, Columns=1000, NumberOfFrames=48, BitsStored=16, HighBit=15)
    one.PixelData = np.random.default_rng(2).integers(0, 1 << 16, 24_000_000, dtype=np.uint16).tobytes()
    store(written(one))
    layout = layout_of(archive, "1.2.4", "1.2.5", "1.2.3")
    tracemalloc.start()
    try:
        pieces = transcoded(layout, archive.blobs, RLE_LOSSLESS, archive.spool).part10
        size = sum(len(piece) for piece in streamed(archive.blobs, pieces))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 48_000_000
    assert peak < 12 << 20
    assert not list(archive.spool_folder.glob("spool-*"))


def frames_of(*lengths: int) -> Iterator[bytes]:
    return (bytes((number,)) * length for number, length in enumerate(lengths))


def test_the_basic_offset_table(tmp_path: Path) -> None:
    """PS3.5 A.4: offsets count from the first byte of the item after the table; odd frames are padded."""
    value = b"".join(
        piece if isinstance(piece, bytes) else piece.bytes()
        for piece in encapsulated(frames_of(4, 3, 2), Spool(tmp_path)).pieces
        if isinstance(piece, bytes | Made)
    )
    assert value.hex(" ", -4) == (
        "feff00e0 0c000000 00000000 0c000000 18000000 feff00e0 04000000 00000000 feff00e0 04000000 01010100 "
        "feff00e0 02000000 0202feff dde00000 0000"
    )


def test_the_extended_offset_table_where_32_bits_do_not_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encapsulation, "_LARGEST_OFFSET", 20)
    made = encapsulated(frames_of(4, 3, 2), Spool(tmp_path))
    assert made.pieces[0] == bytes.fromhex("feff00e000000000")
    assert [np.frombuffer(table, "<u8").tolist() for table in made.extended] == [[0, 12, 24], [4, 3, 2]]


def test_a_spool_that_is_full_says_so(tmp_path: Path) -> None:
    with pytest.raises(LimitExceeded):
        encapsulated(frames_of(400), Spool(tmp_path, limit=100))
