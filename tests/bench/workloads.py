"""What is measured, as a table: what a server must have beforehand, what is asked, and the ratio that we want.

A workload's `ask` does its work once and returns how many units that was; rates are units a second, and CPU is per unit.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

import httpx

from tests.bench import clients
from tests.bench.made import FAMILIES, GIVEN, Made, Tiny
from tests.bench.servers import Lightbox, Server


class State(Enum):
    """What a server has when it is asked."""

    EMPTY = "nothing stored"
    LOADED = "the series that are read"
    FILLED = "many studies of one instance"


@dataclass(frozen=True, slots=True)
class Bench:
    """What all workloads share: the data, the number of studies in a filled index, of queries to it, and the seconds for a rate."""

    made: Mapping[str, list[Made]]
    studies: int
    queries: int
    seconds: float


class Workload(NamedTuple):
    """One row. `target`: our rate over the peer's, at least; None where issue or design name none."""

    group: str
    what: str
    unit: str
    state: State
    ask: Callable[[Server, Bench], float]
    target: float | None
    # For Lightbox alone: the peer cannot, or must not be asked.
    alone: bool = False
    # Done before each measurement, and not measured.
    before: Callable[[Server], None] = lambda _server: None
    # What Lightbox is told for it, where its defaults are not what is measured.
    settings: tuple[tuple[str, str], ...] = ()


# Sets that LOADED means.
READ: Final = ("series", "series 200", "J2K", "HTJ2K", "JPEG-LS", "multi-frame", "2 GB")
_ANY: Final = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
_NATIVE: Final = 'multipart/related; type="application/octet-stream"; transfer-syntax=1.2.840.10008.1.2.1'
# Of a frame of 512 by 512 and two bytes.
_DECODED_BYTES: Final = 512 * 512 * 2
_WHOLE: Final = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_WINDOW: Final = "/rendered?window=40,400,linear&quality=90"


def _series(made: Made) -> str:
    return f"/studies/{made.study}/series/{made.series}"


def _instance(made: Made) -> str:
    return f"{_series(made)}/instances/{made.instance}"


def _storing(name: str, associations: int, *, nodelay: bool) -> Callable[[Server, Bench], float]:
    def ask(server: Server, bench: Bench) -> float:
        clients.storescu(server, bench.made[name], associations, nodelay=nodelay)
        return len(bench.made[name])

    return ask


def _storing_drawn(server: Server, bench: Bench) -> float:
    """Thumbnails are drawn while others still come, which by default they are not: the most that they can cost."""
    stored = _storing("incoming", 4, nodelay=True)(server, bench)
    if isinstance(server, Lightbox) and not server.thumbnails():
        raise clients.Trouble("no thumbnail was drawn meanwhile")
    return stored


def _storing_large(associations: int) -> Callable[[Server, Bench], float]:
    def ask(server: Server, bench: Bench) -> float:
        (one,) = bench.made["1 GB"]
        clients.storescu_alike(server, one, associations)
        return associations * one.path.stat().st_size / 1e6

    return ask


def _posting(batch: int, posters: int) -> Callable[[Server, Bench], float]:
    def ask(server: Server, bench: Bench) -> float:
        files = bench.made["incoming"]
        clients.stow(server, (one.path for one in files), batch=batch, clients=posters)
        return len(files)

    return ask


def _rate(
    paths: Callable[[Bench], Sequence[str]], connections: int, headers: Mapping[str, str]
) -> Callable[[Server, Bench], float]:
    def ask(server: Server, bench: Bench) -> float:
        return clients.wrk(server, paths(bench), connections, bench.seconds, headers)

    return ask


def _frames(name: str, connections: int, accept: str = _ANY) -> Callable[[Server, Bench], float]:
    return _rate(lambda bench: [f"{_instance(one)}/frames/1" for one in bench.made[name]], connections, {"Accept": accept})


def _decoded_frames(name: str, connections: int) -> Callable[[Server, Bench], float]:
    """Frames in Explicit VR; whoever answers the codestream under that name has not decoded anything, and has no rate."""
    rate = _frames(name, connections, _NATIVE)

    def ask(server: Server, bench: Bench) -> float:
        path = f"{_instance(bench.made[name][0])}/frames/1"
        answer = httpx.get(f"{server.url}{path}", headers={"Accept": _NATIVE}, timeout=60)
        if answer.status_code == 200:
            check_decoded(answer.content)
        return rate(server, bench)

    return ask


def check_decoded(answer: bytes) -> None:
    """Raise Trouble for a multipart answer of a frame that is too short to be 512 by 512 words."""
    if len(answer) < _DECODED_BYTES:
        content = answer.partition(b"\r\n\r\n")[2]
        raise clients.Trouble(f"not decoded: {len(answer):,} bytes that begin with {content[:4].hex()} are called Explicit VR Little Endian")


def _of_multi_frame(connections: int) -> Callable[[Server, Bench], float]:
    return _rate(
        lambda bench: [f"{_instance(bench.made['multi-frame'][0])}/frames/{number}" for number in range(1, 501)],
        connections,
        {"Accept": _ANY},
    )


def _pictures(name: str, connections: int, query: str = _WINDOW) -> Callable[[Server, Bench], float]:
    return _rate(lambda bench: [_instance(one) + query for one in bench.made[name]], connections, {"Accept": "image/jpeg"})


def _first_pictures(server: Server, bench: Bench) -> float:
    # A window that nothing was asked for before: no cache can have the answer.
    middle = random.Random().randrange(-500, 500)
    paths = [f"{_instance(one)}/rendered?window={middle + at},400,linear&quality=90" for at, one in enumerate(bench.made["series"])]
    clients.latencies(server, paths[:300], {"Accept": "image/jpeg"})
    return 300


def _metadata(name: str, encoding: str, times: int) -> Callable[[Server, Bench], float]:
    def ask(server: Server, bench: Bench) -> float:
        path = f"{_series(bench.made[name][0])}/metadata"
        clients.latencies(server, [path] * times, {**clients.JSON, "Accept-Encoding": encoding})
        return times

    return ask


def _restarted(server: Server) -> None:
    """With nothing in memory of what was asked before."""
    server.stop()
    server.start()


def _download(name: str, how_many: int) -> Callable[[Server, Bench], float]:
    def ask(server: Server, bench: Bench) -> float:
        return clients.download(server, f"/studies/{bench.made[name][0].study}", _WHOLE, how_many) / 1e6

    return ask


def _getting(server: Server, bench: Bench) -> float:
    return clients.getscu(server, bench.made["series 200"][0])


def _moving(server: Server, bench: Bench) -> float:
    clients.movescu(server, bench.made["series 200"][0])
    return len(bench.made["series 200"])


class Searches:
    """Queries over the studies of `Tiny`, drawn anew but the same for both servers."""

    def __init__(self, studies: int) -> None:
        self._random = random.Random(5)
        self.studies = studies

    def any_study(self) -> int:
        return self._random.randrange(self.studies)

    def week(self) -> str:
        month = f"{self._random.randint(2015, 2023)}{self._random.randint(1, 12):02d}"
        return f"{month}01-{month}07"

    def family(self) -> str:
        return self._random.choice(FAMILIES)

    def given(self) -> str:
        return self._random.choice(GIVEN)


_INCLUDED: Final = "&includefield=00081030,00080060,00080061,00201206,00201208"
SEARCHES: Final[dict[str, Callable[[Searches], str]]] = {
    "PatientID": lambda draw: f"PatientID=PID{draw.any_study() // 2:08d}",
    "StudyInstanceUID": lambda draw: f"StudyInstanceUID=2.25.7{draw.any_study():09d}",
    "AccessionNumber": lambda draw: f"AccessionNumber=ACC{draw.any_study():08d}",
    "name prefix, limit 50": lambda draw: f"PatientName={draw.family()}*&limit=50",
    "name substring, limit 50": lambda draw: f"PatientName=*{draw.given()}*&limit=50",
    "a week": lambda draw: f"StudyDate={draw.week()}",
    "modality and a week, limit 50": lambda draw: f"ModalitiesInStudy=CT&StudyDate={draw.week()}&limit=50",
    "first page of OHIF's list": lambda _draw: f"limit=101&offset=0&fuzzymatching=false{_INCLUDED}",
    "last page": lambda draw: f"limit=50&offset={draw.studies - 60}",
}


def _searching(search: Callable[[Searches], str]) -> Callable[[Server, Bench], float]:
    def ask(server: Server, bench: Bench) -> float:
        draw = Searches(bench.studies)
        clients.latencies(server, [f"/studies?{search(draw)}" for _ in range(bench.queries)])
        return bench.queries

    return ask


def _finding(keys: Callable[[Searches], tuple[str, ...]], most: int) -> Callable[[Server, Bench], float]:
    def ask(server: Server, bench: Bench) -> float:
        draw, times = Searches(bench.studies), min(most, bench.queries)
        clients.findscu(server, [keys(draw) for _ in range(times)])
        return times

    return ask


def fill(server: Server, bench: Bench) -> None:
    """Give a server as many studies as the workloads over the index want."""
    tiny = Tiny()
    clients.stow(server, (tiny[number] for number in range(bench.studies)), batch=100, clients=3)


def load(server: Server, bench: Bench) -> None:
    """Give a server the series that the reading workloads want."""
    for name in READ:
        clients.stow(server, (one.path for one in bench.made[name]), batch=20, clients=2)


WORKLOADS: Final = (
    *(
        Workload("C-STORE", f"{what}, {associations} association(s)", "instances", State.EMPTY, ask, target)
        for what, associations, ask, target in (
            ("512 KiB, storescu with TCP_NODELAY", 1, _storing("incoming", 1, nodelay=True), 1.5),
            ("512 KiB, storescu with TCP_NODELAY", 4, _storing("incoming", 4, nodelay=True), 2.5),
            ("512 KiB, storescu as it comes", 1, _storing("incoming", 1, nodelay=False), 1.5),
            ("512 KiB, storescu as it comes", 4, _storing("incoming", 4, nodelay=False), 2.5),
            ("30 KiB, storescu with TCP_NODELAY", 4, _storing("small", 4, nodelay=True), 3),
        )
    ),
    *(
        Workload("STOW-RS", f"{batch} a POST, {posters} client(s)", "instances", State.EMPTY, _posting(batch, posters), 2)
        for batch, posters in ((1, 4), (50, 4), (50, 1))
    ),
    Workload("large", "C-STORE of 1 GB each, 3 associations", "MB", State.EMPTY, _storing_large(3), None),
    # Orthanc keeps three times an object in memory: 30 GB, which few machines have.
    Workload("large", "C-STORE of 1 GB each, 10 associations", "MB", State.EMPTY, _storing_large(10), None, alone=True),
    Workload("metadata", "1,000 instances, first after a start", "answers", State.LOADED, _metadata("series", "identity", 1), 10, before=_restarted),
    Workload("metadata", "1,000 instances, plain", "answers", State.LOADED, _metadata("series", "identity", 10), 3),
    Workload("metadata", "1,000 instances, gzip accepted", "answers", State.LOADED, _metadata("series", "gzip", 10), 3),
    Workload("metadata", "200 instances, plain", "answers", State.LOADED, _metadata("series 200", "identity", 30), 3),
    *(
        Workload("frames", f"native 512 KiB, {count} connection(s)", "frames", State.LOADED, _frames("series", count), 3)
        for count in (1, 6, 32)
    ),
    *(
        Workload("frames", f"{name} as stored, 6 connections", "frames", State.LOADED, _frames(name, 6), 3)
        for name in ("HTJ2K", "J2K", "JPEG-LS")
    ),
    Workload("frames", "of a 500-frame object, 6 connections", "frames", State.LOADED, _of_multi_frame(6), 10),
    *(
        Workload("frames", f"{name} to Explicit VR, 6 connections", "frames", State.LOADED, _decoded_frames(name, 6), 1)
        for name in ("HTJ2K", "J2K", "JPEG-LS")
    ),
    Workload("rendered", "first time, JPEG 512", "pictures", State.LOADED, _first_pictures, 2),
    Workload("rendered", "again, JPEG 512, 6 connections", "pictures", State.LOADED, _pictures("series 200", 6), 8),
    Workload("rendered", "from JPEG-LS, 6 connections", "pictures", State.LOADED, _pictures("JPEG-LS", 6), 2),
    Workload("thumbnails", "of instances, 6 connections", "pictures", State.LOADED, _pictures("series 200", 6, "/rendered?viewport=128,128"), 10),
    *(
        Workload("thumbnails", f"C-STORE: 512 KiB, 4 association(s), {what}", "instances", State.EMPTY, ask, None, settings=(setting,))
        for what, ask, setting in (
            ("none drawn", _storing("incoming", 4, nodelay=True), ("PACS_THUMBNAILS", "false")),
            ("drawn all the while", _storing_drawn, ("PACS_THUMBNAIL_QUIET_SECONDS", "0")),
        )
    ),
    Workload("study", "1,000 instances as multipart, 1 client", "MB", State.LOADED, _download("series", 1), 1.5),
    Workload("study", "1,000 instances as multipart, 2 clients", "MB", State.LOADED, _download("series", 2), 1.5),
    Workload("study", "4,000 instances (2 GB) as multipart, 1 client", "MB", State.LOADED, _download("2 GB", 1), 1.5),
    Workload("C-GET", "series of 200, getscu to files", "instances", State.LOADED, _getting, 1.2),
    Workload("C-MOVE", "series of 200, movescu to storescp", "instances", State.LOADED, _moving, 1.2),
    *(
        Workload("QIDO-RS", name, "answers", State.FILLED, _searching(search), 10)
        for name, search in SEARCHES.items()
    ),
    Workload("C-FIND", "one PatientID", "queries", State.FILLED, _finding(lambda draw: (f"PatientID=PID{draw.any_study() // 2:08d}",), 200), 2),
    Workload("C-FIND", "a week", "queries", State.FILLED, _finding(lambda draw: (f"StudyDate={draw.week()}",), 100), 2),
    Workload("C-FIND", "a family name", "queries", State.FILLED, _finding(lambda draw: (f"PatientName={draw.family()}*",), 5), 2),
)
