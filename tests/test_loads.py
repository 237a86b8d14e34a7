"""Which of the processes that share a listening socket accepts: the less busy one first, and somebody always."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.sync.client import connect

from pacs.scp.server import DimseServer
from pacs.scp.settings import DimseSettings
from pacs.serve.door import Door
from pacs.serve.loads import Loads, shared
from pacs.serve.web import HttpLimits, WebServer
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
    here, there, as_the_supervisor = Loads(descriptor, 0), Loads(descriptor, 1), Loads(descriptor, 1)
    here.begin()
    there.begin()
    here.add(1)
    as_the_supervisor.end()
    assert not here.busier


async def _hello(_request: Request) -> Response:
    return PlainTextResponse("hello")


async def _echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("hello")
    await websocket.close()


APPLICATION = Starlette(routes=[Route("/", _hello), WebSocketRoute("/socket", _echo)])


@contextlib.contextmanager
def web_servers(descriptor: int, number: int) -> Iterator[tuple[int, list[WebServer], list[Loads]]]:
    """So many on one port, as processes are."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    loads = [Loads(descriptor, slot) for slot in range(number)]
    began = [threading.Event() for _ in loads]
    servers = [WebServer(APPLICATION, HttpLimits(), event.set, load) for event, load in zip(began, loads, strict=True)]
    threads = [threading.Thread(target=one.run, args=([socket.socket(fileno=os.dup(listener.fileno()))],)) for one in servers]
    for thread in threads:
        thread.start()
    try:
        assert all(one.wait(20) for one in began)
        yield listener.getsockname()[1], servers, loads
    finally:
        for server in servers:
            server.should_exit = True
        for thread in threads:
            thread.join(20)
        listener.close()


def test_connections_that_come_at_once_are_shared_out(descriptor: int) -> None:
    """An event loop would take all that are there when it looks."""
    with web_servers(descriptor, 2) as (port, servers, _), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(20)]
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(15) == b"HTTP/1.1 200 OK"
        assert [len(server.server_state.connections) for server in servers] == [10, 10]


def test_a_connection_counts_until_it_ends_whatever_became_of_it(descriptor: int) -> None:
    with web_servers(descriptor, 1) as (port, _, loads):
        # Of one that is there with nothing to do.
        idle = Loads(descriptor, 1)
        idle.begin()
        with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)) as client:
            client.close()
            wait_until(lambda: loads[0].busier)
        wait_until(lambda: not loads[0].busier)
        with connect(f"ws://127.0.0.1:{port}/socket") as websocket:
            assert websocket.recv() == "hello"
        wait_until(lambda: not loads[0].busier)


class Met(asyncio.Protocol):
    met = False

    def connection_made(self, _transport: asyncio.BaseTransport) -> None:
        self.met = True


def test_who_comes_in_while_the_door_closes_is_met(descriptor: int) -> None:
    """Otherwise nobody would tell it that it is over, and the process would wait for as long as it has nothing to ask."""

    async def close_at_once() -> bool:
        one = Met()
        door = Door(listener, lambda: one, Loads(descriptor, 0))
        door.open()
        with socket.create_connection(listener.getsockname()):
            # The loop's turn in which it is accepted is that in which we are told to stop.
            door._accept()
            await door.close()
        return one.met

    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert asyncio.run(close_at_once())


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


class Busy(Loads):
    """As if there were always another with less to do, which yet accepts nothing."""

    @property
    def busier(self) -> bool:
        return True

    @property
    def total(self) -> int:
        return self._own


def test_who_is_let_go_first_and_does_not_come_keeps_nobody_waiting(archive: Archive, descriptor: int) -> None:
    load = Busy(descriptor, 0)
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
