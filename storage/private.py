"""Private attributes by their creator (PS3.5 7.8.1): which block of a group a creator has reserved differs between data sets.

A *key* names an attribute whatever its block: `0009xx01:ACME 1.1` is (0009,1001) where (0009,0010) says `ACME 1.1`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydicom.datadict import private_dictionary_VR

_KEY = re.compile(r"[0-9A-F]{4}xx[0-9A-F]{2}:.+", re.DOTALL)


def is_private(tag: str) -> bool:
    """Whether a tag is that of a private data element: of an odd group, in a block that a creator reserves."""
    return len(tag) == 8 and int(tag[:4], 16) % 2 == 1 and tag[4:6] != "00"


def is_creator(tag: str) -> bool:
    """Whether a tag is that of a Private Creator, (gggg,0010) to (gggg,00FF)."""
    return len(tag) == 8 and int(tag[:4], 16) % 2 == 1 and tag[4:6] == "00" and tag[6:] >= "10"


def creator_tag(tag: str) -> str:
    """The tag of the Private Creator of a private data element."""
    return f"{tag[:4]}00{tag[4:6]}"


def key(tag: str, creator: str) -> str:
    """The key of a private data element."""
    return f"{tag[:4]}xx{tag[6:]}:{creator}"


def is_key(text: str) -> bool:
    """Whether a text is such a key, and no tag."""
    return _KEY.fullmatch(text) is not None


def vr(found: str) -> str | None:
    """The VR of a key, where the dictionary of private attributes has it and the standard allows it."""
    group, _, rest = found.partition("xx")
    element, _, creator = rest.partition(":")
    try:
        known = private_dictionary_VR(int(f"{group}10{element}", 16), creator)
    except KeyError:
        return None
    return known if re.fullmatch(r"[A-Z]{2}", known) and known != "UN" else None


def tag_in(dataset: Mapping[str, Mapping[str, Any]], found: str) -> str:
    """The tag that a key has in a data set; of anything else, and where the creator has no block, the text itself."""
    if ":" not in found:
        return found
    group, _, rest = found.partition("xx")
    element, _, creator = rest.partition(":")
    for tag, reserved in dataset.items():
        if tag[:4] == group and tag[4:6] == "00" and (reserved.get("Value") or [""])[0] == creator:
            return f"{group}{tag[6:]}{element}"
    return found


def split(path: str) -> list[str]:
    """The tags and keys of a path that is written with dots; a creator in it has its own dots written as `%2E`."""
    return [part.replace("%2E", ".").replace("%25", "%") if ":" in part else part for part in path.split(".")]


def joined(path: tuple[str, ...]) -> str:
    """The reverse."""
    return ".".join(part.replace("%", "%25").replace(".", "%2E") if ":" in part else part for part in path)
