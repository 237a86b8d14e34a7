"""The web process's HTTP server against clients that are slow, greedy, or many; and whose name is not ours."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from pacs.forwarded import Forwarded
from pacs.hosts import OnlyHosts
from pacs.serve.loads import Loads, shared
from pacs.serve.web import HttpLimits, WebServer

GET = b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def _hello(request: Request) -> Response:
    return PlainTextResponse(f"{request.client.host if request.client else ''} {request.url.scheme}")


async def _endless(_request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536
            await asyncio.sleep(0)

    return StreamingResponse(pieces())


async def _slow(request: Request) -> Response:
    body = await request.body()
    return PlainTextResponse(str(len(body)))


APPLICATION = Starlette(
    routes=[Route("/hello", _hello), Route("/endless", _endless), Route("/slow", _slow, methods=["POST"])]
)


@contextlib.contextmanager
def serving(limits: HttpLimits, app: ASGIApp = APPLICATION) -> Iterator[tuple[int, WebServer]]:
    started = threading.Event()
    server = WebServer(app, limits, started.set, Loads(shared(1), 0))
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    port: int = listener.getsockname()[1]
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    assert started.wait(20)
    try:
        yield port, server
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def wait(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def rest(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            data += piece
    return data


def answer(connection: socket.socket) -> bytes:
    """One answer with a short body."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            break
        data += piece
    return data


@pytest.mark.parametrize(
    "sent", [b"", b"GET /hello HT", b"GET /hello HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n"]
)
def test_a_head_that_does_not_end_is_cut_off(sent: bytes) -> None:
    with serving(HttpLimits(head_seconds=0.3)) as (port, _), connect(port) as connection:
        begun = time.monotonic()
        connection.sendall(sent)
        assert rest(connection) == b""
        assert time.monotonic() - begun < 5


def test_a_head_that_drips_is_cut_off() -> None:
    with serving(HttpLimits(head_seconds=0.5)) as (port, _), connect(port) as connection:
        begun = time.monotonic()
        with contextlib.suppress(OSError):
            for letter in GET * 100:
                connection.sendall(bytes([letter]))
                time.sleep(0.02)
        assert 0.3 < time.monotonic() - begun < 5


def test_the_second_head_has_its_time_too() -> None:
    with serving(HttpLimits(head_seconds=0.3, idle_seconds=60)) as (port, _), connect(port) as connection:
        connection.sendall(GET % b"hello")
        assert b"200 OK" in answer(connection)
        time.sleep(0.6)  # between requests there is no hurry
        connection.sendall(GET % b"hello")
        assert b"200 OK" in answer(connection)
        connection.sendall(b"GET /hel")
        assert rest(connection) == b""


def test_idle_connections_are_closed() -> None:
    with serving(HttpLimits(idle_seconds=1)) as (port, _), connect(port) as connection:
        connection.sendall(GET % b"hello")
        assert b"200 OK" in answer(connection)
        begun = time.monotonic()
        assert rest(connection) == b""
        assert time.monotonic() - begun < 8


@pytest.mark.parametrize("piece", [1 << 16, 1000])
def test_a_head_that_is_too_large_is_refused(piece: int) -> None:
    head = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n" + b"".join(
        b"X-%d: %s\r\n" % (n, b"v" * 100) for n in range(400)
    )
    with serving(HttpLimits()) as (port, _), connect(port) as connection:
        with contextlib.suppress(OSError):
            for at in range(0, len(head), piece):
                connection.sendall(head[at : at + piece])
            connection.sendall(b"\r\n")
        assert rest(connection).startswith(b"HTTP/1.1 431 ")


def test_a_large_body_is_no_large_head() -> None:
    with serving(HttpLimits()) as (port, _):
        answered = httpx.post(f"http://127.0.0.1:{port}/slow", content=b"x" * 3_000_000)
    assert answered.text == "3000000"


def test_a_body_may_take_longer_than_a_head() -> None:
    with serving(HttpLimits(head_seconds=0.3)) as (port, _), connect(port) as connection:
        connection.sendall(b"POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n")
        for letter in b"abcde":
            time.sleep(0.15)
            connection.sendall(bytes([letter]))
        assert b"200 OK" in answer(connection)


def test_a_reader_that_does_not_read_is_cut_off() -> None:
    with serving(HttpLimits(stalled_seconds=0.5)) as (port, server), connect(port) as connection:
        connection.sendall(GET % b"endless")
        wait(lambda: bool(server.server_state.connections))
        begun = time.monotonic()
        wait(lambda: not server.server_state.connections)
        assert time.monotonic() - begun > 0.4


def test_slow_heads_do_not_take_the_places_of_others() -> None:
    with serving(HttpLimits(connections=20, head_seconds=60)) as (port, server):
        slow = [connect(port) for _ in range(60)]
        for connection in slow:
            with contextlib.suppress(OSError):
                connection.sendall(b"GET /hel")
        for _ in range(5):
            assert httpx.get(f"http://127.0.0.1:{port}/hello").status_code == 200
        assert len(server.server_state.connections) <= 20
        for connection in slow:
            connection.close()


def test_requests_in_flight_are_finished_at_the_stop() -> None:
    with serving(HttpLimits()) as (port, server), connect(port) as connection, connect(port) as idle:
        connection.sendall(b"POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab")
        time.sleep(0.2)
        server.should_exit = True
        assert rest(idle) == b""
        connection.sendall(b"cde")
        assert b"200 OK" in rest(connection)


@pytest.mark.parametrize(
    ("proxies", "shown"),
    [((), "127.0.0.1 http"), (("127.0.0.1",), "203.0.113.7 https"), (("10.0.0.0/8",), "127.0.0.1 http")],
)
def test_only_named_proxies_are_believed(proxies: tuple[str, ...], shown: str) -> None:
    with serving(HttpLimits(), Forwarded(APPLICATION, proxies)) as (port, _):
        headers = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
        answered = httpx.get(f"http://127.0.0.1:{port}/hello", headers=headers)
    assert answered.text == shown
    assert "server" not in answered.headers


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LocalHost:8080", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("pacs.example:443", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost@evil.example", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
def test_only_our_own_names(host: str, status: int) -> None:
    client = TestClient(OnlyHosts(APPLICATION, ["https://pacs.example"]))
    assert client.get("/hello", headers={"Host": host}).status_code == status


def test_without_public_url_no_name_is_empty() -> None:
    client = TestClient(OnlyHosts(APPLICATION, [""]))
    assert client.get("/hello", headers={"Host": "evil.example"}).json()["status"] == 421
