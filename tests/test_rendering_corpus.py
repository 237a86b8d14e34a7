"""Pictures of every file of the corpus, in every window function, against DCMTK's and against pydicom's: to one grey level."""

from __future__ import annotations

import io
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut, apply_windowing
from pydicom.uid import ExplicitVRLittleEndian

from dicomweb.rendering import Function, RenderRequest, Window, frame_picture, render_frame, thumbnail
from dicomweb.rendering.grey import show
from dicomweb.rendering.voi import transform
from storage.codecs import decode_here
from tests.support.corpus import CorpusFile, corpus_files
from tests.support.frames import frames, image, pydicom_file

PNG = RenderRequest(media_type="image/png")


def images() -> Iterator[CorpusFile]:
    for file in corpus_files():
        if file.row["expected_decode"].startswith("ok") and file.name != "malformed/badVR.dcm":
            yield file


def named(name: str) -> CorpusFile:
    return next(file for file in corpus_files() if file.name == name)


def is_grey(file: CorpusFile) -> bool:
    return image(file.name).pixels.photometric_interpretation.startswith("MONOCHROME")


# --- DCMTK ---------------------------------------------------------------------------------------------------------------

NATIVE = frozenset(f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".2", ".5", ".1.99"))
# Which of its programs reads a syntax. JPEG 2000 and later none does: of these our samples are written natively for it.
PROGRAMS = {
    **dict.fromkeys(NATIVE, "dcm2pnm"),
    **{f"1.2.840.10008.1.2.4.{number}": "dcmj2pnm" for number in (50, 51, 53, 55, 57, 70)},
    **{f"1.2.840.10008.1.2.4.{number}": "dcml2pnm" for number in (80, 81)},
}
# Where DCMTK's picture is not to be compared with, and why.
NOT_LIKE_DCMTK = {
    "derived/liver_nonbyte_aligned_rle.dcm": "DCMTK cannot read 1-bit RLE",
    "derived/liver_rle.dcm": "DCMTK cannot read 1-bit RLE",
    "derived/parametric_map_double_float.dcm": "DCMTK does not know Double Float Pixel Data",
    "derived/parametric_map_float.dcm": "DCMTK does not know Float Pixel Data",
    "sop-classes/ParametricMapStorage.dcm": "DCMTK does not know Float Pixel Data",
    "nuclear-pet/1.dcm": "DCMTK rounds 9.12 x value to whole numbers before a window of 73: four grey levels",
    "photometric/SC_rgb_32bit.dcm": "DCMTK refuses 32 bits in OB",
    "photometric/SC_rgb_32bit_2frame.dcm": "DCMTK refuses 32 bits in OB",
    "photometric/SC_rgb_expb_32bit.dcm": "DCMTK refuses 32 bits in OB",
    "photometric/SC_rgb_expb_32bit_2frame.dcm": "DCMTK refuses 32 bits in OB",
    "photometric/SC_rgb_jpeg.dcm": "DCMTK cannot parse it",
    "photometric/SC_ybr_full_uncompressed.dcm": "DCMTK rounds each colour term: two levels; ours is pydicom's",
    "transfer-syntaxes/JLSL_08_07_0_1F.dcm": "DCMTK cannot decode it",
    "ultrasound/YBR_FULL-RLE.dcm": "DCMTK rounds each colour term: two levels; ours is pydicom's",
    "radiotherapy/rtdose_expb.dcm": "DCMTK swaps 32-bit samples wrongly; its little endian sibling agrees",
    "radiotherapy/rtdose_expb_1frame.dcm": "DCMTK swaps 32-bit samples wrongly; its little endian sibling agrees",
    "ultrasound/gdcm-US-ALOKA-16.dcm": "DCMTK does not find the palette",
    **{
        f"encapsulation/ct0012/CT0012.{how}.dcm": "DCMTK knows no supplemental palette: it shows perfusion in grey"
        for how in (
            "explicit_little_endian",
            "fragmented_no_bot_jpeg_lossless.57",
            "fragmented_no_bot_jpeg_lossless.70",
            "fragmented_no_bot_jpeg_ls.80",
            "fragmented_no_bot_jpeg_ls.81",
            "not_fragmented_bot_jpeg_ls.80",
            "not_fragmented_bot_rle",
            "not_fragmented_no_bot_jpeg_ls.80",
            "not_fragmented_no_bot_rle",
        )
    },
}


def dcmtk_picture(file: CorpusFile, values: NDArray[Any], window: Window | None, folder: Path) -> NDArray[np.uint8]:
    """The first frame with its overlays, by the program for its syntax; else of `values`, written natively."""
    program, path = PROGRAMS.get(file.row["transfer_syntax_uid"]), file.path
    if program is None:
        program, path = "dcm2pnm", natively(file, values, folder)
    grey = ["+Ww", str(window.center), str(window.width)] if window else []
    if window and window.function is Function.SIGMOID:
        grey.append("+Wfs")
    made = subprocess.run([program, "+ob" if window else "+op", *grey, str(path)], check=True, capture_output=True)
    return np.asarray(Image.open(io.BytesIO(made.stdout)))


def natively(file: CorpusFile, values: NDArray[Any], folder: Path) -> Path:
    """The data set with decoded samples of one frame in place of its coded ones."""
    whole = pydicom_file(file.name)
    whole.NumberOfFrames, whole.BitsAllocated = 1, values.dtype.itemsize * 8
    whole.PixelData = values.astype(values.dtype.newbyteorder("<")).tobytes()
    whole["PixelData"].VR = "OW" if whole.BitsAllocated > 8 else "OB"
    whole.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = folder / "native.dcm"
    whole.save_as(path, implicit_vr=False, little_endian=True)
    return path


def largest_difference_from_dcmtk(file: CorpusFile, folder: Path, function: Function = Function.LINEAR) -> int:
    """Of the first frame, with a window that cuts on both sides; Pixel Padding, which DCMTK does not know, aside."""
    of = image(file.name)
    frame, offset = next(frames(of))
    values = decode_here(frame, of.pixels, bit_offset=offset)
    window, padded = None, np.zeros(values.shape[:2], bool)
    if is_grey(file):
        made = transform(values, of.dataset, 1, of.pixels, None, of.fetch)
        low, high = np.percentile(made.modality_values(values), (5, 90))
        window = Window(round((low + high) / 2), max(2, round(high - low)), function)
        if made.padding is not None:
            padded = (values >= made.padding[0]) & (values <= made.padding[1])
    theirs = dcmtk_picture(file, values, window, folder).astype(int)
    ours = frame_picture(
        frame, of.dataset, of.transfer_syntax_uid, 1, RenderRequest(window), bit_offset=offset, bulk=of.fetch, decode=decode_here
    )
    assert ours.shape == theirs.shape, file.name
    return int(np.abs(ours.astype(int) - theirs)[~padded].max(initial=0))


needs_dcmtk = pytest.mark.skipif(shutil.which("dcmj2pnm") is None, reason="DCMTK's dcm2pnm and its siblings are not installed")

DCMTK_SAMPLE = (
    "radiography/CR-MONO1-10-chest",
    "structure/CT_small.dcm",
    "structure/MR_small_bigendian.dcm",
    "luts-overlays/mlut_18.dcm",
    "luts-overlays/ovly_p01.dcm",
    "luts-overlays/test16signed.dcm",
    "radiography/OutOfBoundsOverlay.dcm",
    "derived/liver_1frame.dcm",
    "ultrasound/examples_palette.dcm",
    "photometric/SC_ybr_full_422_uncompressed.dcm",
    "photometric/SC_rgb_jpeg_dcmtk.dcm",
    "photometric/SC_rgb_16bit.dcm",
    "radiotherapy/rtdose.dcm",
    "transfer-syntaxes/JPGExtended.dcm",
    "transfer-syntaxes/wg04/CT1_JLSN.dcm",
)


@pytest.mark.dcmtk
@needs_dcmtk
@pytest.mark.parametrize("name", DCMTK_SAMPLE)
def test_a_picture_is_dcmtks_to_one_grey_level(tmp_path: Path, name: str) -> None:
    assert largest_difference_from_dcmtk(named(name), tmp_path) <= 1


SIGMOID_SAMPLE = [name for name in DCMTK_SAMPLE if name.startswith(("radiography", "structure", "luts", "radiotherapy"))]


@pytest.mark.dcmtk
@needs_dcmtk
@pytest.mark.parametrize("name", SIGMOID_SAMPLE)
def test_a_sigmoid_picture_is_dcmtks_to_one_grey_level(tmp_path: Path, name: str) -> None:
    assert largest_difference_from_dcmtk(named(name), tmp_path, Function.SIGMOID) <= 1


# How many there are at least: LINEAR with what is in colour, in the syntaxes that DCMTK reads. LINEAR_EXACT it has not.
COMPARED = {Function.LINEAR: 600, Function.SIGMOID: 500}


@pytest.mark.dcmtk
@pytest.mark.slow
@needs_dcmtk
@pytest.mark.parametrize("function", COMPARED)
def test_every_picture_of_the_corpus_is_dcmtks_to_one_grey_level(tmp_path: Path, function: Function) -> None:
    compared = [
        file
        for file in images()
        if file.name not in NOT_LIKE_DCMTK and (is_grey(file) or (function is Function.LINEAR and file.row["transfer_syntax_uid"] in PROGRAMS))
    ]
    assert len(compared) > COMPARED[function]
    differences = {file.name: largest_difference_from_dcmtk(file, tmp_path, function) for file in compared}
    assert {name: difference for name, difference in differences.items() if difference > 1} == {}


# --- pydicom -------------------------------------------------------------------------------------------------------------


def of_first_frame(file: Dataset) -> Dataset:
    """What pydicom's functions read, which look into no functional group (PS3.3 C.7.6.16)."""
    groups = [group for keyword in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence") for group in file.get(keyword, [])[:1]]
    for keyword in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
        for found in [group.get(keyword) for group in groups if group.get(keyword)][:1]:
            file.update(found[0])
    if "BitsStored" not in file:
        # Floating point pixels have none; pydicom makes of it the range that it spreads a window over.
        file.BitsStored, file.PixelRepresentation = 16, 0
    return file


def in_grey_levels(modality: NDArray[Any], file: Dataset) -> NDArray[np.float64]:
    """The window of a data set over 0 to 255; where pydicom's output range is depends on it, and its ends show it."""
    low, high = apply_windowing(np.array([[-1e9, 1e9]]), file)[0]
    return np.asarray((apply_windowing(np.asarray(modality, float), file) - low) / (high - low) * 255)


def pydicom_levels(name: str, values: NDArray[Any], window: Window | None) -> NDArray[np.float64] | None:
    """Modality and VOI LUT by pydicom, in doubles; without a window those of the file, None where it has none at all."""
    file = of_first_frame(pydicom_file(name))
    modality = apply_modality_lut(values, file)
    if window is not None:
        file.WindowCenter, file.WindowWidth, file.VOILUTFunction = window.center, window.width, window.function.name
        return in_grey_levels(modality, file)
    if file.get("VOILUTSequence"):
        shown = apply_voi_lut(np.rint(modality).astype(int), file)
        highest = (1 << int(file.VOILUTSequence[0].LUTDescriptor[2])) - 1
        return np.asarray(shown / highest * 255)
    if "WindowCenter" not in file or file.get("WindowWidth") in (None, ""):
        return None
    return in_grey_levels(modality, file)


def largest_difference_from_pydicom(file: CorpusFile, function: Function | None = None) -> float | None:
    """Of the first frame: in the data set's own VOI, or in a window of its values that cuts on both sides."""
    of = image(file.name)
    frame, offset = next(frames(of))
    values = decode_here(frame, of.pixels, bit_offset=offset)
    made = transform(values, of.dataset, 1, of.pixels, None, of.fetch)
    window = None
    if function is not None:
        known = made.modality_values(values)
        low, high = np.percentile(known[np.isfinite(known)], (5, 90))
        window = Window((low + high) / 2, max(high - low, 2), function)
        made = transform(values, of.dataset, 1, of.pixels, window, of.fetch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pydicom_levels(file.name, values, window)
    if theirs is None:
        return None
    inside = np.isfinite(theirs)
    if made.padding is not None:
        inside &= (values < made.padding[0]) | (values > made.padding[1])
    return float(np.abs(show(values, made) - (255 - theirs if made.inverted else theirs))[inside].max(initial=0))


# Maps from 0 to 1 in a window of width 1 and no function: LINEAR, by the letter, leaves black and white.
NOT_LIKE_PYDICOM = frozenset({"derived/parametric_map_double_float.dcm", "derived/parametric_map_float.dcm"})

PYDICOM_SAMPLE = (
    "luts-overlays/vlut_04.dcm",
    "luts-overlays/mlut_18.dcm",
    "nuclear-pet/1.dcm",
    "transfer-syntaxes/wg04/CT1_JLSN.dcm",
    "radiography/dx_image.dcm",
    "dicomdir/98892003/MR2/4950",
)


@pytest.mark.parametrize("name", PYDICOM_SAMPLE)
@pytest.mark.parametrize("function", [None, *Function])
def test_a_picture_is_pydicoms_to_one_grey_level(name: str, function: Function | None) -> None:
    difference = largest_difference_from_pydicom(named(name), function)
    assert difference is None or difference <= 1


@pytest.mark.slow
@pytest.mark.parametrize("function", [None, *Function])
def test_every_picture_of_the_corpus_is_pydicoms_to_one_grey_level(function: Function | None) -> None:
    differences = {file.name: largest_difference_from_pydicom(file, function) for file in images() if is_grey(file) and (function or file.name not in NOT_LIKE_PYDICOM)}
    compared = {name: difference for name, difference in differences.items() if difference is not None}
    assert len(compared) > (550 if function else 100)
    assert {name: difference for name, difference in compared.items() if difference > 1} == {}


@pytest.mark.slow
def test_every_image_of_the_corpus_gives_a_picture_and_a_thumbnail() -> None:
    for file in images():
        of = image(file.name)
        frame, offset = next(frames(of))
        arguments = (of.dataset, of.transfer_syntax_uid, 1)
        full = render_frame(frame, *arguments, PNG, bit_offset=offset, bulk=of.fetch, decode=decode_here)
        assert full.body.startswith(b"\x89PNG"), file.name
        small = thumbnail(frame, *arguments, RenderRequest(), bit_offset=offset, bulk=of.fetch, decode=decode_here)
        assert not small.placeholder, file.name
        assert max(Image.open(io.BytesIO(small.body)).size) <= 128, file.name
