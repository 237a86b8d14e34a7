"""A request of hundreds of megabytes costs a bounded amount of memory, whatever it is made of (DESIGN 5: memory).

PACS_TEST_STREAM_MB and PACS_TEST_STREAM_PARTS make it a request of gigabytes and thousands of parts.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import orjson
import psutil
import pytest

from tests.support import made
from tests.support.lightbox import Lightbox, running

MEGABYTES = int(os.environ.get("PACS_TEST_STREAM_MB", "600"))
PARTS = int(os.environ.get("PACS_TEST_STREAM_PARTS", "300"))
# What all processes of the server together may grow by, above what they are after a first small request.
CEILING = 64 << 20
PIECE = bytes(1 << 20)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Memory:
    """The most that the processes under this one have at any time: bytes that are theirs alone."""

    def __init__(self) -> None:
        self.most = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            self.most = max(self.most, self.now())

    @staticmethod
    def now() -> int:
        """Their sum."""
        total = 0
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().uss
        return total


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lightbox]:
    with running(tmp_path_factory.mktemp("streaming") / "data", PACS_WORKERS="1") as lightbox:
        yield lightbox


def files(count: int, size: int, first: int = 1000001) -> Iterator[bytes]:
    """The body of a request of Part 10 files of about `size` bytes each, made as it is sent."""
    side = int((size / 2) ** 0.5)
    template = made.instance(1000001, side=side)
    for number in range(first, first + count):
        yield b"\r\n--b\r\nContent-Type: application/dicom\r\n\r\n"
        yield template.replace(b"1.2.3.4.1000001", f"1.2.3.4.{number}".encode())
    yield b"\r\n--b--\r\n"


def bulk(count: int, size: int) -> Iterator[bytes]:
    """Metadata of `count` instances in one array, and their pixel data in the same order."""
    rows = max(1, size // 2048)
    described = {
        "00080016": {"vr": "UI", "Value": [made.CT]},
        "0020000D": {"vr": "UI", "Value": ["1.2.5"]},
        "0020000E": {"vr": "UI", "Value": [f"1.2.5.{count}"]},
        "00280002": {"vr": "US", "Value": [1]},
        "00280004": {"vr": "CS", "Value": ["MONOCHROME2"]},
        "00280008": {"vr": "IS", "Value": [-(-rows // 1024)]},
        "00280010": {"vr": "US", "Value": [min(rows, 1024)]},
        "00280011": {"vr": "US", "Value": [1024]},
        **{tag: {"vr": "US", "Value": [value]} for tag, value in (("00280100", 16), ("00280101", 16), ("00280102", 15), ("00280103", 0))},
    }
    datasets = [
        {**described, "00080018": {"vr": "UI", "Value": [f"1.2.5.{count}.{number}"]}, "7FE00010": {"vr": "OW", "BulkDataURI": f"bulk/{number}"}}
        for number in range(1, count + 1)
    ]
    yield b"--b\r\nContent-Type: application/dicom+json\r\n\r\n" + orjson.dumps(datasets)
    length = -(-rows // 1024) * min(rows, 1024) * 2048
    for number in range(1, count + 1):
        yield f"\r\n--b\r\nContent-Type: application/octet-stream\r\nContent-Location: bulk/{number}\r\n\r\n".encode()
        for at in range(0, length, len(PIECE)):
            yield PIECE[: length - at]
    yield b"\r\n--b--\r\n"


def send(server: Lightbox, kind: str, body: Iterator[bytes]) -> int:
    headers = {"Content-Type": f'multipart/related; type="{kind}"; boundary=b'}
    with httpx.Client(base_url=server.url, timeout=600) as client:
        answer = client.post("/dicom-web/studies", content=body, headers=headers)
    assert answer.status_code == 200, (answer.status_code, answer.text[:300], answer.headers)
    return len(answer.json()["00081199"]["Value"])


def test_files_in_thousands(server: Lightbox) -> None:
    assert send(server, "application/dicom", files(3, 1 << 20, first=2000001)) == 3
    before = Memory.now()
    with Memory() as memory:
        assert send(server, "application/dicom", files(PARTS, (MEGABYTES << 20) // PARTS)) == PARTS
    print(f"files: {PARTS} parts, {MEGABYTES} MB, grew by {(memory.most - before) >> 20} MiB above {before >> 20} MiB")
    assert memory.most - before < CEILING


@pytest.mark.parametrize(("count", "share"), [(1, 0.5), (40, 0.2)], ids=["one large", "many"])
def test_metadata_and_bulk_data(server: Lightbox, count: int, share: float) -> None:
    """Pixel data of hundreds of megabytes in one part, and in many."""
    size = int((MEGABYTES << 20) * share) // count
    before = Memory.now()
    with Memory() as memory:
        assert send(server, "application/dicom+json", bulk(count, size)) == count
    print(f"bulk: {count} parts of {size >> 20} MB, grew by {(memory.most - before) >> 20} MiB above {before >> 20} MiB")
    assert memory.most - before < CEILING
    assert list(Path(server.data_folder).rglob("spool-*")) == []
