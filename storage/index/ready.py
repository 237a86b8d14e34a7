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
    """What a study or a series keeps of an instance, and how it would be stored. Shared by instances, and so never changed."""

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
            "json": rows.stored(scan.encoded),
            "frames": scan.frames.to_bytes(),
            "bulk": rows.bulk_bytes(scan.bulk),
        },
        study=_STUDY.of(scan.dataset),
        series=_SERIES.of(scan.dataset),
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


class _Parts:
    """What one kind of parent keeps; of the instances of one parent it is nearly always the same, and then not made again."""

    def __init__(self, tags: Collection[str]) -> None:
        self._tags = sorted(tags)
        # The elements, present or not, that the latest part was made of. Threads may each lose what another has left.
        self._latest: tuple[list[Mapping[str, Any] | None], Part] | None = None

    def of(self, dataset: Dataset) -> Part:
        elements = list(map(dataset.get, self._tags))
        latest = self._latest
        # Quick, because the scanner gives recurring elements as the same objects.
        if latest is not None and latest[0] == elements:
            return latest[1]
        attributes = {tag: element for tag, element in zip(self._tags, elements, strict=True) if element is not None}
        part = Part(attributes, orjson.dumps(attributes))
        self._latest = elements, part
        return part


_STUDY = _Parts(rows.STUDY_TAGS)
_SERIES = _Parts(rows.SERIES_TAGS)
