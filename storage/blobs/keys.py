"""What a key may look like, what a range may be, and what may lie under a key, for every store alike."""

from __future__ import annotations

import re
from enum import Enum, auto

# A segment begins with a letter or digit, so that neither `..` nor a hidden or absolute path can be one.
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9][A-Za-z0-9._-]{0,127}){0,7}")

# Bytes that a stream hands out at once.
PIECE = 1 << 20


class Present(Enum):
    """What lies under a key before something is put there."""

    NOTHING = auto()
    SOUND = auto()
    DAMAGED = auto()


def is_key(text: str) -> bool:
    """Whether a store accepts `text` as a key."""
    return _KEY.fullmatch(text) is not None


def checked(key: str) -> str:
    """`key` itself; raises ValueError for one that no store accepts, which is a fault of the program."""
    if not is_key(key):
        raise ValueError(f"{key!r} is not an object key: letters, digits, '.', '_', '-' in segments divided by '/'")
    return key


def check_range(offset: int, length: int | None) -> None:
    """Raises ValueError for a negative offset or length, which is a fault of the program."""
    if offset < 0 or (length is not None and length < 0):
        raise ValueError(f"offset {offset} and length {length} must not be negative")
