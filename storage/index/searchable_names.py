"""Additional attributes as an administrator writes them: names to paths, VRs and levels."""

from __future__ import annotations

import re

from pydicom.datadict import dictionary_VR, tag_for_keyword

from storage import private
from storage.dictionary import EXPLICIT_VRS
from storage.errors import BadRequest
from storage.types import Level

_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_LEVELS = {"": None, "study": Level.STUDY, "series": Level.SERIES, "instance": Level.IMAGE, "image": Level.IMAGE}


def path_named(text: str, creator: str = "") -> tuple[str, ...]:
    """The path of keywords and tags with dots between. Raises BadRequest for what is none, and for private attributes
    without their creator: it alone says what they are (PS3.5 7.8.1)."""
    return tuple(_tag(name, creator) for name in text.split("."))


def vr_named(path: tuple[str, ...], text: str = "") -> str:
    """The VR of the attribute at a path: that of the dictionary, else `text`. Raises BadRequest where neither knows."""
    if text and text.encode("ascii", "replace") not in EXPLICIT_VRS:
        raise BadRequest(f"{text[:20]!r} is no value representation; write for example LO")
    last = path[-1]
    if private.is_key(last):
        known = text or private.vr(last)
        if not known:
            raise BadRequest(f"no dictionary has the value representation of {last}; give it with --vr")
        return known
    return dictionary_VR(int(last, 16)).split(" or ")[0]


def level_named(text: str) -> Level | None:
    """The level of a name; None for an empty one. Raises BadRequest."""
    if text.lower() not in _LEVELS:
        raise BadRequest(f"{text[:20]!r} is no level; write study, series or instance")
    return _LEVELS[text.lower()]


def _tag(name: str, creator: str) -> str:
    if not _TAG.fullmatch(name):
        # The dictionary has an entry without a keyword, which would answer to an empty name.
        number = tag_for_keyword(name) if name else None
        if number is None:
            raise BadRequest(f"{name[:80]!r} is no attribute; write a keyword such as ProtocolName, or its tag, 00181030")
        return f"{number:08X}"
    tag = name.upper()
    if not private.is_private(tag):
        try:
            dictionary_VR(int(tag, 16))
        except KeyError:
            raise BadRequest(f"{tag} is not in the data dictionary, and it is not private; check it") from None
        return tag
    if not creator:
        raise BadRequest(f"{tag} is private: name its creator too, as (gggg,{tag[4:6].rjust(4, '0')}) has it")
    return private.key(tag, creator)
