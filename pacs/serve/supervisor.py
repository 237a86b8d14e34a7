"""Starts the serving processes, starts them again when they die, and stops them in order; holds no archive itself."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import structlog

from pacs import metrics_folder
from pacs.serve.forking import Forked, fork
from pacs.serve.kinds import CANNOT_START, READY, Kind, Orders
from pacs.serve.loads import Loads, shared
from pacs.serve.sockets import Listeners
from storage.errors import LightboxError

_log = structlog.get_logger(__name__)
# A process that dies is started again at once, then after longer and longer, until it has lasted a minute.
_FIRST_PAUSE, _LONGEST_PAUSE, _LASTED = 0.1, 30.0, 60.0
# What processes have beyond their own limit to finish, before they are killed.
_MARGIN = 5.0


class CannotServe(LightboxError):
    """A process could not begin; it has said why."""


@dataclass(slots=True, eq=False)
class _Place:
    """One process to be kept running."""

    kind: Kind
    listeners: Listeners
    slot: int
    process: Forked | None = None
    ready: bool = False
    begun: float = 0.0
    deaths: int = 0
    next_start: float = 0.0


class Supervisor:
    """Runs `places`: a kind and its listening sockets for each process. To be used once, in the main thread.

    A process of its own brings the index up to date before, which they wait for.
    """

    def __init__(
        self,
        places: Iterable[tuple[Kind, Listeners]],
        run: Callable[[Orders], int],
        environment: Mapping[str, str],
        run_folder: Path,
        stop_seconds: float,
    ) -> None:
        """`run` is what a process does: everything it needs has been loaded here, once for all of them."""
        everything = ((Kind.PREPARE, Listeners()), *places)
        numbers: Counter[Kind] = Counter()
        self._places: list[_Place] = []
        for kind, listeners in everything:
            self._places.append(_Place(kind, listeners, numbers[kind]))
            numbers[kind] += 1
        # Of each kind by itself: they share listening sockets with their like alone.
        self._loads = {kind: shared(number) for kind, number in numbers.items()}
        self._run = run
        self._environment = environment
        self._run_folder = run_folder
        self._stop_seconds = stop_seconds
        self._stops = 0
        self._selector = selectors.DefaultSelector()
        # Neither is ever written to: reading returns when the supervisor is gone, or when the index is prepared.
        self._lifeline = os.pipe()
        self._gate: tuple[int, int] | None = os.pipe()
        self._wake = socket.socketpair()

    def run(self, when_ready: Callable[[], None]) -> bool:
        """Serve until SIGTERM or SIGINT; True when everything in flight was finished.

        Raises CannotServe when a process ends before all of them have served for the first time.
        """
        self._listen_to_signals()
        told = False
        while not self._stops:
            self._reap()
            if not told and (failed := next((place for place in self._places if place.deaths), None)):
                self._stop()
                raise CannotServe(f"the {failed.kind} process could not begin")
            self._start_missing()
            self._wait(
                min((place.next_start for place in self._places if place.process is None), default=None)
            )
            if not told and all(place.ready for place in self._places):
                told = True
                when_ready()
        return self._stop()

    def _listen_to_signals(self) -> None:
        def stop(_number: int, _frame: FrameType | None) -> None:
            self._stops += 1

        for end in self._wake:
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake[1].fileno(), warn_on_full_buffer=False)
        self._selector.register(self._wake[0], selectors.EVENT_READ, None)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)

    def _start_missing(self) -> None:
        for place in self._places:
            if place.process is None and time.monotonic() >= place.next_start:
                self._start(place)

    def _start(self, place: _Place) -> None:
        reading, telling = os.pipe()
        orders = Orders(
            place.kind,
            parent=os.getpid(),
            lifeline=self._lifeline[0],
            tell=telling,
            loads=self._loads[place.kind],
            slot=place.slot,
            socket=place.listeners.plain.fileno() if place.listeners.plain else None,
            tls_socket=place.listeners.tls.fileno() if place.listeners.tls else None,
            after=None if place.kind is Kind.PREPARE or self._gate is None else self._gate[0],
            environment={
                **self._environment,
                metrics_folder.VARIABLE: str(metrics_folder.process_folder(self._run_folder, place.kind)),
            },
        )
        place.process = fork(lambda: self._run(orders), keep=orders.descriptors)
        os.close(telling)
        place.ready, place.begun = False, time.monotonic()
        self._selector.register(reading, selectors.EVENT_READ, place)

    def _wait(self, until: float | None) -> None:
        """Until a signal comes, a process says something, or it is time for `until`."""
        timeout = None if until is None else max(0.0, until - time.monotonic())
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                self._wake[0].recv(4096)
            else:
                self._hear(key.data, key.fd)

    def _hear(self, place: _Place, descriptor: int) -> None:
        said = os.read(descriptor, 16)
        if READY in said:
            place.ready = True
        if not said:
            self._selector.unregister(descriptor)
            os.close(descriptor)

    def _prepared(self, place: _Place) -> None:
        """The index is up to date: let those begin that wait for it."""
        self._places.remove(place)
        assert self._gate is not None
        for end in self._gate:
            os.close(end)
        self._gate = None

    def _reap(self) -> None:
        for place in self._places.copy():
            if place.process is None or place.process.poll() is None:
                continue
            if place.kind is Kind.PREPARE and not place.process.returncode:
                self._prepared(place)
                continue
            pid, status, now = place.process.pid, place.process.returncode, time.monotonic()
            place.deaths = 1 if now - place.begun > _LASTED else place.deaths + 1
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (place.deaths - 1))
            place.process, place.ready, place.next_start = None, False, now + pause
            metrics_folder.bury(self._run_folder, place.kind, pid)
            Loads(self._loads[place.kind], place.slot).end()
            if status != CANNOT_START:
                _log.error("process.died", kind=place.kind, died=pid, status=status)

    def _stop(self) -> bool:
        """Ask all to finish; kill those who have not when the time is over, or at a second signal."""
        asked = self._stops
        _log.info("serve.stopping", seconds=self._stop_seconds)
        # Nobody is to wait in a queue that will not be served.
        for place in self._places:
            place.listeners.close()
        running = [place.process for place in self._places if place.process is not None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._stop_seconds + _MARGIN
        while any(process.poll() is None for process in running):
            if time.monotonic() > deadline or self._stops > asked:
                _log.warning("process.killed", count=sum(process.poll() is None for process in running))
                for process in running:
                    process.kill()
                break
            self._wait(min(deadline, time.monotonic() + 0.5))
        # One that was still loading had nothing in flight.
        return all(process.wait() in (0, -signal.SIGTERM) for process in running)
