"""The transfer syntaxes as one table (PS3.5 annex A, PS3.6 annex A, PS3.18 8.7.3): how bytes lie, and their media type."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Coding(StrEnum):
    """How pixel data is coded: the name of the codec family in `storage.codecs`."""

    NATIVE = "native"
    RLE = "rle"
    JPEG = "jpeg"
    JPEG_LOSSLESS = "jpeg-lossless"
    JPEG_LS = "jpeg-ls"
    JPEG_2000 = "jpeg-2000"
    HTJ2K = "htj2k"
    JPEG_XL = "jpeg-xl"
    DEFLATED_FRAME = "deflated-frame"
    ENCAPSULATED_NATIVE = "encapsulated-native"
    VIDEO = "video"
    REFERENCED = "referenced"


class TransferSyntax(NamedTuple):
    """One transfer syntax. `media_type` is that of a single frame (or of the whole video) on the web."""

    uid: str
    name: str
    coding: Coding
    media_type: str = "application/octet-stream"
    explicit_vr: bool = True
    little_endian: bool = True
    deflated: bool = False
    lossy: bool = False

    @property
    def encapsulated(self) -> bool:
        """Whether pixel data is a sequence of fragments (PS3.5 A.4)."""
        return self.coding not in (Coding.NATIVE, Coding.REFERENCED)


IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED_LITTLE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
RLE_LOSSLESS = "1.2.840.10008.1.2.5"
HTJ2K_RPCL = "1.2.840.10008.1.2.4.202"
JPEG_BASELINE, JPEG_XL_JPEG = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.111"

_JPEG, _LOSSLESS, _VIDEO = Coding.JPEG, Coding.JPEG_LOSSLESS, Coding.VIDEO
_4 = "1.2.840.10008.1.2.4."

TABLE: dict[str, TransferSyntax] = {
    syntax.uid: syntax
    for syntax in (
        TransferSyntax(IMPLICIT_LITTLE, "Implicit VR Little Endian", Coding.NATIVE, explicit_vr=False),
        TransferSyntax(EXPLICIT_LITTLE, "Explicit VR Little Endian", Coding.NATIVE),
        TransferSyntax(
            EXPLICIT_LITTLE + ".98",
            "Encapsulated Uncompressed Explicit VR Little Endian",
            Coding.ENCAPSULATED_NATIVE,
        ),
        TransferSyntax(DEFLATED_LITTLE, "Deflated Explicit VR Little Endian", Coding.NATIVE, deflated=True),
        TransferSyntax(EXPLICIT_BIG, "Explicit VR Big Endian", Coding.NATIVE, little_endian=False),
        TransferSyntax(RLE_LOSSLESS, "RLE Lossless", Coding.RLE, "image/dicom-rle"),
        TransferSyntax("1.2.840.10008.1.2.8.1", "Deflated Image Frame Compression", Coding.DEFLATED_FRAME),
        TransferSyntax(_4 + "50", "JPEG Baseline (Process 1)", _JPEG, "image/jpeg", lossy=True),
        TransferSyntax(_4 + "51", "JPEG Extended (Process 2 and 4)", _JPEG, "image/jpeg", lossy=True),
        TransferSyntax(_4 + "53", "JPEG Spectral Selection (Process 6 and 8)", _JPEG, "image/jpeg", lossy=True),
        TransferSyntax(_4 + "55", "JPEG Full Progression (Process 10 and 12)", _JPEG, "image/jpeg", lossy=True),
        TransferSyntax(_4 + "57", "JPEG Lossless (Process 14)", _LOSSLESS, "image/jpeg"),
        TransferSyntax(_4 + "70", "JPEG Lossless, First-Order Prediction", _LOSSLESS, "image/jpeg"),
        TransferSyntax(_4 + "80", "JPEG-LS Lossless", Coding.JPEG_LS, "image/jls"),
        TransferSyntax(_4 + "81", "JPEG-LS Near-Lossless", Coding.JPEG_LS, "image/jls", lossy=True),
        TransferSyntax(_4 + "90", "JPEG 2000 (Lossless Only)", Coding.JPEG_2000, "image/jp2"),
        TransferSyntax(_4 + "91", "JPEG 2000", Coding.JPEG_2000, "image/jp2", lossy=True),
        TransferSyntax(_4 + "92", "JPEG 2000 Part 2 (Lossless Only)", Coding.JPEG_2000, "image/jpx"),
        TransferSyntax(_4 + "93", "JPEG 2000 Part 2", Coding.JPEG_2000, "image/jpx", lossy=True),
        TransferSyntax(_4 + "94", "JPIP Referenced", Coding.REFERENCED),
        TransferSyntax(_4 + "95", "JPIP Referenced Deflate", Coding.REFERENCED, deflated=True),
        TransferSyntax(_4 + "100", "MPEG2 Main Profile / Main Level", _VIDEO, "video/mpeg", lossy=True),
        TransferSyntax(_4 + "100.1", "Fragmentable MPEG2 Main Profile / Main Level", _VIDEO, "video/mpeg", lossy=True),
        TransferSyntax(_4 + "101", "MPEG2 Main Profile / High Level", _VIDEO, "video/mpeg", lossy=True),
        TransferSyntax(_4 + "101.1", "Fragmentable MPEG2 Main Profile / High Level", _VIDEO, "video/mpeg", lossy=True),
        *(
            TransferSyntax(_4 + number, name, _VIDEO, "video/mp4", lossy=True)
            for number, name in (
                ("102", "MPEG-4 AVC/H.264 High Profile / Level 4.1"),
                ("102.1", "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.1"),
                ("103", "MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1"),
                ("103.1", "Fragmentable MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1"),
                ("104", "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video"),
                ("104.1", "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video"),
                ("105", "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video"),
                ("105.1", "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video"),
                ("106", "MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2"),
                ("106.1", "Fragmentable MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2"),
                ("107", "HEVC/H.265 Main Profile / Level 5.1"),
                ("108", "HEVC/H.265 Main 10 Profile / Level 5.1"),
            )
        ),
        TransferSyntax(_4 + "110", "JPEG XL Lossless", Coding.JPEG_XL, "image/jxl"),
        TransferSyntax(_4 + "111", "JPEG XL JPEG Recompression", Coding.JPEG_XL, "image/jxl", lossy=True),
        TransferSyntax(_4 + "112", "JPEG XL", Coding.JPEG_XL, "image/jxl", lossy=True),
        TransferSyntax(_4 + "201", "HTJ2K (Lossless Only)", Coding.HTJ2K, "image/jphc"),
        TransferSyntax(_4 + "202", "HTJ2K RPCL (Lossless Only)", Coding.HTJ2K, "image/jphc"),
        TransferSyntax(_4 + "203", "HTJ2K", Coding.HTJ2K, "image/jphc", lossy=True),
        TransferSyntax(_4 + "204", "JPIP HTJ2K Referenced", Coding.REFERENCED),
        TransferSyntax(_4 + "205", "JPIP HTJ2K Referenced Deflate", Coding.REFERENCED, deflated=True),
    )
}


def lookup(uid: str) -> TransferSyntax:
    """The syntax for `uid`; one that the table does not know is taken to be encapsulated, explicit, little endian.

    Every syntax that is neither native nor deflated has been encapsulated explicit little endian since 1996
    (PS3.5 10.3), so an unknown one can be stored and served back even though it cannot be decoded.
    """
    return TABLE.get(uid) or TransferSyntax(uid, f"Unknown ({uid})", Coding.REFERENCED)


# What frames can be encoded in without loss, the most widely read first; `storage.codecs.encoding` has the encoders.
LOSSLESS_TARGETS = (
    *(_4 + number for number in ("80", "70", "57", "90", "202", "201", "110")),
    RLE_LOSSLESS,
    "1.2.840.10008.1.2.8.1",
)
# What they can be encoded in with loss, for who asks for that by name; `storage.codecs.lossy` has the encoders.
LOSSY_TARGETS = tuple(_4 + number for number in ("50", "51", "81", "91", "203", "112"))
# A JPEG stream is recompressed and restored byte for byte.
_RECOMPRESSED = {JPEG_BASELINE: (JPEG_XL_JPEG,), JPEG_XL_JPEG: (JPEG_BASELINE,)}


def targets(stored: str) -> tuple[str, ...]:
    """The transfer syntaxes in which an instance stored in `stored` can be had without loss, that one first.

    What is written anew can always be had uncompressed. Not every kind of pixels goes into every compressed syntax, which
    `storage.transcoding.transcoded` finds out.
    """
    if lookup(stored).coding in (Coding.VIDEO, Coding.REFERENCED):
        return (stored,)
    written = (EXPLICIT_LITTLE, IMPLICIT_LITTLE, *_RECOMPRESSED.get(stored, ()), *LOSSLESS_TARGETS)
    return tuple(dict.fromkeys((stored, *written)))


def lossy_targets(stored: str) -> tuple[str, ...]:
    """The transfer syntaxes in which an instance stored in `stored` can be had only with loss: it is another instance then."""
    without = targets(stored)
    return () if len(without) == 1 else tuple(uid for uid in LOSSY_TARGETS if uid not in without)
