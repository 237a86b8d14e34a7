"""An entry made ready for its transaction: every value of its rows, before anybody has to wait for a lock."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from storage.index import rows
from storage.index.entries import Entry
from storage.types import Dataset, Flag

Values = dict[str, Any]


class Part(NamedTuple):
    """What a study or a series keeps of an instance, and how it would be stored."""

    attributes: dict[str, Mapping[str, Any]]
    encoded: bytes


@dataclass(frozen=True, slots=True)
class Ready:
    """`instance` lacks its keys and flags, `content` its key; `study` and `series` are for those that it belongs to."""

    entry: Entry
    instance: Values
    content: Values
    study: Part
    series: Part


def ready(entry: Entry) -> Ready:
    """What `Index.add` writes of an entry: compressing and encoding are most of its work."""
    scan = entry.scan
    return Ready(
        entry=entry,
        instance={
            **rows.columns(rows.INSTANCE_COLUMNS, scan.dataset),
            **received(entry),
            "sop_instance_uid": scan.uids.instance,
            "sop_class_uid": scan.sop_class_uid,
            "dataset_offset": scan.dataset_offset,
            "inflated": scan.inflated,
            "frame_count": scan.frames.count,
        },
        content={
            "json": rows.compress(scan.json),
            "frames": scan.frames.to_bytes(),
            "bulk": rows.bulk_bytes(scan.bulk),
        },
        study=_part(scan.dataset, rows.STUDY_TAGS),
        series=_part(scan.dataset, rows.SERIES_TAGS),
    )


def received(entry: Entry) -> Values:
    """What every row about the object of an entry says."""
    return {
        "partition": entry.partition,
        "transfer_syntax_uid": entry.scan.transfer_syntax_uid,
        "object_key": entry.object_key,
        "sha256": entry.sha256,
        "size": entry.size,
        "source": orjson.dumps(entry.source),
        "received_at": rows.microseconds(entry.received_at),
    }


def flags(entry: Entry, more: tuple[Flag, ...]) -> bytes | None:
    """The flags of an instance as they are stored; None when there are none."""
    everything = (*entry.scan.flags, *more)
    return orjson.dumps(everything) if everything else None


def _part(dataset: Dataset, tags: Collection[str]) -> Part:
    attributes = rows.subset(dataset, tags)
    return Part(attributes, orjson.dumps(attributes))
