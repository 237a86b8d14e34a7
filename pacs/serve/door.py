"""Where connections come in to a web process: one at a time, and to the process that has fewest, as associations do.

An event loop takes every connection that is there when it looks, and so one process may have all four of a client's while another
is idle, for as long as they are kept open.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

import structlog

from pacs.serve.loads import Loads

_log = structlog.get_logger(__name__)
_AT_ONCE: Final = 64
# After the system refused another socket (no descriptors left).
_PAUSE_SECONDS: Final = 0.1


class Door:
    """A listening socket in the running event loop. What `protocol` makes for a connection says `loads.add(-1)` at its end."""

    def __init__(self, listener: socket.socket, protocol: Callable[[], asyncio.Protocol], loads: Loads) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._protocol = protocol
        self._loads = loads
        self._resuming: asyncio.TimerHandle | None = None
        self._coming: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Begin to accept."""
        self._listener.setblocking(False)
        self._loads.begin()
        self._listen()

    async def close(self) -> None:
        """Accept no more. Returns when what was accepted has its protocol, and can be told that it is over."""
        self._loads.end()
        self._loop.remove_reader(self._listener)
        if self._resuming is not None:
            self._resuming.cancel()
        await asyncio.gather(*self._coming)

    def _listen(self) -> None:
        self._resuming = None
        self._loop.add_reader(self._listener, self._accept)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._resuming = self._loop.call_later(seconds, self._listen)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            if seconds := self._loads.deference():
                self._pause(seconds)
                return
            try:
                sock, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                _log.error("web.exhausted", reason=error.strerror or type(error).__name__)
                self._pause(_PAUSE_SECONDS)
                return
            self._loads.add(1)
            task = self._loop.create_task(self._admit(sock))
            self._coming.add(task)
            task.add_done_callback(self._coming.discard)

    async def _admit(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        try:
            await self._loop.connect_accepted_socket(self._protocol, sock)
        except OSError:
            # It has gone already.
            self._loads.add(-1)
            sock.close()
