"""Bodies that a thread reads from the socket itself: whole however they come, and the connection goes on after them."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import anyio
import pytest
from anyio import to_thread
from starlette.types import Receive, Scope, Send

from dicomweb.errors import WebRefusal
from dicomweb.request_body import Patience, pieces
from dicomweb.settings import WebSettings
from pacs.serve.lending import Lent, length_of
from pacs.serve.web import HttpLimits
from storage.incoming import EXTENSION, Incoming
from tests.test_guard import answer, connect, rest, serving, wait

CONTENT = os.urandom(1_500_000)
SHORT = CONTENT[:1000]


def head(size: int, *more: str) -> bytes:
    return "\r\n".join(("POST / HTTP/1.1", "Host: localhost", f"Content-Length: {size}", *more, "", "")).encode()


def chunked(content: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)


class Application:
    """Answers with the digest of what came, by the socket where it is lent; of a body it wants `most` bytes."""

    def __init__(self, most: int = 1 << 30) -> None:
        self._most = most
        self.lent: list[bool] = []
        self.left: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        lent: Incoming | None = scope["extensions"][EXTENSION]()
        self.lent.append(lent is not None)
        try:
            content = await (self._received(receive) if lent is None else self._read(lent))
        except ConnectionError as error:
            self.left.append(type(error).__name__)
            return
        body = hashlib.sha256(content).hexdigest().encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"64")]})
        await send({"type": "http.response.body", "body": body})

    async def _received(self, receive: Receive) -> bytes:
        content, more = b"", True
        while more:
            message = await receive()
            content, more = content + message.get("body", b""), message.get("more_body", False)
        return content

    async def _read(self, lent: Incoming) -> bytes:
        content, room = b"", bytearray(100_000)
        with lent:
            while lent.left and len(content) < self._most:
                size = await to_thread.run_sync(lent.into, memoryview(room))
                if size is None:
                    assert await lent.wait(10)
                content += room[: size or 0]
        return content


def digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def answered(connection: socket.socket, content: bytes) -> None:
    """The next answer, and nothing after it, is that of `content`."""
    data = b""
    while len(data.partition(b"\r\n\r\n")[2]) < 64:
        data += (piece := connection.recv(1))
        assert piece, data
    assert data.endswith(digest(content))


def send_on(connection: socket.socket) -> None:
    for _ in range(100):
        connection.sendall(CONTENT)
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("sent", "lent"),
    [
        ([head(len(CONTENT)), CONTENT], True),
        ([head(len(CONTENT)) + CONTENT], True),
        ([head(len(CONTENT)) + CONTENT[:300_000], 0.1, CONTENT[300_000:300_001], 0.1, CONTENT[300_001:]], True),
        ([head(len(CONTENT)), 0.1, CONTENT[:-1], 0.1, CONTENT[-1:]], True),
        ([head(len(SHORT)) + SHORT], False),
        ([head(len(SHORT)), 0.1, SHORT], True),
        ([chunked(CONTENT)], False),
        ([head(0)], False),
    ],
)
def test_the_whole_body_comes_and_the_connection_goes_on(sent: Sequence[bytes | float], lent: bool) -> None:
    content = CONTENT if sum(len(one) for one in sent if isinstance(one, bytes)) > 10_000 else SHORT
    if sent == [head(0)]:
        content = b""
    application = Application()
    with serving(HttpLimits(), application) as (port, _), connect(port) as connection:
        for _ in range(2):
            for one in sent:
                time.sleep(one) if isinstance(one, float) else connection.sendall(one)
            answered(connection, content)
    assert application.lent == [lent, lent]


def test_the_next_request_may_come_before_the_answer() -> None:
    application = Application()
    with serving(HttpLimits(), application) as (port, _), connect(port) as connection:
        connection.sendall(head(len(CONTENT)) + CONTENT + head(len(SHORT)) + SHORT)
        answered(connection, CONTENT)
        answered(connection, SHORT)


def test_who_asks_whether_to_go_on_is_told_so() -> None:
    with serving(HttpLimits(), Application()) as (port, _), connect(port) as connection:
        connection.sendall(head(len(CONTENT), "Expect: 100-continue"))
        assert answer(connection).startswith(b"HTTP/1.1 100 ")
        connection.sendall(CONTENT)
        answered(connection, CONTENT)


def test_the_rest_of_a_body_that_nobody_wants_is_passed_over() -> None:
    """And nothing of it is taken for the next request."""
    next_request = head(len(SHORT)) + SHORT
    content = CONTENT[:100_000] + next_request * 10
    with serving(HttpLimits(), Application(100_000)) as (port, _), connect(port) as connection:
        connection.sendall(head(len(content)) + content[:100_000])
        answered(connection, content[:100_000])
        connection.sendall(content[100_000:])
        connection.sendall(next_request)
        answered(connection, SHORT)


def test_a_body_that_nobody_wants_has_an_end() -> None:
    with serving(HttpLimits(), Application(1)) as (port, _), connect(port) as connection:
        connection.sendall(head(1 << 30) + CONTENT[:100_000])
        wait(lambda: bool(connection.recv(1, socket.MSG_PEEK)))
        with pytest.raises(ConnectionError):
            send_on(connection)


def test_a_client_that_leaves_is_noticed() -> None:
    application = Application()
    with serving(HttpLimits(), application) as (port, _):
        with connect(port) as connection:
            connection.sendall(head(len(CONTENT)) + CONTENT[:100_000])
            wait(lambda: application.lent == [True])
        wait(lambda: bool(application.left))
        with connect(port) as connection:
            connection.sendall(head(len(SHORT), "Connection: close") + SHORT)
            assert rest(connection).endswith(digest(SHORT))


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ([(b"content-length", b"12")], 12),
        ([(b"host", b"a"), (b"content-length", b"0")], 0),
        ([(b"transfer-encoding", b"chunked")], None),
        ([(b"content-length", b"12"), (b"transfer-encoding", b"chunked")], None),
        ([], None),
    ],
)
def test_length(headers: list[tuple[bytes, bytes]], length: int | None) -> None:
    assert length_of(headers) == length


class Slow:
    """A body of which `sizes` come, one to a call: None where the client has to be waited for, -1 where it leaves."""

    def __init__(self, left: int, sizes: Sequence[int | None] = (), *, comes: bool = True) -> None:
        self.left, self._sizes, self._comes = left, list(sizes), comes

    def into(self, room: memoryview) -> int | None:
        size = self._sizes.pop(0)
        if size == -1:
            raise ConnectionResetError
        self.left -= size or 0
        room[: size or 0] = b"x" * (size or 0)
        return size

    async def wait(self, seconds: float) -> bool:
        assert seconds > 0
        return self._comes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to let go of."""


def test_pieces_end_with_the_body_or_with_a_pause() -> None:
    assert [bytes(room[:size]) for room, size in pieces(Slow(5, [3, 2]))] == [b"xxx", b"xx"]
    assert [size for _, size in pieces(Slow(5, [3, None, 2]))] == [3]
    with pytest.raises(WebRefusal, match="left before the end"):
        list(pieces(Slow(5, [3, -1])))


@pytest.mark.parametrize(
    ("settings", "came", "comes", "text"),
    [
        (WebSettings(), 10, True, None),
        (WebSettings(), 10, False, "stopped arriving"),
        (WebSettings(body_idle_seconds=0.01), 10, True, "less than 1024 bytes a second"),
        (WebSettings(body_idle_seconds=0.01, body_minimum_rate=1), 1000, True, None),
    ],
)
def test_patience(settings: WebSettings, came: int, comes: bool, text: str | None) -> None:
    async def waited() -> None:
        lent = Slow(5000, comes=comes)
        patience = Patience(lent, settings)
        lent.left -= came
        await anyio.sleep(0.05)
        await patience.wait()

    if text is None:
        anyio.run(waited)
        return
    with pytest.raises(WebRefusal, match=text) as caught:
        anyio.run(waited)
    assert caught.value.status == 408


class Unwell:
    """A socket that says these things, one after the other, before it has anything."""

    def __init__(self, *errors: OSError) -> None:
        self._errors = list(errors)
        self._real = socket.socketpair()
        self._real[1].send(b"there")

    def fileno(self) -> int:
        return self._real[0].fileno()

    def recv_into(self, room: memoryview, size: int) -> int:
        if self._errors:
            raise self._errors.pop(0)
        return self._real[0].recv_into(room, size)


def lent_from(sock: Unwell) -> Lent:
    lent: Any = Lent.__new__(Lent)
    lent._begun, lent._rest, lent._socket = memoryview(b""), 5, sock
    found: Lent = lent
    return found


@pytest.mark.parametrize("number", [errno.ETIMEDOUT, errno.ECONNRESET, errno.EHOSTUNREACH])
def test_every_way_to_lose_a_client_is_one(number: int) -> None:
    with pytest.raises(ConnectionError):
        lent_from(Unwell(OSError(number, os.strerror(number)))).into(memoryview(bytearray(5)))


def test_what_the_system_takes_back_is_asked_for_again() -> None:
    # A poll may say that something is there which is then dropped (select(2), BUGS).
    again = BlockingIOError(errno.EAGAIN, "not yet")
    room = bytearray(5)
    assert lent_from(Unwell(again, again)).into(memoryview(room)) == 5
    assert room == b"there"
