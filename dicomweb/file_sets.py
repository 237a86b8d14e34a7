"""Studies, series and instances as a ZIP file: a file-set with its DICOMDIR (PS3.10 8, PS3.12 annex V), streamed."""

from __future__ import annotations

import io
import re
import uuid
import zipfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import orjson

from dicomweb.directory import Directory, File
from storage.blobs.in_file import InFile, in_hand
from storage.index import Layout
from storage.types import Located, Scope

# A component of a file ID: at most 8 of A to Z, 0 to 9 and _ (PS3.10 8.2, 8.5).
_NAMES: Final = ("ST", "SE", "IM")
# Above this a member's length does not fit into what a ZIP without extensions has for it; data descriptors come after.
_ZIP64: Final = (1 << 31) - 1


class _Sink(io.RawIOBase):
    """Where a ZIP file is written to: pieces that are fetched as they come. It cannot be sought in, and says so."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def fetch(self) -> Iterator[bytes]:
        """What has been written since the last time."""
        pieces, self._pieces = self._pieces, []
        yield from pieces


def zipped(layouts: Iterable[Layout], part: Callable[[Located], tuple[str, int, Iterable[bytes | InFile]] | None]) -> Iterator[bytes]:
    """The ZIP file of these instances; `part` gives the transfer syntax, the length and the bytes of one as a Part 10 file.

    An instance of which it gives none is left out, of the directory too. Members are in blocks of deflate that are not compressed: lengths follow the bytes, which only deflate has a mark for, and
    what is compressed already would not get smaller.
    """
    sink, directory, names = _Sink(), Directory(), _FileIDs()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=0) as archive:
        for layout in layouts:
            located = layout.located
            given = part(located)
            if given is None:
                continue
            syntax, size, pieces = given
            file = File(names.of(located.uids.study, located.uids.series), located.sop_class_uid, located.uids.instance, syntax)
            with archive.open("/".join(file.components), "w", force_zip64=size > _ZIP64) as member:
                for piece in in_hand(pieces):
                    member.write(piece)
                    yield from sink.fetch()
            directory.add(orjson.loads(layout.json), file)
            yield from sink.fetch()
        archive.writestr("DICOMDIR", directory.to_bytes(f"2.25.{uuid.uuid4().int}"))
        yield from sink.fetch()
    yield from sink.fetch()


def file_name(scope: Scope) -> str:
    """What a browser calls the download: the last UID, in characters that a header and every file system take."""
    uid = scope.instance or scope.series or scope.study
    return f"{re.sub(r'[^0-9A-Za-z.]', '_', uid)}.zip"


class _FileIDs:
    """A new file ID for each instance: DICOM, its study, its series, itself, by number."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, ...], int] = {}
        self._below: dict[tuple[str, ...], int] = {}

    def of(self, study: str, series: str) -> tuple[str, ...]:
        instance = self._below[study, series] = self._below.get((study, series), 0) + 1
        numbers = (self._number((), (study,)), self._number((study,), (study, series)), instance)
        return ("DICOM", *(f"{name}{number:06d}" for name, number in zip(_NAMES, numbers, strict=True)))

    def _number(self, above: tuple[str, ...], place: tuple[str, ...]) -> int:
        if place not in self._numbers:
            self._below[above] = self._numbers[place] = self._below.get(above, 0) + 1
        return self._numbers[place]
