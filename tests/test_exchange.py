"""The ASGI endpoint: methods, error bodies, streaming, and clients that leave or do not read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import anyio
import orjson
import pytest

from dicomweb.errors import WebRefusal
from dicomweb.exchange import Answer, Call, Endpoint, Handler, call_of
from dicomweb.settings import WebSettings
from storage import errors

SECTION = "PS3.18 10.4"


def scope_for(method: str = "GET", query: bytes = b"", headers: dict[str, str] | None = None, **path: str) -> dict[str, Any]:
    named = {"host": "pacs.example:8080", **(headers or {})}
    return {
        "type": "http",
        "method": method,
        "path": "/dicom-web/x",
        "query_string": query,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in named.items()],
        "path_params": path,
        "scheme": "http",
        "client": ("192.0.2.1", 1),
    }


def ask(endpoint: Endpoint, scope: dict[str, Any], leave_after: int | None = None) -> tuple[int, dict[str, str], bytes, bool]:
    """Status, headers, body, and whether the answer was completed; the client leaves after so many messages."""
    messages: list[Any] = []

    async def run() -> None:
        gone = anyio.Event()

        async def receive() -> dict[str, Any]:
            if leave_after is not None:
                await gone.wait()
                return {"type": "http.disconnect"}
            await anyio.sleep_forever()
            raise AssertionError

        async def send(message: Any) -> None:
            messages.append(message)
            if leave_after is not None and len(messages) >= leave_after:
                gone.set()
                await anyio.sleep(0.01)

        with anyio.fail_after(10):
            await endpoint(scope, receive, send)

    anyio.run(run)
    start, *bodies = messages
    headers = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
    return start["status"], headers, b"".join(body.get("body", b"") for body in bodies), not bodies[-1].get("more_body", False)


def endpoint(body: Any = (b"abc",), status: int = 200, settings: WebSettings | None = None) -> Endpoint:
    answer = Answer(status, {"Content-Type": "text/plain"}, body)
    return Endpoint(settings or WebSettings(), {"GET": Handler(SECTION, read=lambda _call: answer)})


def failing(error: BaseException) -> Endpoint:
    def read(_call: Call) -> Answer:
        raise error

    return Endpoint(WebSettings(), {"GET": Handler(SECTION, read=read)})


@pytest.mark.parametrize(
    ("method", "status", "length", "body"),
    [("GET", 200, "3", b"abc"), ("HEAD", 200, "3", b""), ("OPTIONS", 204, None, b"")],
)
def test_methods(method: str, status: int, length: str | None, body: bytes) -> None:
    found = ask(endpoint(), scope_for(method))
    assert (found[0], found[1].get("content-length"), found[2], found[3]) == (status, length, body, True)


@pytest.mark.parametrize("method", ["OPTIONS", "DELETE", "PUT", "POST", "PATCH", "TRACE"])
def test_what_is_allowed_is_said(method: str) -> None:
    status, headers, _body, _done = ask(endpoint(), scope_for(method))
    assert (status, headers["allow"]) == (204 if method == "OPTIONS" else 405, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.BadRequest("limit is wrong"), 400),
        (errors.NotFound("nothing there"), 404),
        (errors.NotAcceptable("only this"), 406),
        (errors.CannotDecode("damaged"), 406),
        (errors.ObjectMissing("gone"), 500),
        (errors.IndexUnavailable("away"), 503),
        (errors.StoreFull("full"), 507),
        (WebRefusal(415, "no such type", "send another"), 415),
    ],
)
def test_every_error_has_the_one_shape(error: errors.LightboxError, status: int) -> None:
    found, headers, body, _done = ask(failing(error), scope_for())
    shape = orjson.loads(body)
    assert (found, headers["content-type"], headers["cache-control"]) == (status, "application/json", "no-store")
    assert (shape["status"], shape["error"], shape["reference"]) == (status, str(error), SECTION)
    assert sorted(shape) == ["error", "reference", "status", "todo"]
    assert shape["todo"]
    assert ("retry-after" in headers) == (status in (503, 507))


def test_the_unforeseen_is_a_500_that_tells_and_logs_no_values(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        status, _headers, body, _done = ask(failing(KeyError("Doe^John")), scope_for())
    assert status == 500
    assert b"Doe" not in body
    assert "KeyError" in caplog.text
    assert "Doe" not in caplog.text
    assert "Doe" not in str([vars(record) for record in caplog.records])


def pieces(count: int, size: int, closed: list[bool], error: Exception | None = None) -> Iterator[bytes]:
    try:
        for _ in range(count):
            yield bytes(size)
        if error is not None:
            raise error
    finally:
        closed.append(True)


def test_streams_are_gathered_and_closed() -> None:
    closed: list[bool] = []
    status, headers, body, done = ask(endpoint(pieces(5000, 1000, closed)), scope_for())
    assert (status, len(body), done, closed) == (200, 5_000_000, True, [True])
    assert "content-length" not in headers


def test_a_head_request_closes_a_stream_unread() -> None:
    closed: list[bool] = []
    stream = pieces(5, 1000, closed)
    next(stream)
    assert ask(endpoint(stream), scope_for("HEAD"))[2:] == (b"", True)
    assert closed == [True]


def test_a_client_that_leaves_ends_the_stream() -> None:
    closed: list[bool] = []
    _status, _headers, body, done = ask(endpoint(pieces(10_000, 100_000, closed)), scope_for(), leave_after=3)
    assert (done, closed) == (False, [True])
    assert len(body) < 100_000_000


@pytest.mark.parametrize("whole", [False, True])
def test_a_client_that_does_not_read_is_cut_off(whole: bool) -> None:
    closed: list[bool] = []
    sent: list[int] = []
    body = (bytes(1 << 20),) * 3 if whole else pieces(10, 1 << 20, closed)

    async def run() -> None:
        async def receive() -> dict[str, Any]:
            await anyio.sleep_forever()
            raise AssertionError

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                sent.append(len(message["body"]))
                await anyio.sleep_forever()

        with anyio.fail_after(10):
            await endpoint(body, settings=WebSettings(send_idle_seconds=0.05))(scope_for(), receive, send)

    anyio.run(run)
    assert (len(sent), closed) == (1, [] if whole else [True])


def test_an_error_in_mid_stream_leaves_the_answer_unfinished(caplog: pytest.LogCaptureFixture) -> None:
    closed: list[bool] = []
    stream = pieces(4, 1 << 20, closed, errors.ObjectMissing("the object is gone"))
    status, _headers, body, done = ask(endpoint(stream), scope_for())
    assert (status, len(body), done, closed) == (200, 4 << 20, False, [True])
    assert "the object is gone" in caplog.text


@pytest.mark.parametrize(
    ("query", "pairs"),
    [
        (b"", ()),
        (b"PatientName=M%C3%BCller%20*&limit=1", (("PatientName", "Müller *"), ("limit", "1"))),
        (b"a=1&a=2&b", (("a", "1"), ("a", "2"), ("b", ""))),
        (b"accept=multipart/related;%20type=%22image/jls%22", (("accept", 'multipart/related; type="image/jls"'),)),
        (b"x=a+b%2Bc", (("x", "a b+c"),)),
    ],
)
def test_query_strings(query: bytes, pairs: tuple[tuple[str, str], ...]) -> None:
    assert call_of(scope_for(query=query), WebSettings()).query == pairs


@pytest.mark.parametrize(
    ("scope", "reason"),
    [
        (scope_for(query=b"a=%FF"), "UTF-8"),
        (scope_for(query=b"a=\xff"), "UTF-8"),
        (scope_for(query=b"&".join([b"a=1"] * 201)), "parameters"),
        (scope_for(study="1.2\x00.3"), "control"),
    ],
)
def test_requests_that_are_not_understood(scope: dict[str, Any], reason: str) -> None:
    status, _headers, body, _done = ask(endpoint(), scope)
    assert status == 400
    assert reason in orjson.loads(body)["error"]


@pytest.mark.parametrize(
    ("host", "settings", "root"),
    [
        ("pacs.example:8080", WebSettings(), "http://pacs.example:8080/dicom-web"),
        ("[::1]:80", WebSettings(), "http://[::1]:80/dicom-web"),
        ("evil\"><script>", WebSettings(), "/dicom-web"),
        ("a b", WebSettings(), "/dicom-web"),
        ("pacs", WebSettings(public_url="https://public.example/", path="/dw"), "https://public.example/dw"),
    ],
)
def test_the_root_for_retrieve_urls(host: str, settings: WebSettings, root: str) -> None:
    assert call_of(scope_for(headers={"host": host}), settings).root == root


@pytest.mark.parametrize(
    ("query", "header", "types"),
    [
        (b"", "", []),
        (b"", "image/png", ["image/png"]),
        (b"accept=image/jpeg", 'multipart/related; type="application/octet-stream"', ["image/jpeg"]),
        (b"accept=application/dicom+json", "text/html", ["application/dicom+json"]),
        (b"accept=application/dicom%2Bjson", "text/html", ["application/dicom+json"]),
    ],
)
def test_the_accept_parameter_wins(query: bytes, header: str, types: list[str]) -> None:
    scope = scope_for(query=query, headers={"accept": header} if header else {})
    assert [accepted.type for accepted in call_of(scope, WebSettings()).accepted()] == types


@pytest.mark.parametrize(
    ("pieces", "writes"),
    [
        ([], [0]),
        ([3], [3]),
        ([100] * 1000, [100_000]),
        # A frame in multipart is not copied to be joined with its head and its end.
        ([200, 524_288, 40], [200, 524_288, 40]),
        ([60_000] * 20, [480_000, 480_000, 240_000]),
        ([70_000, 10, 10, 70_000], [70_000, 20, 70_000]),
    ],
)
def test_small_pieces_are_written_together(pieces: list[int], writes: list[int]) -> None:
    sent: list[int] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            sent.append(len(message["body"]))

    async def receive() -> Any:
        await anyio.sleep_forever()

    anyio.run(endpoint(tuple(bytes(size) for size in pieces)), scope_for("GET"), receive, send)
    assert sent == writes
