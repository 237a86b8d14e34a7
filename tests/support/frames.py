"""The frames of a corpus file, cut out by pydicom, with its data set in the DICOM JSON model."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import pydicom
from pydicom.encaps import generate_frames

from storage.codecs import PixelDescription
from storage.codecs.pixels import ELEMENTS
from storage.types import Dataset
from tests.support.corpus import corpus_file


class Image(NamedTuple):
    """A parsed file: its data set without pixels, their description, and their bytes."""

    dataset: Dataset
    transfer_syntax_uid: str
    pixels: PixelDescription
    pixel_bytes: bytes
    number_of_frames: int
    file: pydicom.FileDataset


@functools.lru_cache(maxsize=8)
def image(name: str, transfer_syntax_uid: str = "") -> Image:
    """Parse a corpus file. Raises CannotDecode where it is not an image that can be described."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = pydicom.dcmread(corpus_file(name), force=True)
        syntax = transfer_syntax_uid or str(_syntax(file))
        element = next((file[tag] for tag in ELEMENTS if tag in file), None)
        pixel_bytes = element.value if element is not None else b""
        for tag in ELEMENTS:
            if tag in file:
                del file[tag]
        dataset = file.to_json_dict(suppress_invalid_tags=True)
    if element is not None:
        dataset[f"{element.tag:08X}"] = {"vr": element.VR, "BulkDataURI": "bulk:/pixels"}
    pixels = PixelDescription.from_dataset(dataset, syntax)
    return Image(dataset, syntax, pixels, pixel_bytes, int(file.get("NumberOfFrames", 1) or 1), file)


def frames(of: Image) -> Iterator[tuple[bytes, int]]:
    """Each frame's bytes, fragments joined, and the bit at which it begins in them."""
    if of.pixels.syntax.encapsulated:
        for frame in generate_frames(of.pixel_bytes, number_of_frames=of.number_of_frames):
            yield frame, 0
        return
    bits = of.pixels.values * of.pixels.bits_allocated
    if (
        len(of.pixel_bytes) * 8 < bits * of.number_of_frames
        and of.pixels.photometric_interpretation == "YBR_FULL_422"
    ):
        bits = bits * 2 // 3
    for number in range(of.number_of_frames):
        first, end = number * bits, (number + 1) * bits
        stop = (end + 7) // 8
        if of.pixels.word_swapped:
            stop += stop % 2
        yield of.pixel_bytes[first // 8 : stop], first % 8


def _syntax(file: pydicom.FileDataset) -> str:
    meta = getattr(file, "file_meta", None)
    if meta is not None and "TransferSyntaxUID" in meta:
        return str(meta.TransferSyntaxUID)
    implicit, _ = file.original_encoding
    return "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"
