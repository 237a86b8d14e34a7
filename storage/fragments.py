"""The items of encapsulated pixel data (PS3.5 A.4): walked from header to header, their contents not touched."""

from __future__ import annotations

import struct

from storage.errors import LimitExceeded
from storage.levels import Fragment

_HEADER = struct.Struct("<HHI")
_ITEM, _END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)


def walk_fragments(data: memoryview, begin: int, most: int) -> tuple[list[Fragment], int, str]:
    """(offset and length of each item, where the walk ended, the code of what was wrong or an empty text).

    The first item is the Basic Offset Table. Encapsulated pixel data is little endian always. Raises LimitExceeded for
    more than `most` items.
    """
    found: list[Fragment] = []
    size, pos = len(data), begin
    while pos + 8 <= size:
        group, element, length = _HEADER.unpack_from(data, pos)
        if (group, element) == _END:
            return found, pos + 8, ""
        if (group, element) != _ITEM:
            return found, pos, "bad-fragments"
        pos += 8
        if pos + length > size:
            found.append((pos, size - pos))
            return found, size, "truncated"
        if len(found) > most:
            raise LimitExceeded(f"the pixel data has more than {most} fragments; send the frames in fewer pieces")
        found.append((pos, length))
        pos += length
    return found, size, "truncated"
