"""Lossy targets: only by name, close to what was, another instance that says so, and read by the decoders of others."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from jpeg_ls import encode_buffer
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.sequence import Sequence
from starlette.testclient import TestClient

from storage.archive import Archive
from storage.codecs import PixelDescription, decode_here, described_as
from storage.codecs.encoding import ENCODERS, encode_here
from storage.codecs.lossy import LOSSY
from storage.errors import NotAcceptable
from storage.pieces import streamed
from storage.transcoding import possible, transcoded
from storage.transfer_syntaxes import EXPLICIT_LITTLE, LOSSY_TARGETS, TABLE, lossy_targets, targets
from tests.support import made, web
from tests.support.archive import Store
from tests.test_encoding import colour, described, native
from tests.test_transcoding import layout_of

BASELINE, EXTENDED, NEAR, J2K, HTJ2K, JXL = LOSSY_TARGETS
Pixels = np.ndarray[Any, Any]
SERIES = "studies/1.2.3/series/1.2.3.4"
ONE = f"{SERIES}/instances/1.2.3.4.1"
UIDS = ("1.2.3", "1.2.3.4", "1.2.3.4.1")


def smooth(pixels: PixelDescription, seed: int = 3) -> Pixels:
    """Something like an image: slopes, an edge, a little noise, over most of the range of the stored bits."""
    row, column = np.mgrid[: pixels.rows, : pixels.columns]
    slope = (np.sin(column / 17) + np.cos(row / 23) + 2) / 4 * 0.8 + 0.1 * (column > pixels.columns // 2)
    noise = np.random.default_rng(seed).normal(0, 0.003, slope.shape)
    shape = slope + noise if pixels.samples == 1 else np.stack([slope + noise, slope[::-1] + noise, slope.T + noise], -1)
    low = -(1 << (pixels.bits_stored - 1)) if pixels.signed else 0
    made_of: Pixels = np.clip(shape, 0, 1) * ((1 << pixels.bits_stored) - 1) + low
    return made_of.astype(pixels.dtype)


def of(stored: int = 8, *, signed: bool = False) -> PixelDescription:
    return described(rows=160, columns=160, bits_allocated=8 if stored <= 8 else 16, bits_stored=stored, signed=signed)


RGB = colour(rows=160, columns=160)
# What goes in, into which target, and the root mean square of the error that may come of it, in grey levels.
CLOSE = (
    (of(8), BASELINE, 2.5), (RGB, BASELINE, 3.0),
    (of(12), EXTENDED, 16.0),
    (of(8), NEAR, 2.0), (of(12), NEAR, 2.0), (of(16), NEAR, 2.0), (RGB, NEAR, 2.0),
    (of(8), J2K, 1.6), (of(12), J2K, 6.0), (of(16), J2K, 6.0), (of(12, signed=True), J2K, 6.0), (RGB, J2K, 2.0),
    (of(8), HTJ2K, 1.6), (of(10), HTJ2K, 6.0), (of(12), HTJ2K, 6.0), (of(16), HTJ2K, 6.0), (of(12, signed=True), HTJ2K, 6.0),
    (of(16, signed=True), HTJ2K, 6.0), (RGB, HTJ2K, 2.0),
    (of(8), JXL, 4.0), (of(12), JXL, 64.0), (of(16), JXL, 1024.0), (RGB, JXL, 4.0),
)  # fmt: skip


@pytest.mark.parametrize(("pixels", "target", "error"), CLOSE)
def test_what_is_lost_is_little(pixels: PixelDescription, target: str, error: float) -> None:
    values = smooth(pixels)
    stream = encode_here(native(values, pixels), pixels, target)
    after = described_as(pixels, target)
    found = decode_here(stream, after)
    difference = found.astype(np.int64) - values
    assert 0 < float(np.sqrt((difference**2).mean())) <= error
    # Neither shifted nor turned round.
    assert abs(float(difference.mean())) < max(1.0, error / 4)
    assert len(stream) < values.nbytes / 1.3
    assert after.high_bit == after.bits_stored - 1
    assert stream == encode_here(native(values, pixels), pixels, target)
    if target == NEAR:
        assert int(np.abs(difference).max()) == 2


@pytest.mark.parametrize("target", [target for target, encoder in {**ENCODERS, **LOSSY}.items() if encoder.colours])
def test_colours_that_come_plane_by_plane_are_those_that_come_by_pixel(target: str) -> None:
    """JPEG-LS without interleaving (T.87 C.2.3) is decoded to planes, which not every encoder reads as they lie."""
    values = smooth(RGB)
    planes = replace(RGB, transfer_syntax_uid="1.2.840.10008.1.2.4.80")
    stream = bytes(encode_buffer(np.moveaxis(values, -1, 0).tobytes(), RGB.rows, RGB.columns, 3, 8, 0, 0))
    assert encode_here(stream, planes, target) == encode_here(native(values, RGB), RGB, target)


# What goes in, and into which targets it must not.
REFUSED = (
    (of(12), {BASELINE}, "pixels of 16 bits"),
    (of(10), {EXTENDED}, "10 stored bits"),
    (of(12, signed=True), {EXTENDED, NEAR, JXL}, "signed"),
    (described(photometric_interpretation="PALETTE COLOR"), {BASELINE, NEAR, J2K, HTJ2K, JXL}, "PALETTE COLOR"),
    (described(bits_allocated=32, bits_stored=32), set(LOSSY_TARGETS), "32 bits"),
)


@pytest.mark.parametrize(("pixels", "wrong", "why"), REFUSED)
def test_what_cannot_be_had_with_loss(pixels: PixelDescription, wrong: set[str], why: str) -> None:
    for target in wrong:
        with pytest.raises(NotAcceptable, match=why):
            described_as(pixels, target)


def test_lossy_is_never_among_the_lossless() -> None:
    assert set(LOSSY_TARGETS) == set(LOSSY)
    assert not set(LOSSY) & set(ENCODERS)
    for stored in TABLE:
        assert not set(lossy_targets(stored)) & set(targets(stored))
        assert all(TABLE[uid].lossy for uid in lossy_targets(stored))


def image(**attributes: Any) -> bytes:
    """A CT of 160 x 160, unsigned, of eight bits, with what a derivation changes."""
    pixels = attributes.pop("pixels", of(8))
    one = pydicom.dcmread(io.BytesIO(made.instance(side=160)))
    one.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    one.BitsAllocated, one.BitsStored, one.HighBit = pixels.bits_allocated, pixels.bits_stored, pixels.bits_stored - 1
    one.PixelRepresentation = int(pixels.signed)
    if pixels.samples == 3:
        one.SamplesPerPixel, one.PhotometricInterpretation, one.PlanarConfiguration = 3, "RGB", 0
    del one.NumberOfFrames
    one.add_new(0x00280106, "US", 1)
    one.PixelData = native(smooth(pixels), pixels)
    one["PixelData"].VR = "OW"
    for keyword, value in attributes.items():
        setattr(one, keyword, value)
    return made.written(one, EXPLICIT_LITTLE)


def lossy(archive: Archive, target: str) -> bytes:
    layout = layout_of(archive, *UIDS)
    return b"".join(streamed(archive.blobs, transcoded(layout, archive.blobs, target, archive.spool, lossy=True).part10))


def coded(item: Dataset) -> tuple[str, str]:
    return item.CodeValue, item.CodingSchemeDesignator


def test_it_says_that_it_is_another_instance_and_of_which(archive: Archive, store: Store) -> None:
    """PS3.3 C.7.6.1.1.5 and C.12.4.1."""
    store(image())
    found = pydicom.dcmread(io.BytesIO(lossy(archive, BASELINE)))
    assert found.SOPInstanceUID == found.file_meta.MediaStorageSOPInstanceUID != UIDS[2]
    assert found.SOPInstanceUID.startswith("2.25.")
    assert (found.StudyInstanceUID, found.SeriesInstanceUID) == UIDS[:2]
    assert list(found.ImageType) == ["DERIVED", "PRIMARY", "AXIAL"]
    assert (found.LossyImageCompression, found.LossyImageCompressionMethod) == ("01", "ISO_10918_1")
    size = sum(len(frame) for frame in generate_frames(found.PixelData, number_of_frames=1))
    assert float(found.LossyImageCompressionRatio) == pytest.approx(160 * 160 / size, rel=0.01)
    assert "JPEG Baseline" in found.DerivationDescription
    assert [coded(item) for item in found.DerivationCodeSequence] == [("113040", "DCM")]
    (source,) = found.SourceImageSequence
    assert (source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID) == (made.CT, UIDS[2])
    assert coded(source.PurposeOfReferenceCodeSequence[0]) == ("121320", "DCM")
    assert "SmallestImagePixelValue" not in found
    assert found.PatientName == "Müller^Hans"
    assert lossy(archive, BASELINE) == lossy(archive, BASELINE)
    assert pydicom.dcmread(io.BytesIO(lossy(archive, J2K))).SOPInstanceUID != found.SOPInstanceUID


def test_what_was_derived_before_stays_in_the_data_set(archive: Archive, store: Store) -> None:
    earlier, code = Dataset(), Dataset()
    earlier.ReferencedSOPClassUID, earlier.ReferencedSOPInstanceUID = made.CT, "1.9"
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "113076", "DCM", "Segmentation"
    frame_type, functional = Dataset(), Dataset()
    frame_type.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    functional.CTImageFrameTypeSequence = Sequence([frame_type])
    store(image(
        LossyImageCompression="01", LossyImageCompressionRatio="4", LossyImageCompressionMethod="ISO_14495_1",
        DerivationDescription="größer gemacht", SourceImageSequence=Sequence([earlier]), DerivationCodeSequence=Sequence([code]),
        SharedFunctionalGroupsSequence=Sequence([functional]),
    ))  # fmt: skip
    found = pydicom.dcmread(io.BytesIO(lossy(archive, HTJ2K)))
    assert list(found.LossyImageCompressionMethod) == ["ISO_14495_1", "ISO_15444_15"]
    assert [float(ratio) > 1 for ratio in found.LossyImageCompressionRatio] == [True, True]
    assert found.DerivationDescription.startswith("größer gemacht; Lossy compression by HTJ2K")
    assert [coded(item)[0] for item in found.DerivationCodeSequence] == ["113076", "113040"]
    assert [item.ReferencedSOPInstanceUID for item in found.SourceImageSequence] == ["1.9", UIDS[2]]
    # What has been lossy already is no uncompressed predecessor.
    assert coded(found.SourceImageSequence[1].PurposeOfReferenceCodeSequence[0]) == ("121322", "DCM")
    shared = found.SharedFunctionalGroupsSequence[0].CTImageFrameTypeSequence[0]
    assert list(shared.FrameType) == ["DERIVED", "PRIMARY", "VOLUME", "NONE"]


def by_dcmtk(tool: str, file: bytes, folder: Path) -> Pixels:
    if shutil.which(tool) is None:
        pytest.skip(f"DCMTK's {tool} is not installed")
    (folder / "lossy.dcm").write_bytes(file)
    # Colour conversion is DCMTK's default for what is said to be YCbCr.
    subprocess.run([tool, folder / "lossy.dcm", folder / "native.dcm"], check=True, capture_output=True)
    found: Pixels = pydicom.dcmread(folder / "native.dcm").pixel_array
    return found


FOREIGN = (
    (BASELINE, of(8), "dcmdjpeg"), (BASELINE, RGB, "dcmdjpeg"), (EXTENDED, of(12), "dcmdjpeg"),
    (NEAR, of(8), "dcmdjpls"), (NEAR, of(12), "dcmdjpls"), (NEAR, RGB, "dcmdjpls"),
)  # fmt: skip


@pytest.mark.dcmtk
@pytest.mark.parametrize(("target", "pixels", "tool"), FOREIGN)
def test_another_decoder_reads_the_file(
    archive: Archive, store: Store, tmp_path: Path, target: str, pixels: PixelDescription, tool: str
) -> None:
    store(image(pixels=pixels))
    file = lossy(archive, target)
    values = by_dcmtk(tool, file, tmp_path)
    assert float(np.abs(values.astype(int) - smooth(pixels)).mean()) < (2.5 if pixels.bits_stored == 8 else 16)


@pytest.mark.parametrize("pixels", [of(8), of(12), of(16), of(12, signed=True), of(16, signed=True), RGB])
def test_openjph_reads_what_is_lossy(archive: Archive, store: Store, pixels: PixelDescription) -> None:
    """The reference decoder of the other library; ours is OpenJPEG's."""
    store(image(pixels=pixels))
    file = pydicom.dcmread(io.BytesIO(lossy(archive, HTJ2K)))
    values = imagecodecs.htj2k_decode(next(generate_frames(file.PixelData, number_of_frames=1)), planar=False)
    assert float(np.abs(values.astype(int) - smooth(pixels)).mean()) < 6
    assert file.PhotometricInterpretation == ("YBR_ICT" if pixels.samples == 3 else "MONOCHROME2")


@pytest.fixture
def client(archive: Archive) -> Iterator[TestClient]:
    with web.client(archive) as client:
        yield client


def get(client: TestClient, path: str, accept: str) -> Any:
    return client.get(path, headers={"Accept": accept})


@pytest.mark.parametrize(
    "accept", ["*/*", "application/dicom", "application/dicom; transfer-syntax=*", 'multipart/related; type="application/dicom"; transfer-syntax=*']
)
def test_what_does_not_name_it_is_never_lossy(client: TestClient, accept: str) -> None:
    web.stow(client, [image()])
    for path in (ONE, SERIES):
        answer = get(client, path, accept if path == ONE or "related" in accept else 'multipart/related; type="application/dicom"')
        assert EXPLICIT_LITTLE in (answer.headers["content-type"] + str(answer.content[:400]))


@pytest.mark.parametrize("kind", ["image/jpeg", "image/jls", "image/jp2", "image/jphc", "image/jxl"])
def test_a_media_type_alone_is_never_lossy(client: TestClient, kind: str) -> None:
    web.stow(client, [image()])
    for accept in (kind, f'multipart/related; type="{kind}"'):
        answer = get(client, f"{ONE}/frames/1", accept)
        assert answer.status_code == 200
        syntax = answer.headers["content-type"].partition("transfer-syntax=")[2].partition(";")[0]
        assert not TABLE[syntax].lossy


def test_what_names_it_gets_it(client: TestClient) -> None:
    web.stow(client, [image()])
    answer = get(client, ONE, f"application/dicom; transfer-syntax={BASELINE}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, f"application/dicom; transfer-syntax={BASELINE}")
    assert pydicom.dcmread(io.BytesIO(answer.content)).LossyImageCompression == "01"
    (part,) = web.parts(get(client, SERIES, f'multipart/related; type="application/dicom"; transfer-syntax={BASELINE}'))
    assert part.content == answer.content
    frame = get(client, f"{ONE}/frames/1", f"image/jpeg; transfer-syntax={BASELINE}")
    assert (frame.status_code, frame.content[:2]) == (200, b"\xff\xd8")
    again = client.get(ONE, headers={"Accept": f"application/dicom; transfer-syntax={BASELINE}", "If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"


def test_segments_are_never_lossy(client: TestClient, archive: Archive) -> None:
    web.stow(client, [image(SOPClassUID=SEGMENTATION)])
    assert get(client, ONE, f"application/dicom; transfer-syntax={J2K}").status_code == 406
    assert get(client, f"{ONE}/frames/1", f"image/jp2; transfer-syntax={J2K}").status_code == 406
    assert possible(layout_of(archive, *UIDS), lossy=True) == possible(layout_of(archive, *UIDS))
