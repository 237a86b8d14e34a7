"""`pacs serve` as a process whose pids a test may know: ports taken from what it prints, its children from the system."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.support.children import Child, start

_ENV = [shutil.which("env") or "/usr/bin/env"]
LAST_LINE = "Stop with Ctrl-C."


@dataclass(frozen=True)
class Served:
    """A running server."""

    child: Child

    @property
    def pid(self) -> int:
        """The supervisor's."""
        return self.child.process.pid

    @property
    def output(self) -> str:
        """Everything it has printed and logged."""
        return self.child.log.read_text(encoding="utf-8", errors="replace")

    @property
    def http_port(self) -> int:
        return int(self._found(r"viewer +http://127\.0\.0\.1:(\d+)/"))

    @property
    def dimse_port(self) -> int:
        return int(self._found(r"DIMSE .* port (\d+)"))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def pids(self, kind: str) -> list[int]:
        """The processes of one kind, as the system knows them."""
        with contextlib.suppress(psutil.NoSuchProcess):
            below = psutil.Process(self.pid).children()
            return [process.pid for process in below if f"pacs: {kind}" in _arguments(process)]
        return []

    def everything(self) -> list[int]:
        """The supervisor and all that it has started."""
        return [self.pid, *self.pids("")]

    def kill(self, pids: list[int]) -> None:
        """SIGKILL, the first first."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def ready(self) -> bool:
        """Whether /readyz says so."""
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        return False

    def _found(self, pattern: str) -> str:
        # The last start's, where several have written to the log.
        found: list[str] = re.findall(pattern, self.output)
        assert found, f"{pattern} is not in what it printed:\n{self.output}"
        return found[-1]


def launch(log: Path, *arguments: str, **settings: str) -> Child:
    """`pacs ARGUMENTS` with just these settings, in the background."""
    environment = {"PACS_HTTP_PORT": "0", "PACS_DIMSE_PORT": "0", "PACS_LOG_FORMAT": "json", **settings}
    foreign = [f"-u{name}" for name in os.environ if name.startswith("PACS_") and name not in environment]
    command = [*_ENV, *foreign, sys.executable, "-m", "pacs", *arguments]
    return start(command, log, environment={**environment, "PYTHONPATH": str(Path(__file__).parents[2])})


def serve(log: Path, *arguments: str, **settings: str) -> Served:
    """`pacs serve`, when it says that it is ready."""
    before = log.read_text().count(LAST_LINE) if log.exists() else 0
    served = Served(launch(log, "serve", *arguments, **settings))
    served.child.wait_until(lambda: served.output.count(LAST_LINE) > before)
    return served


@contextlib.contextmanager
def serving(folder: Path, *arguments: str, **settings: str) -> Iterator[Served]:
    """`pacs serve` with its data in `folder`; stopped afterwards."""
    served = serve(folder.parent / f"{folder.name}.log", *arguments, PACS_DATA_DIR=str(folder), **settings)
    try:
        yield served
    finally:
        served.child.stop(40)


def _arguments(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return " ".join(process.cmdline())
    return ""
