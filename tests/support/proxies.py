"""A TCP proxy that misbehaves on command, to stand between a client and its server."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable, Iterator


class Proxy:
    """Forwards connections to a server on 127.0.0.1.

    `silent`: takes bytes in both directions and forwards none. `watch` sees what clients send, and says whether to forward
    it (None), to cut the connection before it reaches the server ("before"), or after the server's answer to it ("after").
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.silent = False
        self.watch: Callable[[bytes], str | None] = lambda _: None
        self._sockets: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close everything."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        for one in list(self._sockets):
            _cut(one)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", self._target), timeout=10)
        server.settimeout(None)
        self._sockets |= {client, server}
        try:
            self._pump(client, server)
        except OSError:
            pass
        finally:
            for one in (client, server):
                self._sockets.discard(one)
                _cut(one)

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in selector.select():
                    source: socket.socket = key.fileobj  # type: ignore[assignment]
                    data = source.recv(65536)
                    if not data:
                        return
                    if self.silent:
                        continue
                    doom = self.watch(data) if source is client else None
                    if doom == "before":
                        return
                    key.data.sendall(data)
                    if doom == "after":
                        server.recv(65536)
                        return


def _cut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@contextlib.contextmanager
def proxy(target: int) -> Iterator[Proxy]:
    """A running proxy to a port of this machine."""
    made = Proxy(target)
    try:
        yield made
    finally:
        made.close()
