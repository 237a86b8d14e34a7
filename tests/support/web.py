"""DICOMweb for tests: the routes over an archive, in this process or behind a real server, and multipart by hand."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.testclient import TestClient

from dicomweb.app import routes
from dicomweb.settings import WebSettings
from storage.archive import Archive


@dataclass(frozen=True)
class Part:
    """One part of a multipart answer: header names in lower case."""

    headers: dict[str, str]
    content: bytes

    @property
    def content_type(self) -> str:
        return self.headers["content-type"]


def application(archive: Archive, settings: WebSettings | None = None) -> Starlette:
    """The DICOMweb routes alone."""
    return Starlette(routes=routes(archive, settings))


def client(archive: Archive, settings: WebSettings | None = None) -> TestClient:
    """A client whose requests go straight into the routes."""
    return TestClient(application(archive, settings), base_url="http://pacs.test/dicom-web")


@contextlib.contextmanager
def serving(archive: Archive, settings: WebSettings | None = None) -> Iterator[str]:
    """The routes behind uvicorn on a free port of 127.0.0.1; yields the URL of the DICOMweb root."""
    config = uvicorn.Config(application(archive, settings), log_level="warning", access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < deadline, "uvicorn did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/dicom-web"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def related(instances: Sequence[bytes], boundary: str = "boundary") -> tuple[bytes, dict[str, str]]:
    """A STOW-RS body and its headers."""
    head = b"\r\n--" + boundary.encode() + b"\r\nContent-Type: application/dicom\r\n\r\n"
    body = b"".join(head + instance for instance in instances) + b"\r\n--" + boundary.encode() + b"--\r\n"
    return body, {"Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}'}


def stow(web: Any, instances: Sequence[bytes], path: str = "studies") -> httpx2.Response:
    """POST instances in one request."""
    body, headers = related(instances)
    answer: httpx2.Response = web.post(path, content=body, headers=headers)
    return answer


def parts(answer: httpx2.Response) -> list[Part]:
    """The parts of a multipart/related answer, taken apart by nothing but its boundary."""
    content_type = answer.headers["content-type"]
    assert content_type.startswith("multipart/related"), content_type
    delimiter = b"--" + content_type.rpartition("boundary=")[2].strip('"').encode()
    first, *rest = answer.content.split(delimiter)
    assert first == b""
    assert rest.pop() == b"--\r\n"
    return [_part(piece) for piece in rest]


def _part(piece: bytes) -> Part:
    assert piece.startswith(b"\r\n")
    head, blank, content = piece.removesuffix(b"\r\n").removeprefix(b"\r\n").partition(b"\r\n\r\n")
    assert blank
    lines = (line.partition(": ") for line in head.decode("latin-1").split("\r\n"))
    headers = {name.lower(): value for name, _colon, value in lines}
    assert int(headers.get("content-length", len(content))) == len(content)
    return Part(headers, content)


class Watched:
    """What it stands for, with the names of everything asked of it."""

    def __init__(self, behind: Any) -> None:
        self.asked: list[str] = []
        self._behind = behind

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)
        return getattr(self._behind, name)
