"""Frozen values that cross borders, and the ports that others implement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol

# A data set in the DICOM JSON model (PS3.18 F.2): tag as eight upper-case hex digits -> {"vr": …, "Value": […]}.
Dataset = Mapping[str, Mapping[str, Any]]

# Every row carries a partition from the first migration on, so that the same UID may one day live in two.
DEFAULT_PARTITION = "default"


class Level(StrEnum):
    """Query/Retrieve levels, spelled as in (0008,0052) Query/Retrieve Level (PS3.4 C.3)."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


@dataclass(frozen=True, slots=True)
class Source:
    """Where an instance came from; kept with it for ever."""

    kind: Literal["dimse", "stow", "import", "rebuild"]
    calling_ae: str = ""
    called_ae: str = ""
    address: str = ""
    user: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True)
class Uids:
    """The three UIDs by which an instance is addressed on the web and in C-MOVE."""

    study: str
    series: str
    instance: str


@dataclass(frozen=True, slots=True)
class Scope:
    """A study, a series of it, or an instance of that: what a retrieve or a delete is about."""

    study: str
    series: str | None = None
    instance: str | None = None
    partition: str = DEFAULT_PARTITION


@dataclass(frozen=True, slots=True)
class BulkItem:
    """A value that the DICOM JSON refers to instead of carrying it.

    `path` names the element as in its BulkDataURI: `00281201`, or `00081140/0/00081150` inside sequences
    (items counted from 0). `offset` and `length` are bytes in the object, or in the inflated data set when the
    scan says `inflated`. `length` is -1 for encapsulated pixel data, whose bytes are those of its frames.
    """

    path: str
    vr: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Flag:
    """Something odd about a stored instance. `code` is stable and short; `text` is for people, without patient data."""

    code: str
    text: str
    tag: str = ""


class Outcome(StrEnum):
    """How an ingest ended well."""

    STORED = "stored"
    ALREADY = "already there"
    REPAIRED = "repaired"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class Stored:
    """The answer to a successful ingest; durable when it is returned."""

    outcome: Outcome
    uids: Uids
    sop_class_uid: str
    transfer_syntax_uid: str
    sha256: str
    size: int
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True, slots=True)
class Located:
    """One stored instance: what is needed to read its bytes, without its metadata."""

    uids: Uids
    sop_class_uid: str
    transfer_syntax_uid: str
    object_key: str
    size: int
    sha256: str
    # Bytes at the start of the object that are preamble and File Meta Information: the data set begins here.
    dataset_offset: int
    number_of_frames: int
    partition: str = DEFAULT_PARTITION

    @property
    def scope(self) -> Scope:
        """The instance, as it is asked for."""
        return Scope(self.uids.study, self.uids.series, self.uids.instance, self.partition)


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the ordered change feed."""

    sequence: int
    kind: str
    uids: Uids
    at: datetime


@dataclass(frozen=True, slots=True)
class Query:
    """A search, whichever protocol asked it. `keys` maps a path of tags to what its value must match.

    `fields` are the attributes wanted back, as paths of tags (`("00081140", "00081155")` inside sequences);
    None means every attribute kept at this level and above. `conditions` come from `storage.matching`.
    `order` are tags to sort by, each with whether it runs backwards, before the order that every search has. `after` is
    the key of a row (`Index.find(…).key`): only what comes behind that row is found.
    """

    level: Level
    conditions: tuple[tuple[tuple[str, ...], Any], ...] = ()
    fields: frozenset[str] | None = None
    limit: int | None = None
    offset: int = 0
    fuzzy: bool = False
    partition: str = DEFAULT_PARTITION
    order: tuple[tuple[str, bool], ...] = ()
    after: int | None = None


@dataclass(frozen=True, slots=True)
class Blob:
    """One object as a store lists it."""

    key: str
    size: int
    modified: datetime


class Content(Protocol):
    """Received bytes that are not yet an instance: `storage.spool.Spool` is the one implementation."""

    @property
    def size(self) -> int: ...

    @property
    def sha256(self) -> str:
        """Hex digest of all bytes written."""

    @property
    def path(self) -> Path | None:
        """The temporary file that holds the bytes, or None while they fit in memory."""

    def view(self) -> memoryview:
        """All bytes, read-only: the memory itself or a map of the file."""


class Blobs(Protocol):
    """The object-store port. Keys are relative, `/`-separated, made by us and never from outside text.

    Errors: `errors.ObjectMissing` for an absent key, `errors.StoreFull`, `errors.StoreUnavailable`.
    """

    def put(self, key: str, content: Content, *, replace: bool = False) -> bool:
        """Make `content` durable under `key`; True if it was written, False if a sound copy was already there.

        On return the bytes are fsynced and so is their name (or S3 has answered with a matching checksum).
        Keys carry the digest of their bytes: an existing object is compared with `content` by size and SHA-256, and one
        that differs is damage, so it is repaired by replacing it. `replace` skips the comparison.
        """

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """`length` bytes from `offset` (to the end when None). Shorter only at the end of the object."""

    def resident(self, key: str, offset: int, length: int) -> bytes | None:
        """What `read` gives, from memory and without waiting; None where the store cannot tell, or would have to wait."""

    def opened(self, key: str) -> int | None:
        """A descriptor of the file that the object is, opened for reading, which the caller closes; None where objects are no files."""

    def stream(
        self, key: str, offset: int = 0, length: int | None = None, *, fresh: bool = False
    ) -> Iterator[bytes]:
        """The same as `read` in pieces of at most 1 MiB; opening errors are raised at the call, not at the first piece.

        `fresh` reads from the medium itself, past every cache, where the store can.
        """

    def delete(self, key: str) -> None:
        """Remove the object; nothing happens when it is not there."""

    def list(self, prefix: str = "") -> Iterator[Blob]:
        """Every object whose key starts with `prefix`, temporary files excluded."""


@dataclass(frozen=True, slots=True)
class Job:
    """Work that follows an ingest, written in its transaction (transactional outbox)."""

    kind: str
    payload: Mapping[str, Any] = field(default_factory=dict)


__all__: Sequence[str] = (
    "DEFAULT_PARTITION",
    "Blob",
    "Blobs",
    "BulkItem",
    "Change",
    "Content",
    "Dataset",
    "Flag",
    "Job",
    "Level",
    "Located",
    "Outcome",
    "Query",
    "Scope",
    "Source",
    "Stored",
    "Uids",
)
