"""Encapsulated pixel data (PS3.5 A.4) of frames that are made one after the other: spooled, so that lengths are known."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from storage.pieces import Made, Piece
from storage.spool import Spool

_ITEM = struct.Struct("<HHI")
_DELIMITER = _ITEM.pack(0xFFFE, 0xE0DD, 0)
_LARGEST_OFFSET = 0xFFFFFFFF
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Encapsulated:
    """`pieces` are the value of Pixel Data with its delimiter; `extended`, if not empty, the value of (7FE0,0001), (7FE0,0002)."""

    pieces: tuple[Piece, ...]
    extended: tuple[bytes, ...] = ()


def encapsulated(frames: Iterable[bytes], spool: Spool) -> Encapsulated:
    """One fragment a frame, with a Basic Offset Table, or the extended one where 32 bits do not reach (PS3.3 C.7.6.3.1.8).

    No more than a frame is in memory. The spool is closed; what was in it is there until the last piece is forgotten.
    """
    offsets, lengths = array("Q"), array("Q")
    with spool:
        for frame in frames:
            offsets.append(spool.size)
            lengths.append(len(frame))
            spool.write(_ITEM.pack(0xFFFE, 0xE000, len(frame) + len(frame) % 2))
            spool.write(frame + b"\0" if len(frame) % 2 else frame)
        view = spool.view()
    if offsets[-1] > _LARGEST_OFFSET:
        extended = (struct.pack(f"<{len(offsets)}Q", *offsets), struct.pack(f"<{len(lengths)}Q", *lengths))
        return Encapsulated((_table(b""), *_cut(view), _DELIMITER), extended)
    table = struct.pack(f"<{len(offsets)}I", *offsets)
    return Encapsulated((_table(table), *_cut(view), _DELIMITER))


def _table(offsets: bytes) -> bytes:
    return _ITEM.pack(0xFFFE, 0xE000, len(offsets)) + offsets


def _cut(view: memoryview) -> Iterator[Made]:
    for at in range(0, len(view), _PIECE):
        part = view[at : at + _PIECE]
        yield Made(len(part), part.tobytes)
