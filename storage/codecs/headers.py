"""What a codestream says of itself, read before any decoder sees it, and held against the data set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from storage.codecs.pixels import PixelDescription
from storage.errors import CannotDecode


class Header(NamedTuple):
    """Size, components, bits per sample. `colour` is the stream's own space where it says: "RGB" or "YCBCR"."""

    rows: int
    columns: int
    samples: int
    bits: int
    colour: str = ""
    lossless: bool = False


class Segment(NamedTuple):
    """One JPEG marker segment: its code (the byte after FF), what follows its length, and where that ends in the stream."""

    code: int
    body: bytes
    end: int


SOF_CODES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
SOF_LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
SOF_JPEG_LS = 0xF7
SOS, APP0, APP14 = 0xDA, 0xE0, 0xEE
EOI = b"\xff\xd9"
STANDALONE = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})


def held_against(header: Header, pixels: PixelDescription) -> Header:
    """`header`, or CannotDecode where stream and data set disagree about how large the frame is."""
    said = (header.rows, header.columns, header.samples)
    if said != (pixels.rows, pixels.columns, pixels.samples):
        raise CannotDecode(
            f"the codestream is {said[0]} x {said[1]} with {said[2]} components, the data set says "
            f"{pixels.rows} x {pixels.columns} with {pixels.samples}"
        )
    if not 1 <= header.bits <= pixels.bits_allocated:
        raise CannotDecode(
            f"the codestream has {header.bits} bits a sample, the data set allocates {pixels.bits_allocated}"
        )
    return header


def jpeg_header(frame: bytes) -> Header:
    """Of a JPEG (ITU-T T.81 B.2) or JPEG-LS (T.87 C.2) stream, up to its first scan."""
    frame_segment: Segment | None = None
    jfif = False
    adobe: int | None = None
    for segment in segments(frame):
        if segment.code in SOF_CODES or segment.code == SOF_JPEG_LS:
            frame_segment = segment
        elif segment.code == APP0 and segment.body.startswith(b"JFIF\0"):
            jfif = True
        elif segment.code == APP14 and segment.body.startswith(b"Adobe") and len(segment.body) >= 12:
            adobe = segment.body[11]
    if frame_segment is None or len(frame_segment.body) < 6 + 3 * frame_segment.body[5]:
        raise CannotDecode("the JPEG stream has no frame header")
    body = frame_segment.body
    return Header(
        rows=int.from_bytes(body[1:3], "big"),
        columns=int.from_bytes(body[3:5], "big"),
        samples=body[5],
        bits=body[0],
        colour=_jpeg_colour(bytes(body[6::3][: body[5]]), jfif, adobe),
        lossless=frame_segment.code in SOF_LOSSLESS,
    )


def whole_jpeg_header(frame: bytes) -> Header:
    """`jpeg_header` of a stream that has an end behind its first scan.

    Raises CannotDecode where it has none: libjpeg makes up the rest of a picture that is cut off, and CharLS reads for seconds
    past its end. Coded samples never look like an end, but what is in front of them can have a picture of its own.
    """
    header = jpeg_header(frame)
    if frame.rfind(EOI, max(segment.end for segment in segments(frame))) < 0:
        raise CannotDecode("the JPEG stream is cut off: its end is missing")
    return header


def segments(frame: bytes) -> Iterator[Segment]:
    """The marker segments before the first scan. Raises CannotDecode where there is no SOI or a segment is cut."""
    if frame[:2] != b"\xff\xd8":
        raise CannotDecode("the frame is not a JPEG stream: it does not begin with SOI")
    at = 2
    while at + 4 <= len(frame):
        if frame[at] != 0xFF:
            raise CannotDecode("the JPEG stream has bytes where a marker must be")
        code = frame[at + 1]
        if code == 0xFF:  # fill byte (T.81 B.1.1.2)
            at += 1
            continue
        if code == SOS:
            return
        if code in STANDALONE:
            at += 2
            continue
        length = int.from_bytes(frame[at + 2 : at + 4], "big")
        if length < 2 or at + 2 + length > len(frame):
            break
        yield Segment(code, frame[at + 4 : at + 2 + length], at + 2 + length)
        at += 2 + length
    raise CannotDecode("the JPEG stream ends before its first scan")


def _jpeg_colour(identifiers: bytes, jfif: bool, adobe: int | None) -> str:
    """The stream's word on its colour: Adobe's transform flag, component names R G B, JFIF; in this order."""
    if len(identifiers) != 3:
        return ""
    if adobe is not None:
        return "YCBCR" if adobe == 1 else "RGB"
    if identifiers in (b"RGB", b"rgb"):
        return "RGB"
    return "YCBCR" if jfif else ""


SOC, SIZ, COD, J2K_SOT = 0xFF4F, 0xFF51, 0xFF52, 0xFF90
JP2_SIGNATURE = b"\0\0\0\x0cjP  "


def j2k_codestream(frame: bytes) -> bytes:
    """The codestream itself: DICOM wants no JP2 boxes around it (PS3.5 A.4.4), but some writers leave them."""
    if not frame.startswith(JP2_SIGNATURE):
        return frame
    at = 0
    while at + 8 <= len(frame):
        length, kind = int.from_bytes(frame[at : at + 4], "big"), frame[at + 4 : at + 8]
        header = 16 if length == 1 else 8
        if length == 1:
            length = int.from_bytes(frame[at + 8 : at + 16], "big")
        if kind == b"jp2c":
            return frame[at + header : at + length if length else len(frame)]
        if length < header:
            break
        at += length
    raise CannotDecode("the JP2 file holds no codestream")


def j2k_header(stream: bytes) -> Header:
    """Of a JPEG 2000 codestream (T.800 A.5.1): size, components, depth; `colour` RGB where it is transformed inside."""
    if (
        int.from_bytes(stream[:2], "big") != SOC
        or int.from_bytes(stream[2:4], "big") != SIZ
        or len(stream) < 48
    ):
        raise CannotDecode("the frame is not a JPEG 2000 codestream: it does not begin with SOC and SIZ")
    width, height, left, top = (int.from_bytes(stream[at : at + 4], "big") for at in (8, 12, 16, 20))
    components = int.from_bytes(stream[40:42], "big")
    table = stream[42 : 42 + 3 * components]
    if len(table) < 3 * components or not components:
        raise CannotDecode("the JPEG 2000 codestream ends in its header")
    if any(step != 1 for index, step in enumerate(table) if index % 3):
        raise CannotDecode("JPEG 2000 with subsampled components is not allowed in DICOM (PS3.5 A.4.4)")
    depths = {table[at] for at in range(0, 3 * components, 3)}
    if len(depths) != 1:
        raise CannotDecode("the components of the JPEG 2000 codestream differ in depth")
    return Header(
        rows=height - top,
        columns=width - left,
        samples=components,
        bits=(depths.pop() & 0x7F) + 1,
        colour="RGB" if _j2k_transformed(stream) else "",
    )


def _j2k_transformed(stream: bytes) -> bool:
    """Whether COD says that a multiple component transformation was used: the decoder then gives back RGB."""
    at = 4 + int.from_bytes(stream[4:6], "big")
    while at + 4 <= len(stream):
        code, length = (
            int.from_bytes(stream[at : at + 2], "big"),
            int.from_bytes(stream[at + 2 : at + 4], "big"),
        )
        if code == COD:
            return stream[at + 8 : at + 9] == b"\1"
        if code == J2K_SOT or length < 2:
            break
        at += 2 + length
    raise CannotDecode("the JPEG 2000 codestream has no COD segment in its main header")
