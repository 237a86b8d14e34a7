"""UIDs that are made of what they are for, so that the same thing gets the same one each time."""

from __future__ import annotations

import hashlib


def named_uid(name: str) -> str:
    """A UID for a name: from a UUID (PS3.5 B.2) of version 8, which is free in form (RFC 9562 5.8)."""
    digest = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big")
    return f"2.25.{digest & ~(0xF << 76 | 0x3 << 62) | 0x8 << 76 | 0x2 << 62}"
