"""What a frame costs, counted and not timed: system calls, bytes, SQL, memory.

Each number is what is needed today with a little room. Who needs more says why and raises it; who needs less lowers it.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from dicomweb.exchange import Call
from dicomweb.frames import Frames
from dicomweb.layouts import Layouts
from storage.archive import Archive
from tests.support import made, web
from tests.support.archive import ingest
from tests.support.counting import bytecodes, statements
from tests.support.serving import Served, serving
from tests.support.system_calls import Costs, traced

SIDE = 512
SIZE = 2 * SIDE * SIDE
MEASURED = 10
SERIES = "studies/1.2.9/series/1.2.9.1"
CINE = "studies/1.2.9/series/1.2.9.2/instances/1.2.9.2.1"
FRAMES = {
    "of an instance each": [f"{SERIES}/instances/1.2.9.1.{number}/frames/1" for number in range(MEASURED + 3)],
    "of one instance": [f"{CINE}/frames/{number}" for number in range(1, MEASURED + 4)],
}
OCTETS = {"accept": 'multipart/related; type="application/octet-stream"; transfer-syntax=*'}
# The state of the series and the layout; the state, and the layouts before and behind.
FIRST, SECOND = 2, 3
MEMORY = 8 << 10
BYTECODES = 2_100


def _instances() -> Iterator[bytes]:
    for number in range(MEASURED + 3):
        yield made.instance(number, study="1.2.9", series="1.2.9.1", side=SIDE)
    yield made.instance(1, study="1.2.9", series="1.2.9.2", side=SIDE, frames=40)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    if sys.platform != "linux":
        pytest.skip("NOT COUNTED: strace is for Linux")
    with serving(tmp_path_factory.mktemp("costs") / "data", "--only", "web", PACS_WORKERS="1") as running:
        with httpx.Client(base_url=f"{running.url}/dicom-web/") as client:
            for instance in _instances():
                assert web.stow(client, [instance]).status_code == 200
        yield running


@pytest.mark.parametrize("paths", [pytest.param(paths, id=name) for name, paths in FRAMES.items()])
def test_system_calls_of_a_frame(paths: list[str], served: Served, tmp_path: Path) -> None:
    with httpx.Client(base_url=f"{served.url}/dicom-web/", headers=OCTETS) as client:
        # Where they are is known, as after the first look at a series; and their bytes are in memory.
        for path in paths:
            assert client.get(path).status_code == 200
        with traced(served.pids("web")[0], tmp_path / "calls"):
            for path in paths[3:]:
                assert len(client.get(path).content) > SIZE
    costs = Costs(tmp_path / "calls", MEASURED)
    print(costs)
    assert costs.each("fsync", "fdatasync", "pwrite64") == 0
    # The file is opened, a moment's look says that it is in memory, and it is read once, however many frames it has.
    assert costs.each("openat") == 1
    assert costs.each("read", "pread64", "preadv2", "preadv") <= 5
    assert costs.each() <= 12
    # The frame once, and the headers of answer and part.
    assert SIZE < costs.bytes < SIZE + 1500


def _call(path: str) -> Call:
    names = path.split("/")
    return Call("GET", dict(zip(("study", "series", "instance", "frames"), names[1::2], strict=True)), (), OCTETS)


@pytest.fixture
def frames(archive: Archive) -> Frames:
    for instance in _instances():
        ingest(archive, instance)
    return Frames(Layouts(archive.index, max_bytes=1 << 24, max_age=60), archive.blobs)


def test_sql_of_frames(frames: Frames, archive: Archive) -> None:
    """The first of a series asks where it is, the second where its neighbours are, and the others nothing."""
    for paths in FRAMES.values():
        asked = []
        for path in paths:
            with statements(archive.index) as said:
                frames(_call(path))
            asked.append(len(said))
        print(asked)
        assert 0 < asked[0] <= FIRST
        assert asked[1] <= SECOND
        assert not any(asked[2:])


def test_memory_and_instructions_of_a_frame(frames: Frames) -> None:
    """What an answer takes beside the bytes of its frame, and how many instructions of Python's machine: neither depends on
    how many frames there are, or where."""
    taken = []
    for paths in FRAMES.values():
        for path in paths[:3]:
            list(frames(_call(path)).body)
        call = _call(paths[-1])
        tracemalloc.start()
        try:
            list(frames(call).body)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        taken.append((peak - SIZE, bytecodes(partial(frames, call))))
    print(taken, "bytes and bytecodes")
    assert all(more < MEMORY and codes < BYTECODES for more, codes in taken)
