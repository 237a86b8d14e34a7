"""Whole-slide images of many tiles (TILED_SPARSE), put together from bytes: pydicom would take minutes for what is written here in seconds."""

from __future__ import annotations

import struct
from itertools import accumulate
from typing import Any, Final

import imagecodecs
import numpy as np
from pydicom.uid import JPEGBaseline8Bit

from tests.support import made

SLIDE: Final = "1.2.840.10008.5.1.4.1.1.77.1.6"
SIDE: Final = 16
# Different ones, so that a tile is not taken for its neighbour.
KINDS: Final = 16
_TILE_PIXELS: Final = 256


def tile(number: int) -> bytes:
    """Tile `number`, from 1, as it is stored: grey, JPEG."""
    grey = np.full((SIDE, SIDE), 8 + 15 * ((number - 1) % KINDS), np.uint8)
    content = bytes(imagecodecs.jpeg8_encode(grey, 90))
    return content + b"\0" * (len(content) % 2)


def slide(tiles: int, *, said: int | None = None, groups: bytes | None = None, **attributes: Any) -> bytes:
    """A Part 10 file of `tiles` tiles, in series 1.2.3.{tiles} of study 1.2.3, whose Number of Frames is as `said`, if not right.

    `groups`: the items of its Per-Frame Functional Groups Sequence, where they are others than `group` makes.
    """
    described: dict[str, Any] = {"Rows": SIDE, "Columns": SIDE, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "PixelRepresentation": 0}
    described |= {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "NumberOfFrames": tiles if said is None else said}
    described |= {"Modality": "SM", "DimensionOrganizationType": "TILED_SPARSE"}
    head = made.instance(series=f"1.2.3.{tiles}", sop_class=SLIDE, syntax=JPEGBaseline8Bit, pixels=False, **described, **attributes)
    kinds = [item(tile(number)) for number in range(1, KINDS + 1)]
    stored = [kinds[number % KINDS] for number in range(tiles)]
    offsets = list(accumulate(map(len, stored), initial=0))[:-1]
    pixels = struct.pack("<HH2s2xI", 0x7FE0, 0x0010, b"OB", 0xFFFFFFFF) + item(struct.pack(f"<{tiles}I", *offsets))
    groups = b"".join(map(group, range(1, tiles + 1))) if groups is None else groups
    return b"".join((head, element(0x52009230, b"SQ", groups), pixels, *stored, struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)))


def group(number: int) -> bytes:
    """The item of tile `number`, from 1: its place in the pixel matrix and on the slide, its optical path (PS3.3 C.8.12.4, C.8.12.6)."""
    row, column = divmod(number - 1, 500)
    y, x = row * _TILE_PIXELS + 1, column * _TILE_PIXELS + 1
    content = element(0x00209157, b"UL", struct.pack("<II", column + 1, row + 1))
    position = b"".join(
        (
            *(element(tag, b"DS", _text(f"{value:.6f}")) for tag, value in ((0x0040072A, 20 - y * 0.00025), (0x0040073A, 40 - x * 0.00025), (0x0040074A, 0))),
            *(element(tag, b"SL", struct.pack("<i", value)) for tag, value in ((0x0048021E, x), (0x0048021F, y))),
        )
    )
    path = element(0x00480106, b"SH", b"1 ")
    groups = ((0x00209111, content), (0x00480207, path), (0x0048021A, position))
    return item(b"".join(element(tag, b"SQ", item(of)) for tag, of in groups))


def _text(value: str) -> bytes:
    return value.encode() + b" " * (len(value) % 2)


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """An element in Explicit VR Little Endian."""
    if vr in (b"SQ", b"OB"):
        return struct.pack("<HH2s2xI", tag >> 16, tag & 0xFFFF, vr, len(value)) + value
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def item(value: bytes, *, delimited: bool = False) -> bytes:
    """An item of a sequence, or of encapsulated pixel data; of undefined length, and so delimited."""
    if delimited:
        return struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + value + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(value)) + value


def sequence(tag: int, *items: bytes) -> bytes:
    """A sequence of undefined length."""
    return struct.pack("<HH2s2xI", tag >> 16, tag & 0xFFFF, b"SQ", 0xFFFFFFFF) + b"".join(items) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
