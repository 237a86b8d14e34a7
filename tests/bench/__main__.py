"""`python -m tests.bench`: measure, print as it goes, and write the page."""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import psutil

from tests.bench import clients, made, report, workloads
from tests.bench.meter import BUSY, Meter, settle, share_of
from tests.bench.report import Measured, Started
from tests.bench.servers import Lightbox, Orthanc, Server
from tests.bench.workloads import WORKLOADS, Bench, State, Workload

_TOP = Path(__file__).parent.parent.parent
_IDLE_SECONDS = 3
# Where searches are measured, nobody is to draw the thumbnails of so many series beside them, for minutes, whichever server is asked.
_SETTINGS = {State.FILLED: {"PACS_THUMBNAILS": "false"}}


def main() -> None:
    """Measure what the command line asks for."""
    asked = _arguments()
    if lacking := clients.missing():
        raise SystemExit(f"The benchmark needs programs that are not here: apt-get install {' '.join(lacking)}")
    chosen = [one for one in WORKLOADS if not asked.only or one.group.lower() in asked.only.lower().split(",")]
    if not chosen:
        raise SystemExit(f"There is no such group; there are {', '.join(dict.fromkeys(one.group for one in WORKLOADS))}")
    bench = Bench(made.prepared(asked.data), asked.studies, asked.queries, asked.seconds)
    with tempfile.TemporaryDirectory(dir=asked.data, prefix="servers-") as folder:
        servers: list[Server] = [Lightbox(Path(folder) / "lightbox")]
        if asked.peer and Orthanc.program():
            servers.append(Orthanc(Path(folder) / "orthanc"))
        else:
            print("Without a peer: apt-get install orthanc orthanc-dicomweb brings one.", flush=True)
        run = Run(servers, bench, asked.rounds, asked.data / "results.jsonl")
        try:
            run.measure(chosen)
        finally:
            for server in servers:
                server.stop()
    page = report.page(run.results, run.starts, run.failures, run.about())
    # A part of the workloads is for whoever asked for it; the page is of all of them.
    if asked.only or len(servers) == 1:
        print(page)
    else:
        _write(page, run, servers)


class Run:
    """Rounds of workloads over servers, interleaved, and what came of them."""

    def __init__(self, servers: Sequence[Server], bench: Bench, rounds: int, log: Path) -> None:
        self.servers, self.bench, self.rounds, self._log = servers, bench, rounds, log
        self.results: dict[Workload, list[Measured]] = {}
        self.starts: list[Started] = []
        self.failures: dict[tuple[str, str], str] = {}
        self._versions: list[str] = []

    def about(self) -> list[str]:
        """Versions, date and machine."""
        machine = f"{psutil.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, {platform.platform()}"
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        data = f"{self.rounds} rounds; searches over {self.bench.studies:,} studies"
        return [*self._versions, f"{machine}; {today}", data]

    def measure(self, chosen: Sequence[Workload]) -> None:
        """All of them, grouped by what the servers must have beforehand."""
        self._start_up()
        prepare: dict[State, Callable[[Server, Bench], None]] = {State.LOADED: workloads.load, State.FILLED: workloads.fill}
        for state in State:
            of_state = [one for one in chosen if one.state is state]
            if of_state and state in prepare:
                for server in self.servers:
                    server.afresh(_SETTINGS.get(state))
                    prepare[state](server, self.bench)
            for _ in range(self.rounds if of_state else 0):
                for workload in of_state:
                    for server in self.servers:
                        self._one(workload, server)

    def _start_up(self) -> None:
        for number in range(self.rounds + 1):
            for server in self.servers:
                server.stop()
                seconds = server.start()
                time.sleep(_IDLE_SECONDS)
                self.starts.append(Started(server.name, not number, seconds, share_of(server.pids())))
        self._versions = [server.version() for server in self.servers]

    def _one(self, workload: Workload, server: Server) -> None:
        if workload.alone and not isinstance(server, Lightbox):
            return
        if (server.name, f"{workload.group}: {workload.what}") in self.failures:
            # It takes as long as a timeout to see again what did not work before.
            return
        if workload.state is State.EMPTY:
            server.afresh(dict(workload.settings))
        workload.before(server)
        settle()
        meter = Meter(server.pids)
        try:
            with meter:
                units = workload.ask(server, self.bench)
        except clients.Trouble as trouble:
            self.failures[server.name, f"{workload.group}: {workload.what}"] = str(trouble)
            print(f"{server.name:9} {workload.group}: {workload.what}: {trouble}", flush=True)
            return
        found = Measured(server.name, units / meter.wall, 1000 * meter.cpu / units, meter.peak, meter.foreign)
        self.results.setdefault(workload, []).append(found)
        with self._log.open("a", encoding="utf-8") as log:
            log.write(json.dumps({"workload": f"{workload.group}: {workload.what}", "at": time.time(), **asdict(found)}) + "\n")
        busy = "  (busy machine)" if found.foreign > BUSY else ""
        print(f"{server.name:9} {workload.group}: {workload.what}: {found.rate:.4g} {workload.unit}/s, {found.cpu_ms:.3g} ms{busy}", flush=True)


def _write(page: str, run: Run, servers: Sequence[Server]) -> None:
    deploy = _TOP / "deploy"
    (deploy / "benchmarks.md").write_text(page, encoding="utf-8")
    drawn = report.plot(run.results, servers[0].name, servers[1].name)
    (deploy / "benchmarks.svg").write_text(drawn, encoding="utf-8")
    print(f"Written to {deploy / 'benchmarks.md'}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", default="", help="groups of workloads, separated by commas")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement of a rate over HTTP")
    parser.add_argument("--studies", type=int, default=10_000, help="in the index that is searched")
    parser.add_argument("--queries", type=int, default=200, help="of each kind, one after the other")
    parser.add_argument("--no-peer", dest="peer", action="store_false", help="measure Lightbox alone")
    parser.add_argument("--data", type=Path, default=_TOP / "bench-data", help="where the data is made and the servers live")
    asked = parser.parse_args()
    asked.data.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(asked.data).free < 24 << 30:
        raise SystemExit(f"The benchmark writes up to 24 GB into {asked.data}: make room, or name another place with --data")
    return asked


if __name__ == "__main__":
    main()
