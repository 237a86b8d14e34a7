"""Frames from any transfer syntax to samples, behind header checks; foreign streams in worker processes."""

from __future__ import annotations

from storage.codecs.decoding import decode_here, described_as_little, is_little, little_bytes, with_every_bit
from storage.codecs.pixels import Number, PixelDescription, has_pixels
from storage.codecs.pool import DecoderPool, shared_pool
from storage.codecs.samples import Array

__all__ = (
    "Array",
    "DecoderPool",
    "Number",
    "PixelDescription",
    "decode",
    "decode_here",
    "described_as_little",
    "has_pixels",
    "to_explicit_little",
)


def decode(frame: bytes, pixels: PixelDescription, *, bit_offset: int = 0) -> Array:
    """One frame as (rows, columns) or (rows, columns, 3) in RGB, values as stored, of `pixels.dtype`.

    `frame` is the frame's bytes with its fragments joined; `bit_offset` where a native frame begins in them.
    Codecs that bad bytes could crash run in this process's pool of workers. Raises errors.CannotDecode, and
    errors.Unavailable when every worker stays busy. `decode_here` is the same without workers.
    """
    return shared_pool().decode(frame, pixels, bit_offset=bit_offset)


def to_explicit_little(
    frame: bytes, pixels: PixelDescription, *, bit_offset: int = 0
) -> tuple[bytes, PixelDescription]:
    """The frame as Explicit VR Little Endian has it, and what then describes it (PS3.5 A.2).

    Big endian is swapped, colour becomes RGB by pixel, compressed frames are decoded; a frame that already is
    what it should be is returned as it came. Bits above Bits Stored are kept. Raises as `decode`.
    """
    after = described_as_little(pixels)
    if not bit_offset and is_little(frame, pixels):
        return frame, after
    return little_bytes(decode(frame, with_every_bit(pixels), bit_offset=bit_offset), pixels), after
