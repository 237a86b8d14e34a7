"""ICC profiles of pictures: whose colours they are, converted where that is asked for, and embedded (PS3.3 C.11.15, PS3.18 8.3.5.1.5)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from dicomweb.rendering.geometry import Picture
from dicomweb.rendering.spaces import SPACES, profile
from dicomweb.rendering.supplemental import has_colours
from dicomweb.rendering.values import Bulk, items, macro, number, text, words
from storage.errors import CannotDecode
from storage.types import Dataset

ICC_PROFILE, COLOR_SPACE, OPTICAL_PATHS = "00282000", "00282002", "00480105"
PATH_OF_FRAME, PATH_IDENTIFIER = "00480207", "00480106"
SAMPLES, PHOTOMETRIC = "00280002", "00280004"
# Where a profile has its size, colour space and signature (ISO 15076-1 7.2), and how long its header is.
_SIGNATURE, _HEADER = b"acsp", 128
_JPEG_CHUNK = 65_519

# A picture from the colours of one profile to those of another.
Convert = Callable[[Picture, bytes, bytes], Picture]


def is_colour(dataset: Dataset, frame: int) -> bool:
    """Whether frame `frame` (from 1) is shown in colour: greyscale is not managed by profiles (PS3.4 N.2.2.1)."""
    return number(dataset, SAMPLES) == 3 or text(dataset, PHOTOMETRIC) == "PALETTE COLOR" or has_colours(dataset, frame)


def own_profile(dataset: Dataset, frame: int, bulk: Bulk | None) -> bytes:
    """The profile of a frame's colours: of the data set, or of the frame's optical path (PS3.3 C.8.12.5).

    Without one they are of the space that Color Space names, sRGB where it names none. Nothing where it is no profile of RGB.
    """
    holder = _holder(dataset, frame)
    if ICC_PROFILE not in holder:
        label = text(holder, COLOR_SPACE)
        return profile(next((name for name, space in SPACES.items() if space.label == label), "srgb"))
    own = words(holder, ICC_PROFILE, bulk)
    size = int.from_bytes(own[:4], "big")
    sound = _HEADER < size <= len(own) and own[36:40] == _SIGNATURE and own[16:20] == b"RGB "
    return own[:size] if sound else b""


def converted(picture: Picture, own: bytes, wanted: str, convert: Convert) -> Picture:
    """A picture of colours in the space that `iccprofile` names, by `storage.codecs.convert`; where it names none, as it is.

    Raises CannotDecode for a profile that cannot be used: colours that are not known cannot become others.
    """
    if picture.ndim != 3 or wanted not in SPACES:
        return picture
    if not own:
        raise CannotDecode("the ICC profile of the image is damaged, so its colours cannot be converted; ask for the picture without iccprofile")
    return picture if own == profile(wanted) else convert(picture, own, profile(wanted))


def lacks(own: bytes, wanted: str, media_type: str, *, colour: bool) -> bool:
    """Whether a picture has not what `iccprofile` asks for: greyscale has no profile, nor has one that cannot carry it.

    Of a media type that cannot carry any, colours are converted none the less (PS3.18 8.3.5.1.5).
    """
    if wanted == "no":
        return False
    return not colour or (wanted == "yes" and not (own and media_type in _CARRIERS))


def carrying(body: bytes, own: bytes, wanted: str, media_type: str) -> bytes:
    """An encoded picture of colours with its profile in it, or as it is where it cannot have one."""
    carried = profile(wanted) if wanted in SPACES else own if wanted == "yes" else b""
    return _CARRIERS[media_type](body, carried) if carried and media_type in _CARRIERS else body


def _holder(dataset: Dataset, frame: int) -> Dataset:
    """What has the profile: the data set, or the optical path of the frame, the first where it names none."""
    if ICC_PROFILE in dataset:
        return dataset
    paths = items(dataset, OPTICAL_PATHS)
    named = text(macro(dataset, frame, PATH_OF_FRAME), PATH_IDENTIFIER)
    found = [one for one in paths if text(one, PATH_IDENTIFIER) == named] or paths
    return found[0] if found and (ICC_PROFILE in found[0] or COLOR_SPACE in found[0]) else dataset


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
