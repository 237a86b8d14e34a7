"""What code streams say of themselves, over every compressed file of the corpus: transfer syntax and Image Pixel module."""

from __future__ import annotations

from typing import Any

import pytest

from dicomweb.codestreams import Stream, image_pixels, stream_of
from storage.codecs.headers import Header
from storage.errors import BadRequest, LightboxError
from storage.scanner import Scan, scan
from storage.transfer_syntaxes import Coding, lookup
from tests.support.corpus import corpus_files

STILLS = {Coding.JPEG, Coding.JPEG_LOSSLESS, Coding.JPEG_LS, Coding.JPEG_2000, Coding.HTJ2K}
_4 = "1.2.840.10008.1.2.4."
# Declared -> what the stream is by itself: one kind of stream may be stored in several syntaxes (PS3.5 8.2).
ALSO = {(_4 + "91", _4 + "90"), (_4 + "202", _4 + "201"), (_4 + "53", _4 + "55")}
# Files that are not in the syntax that they declare, or not streams at all.
BROKEN = {"ophthalmic/sample-op.dcm", "transfer-syntaxes/GDCMJ2K_TextGBR.dcm", "transfer-syntaxes/JPEG2000-embedded-sequence-delimiter.dcm"}
SIZE = (0x00280002, 0x00280010, 0x00280011)


def _streams() -> list[tuple[str, Scan, Stream]]:
    found = []
    for file in corpus_files():
        content = file.path.read_bytes()
        try:
            scanned = scan(content)
        except LightboxError:
            continue
        syntax = lookup(scanned.transfer_syntax_uid)
        if syntax.coding in STILLS and scanned.frames.count and file.name not in BROKEN:
            ((offset, length), *_) = scanned.frames.ranges(1)
            found.append((file.name, scanned, stream_of(syntax.media_type, content[offset : offset + length], "")))
    return found


def test_every_stream_of_the_corpus() -> None:
    streams = _streams()
    wrong: list[Any] = []
    for name, scanned, stream in streams:
        pair = scanned.transfer_syntax_uid, stream.transfer_syntax_uid
        if pair[0] != pair[1] and pair not in ALSO and lookup(pair[0]).lossy is lookup(pair[1]).lossy:
            wrong.append((name, *pair))
        derived = image_pixels(stream)
        for tag in SIZE:
            said = (scanned.dataset.get(f"{tag:08X}") or {}).get("Value")
            if said and said[0] != derived[tag][1]:
                wrong.append((name, f"{tag:08X}", said, derived[tag]))
    assert wrong == []
    assert len(streams) > 60


@pytest.mark.parametrize(
    ("stream", "photometric"),
    [
        (Stream(_4 + "50", Header(1, 1, 1, 8)), "MONOCHROME2"),
        (Stream(_4 + "50", Header(1, 1, 3, 8), subsampled=True), "YBR_FULL_422"),
        (Stream(_4 + "50", Header(1, 1, 3, 8, "YCBCR")), "YBR_FULL"),
        (Stream(_4 + "50", Header(1, 1, 3, 8, "RGB")), "RGB"),
        (Stream(_4 + "70", Header(1, 1, 3, 8)), "RGB"),
        (Stream(_4 + "80", Header(1, 1, 3, 8)), "RGB"),
        (Stream(_4 + "90", Header(1, 1, 3, 8, "RGB"), reversible=True), "YBR_RCT"),
        (Stream(_4 + "91", Header(1, 1, 3, 8, "RGB")), "YBR_ICT"),
        (Stream(_4 + "201", Header(1, 1, 3, 8), reversible=True), "RGB"),
    ],
)
def test_photometric_interpretation(stream: Stream, photometric: str) -> None:
    """PS3.5 8.2.1 to 8.2.4, PS3.3 C.7.6.3.1.2."""
    assert image_pixels(stream)[0x00280004] == ("CS", photometric)


def test_the_sign_and_the_depth() -> None:
    derived = image_pixels(Stream(_4 + "90", Header(2, 3, 1, 12), signed=True))
    assert [derived[tag][1] for tag in (0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103)] == [2, 3, 16, 12, 11, 1]


@pytest.mark.parametrize("header", [Header(70000, 1, 1, 8), Header(1, 3722445056, 1, 8), Header(0, 1, 1, 8), Header(-1, 1, 1, 8)])
def test_sizes_that_no_image_has(header: Header) -> None:
    with pytest.raises(BadRequest, match="no DICOM image can be"):
        image_pixels(Stream(_4 + "90", header))
