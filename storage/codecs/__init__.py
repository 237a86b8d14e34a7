"""Frames from any transfer syntax to samples, behind header checks; foreign streams in worker processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from storage.codecs.decoding import decode_here, is_little, little_bytes
from storage.codecs.encoding import described_as
from storage.codecs.keeping import described_as_little, with_every_bit
from storage.codecs.pixels import Number, PixelDescription, has_pixels
from storage.codecs.pool import DecoderPool, shared_pool
from storage.codecs.samples import Array

__all__ = (
    "Array",
    "DecoderPool",
    "Number",
    "PixelDescription",
    "convert",
    "decode",
    "decode_here",
    "described_as",
    "described_as_little",
    "encode",
    "encode_all",
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


def convert(picture: Array, source: bytes, target: bytes) -> Array:
    """A picture, uint8 of (rows, columns, 3), from the colours of the ICC profile `source` to those of `target`.

    Made in this process's pool of workers. Raises CannotDecode for a profile that cannot be used, Unavailable as `decode`.
    """
    return shared_pool().convert(picture, source, target)


def encode(frame: bytes, pixels: PixelDescription, target: str, *, bit_offset: int = 0) -> bytes:
    """A stored frame as a frame of the transfer syntax `target`, without loss; `described_as` says what it then is.

    Made in this process's pool of workers, where foreign streams are decoded on the way. Raises NotAcceptable where
    `target` cannot hold such pixels, CannotDecode where the frame cannot be read, Unavailable as `decode`.
    """
    return shared_pool().encode(frame, pixels, target, bit_offset=bit_offset)


def encode_all(frames: Iterable[tuple[bytes, int]], pixels: PixelDescription, target: str) -> Iterator[bytes]:
    """`encode` of each (frame, bit offset), in their order, several at a time and no more of them in memory than that."""
    return shared_pool().encode_all(frames, pixels, target)


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
