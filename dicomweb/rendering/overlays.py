"""Overlay planes (PS3.3 C.9.2, groups 6000 to 601E): drawings of one bit to a pixel, laid over the picture in white."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicomweb.rendering.geometry import Picture
from dicomweb.rendering.values import Bulk, number, numbers, text, words
from storage.codecs.pixels import Number, PixelDescription
from storage.types import Dataset

GROUPS = tuple(f"{group:04X}" for group in range(0x6000, 0x6020, 2))
ROWS, COLUMNS, FRAMES, TYPE, ORIGIN, FRAME_ORIGIN = "0010", "0011", "0015", "0040", "0050", "0051"
ALLOCATED, POSITION, DATA = "0100", "0102", "3000"
WHITE = 255

Bits = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Overlay:
    """Where an overlay is drawn: its first row and column in the image, from 0, and what is set."""

    top: int
    left: int
    bits: Bits


def embedded(dataset: Dataset, pixels: PixelDescription) -> tuple[int, ...]:
    """Bits of the pixel data that are overlays: retired in 2004, and full of archives (PS3.5 8.1.2)."""
    if pixels.number is not Number.INTEGER or pixels.samples != 1 or pixels.bits_allocated == 1:
        return ()
    return tuple(
        int(position)
        for group in GROUPS
        if group + DATA not in dataset
        and number(dataset, group + ALLOCATED) == pixels.bits_allocated
        and (position := number(dataset, group + POSITION)) is not None
        and _unused(int(position), pixels)
    )


def overlays(dataset: Dataset, frame: int, bulk: Bulk | None) -> Iterator[Overlay]:
    """The overlays of frame `frame` (from 1) that have data of their own; one whose data is too short is passed over.

    An overlay of one frame is that of every frame; one of several belongs to those from Image Frame Origin on
    (PS3.3 C.9.3).
    """
    for group in GROUPS:
        if group + DATA not in dataset:
            continue
        rows, columns = (int(number(dataset, group + tag) or 0) for tag in (ROWS, COLUMNS))
        plane = _plane(dataset, group, frame)
        if rows < 1 or columns < 1 or plane is None:
            continue
        bits = _bits(words(dataset, group + DATA, bulk), plane * rows * columns, rows * columns)
        if bits is not None:
            top, left = _origin(dataset, group)
            bits = bits.reshape(rows, columns)
            yield Overlay(top, left, _outline(bits) if text(dataset, group + TYPE) == "R" else bits)


def drawn(picture: Picture, overlay: Overlay) -> Picture:
    """`picture` with the overlay in white, as far as it lies inside."""
    rows, columns = picture.shape[:2]
    height, width = overlay.bits.shape
    top, left = max(overlay.top, 0), max(overlay.left, 0)
    bottom, right = min(overlay.top + height, rows), min(overlay.left + width, columns)
    if top >= bottom or left >= right:
        return picture
    inside = overlay.bits[top - overlay.top : bottom - overlay.top, left - overlay.left : right - overlay.left]
    whitened = picture.copy()
    whitened[top:bottom, left:right][inside] = WHITE
    return whitened


def of_bit(values: NDArray[Any], position: int) -> Overlay:
    """The overlay in one bit of samples that hold every bit allocated."""
    return Overlay(0, 0, np.bitwise_and(np.right_shift(values, position), 1).astype(np.bool_))


def _outline(region: Bits) -> Bits:
    """The edge of a region of interest: filled, it would hide what it is about (PS3.3 C.9.2.1.2)."""
    padded = np.pad(region, 1)
    within = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return region & ~within


def _unused(position: int, pixels: PixelDescription) -> bool:
    """Whether a bit is none of the pixel's own."""
    lowest = pixels.high_bit - pixels.bits_stored + 1
    return 0 <= position < pixels.bits_allocated and not lowest <= position <= pixels.high_bit


def _plane(dataset: Dataset, group: str, frame: int) -> int | None:
    """Which of the overlay's frames, from 0, goes with a frame of the image."""
    count = number(dataset, group + FRAMES)
    if count is None or count <= 1:
        return 0
    plane = frame - int(number(dataset, group + FRAME_ORIGIN) or 1)
    return plane if 0 <= plane < count else None


def _bits(data: bytes, start: int, length: int) -> Bits | None:
    """`length` bits from bit `start` on, the first in the lowest bit of a byte (PS3.5 8.1.2); None where they are not there."""
    first, last = start // 8, -(-(start + length) // 8)
    if last > len(data):
        return None
    unpacked = np.unpackbits(np.frombuffer(data[first:last], np.uint8), bitorder="little")
    return unpacked[start % 8 : start % 8 + length].astype(np.bool_)


def _origin(dataset: Dataset, group: str) -> tuple[int, int]:
    """Overlay Origin counts rows and columns from 1, and may lie outside (PS3.3 C.9.2.1.1)."""
    origin = numbers(dataset, group + ORIGIN)
    return (int(origin[0]) - 1, int(origin[1]) - 1) if len(origin) == 2 else (0, 0)
