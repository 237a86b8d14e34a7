"""Decoded samples against the corpus' digests, against a second decoder, and against hostile streams."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest

from storage import codecs
from storage.codecs import Array, DecoderPool, Number, PixelDescription, decode_here, to_explicit_little
from storage.codecs.headers import j2k_header, jpeg_header
from storage.codecs.jxl_header import jxl_header
from storage.errors import CannotDecode, Unavailable
from storage.transfer_syntaxes import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from tests.support.corpus import CorpusFile, corpus_files
from tests.support.frames import frames, image

JPEG, J2K, HTJ2K, JPEG_LS = (f"1.2.840.10008.1.2.4.{number}" for number in ("50", "91", "203", "80"))
LOSSLESS, LOSSLESS_SV1, JXL, RLE = (
    *(f"1.2.840.10008.1.2.4.{n}" for n in ("57", "70", "110")),
    "1.2.840.10008.1.2.5",
)
DEFLATED_FRAME = "1.2.840.10008.1.2.8.1"


def described(**changes: Any) -> PixelDescription:
    """A 2 x 4 image of unsigned bytes, changed as said."""
    plain = PixelDescription(
        rows=2,
        columns=4,
        samples=1,
        bits_allocated=8,
        bits_stored=8,
        high_bit=7,
        signed=False,
        photometric_interpretation="MONOCHROME2",
        planar_configuration=0,
        transfer_syntax_uid=EXPLICIT_LITTLE,
    )
    if "bits_stored" in changes:
        changes.setdefault("high_bit", changes["bits_stored"] - 1)
    return replace(plain, **changes)


def sixteen(**changes: Any) -> PixelDescription:
    return described(**({"bits_allocated": 16, "bits_stored": 16} | changes))


def colour(interpretation: str = "RGB", **changes: Any) -> PixelDescription:
    return described(samples=3, photometric_interpretation=interpretation, **changes)


# --- the corpus -------------------------------------------------------------------------------------------------

# Where our samples are not those of the manifest, and which test holds them instead. "dcmtk": the manifest's decoder
# rounds lossy JPEG by one otherwise; ours is exactly DCMTK's.
DIFFERENT: dict[str, str] = {
    "encapsulation/ct0012/CT0012.fragmented_no_bot_jpeg_baseline.51.dcm": "dcmtk",
    "encapsulation/us-im00001/IM00001.fragmented_no_bot_jpeg_baseline.50.dcm": "dcmtk",
    "microscopy/jpeg.dicom": "dcmtk",
    "transfer-syntaxes/JPGExtended.dcm": "dcmtk",
    "transfer-syntaxes/one-ct-every-syntax/CTImage.dcm_JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51.dcm": "dcmtk",
    "transfer-syntaxes/test-pattern-rgb/TestPattern_JPEG-Baseline_YBR422.dcm": "dcmtk",
    "transfer-syntaxes/test-pattern-rgb/TestPattern_JPEG-Baseline_YBRFull.dcm": "dcmtk",
    "transfer-syntaxes/wg04/RG2_JPLY_fixed.dcm": "dcmtk",
    # A lossy 16-bit codestream of 12-bit data overshoots to 4124; ours stops at 4095, which is what 12 bits hold.
    "encapsulation/jpeg2000-multiframe-multifragments.dcm": "clipped",
}

# Files that pydicom cannot decode, and the digest of the same pixels in another syntax where the corpus has them.
SIBLINGS = {
    "derived/liver_deflate.dcm": "86ceb97b138085d0",
    "derived/liver_rle.dcm": "86ceb97b138085d0",
    "derived/liver_nonbyte_aligned_deflate.dcm": "842dd64c92ce1a92",
    "derived/liver_nonbyte_aligned_rle.dcm": "842dd64c92ce1a92",
    "transfer-syntaxes/synthetic/encapsulated_uncompressed_98_6frames.dcm": "e2d9eb9eee09f863",
    "transfer-syntaxes/synthetic/jpegxl_lossless_110_mono12.dcm": "f6058301d3fd6015",
}


def corpus_images() -> list[CorpusFile]:
    return [file for file in corpus_files() if file.row["expected_decode"].startswith("ok")]


def is_jpeg(file: CorpusFile) -> bool:
    return file.row["transfer_syntax_uid"] in {
        f"1.2.840.10008.1.2.4.{number}" for number in ("50", "51", "53", "55")
    }


def decoded(name: str) -> Array:
    """Every frame, (rows, columns[, 3]) alone or stacked, as pydicom's pixel_array gives them."""
    of = image(name)
    arrays = [decode_here(frame, of.pixels, bit_offset=offset) for frame, offset in frames(of)]
    return np.stack(arrays) if len(arrays) > 1 else arrays[0]


def digest(values: Array) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()[:16]


@pytest.mark.slow
def test_every_decodable_file_of_the_corpus_gives_the_samples_of_the_manifest() -> None:
    wrong = []
    for file in corpus_images():
        expected = file.row["decoded_sha256_16"] or SIBLINGS.get(file.name)
        if expected is None or file.name in DIFFERENT:
            continue
        values = decoded(file.name)
        shape = "x".join(str(length) for length in values.shape)
        if digest(values) != expected or (file.row["decoded_shape"] or shape) != shape:
            wrong.append((file.name, shape, digest(values), expected))
    assert wrong == []


@pytest.mark.dcmtk
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("dcmdjpeg") is None, reason="DCMTK's dcmdjpeg is not installed")
def test_every_lossy_jpeg_of_the_corpus_is_decoded_exactly_as_by_dcmtk(tmp_path: Path) -> None:
    compared = set()
    for file in corpus_images():
        # dcmdjpeg itself cannot read this one's header.
        if not is_jpeg(file) or file.name == "photometric/SC_rgb_jpeg.dcm":
            continue
        native = tmp_path / "native.dcm"
        subprocess.run(["dcmdjpeg", file.path, native], check=True, capture_output=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = pydicom.dcmread(native).pixel_array
        assert np.array_equal(decoded(file.name), theirs), file.name
        compared.add(file.name)
    assert {name for name, why in DIFFERENT.items() if why == "dcmtk"} <= compared


def test_lossy_overshoot_is_held_within_the_stored_bits() -> None:
    values = decoded("encapsulation/jpeg2000-multiframe-multifragments.dcm")
    assert values.shape == (19, 256, 256)
    assert values.max() == 4095


# One small file of each kind, so that the default run sees each decoder with real bytes.
SMALL = (
    "derived/liver_expb_1frame.dcm",
    "derived/liver_nonbyte_aligned.dcm",
    "derived/liver_nonbyte_aligned_deflate.dcm",
    "derived/liver_nonbyte_aligned_rle.dcm",
    "derived/liver_nonbyte_aligned_j2k.dcm",
    "derived/parametric_map_double_float.dcm",
    "enhanced/emri_small_jpeg_ls_lossless.dcm",
    "malformed/J2K_pixelrep_mismatch.dcm",
    "photometric/SC_rgb_small_odd_big_endian.dcm",
    "photometric/SC_rgb_jpeg_gdcm.dcm",
    "photometric/SC_rgb_rle_32bit_2frame.dcm",
    "photometric/SC_ybr_full_422_uncompressed.dcm",
    "photometric/SC_jpeg_no_color_transform.dcm",
    "photometric/SC_rgb_jpeg.dcm",
    "photometric/SC_rgb_gdcm_KY.dcm",
    "photometric/color-pl.dcm",
    "structure/MR_small_bigendian.dcm",
    "structure/MR_small_jp2klossless.dcm",
    "transfer-syntaxes/GDCMJ2K_TextGBR.dcm",
    "transfer-syntaxes/JLSL_16_15_1_1F.dcm",
    "transfer-syntaxes/JLSL_RGB_ILV1.dcm",
    "transfer-syntaxes/JLSN_RGB_ILV0.dcm",
    "transfer-syntaxes/synthetic/encapsulated_uncompressed_98_6frames.dcm",
    "transfer-syntaxes/synthetic/htj2k_rpcl_202_mono12.dcm",
    "transfer-syntaxes/synthetic/jpegxl_lossless_110_mono12.dcm",
    "ultrasound/YBR_FULL-RLE.dcm",
)


@pytest.mark.parametrize("name", SMALL)
def test_samples_of_one_file_of_each_kind(name: str) -> None:
    row = next(file.row for file in corpus_files() if file.name == name)
    assert digest(decoded(name)) == (row["decoded_sha256_16"] or SIBLINGS[name])


def test_the_two_lossy_jpeg_xl_files_look_like_one_picture() -> None:
    lossy = decoded("transfer-syntaxes/synthetic/jpegxl_lossy_112_rgb.dcm").astype(int)
    recompressed = decoded("transfer-syntaxes/synthetic/jpegxl_recompressed_jpeg_111_rgb.dcm").astype(int)
    assert np.abs(lossy - recompressed).mean() < 5


CANNOT = (
    ("malformed/3gb-bulk-data-truncated", "over the limit"),
    ("malformed/MR_truncated.dcm", "8130 bytes where 64 x 64 pixels need 8192"),
    ("structure/nested_priv_SQ.dcm", "Rows|Bits Allocated"),
    ("transfer-syntaxes/JPEG2000-embedded-sequence-delimiter.dcm", "codestream is 1024 x 3722445056"),
)


@pytest.mark.parametrize(("name", "why"), CANNOT)
def test_what_cannot_be_decoded_says_why(name: str, why: str) -> None:
    with pytest.raises(CannotDecode, match=why):
        decoded(name)


@pytest.mark.parametrize("number", ["100", "107", "94"])
def test_video_and_references_have_no_frames_to_decode(number: str) -> None:
    with pytest.raises(CannotDecode, match="cannot be decoded to frames"):
        codecs.decode(b"\0\0\1\xb3", described(transfer_syntax_uid=f"1.2.840.10008.1.2.4.{number}"))


# --- native -----------------------------------------------------------------------------------------------------

NATIVE: tuple[tuple[str, PixelDescription, bytes, int, list[Any]], ...] = (
    ("bytes", described(), bytes(range(8)), 0, [[0, 1, 2, 3], [4, 5, 6, 7]]),
    ("padded", described(rows=1, columns=3), b"\1\2\3\0", 0, [[1, 2, 3]]),
    (
        "big endian",
        sixteen(rows=1, columns=2, transfer_syntax_uid=EXPLICIT_BIG),
        b"\1\2\3\4",
        0,
        [[0x102, 0x304]],
    ),
    # PS3.5 8.1.1: bits above the stored ones are not part of the value, and the highest stored one is the sign.
    ("masked", sixteen(rows=1, columns=2, bits_stored=12), b"\xff\xff\x01\xf0", 0, [[4095, 1]]),
    ("signed", sixteen(rows=1, columns=2, bits_stored=12, signed=True), b"\xff\x0f\xff\xf7", 0, [[-1, 2047]]),
    (
        "high",
        sixteen(rows=1, columns=2, bits_stored=12, high_bit=15),
        b"\x5f\x12\xff\xff",
        0,
        [[0x125, 4095]],
    ),
    (
        "high signed",
        sixteen(rows=1, columns=2, bits_stored=12, high_bit=15, signed=True),
        b"\x5f\x12\xff\xff",
        0,
        [[0x125, -1]],
    ),
    (
        "one bit",
        described(rows=2, columns=3, bits_allocated=1, bits_stored=1),
        b"\x2b",
        0,
        [[1, 1, 0], [1, 0, 1]],
    ),
    (
        "second frame",
        described(rows=1, columns=5, bits_allocated=1, bits_stored=1),
        b"\xa0\x02",
        5,
        [[1, 0, 1, 0, 1]],
    ),
    (
        "words of bytes",
        described(rows=1, columns=3, transfer_syntax_uid=EXPLICIT_BIG, word_swapped=True),
        b"\2\1\4\3",
        0,
        [[1, 2, 3]],
    ),
    (
        "second frame in a word",
        described(rows=1, columns=3, transfer_syntax_uid=EXPLICIT_BIG, word_swapped=True),
        b"\2\1\4\3",
        8,
        [[2, 3, 4]],
    ),
    (
        "planes",
        colour(rows=1, columns=2, planar_configuration=1),
        b"rRgGbB",
        0,
        [[list(b"rgb"), list(b"RGB")]],
    ),
    (
        "32 bits",
        described(rows=1, columns=1, bits_allocated=32, bits_stored=32),
        b"\1\0\0\x80",
        0,
        [[0x80000001]],
    ),
    (
        "float",
        described(rows=1, columns=1, bits_allocated=32, bits_stored=32, number=Number.FLOAT),
        np.float32(1.5).tobytes(),
        0,
        [[1.5]],
    ),
    ("grey YBR", colour("YBR_FULL", rows=1, columns=1), b"\x64\x80\x80", 0, [[[100, 100, 100]]]),
    ("red YBR", colour("YBR_FULL", rows=1, columns=1), b"\x4c\x55\xff", 0, [[[254, 0, 0]]]),
    ("422", colour("YBR_FULL_422", rows=1, columns=2), b"\x64\x96\x80\x80", 0, [[[100] * 3, [150] * 3]]),
    # Written with all its chroma, against its own Photometric Interpretation: seen in the wild.
    (
        "422 in full",
        colour("YBR_FULL_422", rows=1, columns=2),
        b"\x64\x80\x80\x96\x80\x80",
        0,
        [[[100] * 3, [150] * 3]],
    ),
    (
        "partial black, white",
        colour("YBR_PARTIAL_422", rows=1, columns=2),
        b"\x10\xeb\x80\x80",
        0,
        [[[0] * 3, [255] * 3]],
    ),
)


@pytest.mark.parametrize(
    ("pixels", "frame", "offset", "expected"), [row[1:] for row in NATIVE], ids=[r[0] for r in NATIVE]
)
def test_native_frames(pixels: PixelDescription, frame: bytes, offset: int, expected: list[Any]) -> None:
    values = codecs.decode(frame, pixels, bit_offset=offset)
    assert values.tolist() == expected
    assert values.dtype == pixels.dtype


NATIVE_REFUSED: tuple[tuple[PixelDescription, bytes, str], ...] = (
    (described(), b"\0" * 7, "7 bytes where 2 x 4 pixels need 8"),
    (described(bits_allocated=1, bits_stored=1), b"", "0 bits where 8 are needed"),
    (colour("YBR_FULL_422"), b"\0" * 15, "too few"),
    (colour("YBR_FULL_422", columns=3), b"\0" * 12, "even number"),
    (colour("CMYK"), b"\0" * 24, "'CMYK' cannot be shown"),
    (colour("YBR_RCT"), b"\0" * 24, "'YBR_RCT' cannot be shown"),
    (
        described(word_swapped=True, transfer_syntax_uid=EXPLICIT_BIG, columns=3, rows=1),
        b"\0" * 3,
        "inside a word",
    ),
    (described(samples=2), b"\0" * 99, "Samples per Pixel is 2"),
    (described(bits_allocated=12, bits_stored=12), b"\0" * 99, "Bits Allocated is 12"),
    (described(rows=65535, columns=65535), b"", "over the limit"),
    (described(rows=0), b"", "no pixels"),
)


@pytest.mark.parametrize(("pixels", "frame", "why"), NATIVE_REFUSED)
def test_native_frames_that_lie(pixels: PixelDescription, frame: bytes, why: str) -> None:
    with pytest.raises(CannotDecode, match=why):
        codecs.decode(frame, pixels)


# --- descriptions -----------------------------------------------------------------------------------------------


def json_of(**values: Any) -> dict[str, dict[str, Any]]:
    """A data set of the named attributes."""
    tags = {
        "samples": "00280002",
        "rows": "00280010",
        "columns": "00280011",
        "allocated": "00280100",
        "stored": "00280101",
        "high": "00280102",
        "signed": "00280103",
    }
    dataset: dict[str, dict[str, Any]] = {
        tags[name]: {"vr": "US", "Value": [value]} for name, value in values.items()
    }
    return dataset | {"7FE00010": {"vr": "OW", "BulkDataURI": "bulk:/x"}}


IMAGE = {"rows": 2, "columns": 4, "allocated": 16}
DESCRIPTIONS: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    (IMAGE, {"samples": 1, "bits_stored": 16, "high_bit": 15, "signed": False}),
    (IMAGE | {"stored": 12}, {"bits_stored": 12, "high_bit": 11}),
    (IMAGE | {"stored": 12, "high": 15}, {"high_bit": 15}),
    (IMAGE | {"stored": 12, "high": 3}, {"high_bit": 11}),
    (IMAGE | {"stored": 40}, {"bits_stored": 16}),
    (IMAGE | {"stored": 0}, {"bits_stored": 16}),
    (IMAGE | {"signed": 1}, {"signed": True}),
)


@pytest.mark.parametrize(("values", "expected"), DESCRIPTIONS)
def test_description_of_a_data_set(values: dict[str, Any], expected: dict[str, Any]) -> None:
    pixels = PixelDescription.from_dataset(json_of(**values), EXPLICIT_LITTLE)
    assert {name: getattr(pixels, name) for name in expected} == expected


@pytest.mark.parametrize("missing", ["rows", "columns", "allocated"])
def test_a_data_set_that_describes_no_image(missing: str) -> None:
    with pytest.raises(CannotDecode, match="does not describe an image"):
        PixelDescription.from_dataset(
            json_of(**{name: v for name, v in IMAGE.items() if name != missing}), EXPLICIT_LITTLE
        )


def test_bytes_lie_in_words_only_in_big_endian_ow() -> None:
    dataset = json_of(rows=2, columns=4, allocated=8)
    assert PixelDescription.from_dataset(dataset, EXPLICIT_BIG).word_swapped
    assert not PixelDescription.from_dataset(dataset, EXPLICIT_LITTLE).word_swapped
    assert not PixelDescription.from_dataset(json_of(**IMAGE), EXPLICIT_BIG).word_swapped
    dataset["7FE00010"]["vr"] = "OB"
    assert not PixelDescription.from_dataset(dataset, EXPLICIT_BIG).word_swapped


def test_float_pixel_data_is_described_by_its_element() -> None:
    dataset = json_of(rows=1, columns=2, allocated=8)
    del dataset["7FE00010"]
    pixels = PixelDescription.from_dataset(dataset | {"7FE00009": {"vr": "OD"}}, EXPLICIT_LITTLE)
    assert (pixels.number, pixels.bits_allocated, pixels.dtype) == (Number.DOUBLE, 64, np.dtype("f8"))


# --- to Explicit VR Little Endian -----------------------------------------------------------------------------

ramp = np.arange(8, dtype=np.uint16).reshape(2, 4) * 100
TO_LITTLE: tuple[tuple[str, PixelDescription, bytes, bytes, dict[str, Any]], ...] = (
    ("already", sixteen(transfer_syntax_uid=IMPLICIT_LITTLE), ramp.tobytes(), ramp.tobytes(), {}),
    ("big", sixteen(transfer_syntax_uid=EXPLICIT_BIG), ramp.astype(">u2").tobytes(), ramp.tobytes(), {}),
    (
        "422",
        colour("YBR_FULL_422", rows=1, columns=2),
        b"\x64\x96\x80\x80",
        b"\x64\x64\x64\x96\x96\x96",
        {"photometric_interpretation": "RGB"},
    ),
    (
        "planes",
        colour(rows=1, columns=2, planar_configuration=1),
        b"rRgGbB",
        b"rgbRGB",
        {"planar_configuration": 0},
    ),
    (
        "bits off a byte",
        described(rows=1, columns=5, bits_allocated=1, bits_stored=1),
        b"\xa0\x02",
        b"\x15",
        {"bits_allocated": 1},
    ),
    (
        "palette stays",
        described(photometric_interpretation="PALETTE COLOR"),
        bytes(8),
        bytes(8),
        {"samples": 1},
    ),
)


@pytest.mark.parametrize(
    ("pixels", "frame", "expected", "changes"), [row[1:] for row in TO_LITTLE], ids=[r[0] for r in TO_LITTLE]
)
def test_to_explicit_little(
    pixels: PixelDescription, frame: bytes, expected: bytes, changes: dict[str, Any]
) -> None:
    offset = 5 if pixels.bits_allocated == 1 else 0
    little, after = to_explicit_little(frame, pixels, bit_offset=offset)
    assert little == expected
    assert {name: getattr(after, name) for name in changes} == changes
    assert after.transfer_syntax_uid == EXPLICIT_LITTLE
    # What comes out describes itself: decoding it again gives the same samples.
    assert np.array_equal(decode_here(little, after), decode_here(frame, pixels, bit_offset=offset))


# --- codestreams: what they say, what the data set says -----------------------------------------------------------


def gradient(rows: int = 24, columns: int = 40, samples: int = 1, dtype: str = "u1") -> Array:
    """A picture whose channels, rows and columns cannot be mistaken for one another."""
    y, x = np.mgrid[0:rows, 0:columns]
    step = 1 if np.dtype(dtype).itemsize == 1 else 60
    planes = [(y * 2 + x * 3) * step, (y * 5) * step, (x * 2 + 40) * step][:samples]
    return (
        np.stack(planes, axis=-1)
        .reshape((rows, columns) if samples == 1 else (rows, columns, samples))
        .astype(dtype)
    )


class Stream:
    """An encoded gradient, its description, and how far from its samples a lossy codec may be."""

    def __init__(
        self, frame: bytes | bytearray, pixels: PixelDescription, values: Array, tolerance: int = 0
    ) -> None:
        self.frame = bytes(frame)
        self.pixels = pixels
        self.values = values
        self.tolerance = tolerance


def stream(kind: str) -> Stream:
    """A gradient in the named form."""
    grey, rgb, deep = gradient(), gradient(samples=3), gradient(dtype="u2")

    def of(values: Array, syntax: str, **changes: Any) -> PixelDescription:
        bits = values.dtype.itemsize * 8
        interpretation = "MONOCHROME2" if values.ndim == 2 else "RGB"
        return described(
            **{
                "rows": values.shape[0],
                "columns": values.shape[1],
                "samples": 1 if values.ndim == 2 else 3,
                "bits_allocated": bits,
                "bits_stored": bits,
                "photometric_interpretation": interpretation,
                "transfer_syntax_uid": syntax,
            }
            | changes
        )

    made = {
        "jpeg": lambda: Stream(imagecodecs.jpeg8_encode(grey, 100), of(grey, JPEG), grey, 2),
        "jpeg JFIF": lambda: Stream(
            imagecodecs.jpeg8_encode(rgb, 100, subsampling="444"),
            of(rgb, JPEG, photometric_interpretation="YBR_FULL"),
            rgb,
            4,
        ),
        # The marker says YCbCr, the data set says RGB: the marker is right (PS3.5 8.2.1).
        "jpeg JFIF called RGB": lambda: Stream(
            imagecodecs.jpeg8_encode(rgb, 100, subsampling="444"), of(rgb, JPEG), rgb, 4
        ),
        "jpeg Adobe RGB called YBR": lambda: Stream(
            imagecodecs.jpeg8_encode(rgb, 100, colorspace="RGB", outcolorspace="RGB"),
            of(rgb, JPEG, photometric_interpretation="YBR_FULL_422"),
            rgb,
            4,
        ),
        "jpeg lossless": lambda: Stream(
            imagecodecs.jpeg8_encode(deep, lossless=True, bitspersample=16), of(deep, LOSSLESS), deep
        ),
        "jpeg lossless 70": lambda: Stream(
            imagecodecs.jpeg8_encode(grey, lossless=True, predictor=1), of(grey, LOSSLESS_SV1), grey
        ),
        "jpeg-ls": lambda: Stream(imagecodecs.jpegls_encode(deep), of(deep, JPEG_LS), deep),
        "jpeg-ls colour": lambda: Stream(imagecodecs.jpegls_encode(rgb), of(rgb, JPEG_LS), rgb),
        "j2k": lambda: Stream(
            imagecodecs.jpeg2k_encode(deep, codecformat="j2k", reversible=True), of(deep, J2K), deep
        ),
        "jp2 boxes": lambda: Stream(
            imagecodecs.jpeg2k_encode(deep, codecformat="jp2", reversible=True), of(deep, J2K), deep
        ),
        "j2k colour": lambda: Stream(
            imagecodecs.jpeg2k_encode(rgb, codecformat="j2k", reversible=True, mct=True),
            of(rgb, J2K, photometric_interpretation="YBR_RCT"),
            rgb,
        ),
        "htj2k": lambda: Stream(imagecodecs.htj2k_encode(deep, reversible=True), of(deep, HTJ2K), deep),
        "jxl": lambda: Stream(imagecodecs.jpegxl_encode(deep, lossless=True), of(deep, JXL), deep),
        "jxl colour": lambda: Stream(imagecodecs.jpegxl_encode(rgb, lossless=True), of(rgb, JXL), rgb),
    }
    return made[kind]()


FOREIGN = (
    "jpeg",
    "jpeg JFIF",
    "jpeg JFIF called RGB",
    "jpeg Adobe RGB called YBR",
    "jpeg lossless",
    "jpeg lossless 70",
    "jpeg-ls",
    "jpeg-ls colour",
    "j2k",
    "jp2 boxes",
    "j2k colour",
    "htj2k",
    "jxl",
    "jxl colour",
)


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_codestream_gives_its_samples_and_colour_is_converted_once(kind: str) -> None:
    made = stream(kind)
    values = decode_here(made.frame, made.pixels)
    assert values.dtype == made.values.dtype
    assert np.abs(values.astype(int) - made.values.astype(int)).max() <= made.tolerance


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"rows": 25}, "the data set says 25"),
        ({"columns": 39}, "x 39|39 with"),
        ({"bits_allocated": 1, "bits_stored": 1, "high_bit": 0}, "bits a sample, the data set allocates 1"),
    ],
)
def test_a_codestream_of_another_size_is_refused_before_decoding(
    kind: str, changes: dict[str, Any], why: str
) -> None:
    made = stream(kind)
    with pytest.raises(CannotDecode, match=why):
        decode_here(made.frame, replace(made.pixels, **changes))


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_codestream_with_other_components_is_refused(kind: str) -> None:
    made = stream(kind)
    with pytest.raises(CannotDecode, match="components"):
        decode_here(made.frame, replace(made.pixels, samples=4 - made.pixels.samples))


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9, 0.97])
@pytest.mark.parametrize("pad", [b"", b"\0"])
def test_a_codestream_that_is_cut_off_is_refused(kind: str, part: float, pad: bytes) -> None:
    """Whatever its decoder would make up of the rest."""
    made = stream(kind)
    with pytest.raises(CannotDecode):
        decode_here(made.frame[: int(len(made.frame) * part)] + pad, made.pixels)


def test_the_end_of_a_picture_in_front_is_not_that_of_the_stream() -> None:
    """A thumbnail in an application segment has an end of its own (JFIF 1.02, JFXX)."""
    made = stream("jpeg")
    thumbnail = b"\xff\xe0" + (2 + len(made.frame)).to_bytes(2, "big") + made.frame
    whole = made.frame[:2] + thumbnail + made.frame[2:]
    assert np.array_equal(decode_here(whole, made.pixels), decode_here(made.frame, made.pixels))
    with pytest.raises(CannotDecode, match="cut off"):
        decode_here(whole[:-40], made.pixels)


def test_headers_are_read_as_they_are_written() -> None:
    assert jpeg_header(stream("jpeg lossless").frame)[:4] == (24, 40, 1, 16)
    assert jpeg_header(stream("jpeg JFIF").frame).colour == "YCBCR"
    assert j2k_header(stream("j2k colour").frame)[:5] == (24, 40, 3, 8, "RGB")
    for rows, columns, dtype in ((8, 16, "u1"), (24, 40, "u2"), (300, 400, "u2"), (513, 9001, "u1")):
        values = gradient(rows, columns, dtype=dtype)
        header = jxl_header(bytes(imagecodecs.jpegxl_encode(values, lossless=True, effort=1)))
        assert header[:4] == (rows, columns, 1, values.dtype.itemsize * 8)


# --- hostile streams --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    made = DecoderPool(2, time_limit=10)
    yield made
    made.close()


def mutations(frame: bytes, seed: int, count: int) -> Iterator[bytes]:
    """`frame` with bytes changed, cut out, repeated, or its end gone."""
    chance = random.Random(seed)
    for _ in range(count):
        bad = bytearray(frame)
        for _ in range(chance.choice((1, 2, 8, 64))):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        cut = chance.randrange(len(bad))
        yield bytes(chance.choice((bad, bad[:cut], bad[:cut] + bad[cut + 3 :], bad[:cut] + bad[cut // 2 :])))


def survived(frame: bytes, pixels: PixelDescription, pool: DecoderPool) -> str:
    """How decoding ended; anything but an array of the right shape or CannotDecode fails the test."""
    try:
        values = pool.decode(frame, pixels)
    except CannotDecode as error:
        return str(error)
    assert values.shape == pixels.shape
    return ""


@pytest.mark.parametrize("kind", FOREIGN)
def test_mutated_streams_cost_one_frame_each(kind: str, pool: DecoderPool) -> None:
    made = stream(kind)
    endings = [survived(bad, made.pixels, pool) for bad in mutations(made.frame, 7, 200)]
    assert any(endings), "no mutation was noticed: they are too tame to show anything"
    assert survived(made.frame, made.pixels, pool) == ""


@pytest.mark.slow
@pytest.mark.parametrize("kind", FOREIGN)
def test_many_mutated_streams_cost_one_frame_each(kind: str, pool: DecoderPool) -> None:
    made = stream(kind)
    for bad in mutations(made.frame, 99, 6000):
        survived(bad, made.pixels, pool)
    assert survived(made.frame, made.pixels, pool) == ""


@pytest.mark.parametrize("syntax", [RLE, DEFLATED_FRAME])
def test_mutated_streams_of_the_codecs_that_run_here(syntax: str, pool: DecoderPool) -> None:
    name = "derived/liver_rle.dcm" if syntax == RLE else "derived/liver_deflate.dcm"
    of = image(name)
    frame = next(frames(of))[0]
    endings = [survived(bad, of.pixels, pool) for bad in mutations(frame, 3, 300)]
    assert any(endings)


def test_rle_of_random_bytes_never_panics_through() -> None:
    chance = random.Random(5)
    for _ in range(300):
        with pytest.raises(CannotDecode):
            decode_here(
                chance.randbytes(chance.randrange(200)), sixteen(rows=64, columns=64, transfer_syntax_uid=RLE)
            )


def test_a_deflate_bomb_is_inflated_no_further_than_the_frame() -> None:
    bomb = bytes(imagecodecs.deflate_encode(bytes(1 << 26), raw=True))
    assert decode_here(bomb, described(transfer_syntax_uid=DEFLATED_FRAME)).tolist() == [[0] * 4] * 2


# --- the pool ---------------------------------------------------------------------------------------------------


def test_a_worker_killed_while_idle_is_replaced_unnoticed() -> None:
    made, pool = stream("jpeg-ls"), DecoderPool(1)
    try:
        pool.decode(made.frame, made.pixels)
        first = pool._idle[0]._child
        first.kill()
        first.wait()
        assert np.array_equal(pool.decode(made.frame, made.pixels), made.values)
        assert pool._idle[0]._child.pid != first.pid
    finally:
        pool.close()


def test_a_hanging_worker_is_ended_and_the_frame_refused() -> None:
    made, pool = stream("jpeg-ls"), DecoderPool(1)
    try:
        pool.decode(made.frame, made.pixels)
        pool._time_limit = 0.3  # only now: starting a worker takes longer on a busy machine
        hung = pool._idle[0]._child
        os.kill(hung.pid, signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(CannotDecode, match="longer than is allowed"):
            pool.decode(made.frame, made.pixels)
        assert time.monotonic() - started < 5
        assert hung.returncode is not None
    finally:
        pool.close()


def test_a_worker_that_dies_on_a_frame_costs_that_frame() -> None:
    made, pool = stream("jpeg-ls"), DecoderPool(1)
    try:
        pool.decode(made.frame, made.pixels)
        child = pool._idle[0]._child
        os.kill(child.pid, signal.SIGSTOP)
        killer = threading.Timer(0.2, child.kill)
        killer.start()
        with pytest.raises(CannotDecode, match="crashed"):
            pool.decode(made.frame, made.pixels)
        killer.join()
        assert np.array_equal(pool.decode(made.frame, made.pixels), made.values)
    finally:
        pool.close()


def test_memory_beyond_the_limit_is_refused_and_the_worker_lives() -> None:
    values = np.zeros((6000, 6000), np.uint16)
    frame = bytes(imagecodecs.jpegls_encode(values))
    pixels = sixteen(rows=6000, columns=6000, transfer_syntax_uid=JPEG_LS)
    pool = DecoderPool(1, memory_limit=160 << 20)
    try:
        with pytest.raises(CannotDecode, match="memory"):
            pool.decode(frame, pixels)
        made = stream("jpeg-ls")
        assert np.array_equal(pool.decode(made.frame, made.pixels), made.values)
    finally:
        pool.close()


def test_many_threads_share_few_workers(pool: DecoderPool) -> None:
    kinds = ("jpeg-ls", "j2k", "jpeg lossless", "jxl")
    made = [stream(kind) for kind in kinds] * 10
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda one: pool.decode(one.frame, one.pixels), made))
    assert all(np.array_equal(values, one.values) for values, one in zip(results, made, strict=True))
    assert len(pool._idle) <= 2


def test_waiting_for_a_busy_pool_ends() -> None:
    pool = DecoderPool(1, wait_limit=0.05)
    pool._free.acquire()
    made = stream("jpeg-ls")
    with pytest.raises(Unavailable, match="busy"):
        pool.decode(made.frame, made.pixels)


def test_a_forked_process_starts_workers_of_its_own(pool: DecoderPool) -> None:
    made = stream("jpeg-ls")
    pool.decode(made.frame, made.pixels)
    parents = {worker._child.pid for worker in pool._idle}
    with warnings.catch_warnings():
        # Python 3.12 warns of forks with threads about, which is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        try:
            ok = np.array_equal(pool.decode(made.frame, made.pixels), made.values)
            os._exit(0 if ok and not parents & {worker._child.pid for worker in pool._idle} else 1)
        except BaseException:  # noqa: BLE001 - nothing may leave the forked copy of the test run
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert np.array_equal(pool.decode(made.frame, made.pixels), made.values)


def test_workers_see_no_secrets_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/self/environ").exists():
        pytest.skip("no /proc to read another process's environment from")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    made, pool = stream("jpeg-ls"), DecoderPool(1)
    try:
        pool.decode(made.frame, made.pixels)
        assert b"planted" not in Path(f"/proc/{pool._idle[0]._child.pid}/environ").read_bytes()
    finally:
        pool.close()
