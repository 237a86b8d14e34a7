"""Uncompressed frames (PS3.5 8.1.1, 8.2): any byte order, 1 to 64 bits, planes, YBR_FULL_422."""

from __future__ import annotations

import numpy as np

from storage.codecs.pixels import Number, PixelDescription
from storage.codecs.samples import Array, in_range
from storage.errors import CannotDecode


def decode_native(frame: bytes, pixels: PixelDescription, bit_offset: int = 0) -> Array:
    """Samples as stored, (rows, columns[, 3]); colour is still in its own space.

    `bit_offset` counts from the first bit of `frame`: 1-bit frames need not begin on a byte (PS3.5 8.1.1), nor
    word-swapped ones on a word.
    """
    if pixels.word_swapped:
        frame = _swap_words(frame)
    if pixels.bits_allocated == 1:
        return unpack_bits(frame, pixels, bit_offset)
    frame = frame[bit_offset // 8 :] if bit_offset else frame
    if _is_subsampled(frame, pixels):
        return in_range(_expand_422(frame, pixels), pixels)
    size = pixels.values * pixels.bits_allocated // 8
    if len(frame) < size:
        raise CannotDecode(
            f"the frame has {len(frame)} bytes where {pixels.rows} x {pixels.columns} pixels need {size}"
        )
    return in_range(_planes(_values(frame, pixels), pixels), pixels)


def unpack_bits(frame: bytes, pixels: PixelDescription, bit_offset: int = 0) -> Array:
    """1-bit samples, the first in the lowest bit of the first byte (PS3.5 8.1.1), one to a byte."""
    if len(frame) * 8 < bit_offset + pixels.values:
        raise CannotDecode(
            f"the frame has {len(frame) * 8 - bit_offset} bits where {pixels.values} are needed"
        )
    packed = np.frombuffer(frame, np.uint8)[bit_offset // 8 :]
    skip = bit_offset % 8
    bits = np.unpackbits(packed, count=skip + pixels.values, bitorder="little")[skip:]
    return bits.reshape(pixels.shape)


def _values(frame: bytes, pixels: PixelDescription) -> Array:
    wire = pixels.dtype.newbyteorder("<" if pixels.syntax.little_endian else ">")
    return np.frombuffer(frame, wire, count=pixels.values).astype(pixels.dtype, copy=False)


def _planes(values: Array, pixels: PixelDescription) -> Array:
    """Planar Configuration 1 is all red, then all green, then all blue (PS3.3 C.7.6.3.1.3)."""
    if pixels.samples == 1:
        return values.reshape(pixels.rows, pixels.columns)
    if pixels.planar_configuration == 1:
        return np.ascontiguousarray(
            np.moveaxis(values.reshape(pixels.samples, pixels.rows, pixels.columns), 0, -1)
        )
    return values.reshape(pixels.shape)


def _is_subsampled(frame: bytes, pixels: PixelDescription) -> bool:
    """Whether chroma is really halved: some writers say YBR_FULL_422 of data that has all of it."""
    return (
        pixels.photometric_interpretation in ("YBR_FULL_422", "YBR_PARTIAL_422")
        and pixels.number is Number.INTEGER
        and len(frame) < pixels.values * pixels.bits_allocated // 8
    )


def _expand_422(frame: bytes, pixels: PixelDescription) -> Array:
    """Y1 Y2 Cb Cr for every two pixels of a row (PS3.3 C.7.6.3.1.2)."""
    if pixels.columns % 2:
        raise CannotDecode("YBR_FULL_422 needs an even number of columns")
    quads = pixels.rows * pixels.columns // 2
    if len(frame) < quads * 4 * pixels.bits_allocated // 8:
        raise CannotDecode(
            f"the frame has {len(frame)} bytes, too few for YBR_FULL_422 of {pixels.rows} x {pixels.columns}"
        )
    wire = pixels.dtype.newbyteorder("<" if pixels.syntax.little_endian else ">")
    packed = np.frombuffer(frame, wire, count=quads * 4).reshape(quads, 4)
    pairs = np.empty((quads, 2, 3), pixels.dtype)
    pairs[:, :, 0] = packed[:, :2]
    pairs[:, :, 1:] = packed[:, None, 2:]
    return pairs.reshape(pixels.shape)


def _swap_words(frame: bytes) -> bytes:
    """Bytes in the order of the samples. An odd last byte has its partner outside the frame: it cannot be had."""
    if len(frame) % 2:
        raise CannotDecode("a big endian frame of words ends inside a word; read it to the word's end")
    return np.frombuffer(frame, ">u2").astype("<u2").tobytes()
