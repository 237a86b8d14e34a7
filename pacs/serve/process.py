"""One serving process, as the supervisor starts it: `python -m pacs.serve.process KIND`; ends with its parent."""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType

import structlog

from pacs import compose, logs, settings
from pacs.data_folder import run_folder
from pacs.metrics import Metrics
from pacs.serve.kinds import CANNOT_START, PREPARED, READY, Kind
from pacs.serve.loads import Loads
from pacs.settings import Settings
from storage.errors import LightboxError

_log = structlog.get_logger(__name__)
_PR_SET_PDEATHSIG = 1

Ready = Callable[[], None]


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM, then finish what is in flight. 0 after a clean stop, CANNOT_START when it cannot begin."""
    options = _options(arguments)
    _end_with_parent(options.parent, options.lifeline)
    # Ctrl-C reaches every process of a terminal; it is the supervisor who says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o077)
    chosen = settings.load()
    logs.configure(options.kind, format=chosen.log_format, level=chosen.log_level)
    try:
        if options.after is not None:
            # Until the supervisor closes its end: another process is bringing the index up to date.
            os.read(options.after, 1)
        if options.prepare:
            compose.prepare(chosen)
            os.write(options.tell, PREPARED)
        _serve(options, chosen, _once_ready(options.tell))
    except LightboxError as error:
        sys.stderr.write(f"pacs: {logs.escaped(str(error))}\n")
        return CANNOT_START
    return 0


def _web(chosen: Settings, listener: socket.socket, ready: Ready) -> None:
    from pacs.serve.web import HttpLimits, WebServer

    metrics = Metrics(run_folder(chosen))
    limits = HttpLimits(
        connections=chosen.http_max_connections,
        head_seconds=chosen.http_header_seconds,
        idle_seconds=chosen.http_idle_seconds,
        stop_seconds=chosen.stop_seconds,
    )
    with compose.opened(chosen, metrics) as found:
        application = compose.web_application(chosen, found, metrics)
        server = WebServer(application, limits, ready)

        def stop(_number: int, _frame: FrameType | None) -> None:
            server.should_exit = True

        signal.signal(signal.SIGTERM, stop)
        server.run([listener])


def _dimse(chosen: Settings, listener: socket.socket, loads: Loads, ready: Ready) -> None:
    metrics = Metrics()
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: over.set())
    with compose.opened(chosen, metrics) as found:
        server = compose.dimse_server(chosen, found.archive, metrics, listener, loads)
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
        worker = compose.worker(chosen, found.archive, metrics)
        worker.start()
        ready()
        over.wait()
        worker.stop(chosen.stop_seconds)


def _serve(options: argparse.Namespace, chosen: Settings, ready: Ready) -> None:
    if options.kind == Kind.WORKER:
        _worker(chosen, ready)
        return
    listener = socket.socket(fileno=options.socket)
    if options.kind == Kind.WEB:
        _web(chosen, listener, ready)
    else:
        _dimse(chosen, listener, Loads(options.loads, options.slot), ready)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pacs.serve.process")
    parser.add_argument("kind", choices=[*Kind])
    parser.add_argument("--parent", type=int, required=True, help="pid of the supervisor")
    parser.add_argument("--lifeline", type=int, required=True, help="pipe that ends when the supervisor does")
    parser.add_argument("--socket", type=int, help="listening socket, for what listens")
    parser.add_argument("--loads", type=int, help="memory in which processes of a kind tell how busy they are")
    parser.add_argument("--slot", type=int, default=0, help="which of them this is")
    parser.add_argument("--tell", type=int, required=True, help="pipe to say on how far it is")
    parser.add_argument("--prepare", action="store_true", help="bring the index up to date first")
    parser.add_argument("--after", type=int, help="pipe that ends when the index is up to date")
    return parser.parse_args(arguments)


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


if __name__ == "__main__":
    sys.exit(main())
