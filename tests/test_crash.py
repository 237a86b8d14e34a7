"""kill -9 in the middle of everything: what was acknowledged is there, as it was sent (RELIABILITY, I1 to I8)."""

from __future__ import annotations

import hashlib
import random
import struct
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest

from storage import upkeep
from storage.index import open_index
from storage.types import Level, Query
from tests.support import made, web
from tests.support.archive import close_archive, open_archive
from tests.support.dimse_peer import Peer
from tests.support.serving import Served, serve

KILLS = 20
ASSOCIATIONS, CLIENTS = 4, 2
# Two senders into each study, so that its counters are fought over.
STUDIES = 3
# The promise is 10 s; a test machine that does other things at the same time gets more.
READY_SECONDS = 30.0
SEED = 20261124


def dataset(content: bytes) -> bytes:
    """The data set of a Part 10 file (PS3.10 7.1)."""
    return content[144 + struct.unpack_from("<I", content, 140)[0] :]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Ledger:
    """What the server has acknowledged: SOP Instance UID -> (study, series, digest of the data set)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, tuple[str, str, str]] = {}
        self._checked: set[str] = set()

    def acknowledge(self, uid: str, study: str, series: str, content: bytes) -> None:
        with self._lock:
            self._entries[uid] = (study, series, digest(dataset(content)))

    def all(self) -> dict[str, tuple[str, str, str]]:
        with self._lock:
            return dict(self._entries)

    def new(self) -> dict[str, tuple[str, str, str]]:
        """Those that were not asked for before."""
        found = {uid: entry for uid, entry in self.all().items() if uid not in self._checked}
        self._checked |= found.keys()
        return found


class Work:
    """Senders that go on whatever happens to the server, each sending again what was not acknowledged."""

    def __init__(self, served: Served) -> None:
        self.ledger = Ledger()
        self.over = threading.Event()
        # Senders rest while what they have stored is checked; there would be no end to it otherwise.
        self.going = threading.Event()
        self._http_port, self._dimse_port = served.http_port, served.dimse_port
        loops: list[Callable[[int], None]] = [*[self._dimse] * ASSOCIATIONS, *[self._stow] * CLIENTS]
        self._threads = [threading.Thread(target=loop, args=(number,)) for number, loop in enumerate(loops)]

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self.over.set()
        self.going.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _content(self, sender: int, number: int) -> tuple[str, str, str, bytes]:
        study, series = f"1.2.{sender % STUDIES}", f"1.2.{sender % STUDIES}.{sender}"
        return f"{series}.{number}", study, series, made.instance(number, study=study, series=series, side=64)

    def _dimse(self, sender: int) -> None:
        number = 1
        while self.going.wait() and not self.over.is_set():
            try:
                with Peer(self._dimse_port) as peer:
                    peer.associate()
                    while self.going.is_set() and not self.over.is_set():
                        uid, study, series, content = self._content(sender, number)
                        if peer.store(dataset(content), uid) == 0:
                            self.ledger.acknowledge(uid, study, series, content)
                            number += 1
            except (OSError, AssertionError, struct.error):
                time.sleep(0.05)

    def _stow(self, sender: int) -> None:
        number = 1
        while self.going.wait() and not self.over.is_set():
            with httpx2.Client(
                base_url=f"http://127.0.0.1:{self._http_port}/dicom-web", timeout=30
            ) as client:
                batch = [self._content(sender, number + offset) for offset in range(3)]
                try:
                    answer = web.stow(client, [content for *_, content in batch])
                except httpx2.TransportError:
                    time.sleep(0.05)
                    continue
                if answer.status_code == 200:
                    for one in batch:
                        self.ledger.acknowledge(*one)
                    number += len(batch)


def recover(served: Served, settings: dict[str, str], victims: list[int]) -> tuple[Served, float]:
    """Start again where the supervisor was killed, and wait until both services answer: the server, and how long it took."""
    begun = time.monotonic()
    if served.pid in victims:
        served.child.process.wait(10)
        served = serve(served.child.log, **settings)
    deadline = begun + READY_SECONDS
    while not (served.ready() and echoes(served)):
        assert time.monotonic() < deadline, f"not ready after {READY_SECONDS} s:\n{served.child.log_tail()}"
        time.sleep(0.05)
    return served, time.monotonic() - begun


def echoes(served: Served) -> bool:
    try:
        with Peer(served.dimse_port, timeout=5) as peer:
            peer.associate()
            return peer.echo() == 0
    except (OSError, AssertionError):
        return False


def check(served: Served, expected: dict[str, tuple[str, str, str]]) -> None:
    """I1 and I2: each is found, and its bytes are those that were sent. Figures of the dead can still be added up."""
    assert httpx2.get(f"{served.url}/metrics", timeout=30).status_code == 200
    with httpx2.Client(base_url=f"{served.url}/dicom-web", timeout=30) as client:
        for uid, (study, series, sha256) in expected.items():
            path = f"studies/{study}/series/{series}/instances"
            found = client.get(path, params={"SOPInstanceUID": uid})
            assert found.status_code == 200, f"{uid} was acknowledged and is not found: {found.status_code}"
            assert [one["00080018"]["Value"] for one in found.json()] == [[uid]]
            accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
            (part,) = web.parts(client.get(f"{path}/{uid}", headers={"Accept": accept}))
            assert digest(dataset(part.content)) == sha256, f"{uid} is not what was sent"


def choose(served: Served, chance: random.Random) -> tuple[str, list[int]]:
    name = chance.choice(["dimse", "web", "supervisor", "everything"])
    pids = {
        "supervisor": [served.pid],
        "everything": chance.sample(served.everything(), len(served.everything())),
    }
    return name, pids.get(name) or served.pids(name)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    folder = tmp_path / "data"
    served = serve(tmp_path / "log", PACS_DATA_DIR=str(folder))
    settings = {
        "PACS_DATA_DIR": str(folder),
        "PACS_HTTP_PORT": str(served.http_port),
        "PACS_DIMSE_PORT": str(served.dimse_port),
    }
    work = Work(served)
    work.begin()
    killed: list[str] = []
    try:
        for _ in range(KILLS):
            work.going.set()
            time.sleep(chance.uniform(0.1, 0.8))
            name, victims = choose(served, chance)
            served.kill(victims)
            work.going.clear()
            served, seconds = recover(served, settings, victims)
            check(served, work.ledger.new())
            killed.append(f"{name} {seconds:.1f} s, {len(work.ledger.all())} acknowledged")
    finally:
        work.end()
        print("\n".join(killed))
    check(served, work.ledger.new())
    served.child.process.terminate()
    assert served.child.process.wait(60) == 0
    _the_archive_is_sound(folder, work.ledger.all())


def _the_archive_is_sound(folder: Path, acknowledged: dict[str, tuple[str, str, str]]) -> None:
    archive = open_archive(folder / "objects", database_url=f"sqlite:///{folder / 'index.sqlite'}")
    try:
        # I3: no row without its object, and every object is what its row says.
        assert [
            finding for finding in upkeep.verify(archive) if finding.fault is not upkeep.Fault.ORPHAN
        ] == []
        rows = archive.index.objects(0, 1_000_000)
        stored = {row.instance for row in rows}
        assert acknowledged.keys() <= stored
        assert len(stored) == len(rows)
        # I4: orphans are at most what was in flight at each kill.
        orphans = list(upkeep.remove_orphans(archive, grace=timedelta(0)))
        assert len(orphans) <= KILLS * (ASSOCIATIONS + CLIENTS * 3)
        assert list(upkeep.orphans(archive, grace=timedelta(0))) == []
        # I5: counters are what they count.
        counts = archive.index.counts()
        assert counts.instances == len(rows)
        assert counts.bytes == sum(row.size for row in rows)
        assert counts.series == len({row.uids.series for row in rows})
        for study in archive.index.find(Query(Level.STUDY)):
            (uid,) = study["0020000D"]["Value"]
            own = [row for row in rows if row.uids.study == uid]
            assert study["00201208"]["Value"] == [len(own)]
            assert study["00201206"]["Value"] == [len({row.uids.series for row in own})]
        # Nothing was refused, so nothing is in quarantine: a resend is the same bytes.
        assert archive.index.quarantined() == []
    finally:
        close_archive(archive)
    assert open_index(f"sqlite:///{folder / 'index.sqlite'}", migrate=False).counts() == counts
