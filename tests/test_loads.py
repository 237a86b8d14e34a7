"""Which of the processes that share a listening socket accepts: the less busy one first, and somebody always."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from pacs.scp.server import DimseServer
from pacs.scp.settings import DimseSettings
from pacs.serve.loads import Loads, shared
from storage.archive import Archive
from tests.support.dimse_peer import Peer
from tests.support.dimse_server import wait_until


@pytest.fixture
def descriptor() -> Iterator[int]:
    descriptor = shared(3)
    yield descriptor
    os.close(descriptor)


def busier(*loads: Loads) -> list[bool]:
    return [one.busier for one in loads]


def test_who_has_more_is_busier(descriptor: int) -> None:
    here, there = Loads(descriptor, 0), Loads(descriptor, 1)
    for one in (here, there):
        one.begin()
    assert busier(here, there) == [False, False], "nobody has anything to do"
    here.add(2)
    there.add(1)
    assert busier(here, there) == [True, False]
    here.add(-1)
    assert busier(here, there) == [False, False]


def test_who_is_not_there_is_let_go_first_by_nobody(descriptor: int) -> None:
    here, there = Loads(descriptor, 0), Loads(descriptor, 1)
    here.begin()
    here.add(5)
    assert busier(here) == [False], "the others have not begun"
    there.begin()
    assert busier(here) == [True]
    there.end()
    assert busier(here) == [False]
    there.add(1)
    assert busier(here) == [False], "what it still has to finish is not an offer to take more"


def test_a_dead_process_is_buried(descriptor: int) -> None:
    here, there, supervisor = Loads(descriptor, 0), Loads(descriptor, 1), Loads(descriptor, 2)
    here.begin()
    there.begin()
    here.add(1)
    supervisor.bury(1)
    assert not here.busier


def test_associations_are_shared_out(archive: Archive, descriptor: int) -> None:
    """Twenty that stay, one after the other: each server gets ten, whichever wakes first."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    loads = [Loads(descriptor, slot) for slot in (0, 1)]
    servers = [
        DimseServer(archive, DimseSettings(), sock=socket.socket(fileno=os.dup(listener.fileno())), load=load)
        for load in loads
    ]
    for server, load in zip(servers, loads, strict=True):
        server.start()
        load.begin()
    with contextlib.ExitStack() as stack:
        stack.callback(listener.close)
        for server in servers:
            stack.callback(server.stop, 0)
        for _ in range(20):
            stack.enter_context(Peer(port)).associate()
        assert [server.associations for server in servers] == [10, 10]


class Busy:
    """As if there were always another with less to do, which yet accepts nothing."""

    busier = True

    def __init__(self) -> None:
        self.total = 0
        self._lock = threading.Lock()

    def add(self, number: int) -> None:
        with self._lock:
            self.total += number


def test_who_is_let_go_first_and_does_not_come_keeps_nobody_waiting(archive: Archive) -> None:
    load = Busy()
    server = DimseServer(archive, DimseSettings(port=0), load=load)
    server.start()
    try:
        for _ in range(5):
            with Peer(server.port) as peer:
                peer.associate()
                assert peer.echo() == 0
                assert load.total == 1
            wait_until(lambda: load.total == 0)
        with socket.create_connection(("127.0.0.1", server.port)):
            wait_until(lambda: load.total == 1, why=lambda: "a socket that has said nothing yet counts too")
        wait_until(lambda: load.total == 0)
    finally:
        server.stop(0)
