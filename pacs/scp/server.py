"""The DIMSE server: a listening socket, its front, and a thread for each association."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping
from typing import Final

import structlog

from pacs.dimse import CommandField
from pacs.scp.front import Front, Listener
from pacs.scp.identity import Users
from pacs.scp.provider import Provider
from pacs.scp.secured import Channel
from pacs.scp.services import SERVICES, Answer
from pacs.scp.session import serve
from pacs.scp.settings import Alone, DimseSettings, Load, Observer
from pacs.scp.sop_classes import Kind
from pacs.upper_layer import Acceptor
from storage.archive import Archive

_log = structlog.get_logger(__name__)
_BACKLOG: Final = 256
# After the patience of `stop` is over: time for every association to notice and to say so to its peer.
_LAST_SECONDS: Final = 3.0


def listening_socket(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A bound TCP socket. `reuse_port` lets several processes listen on the same port (SO_REUSEPORT). Raises OSError."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


class DimseServer:
    """Serves one archive over DIMSE, from `start` to `stop`.

    `sock` is a bound socket of which this server takes possession: one that a parent process has opened, say. `tls` is one
    for DICOM over TLS, beside it or alone; without either `start` binds to `settings.host` and `settings.port`. `load` is given
    where several processes share it. `users` can tell who a caller's user is; without, nobody can.
    """

    def __init__(
        self,
        archive: Archive,
        settings: DimseSettings | None = None,
        *,
        sock: socket.socket | None = None,
        tls: Listener | None = None,
        observer: Observer | None = None,
        services: Mapping[tuple[CommandField, Kind], Answer] = SERVICES,
        load: Load | None = None,
        users: Users | None = None,
    ) -> None:
        self._settings = settings or DimseSettings()
        self._load = load or Alone()
        self._provider = Provider(archive, self._settings, observer, self._load, users)
        self._services = services
        self._listeners = [one for one in (Listener(sock) if sock else None, tls) if one is not None]
        self._ports = tuple(_port_of(one.sock) for one in self._listeners)
        self._front: Front | None = None

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports that are listened on; known from `start` on, or from the beginning where sockets were given."""
        return self._ports

    @property
    def port(self) -> int:
        """The first of them."""
        if not self._ports:
            raise RuntimeError("the server has not been started")
        return self._ports[0]

    @property
    def associations(self) -> int:
        """How many associations there are now."""
        return self._provider.places.taken

    @property
    def waiting(self) -> int:
        """How many sockets have not negotiated yet."""
        return self._front.waiting if self._front else 0

    def start(self) -> None:
        """Listen and serve, in threads of its own. Raises OSError when the address cannot be had."""
        if not self._listeners:
            self._listeners.append(Listener(listening_socket(self._settings.host, self._settings.port)))
        self._ports = tuple(_port_of(one.sock) for one in self._listeners)
        for listener, port in zip(self._listeners, self._ports, strict=True):
            listener.sock.listen(_BACKLOG)
            tls = listener.secure is not None
            _log.info("dimse.listening", port=port, tls=tls, ae_title=self._settings.ae_title)
        self._front = Front(
            self._listeners,
            self._settings,
            self._provider.observer,
            self._take_over,
            self._load,
            self._provider.journal,
        )
        self._provider.journal.start()
        self._front.start()

    def stop(self, grace_seconds: float = 30.0) -> None:
        """Accept no more; let associations that are at work go on for `grace_seconds`; abort the rest. Blocks till done.

        An association that is idle between messages is aborted at once.
        """
        if self._front is None:
            return
        begun = time.monotonic()
        self._front.stop()
        stopping, places = self._provider.stopping, self._provider.places
        stopping.begun = True
        finished = places.wait(grace_seconds)
        stopping.over = True
        if not finished and not places.wait(_LAST_SECONDS):
            places.cut()
            places.wait(_LAST_SECONDS)
        self._provider.journal.stop()
        left = places.taken
        _log.info("dimse.stopped", seconds=round(time.monotonic() - begun, 3), finished=finished, left=left)

    def _take_over(self, sock: Channel, machine: Acceptor, address: str) -> bool:
        if not self._provider.places.take(address):
            return False
        arguments = (sock, machine, address, self._provider, self._services)
        try:
            threading.Thread(target=serve, args=arguments, name=f"dimse-{address}", daemon=True).start()
        except RuntimeError:
            # The system has no thread left for us: the same as having no place.
            self._provider.places.leave(None, address)
            return False
        return True


def _port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])
