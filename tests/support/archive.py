"""An archive of real parts, files and SQLite, in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storage.archive import Archive
from storage.blobs import open_blobs
from storage.index import open_index
from storage.ingest import Ingest
from storage.types import Blobs, Source, Stored

MAX_OBJECT_BYTES = 1 << 30

Store = Callable[[Path | bytes], Stored]


def open_archive(folder: Path, *, database_url: str | None = None, blobs: Blobs | None = None) -> Archive:
    """An archive in `folder`; in another database or object store where one is given."""
    folder.mkdir(parents=True, exist_ok=True)
    index = open_index(database_url or f"sqlite:///{folder / 'index.sqlite'}")
    blobs = blobs or open_blobs(f"file:{folder}")
    spool = getattr(blobs, "spool_folder", None) or folder / "spool"
    return Archive(index, blobs, Ingest(index, blobs), spool, MAX_OBJECT_BYTES)


def close_archive(archive: Archive) -> None:
    """Let go of its threads and connections."""
    archive.ingest.close()
    archive.index.close()


def ingest(archive: Archive, content: Path | bytes) -> Stored:
    """Store a file or bytes as `pacs import` would."""
    with archive.spool() as spool:
        spool.write(content if isinstance(content, bytes) else content.read_bytes())
        return archive.ingest(spool, Source("import"))


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """An empty archive."""
    opened = open_archive(tmp_path / "archive")
    yield opened
    close_archive(opened)


@pytest.fixture
def store(archive: Archive) -> Store:
    """Stores a file or bytes in the test's archive."""
    return lambda content: ingest(archive, content)
