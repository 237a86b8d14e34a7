"""What goes into the index and comes out of it, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Final

from storage.frames import FrameTable
from storage.per_frame import Encoded, ItemPlaces, item_places
from storage.scanner import Scan
from storage.types import DEFAULT_PARTITION, BulkItem, Flag, Job, Located, Outcome, Source, Uids

# Of an item for a frame, where it begins and ends.
_EACH_FRAME: Final = 8


@dataclass(frozen=True, slots=True)
class Original:
    """An object as it was received, of which `made_key` was made: its own key, digest and size.

    `digest` is that of its data set alone, by which it is recognised when it comes again; `coerced_at` is in UTC.
    """

    sop_instance_uid: str
    made_key: str
    object_key: str
    sha256: str
    size: int
    digest: str
    coerced_at: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """One instance whose bytes are durable and that is to be indexed. `received_at` is in UTC."""

    scan: Scan
    object_key: str
    sha256: str
    size: int
    source: Source
    received_at: datetime
    jobs: tuple[Job, ...] = ()
    partition: str = DEFAULT_PARTITION
    # What the object was made of, where that is kept.
    original: Original | None = None


@dataclass(frozen=True, slots=True)
class Added:
    """What became of an entry. On a conflict `outcome` is None, and the entry is in quarantine.

    `rejected` is then the code under which the instance was deleted before, where that is why it is not taken; it is
    `quarantined` only where its bytes are not those that the archive still has. `flags` says where the instance disagrees with what its study or series has had until now; the instance is stored
    with them all the same.
    """

    outcome: Outcome | None
    conflict_sha256: str | None = None
    flags: tuple[Flag, ...] = ()
    rejected: str = ""
    quarantined: bool = False


@dataclass(frozen=True)
class Layout:
    """Everything to serve frames, bulk data or a picture of one instance, from one query.

    Offsets of frames and bulk data are in the object or, when `inflated`, in the inflated data set. `encoded` is the
    instance's metadata in the DICOM JSON model.
    """

    located: Located
    frames: FrameTable
    bulk: tuple[BulkItem, ...]
    inflated: bool
    encoded: Encoded

    @cached_property
    def _item_places(self) -> ItemPlaces | None:
        return item_places(self.json, self.frames.count) if self.encoded.parts is None else None

    @property
    def json(self) -> bytes:
        """The metadata, without the items that frames have where those are in parts."""
        return self.encoded.json

    def dataset(self) -> dict[str, Any]:
        """The metadata read, anew each time: who reads it may keep it. Items of the Per-Frame Functional Groups Sequence are read when asked for."""
        return self.encoded.dataset(self._item_places)

    @property
    def size(self) -> int:
        """How much memory it takes, roughly, in bytes; with what is found out later of where the items of frames are."""
        return self.encoded.size + len(self.frames.starts) + len(self.frames.lengths) + len(self.frames.groups) + _EACH_FRAME * self.frames.count


@dataclass(frozen=True, slots=True)
class Counts:
    """How much is stored; `bytes` is the size of all current objects."""

    studies: int
    series: int
    instances: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """An object that an instance lies in, for walks over all of them. `id` is where to go on from."""

    id: int
    object_key: str
    size: int
    sha256: str
    uids: Uids

    @property
    def instance(self) -> str:
        """The SOP Instance UID."""
        return self.uids.instance


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An instance that was refused because its SOP Instance UID is stored with other bytes or elsewhere."""

    id: int
    uids: Uids
    sop_class_uid: str
    transfer_syntax_uid: str
    object_key: str
    size: int
    sha256: str
    existing_sha256: str
    reason: str
    source: Source
    received_at: datetime
    times: int
    partition: str = DEFAULT_PARTITION
    rejected_at: datetime | None = None
    rejected_by: str = ""
