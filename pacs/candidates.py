"""What an import looks at: the files under some paths and inside their zip archives, told apart by their first bytes."""

from __future__ import annotations

import lzma
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from storage.errors import Refused

# Enough for the preamble, the prefix and the first elements of the File Meta Information.
HEAD = 512
_PIECE = 1 << 20
# Files that say in their name that they are DICOM are tried whatever they begin with, so that damage is reported.
_DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".dic", ".ima"})
# (0002,0002) Media Storage SOP Class UID = Media Storage Directory Storage (PS3.10 8.6): a DICOMDIR.
_DIRECTORY = b"\x02\x00\x02\x00UI\x14\x001.2.840.10008.1.3.10"
# A data set without preamble begins with the File Meta Information or with group 0008, in either byte order.
_BARE = re.compile(
    rb"[\x02\x08]\x00[\x00-\xff]{2}([A-Z]{2}|[\x00-\xff]{2}\x00\x00)|\x00[\x02\x08][\x00-\xff]{2}[A-Z]{2}"
)
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
# RELIABILITY 6: a member that unpacks to more than this many times its size is a bomb, once it is large enough to hurt.
_RATIO = 200
_HARMLESS = 64 << 20


class Unreadable(Refused):
    """A file or a member of a zip archive cannot be read."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that may be an instance. `name` is for people: a path, inside an archive that of the archive before it."""

    name: str
    # Its bytes, the first piece at most HEAD long, to be read before the next candidate is asked for; raises Unreadable.
    pieces: Callable[[], Iterator[bytes]]

    @property
    def called_dicom(self) -> bool:
        """Whether its name says that it is DICOM."""
        return Path(self.name).suffix.lower() in _DICOM_SUFFIXES


def candidates(paths: Iterable[Path], *, without: Iterable[Path] = ()) -> Iterator[Candidate | Unreadable]:
    """Every file under `paths`, folders by name, zip archives by member; what cannot be read comes as an error.

    A DICOMDIR stands for everything in its folder: what it lists lies beside or below it (PS3.10 8.2). Folders in
    `without` are passed over, and so are links to folders, which may lead in circles.
    """
    closed = {path.resolve() for path in without}
    for path in paths:
        yield from _under(path.parent if is_dicomdir_name(path) and path.is_file() else path, closed)


def count(paths: Iterable[Path], *, without: Iterable[Path] = ()) -> int:
    """How many files there are under `paths`, archives not opened: for a progress bar."""
    closed = {path.resolve() for path in without}
    return sum(1 for path in paths for _ in _files(path.parent if is_dicomdir_name(path) else path, closed))


def is_dicomdir_name(path: Path) -> bool:
    """Whether the file has the name that PS3.10 8.6 gives a directory."""
    return path.name.upper() == "DICOMDIR"


def is_directory(head: bytes) -> bool:
    """Whether a file that begins with `head` is a DICOMDIR: a list of instances, not one."""
    return _DIRECTORY in head


def looks_like_dicom(head: bytes) -> bool:
    """Whether a file that begins with `head` may hold an instance (PS3.10 7.1, or a bare data set)."""
    return head[128:132] == b"DICM" or head.startswith(b"DICM") or _BARE.match(head) is not None


def _under(path: Path, closed: set[Path]) -> Iterator[Candidate | Unreadable]:
    for file in _files(path, closed):
        if isinstance(file, Unreadable):
            yield file
        elif _is_archive(file):
            yield from _members(file)
        else:
            yield Candidate(str(file), partial(_pieces_of_file, file))


def _files(path: Path, closed: set[Path]) -> Iterator[Path | Unreadable]:
    """Regular files under `path` in the order of their names, without recursion: folders may be nested deep."""
    waiting = [path]
    while waiting:
        current = waiting.pop()
        try:
            if not current.is_dir():
                if stat.S_ISREG(current.stat().st_mode):
                    yield current
                continue
            if current.resolve() in closed:
                continue
            with os.scandir(current) as entries:
                inside = sorted(entries, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            yield Unreadable(f"{current}: {error.strerror}")
            continue
        waiting += [Path(entry) for entry in inside if not (entry.is_symlink() and entry.is_dir())]


def _is_archive(file: Path) -> bool:
    if file.suffix.lower() not in ("", ".zip"):
        return False
    try:
        with file.open("rb") as content:
            head = content.read(HEAD)
    except OSError:
        # Reading it as a candidate says what is wrong.
        return False
    return head.startswith(_ZIP) and not looks_like_dicom(head)


def _pieces_of_file(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb", buffering=0) as content:
            yield from _pieces(content)
    except OSError as error:
        raise Unreadable(f"it cannot be read ({error.strerror})") from error


def _members(file: Path) -> Iterator[Candidate | Unreadable]:
    """The files in a zip archive. Nothing is unpacked to the names in it; a member is read when its turn comes."""
    try:
        archive = zipfile.ZipFile(file)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        yield Unreadable(f"{file}: the zip archive cannot be read ({_reason(error)})")
        return
    with archive:
        for member in archive.infolist():
            if not member.is_dir():
                yield Candidate(f"{file}/{member.filename}", partial(_pieces_of_member, archive, member))


def _pieces_of_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    if member.flag_bits & 1:
        raise Unreadable("it is encrypted: unpack the archive with its password and import the folder")
    if member.file_size > max(_HARMLESS, _RATIO * member.compress_size):
        raise Unreadable(f"it claims to unpack to more than {_RATIO} times its size, as zip bombs do")
    try:
        with archive.open(member) as content:
            yield from _pieces(content)
    except (
        OSError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        ValueError,
        NotImplementedError,
    ) as error:
        raise Unreadable(f"it cannot be unpacked ({_reason(error)})") from error


def _pieces(content: IO[bytes]) -> Iterator[bytes]:
    """First only what tells what it is, so that a large file that is no DICOM costs nothing."""
    yield content.read(HEAD)
    while piece := content.read(_PIECE):
        yield piece


def _reason(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
