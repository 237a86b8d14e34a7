"""ICC profiles in pictures (PS3.3 C.11.15, PS3.18 8.3.5.1.5): what the colours of an image are, for who can show them so.

A profile is taken along as it is stored. Colours are never converted: that would run bytes of others through a C library.
"""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Callable

from PIL import ImageCms

from dicomweb.rendering.values import Bulk, items, number, text, words
from storage.types import Dataset

ICC_PROFILE, OPTICAL_PATHS = "00282000", "00480105"
SAMPLES, PHOTOMETRIC = "00280002", "00280004"
# Where a profile has its signature (ISO 15076-1 7.2), and how long its header is.
_SIGNATURE, _HEADER = b"acsp", 128
_JPEG_CHUNK = 65_519


def can_have(dataset: Dataset, wanted: str, media_type: str) -> bool:
    """Whether a picture of colours can carry the profile that `iccprofile` asks for: its own, or sRGB where it has none."""
    colour = number(dataset, SAMPLES) == 3 or text(dataset, PHOTOMETRIC) == "PALETTE COLOR"
    return colour and media_type in _CARRIERS and (wanted == "yes" or (wanted == "srgb" and _holder(dataset) is None))


def with_profile(body: bytes, dataset: Dataset, wanted: str, media_type: str, bulk: Bulk | None) -> bytes:
    """`body` with the profile in it, or as it is where it cannot have that."""
    if not can_have(dataset, wanted, media_type):
        return body
    holder = _holder(dataset)
    own = words(holder, ICC_PROFILE, bulk) if holder is not None else b""
    sound = len(own) > _HEADER and own[36:40] == _SIGNATURE
    return _CARRIERS[media_type](body, own if sound else srgb())


@functools.cache
def srgb() -> bytes:
    """The profile of sRGB, which is what colours without one are taken for."""
    return bytes(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())


def _holder(dataset: Dataset) -> Dataset | None:
    """What has the profile: the data set, or its first optical path (PS3.3 C.8.12.5)."""
    return next((one for one in (dataset, *items(dataset, OPTICAL_PATHS)[:1]) if ICC_PROFILE in one), None)


def _in_jpeg(body: bytes, profile: bytes) -> bytes:
    """APP2 segments behind SOI, and behind JFIF's APP0, which must come first (ISO 15076-1 B.4)."""
    at = 2
    if body[2:4] == b"\xff\xe0":
        at += 2 + int.from_bytes(body[4:6], "big")
    chunks = [profile[start : start + _JPEG_CHUNK] for start in range(0, len(profile), _JPEG_CHUNK)]
    segments = (
        b"\xff\xe2" + struct.pack(">H", len(chunk) + 16) + b"ICC_PROFILE\0" + bytes((index, len(chunks))) + chunk
        for index, chunk in enumerate(chunks, 1)
    )
    return body[:at] + b"".join(segments) + body[at:]


def _in_png(body: bytes, profile: bytes) -> bytes:
    """An iCCP chunk behind IHDR (PNG 11.3.2.3)."""
    at = 8 + 12 + 13
    content = b"iCCP" + b"ICC profile\0\0" + zlib.compress(profile)
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return body[:at] + chunk + body[at:]


def _in_webp(body: bytes, profile: bytes) -> bytes:
    """The extended format: VP8X with the size of the canvas, then ICCP, then the picture (RFC 9649 2.7)."""
    # Of a lossy bitstream the size stands behind its start code, 14 bits each (RFC 6386 9.1).
    width, height = (int.from_bytes(body[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    extended = b"VP8X" + struct.pack("<II", 10, 0x20) + canvas
    chunk = b"ICCP" + struct.pack("<I", len(profile)) + profile + b"\0" * (len(profile) % 2)
    content = b"WEBP" + extended + chunk + body[12:]
    return b"RIFF" + struct.pack("<I", len(content)) + content


_CARRIERS: dict[str, Callable[[bytes, bytes], bytes]] = {
    "image/jpeg": _in_jpeg,
    "image/png": _in_png,
    "image/webp": _in_webp,
}
