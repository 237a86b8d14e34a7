"""What compressed bulk data says of itself: its transfer syntax, and the Image Pixel attributes (PS3.18 10.5.2, 8.7.3.3.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from storage.codecs.headers import (
    COD,
    J2K_SOT,
    SOF_CODES,
    SOF_JPEG_LS,
    SOS,
    Header,
    j2k_header,
    jpeg_header,
    segments,
)
from storage.errors import BadRequest, CannotDecode
from storage.transfer_syntaxes import TABLE, Coding, lookup

_JPEG: Final = "1.2.840.10008.1.2.4."
# Start of frame -> transfer syntax of a JPEG stream (T.81 table B.1); a lossless one depends on its predictor.
_BY_FRAME: Final = {0xC0: "50", 0xC1: "51", 0xC2: "55"}
_CAP: Final = 0xFF50
_LARGEST: Final = 0xFFFF

# PS3.18 table 8.7.3-5: the transfer syntax of what does not say its own. Of still pictures the stream does.
DEFAULTS: Final = {
    "image/dicom-rle": "1.2.840.10008.1.2.5",
    "image/x-dicom-rle": "1.2.840.10008.1.2.5",
    "video/mpeg": _JPEG + "100",
    "video/mpeg2": _JPEG + "100",
    "video/mp4": _JPEG + "102",
    "video/h265": _JPEG + "107",
}
# Media types of single frames: what has several frames sends one part for each.
FRAMES: Final = frozenset(
    {"image/jpeg", "image/jls", "image/x-jls", "image/jp2", "image/jpx", "image/jphc", "image/jph", "image/jxl"}
    | {"image/dicom-rle", "image/x-dicom-rle"}
)
VIDEOS: Final = frozenset({"video/mpeg", "video/mpeg2", "video/mp4", "video/h265"})
_STILLS: Final = frozenset({Coding.JPEG, Coding.JPEG_LOSSLESS, Coding.JPEG_LS, Coding.JPEG_2000, Coding.HTJ2K})


@dataclass(frozen=True, slots=True)
class Stream:
    """A code stream: the transfer syntax that it is in, and its header where it has one."""

    transfer_syntax_uid: str
    header: Header | None = None
    reversible: bool = False
    signed: bool = False
    subsampled: bool = False


def stream_of(media_type: str, head: bytes, named: str) -> Stream:
    """What the beginning of a frame is. `named` is the transfer syntax that the sender gives it, or empty.

    The stream has the last word on what it is, since only so can it be read again. Raises BadRequest where the two
    contradict each other, and for what neither says.
    """
    found = _sniffed(head)
    if found is None:
        syntax = named or DEFAULTS.get(media_type, "")
        if not syntax or lookup(syntax).coding in _STILLS:
            raise BadRequest(f"the frame is not what {media_type} holds, or its transfer syntax is not said; add transfer-syntax=… to its Content-Type")
        return Stream(syntax)
    if not named or named == found.transfer_syntax_uid:
        return found
    if not _agrees(named, found):
        raise BadRequest(f"the transfer syntax {named} is not that of its frames, which are in {found.transfer_syntax_uid}; name that")
    return replace(found, transfer_syntax_uid=named)


def _agrees(named: str, found: Stream) -> bool:
    """Whether a stream may be in `named`: of the same kind, and lossless where that is promised."""
    ours, theirs = lookup(found.transfer_syntax_uid), TABLE.get(named)
    if theirs is None or theirs.coding is not ours.coding:
        # Part 2 of JPEG 2000, and 57 and 70, share their kinds; a baseline stream is an extended one too (PS3.5 8.2.1).
        return False
    if theirs.coding is Coding.JPEG:
        return (ours.uid, theirs.uid) in {(_JPEG + "50", _JPEG + "51"), (_JPEG + "55", _JPEG + "53")}
    return theirs.lossy or not ours.lossy


def _sniffed(head: bytes) -> Stream | None:
    try:
        if head[:2] == b"\xff\xd8":
            return _jpeg(head)
        if head[:4] == b"\xff\x4f\xff\x51":
            return _jpeg_2000(head)
    except (CannotDecode, IndexError) as error:
        raise BadRequest("the header of a frame's stream cannot be read; send the stream as its encoder wrote it") from error
    return None


def _jpeg(head: bytes) -> Stream:
    header = jpeg_header(head)
    code, at, factors = 0, 2, set[int]()
    for segment in segments(head):
        at += 4 + len(segment.body)
        if segment.code in SOF_CODES or segment.code == SOF_JPEG_LS:
            code, factors = segment.code, set(segment.body[7::3][: segment.body[5]])
    # The start of scan (T.81 B.2.3): behind its components stands the predictor, or NEAR in JPEG-LS (T.87 C.2.3).
    scan = head.index(bytes((0xFF, SOS)), min(at, len(head)) if at < len(head) else 0)
    selector = head[scan + 5 + 2 * head[scan + 4]]
    if code == SOF_JPEG_LS:
        return Stream(_JPEG + ("81" if selector else "80"), header, not selector)
    if header.lossless:
        return Stream(_JPEG + ("70" if selector == 1 else "57"), header, True)
    if code not in _BY_FRAME:
        raise CannotDecode("the JPEG process is none of DICOM's")
    return Stream(_JPEG + _BY_FRAME[code], header, subsampled=len(factors) > 1)


def _jpeg_2000(head: bytes) -> Stream:
    high_throughput, reversible = False, False
    at = 2
    while at + 4 <= len(head):
        marker, length = int.from_bytes(head[at : at + 2], "big"), int.from_bytes(head[at + 2 : at + 4], "big")
        if marker == J2K_SOT or length < 2:
            break
        high_throughput = high_throughput or marker == _CAP
        if marker == COD:
            reversible = head[at + 13] == 1
        at += 2 + length
    number = ("201" if reversible else "203") if high_throughput else ("90" if reversible else "91")
    # Of every component's depth the first bit says whether it has a sign (T.800 A.5.1).
    return Stream(_JPEG + number, j2k_header(head), reversible, signed=bool(head[42] & 0x80))


def image_pixels(stream: Stream) -> dict[int, tuple[str, int | str]]:
    """The Image Pixel Description Macro as the stream has it: tag -> VR and value; nothing for a stream without header."""
    header = stream.header
    if header is None:
        return {}
    if not (0 < header.rows <= _LARGEST and 0 < header.columns <= _LARGEST):
        raise BadRequest(f"the code stream says that it is {header.rows} x {header.columns}, which no DICOM image can be; send the stream as its encoder wrote it")
    allocated = 8 if header.bits <= 8 else 16 if header.bits <= 16 else 32
    found: dict[int, tuple[str, int | str]] = {
        0x00280002: ("US", header.samples),
        0x00280004: ("CS", _photometric(stream, header)),
        0x00280010: ("US", header.rows),
        0x00280011: ("US", header.columns),
        0x00280100: ("US", allocated),
        0x00280101: ("US", header.bits),
        0x00280102: ("US", header.bits - 1),
        0x00280103: ("US", int(stream.signed)),
    }
    if header.samples > 1:
        found[0x00280006] = ("US", 0)
    return found


def _photometric(stream: Stream, header: Header) -> str:
    """PS3.5 8.2: of three components, what the stream's own transformation makes of them."""
    coding = lookup(stream.transfer_syntax_uid).coding
    if header.samples != 3:
        return "MONOCHROME2"
    if coding in (Coding.JPEG_2000, Coding.HTJ2K):
        return ("YBR_RCT" if stream.reversible else "YBR_ICT") if header.colour else "RGB"
    if header.colour == "YCBCR" or (coding is Coding.JPEG and not header.colour):
        return "YBR_FULL_422" if stream.subsampled else "YBR_FULL"
    return "RGB"
