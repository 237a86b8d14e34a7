"""Writing a file that must survive: its bytes flushed under a temporary name, then given its own name once."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

from storage.blobs.folders import Folder
from storage.disk import flush
from storage.errors import StoreUnavailable

# A file system without hard links (exFAT, some network shares), or with too many to one file, says one of these.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
# Linux has files without a name, and a way to name one by its descriptor where /proc is mounted.
_OPEN_FILES = "/proc/self/fd"
_UNNAMED: int | None = getattr(os, "O_TMPFILE", None) if Path(_OPEN_FILES).is_dir() else None
# Linux writes past its page cache. What was just received is seldom what is read next, and to make room for it there costs
# several times what writing it does.
_DIRECT: Final[int] = getattr(os, "O_DIRECT", 0)
_BLOCK: Final = 4096
_LEAST_DIRECT: Final = 16 * _BLOCK
_NO_UNNAMED = frozenset({errno.EOPNOTSUPP, errno.ENOTSUP, errno.EISDIR, errno.EINVAL, errno.EPERM})


def create(folder: Folder, name: str) -> int:
    """A new empty file for its owner alone, open for writing."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.open(name, flags, mode=0o600, dir_fd=folder.descriptor)


def write(descriptor: int, view: memoryview) -> None:
    """Write, flush and close. After an error the file is not to be used: the kernel reports a lost write only once."""
    try:
        _write_all(descriptor, view)
        flush(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, view: memoryview) -> None:
    while view:
        view = view[os.write(descriptor, view) :]


def _directly(descriptor: int, view: memoryview) -> memoryview:
    """Write whole blocks of a new file past the page cache, where that can be; what is left to be written."""
    whole = len(view) - len(view) % _BLOCK
    if not _DIRECT or whole < _LEAST_DIRECT:
        return view
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, _DIRECT)
        try:
            return view[os.write(descriptor, view[:whole]) :]
        finally:
            fcntl.fcntl(descriptor, fcntl.F_SETFL, 0)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # Not every file system can, nor is every place in memory aligned for it (open(2)).
        return view


class NoUnnamedFiles(Exception):
    """The system or its file system has none: a file must be written under a temporary name."""


def write_named_last(folder: Folder, own: str, view: memoryview) -> None:
    """Write a file that has no name, call it `own` in `folder`, never over what is there, and flush it; the name is the caller's to flush.

    That is a file's whole way in one step of the folder instead of three, and a crash before the name leaves nothing behind.
    Named before it is flushed, it goes through the file system's journal once, with its name. Who finds it meanwhile flushes
    it too, and reads it from the medium, before relying on it (`reading.is_sound`). Raises FileExistsError, FileNotFoundError
    when the folder is gone, NoUnnamedFiles.
    """
    if _UNNAMED is None:
        raise NoUnnamedFiles
    try:
        descriptor = os.open(".", _UNNAMED | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=folder.descriptor)
    except OSError as error:
        if not os.fstat(folder.descriptor).st_nlink:
            # A folder that is gone says EPERM here.
            raise FileNotFoundError(errno.ENOENT, "the folder was removed") from error
        if error.errno in _NO_UNNAMED:
            raise NoUnnamedFiles from error
        raise
    try:
        rest = _directly(descriptor, view)
        _write_all(descriptor, rest)
        # Following the link is what names the file itself (linkat(2)); so a destination folder must be given.
        os.link(f"{_OPEN_FILES}/{descriptor}", own, dst_dir_fd=folder.descriptor, follow_symlinks=True)
        # What fails now keeps its name: another sender may have found it sound already.
        flush(descriptor)
        if len(rest) < len(view):
            # The whole file is in the page cache or none of it: `reading.read_resident` goes by that.
            os.posix_fadvise(descriptor, len(view) - len(rest), 0, os.POSIX_FADV_DONTNEED)
    except OSError as error:
        if error.errno in _NO_LINKS or error.errno == errno.EXDEV:
            raise NoUnnamedFiles from error
        if error.errno == errno.ENOENT and os.fstat(folder.descriptor).st_nlink:
            # The folder is there: it is the way by /proc that is not (some overlays and sandboxes).
            raise NoUnnamedFiles from error
        raise
    finally:
        os.close(descriptor)


def take_over(spool: Path, folder: Folder, name: str) -> bool:
    """Flush the spool's own file and call it `name` as well; False where it must be copied instead.

    A flush that failed discards the spool's file, so that trying again with the same spool cannot succeed on bytes
    that the kernel has already given up.
    """
    try:
        os.link(spool, name, dst_dir_fd=folder.descriptor)
    except FileNotFoundError:
        raise StoreUnavailable("the spooled bytes are gone after a write error; send the instance again") from None
    except OSError as error:
        if error.errno == errno.EXDEV or error.errno in _NO_LINKS:
            return False
        raise
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder.descriptor)
    try:
        flush(descriptor)
    except OSError:
        spool.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return True


def give_name(source: Folder, name: str, folder: Folder, own: str, *, replace: bool) -> None:
    """Call the temporary file `own` in `folder`: over what is there only with `replace`, else FileExistsError."""
    if replace:
        os.replace(name, own, src_dir_fd=source.descriptor, dst_dir_fd=folder.descriptor)
        return
    try:
        os.link(name, own, src_dir_fd=source.descriptor, dst_dir_fd=folder.descriptor)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename(source, name, folder, own)


def _rename(source: Folder, name: str, folder: Folder, own: str) -> None:
    """Without hard links nothing renames without ever overwriting: look first.

    Two writers may both see nothing; they have the same bytes, whose digest is the name, so who is second does no harm.
    """
    try:
        os.stat(own, dir_fd=folder.descriptor)
    except FileNotFoundError:
        os.rename(name, own, src_dir_fd=source.descriptor, dst_dir_fd=folder.descriptor)
    else:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
