"""The object-store port: one table of behaviours, run on files, memory and a real S3 server."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storage.blobs import FileBlobs, MemoryBlobs, open_blobs
from storage.blobs.s3 import S3Blobs
from storage.errors import ObjectMissing
from storage.spool import Spool
from tests.support.s3 import S3Bucket, choice

Store = FileBlobs | MemoryBlobs | S3Blobs
STORES = ["files", "memory", pytest.param("s3", marks=pytest.mark.s3)]


def bucket_store(bucket: S3Bucket, *, endpoint_url: str | None = None) -> S3Blobs:
    store = open_blobs(
        bucket.url,
        s3_endpoint_url=endpoint_url or bucket.server.endpoint_url,
        s3_access_key_id=bucket.server.access_key,
        s3_secret_access_key=bucket.server.secret_key,
    )
    assert isinstance(store, S3Blobs)
    return store


@pytest.fixture(params=STORES)
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store: Store
    if request.param == "s3":
        store = bucket_store(request.getfixturevalue("s3_bucket"))
    else:
        store = open_blobs("memory:" if request.param == "memory" else f"file:{tmp_path / 'store'}")
    yield store
    store.close()


@pytest.fixture(params=["in memory", "on disk", "on another file system"])
def spooled(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[bytes], Spool]]:
    """Makes closed-at-the-end spools of some bytes, each way that a spool keeps them."""
    elsewhere = Path("/dev/shm")  # only named; the spool makes files of its own in it
    if request.param == "on another file system" and not elsewhere.is_dir():
        pytest.skip("no /dev/shm here to be another file system")
    folder = elsewhere if request.param == "on another file system" else tmp_path / "store" / "tmp"
    spools: list[Spool] = []

    def spool(data: bytes) -> Spool:
        made = Spool(folder, memory_limit=(1 << 30) if request.param == "in memory" else 0)
        spools.append(made)
        made.write(data)
        return made

    yield spool
    for made in spools:
        made.close()


def memory_spool(data: bytes) -> Spool:
    spool = Spool(Path("unused"), memory_limit=1 << 30)
    spool.write(data)
    return spool


def key_of(data: bytes, series: str = "cd34cd34cd34cd34") -> str:
    return f"ab12ab12ab12ab12/{series}/{hashlib.sha256(data).hexdigest()}.dcm"


def pattern(size: int, seed: int = 0) -> bytes:
    """Bytes that differ from place to place, so that a wrong range shows."""
    block = b"".join(hashlib.sha256(f"{seed}.{n}".encode()).digest() for n in range(64))
    return (block * (size // len(block) + 1))[:size]


def damage(store: Store, key: str, data: bytes) -> None:
    """Put other bytes under the key, behind the store's back."""
    if isinstance(store, MemoryBlobs):
        store.objects[key] = data
    elif isinstance(store, FileBlobs):
        store.path(key).write_bytes(data)
    else:
        store._client.put_object(Bucket=store._bucket, Key=store._prefix + key, Body=data)


def keys(store: Store, prefix: str = "") -> list[str]:
    return sorted(blob.key for blob in store.list(prefix))


def test_put_then_read(blobs: Store, spooled: Callable[[bytes], Spool]) -> None:
    data = pattern(300_000)
    spool = spooled(data)
    assert blobs.put(key_of(data), spool) is True
    spool.close()
    assert blobs.read(key_of(data)) == data
    assert b"".join(blobs.stream(key_of(data))) == data


def test_same_spool_may_be_put_twice(blobs: Store, spooled: Callable[[bytes], Spool]) -> None:
    """Ingest does so when an object that it found was swept away before its row was committed."""
    data = pattern(5_000)
    spool = spooled(data)
    assert blobs.put(key_of(data), spool) is True
    assert blobs.put(key_of(data), spool) is False
    blobs.delete(key_of(data))
    assert blobs.put(key_of(data), spool) is True
    assert blobs.read(key_of(data)) == data


SIZE = 3_000_000
# offset, length, what of the object comes back
RANGES: list[tuple[int, int | None, slice]] = [
    (0, None, slice(0, SIZE)),
    (0, SIZE, slice(0, SIZE)),
    (0, 10, slice(0, 10)),
    (0, 0, slice(0, 0)),
    (17, 0, slice(0, 0)),
    (1, 1, slice(1, 2)),
    (2_999_990, None, slice(2_999_990, SIZE)),
    (2_999_990, 10, slice(2_999_990, SIZE)),
    (2_999_990, 11, slice(2_999_990, SIZE)),
    (2_999_990, 1 << 40, slice(2_999_990, SIZE)),
    (1_048_575, 1_048_578, slice(1_048_575, 2_097_153)),
    (SIZE, None, slice(0, 0)),
    (SIZE, 5, slice(0, 0)),
    (SIZE + 5, 5, slice(0, 0)),
]


def test_ranges(blobs: Store) -> None:
    data = pattern(SIZE)
    blobs.put(key_of(data), memory_spool(data))
    for offset, length, expected in RANGES:
        assert blobs.read(key_of(data), offset, length) == data[expected], (offset, length)
        pieces = list(blobs.stream(key_of(data), offset, length))
        assert b"".join(pieces) == data[expected], (offset, length)
        assert all(0 < len(piece) <= 1 << 20 for piece in pieces), (offset, length)


@pytest.mark.parametrize(("offset", "length"), [(-1, None), (0, -1), (-5, 5)])
def test_negative_ranges_are_a_fault_of_the_program(blobs: Store, offset: int, length: int | None) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        blobs.read(key_of(b""), offset, length)
    with pytest.raises(ValueError, match="must not be negative"):
        blobs.stream(key_of(b""), offset, length)


def test_absent_object(blobs: Store) -> None:
    for length in (None, 0, 5):
        with pytest.raises(ObjectMissing, match=r"not in the store|not there"):
            blobs.read(key_of(b"absent"), 0, length)
        with pytest.raises(ObjectMissing):
            blobs.stream(key_of(b"absent"), 0, length)
    blobs.delete(key_of(b"absent"))
    assert keys(blobs) == []


def test_delete(blobs: Store) -> None:
    one, two = pattern(100, 1), pattern(100, 2)
    for data in (one, two):
        blobs.put(key_of(data), memory_spool(data))
    blobs.delete(key_of(one))
    with pytest.raises(ObjectMissing):
        blobs.read(key_of(one))
    assert keys(blobs) == [key_of(two)]
    blobs.delete(key_of(two))
    blobs.delete(key_of(two))
    assert keys(blobs) == []
    assert blobs.put(key_of(one), memory_spool(one)) is True
    assert blobs.read(key_of(one)) == one


def test_stream_outlives_a_delete(blobs: Store) -> None:
    """A retrieve that has begun is finished, or fails; it does not end early as if that were all."""
    if isinstance(blobs, S3Blobs):
        pytest.skip("an S3 server decides by itself what becomes of an answer that it is sending")
    data = pattern(3 << 20)
    blobs.put(key_of(data), memory_spool(data))
    stream = blobs.stream(key_of(data))
    first = next(stream)
    blobs.delete(key_of(data))
    assert first + b"".join(stream) == data


LISTED = [
    "ab12/s1/one.dcm",
    "ab12/s1/two.dcm",
    "ab12/s2/one.dcm",
    "ab99/s1/one.dcm",
    "cd00/s1/one.dcm",
    "e/s1/one.dcm",
    "quarantine/one.dcm",
]
PREFIXES = ["", "a", "ab", "ab1", "ab12", "ab12/", "ab12/s", "ab12/s1/", "ab12/s1/o", "c", "e", "e/", "e/s1/one.dcm", "quar", "x", "tmp"]


def test_list(blobs: Store) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)
    for key in LISTED:
        blobs.put(key, memory_spool(key.encode()))
    for prefix in PREFIXES:
        assert keys(blobs, prefix) == [key for key in LISTED if key.startswith(prefix)], prefix
    for blob in blobs.list():
        assert blob.size == len(blob.key)
        assert before < blob.modified < datetime.now(UTC) + timedelta(seconds=5)


DAMAGES: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("a bit flipped", lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]),
    ("cut short", lambda data: data[:5000]),
    ("empty", lambda data: b""),
    ("longer", lambda data: data + b"\0"),
]


@pytest.mark.parametrize(("name", "change"), DAMAGES)
def test_a_damaged_object_is_repaired(
    blobs: Store, spooled: Callable[[bytes], Spool], name: str, change: Callable[[bytes], bytes]
) -> None:
    data = pattern(100_000)
    with memory_spool(data) as first:
        blobs.put(key_of(data), first)
    damage(blobs, key_of(data), change(data))
    assert blobs.read(key_of(data)) != data
    assert blobs.put(key_of(data), spooled(data)) is True
    assert blobs.read(key_of(data)) == data
    assert blobs.put(key_of(data), spooled(data)) is False
    assert keys(blobs) == [key_of(data)]


def test_replace_does_not_compare(blobs: Store) -> None:
    data = pattern(1_000)
    for _ in range(2):
        assert blobs.put(key_of(data), memory_spool(data), replace=True) is True
    assert blobs.read(key_of(data)) == data


def test_same_key_from_eight_threads(blobs: Store, spooled: Callable[[bytes], Spool]) -> None:
    data = pattern(200_000)
    spools = [spooled(data) for _ in range(8)]
    gate = threading.Barrier(8)

    def put(spool: Spool) -> bool:
        gate.wait()
        return blobs.put(key_of(data), spool)

    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(put, spools))
    # moto looks and writes in two steps, so that two may pass; nothing else may.
    assert written.count(True) == 1 or (isinstance(blobs, S3Blobs) and choice() == "moto" and any(written))
    assert blobs.read(key_of(data)) == data
    assert keys(blobs) == [key_of(data)]


def test_many_keys_from_eight_threads(blobs: Store) -> None:
    """Threads make and empty the same folders at the same time; nobody's object is lost by that."""
    datas = [pattern(2_000, seed) for seed in range(40)]

    def put(data: bytes) -> None:
        for _ in range(2):
            assert blobs.put(key_of(data, "5e5e5e5e5e5e5e5e"), memory_spool(data)) is True
            blobs.delete(key_of(data, "5e5e5e5e5e5e5e5e"))
        assert blobs.put(key_of(data, "5e5e5e5e5e5e5e5e"), memory_spool(data)) is True

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, datas))
    assert keys(blobs) == sorted(key_of(data, "5e5e5e5e5e5e5e5e") for data in datas)
    for data in datas:
        assert blobs.read(key_of(data, "5e5e5e5e5e5e5e5e")) == data


def test_large_object(blobs: Store, tmp_path: Path) -> None:
    data = pattern((70 << 20) + 17)
    key = key_of(data)
    with Spool(tmp_path / "store" / "tmp") as spool:
        for start in range(0, len(data), 1 << 20):
            spool.write(data[start : start + (1 << 20)])
        assert spool.path is not None
        assert blobs.put(key, spool) is True
        assert blobs.put(key, spool) is False
    assert blobs.read(key, (70 << 20) + 10) == data[-7:]
    digest = hashlib.sha256()
    for piece in blobs.stream(key):
        digest.update(piece)
    assert digest.hexdigest() == hashlib.sha256(data).hexdigest()
    assert [blob.size for blob in blobs.list()] == [len(data)]


BAD_KEYS = [
    "", "/", "/etc/passwd", "..", "../a", "a/..", "a/../b", "a//b", "a/", "./a", "a/.hidden", ".hidden", "a\\b", "a b",
    "a\0b", "a\nb", "a\n", "é", "a/" + "b" * 129, "/".join("abcdefghi"),
]  # fmt: skip


@pytest.mark.parametrize("key", BAD_KEYS)
def test_bad_keys_are_a_fault_of_the_program(blobs: Store, key: str) -> None:
    for use in (blobs.read, blobs.stream, blobs.delete, lambda key: blobs.put(key, memory_spool(b"x"))):
        with pytest.raises(ValueError, match="is not an object key"):
            use(key)
    assert keys(blobs) == []


def test_ping(blobs: Store) -> None:
    blobs.ping()
    assert keys(blobs) == []


BAD_URLS = [
    ("", "names no object store"),
    ("/var/lib/lightbox", "names no object store"),
    ("ftp://host/x", "names no object store"),
    ("file:", "names no folder"),
    ("file:/", "names no folder"),
    ("file://host/path", "names a host"),
    ("s3://", "names no bucket"),
    ("s3:///prefix", "names no bucket"),
    ("s3://a", "names no bucket"),
    ("s3://bad bucket/x", "names no bucket"),
    ("s3://bucket/../x", "prefix that is no key"),
    ("s3://bucket/a b", "prefix that is no key"),
    ("memory", "names no object store"),
]


@pytest.mark.parametrize(("url", "reason"), BAD_URLS)
def test_bad_urls_say_what_is_wrong(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        open_blobs(url)
    assert repr(url) in str(caught.value)


@pytest.mark.parametrize("form", ["file:{}", "file://{}"])
def test_folder_urls_are_taken_as_they_are(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "with space & 100%41"
    store = open_blobs(form.format(folder))
    assert isinstance(store, FileBlobs)
    assert store.root == folder
    assert folder.is_dir()
    assert store.spool_folder.is_dir()
    store.close()


def test_relative_folder_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = open_blobs("file:store/objects")
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.put(key_of(b"x"), memory_spool(b"x"))
    assert (tmp_path / "store" / "objects" / "ab" / key_of(b"x")).read_bytes() == b"x"
    store.close()
