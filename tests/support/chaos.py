"""A small HTTP proxy that does to exchanges what networks and servers do: cut, lose, delay, garble, refuse."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# Said of one connection to the next server, not of the message (RFC 9110 7.6.1).
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "expect", "te", "trailer", "upgrade"})


@dataclass(frozen=True)
class Request:
    """One request as it came from the client."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def header(self, name: str) -> str | None:
        """A header's value, however its name is spelled."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), None)


@dataclass(frozen=True)
class Answer:
    """One answer. With `cut_after` the connection is closed after that many bytes of the body."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_after: int | None = None


Forward = Callable[[Request], Answer]
# What becomes of a request; None closes the connection without an answer.
Fault = Callable[[Request, Forward], Answer | None]


def passing(request: Request, forward: Forward) -> Answer:
    """No fault at all."""
    return forward(request)


def refusing(status: int, code: str) -> Fault:
    """Answer every request with `status` and an S3 error document, as an overloaded or older server does."""
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>chaos</Message></Error>'.encode()
    return lambda request, forward: Answer(status, {"Content-Type": "application/xml"}, body)


def cutting(after: int) -> Fault:
    """Close the connection `after` bytes into each answer's body."""
    return lambda request, forward: replace(forward(request), cut_after=after)


def losing(request: Request, forward: Forward) -> None:
    """Let the request be carried out and lose its answer."""
    forward(request)


def garbling(request: Request, forward: Forward) -> Answer:
    """Flip a bit in the middle of what is sent."""
    middle = len(request.body) // 2
    flipped = request.body[:middle] + bytes([request.body[middle] ^ 1]) + request.body[middle + 1 :]
    return forward(replace(request, body=flipped))


def only(method: str, fault: Fault, *, times: int | None = None) -> Fault:
    """`fault` for requests with this method that have a body or ask for one, at most `times`; else none."""
    left = [times]

    def chosen(request: Request, forward: Forward) -> Answer | None:
        if request.method != method or left[0] == 0 or (method == "PUT" and not request.body):
            return forward(request)
        if left[0] is not None:
            left[0] -= 1
        return fault(request, forward)

    return chosen


class ChaosProxy:
    """A proxy before the server at `upstream` (an http URL). Set `fault` at any time; `requests` is what came."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        assert parts.hostname is not None
        self._upstream = (parts.hostname, parts.port or 80)
        self.fault: Fault = passing
        self.requests: list[Request] = []
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="chaos", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def forward(self, request: Request) -> Answer:
        """Carry the request out."""
        connection = http.client.HTTPConnection(*self._upstream, timeout=30)
        try:
            headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
            connection.request(request.method, request.path, body=request.body or None, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
            return Answer(answer.status, kept, body)
        finally:
            connection.close()

    def __enter__(self) -> ChaosProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop listening: from now on connections are refused."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gives up while it is being answered is what these tests are about."""


def _handler(proxy: ChaosProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: object) -> None:
            """Tests read `requests` instead."""

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            request = Request(self.command, self.path, dict(self.headers.items()), self.rfile.read(length))
            proxy.requests.append(request)
            answer = proxy.fault(request, proxy.forward)
            if answer is None:
                self.close_connection = True
            else:
                self._send(answer)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

        def _send(self, answer: Answer) -> None:
            self.send_response_only(answer.status)
            for name, value in answer.headers.items():
                if name.lower() != "content-length":
                    self.send_header(name, value)
            length = answer.headers.get("Content-Length") or answer.headers.get("content-length")
            self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body[: answer.cut_after])
            self.close_connection = self.close_connection or answer.cut_after is not None

    return Handler


@contextlib.contextmanager
def before(upstream: str) -> Iterator[ChaosProxy]:
    """A running proxy before `upstream`."""
    with ChaosProxy(upstream) as proxy:
        yield proxy
