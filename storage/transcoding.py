"""A stored instance in another transfer syntax, without loss: frames decoded one by one, everything else copied (PS3.5 8, A.2, A.4).

From every compressed syntax that can be decoded, and from Explicit VR Little Endian, to Explicit and Implicit VR Little
Endian. What was compressed with loss is given as it decodes: nothing is lost that was not lost before, and the data set
goes on saying so (Lossy Image Compression).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import orjson

from storage import codecs
from storage.codecs import PixelDescription
from storage.errors import CannotDecode, NotAcceptable
from storage.index import Layout
from storage.part10 import file_meta
from storage.rewriting import (
    PIXEL_DATA,
    behind_fragments,
    elements,
    explicit,
    implicit,
    to_implicit,
    with_values,
)
from storage.transfer_syntaxes import EXPLICIT_LITTLE, IMPLICIT_LITTLE, Coding, lookup
from storage.types import Blobs

_UNCOMPRESSED: Final = (EXPLICIT_LITTLE, IMPLICIT_LITTLE)
_UNDECODABLE: Final = frozenset({Coding.NATIVE, Coding.VIDEO, Coding.REFERENCED})
# What is not pixel data is held in memory while it is rewritten (RELIABILITY 7 to 9 has the same limit for ingest).
_LARGEST_HEADER: Final = 64 << 20
_LARGEST_VALUE: Final = 0xFFFFFFFE
_PIECE: Final = 1 << 20
# Data Set Trailing Padding, and Digital Signatures, which hold no longer when pixels are decoded.
_NOT_KEPT: Final = frozenset({0xFFFCFFFC})
_SIGNATURES: Final = 0xFFFAFFFA
_PHOTOMETRIC, _PLANAR, _HIGH_BIT = 0x00280004, 0x00280006, 0x00280102


@dataclass(frozen=True, slots=True)
class Transcoded:
    """An instance in `transfer_syntax_uid`. `length` is that of its data set in bytes."""

    transfer_syntax_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    length: int
    _pieces: Callable[[], Iterator[bytes]]

    def dataset(self) -> Iterator[bytes]:
        """The data set in pieces; raises CannotDecode at the frame that cannot be decoded."""
        return self._pieces()

    def part10(self) -> Iterator[bytes]:
        """A Part 10 file in pieces."""
        yield file_meta(self.sop_class_uid, self.sop_instance_uid, self.transfer_syntax_uid)
        yield from self._pieces()


def targets(stored: str) -> tuple[str, ...]:
    """Transfer syntaxes into which an instance stored in `stored` can be brought without loss, the stored one first."""
    syntax = lookup(stored)
    if stored == EXPLICIT_LITTLE or (syntax.encapsulated and syntax.coding not in _UNDECODABLE):
        return (stored, *(uid for uid in _UNCOMPRESSED if uid != stored))
    return (stored,)


def transcoded(layout: Layout, blobs: Blobs, wanted: str) -> Transcoded:
    """The data set of a stored instance in `wanted`, frame by frame; memory of its header and of a frame.

    Raises NotAcceptable when it cannot be had without loss, CannotDecode when it cannot be read.
    """
    located = layout.located
    stored = located.transfer_syntax_uid
    if wanted not in targets(stored):
        raise NotAcceptable(f"{lookup(stored).name} cannot be brought into {lookup(wanted).name} without loss")
    source = _Source(layout, blobs)
    if wanted == stored:
        return source.made(wanted, located.size - located.dataset_offset, source.as_stored)
    head = source.head(wanted)
    pixels = source.pixel_header(wanted)
    tail = source.tail(wanted)
    size = source.pixel_bytes
    length = len(head) + len(pixels) + size + size % 2 + len(tail)

    def pieces() -> Iterator[bytes]:
        yield head + pixels
        if size:
            yield from source.pixel_pieces()
        if tail:
            yield tail

    return source.made(wanted, length, pieces)


class _Source:
    """One stored instance as what it becomes is made of it."""

    def __init__(self, layout: Layout, blobs: Blobs) -> None:
        self._layout = layout
        self._located = layout.located
        self._blobs = blobs
        self._native = lookup(layout.located.transfer_syntax_uid).coding is Coding.NATIVE
        self._frames = layout.frames.count
        # Of encapsulated pixel data: what its frames are, and what they are once decoded.
        self._pixels: PixelDescription | None = None
        if not self._native and self._frames:
            dataset = orjson.loads(layout.json)
            self._pixels = PixelDescription.from_dataset(dataset, layout.located.transfer_syntax_uid)
        self._native_value = self._pixel_item()
        self.pixel_bytes = self._size_of_pixels()

    def made(self, wanted: str, length: int, pieces: Callable[[], Iterator[bytes]]) -> Transcoded:
        located = self._located
        return Transcoded(wanted, located.sop_class_uid, located.uids.instance, length, pieces)

    def as_stored(self) -> Iterator[bytes]:
        return self._blobs.stream(self._located.object_key, self._located.dataset_offset)

    def head(self, wanted: str) -> bytes:
        """Everything before the pixel data."""
        located = self._located
        end = self._first_pixel()
        if end - located.dataset_offset > _LARGEST_HEADER:
            raise NotAcceptable(f"what is not pixel data is over {_LARGEST_HEADER} bytes: it can be had as stored only")
        data = memoryview(self._blobs.read(located.object_key, located.dataset_offset, end - located.dataset_offset))
        if self._pixels is not None:
            data = memoryview(with_values(data, 0, len(data), self._described(self._pixels)))
        return to_implicit(data, 0, len(data)) if wanted == IMPLICIT_LITTLE else bytes(data)

    def tail(self, wanted: str) -> bytes:
        """What comes after the pixel data, as it has in the files of some makers; padding and broken seals left out."""
        key, start = self._located.object_key, self._behind_pixels()
        if start is None or self._located.size - start > _LARGEST_HEADER:
            return b""
        data = memoryview(self._blobs.read(key, start))
        if not self._native:
            data = data[behind_fragments(data) :]
        dropped = _NOT_KEPT if self._native else {*_NOT_KEPT, _SIGNATURES}
        kept = b"".join(data[one.start : one.stop] for one in elements(data, 0, len(data)) if one.tag not in dropped)
        return to_implicit(memoryview(kept), 0, len(kept)) if wanted == IMPLICIT_LITTLE else kept

    def _behind_pixels(self) -> int | None:
        """Where native pixel data ends, or the last fragment of a frame."""
        if self._native_value is not None:
            offset, length = self._native_value
            return offset + length + length % 2
        if self._pixels is None:
            return None
        return max(offset + length + length % 2 for offset, length in self._layout.frames.ranges(self._frames))

    def _first_pixel(self) -> int:
        """Where reading may end: at the pixel data's first byte, or at the end of the object."""
        if self._native_value is not None:
            # Its header has twelve bytes, and is made anew.
            return self._native_value[0] - 12
        return self._layout.frames.ranges(1)[0][0] if self._pixels is not None else self._located.size

    def _pixel_item(self) -> tuple[int, int] | None:
        """Offset and length of native pixel data."""
        if not self._native:
            return None
        found = next((one for one in self._layout.bulk if one.path == f"{PIXEL_DATA:08X}" and one.length >= 0), None)
        return (found.offset, found.length) if found else None

    def _size_of_pixels(self) -> int:
        if self._native_value is not None:
            return self._native_value[1]
        if self._pixels is None:
            return 0
        bits = self._pixels.values * self._pixels.bits_allocated
        if bits % 8 and self._frames > 1:
            raise NotAcceptable("frames of single-bit pixels that share a byte can be had as stored only")
        size = (bits + 7) // 8 * self._frames
        if size > _LARGEST_VALUE:
            raise NotAcceptable("decoded it would be over four gigabytes, more than an element holds")
        return size

    def _described(self, pixels: PixelDescription) -> dict[int, tuple[bytes, bytes]]:
        """The elements of the Image Pixel module that are others once frames are decoded (PS3.3 C.7.6.3)."""
        after = codecs.described_as_little(pixels)
        interpretation = after.photometric_interpretation.encode("ascii", "replace")
        changed = {
            _PHOTOMETRIC: (b"CS", interpretation + b" " * (len(interpretation) % 2)),
            _HIGH_BIT: (b"US", struct.pack("<H", after.high_bit)),
        }
        if after.samples > 1:
            changed[_PLANAR] = (b"US", struct.pack("<H", after.planar_configuration))
        return changed

    def pixel_header(self, wanted: str) -> bytes:
        size = self.pixel_bytes + self.pixel_bytes % 2
        if not size and self._native_value is None:
            return b""
        if wanted == IMPLICIT_LITTLE:
            return implicit(PIXEL_DATA, size)
        wide = self._pixels is None or self._pixels.bits_allocated > 8
        return explicit(PIXEL_DATA, b"OW" if wide else b"OB", b"")[:8] + struct.pack("<I", size)

    def pixel_pieces(self) -> Iterator[bytes]:
        """The pixel data's value, and what makes its length even."""
        if self._native_value is not None:
            yield from self._blobs.stream(self._located.object_key, *self._native_value)
        else:
            for number in range(1, self._frames + 1):
                yield self._frame(number)
        if self.pixel_bytes % 2:
            yield b"\0"

    def _frame(self, number: int) -> bytes:
        assert self._pixels is not None
        key = self._located.object_key
        ranges = self._layout.frames.ranges(number)
        stored = b"".join(self._blobs.read(key, offset, length) for offset, length in ranges)
        decoded, _ = codecs.to_explicit_little(stored, self._pixels)
        if len(decoded) * self._frames != self.pixel_bytes:
            raise CannotDecode(f"frame {number} has {len(decoded)} bytes when it is decoded, which is not what the data set says")
        return decoded
