"""Room for bytes that arrive: whole pages, as a disk takes them without a copy, and used again by who comes next."""

from __future__ import annotations

import contextlib
import mmap
from typing import Final

ROOM_BYTES: Final = 1 << 20
# Fresh pages cost more than what is done with them; so many are kept by a process.
_MOST_KEPT: Final = 8
_kept: list[mmap.mmap] = []


def take(size: int) -> mmap.mmap:
    """Room for `size` bytes at least, with anything in it. Give it back with `give`, or forget it."""
    if size <= ROOM_BYTES:
        with contextlib.suppress(IndexError):
            return _kept.pop()
    # Not shared with the children that a process forks.
    return mmap.mmap(-1, max(size, ROOM_BYTES), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def give(room: mmap.mmap) -> None:
    """The caller has done with it. It is used again unless somebody still looks at it; then it goes when they have done."""
    if len(room) != ROOM_BYTES or len(_kept) >= _MOST_KEPT:
        return
    try:
        # Refused while there are views of it. Changes nothing.
        room.resize(ROOM_BYTES)
    except (BufferError, OSError, SystemError):
        # SystemError: this system cannot do it at all.
        return
    _kept.append(room)
