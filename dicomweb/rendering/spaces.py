"""The well-known colour spaces that pictures are asked for in, as ICC profiles written from their published primaries.

sRGB (IEC 61966-2-1), Adobe RGB (1998), ROMM RGB (ISO 22028-2) and Display P3 (SMPTE EG 432-1 primaries, D65, the curve of sRGB). A
matrix and one curve describe each of them wholly (ISO 15076-1 8.3.3, F.3).
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

# x and y of the red, green and blue primaries, and of the white.
Chromaticities = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
_D65: Final = (0.3127, 0.3290)
# As profiles have the white that they connect to (ISO 15076-1 7.2.16).
_D50: Final = np.array([0.9642, 1.0, 0.8249])
# The cone responses of Bradford, in which whites are adapted (ISO 15076-1 E.3).
_BRADFORD: Final = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
# Parametric curves (ISO 15076-1 10.18): function type, then g; or g, a, b, c, d: (a x + b)^g from d on, c x below.
_SRGB_CURVE: Final = (3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_ROMM_CURVE: Final = (3, 1.8, 1.0, 0.0, 1 / 16, 1 / 32)

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Space:
    """An RGB colour space. `label` is its defined term of Color Space (0028,2002), PS3.3 C.11.15.1.2."""

    name: str
    label: str
    primaries: Chromaticities
    curve: tuple[float, ...]
    # None where it is that of profiles themselves, D50: nothing is adapted.
    white: tuple[float, float] | None = _D65


# By the value of `iccprofile` (PS3.18 8.3.5.1.5).
SPACES: Final[dict[str, Space]] = {
    "srgb": Space("sRGB", "SRGB", ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)), _SRGB_CURVE),
    "adobergb": Space("Adobe RGB (1998)", "ADOBERGB", ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), (0, 563 / 256)),
    "rommrgb": Space("ROMM RGB", "ROMMRGB", ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)), _ROMM_CURVE, None),
    "displayp3": Space("Display P3", "DISPLAYP3", ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)), _SRGB_CURVE),
}


def to_connection(space: Space) -> Matrix:
    """From linear red, green and blue to XYZ under D50, as columns of the primaries."""
    xyz = np.array([_xyz(*primary) for primary in space.primaries]).T
    white = _D50 if space.white is None else _xyz(*space.white)
    native = xyz * np.linalg.solve(xyz, white)
    return np.asarray(_adaptation(white) @ native)


@functools.cache
def profile(name: str) -> bytes:
    """The profile of one of SPACES: a display profile of version 4.3, the same bytes every time."""
    space = SPACES[name]
    matrix = to_connection(space)
    white = _D50 if space.white is None else _xyz(*space.white)
    curve = b"para\0\0\0\0" + struct.pack(">HH", int(space.curve[0]), 0) + _fixed(space.curve[1:])
    tags = {
        b"desc": _text(space.name),
        b"cprt": _text("No copyright, use freely"),
        b"wtpt": b"XYZ \0\0\0\0" + _fixed(_D50),
        b"chad": b"sf32\0\0\0\0" + _fixed(_adaptation(white).ravel()),
        **{name: b"XYZ \0\0\0\0" + _fixed(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), matrix.T, strict=True)},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    return _file(tags)


def _xyz(x: float, y: float) -> Matrix:
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _adaptation(white: Matrix) -> Matrix:
    cones = np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white))
    return np.asarray(np.linalg.inv(_BRADFORD) @ cones @ _BRADFORD)


def _fixed(values: NDArray[np.float64] | tuple[float, ...]) -> bytes:
    """s15Fixed16Number of each (ISO 15076-1 4.6)."""
    return struct.pack(f">{len(values)}i", *(round(float(value) * 65536) for value in values))


def _text(words: str) -> bytes:
    """multiLocalizedUnicodeType of one record (ISO 15076-1 10.15)."""
    written = words.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(written), 28) + written


def _file(tags: dict[bytes, bytes]) -> bytes:
    """Header, tag table and tags, those that are alike once, each at a multiple of four (ISO 15076-1 7)."""
    table, body, places = b"", b"", dict[bytes, int]()
    start = 128 + 4 + 12 * len(tags)
    for signature, tag in tags.items():
        if tag not in places:
            places[tag] = start + len(body)
            body += tag + b"\0" * (-len(tag) % 4)
        table += signature + struct.pack(">II", places[tag], len(tag))
    # Version 4.3, a display, of RGB, which connects by XYZ, made on the first of January 2026; perceptual.
    head = struct.pack(">I4sI4s4s4s6H4s", start + len(body), b"\0" * 4, 0x04300000, b"mntr", b"RGB ", b"XYZ ", 2026, 1, 1, 0, 0, 0, b"acsp")
    head += b"\0" * (68 - len(head)) + _fixed(_D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
