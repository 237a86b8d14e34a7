"""From a scanned data set to the values of rows, and from rows back to values."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import zstandard

from storage.attributes import indexed_at, kept_tags, name_of
from storage.index.tables import columns_of
from storage.item_parts import is_packed, unpacked
from storage.matching.keys import NO_NUMBER, NO_TEXT, WHOLE, Key, key_of
from storage.matching.names import fuzzy_key, name_keys
from storage.per_frame import Encoded
from storage.types import BulkItem, Dataset, Flag, Level, Located, Source, Uids

# What a study's and a series' row keep of their instances.
STUDY_TAGS = kept_tags(Level.PATIENT, Level.STUDY)
SERIES_TAGS = kept_tags(Level.SERIES)

# An indexed attribute's tag and VR, and its columns' names.
Plan = tuple[tuple[str, str, tuple[str, ...]], ...]


def _plan(*levels: Level) -> Plan:
    return tuple((attribute.tag, attribute.vr, columns_of(attribute)) for attribute in indexed_at(*levels))


STUDY_COLUMNS = _plan(Level.PATIENT, Level.STUDY)
SERIES_COLUMNS = _plan(Level.SERIES)
INSTANCE_COLUMNS = _plan(Level.IMAGE)

# Differs between instances of a study without anything being wrong: clocks change while a patient is examined.
_MAY_DIFFER = frozenset({"00080201"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# Level 3 takes twice as long to make one instance's metadata a tenth smaller.
_ZSTD_LEVEL = 1

_codecs = threading.local()


def columns(plan: Plan, dataset: Dataset) -> dict[str, Key]:
    """The search columns of a plan's attributes as they follow from `dataset`."""
    found: dict[str, Key] = {}
    for tag, vr, names in plan:
        values = dataset.get(tag, _NOTHING).get("Value")
        first = values[0] if values else None
        if vr == "PN":
            keys = name_keys(first)
            found.update(zip(names, (*keys, fuzzy_key(keys)), strict=True))
            continue
        key = key_of(vr, first)
        if key is None:
            key = NO_NUMBER if vr in WHOLE else NO_TEXT
        found[names[0]] = key
    return found


_NOTHING: Mapping[str, Any] = {}


def subset(dataset: Dataset, tags: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """The attributes of `dataset` that are in `tags`, in the order of their tags."""
    return {tag: dataset[tag] for tag in sorted(dataset.keys() & tags)}


def merge(kept: dict[str, Mapping[str, Any]], news: Dataset, whole: str) -> tuple[bool, list[Flag]]:
    """Fill what is empty in `kept` from `news`; whether anything was, and a flag for each attribute that differs.

    What was there first stays: one instance with another name must not rename a study. `whole` is "study" or "series".
    """
    filled, flags = False, []
    for tag, element in news.items():
        there = kept.get(tag)
        if there == element or not says_something(element):
            continue
        if there is None or not says_something(there):
            kept[tag] = element
            filled = True
        elif tag not in _MAY_DIFFER:
            text = f"{name_of(tag)} differs from that of the instances of its {whole} that came before"
            flags.append(Flag(f"differs-from-{whole}", text, tag))
    return filled, flags


def says_something(element: Mapping[str, Any]) -> bool:
    """Whether an attribute has a value."""
    return any(element.get(form) for form in ("Value", "InlineBinary", "BulkDataURI"))


def compress(json: bytes) -> bytes:
    """JSON as it is stored."""
    compressor: zstandard.ZstdCompressor | None = getattr(_codecs, "compressor", None)
    if compressor is None:
        compressor = _codecs.compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
    return compressor.compress(json)


def decompress(stored: bytes) -> bytes:
    """The JSON again."""
    decompressor: zstandard.ZstdDecompressor | None = getattr(_codecs, "decompressor", None)
    if decompressor is None:
        decompressor = _codecs.decompressor = zstandard.ZstdDecompressor()
    return decompressor.decompress(stored)


def stored(encoded: Encoded) -> bytes:
    """The metadata of an instance as it is stored."""
    return encoded.stored(compress)


def encoded(stored: bytes) -> Encoded:
    """The metadata of an instance again."""
    return Encoded(*unpacked(stored)) if is_packed(stored) else Encoded(decompress(stored))


def microseconds(when: datetime) -> int:
    """Whole microseconds since 1970, UTC."""
    return (when - _EPOCH) // _MICROSECOND


def moment(stored: int) -> datetime:
    """The same as a datetime in UTC."""
    return _EPOCH + stored * _MICROSECOND


def source_of(stored: bytes) -> Source:
    """A Source from its stored form."""
    return Source(**orjson.loads(stored))


def flags_of(stored: bytes | None) -> tuple[Flag, ...]:
    """Flags from their stored form."""
    return tuple(Flag(**flag) for flag in orjson.loads(stored)) if stored else ()


def bulk_bytes(bulk: tuple[BulkItem, ...]) -> bytes | None:
    """The stored form of bulk data's places; None when there are none."""
    return orjson.dumps([(item.path, item.vr, item.offset, item.length) for item in bulk]) if bulk else None


def bulk_of(stored: bytes | None) -> tuple[BulkItem, ...]:
    """The places of bulk data again."""
    return tuple(BulkItem(*item) for item in orjson.loads(stored)) if stored else ()


def located(row: Any) -> Located:
    """A Located from a row that has `read.LOCATED`'s columns."""
    return Located(
        uids=Uids(row.study_instance_uid, row.series_instance_uid, row.sop_instance_uid),
        sop_class_uid=row.sop_class_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        object_key=row.object_key,
        size=row.size,
        sha256=row.sha256,
        dataset_offset=row.dataset_offset,
        number_of_frames=row.frame_count,
        partition=row.partition,
    )
