"""Objects as files: `ab/{key}` for a key that begins with `ab`, and `tmp/` for what is being written.

The first two characters of a key make a level of folders above it, so that no folder holds more than a 256th of the
studies. Everything is readable by its owner alone. An object is acknowledged only when its bytes and its name are durable.
What lies under a name is nobody's word that it is sound: who finds it there looks at the medium before relying on it.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from storage.blobs.folders import Folder, Folders
from storage.blobs.keys import Present, check_range, checked, is_key
from storage.blobs.reading import DAMAGED, FileStream, is_sound, read_range, read_resident
from storage.blobs.writing import NoUnnamedFiles, create, give_name, take_over, write, write_named_last
from storage.disk import is_local, unavailable
from storage.errors import ObjectMissing
from storage.types import Blob, Content

_TEMPORARY = "tmp"

# Another process may still be writing a temporary file that is younger.
TEMPORARY_SECONDS = 3600.0

# How often an emptied folder may be removed from under one object.
_ATTEMPTS = 8

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})
_IN_USE = frozenset({errno.ENOTEMPTY, errno.EEXIST, *_ABSENT})


class FileBlobs:
    """The object-store port over a folder. Thread-safe; any number of processes may share the folder."""

    def __init__(self, root: Path) -> None:
        """Open the store at `root`, making the folder where it is missing. Raises StoreUnavailable or StoreFull."""
        self.root = root.absolute()
        # Joined as text: to join paths costs more than to open a file.
        self._above = f"{self.root}/"
        self.spool_folder = self.root / _TEMPORARY
        self._numbers = itertools.count()
        self._process = secrets.token_hex(6)
        try:
            self._folders = Folders(self.root)
            self._folders.get(_TEMPORARY)
            self._local = is_local(self.root)
            self.sweep_temporary()
        except OSError as error:
            raise unavailable(error, f"open the folder {self.root}") from error

    def path(self, key: str) -> Path:
        """Where the object is, or would be: for handing the file itself to a socket."""
        return self.root / _place(key)

    def put(self, key: str, content: Content, *, replace: bool = False) -> bool:
        place = _place(key)
        try:
            return self._put(place, content, replace)
        except OSError as error:
            # Begin afresh next time: a folder that is held open may have been removed, or its mount exchanged.
            self._folders.forget(place.rpartition("/")[0])
            self._folders.forget(_TEMPORARY)
            raise unavailable(error, f"make the object {key} durable") from error

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        check_range(offset, length)
        descriptor = self._open(key)
        try:
            # Never more than there is: the system makes room for what it is asked for.
            there = max(0, os.fstat(descriptor).st_size - offset)
            return read_range(descriptor, offset, there if length is None else min(length, there))
        except OSError as error:
            raise unavailable(error, f"read the object {key}") from error
        finally:
            os.close(descriptor)

    def resident(self, key: str, offset: int, length: int) -> bytes | None:
        if not self._local or not length:
            return None
        try:
            descriptor = os.open(self._above + _place(key), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            # Whoever may wait finds out what is wrong.
            return None
        try:
            return read_resident(descriptor, offset, length)
        finally:
            os.close(descriptor)

    def opened(self, key: str) -> int:
        return self._open(key)

    def stream(
        self, key: str, offset: int = 0, length: int | None = None, *, fresh: bool = False
    ) -> Iterator[bytes]:
        check_range(offset, length)
        stream = FileStream(self._open(key), key, offset, length)
        if fresh:
            stream.forget_cached()
        return stream

    def delete(self, key: str) -> None:
        path = self.path(key)
        try:
            path.unlink(missing_ok=True)
            # The series' and the study's folder with it when this was the last in them; not the 256 above.
            for folder in itertools.takewhile(lambda folder: folder.parent != self.root, path.parents):
                folder.rmdir()
        except OSError as error:
            if error.errno not in _IN_USE:
                raise unavailable(error, f"delete the object {key}") from error

    def list(self, prefix: str = "") -> Iterator[Blob]:
        """Every object whose key starts with `prefix`; those of one series together."""
        try:
            for fan in sorted(self.root.iterdir()):
                if len(fan.name) <= 2 and (fan.name.startswith(prefix[:2]) or prefix.startswith(fan.name + "/")):
                    yield from _walk(fan, "", prefix)
        except OSError as error:
            raise unavailable(error, "list its objects") from error

    def sweep_temporary(self, older_than: float = TEMPORARY_SECONDS) -> int:
        """Remove temporary files that nobody has written to for `older_than` seconds: how many there were."""
        before, swept = time.time() - older_than, 0
        with os.scandir(self.spool_folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < before:
                        Path(entry.path).unlink()
                        swept += 1
        return swept

    def ping(self) -> None:
        """Raises StoreUnavailable or StoreFull unless a temporary file can be written now."""
        try:
            with self._temporary_folder() as (folder, name):
                os.close(create(folder, name))
        except OSError as error:
            raise unavailable(error, f"write to {self.spool_folder}") from error

    def close(self) -> None:
        """Let go of the folders; the store can still be used and opens them again."""
        self._folders.close()

    def _put(self, place: str, content: Content, replace: bool) -> bool:
        while True:
            present = Present.DAMAGED if replace else self._present(place, content)
            if present is Present.SOUND:
                return False
            if present is Present.NOTHING and content.path is None:
                with contextlib.suppress(NoUnnamedFiles):
                    if self._in_place(place, lambda folder, own: write_named_last(folder, own, content.view())):
                        return True
                    continue
            with self._written(content) as (source, name):
                if self._name(source, name, place, replace=present is Present.DAMAGED):
                    return True

    def _present(self, place: str, content: Content) -> Present:
        """What is there now; a sound copy is durable, name and bytes, when this returns."""
        path, _, own = place.rpartition("/")
        folder = self._folders.get(path)
        try:
            descriptor = os.open(own, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder.descriptor)
        except OSError as error:
            if error.errno in _ABSENT:
                return Present.NOTHING
            if error.errno in DAMAGED:
                return Present.DAMAGED
            raise
        try:
            if not is_sound(descriptor, content):
                return Present.DAMAGED
        finally:
            os.close(descriptor)
        # It may be another thread's or process's, which has not yet flushed the name.
        folder.sync()
        return Present.SOUND

    @contextlib.contextmanager
    def _written(self, content: Content) -> Iterator[tuple[Folder, str]]:
        """A temporary name of a file with the content, flushed. The name is removed at the end, whatever happened."""
        with self._temporary_folder() as (folder, name):
            if content.path is None or not take_over(content.path, folder, name):
                write(create(folder, name), content.view())
            yield folder, name

    @contextlib.contextmanager
    def _temporary_folder(self) -> Iterator[tuple[Folder, str]]:
        folder = self._folders.get(_TEMPORARY)
        name = f"put-{self._process}-{os.getpid()}-{next(self._numbers)}"
        try:
            yield folder, name
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder.descriptor)

    def _name(self, source: Folder, name: str, place: str, *, replace: bool) -> bool:
        """Give the temporary file its own name and make that durable; False when another was faster."""
        return self._in_place(place, lambda folder, own: give_name(source, name, folder, own, replace=replace))

    def _in_place(self, place: str, give: Callable[[Folder, str], None]) -> bool:
        """Have a file named in its folder, and make that durable; False when another was faster."""
        path, _, own = place.rpartition("/")
        for attempt in itertools.count(1):
            folder = self._folders.get(path)
            try:
                give(folder, own)
                break
            except FileExistsError:
                return False
            except FileNotFoundError:
                # A delete has removed the empty folder between our making it and our naming something in it.
                self._folders.forget(path)
                if attempt == _ATTEMPTS:
                    raise
        # When this fails the object stays: its bytes are durable, and another sender may already rely on its name.
        folder.sync()
        return True

    def _open(self, key: str) -> int:
        try:
            return os.open(self._above + _place(key), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _ABSENT:
                raise ObjectMissing("the object is not in the store; send the instance again, which repairs it", key) from None
            raise unavailable(error, f"open the object {key}") from error


def _place(key: str) -> str:
    return f"{checked(key).partition('/')[0][:2]}/{key}"


def _walk(folder: Path, above: str, prefix: str) -> Iterator[Blob]:
    """The objects in `folder` and below, whose keys begin with `above`; branches that cannot match are not read."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in found:
        key = above + entry.name
        with contextlib.suppress(FileNotFoundError):
            if entry.is_dir(follow_symlinks=False):
                if key.startswith(prefix) or prefix.startswith(key + "/"):
                    yield from _walk(folder / entry.name, key + "/", prefix)
            elif key.startswith(prefix):
                about = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(about.st_mode) and is_key(key):
                    yield Blob(key, about.st_size, datetime.fromtimestamp(about.st_mtime, UTC))
