"""The files of an answer's instances, some of them open before their turn: a disk that must be waited for reads on meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from storage.blobs.in_file import InFile
from storage.errors import LightboxError
from storage.types import Blobs, Located

# Files open ahead of the one that is sent: as many keep a disk busy.
_AHEAD: Final = 8
# Files read ahead after one was not in memory: those stored with it were as a rule not read either.
_COLD: Final = 64


class Ahead:
    """Iterates over instances, each with the file of its data set, or None where it is to be had otherwise.

    What the system has in memory costs nothing more. Once it has had to be waited for, the next files are asked for early.
    """

    def __init__(self, blobs: Blobs, instances: Iterable[Located], in_file: Callable[[Located], bool]) -> None:
        self._blobs = blobs
        self._instances = iter(instances)
        self._in_file = in_file
        self._open: deque[tuple[Located, InFile | None]] = deque()
        self._cold = 0

    def __iter__(self) -> Iterator[tuple[Located, InFile | None]]:
        for one in self._instances:
            self._open.append((one, self._opened(one)))
            if len(self._open) > _AHEAD:
                yield self._open.popleft()
        while self._open:
            yield self._open.popleft()

    def head(self, file: InFile) -> bytes:
        """The stored bytes before the data set. Raises StoreUnavailable."""
        data, waited = file.before()
        if waited:
            if not self._cold:
                for _, other in self._open:
                    _ask_for(other)
            self._cold = _COLD
        return data

    def _opened(self, one: Located) -> InFile | None:
        """What cannot be opened is found out, and said, in its turn."""
        if not self._in_file(one):
            return None
        try:
            descriptor = self._blobs.opened(one.object_key)
        except LightboxError:
            return None
        if descriptor is None:
            return None
        file = InFile(descriptor, one.dataset_offset, one.size - one.dataset_offset)
        if self._cold:
            self._cold -= 1
            _ask_for(file)
        return file


def _ask_for(file: InFile | None) -> None:
    if file is not None:
        file.wanted_soon()
