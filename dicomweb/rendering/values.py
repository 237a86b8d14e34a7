"""Values out of the DICOM JSON model (PS3.18 F.2), for one frame: per-frame groups before shared ones before the top."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from storage.errors import CannotDecode
from storage.per_frame import PER_FRAME_GROUPS, Items
from storage.types import Dataset

SHARED_GROUPS = "52009229"

# Fetches a value that the JSON has by reference: the path of its BulkDataURI -> bytes in little endian.
Bulk = Callable[[str], bytes]


def numbers(dataset: Dataset, tag: str) -> list[float]:
    """The attribute's numbers; what is not a finite number is left out."""
    return [number for value in values(dataset, tag) if (number := _number(value)) is not None]


def number(dataset: Dataset, tag: str) -> float | None:
    """The attribute's first number, or None."""
    found = numbers(dataset, tag)
    return found[0] if found else None


def text(dataset: Dataset, tag: str) -> str:
    """The attribute's first value as text, or nothing."""
    found = values(dataset, tag)
    return str(found[0]).strip() if found and found[0] is not None else ""


def items(dataset: Dataset, tag: str) -> list[Dataset]:
    """The items of a sequence."""
    return [item for item in values(dataset, tag) if isinstance(item, Mapping)]


def values(dataset: Dataset, tag: str) -> Sequence[Any]:
    """Every value of the attribute as the JSON has it; none where it is absent or empty."""
    found = dataset.get(tag, {}).get("Value")
    return found if isinstance(found, list | Items) else ()


def macro(dataset: Dataset, frame: int, tag: str) -> Dataset:
    """Where the attributes of a functional group macro are for frame `frame` (from 1): its item, or the data set.

    PS3.3 C.7.6.16: a macro is in the Per-Frame or in the Shared Functional Groups Sequence; images that have
    neither carry the same attributes at the top.
    """
    for group in (*own_groups(dataset, frame), *items(dataset, SHARED_GROUPS)[:1]):
        found = items(group, tag)
        if found:
            return found[0]
    return dataset


def own_groups(dataset: Dataset, frame: int) -> list[Dataset]:
    """The item of frame `frame` (from 1) in the Per-Frame Functional Groups Sequence, if there is one.

    A slide has an item to each of a hundred thousand tiles, of which only this one is looked at.
    """
    return [item for item in values(dataset, PER_FRAME_GROUPS)[frame - 1 : frame] if isinstance(item, Mapping)]


def words(dataset: Dataset, tag: str, bulk: Bulk | None) -> bytes:
    """A binary value, inline or fetched, or numbers as little endian words; nothing where the attribute is absent."""
    element = dataset.get(tag, {})
    if "InlineBinary" in element:
        try:
            return base64.b64decode(element["InlineBinary"])
        except (binascii.Error, ValueError) as error:
            raise CannotDecode(f"the value of ({tag[:4]},{tag[4:]}) is not base64") from error
    if "BulkDataURI" in element:
        if bulk is None:
            raise CannotDecode(f"the value of ({tag[:4]},{tag[4:]}) is kept apart and cannot be fetched here")
        return bulk(str(element["BulkDataURI"]).rpartition("/bulkdata/")[2])
    return b"".join((int(value) & 0xFFFF).to_bytes(2, "little") for value in numbers(dataset, tag))


def _number(value: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None
