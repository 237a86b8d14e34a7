"""The images of the corpus as the archive has them: data set in the DICOM JSON model, and the bytes of each frame."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pydicom
from pydicom.encaps import generate_frames

from storage.codecs import PixelDescription
from storage.codecs.pixels import PIXEL_DATA
from storage.errors import NotStorable
from storage.scanner import inflate, scan
from tests.support.corpus import corpus_file


class Image(NamedTuple):
    """A data set, what its frames are, and each frame's bytes with the bit at which it begins in them."""

    dataset: Mapping[str, Any]
    transfer_syntax_uid: str
    pixels: PixelDescription
    frames: tuple[tuple[bytes, int], ...]
    bulk: Mapping[str, bytes]

    def fetch(self, path: str) -> bytes:
        """The bulk value at `path`, as stored; the corpus has none in big endian that a picture needs."""
        return self.bulk[path]


@functools.lru_cache(maxsize=4)
def image(name: str) -> Image:
    """A corpus file by its name. Raises CannotDecode where it does not describe an image."""
    content = corpus_file(name).read_bytes()
    try:
        return _scanned(content)
    except NotStorable:
        # Some sample files are without UIDs: no archive keeps them, but their pixels are worth decoding.
        return _parsed(name)


def frames(of: Image) -> Iterator[tuple[bytes, int]]:
    """Each frame's bytes and bit offset."""
    return iter(of.frames)


def pydicom_file(name: str) -> pydicom.FileDataset:
    """The same file as pydicom sees it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(corpus_file(name), force=True)


def _scanned(content: bytes) -> Image:
    found = scan(content)
    pixels = PixelDescription.from_dataset(found.dataset, found.transfer_syntax_uid)
    data = inflate(content, found.dataset_offset) if found.inflated else content

    def piece(offset: int, length: int) -> bytes:
        # The frame table counts bytes; where these lie in words, a frame has to be read to the end of its last word.
        return data[offset : offset + length + (pixels.word_swapped and length % 2)]

    pieces = tuple(
        (b"".join(piece(*place) for place in found.frames.ranges(number)), found.frames.bit_offset(number))
        for number in range(1, found.frames.count + 1)
    )
    bulk = {item.path: piece(item.offset, item.length) for item in found.bulk if item.path != PIXEL_DATA}
    return Image(found.dataset, found.transfer_syntax_uid, pixels, pieces, bulk)


def _parsed(name: str) -> Image:
    """By pydicom; only encapsulated files need this."""
    file = pydicom_file(name)
    syntax = str(file.file_meta.TransferSyntaxUID)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = file.to_json_dict(
            suppress_invalid_tags=True,
            bulk_data_threshold=1024,
            bulk_data_element_handler=lambda _: "bulk:/x",
        )
    pixels = PixelDescription.from_dataset(dataset, syntax)
    found = generate_frames(file.PixelData, number_of_frames=int(file.get("NumberOfFrames", 1)))
    return Image(dataset, syntax, pixels, tuple((frame, 0) for frame in found), {})
