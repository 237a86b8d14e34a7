"""What storing one instance costs, counted and not timed: system calls, flushes, bytes written, SQL, bytecodes, copies.

Each number is what is needed today with a little room. Who needs more says why and raises it; who needs less lowers it.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import event

from dicomweb.multipart import PartReader
from storage.archive import Archive
from storage.index import Entry, Index, open_index, ready
from storage.scanner import scan
from storage.types import Source
from tests.support import made, web
from tests.support.archive import ingest
from tests.support.counting import bytecodes
from tests.support.dimse_peer import Peer
from tests.support.serving import Served, serving
from tests.support.system_calls import Costs, traced

SIDE = 512
SIZE = 2 * SIDE * SIDE
MEASURED = 10
@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    if sys.platform != "linux":
        pytest.skip("NOT COUNTED: strace is for Linux")
    with serving(tmp_path_factory.mktemp("costs") / "data", "--only", "web,dimse", PACS_WORKERS="1") as running:
        yield running


def _instance(number: int, series: str) -> bytes:
    return made.instance(number, study="1.2.9", series=series, side=SIDE)


def _by_dimse(served: Served, log: Path) -> None:
    with Peer(served.dimse_port) as peer:
        peer.associate()
        instances = [_instance(number, "1.2.9.1") for number in range(MEASURED + 3)]
        for number, content in enumerate(instances[:3]):
            assert peer.store(_dataset(content), f"1.2.9.1.{number}") == 0
        with traced(served.pids("dimse")[0], log):
            for number, content in enumerate(instances[3:], 3):
                assert peer.store(_dataset(content), f"1.2.9.1.{number}") == 0
        peer.release()


def _by_stow(served: Served, log: Path) -> None:
    with httpx.Client(base_url=f"{served.url}/dicom-web/") as client:
        bodies = [web.related([_instance(number, "1.2.9.2")]) for number in range(MEASURED + 3)]
        for body, headers in bodies[:3]:
            assert client.post("studies", content=body, headers=headers).status_code == 200
        with traced(served.pids("web")[0], log):
            for body, headers in bodies[3:]:
                assert client.post("studies", content=body, headers=headers).status_code == 200


def _dataset(content: bytes) -> bytes:
    return content[144 + int.from_bytes(content[140:144], "little") :]


# The object, its folder, the log of the index.
FLUSHES = 3


@pytest.mark.parametrize(
    ("send", "calls", "reads"),
    [pytest.param(_by_dimse, 55, 5, id="C-STORE"), pytest.param(_by_stow, 57, 7, id="STOW-RS")],
)
def test_system_calls_of_an_instance(
    send: Callable[[Served, Path], None], calls: int, reads: int, served: Served, tmp_path: Path
) -> None:
    send(served, tmp_path / "calls")
    costs = Costs(tmp_path / "calls", MEASURED)
    print(f"{send.__name__}: {costs}")
    # At the end of a log SQLite brings it into the database, which flushes both.
    assert FLUSHES <= costs.each("fsync", "fdatasync") <= FLUSHES + 0.5
    assert costs.each("openat") <= 2.5
    assert costs.each("linkat") == 1
    assert costs.each("read", "recvfrom") <= reads
    assert costs.each() <= calls
    # The object once, and some pages of the index: each row that is written changes a page of 4 KiB for its table and indexes.
    assert SIZE <= costs.bytes <= SIZE + (64 << 10)


def _ready(number: int) -> Any:
    found = scan(made.instance(number))
    return ready(Entry(found, f"a/b/{number}.dcm", f"{number:064x}", 1000, Source("dimse"), datetime.now(UTC)))


@pytest.mark.parametrize(
    ("instances", "most"), [(1, 13), (16, 13 + 3 * 15)], ids=["one", "sixteen"]
)
def test_sql_of_a_transaction(instances: int, most: int, tmp_path: Path) -> None:
    """Of one: begin; is it there, was it deleted, its study, its series, a key; instance, content, the counters of study and
    series, number and line of the change; commit. Of more a row for each in three tables."""
    index: Index = open_index(f"sqlite:///{tmp_path / 'index.sqlite'}")
    try:
        index.add([_ready(1)])
        said: list[str] = []

        def listen(connection: Any, _record: Any, _proxy: Any) -> None:
            connection.set_trace_callback(said.append)

        event.listen(index.database.engine, "checkout", listen)
        index.add([_ready(number) for number in range(2, 2 + instances)])
    finally:
        index.close()
    said = [one for one in said if not one.startswith("--")]
    assert len(said) <= most, "\n".join(one[:100] for one in said)


def _attributes(number: int) -> dict[str, Any]:
    """Some more, as a scanner writes them: all of a series alike but for a few."""
    alike = {f"{name}Description": f"{name} of all" for name in ("Study", "Series", "RequestedProcedure", "AdmittingDiagnoses")}
    dates = {f"{name}Date": "20240102" for name in ("Series", "Acquisition", "Content", "InstanceCreation")}
    numbers = {"SliceThickness": "1.25", "KVP": "120", "PixelSpacing": ["0.7", "0.7"], "ImagePositionPatient": ["0", "0", str(number)]}
    return {**alike, **dates, **numbers, "SliceLocation": str(number), "ContentTime": f"10{number:04d}"}


def test_instructions_of_a_transaction(tmp_path: Path) -> None:
    """Of Python's machine, for one instance of a series that is there."""
    index: Index = open_index(f"sqlite:///{tmp_path / 'index.sqlite'}")
    try:
        # Scanned before: what that takes depends on what was scanned before it.
        *earlier, last = [_ready(number) for number in range(1, 5)]
        for one in earlier:
            index.add([one])
        taken = bytecodes(lambda: index.add([last]))
    finally:
        index.close()
    print(f"{taken} bytecodes")
    assert taken < 5_500


def test_instructions_of_the_scanner() -> None:
    contents = [made.instance(number, **_attributes(number)) for number in range(1, 60)]
    for content in contents[:-1]:
        scan(content)
    taken = bytecodes(lambda: scan(contents[-1]))
    elements = len(scan(contents[-1]).dataset)
    print(f"{taken} bytecodes, {taken / elements:.0f} for each of {elements} elements")
    assert taken < 10_000


def _read(body: bytes) -> None:
    for _ in PartReader("boundary").feed(body):
        pass


def test_instructions_of_the_multipart_reader() -> None:
    """They do not grow with the size of the parts: bytes are looked through by the machine, not by Python."""
    taken = []
    for side in (64, 512):
        body, _ = web.related([made.instance(1, side=side), made.instance(2, side=side)])
        taken.append(bytecodes(partial(_read, body)))
    print(f"{taken} bytecodes for two parts")
    assert max(taken) < 2500
    assert taken[1] - taken[0] < 200


def test_bytes_copied_by_an_ingest(archive: Archive) -> None:
    """Nothing on the way from the spool to the disk copies the pixels: memory does not even take a tenth of them more."""
    ingest(archive, _instance(1, "1.2.9.3"))
    content = _instance(2, "1.2.9.3")
    with archive.spool() as spool:
        spool.write(content)
        tracemalloc.start()
        try:
            archive.ingest(spool, Source("dimse"))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < SIZE / 10
