"""From pixel data to frames: native by arithmetic, encapsulated by offset tables, by counting, or by looking (PS3.5 A.4)."""

from __future__ import annotations

import numpy as np

from storage.elements import Reader
from storage.fragments import NO_FRAGMENTS, Fragment, Fragments
from storage.frames import FrameTable, Ranges
from storage.levels import Pixels
from storage.transfer_syntaxes import TABLE, Coding, lookup

# How a frame's code stream begins, for syntaxes in which a frame may be cut into fragments.
_STARTS = {
    Coding.JPEG: (b"\xff\xd8",),
    Coding.JPEG_LOSSLESS: (b"\xff\xd8",),
    Coding.JPEG_LS: (b"\xff\xd8",),
    Coding.JPEG_2000: (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP"),
    Coding.HTJ2K: (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP"),
    Coding.JPEG_XL: (b"\xff\x0a", b"\0\0\0\x0cJXL "),
}
# Offsets of a Basic Offset Table have 32 bits, however large the pixel data is.
_LONG = np.uint64(0xFFFFFFFF)
_FLOAT_BITS = {0x7FE00008: 32, 0x7FE00009: 64}


def frame_table(reader: Reader, transfer_syntax_uid: str) -> FrameTable:
    """The frames of what `reader` has read; EMPTY where there is no pixel data."""
    pixels = reader.pixels
    if pixels is None or not (pixels.length or pixels.fragments):
        return FrameTable.EMPTY
    count = reader.integer("00280008", 1)
    if count < 1:
        reader.flag("bad-frame-count", "Number of Frames is not a positive number; 1 is taken", "00280008")
        count = 1
    syntax = lookup(transfer_syntax_uid)
    if (pixels.fragments is not None) != syntax.encapsulated and transfer_syntax_uid in TABLE:
        text = "the pixel data is encapsulated or not, against the transfer syntax; its frames may not be readable"
        reader.flag("wrong-syntax", text, f"{pixels.tag:08X}")
    if pixels.fragments is None:
        return _native(reader, pixels, count)
    return _encapsulated(reader, pixels, count, syntax.coding)


def _native(reader: Reader, pixels: Pixels, count: int) -> FrameTable:
    bits = _frame_bits(reader, pixels, count)
    if bits <= 0:
        reader.flag("no-image-size", "Rows, Columns or Bits Allocated is missing: frames cannot be told apart")
        return FrameTable.native(1, pixels.offset, pixels.length * 8, pixels.length)
    needed = (bits * count + 7) // 8
    if pixels.length < needed:
        reader.flag("short-pixel-data", "the pixel data is shorter than Rows, Columns and Number of Frames say", "7FE00010")
        # Frames of which nothing is there are none, however many the data set claims.
        count = -(-pixels.length * 8 // bits)
        bits = min(bits, pixels.length * 8)
    elif pixels.length > needed + needed % 2:
        reader.flag("long-pixel-data", "the pixel data is longer than Rows, Columns and Number of Frames say", "7FE00010")
    return FrameTable.native(count, pixels.offset, bits, min(pixels.length, needed))


def _frame_bits(reader: Reader, pixels: Pixels, count: int) -> int:
    size = max(0, reader.integer("00280010", 0)) * max(0, reader.integer("00280011", 0))
    allocated = _FLOAT_BITS.get(pixels.tag) or reader.integer("00280100", 0)
    samples = reader.integer("00280002", 1)
    colours = ((reader.dataset.get("00280004") or {}).get("Value") or [""])[0]
    whole = size * samples * allocated
    if colours in ("YBR_FULL_422", "YBR_PARTIAL_422") and samples == 3 and pixels.length * 8 < whole * count:
        # Two pixels share their chrominance: four samples for two pixels (PS3.3 C.7.6.3.1.2). Some writers say so of
        # data that has all three samples of each pixel, which its length gives away.
        return size * 2 * allocated
    return whole


def _encapsulated(reader: Reader, pixels: Pixels, count: int, coding: Coding) -> FrameTable:
    everything = pixels.fragments or NO_FRAGMENTS
    table, items = everything[:1], everything[1:]
    fragments = items.filled()
    if not fragments:
        reader.flag("no-fragments", "the encapsulated pixel data holds no fragment", "7FE00010")
        return FrameTable.EMPTY
    if coding is Coding.VIDEO or count == 1:
        return FrameTable.fragments([tuple(fragments)])
    found = _by_extended_offsets(reader, everything, count) or _by_counting(reader, table[0], items, fragments, count)
    if found is not None:
        return found
    frames = _by_basic_offsets(reader, table[0], items, count) or _by_looking(reader, fragments, count, coding)
    return FrameTable.fragments(frames or _at_least(reader, fragments, count))


def _by_extended_offsets(reader: Reader, everything: Fragments, count: int) -> FrameTable | None:
    """Extended Offset Table (PS3.3 C.7.6.3.1.8): one fragment a frame, each named by its offset and length."""
    offsets, lengths = reader.offsets
    if not offsets:
        return None
    if len(offsets) == len(lengths) == 8 * count and len(everything) > 1:
        base = np.uint64(everything[1][0] - 8)
        starts, wanted = np.frombuffer(offsets, "<u8"), np.frombuffer(lengths, "<u8")
        # Fragments follow one another, so that they are found by halving.
        begins = everything.offsets[1:] - 8 - base
        places = np.minimum(np.searchsorted(begins, starts), len(begins) - 1)
        if bool(np.all((begins[places] == starts) & (wanted <= everything.lengths[1:][places]))):
            return FrameTable.single(base + starts + 8, wanted)
    reader.flag("bad-offset-table", "the Extended Offset Table does not fit the fragments", "7FE00001")
    return None


def _by_counting(reader: Reader, table: Fragment, items: Fragments, fragments: Fragments, count: int) -> FrameTable | None:
    """As many fragments as frames: one each, whatever the Basic Offset Table says, because no frame is without."""
    if len(fragments) != count:
        return None
    offset, length = table
    if length and (length != 4 * count or not np.array_equal(reader.longs(offset, length), (fragments.offsets - items.offsets[0]) & _LONG)):
        reader.flag("bad-offset-table", "the Basic Offset Table does not fit the fragments", "7FE00010")
    return FrameTable.single(fragments.offsets, fragments.lengths)


def _by_basic_offsets(reader: Reader, table: Fragment, items: Fragments, count: int) -> list[Ranges] | None:
    """Basic Offset Table: where the first fragment of each frame begins, counted from the item after the table."""
    offset, length = table
    if not length:
        return None
    starts = reader.longs(offset, length).tolist()
    base = items[0][0]
    begins = {at - base: index for index, (at, _) in enumerate(items)}
    firsts = [begins.get(start, -1) for start in starts]
    if len(firsts) != count or firsts[0] != 0 or firsts != sorted(set(firsts)) or -1 in firsts:
        reader.flag("bad-offset-table", "the Basic Offset Table does not fit the fragments", "7FE00010")
        return None
    return [tuple(items[first:last].filled()) for first, last in zip(firsts, [*firsts[1:], len(items)], strict=True)]


def _by_looking(reader: Reader, fragments: Fragments, count: int, coding: Coding) -> list[Ranges] | None:
    """A frame begins with the fragment in which a code stream begins."""
    magics = _STARTS.get(coding)
    if magics is None:
        return None
    frames: list[list[Fragment]] = []
    for fragment in fragments:
        if not frames or reader.starts_with(fragment[0], magics):
            frames.append([])
        frames[-1].append(fragment)
    return [tuple(frame) for frame in frames] if len(frames) == count else None


def _at_least(reader: Reader, fragments: Fragments, count: int) -> list[Ranges]:
    """Nothing tells the frames apart: give what there is, one fragment each, and say so."""
    reader.flag("frames-unclear", "the fragments cannot be assigned to frames", "7FE00010")
    return [(fragment,) for fragment in fragments[:count]]
