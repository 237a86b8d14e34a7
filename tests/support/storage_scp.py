"""A node that takes C-STORE, of pynetdicom's, in this process: it keeps what it gets, and fails as it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity

from tests.support.dimse_peer import CT, EXPLICIT

# What a handler may do: give the status of this C-STORE, the `number`th in all.
Behave = Callable[[Any, int], int]


class Node:
    """What has come to it."""

    def __init__(self) -> None:
        self.received: list[Any] = []
        self.requests: list[Any] = []
        self.syntaxes: list[str] = []
        self.associations = 0
        self.port = 0
        self.behave: Behave = lambda _event, _number: 0
        self._lock = threading.Lock()

    def store(self, event: Any) -> int:
        with self._lock:
            self.requests.append(event.request)
            number = len(self.requests)
        status = self.behave(event, number)
        if status == 0:
            with self._lock:
                self.received.append(event.dataset)
                self.syntaxes.append(str(event.context.transfer_syntax))
        return status

    def established(self, _event: Any) -> None:
        with self._lock:
            self.associations += 1

    @property
    def uids(self) -> list[str]:
        return [str(one.SOPInstanceUID) for one in self.received]


@contextmanager
def node(contexts: list[tuple[str, list[str]]] | None = None, *, title: str = "NODE", port: int = 0, **settings: Any) -> Iterator[Node]:
    """Serve on `port`, or a free one; `contexts` are what is supported, `settings` attributes of pynetdicom's entity."""
    entity: Any = ApplicationEntity
    entity = entity(ae_title=title)
    for name, value in settings.items():
        setattr(entity, name, value)
    for sop_class, syntaxes in contexts if contexts is not None else [(CT, [EXPLICIT])]:
        entity.add_supported_context(sop_class, syntaxes)
    found = Node()
    handlers = [(evt.EVT_C_STORE, found.store), (evt.EVT_ESTABLISHED, found.established)]
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    found.port = server.socket.getsockname()[1]
    try:
        yield found
    finally:
        server.shutdown()
