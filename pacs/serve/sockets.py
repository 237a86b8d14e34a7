"""Listening sockets, made before anything starts, so that a port in use is said at once and in words."""

from __future__ import annotations

import errno
import os
import socket
from typing import NamedTuple

from storage.errors import LightboxError

_BACKLOG = 1024


class Listeners(NamedTuple):
    """What processes of a kind listen on: without TLS, and with."""

    plain: socket.socket | None = None
    tls: socket.socket | None = None

    def close(self) -> None:
        """Listen no more."""
        for one in self:
            if one is not None:
                one.close()


class CannotListen(LightboxError):
    """The address or port cannot be listened on."""


def listen(host: str, port: int, setting: str, port_setting: str = "") -> socket.socket:
    """A listening socket on `host` and `port` (0: any free one).

    `setting` is the prefix of the settings to name; `port_setting` that of the port where it has another.
    """
    port_setting = port_setting or f"{setting}_PORT"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise CannotListen(f"there is no address {host!r} to listen on; change {setting}_HOST") from error
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # A port that a stopped server has left behind is free; one that another server listens on is not.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotListen(_reason(error, host, port, setting, port_setting)) from error
    return listener


def reachable(listener: socket.socket) -> tuple[str, int]:
    """Host and port to tell people: this machine's name where the socket listens on all its addresses."""
    host, port = listener.getsockname()[:2]
    return (socket.gethostname() if host in ("0.0.0.0", "::") else host), port  # noqa: S104 - compared, not bound


def shown(listener: socket.socket) -> str:
    """`host:port` as it goes into a URL."""
    host, port = reachable(listener)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(error: OSError, host: str, port: int, setting: str, port_setting: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use by another program: stop it, or set {port_setting} to a free one"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"this machine has no address {host}: change {setting}_HOST"
    if error.errno == errno.EACCES:
        return f"port {port} may not be used by this user: set {port_setting} to one above 1023"
    return f"port {port} of {host} cannot be listened on ({os.strerror(error.errno or 0)}): change {port_setting} or {setting}_HOST"
