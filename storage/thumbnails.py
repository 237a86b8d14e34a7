"""Thumbnails that were drawn before anybody asks: of the middle of each series and study, when nothing more of it comes.

One lies under `copies/thumbnail/` and the key of its instance (`storage.copies`), with a digest of everything that the picture
depends on, presets and the way of drawing among them: where that has changed it is not used, and the picture is drawn when it is
asked for. Nothing else knows of it, and without it everything is as it would be.
"""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Callable
from itertools import chain, islice
from typing import Final

from storage.archive import Archive
from storage.copies import THUMBNAIL, drop, key_of
from storage.errors import ObjectMissing
from storage.index import Index
from storage.routing import Feed
from storage.types import DEFAULT_PARTITION, Blobs, Scope

KIND: Final = "thumbnail"
FEED: Final = "thumbnail"
# What it is, the digest of what it depends on, and that of the picture, which follows.
_HEAD: Final = struct.Struct("<8s32s32s")
_MAGIC: Final = b"LBTHUMB1"
_MOST: Final = 1 << 20
_CAME: Final = frozenset({"instance-stored", "instance-replaced"})
# While anything comes nothing is drawn, but for no longer than this.
_LONGEST: Final = 300.0
# Series of which more may come: beyond so many, those that came first are drawn as they are.
_MOST_COMING: Final = 10_000
# Series at a time, each of which becomes a job: of a whole archive that has come at once they would take hundreds of megabytes.
_AT_ONCE: Final = 1000
# Changes to catch up with after a stop, or when this is switched on; what came before is drawn when it is asked for.
_MOST_BEHIND: Final = 20_000


def keep(archive: Archive, object_key: str, basis: str, picture: bytes) -> None:
    """Keep the thumbnail of an object, in place of the one that was; `basis` is everything that it depends on."""
    with archive.spool() as spool:
        spool.write(_HEAD.pack(_MAGIC, hashlib.sha256(basis.encode()).digest(), hashlib.sha256(picture).digest()) + picture)
        archive.blobs.put(key_of(object_key, THUMBNAIL), spool)
    if not archive.index.known_keys([object_key]):
        # It was removed meanwhile, and whoever did so may have looked for a thumbnail before there was one.
        drop(archive.blobs, object_key)


def find(blobs: Blobs, object_key: str, basis: str) -> bytes | None:
    """The thumbnail of an object, if there is one that is whole and depends on the same."""
    try:
        content = blobs.read(key_of(object_key, THUMBNAIL), 0, _MOST)
    except ObjectMissing:
        return None
    picture = content[_HEAD.size :]
    expected = _HEAD.pack(_MAGIC, hashlib.sha256(basis.encode()).digest(), hashlib.sha256(picture).digest())
    return picture if content[: _HEAD.size] == expected else None


def is_whole(blobs: Blobs, key: str) -> bool:
    """Whether a thumbnail is as it was drawn. Raises ObjectMissing."""
    content = blobs.read(key, 0, _MOST)
    return content[: len(_MAGIC)] == _MAGIC and content[_HEAD.size - 32 : _HEAD.size] == hashlib.sha256(content[_HEAD.size :]).digest()


class Arrivals:
    """The series that have come, as soon as nothing more of them comes; for one thread.

    What has been noticed and is not quiet yet is known to this process alone: where it dies, those thumbnails are drawn when they
    are asked for.
    """

    def __init__(self, index: Index, quiet_seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._index = index
        self._feed = Feed(index, FEED)
        self._quiet = quiet_seconds
        self._clock = clock
        # When the first and the last of a series came.
        self._coming: dict[Scope, tuple[float, float]] = {}
        self._last = float("-inf")

    def quiet(self) -> list[Scope]:
        """Some of the series of which nothing came for so long, while nothing else comes either; each once."""
        self._notice()
        now = self._clock()
        resting = now - self._last >= self._quiet
        crowded = islice(self._coming, max(0, len(self._coming) - _MOST_COMING))
        quiet = (
            scope
            for scope, (first, last) in self._coming.items()
            if now - last >= self._quiet and (resting or now - first >= _LONGEST)
        )
        found = list(dict.fromkeys(islice(chain(crowded, quiet), _AT_ONCE)))
        for scope in found:
            del self._coming[scope]
        return found

    def _notice(self) -> None:
        after, newest = self._feed.news()
        if newest - after > _MOST_BEHIND:
            self._feed.pass_over(after, newest - _MOST_BEHIND)
            after = newest - _MOST_BEHIND
        while after < newest:
            changes = self._feed.read(after)
            if not changes:
                return
            with self._index.database.write() as connection:
                if not self._feed.move(connection, after, changes[-1].sequence):
                    # Another process is at it.
                    return
            after, now = changes[-1].sequence, self._clock()
            for row in changes:
                if row.kind in _CAME and row.partition == DEFAULT_PARTITION:
                    scope = Scope(row.study_instance_uid, row.series_instance_uid)
                    first, _ = self._coming.get(scope, (now, now))
                    self._coming[scope] = (first, now)
                    self._last = now
