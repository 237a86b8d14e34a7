"""Where the bytes of what is sent come from: the archive, or files that are not in it."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from storage.archive import Archive
from storage.deriving import lossy_uid
from storage.disk import unavailable
from storage.errors import NotDicom, NotFound
from storage.index import Layout
from storage.part10 import PREAMBLE, PREFIX, file_meta
from storage.pieces import streamed
from storage.scanner import scan
from storage.spool import through
from storage.transcoding import possible, transcoded
from storage.transfer_syntaxes import lookup, lossy_targets
from storage.types import Located

_PIECE: Final = 1 << 20


class Whole(NamedTuple):
    """A Part 10 file: how many bytes, and they, in pieces."""

    length: int
    pieces: Iterator[bytes]


class Source(Protocol):
    """Where instances lie."""

    def targets(self, one: Located) -> tuple[str, ...]:
        """Transfer syntaxes in which its data set can be had without loss, the stored one first."""

    def with_loss(self, one: Located) -> tuple[str, ...]:
        """Transfer syntaxes in which it can be had only as another instance, which has lost something."""

    def uid(self, one: Located, transfer_syntax_uid: str) -> str:
        """The SOP Instance UID of what `data` gives."""

    def data(self, one: Located, transfer_syntax_uid: str) -> Iterator[bytes]:
        """Its data set in one of them, in pieces of at most about 1 MiB. Raises LightboxError."""

    def whole(self, one: Located) -> Whole:
        """All of it as a Part 10 file, as it lies (PS3.10 7). Raises LightboxError, also while it is read."""


class Stored:
    """What is in the archive."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def targets(self, one: Located) -> tuple[str, ...]:
        return possible(self._layout(one))

    def with_loss(self, one: Located) -> tuple[str, ...]:
        layout = self._layout(one)
        without = possible(layout)
        return tuple(uid for uid in possible(layout, lossy=True) if uid not in without)

    def uid(self, one: Located, transfer_syntax_uid: str) -> str:
        lossy = transfer_syntax_uid in lossy_targets(one.transfer_syntax_uid)
        return lossy_uid(one.uids.instance, transfer_syntax_uid) if lossy else one.uids.instance

    def data(self, one: Located, transfer_syntax_uid: str) -> Iterator[bytes]:
        if transfer_syntax_uid == one.transfer_syntax_uid:
            return self._archive.blobs.stream(one.object_key, one.dataset_offset)
        return self._transcoded(one, transfer_syntax_uid)

    def whole(self, one: Located) -> Whole:
        return Whole(one.size, self._archive.blobs.stream(one.object_key))

    def _transcoded(self, one: Located, transfer_syntax_uid: str) -> Iterator[bytes]:
        layout, blobs = self._layout(one), self._archive.blobs
        made = streamed(blobs, transcoded(layout, blobs, transfer_syntax_uid, self._archive.spool, lossy=True).dataset)
        if not lookup(one.transfer_syntax_uid).encapsulated or lookup(transfer_syntax_uid).encapsulated:
            yield from made
            return
        # A frame that cannot be decoded must be known before the first byte goes out: that cannot be taken back.
        yield from through(made, self._archive.spool())

    def _layout(self, one: Located) -> Layout:
        layout = self._archive.index.layout(one.scope)
        if layout is None:
            raise NotFound(f"instance {one.uids.instance} is no longer stored")
        return layout


class Files:
    """Files outside the archive, which go as they are; `located` makes of a path what can be sent."""

    def targets(self, one: Located) -> tuple[str, ...]:
        return (one.transfer_syntax_uid,)

    def with_loss(self, _one: Located) -> tuple[str, ...]:
        return ()

    def uid(self, one: Located, _transfer_syntax_uid: str) -> str:
        return one.uids.instance

    def data(self, one: Located, _transfer_syntax_uid: str) -> Iterator[bytes]:
        return _read(one, one.dataset_offset)

    def whole(self, one: Located) -> Whole:
        head = b"".join(islice(_read(one, 0), 1))[: len(PREAMBLE) + len(PREFIX)]
        if head.endswith(PREFIX) and len(head) > len(PREAMBLE):
            return Whole(one.size, _read(one, 0))
        # A bare data set, or one with only some of what comes before it: what takes files wants all.
        meta = file_meta(one.sop_class_uid, one.uids.instance, one.transfer_syntax_uid)
        return Whole(len(meta) + one.size - one.dataset_offset, chain((meta,), _read(one, one.dataset_offset)))


def _read(one: Located, offset: int) -> Iterator[bytes]:
    try:
        with Path(one.object_key).open("rb", buffering=0) as file:
            file.seek(offset)
            while piece := file.read(_PIECE):
                yield piece
    except OSError as error:
        raise unavailable(error, f"read {one.object_key}") from error


def located(path: Path) -> Located:
    """What `Files` needs to know of a file. Raises what the scanner refuses, NotDicom for an empty one."""
    try:
        with path.open("rb") as file:
            # Not closed here: what the scanner raises may still hold a view of it.
            view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        found, size = scan(memoryview(view)), len(view)
    except ValueError as error:
        raise NotDicom("the file is empty") from error
    except OSError as error:
        raise unavailable(error, f"read {path}") from error
    return Located(
        uids=found.uids,
        sop_class_uid=found.sop_class_uid,
        transfer_syntax_uid=found.transfer_syntax_uid,
        object_key=str(path),
        size=size,
        sha256="",
        dataset_offset=found.dataset_offset,
        number_of_frames=found.frames.count,
    )
