"""`python -m tests.bench.growth`: rate of the index's writer and latency of every search, against the number of studies.

The index is filled as ingest fills it, from scanned instances, without pixel data and HTTP; searches are those of the
benchmark beside Orthanc, answered to the last byte of their JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import html
import math
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from sqlalchemy import text

from dicomweb.exchange import Call
from dicomweb.qido import Search
from storage.index import Entry, Index, open_index
from storage.index.ready import Ready, ready
from storage.scanner import scan
from storage.types import Level, Source
from tests.bench.made import Tiny
from tests.bench.workloads import SEARCHES, Searches
from tests.support import postgres

SIZES: Final = {"SQLite": (1_000, 10_000, 100_000), "PostgreSQL": (1_000, 10_000, 100_000, 1_000_000)}
# Instances of one transaction: what a busy archive's group commit has.
_BATCH: Final = 50
# Of the studies before a size is reached, those whose rate is measured; the others come in larger transactions, which are quicker.
_MEASURED: Final = 1_000
_UNMEASURED_BATCH: Final = 500
_QUERIES: Final = 40
_TRIES: Final = 3
INGEST: Final = "ingest"
_DEPLOY: Final = Path(__file__).parent.parent.parent / "deploy"
_COLOURS: Final = ("#2b7a4b", "#b03a2e", "#2c5aa0", "#c9a227", "#7a3b8f", "#00838f", "#8d6e63", "#546e7a", "#d81b60", "#000000")


class Point(NamedTuple):
    """Studies in the index, and for each form the milliseconds of an answer, or of storing an instance."""

    studies: int
    ms: Mapping[str, float]


def grown(index: Index, sizes: Sequence[int]) -> Iterator[Point]:
    """The index filled to each of these sizes in turn, from what it has, and measured."""
    tiny, filled = Tiny(), index.counts().studies
    search = Search(index, Level.STUDY)
    for size in sizes:
        for first in range(filled, size - _MEASURED, _UNMEASURED_BATCH):
            _add(index, tiny, range(first, min(first + _UNMEASURED_BATCH, size - _MEASURED)))
        measured = range(max(filled, size - _MEASURED), size, _BATCH)
        seconds = [_add(index, tiny, range(first, first + _BATCH)) / _BATCH for first in measured]
        filled = size
        _analyse(index)
        found = {INGEST: 1000 * statistics.median(seconds)}
        for name, made in SEARCHES.items():
            draw = Searches(size)
            found[name] = _latency(search, [made(draw) for _ in range(_QUERIES)])
        yield Point(size, found)


def _add(index: Index, tiny: Tiny, numbers: Sequence[int]) -> float:
    """Store these instances in one transaction; the seconds that this took."""
    entries = [_entry(tiny, number) for number in numbers]
    begun = time.perf_counter()
    index.add(entries)
    return time.perf_counter() - begun


def _analyse(index: Index) -> None:
    """Have PostgreSQL look at how much there is, as its autovacuum does within a minute; SQLite's planner is told by us."""
    if not index.database.sqlite:
        with index.database.write(patient=True) as connection:
            connection.execute(text("ANALYZE"))


def _latency(search: Search, queries: Sequence[str]) -> float:
    """Milliseconds: of each query the quickest of some runs, which others on the machine disturb least; the median of all."""
    return 1000 * statistics.median(min(_seconds(search, query) for _ in range(_TRIES)) for query in queries)


def _seconds(search: Search, query: str) -> float:
    call = Call("GET", {}, tuple(parse_qsl(query)), {"accept": "application/dicom+json"})
    begun = time.perf_counter()
    size = sum(map(len, search(call).body))
    took = time.perf_counter() - begun
    assert size >= len("[]"), query
    return took


def _entry(tiny: Tiny, number: int) -> Ready:
    data = tiny[number]
    received = datetime.datetime.now(datetime.UTC)
    return ready(Entry(scan(data), f"{number % 256:02x}/{number}", f"{number:064x}", len(data), Source("import"), received))


def page(points: Mapping[str, Sequence[Point]], about: Sequence[str]) -> str:
    """The page in Markdown."""
    lines = [_TITLE, "", *(f"- {one}" for one in about), "", "![latency against size](growth.svg)"]
    for engine, own in points.items():
        lines += ["", f"## {engine}", "", _row(["milliseconds, median", *(f"{one.studies:,} studies" for one in own), "largest / smallest"])]
        lines.append(_row(["---"] * (len(own) + 2)))
        for name in own[0].ms:
            values = [one.ms[name] for one in own]
            lines.append(_row([name, *(f"{value:.2f}" for value in values), f"{values[-1] / values[0]:.2f}"]))
    return "\n".join(lines) + "\n"


_TITLE: Final = """# Growth

Written by `make bench-growth`: what an answer to a search (`QIDO-RS`, without HTTP), and storing an instance in the index
in batches of 50, takes as the archive grows. Each study has one instance. Searches that have more answers in a larger
archive (a week without a limit, a modality and a week up to its limit) take longer because they say more; the others
should be flat."""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def plot(points: Mapping[str, Sequence[Point]]) -> str:
    """Both axes logarithmic; one panel for each engine."""
    wide, high, left, top = 420, 300, 60, 30
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{len(points) * (wide + left) + 220}" height="{high + top + 50}"'
        ' font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    every = [value for own in points.values() for one in own for value in one.ms.values()]
    least, most = math.floor(math.log10(min(every))), math.ceil(math.log10(max(every)))
    names = list(next(iter(points.values()))[0].ms)
    for panel, (engine, own) in enumerate(points.items()):
        begin = left + panel * (wide + left)
        ends = math.log10(own[0].studies), math.log10(max(own[-1].studies, own[0].studies + 1))

        def x(studies: int, begin: int = begin, ends: tuple[float, float] = ends) -> float:
            return begin + wide * (math.log10(studies) - ends[0]) / (ends[1] - ends[0])

        def y(value: float) -> float:
            return top + high - high * (math.log10(value) - least) / (most - least)

        drawn.append(f'<text x="{begin + wide / 2:.0f}" y="18" text-anchor="middle">{html.escape(engine)}: ms against studies</text>')
        for power in range(least, most + 1):
            drawn.append(f'<line x1="{begin}" x2="{begin + wide}" y1="{y(10.0**power):.1f}" y2="{y(10.0**power):.1f}" stroke="#ddd"/>')
            drawn.append(f'<text x="{begin - 6}" y="{y(10.0**power) + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
        drawn += [f'<text x="{x(one.studies):.0f}" y="{top + high + 16}" text-anchor="middle">{one.studies:,}</text>' for one in own]
        for number, name in enumerate(names):
            line = " ".join(f"{x(one.studies):.1f},{y(one.ms[name]):.1f}" for one in own)
            drawn.append(f'<polyline points="{line}" fill="none" stroke="{_COLOURS[number % len(_COLOURS)]}" stroke-width="2"/>')
    for number, name in enumerate(names):
        at = top + 16 * (number + 1)
        drawn.append(f'<text x="{len(points) * (wide + left) + 30}" y="{at}" fill="{_COLOURS[number % len(_COLOURS)]}">{html.escape(name)}</text>')
    return "\n".join([*drawn, "</svg>", ""])


def main() -> None:
    """Fill and measure what the command line asks for, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.growth", description=__doc__)
    parser.add_argument("--most", type=int, default=1_000_000, help="studies in the largest index")
    parser.add_argument("--print", dest="shown", action="store_true", help="print the page instead of writing it")
    asked = parser.parse_args()
    points: dict[str, list[Point]] = {}
    with contextlib.ExitStack() as stack:
        for engine, sizes in SIZES.items():
            url = _index(engine, stack)
            if not url:
                continue
            index = stack.enter_context(contextlib.closing(open_index(url)))
            for point in grown(index, [size for size in sizes if size <= asked.most]):
                points.setdefault(engine, []).append(point)
                print(engine, point, flush=True)
    written = page(points, [f"one process, {datetime.datetime.now(datetime.UTC).date().isoformat()}; the median of {_QUERIES} queries, of each the quickest of {_TRIES} tries; PostgreSQL without fsync, and analysed first"])
    if asked.shown:
        print(written)
        return
    (_DEPLOY / "growth.md").write_text(written, encoding="utf-8")
    (_DEPLOY / "growth.svg").write_text(plot(points), encoding="utf-8")


def _index(engine: str, stack: contextlib.ExitStack) -> str:
    """The URL of a new index; empty where its server is not installed."""
    if engine == "SQLite":
        return f"sqlite:///{stack.enter_context(tempfile.TemporaryDirectory())}/index.db"
    if why := postgres.why_not():
        print(f"Without PostgreSQL: {why}", flush=True)
        return ""
    server = stack.enter_context(postgres.running())
    return str(stack.enter_context(server.database()))


if __name__ == "__main__":
    main()
