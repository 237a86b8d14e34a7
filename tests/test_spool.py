"""Spools: the same bytes in memory and on disk, within their limit, and nothing left behind."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.errors import LimitExceeded, StoreFull, StoreUnavailable
from storage.spool import Spool

PIECES: list[list[bytes]] = [
    [],
    [b""],
    [b"one"],
    [b"one", b"", b"two"],
    [b"x" * 9],
    [b"x" * 10],
    [b"x" * 11],
    [b"x" * 5, b"y" * 5, b"z"],
    [b"x" * 5, b"y" * 100_000, b"z" * 7],
]
KINDS: list[Callable[[bytes], bytes | bytearray | memoryview]] = [bytes, bytearray, memoryview]


@pytest.mark.parametrize("memory_limit", [0, 10, 1 << 20])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pieces", PIECES)
def test_what_is_written_is_what_is_seen(
    tmp_path: Path, pieces: list[bytes], kind: Callable[[bytes], bytes | bytearray | memoryview], memory_limit: int
) -> None:
    whole = b"".join(pieces)
    with Spool(tmp_path / "tmp", memory_limit=memory_limit) as spool:
        for piece in pieces:
            spool.write(kind(piece))
        assert spool.size == len(whole)
        assert spool.sha256 == hashlib.sha256(whole).hexdigest()
        assert spool.view() == whole
        assert spool.view().readonly
        assert (spool.path is not None) == (len(whole) > memory_limit)
        if spool.path is not None:
            assert spool.path.read_bytes() == whole
            assert spool.path.parent == tmp_path / "tmp"
            assert spool.path.stat().st_mode & 0o077 == 0
    assert list(tmp_path.glob("tmp/*")) == []
    assert spool.path is None


@pytest.mark.parametrize("memory_limit", [0, 1 << 20])
def test_it_may_be_looked_at_while_it_grows(tmp_path: Path, memory_limit: int) -> None:
    """A header is scanned before the pixels have come."""
    with Spool(tmp_path, memory_limit=memory_limit) as spool:
        spool.write(b"head")
        assert bytes(spool.view()) == b"head"
        spool.write(b"tail" * 10_000)
        assert spool.view() == b"head" + b"tail" * 10_000


@pytest.mark.parametrize("memory_limit", [0, 1 << 20])
def test_a_view_outlives_the_spool(tmp_path: Path, memory_limit: int) -> None:
    spool = Spool(tmp_path, memory_limit=memory_limit)
    spool.write(b"x" * 100_000)
    view = spool.view()
    spool.close()
    spool.close()
    assert view == b"x" * 100_000
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("memory_limit", [0, 5, 1 << 20])
def test_the_limit_is_kept_and_the_room_is_freed(tmp_path: Path, memory_limit: int) -> None:
    spool = Spool(tmp_path, limit=10, memory_limit=memory_limit)
    spool.write(b"x" * 10)
    with pytest.raises(LimitExceeded, match="limit of 10 bytes"):
        spool.write(b"x")
    assert list(tmp_path.iterdir()) == []
    for use in (lambda: spool.write(b""), spool.view):
        with pytest.raises(LimitExceeded):
            use()
    spool.close()


FAILURES = [
    (errno.ENOSPC, StoreFull),
    (errno.EDQUOT, StoreFull),
    (errno.EFBIG, StoreFull),
    (errno.EIO, StoreUnavailable),
    (errno.EROFS, StoreUnavailable),
]


@pytest.mark.parametrize(("number", "expected"), FAILURES)
@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_disk_that_fails_fails_the_spool_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[Exception], fails_at: int
) -> None:
    """Else bytes that lack some in the middle would be stored under the digest of all of them."""
    real, calls = os.write, [0]

    def write(descriptor: int, data: memoryview) -> int:
        calls[0] += 1
        if calls[0] == fails_at:
            raise OSError(number, os.strerror(number))
        return real(descriptor, data)

    spool = Spool(tmp_path, memory_limit=5)
    spool.write(b"start")
    with monkeypatch.context() as patch:
        patch.setattr("storage.spool.os.write", write)
        with pytest.raises(expected, match="send again"):
            spool.write(b"more")
    assert list(tmp_path.iterdir()) == []
    for use in (lambda: spool.write(b"more"), spool.view):
        with pytest.raises(expected):
            use()
    spool.close()


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr("storage.spool.os.write", lambda descriptor, data: real(descriptor, data[:7]))
    with Spool(tmp_path, memory_limit=0) as spool:
        spool.write(bytes(range(256)))
        assert spool.view() == bytes(range(256))


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with Spool(tmp_path / "file" / "tmp", memory_limit=0) as spool, pytest.raises(StoreUnavailable):
        spool.write(b"x")


def test_an_error_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    def receive() -> None:
        with Spool(tmp_path, memory_limit=0) as spool:
            spool.write(b"x")
            raise RuntimeError("receiving failed")

    with pytest.raises(RuntimeError, match="receiving failed"):
        receive()
    assert list(tmp_path.iterdir()) == []


def test_what_the_store_took_away_is_not_missed(tmp_path: Path) -> None:
    with Spool(tmp_path, memory_limit=0) as spool:
        spool.write(b"x")
        assert spool.path is not None
        spool.path.rename(tmp_path / "object")
    assert [path.name for path in tmp_path.iterdir()] == ["object"]


def test_room_is_used_again_when_nobody_looks_at_it(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        spool.write(b"first")
        held = spool.view()
    with Spool(tmp_path) as spool:
        spool.write(b"other")
        assert bytes(held) == b"first"
        assert bytes(spool.view()) == b"other"
    del held


def test_what_was_in_the_room_before_is_not_seen(tmp_path: Path) -> None:
    for content in (b"a long one with a name in it", b"short", b""):
        with Spool(tmp_path) as spool:
            spool.write(content)
            assert bytes(spool.view()) == content
            assert spool.size == len(content)
