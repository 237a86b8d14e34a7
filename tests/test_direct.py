"""Answers that go from files to the socket past the event loop: whole, in order, and right whatever the client does."""

from __future__ import annotations

import gc
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from pacs.serve.direct import Sender, State
from pacs.serve.web import HttpLimits
from storage.blobs.in_file import EXTENSION, InFile, in_hand
from storage.errors import ObjectMissing
from tests.test_guard import GET, connect, rest, serving, wait

CONTENT = os.urandom(3_000_000)
Make = Callable[[Path], Iterator[bytes | InFile]]


def opened(path: Path, offset: int = 0, length: int | None = None) -> InFile:
    return InFile(os.open(path, os.O_RDONLY), offset, len(CONTENT) - offset if length is None else length)


def _mixed(path: Path) -> Iterator[bytes | InFile]:
    yield b"head"
    yield b""
    yield opened(path)
    yield opened(path, 5, 0)
    yield opened(path, 1_000_000, 70_000)
    yield b"between"
    yield b"x" * 2_500_000
    yield opened(path, 2_999_999)


def _removed(path: Path) -> Iterator[bytes | InFile]:
    whole = opened(path)
    path.unlink()
    yield whole
    yield b"end"


CASES: tuple[tuple[Make, bytes], ...] = (
    (_mixed, b"head" + CONTENT + CONTENT[1_000_000:1_070_000] + b"between" + b"x" * 2_500_000 + CONTENT[-1:]),
    (_removed, CONTENT + b"end"),
    (lambda _path: iter(()), b""),
    (lambda _path: iter((b"a", b"b")), b"ab"),
)


class Application:
    """Answers every request by one message of the extension."""

    def __init__(self, make: Callable[[], Iterator[bytes | InFile]], headers: list[tuple[bytes, bytes]] | None = None, idle: float = 20) -> None:
        self._make, self._headers, self._idle = make, headers or [], idle
        self.ended = 0
        # The other ends of the connections on which requests came.
        self.clients: set[tuple[str, int]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert EXTENSION in scope["extensions"]
        self.clients.add(tuple(scope["client"]))
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        try:
            await send({"type": EXTENSION, "body": self._make(), "idle": self._idle})
        finally:
            self.ended += 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "object"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize(("make", "content"), CASES)
@pytest.mark.parametrize("known", [False, True])
def test_what_arrives_is_what_was_given_and_the_connection_goes_on(path: Path, make: Make, content: bytes, known: bool) -> None:
    headers = [(b"content-length", str(len(content)).encode())] if known else []
    application = Application(lambda: make(path), headers)
    with serving(HttpLimits(), application) as (port, _), httpx.Client() as client:
        for _ in range(2):
            path.write_bytes(CONTENT)
            assert client.get(f"http://127.0.0.1:{port}/").content == content
    assert len(application.clients) == 1


@pytest.mark.parametrize(("make", "content"), CASES)
def test_in_hand_it_is_the_same(path: Path, make: Make, content: bytes) -> None:
    assert b"".join(in_hand(make(path))) == content


def test_many_requests_on_one_connection_are_answered_in_their_order(path: Path) -> None:
    with serving(HttpLimits(), Application(lambda: _mixed(path))) as (port, _), connect(port) as connection:
        connection.sendall(GET % b"a" + GET % b"b" + (GET % b"c").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        whole = rest(connection)
    assert whole.count(b"HTTP/1.1 200") == 3
    assert whole.count(b"\r\n0\r\n\r\n") == 3
    assert len(whole) > 3 * len(CASES[0][1])


def _endless(path: Path) -> Iterator[bytes | InFile]:
    while True:
        yield b"head"
        yield opened(path)


def _descriptors(path: Path) -> int:
    gc.collect()
    return sum(os.path.realpath(one) == str(path) for one in Path("/proc/self/fd").iterdir())


def test_a_client_that_leaves_ends_it_and_the_file_is_closed(path: Path) -> None:
    application = Application(lambda: _endless(path))
    with serving(HttpLimits(), application) as (port, _):
        connection = connect(port)
        connection.sendall(GET % b"a")
        assert connection.recv(4 << 20)
        connection.close()
        wait(lambda: application.ended == 1)
        wait(lambda: _descriptors(path) == 0)


def test_a_client_that_takes_nothing_is_cut_off_and_holds_no_thread(path: Path) -> None:
    application = Application(lambda: _endless(path), idle=1.0)
    with serving(HttpLimits(), application) as (port, _):
        stalled = [connect(port) for _ in range(12)]
        for one in stalled:
            one.sendall(GET % b"a")
        time.sleep(0.5)
        # All of them are blocked, more than there are threads, and another client is served meanwhile.
        with connect(port) as quick:
            quick.sendall(GET % b"b")
            got, until = 0, time.monotonic() + 20
            while got < 20_000_000:
                got += len(quick.recv(1 << 20))
                assert time.monotonic() < until
        wait(lambda: application.ended == 13)
        for one in stalled:
            one.close()


def test_a_slow_client_gets_everything(path: Path) -> None:
    with serving(HttpLimits(), Application(lambda: _mixed(path))) as (port, _):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", port))
        connection.sendall((GET % b"a").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        got = b""
        for number in range(10_000_000):
            piece = connection.recv(65536)
            if not piece:
                break
            got += piece
            if number % 40 == 0:
                time.sleep(0.03)
        connection.close()
    assert got.endswith(b"\r\n0\r\n\r\n")
    assert CONTENT[-1:] in got
    assert len(got) > len(CASES[0][1])


def _ends_early(path: Path) -> Iterator[bytes | InFile]:
    yield opened(path)
    os.truncate(path, 100)
    yield opened(path)


def _fails(path: Path) -> Iterator[bytes | InFile]:
    yield opened(path)
    raise ObjectMissing("gone", "key")


@pytest.mark.parametrize("make", [_ends_early, _fails])
def test_what_cannot_be_read_leaves_the_answer_without_its_end(path: Path, make: Make) -> None:
    with serving(HttpLimits(), Application(lambda: make(path))) as (port, _), connect(port) as connection:
        connection.sendall(GET % b"a")
        whole = rest(connection)
    assert len(whole) > len(CONTENT)
    assert not whole.endswith(b"0\r\n\r\n")


def test_a_turn_ends_soon_where_the_client_takes_nothing(path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        sender = Sender(_endless(path), ours, chunked=True)
        begun = time.monotonic()
        assert sender.turn() is State.BLOCKED
        assert time.monotonic() - begun < 0.25
        assert sender.sent > 0
