"""What an encoder is, and what those of several transfer syntaxes have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from storage.codecs.pixels import PixelDescription
from storage.codecs.samples import Array

# A decoder that wants the lowest resolution for a thumbnail gets one of about this many pixels.
_SMALLEST_SIDE = 64
# Where the first component's depth and sign are in a codestream (T.800 A.5.1).
_SSIZ = 42


@dataclass(frozen=True, slots=True)
class Encoder:
    """`write` makes a codestream of samples (rows, columns[, 3]), and of what describes them.

    `bits`: what Bits Allocated can be; `colours`: Photometric Interpretation of three samples, before and after.
    """

    write: Callable[[Array, PixelDescription], bytes]
    bits: frozenset[int]
    colours: Mapping[str, str]


def precision(values: Array, pixels: PixelDescription, *, unsigned: bool) -> int:
    """Bits per sample to code: those stored where nothing lies above them, else those allocated.

    `unsigned` codes have no sign, and few decoders extend one: two's complement is coded whole. Nor does a sample of two
    bytes become a stream of one, which decoders would give back as bytes.
    """
    allocated, stored = pixels.bits_allocated, pixels.bits_stored
    if pixels.signed and unsigned:
        return allocated
    half = 1 << (stored - 1) if pixels.signed else 1 << stored
    if values.size and (int(values.max()) >= half or int(values.min()) < (-half if pixels.signed else 0)):
        return allocated
    return max(stored, allocated // 2 + 1 if allocated > 8 else 2)


def bare(values: Array) -> Array:
    """Two's complement as the unsigned number of the same bits."""
    return np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")


def resolutions(pixels: PixelDescription) -> int:
    """How many times the picture may be halved before its smaller side is below that of a thumbnail."""
    return max(0, min(8, (min(pixels.rows, pixels.columns) // _SMALLEST_SIDE).bit_length() - 1))


def with_depth(stream: bytes, bits: int, pixels: PixelDescription) -> bytes:
    """A JPEG 2000 codestream whose SIZ says `bits` bits of every component (T.800 A.5.1), and their sign."""
    told = bytearray(stream)
    for component in range(pixels.samples):
        told[_SSIZ + 3 * component] = (bits - 1) | (0x80 if pixels.signed else 0)
    return bytes(told)
