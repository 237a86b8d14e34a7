"""A stored instance in another transfer syntax (PS3.18 8.7.3, PS3.4 B.2.1, C.4.2): with loss only where asked, never all in memory.

What can be had of whatever is stored is Explicit and Implicit VR Little Endian: the data set is written anew, and pixel
data that is encapsulated is decoded frame by frame when its turn to be sent comes. Compressed transfer syntaxes without loss
can be had of the pixels that they can hold: their frames are encoded first, into a spool, because nobody knows their lengths.
With loss it is another instance, which `storage.deriving` says of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import gcd

import numpy as np
import orjson

from storage import codecs, part10
from storage.codecs.keeping import described_as_little, with_its_colour
from storage.codecs.pixels import PixelDescription
from storage.deriving import Derivation, check_may_lose, derivation, lossy_uid
from storage.encapsulation import encapsulated
from storage.errors import CannotDecode, NotAcceptable
from storage.index import Layout
from storage.pieces import Extent, Made, Piece, complete, length_of
from storage.rewriting import Replacement, Rewriting, turned
from storage.scanner import encoding, inflate
from storage.spool import Spool
from storage.transfer_syntaxes import Coding, lookup, lossy_targets, targets
from storage.types import Blobs

PIXEL_DATA = 0x7FE00010
_PHOTOMETRIC, _PLANAR, _HIGH_BIT = 0x00280004, 0x00280006, 0x00280102
_OFFSET_TABLES = (0x7FE00001, 0x7FE00002)
# What is untrue of pixels coded anew: offsets and lengths of fragments, and signatures over them (PS3.3 C.12.1.1.3).
_UNTRUE = (*_OFFSET_TABLES, 0x7FE00003, 0xFFFAFFFA)
# The length of an element has 32 bits, and all ones mean that it is undefined (PS3.5 7.1).
_LONGEST = 0xFFFFFFFE
# A native frame costs a list entry, so a count that is a lie must not become a list.
_MOST_FRAMES = 100_000
_WINDOW = 1 << 18


@dataclass(frozen=True, slots=True)
class Transcoded:
    """An instance as it goes out: `dataset` are its pieces, whose lengths are known before any of them is read."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    dataset: tuple[Piece, ...]

    @property
    def part10(self) -> tuple[Piece, ...]:
        """With preamble and File Meta Information before it (PS3.10 7.1)."""
        head = part10.file_meta(self.sop_class_uid, self.sop_instance_uid, self.transfer_syntax_uid)
        return (head, *self.dataset)


def transcoded(
    layout: Layout, blobs: Blobs, wanted: str, spool: Callable[[], Spool], *, lossy: bool = False
) -> Transcoded:
    """A stored instance in the transfer syntax `wanted`, which is one of `transfer_syntaxes.targets`, or of `lossy_targets` where
    `lossy` says that it may be another instance, with another SOP Instance UID, that shows nearly the same.

    Raises NotAcceptable for any other and for pixel data that would be too large or that `wanted` cannot hold, CannotDecode
    where the stored data set cannot be understood well enough. A frame that cannot be decoded shows here where it is to be
    encoded anew, for which `spool` gives the room, and else when it is read.
    """
    located = layout.located
    uid = located.uids.instance
    if lossy and wanted in lossy_targets(located.transfer_syntax_uid):
        check_may_lose(located.sop_class_uid)
        uid = lossy_uid(uid, wanted)
    elif wanted not in targets(located.transfer_syntax_uid):
        could = ", ".join(targets(located.transfer_syntax_uid))
        raise NotAcceptable(f"the instance cannot be had in {wanted} without loss; it can be had in {could}")
    if wanted == located.transfer_syntax_uid:
        start = located.dataset_offset
        pieces: tuple[Piece, ...] = (Extent(located.object_key, start, located.size - start),)
    else:
        pieces = tuple(_rewritten(layout, blobs, wanted, spool))
    return Transcoded(located.sop_class_uid, uid, wanted, pieces)


def possible(layout: Layout, *, lossy: bool = False) -> tuple[str, ...]:
    """The `targets` of a stored instance that can hold pixels such as it has, the stored syntax first, then its `lossy_targets`
    where that is allowed."""
    stored = layout.located.transfer_syntax_uid
    try:
        pixels = _described(layout) if layout.frames.count else None
    except CannotDecode:
        pixels = None
    kept = (uid for uid in targets(stored) if uid == stored or not lookup(uid).encapsulated or _holds(uid, pixels))
    return (*kept, *(_possible_with_loss(layout, pixels) if lossy else ()))


def _possible_with_loss(layout: Layout, pixels: PixelDescription | None) -> Iterator[str]:
    try:
        check_may_lose(layout.located.sop_class_uid)
    except NotAcceptable:
        return
    yield from (uid for uid in lossy_targets(layout.located.transfer_syntax_uid) if _holds(uid, pixels))


def _holds(target: str, pixels: PixelDescription | None) -> bool:
    try:
        return pixels is not None and bool(codecs.described_as(pixels, target))
    except (NotAcceptable, CannotDecode):
        return False


def _rewritten(layout: Layout, blobs: Blobs, wanted: str, spool: Callable[[], Spool]) -> Iterator[Piece]:
    syntax = lookup(layout.located.transfer_syntax_uid)
    source: _Stored | _Inflated = _Inflated(layout, blobs) if layout.inflated else _Stored(layout, blobs)
    replaced, ends = dict[int, Replacement](), {}
    derived = Derivation()
    fragments = next((item for item in layout.bulk if item.length == -1 and "/" not in item.path), None)
    if lookup(wanted).encapsulated:
        replaced, derived = _encoded(layout, source, wanted, spool)
    elif syntax.encapsulated and fragments is not None:
        replaced = _decoded(layout, blobs)
    if syntax.encapsulated and fragments is not None:
        ends[fragments.offset] = _end_of_fragments(layout, source, fragments.offset)
    rewriting = Rewriting(
        source,
        source.start,
        source.end,
        # What files declare is not always what they are: the scanner did not believe it either.
        stored=encoding(memoryview(source.read(source.start, _WINDOW)), 0, syntax.little_endian),
        explicit=lookup(wanted).explicit_vr,
        replaced={**replaced, **derived.replaced},
        ends=ends,
        changed=derived.changed,
        inside=derived.inside,
        appended=derived.appended,
    )
    return rewriting.pieces()


def _described(layout: Layout) -> PixelDescription:
    return PixelDescription.from_dataset(layout.dataset(), layout.located.transfer_syntax_uid)


def encoded_frames(layout: Layout, blobs: Blobs, wanted: str) -> Iterator[bytes]:
    """The frames of a stored instance in the transfer syntax `wanted`, one after the other, several being made at a time.

    Raises NotAcceptable at the call where `wanted` cannot hold them; CannotDecode, ObjectMissing.
    """
    source: _Stored | _Inflated = _Inflated(layout, blobs) if layout.inflated else _Stored(layout, blobs)
    pixels = _described(layout)
    codecs.described_as(pixels, wanted)
    frames = (_frame(layout, source, pixels, number) for number in range(1, _count(layout) + 1))
    return codecs.encode_all(frames, pixels, wanted)


def _encoded(
    layout: Layout, source: _Stored | _Inflated, wanted: str, spool: Callable[[], Spool]
) -> tuple[dict[int, Replacement], Derivation]:
    """Pixel data with its frames encoded anew, and what describes them then, and the instance where they have lost something."""
    if not any(item.path == f"{PIXEL_DATA:08X}" for item in layout.bulk) and not layout.frames.count:
        raise NotAcceptable("the instance has no pixel data that could be compressed; get it in Explicit VR Little Endian")
    pixels = _described(layout)
    after = codecs.described_as(pixels, wanted)
    frames = (_frame(layout, source, pixels, number) for number in range(1, _count(layout) + 1))
    encoded = _Counted(codecs.encode_all(frames, pixels, wanted))
    made = encapsulated(encoded, spool())
    tables = zip(_OFFSET_TABLES, made.extended, strict=False)
    replaced = {
        **_no_longer(after),
        **{tag: Replacement("OV", (value,)) for tag, value in tables},
        PIXEL_DATA: Replacement("OB", made.pieces, undefined=True),
    }
    if wanted in targets(layout.located.transfer_syntax_uid):
        return replaced, Derivation()
    ratio = pixels.decoded_size * _count(layout) / encoded.size
    return replaced, derivation(orjson.loads(layout.json), layout.located, wanted, ratio)


@dataclass(slots=True)
class _Counted:
    """Frames as they pass, and how many bytes they were in all."""

    frames: Iterable[bytes]
    size: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[bytes]:
        for frame in self.frames:
            self.size += len(frame)
            yield frame


def _decoded(layout: Layout, blobs: Blobs) -> dict[int, Replacement]:
    """Pixel data with its frames decoded, and what describes them then."""
    pixels = with_its_colour(_described(layout))
    frames = _frames(layout, blobs, pixels)
    size = sum(map(length_of, frames))
    if size > _LONGEST:
        raise NotAcceptable(
            f"decoded, the pixel data would have {size} bytes, more than an element can; get single frames, or the"
            " instance as it is stored"
        )
    padding: tuple[Piece, ...] = (b"\0",) if size % 2 else ()
    vr = "OW" if pixels.bits_allocated > 8 else "OB"
    return {
        **_no_longer(described_as_little(pixels)),
        PIXEL_DATA: Replacement(vr, (*frames, *padding)),
    }


def _no_longer(after: PixelDescription) -> dict[int, Replacement]:
    """What is not true any more of pixels that are coded otherwise, and what is (PS3.3 C.7.6.3)."""
    changed = {tag: Replacement("") for tag in _UNTRUE}
    if after.bits_allocated > 1:
        changed[_HIGH_BIT] = Replacement("US", (after.high_bit.to_bytes(2, "little"),))
    if after.samples > 1:
        name = after.photometric_interpretation.encode("ascii")
        changed[_PHOTOMETRIC] = Replacement("CS", (name + b" " * (len(name) % 2),))
        changed[_PLANAR] = Replacement("US", (after.planar_configuration.to_bytes(2, "little"),))
    return changed


def _count(layout: Layout) -> int:
    count = layout.frames.count
    if not count:
        raise CannotDecode("where the frames lie in the pixel data is not clear; get the instance as it is stored")
    if count > _MOST_FRAMES:
        raise CannotDecode(f"the instance says that it has {count} frames; get those that you need one by one")
    return count


def _frames(layout: Layout, blobs: Blobs, pixels: PixelDescription) -> tuple[Made, ...]:
    count = _count(layout)
    numbers = range(1, count + 1)
    if pixels.bits_allocated == 1 and pixels.values % 8 and count > 1:
        return tuple(_packed(layout, blobs, pixels))
    size = -(-pixels.values // 8) if pixels.bits_allocated == 1 else pixels.decoded_size

    def made(number: int) -> Made:
        return Made(
            size, lambda: codecs.to_explicit_little(_stored_frame(layout, blobs, number), pixels)[0]
        )

    return tuple(made(number) for number in numbers)


def _packed(layout: Layout, blobs: Blobs, pixels: PixelDescription) -> Iterator[Made]:
    """Frames of single bits, which follow one another without padding (PS3.5 8.1.1): as few together as fill whole bytes."""
    count, together = layout.frames.count, 8 // gcd(pixels.values, 8)

    def made(numbers: range) -> Made:
        def pack() -> bytes:
            frames = [codecs.decode(_stored_frame(layout, blobs, number), pixels).ravel() for number in numbers]
            return np.packbits(np.concatenate(frames), bitorder="little").tobytes()

        return Made(-(-pixels.values * len(numbers) // 8), pack)

    for first in range(1, count + 1, together):
        yield made(range(first, min(first + together, count + 1)))


def _stored_frame(layout: Layout, blobs: Blobs, number: int) -> bytes:
    """The bytes of a frame, its fragments joined. Raises ObjectMissing where the object ends before."""
    ranges = layout.frames.ranges(number)
    key = layout.located.object_key
    found = b"".join(blobs.read(key, offset, length) for offset, length in ranges)
    complete(len(found), sum(length for _, length in ranges))
    return found


def _frame(
    layout: Layout, source: _Stored | _Inflated, pixels: PixelDescription, number: int
) -> tuple[bytes, int]:
    """The bytes of a frame and the bit at which it begins in them; samples of a byte in big endian words by whole words."""
    ranges, bit_offset = layout.frames.ranges(number), layout.frames.bit_offset(number)
    if pixels.word_swapped and pixels.syntax.coding is Coding.NATIVE:
        ((start, length),) = ranges
        odd, end = (start - layout.frames.first) % 2, (start + length - layout.frames.first) % 2
        ranges, bit_offset = ((start - odd, length + odd + end),), bit_offset + 8 * odd
    found = b"".join(source.read(offset, length) for offset, length in ranges)
    complete(len(found), sum(length for _, length in ranges))
    return found, bit_offset


def _end_of_fragments(layout: Layout, source: _Stored | _Inflated, begin: int) -> int:
    """Behind the delimiter of encapsulated pixel data (PS3.5 A.4): found from its last frame, of which we know."""
    at = begin
    if layout.frames.count:
        at = max(offset + length for offset, length in layout.frames.ranges(layout.frames.count))
    while len(header := source.read(at, 8)) == 8:
        group, element, length = (int.from_bytes(header[i:j], "little") for i, j in ((0, 2), (2, 4), (4, 8)))
        at += 8
        if (group, element) != (0xFFFE, 0xE000):
            # A sequence delimiter; without one, the pixel data ends where the items do.
            return at if (group, element) == (0xFFFE, 0xE0DD) else at - 8
        at += length
    return source.end


class _Stored:
    """The data set in its object, read through a window."""

    def __init__(self, layout: Layout, blobs: Blobs) -> None:
        self._blobs = blobs
        self._key = layout.located.object_key
        self.start, self.end = layout.located.dataset_offset, layout.located.size
        self._window, self._at = b"", 0

    def read(self, offset: int, length: int) -> bytes:
        """See `storage.rewriting.Source`."""
        begin = offset - self._at
        if begin < 0 or begin + length > len(self._window):
            self._window = self._blobs.read(self._key, offset, max(length, _WINDOW))
            self._at, begin = offset, 0
        return self._window[begin : begin + length]

    def value(self, offset: int, length: int, word: int) -> Iterator[Piece]:
        """See `storage.rewriting.Source`."""
        if word == 1:
            yield Extent(self._key, offset, length)
            return
        # In parts of whole words, so that a long value is never in memory at once.
        for at in range(offset, offset + length, _WINDOW):
            yield self._turned(at, min(_WINDOW, offset + length - at), word)

    def _turned(self, offset: int, length: int, word: int) -> Made:
        return Made(length, lambda: turned(self._blobs.read(self._key, offset, length), word))


class _Inflated:
    """The data set of a deflated object, in memory: it is known to inflate within its limit."""

    def __init__(self, layout: Layout, blobs: Blobs) -> None:
        located = layout.located
        self._data = inflate(blobs.read(located.object_key), located.dataset_offset)
        self.start, self.end = 0, len(self._data)

    def read(self, offset: int, length: int) -> bytes:
        """See `storage.rewriting.Source`."""
        return self._data[offset : offset + length]

    def value(self, offset: int, length: int, word: int) -> Iterator[Piece]:
        """See `storage.rewriting.Source`."""
        yield turned(self._data[offset : offset + length], word)
