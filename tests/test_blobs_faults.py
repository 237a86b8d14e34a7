"""The file store when the disk is full, fails, refuses or loses power: nothing unsound is acknowledged or left behind."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from storage.blobs import FileBlobs
from storage.blobs.folders import Folder
from storage.blobs.writing import NoUnnamedFiles, write_named_last
from storage.errors import StoreFull, StoreUnavailable
from storage.spool import Spool
from tests.test_blobs import key_of, keys, memory_spool, pattern

DATA = pattern(300_000)
KEY = key_of(DATA)
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileBlobs]:
    blobs = FileBlobs(tmp_path / "store")
    yield blobs
    blobs.close()


@pytest.fixture
def no_unnamed_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a system, or a file system, where every file has a name."""
    monkeypatch.setattr("storage.blobs.writing._UNNAMED", None)


@pytest.fixture(params=["in memory", "in memory, named", "on disk"])
def spooled(request: pytest.FixtureRequest, store: FileBlobs) -> Iterator[Callable[[], Spool]]:
    spools: list[Spool] = []
    if request.param == "in memory, named":
        request.getfixturevalue("no_unnamed_files")

    def spool() -> Spool:
        spools.append(Spool(store.spool_folder, memory_limit=0 if request.param == "on disk" else 1 << 30))
        spools[-1].write(DATA)
        return spools[-1]

    yield spool
    for made in spools:
        made.close()


def temporary(store: FileBlobs) -> list[str]:
    """What is in `tmp/` that no spool put there."""
    return [path.name for path in store.spool_folder.iterdir() if not path.name.startswith("spool-")]


def failing(number: int, times: int = 1) -> Callable[..., int]:
    """A system call that fails `times` times, and then succeeds without doing anything."""
    left = [times]

    def call(*_: object, **__: object) -> int:
        if left[0]:
            left[0] -= 1
            raise OSError(number, os.strerror(number))
        return 0

    return call


NUMBERS = [
    (errno.EIO, StoreUnavailable),
    (errno.EROFS, StoreUnavailable),
    (errno.ENOSPC, StoreFull),
    (errno.EDQUOT, StoreFull),
]


@pytest.mark.parametrize(("number", "expected"), NUMBERS)
def test_a_flush_that_fails_leaves_nothing_that_is_believed(
    store: FileBlobs,
    spooled: Callable[[], Spool],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    expected: type[Exception],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("storage.disk.os.fdatasync", failing(number))
        with pytest.raises(expected, match=re.escape(os.strerror(number))):
            store.put(KEY, spooled())
    assert temporary(store) == []
    for left in keys(store):
        # Named before it was flushed. Whatever the kernel says later, its bytes may not have got to the medium.
        store.path(left).write_bytes(bytes(len(DATA)))
    assert store.put(KEY, spooled()) is True
    assert store.read(KEY) == DATA


def test_a_spool_whose_flush_failed_is_not_believed_again(store: FileBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel tells of a lost write once; a second fsync of the same file would succeed."""
    with Spool(store.spool_folder, memory_limit=0) as spool:
        spool.write(DATA)
        with monkeypatch.context() as patch:
            patch.setattr("storage.disk.os.fdatasync", failing(errno.EIO))
            with pytest.raises(StoreUnavailable):
                store.put(KEY, spool)
        with pytest.raises(StoreUnavailable, match="spooled bytes are gone"):
            store.put(KEY, spool)
    assert keys(store) == []
    assert list(store.spool_folder.iterdir()) == []


def flushes_needed(store: FileBlobs, spooled: Callable[[], Spool], monkeypatch: pytest.MonkeyPatch) -> int:
    """How many folders are flushed for the first object: fan, study and series in their parents, and the object in the
    series; and `tmp` where a file has a name there before its own."""
    store.close()
    flushed: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr("storage.blobs.folders.os.fsync", flushed.append)
        assert store.put(KEY, spooled()) is True
    assert len(flushed) in (4, 5)
    return len(flushed)


@pytest.mark.parametrize(("number", "expected"), NUMBERS)
def test_a_folder_flush_that_fails_is_not_a_success(
    store: FileBlobs,
    spooled: Callable[[], Spool],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    expected: type[Exception],
) -> None:
    """Wherever it fails: making the study's folder, the series', or naming the object in it. A resend then succeeds."""
    needed = flushes_needed(store, spooled, monkeypatch)
    for allowed in range(needed + 1):
        store.delete(KEY)
        store.close()
        flushed = [0]

        def fsync(descriptor: int, allowed: int = allowed, flushed: list[int] = flushed) -> None:
            flushed[0] += 1
            if flushed[0] > allowed:
                raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr("storage.blobs.folders.os.fsync", fsync)
            if allowed < needed:
                with pytest.raises(expected):
                    store.put(KEY, spooled())
                assert flushed[0] == allowed + 1
                # Nothing is believed of what was not flushed: asking again asks the disk again.
                with pytest.raises(expected):
                    store.put(KEY, spooled())
                assert flushed[0] > allowed + 1
            else:
                assert store.put(KEY, spooled()) is True
                assert flushed[0] == needed
        assert temporary(store) == []
        store.put(KEY, spooled())
        assert store.read(KEY) == DATA


@pytest.mark.parametrize(("number", "expected"), NUMBERS)
def test_a_write_that_fails_leaves_no_object(
    store: FileBlobs, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[Exception]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("storage.blobs.writing.os.write", failing(number))
        with pytest.raises(expected):
            store.put(KEY, memory_spool(DATA))
    assert keys(store) == []
    assert temporary(store) == []


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.EPERM])
def test_where_no_file_can_be_without_a_name(store: FileBlobs, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """NFS, FAT and some overlays have none (open(2), O_TMPFILE)."""
    real = os.open

    def unnamed_refused(path: str, flags: int, *arguments: Any, **named: Any) -> int:
        if path == ".":
            raise OSError(number, os.strerror(number))
        return real(path, flags, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr("storage.blobs.writing.os.open", unnamed_refused)
        assert store.put(KEY, memory_spool(DATA)) is True
    assert store.read(KEY) == DATA


def test_a_file_without_a_name_takes_none_that_is_taken(tmp_path: Path) -> None:
    folder = Folder(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))
    (tmp_path / "taken").write_bytes(b"first")
    try:
        with pytest.raises(FileExistsError):
            write_named_last(folder, "taken", memoryview(b"second"))
    except NoUnnamedFiles:
        pytest.skip("this system has no files without a name")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("taken", b"first")]


@pytest.mark.parametrize("size", [0, 1, 4095, 65_535, 65_536, 65_537, 300_000, 1 << 20])
def test_what_is_written_past_the_page_cache_is_the_same(store: FileBlobs, size: int) -> None:
    data = pattern(size)
    assert store.put(key_of(data), memory_spool(data)) is True
    assert store.read(key_of(data)) == data


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="only Linux writes past its page cache")
def test_an_object_is_written_without_the_page_cache(store: FileBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole blocks of what a spool has in memory; so none of it is there to be read without waiting."""
    asked: list[int] = []
    real = os.write

    def watched(descriptor: int, data: memoryview) -> int:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
            asked.append(len(data))
        return real(descriptor, data)

    monkeypatch.setattr("storage.blobs.writing.os.write", watched)
    assert store.put(KEY, memory_spool(DATA)) is True
    if not asked:
        pytest.skip("the file system of the test folder has no direct writing")
    assert asked == [len(DATA) - len(DATA) % 4096]
    assert store.resident(KEY, 0, 10) is None
    assert store.resident(KEY, len(DATA) - 10, 10) is None


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="only Linux writes past its page cache")
@pytest.mark.parametrize("refused", ["fcntl.fcntl", "os.write"])
def test_where_nothing_can_be_written_past_the_page_cache(store: FileBlobs, monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    """Some file systems refuse the flag, some the writing, and some addresses in memory are not aligned (open(2))."""
    real: Callable[..., Any] = fcntl.fcntl if refused == "fcntl.fcntl" else os.write
    number = [0]

    def once(*arguments: Any) -> Any:
        number[0] += 1
        if number[0] == 1:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(f"storage.blobs.writing.{refused}", once)
        assert store.put(KEY, memory_spool(DATA)) is True
    assert number[0]
    assert store.read(KEY) == DATA


def test_bytes_at_any_address_are_written(store: FileBlobs) -> None:
    class Unaligned:
        size, sha256, path = len(DATA), hashlib.sha256(DATA).hexdigest(), None

        def view(self) -> memoryview:
            return memoryview(b"x" + DATA)[1:]

    assert store.put(KEY, Unaligned()) is True
    assert store.read(KEY) == DATA


def test_short_writes_are_continued(store: FileBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr("storage.blobs.writing.os.write", lambda descriptor, data: real(descriptor, data[:70_001]))
        assert store.put(KEY, memory_spool(DATA)) is True
    assert store.read(KEY) == DATA


def test_short_reads_are_continued(store: FileBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(KEY, memory_spool(DATA))
    real = os.pread
    with monkeypatch.context() as patch:
        patch.setattr("storage.blobs.reading.os.pread", lambda fd, length, offset: real(fd, min(length, 7_001), offset))
        assert store.read(KEY, 5, 250_000) == DATA[5:250_005]
        assert b"".join(store.stream(KEY, 5, 250_000)) == DATA[5:250_005]
        assert store.put(KEY, memory_spool(DATA)) is False


def test_what_the_disk_cannot_read_is_unavailable_and_repaired(
    store: FileBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(KEY, memory_spool(DATA))
    with monkeypatch.context() as patch:
        patch.setattr("storage.blobs.reading.os.pread", failing(errno.EIO, times=3))
        with pytest.raises(StoreUnavailable):
            store.read(KEY)
        stream = store.stream(KEY)
        with pytest.raises(StoreUnavailable):
            next(stream)
        assert list(stream) == []
        assert store.put(KEY, memory_spool(DATA)) is True
    assert store.read(KEY) == DATA


def test_without_hard_links(
    store: FileBlobs, spooled: Callable[[], Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """exFAT and some network shares have none; then a rename must do, and a spool's file is copied."""
    monkeypatch.setattr("storage.blobs.writing.os.link", failing(errno.EPERM, times=1 << 30))
    assert store.put(KEY, spooled()) is True
    assert store.put(KEY, spooled()) is False
    assert store.read(KEY) == DATA
    store.path(KEY).write_bytes(b"damaged")
    assert store.put(KEY, spooled()) is True
    spools = [spooled() for _ in range(8)]
    other = key_of(DATA, "0123456789abcdef")
    with ThreadPoolExecutor(8) as pool:
        assert any(pool.map(lambda spool: store.put(other, spool), spools))
    assert store.read(other) == DATA
    assert temporary(store) == []


def test_one_flush_of_a_folder_serves_all_who_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks while a flush is running may have named something too late for it, and gets the next one."""
    folder = Folder(os.open(tmp_path, os.O_RDONLY))
    begun, go, flushes = threading.Event(), threading.Event(), []

    def fsync(descriptor: int) -> None:
        flushes.append(descriptor)
        begun.set()
        go.wait(10)

    monkeypatch.setattr("storage.blobs.folders.os.fsync", fsync)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(folder.sync)
        begun.wait(10)
        later = [pool.submit(folder.sync) for _ in range(7)]
        while folder._asked < 8:
            time.sleep(0.005)
        assert not any(one.done() for one in (first, *later))
        go.set()
        for one in (first, *later):
            one.result(10)
    assert flushes == [folder.descriptor] * 2


def test_a_folder_whose_flush_failed_fails_all_who_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(os.open(tmp_path, os.O_RDONLY))
    monkeypatch.setattr("storage.blobs.folders.os.fsync", failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        folder.sync()
    with pytest.raises(OSError, match="Input/output"):
        folder.sync()


@pytest.fixture
def flushes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every file and folder that is flushed, in order."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc here to tell which file a descriptor is")
    flushed: list[Path] = []
    real = os.fsync

    def flush(descriptor: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr("storage.blobs.folders.os.fsync", flush)
    monkeypatch.setattr("storage.disk.os.fdatasync", flush)
    return flushed


def test_what_another_process_has_made_is_flushed_once(store: FileBlobs, flushes: list[Path]) -> None:
    """It may have made the folders, and not flushed them yet."""
    series = store.path(KEY).parent
    series.mkdir(parents=True)
    store.put(KEY, memory_spool(DATA))
    written = next(place for place in flushes if place not in (store.root, *store.path(KEY).parents))
    assert written.parent in (store.spool_folder, series)
    flushes.remove(written)
    assert flushes == [store.root, series.parent.parent, series.parent, series]
    flushes.clear()
    store.put(key_of(b"another"), memory_spool(b"another"))
    assert flushes[1:] == [series]


def test_a_sound_copy_of_another_process_is_flushed(store: FileBlobs, flushes: list[Path]) -> None:
    """It may have written and named the object, and not flushed it yet."""
    path = store.path(KEY)
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    assert store.put(KEY, memory_spool(DATA)) is False
    assert flushes[-2:] == [path, path.parent]


def test_what_others_leave_in_the_folder_is_no_object(store: FileBlobs) -> None:
    store.put(KEY, memory_spool(DATA))
    for name in ("lost+found/x", "ab/.DS_Store", "ab/file with space", "zz", "README", "tmp/spool-x"):
        (store.root / name).parent.mkdir(exist_ok=True)
        (store.root / name).write_bytes(b"alien")
    (store.path(KEY).parent / "link.dcm").symlink_to(store.path(KEY))
    assert keys(store) == [KEY]


def test_only_old_temporary_files_are_swept(store: FileBlobs) -> None:
    old, young = store.spool_folder / "put-old", store.spool_folder / "spool-young"
    for path in (old, young):
        path.write_bytes(b"partial")
    os.utime(old, (0, time.time() - 7_200))
    FileBlobs(store.root).close()
    assert list(store.spool_folder.iterdir()) == [young]
    assert store.sweep_temporary(older_than=-1) == 1


def test_a_store_whose_folder_goes_away_and_comes_back(store: FileBlobs, tmp_path: Path) -> None:
    """As a mount that is lost: refused meanwhile, nothing made in its place, well again without a restart."""
    store.put(KEY, memory_spool(DATA))
    store.root.rename(tmp_path / "away")
    # Descriptors that are held open still reach the folder; a new process would not.
    store.close()
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            store.put(KEY, memory_spool(DATA))
    with pytest.raises(StoreUnavailable):
        store.ping()
    assert not store.root.exists()
    (tmp_path / "away").rename(store.root)
    assert store.put(KEY, memory_spool(DATA)) is False
    store.ping()


@pytest.mark.usefixtures("no_unnamed_files")
def test_a_temporary_folder_that_somebody_removes(store: FileBlobs) -> None:
    store.put(KEY, memory_spool(DATA))
    store.spool_folder.rmdir()
    other = pattern(1_000)
    with pytest.raises(StoreUnavailable):
        store.put(key_of(other), memory_spool(other))
    assert store.put(key_of(other), memory_spool(other)) is True


def test_files_and_folders_are_closed_to_others(store: FileBlobs, spooled: Callable[[], Spool]) -> None:
    store.put(KEY, spooled())
    for path in (store.path(KEY), *store.path(KEY).parents):
        assert path.stat().st_mode & 0o077 == 0, path
        if path == store.root:
            break


SHARER = """
import sys
from pathlib import Path
from storage.blobs.files import FileBlobs
from tests.test_blobs import key_of, memory_spool, pattern
store = FileBlobs(Path(sys.argv[1]))
own = int(sys.argv[2])
for number in range(40):
    shared, mine = pattern(3_000, number), pattern(3_000, 1000 * own + number)
    store.put(key_of(shared), memory_spool(shared))
    assert store.put(key_of(mine, "5e5e5e5e5e5e5e5e"), memory_spool(mine)) is True
    store.delete(key_of(mine, "5e5e5e5e5e5e5e5e"))
    assert store.put(key_of(mine, "5e5e5e5e5e5e5e5e"), memory_spool(mine)) is True
"""


def test_processes_share_the_folder(store: FileBlobs) -> None:
    """The same objects written by three at once, and a series that each of them empties while another fills it."""
    command = [sys.executable, "-c", SHARER, str(store.root)]
    children = [
        subprocess.Popen([*command, str(number)], cwd=ROOT, stderr=subprocess.PIPE, text=True) for number in (1, 2, 3)
    ]
    for child in children:
        assert child.communicate(timeout=60)[1] == ""
        assert child.returncode == 0
    shared = [pattern(3_000, number) for number in range(40)]
    own = [pattern(3_000, 1000 * process + number) for process in (1, 2, 3) for number in range(40)]
    expected = {key_of(data): data for data in shared} | {key_of(data, "5e5e5e5e5e5e5e5e"): data for data in own}
    assert keys(store) == sorted(expected)
    assert {key: store.read(key) for key in expected} == expected
    assert temporary(store) == []


# --- a file system of its own: needs root


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None or sys.platform != "linux":
        pytest.skip("a full disk and a read-only mount are not tested: that needs root on Linux")
    if subprocess.run([mount, "-t", "tmpfs", "-o", "size=2m", "none", str(folder)], check=False).returncode:
        pytest.skip("a full disk and a read-only mount are not tested: mounting is not allowed here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("memory_limit", [1 << 20, 0])
def test_full_disk(small_disk: Path, memory_limit: int) -> None:
    """What was acknowledged is whole, what was not is not there, and when there is room again the resend succeeds."""
    store = FileBlobs(small_disk)
    acknowledged, refused = [], []
    for seed in range(15):
        data = pattern(200_000, seed)
        try:
            with Spool(store.spool_folder, memory_limit=memory_limit) as spool:
                spool.write(data)
                assert store.put(key_of(data), spool) is True
            acknowledged.append(data)
        except StoreFull:
            refused.append(data)
    assert len(acknowledged) >= 8
    assert len(refused) >= 4
    assert keys(store) == sorted(key_of(data) for data in acknowledged)
    assert list(store.spool_folder.iterdir()) == []
    for data in acknowledged:
        assert store.read(key_of(data)) == data
    store.delete(key_of(acknowledged[0]))
    assert store.put(key_of(refused[0]), memory_spool(refused[0])) is True
    assert store.read(key_of(refused[0])) == refused[0]
    store.close()


def test_read_only_mount(small_disk: Path) -> None:
    store = FileBlobs(small_disk)
    store.put(KEY, memory_spool(DATA))
    store.close()
    other = pattern(1_000)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreUnavailable, match="Read-only"):
        store.put(key_of(other), memory_spool(other))
    with pytest.raises(StoreUnavailable, match="Read-only"):
        store.ping()
    with pytest.raises(StoreUnavailable, match="Read-only"):
        store.delete(KEY)
    assert store.read(KEY) == DATA
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert store.put(key_of(other), memory_spool(other)) is True
    store.close()


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnavailable, match=r"could not open the folder .*/file/store"):
        FileBlobs(tmp_path / "file" / "store")


# --- system calls, by strace: Linux only

CHILD = """
import sys
from pathlib import Path
from storage.blobs.files import FileBlobs
from storage.errors import Unavailable
from storage.spool import Spool
from tests.test_blobs_faults import DATA, KEY
def put():
    store = FileBlobs(Path(sys.argv[1]))
    with Spool(store.spool_folder, memory_limit=int(sys.argv[2])) as spool:
        spool.write(DATA)
        return store.put(KEY, spool)
for attempt in range(2):
    try:
        put()
    except Unavailable as error:
        print("refused", type(error).__name__)
    else:
        print("stored")
        break
"""
CHANGING = "mkdir,mkdirat,write,fsync,fdatasync,link,linkat,rename,renameat,renameat2,unlink,unlinkat"


def strace(options: list[str], root: Path, memory_limit: int) -> subprocess.CompletedProcess[str]:
    program = shutil.which("strace")
    if program is None:
        pytest.skip("the order and the failure of system calls are not tested: strace is not installed")
    command = [program, "-f", "--seccomp-bpf", *options, sys.executable, "-B", "-c", CHILD, str(root), str(memory_limit)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    if "ptrace" in done.stderr and "not permitted" in done.stderr:
        pytest.skip("the order and the failure of system calls are not tested: tracing is not allowed here")
    return done


@pytest.mark.parametrize("memory_limit", [1 << 20, 0])
def test_order_of_system_calls(tmp_path: Path, memory_limit: int) -> None:
    """Bytes and name before the answer; each folder in its parent before anything is named in it.

    What has a temporary name is flushed before it gets its own; what has none is named first, so that one writing of the
    journal makes both durable.
    """
    root, log = tmp_path / "store", tmp_path / "log"
    done = strace(["-y", "-o", str(log), "-e", f"trace={CHANGING}"], root, memory_limit)
    assert done.stdout == "stored\n", done.stderr
    found = [line.partition(" ")[2].strip() for line in log.read_text().splitlines() if "resumed" not in line]
    place = f"{root}/ab/{KEY}"
    series, _, name = place.rpartition("/")
    study, fan = series.rpartition("/")[0], f"{root}/ab"

    def at(pattern: str) -> int:
        matches = [number for number, line in enumerate(found) if re.search(pattern, line)]
        assert len(matches) == 1, (pattern, matches, found)
        return matches[0]

    def flushed(folder: str) -> list[int]:
        return [number for number, line in enumerate(found) if re.match(rf"fsync\(\d+<{folder}>\)", line)]

    bytes_flushed = at(r"fdatasync\(\d+<.*/(tmp/|#\d+)")
    named = at(rf'linkat\(.*"{name}"')
    answered = at(r'write\(1.*"stored')
    assert (bytes_flushed < named) is (memory_limit == 0)
    assert bytes_flushed < answered
    assert any(max(named, bytes_flushed) < number < answered for number in flushed(series))
    for folder, parent in ((fan, str(root)), (study, fan), (series, study)):
        made = at(rf'mkdirat\(\d+<{parent}>, "{folder.rpartition("/")[2]}"')
        assert any(made < number < named for number in flushed(parent)), folder
    assert any(number < named for number in flushed(str(tmp_path))), "the store's own folder in its parent"


def calls_made(root: Path, memory_limit: int) -> list[tuple[str, int]]:
    """Every system call of one put that changes the disk: its name, and which one of that name it is."""
    log = root.with_suffix(".log")
    assert strace(["-o", str(log), "-e", f"trace={CHANGING}"], root, memory_limit).stdout == "stored\n"
    names = re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE)
    return [(name, names[: position + 1].count(name)) for position, name in enumerate(names)]


@pytest.mark.slow
@pytest.mark.parametrize("memory_limit", [1 << 20, 0])
@pytest.mark.parametrize("fault", ["signal=SIGKILL", "error=EIO"])
def test_fault_at_every_system_call(tmp_path: Path, fault: str, memory_limit: int) -> None:
    """Killed or failed at each call that changes the disk: no partial object, and a resend always succeeds."""
    made = calls_made(tmp_path / "plain", memory_limit)
    assert len(made) >= 12
    for name, number in made:
        root, log = tmp_path / f"{name}-{number}", tmp_path / f"{name}-{number}.log"
        done = strace(["-o", str(log), "-e", f"inject={name}:{fault}:when={number}"], root, memory_limit)
        assert "(INJECTED)" in log.read_text() or "killed by SIGKILL" in log.read_text(), (name, number)
        for found in root.glob("ab/*/*/*"):
            assert hashlib.sha256(found.read_bytes()).hexdigest() == found.stem, f"partial after {name} {number}"
        if "stored" in done.stdout:
            assert (root / "ab" / KEY).read_bytes() == DATA
        if name in ("fdatasync", "fsync", "link", "linkat"):
            assert not done.stdout.startswith("stored"), f"acknowledged although {name} {number} had failed"
        store = FileBlobs(root)
        store.put(KEY, memory_spool(DATA))
        assert store.read(KEY) == DATA
        assert keys(store) == [KEY]
        store.sweep_temporary(older_than=-1)
        assert list(store.spool_folder.iterdir()) == []
        store.close()
