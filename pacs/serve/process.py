"""One serving process, forked by the supervisor; ends with its parent."""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Final

import structlog
from setproctitle import setproctitle

from pacs import compose, logs
from pacs.data_folder import run_folder
from pacs.metrics import Metrics
from pacs.serve.kinds import CANNOT_START, READY, Kind, Orders
from pacs.serve.loads import Loads
from pacs.settings import Settings
from storage.errors import LightboxError

_log = structlog.get_logger(__name__)
_PR_SET_PDEATHSIG = 1

# How long a thread that computes keeps the interpreter from one whose disk or socket has answered. Requests take a millisecond
# or two, and most threads wait for something: with Python's 5 ms four clients that store wait for each other.
_SWITCH_SECONDS: Final = 0.0005

Ready = Callable[[], None]

# What each kind would load when it begins: loaded before, it is in memory once for all.
_MODULES: Final = {
    Kind.WEB: (
        *("pacs.serve.web", "pacs.admin", "pacs.forwarded", "pacs.health", "pacs.hosts", "pacs.viewer"),
        *("dicomweb.app", "dicomweb.shapes", "starlette.applications", "starlette_compress._gzip", "starlette_compress._zstd_legacy"),
        *("anyio._backends._asyncio", "uvicorn.lifespan.off", "uvicorn.loops.uvloop"),
    ),
    Kind.DIMSE: ("pacs.scp.server",),
    Kind.HL7: ("pacs.hl7.listener", "pacs.scp.journal"),
    Kind.WORKER: ("pacs.worker", "pacs.processing"),
    # It loads what it needs for itself.
    Kind.PREPARE: (),
}


def load(kinds: Iterable[Kind]) -> None:
    """Load what processes of these kinds need, without beginning anything: no thread, no connection, no file."""
    for kind in kinds:
        for name in _MODULES[kind]:
            importlib.import_module(name)


def run(chosen: Settings, orders: Orders) -> int:
    """Prepare, or serve until SIGTERM and finish what is in flight. 0 after a clean end, CANNOT_START when it cannot begin.

    `chosen` is the supervisor's, whose memory we have: to load the settings again would take 4 MB of our own.
    """
    os.environ.update(orders.environment)
    setproctitle(f"pacs: {orders.kind}")
    _end_with_parent(orders.parent, orders.lifeline)
    # Ctrl-C reaches every process of a terminal; it is the supervisor who says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o077)
    logs.configure(orders.kind, format=chosen.log_format, level=chosen.log_level)
    try:
        if orders.after is not None:
            # Until the supervisor closes its end: another process is bringing the index up to date.
            os.read(orders.after, 1)
        if orders.kind is Kind.PREPARE:
            compose.prepare(chosen)
        else:
            _serve(orders, chosen, _once_ready(orders.tell))
    except LightboxError as error:
        sys.stderr.write(f"pacs: {logs.escaped(str(error))}\n")
        return CANNOT_START
    return 0


def _web(chosen: Settings, listener: socket.socket, loads: Loads, ready: Ready) -> None:
    from pacs.serve.web import HttpLimits, WebServer

    metrics = Metrics(run_folder(chosen))
    sys.setswitchinterval(_SWITCH_SECONDS)
    limits = HttpLimits(
        connections=chosen.http_max_connections,
        head_seconds=chosen.http_header_seconds,
        idle_seconds=chosen.http_idle_seconds,
        stop_seconds=chosen.stop_seconds,
    )
    with compose.opened(chosen, metrics) as found:
        over = threading.Event()
        journal = compose.journal_of(found.archive)
        journal.start()
        application = compose.web_application(chosen, found, metrics, over.is_set, journal)
        server = WebServer(application, limits, ready, loads)

        def stop(_number: int, _frame: FrameType | None) -> None:
            over.set()
            server.should_exit = True

        signal.signal(signal.SIGTERM, stop)
        server.run([listener])
        journal.stop()


def _dimse(
    chosen: Settings, listener: socket.socket | None, tls: socket.socket | None, loads: Loads, ready: Ready
) -> None:
    metrics = Metrics()
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: over.set())
    with compose.opened(chosen, metrics) as found:
        server = compose.dimse_server(chosen, found.archive, metrics, listener, loads, tls)
        server.start()
        loads.begin()
        ready()
        over.wait()
        loads.end()
        server.stop(chosen.stop_seconds)


def _worker(chosen: Settings, ready: Ready) -> None:
    metrics = Metrics()
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: over.set())
    with compose.opened(chosen, metrics) as found:
        journal = compose.journal_of(found.archive)
        worker = compose.worker(chosen, found.archive, metrics, journal)
        journal.start()
        worker.start()
        ready()
        over.wait()
        worker.stop(chosen.stop_seconds)
        journal.stop()


def _hl7(chosen: Settings, listener: socket.socket | None, tls: socket.socket | None, ready: Ready) -> None:
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: over.set())
    metrics = Metrics()
    with compose.opened(chosen, metrics) as found:
        journal = compose.journal_of(found.archive)
        server = compose.hl7_listener(chosen, found.archive, metrics, listener, tls, journal)
        journal.start()
        server.start()
        ready()
        over.wait()
        server.stop(chosen.stop_seconds)
        journal.stop()


def _serve(orders: Orders, chosen: Settings, ready: Ready) -> None:
    plain, tls = (None if one is None else socket.socket(fileno=one) for one in (orders.socket, orders.tls_socket))
    loads = Loads(orders.loads, orders.slot)
    if orders.kind is Kind.DIMSE:
        _dimse(chosen, plain, tls, loads, ready)
    elif orders.kind is Kind.HL7:
        _hl7(chosen, plain, tls, ready)
    elif plain is None:
        _worker(chosen, ready)
    else:
        _web(chosen, plain, loads, ready)


def _end_with_parent(parent: int, lifeline: int) -> None:
    """Never outlive the supervisor, not even when it is killed: nobody would be left to stop us."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)

    def watch() -> None:
        # Nobody ever writes to it: a read returns when its other end is gone.
        os.read(lifeline, 1)
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def _once_ready(descriptor: int) -> Ready:
    def ready() -> None:
        _log.info("process.ready")
        os.write(descriptor, READY)
        os.close(descriptor)

    return ready

