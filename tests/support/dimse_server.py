"""A DIMSE server in this process, on a free port, with everything that it tells its observer kept."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pacs.scp.identity import Users
from pacs.scp.server import DimseServer
from pacs.scp.settings import DimseSettings
from storage.archive import Archive
from storage.part10 import read_meta


class Told:
    """An observer that remembers, as tuples that begin with what happened."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self._lock = threading.Lock()

    def _add(self, *event: Any) -> None:
        with self._lock:
            self.events.append(event)

    def association_accepted(self) -> None:
        self._add("accepted")

    def association_rejected(self, reason: str) -> None:
        self._add("rejected", reason)

    def association_ended(self, how: str, seconds: float) -> None:
        assert seconds >= 0
        self._add("ended", how)

    def connection_dropped(self, reason: str) -> None:
        self._add("dropped", reason)

    def stored(self, status: int, seconds: float, size: int) -> None:
        assert seconds > 0
        self._add("stored", status, size)

    def found(self, level: str, status: int, seconds: float, answers: int) -> None:
        assert seconds > 0
        self._add("found", level, status, answers)

    def retrieved(self, operation: str, status: int, seconds: float, completed: int) -> None:
        assert seconds > 0
        self._add("retrieved", operation, status, completed)

    def wait(self, *event: Any, seconds: float = 10) -> None:
        """Until this has happened; fails when it does not."""
        wait_until(lambda: event in self.events, seconds, lambda: f"{event} did not come; {self.events} did")


class Serving:
    """A running server and what it told."""

    def __init__(self, server: DimseServer, told: Told) -> None:
        self.server = server
        self.told = told

    @property
    def port(self) -> int:
        return self.server.port


@contextmanager
def serving(
    archive: Archive, *, sock: socket.socket | None = None, users: Users | None = None, **settings: Any
) -> Iterator[Serving]:
    """Serve `archive`; `settings` over the defaults. Stopped at the end without patience."""
    told = Told()
    server = DimseServer(archive, replace(DimseSettings(port=0), **settings), sock=sock, observer=told, users=users)
    server.start()
    try:
        yield Serving(server, told)
    finally:
        server.stop(0)


def wait_until(condition: Callable[[], bool], seconds: float = 10, why: Callable[[], str] = lambda: "") -> None:
    """Look again and again until the condition holds; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, why() or "it did not come to pass"
        time.sleep(0.01)


def bare(data: bytes) -> bytes:
    """The data set of a Part 10 file: what C-STORE carries."""
    return data[read_meta(memoryview(data)).dataset_offset :]


def spooled(archive: Archive) -> list[Path]:
    """Files of spools that were not cleared away."""
    folder = archive.spool_folder
    return [path for path in folder.iterdir() if path.is_file()] if folder.exists() else []
