"""How much of a large answer passes through this process, counted: what lies in files is left to the server to send from there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from dicomweb import exchange
from dicomweb.ahead import Ahead
from dicomweb.bodies import EAGER, IN_FILE, Body, sent
from storage.archive import Archive
from storage.blobs.in_file import EXTENSION, InFile, in_hand
from storage.errors import ObjectMissing
from storage.pieces import Extent
from storage.types import Located, Scope
from tests.support import made, web
from tests.support.archive import Store

# Of 1.2 million pixels of two bytes.
SIDE = 1100
FRAME = SIDE * SIDE * 2
ONE = "studies/1.2.3/series/1.2.3.4/instances/1.2.3.4.1"
AS_STORED = b"transfer-syntax=*"
PARTS, FILE, FRAMES = (
    b'multipart/related; type="application/dicom"; ' + AS_STORED,
    b"application/dicom; " + AS_STORED,
    b'multipart/related; type="application/octet-stream"; ' + AS_STORED,
)
URI = "requestType=WADO&studyUID=1.2.3&seriesUID=1.2.3.4&objectUID=1.2.3.4.1&contentType=application/dicom"


def asked(app: Starlette, path: str, query: str = "", **headers: bytes) -> tuple[int, list[int], bytes]:
    """The status, the lengths of what is left in files, and the rest of the answer, of a server that can send from files."""
    in_files: list[int] = []
    rest = bytearray()
    status: list[int] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            status.append(message["status"])
        for piece in message["body"] if message["type"] == EXTENSION else (message.get("body", b""),):
            if isinstance(piece, InFile):
                in_files.append(len(piece))
                piece.close()
            else:
                rest.extend(piece)

    async def receive() -> Any:
        await asyncio.sleep(3600)

    scope = {
        "type": "http", "method": "GET", "path": path, "query_string": query.encode(), "root_path": "", "scheme": "http",
        "headers": [(b"host", b"pacs.test"), *((name.encode(), value) for name, value in headers.items())],
        "client": ("127.0.0.1", 1), "extensions": {EXTENSION: {}},
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    return status[0], in_files, bytes(rest)


# What is asked for, how many pieces stay in files, and how many bytes of the answer do not.
CASES: tuple[tuple[str, str, str, dict[str, bytes], int, int], ...] = (
    ("a study", "/dicom-web/studies/1.2.3", "", {"accept": PARTS}, 2, 2 * 2000),
    ("an instance in parts", f"/dicom-web/{ONE}", "", {"accept": PARTS}, 1, 2000),
    ("an instance alone", f"/dicom-web/{ONE}", "", {"accept": FILE}, 1, 0),
    ("a range of it", f"/dicom-web/{ONE}", "", {"accept": FILE, "range": b"bytes=1000-4000999"}, 1, 0),
    ("by WADO-URI", "/wado", URI, {}, 1, 0),
    ("two frames", f"/dicom-web/{ONE}/frames/1,3", "", {"accept": FRAMES}, 2, 2000),
)


@pytest.mark.parametrize(("path", "query", "headers", "in_files", "rest"), [pytest.param(*case[1:], id=case[0]) for case in CASES])
def test_what_lies_in_files_is_not_copied(
    archive: Archive, store: Store, path: str, query: str, headers: dict[str, bytes], in_files: int, rest: int
) -> None:
    for number in (1, 2):
        store(made.instance(number, frames=3, side=SIDE))
    status, found, bytes_ = asked(web.application(archive), path, query, **headers)
    assert status in (200, 206)
    assert len(found) == in_files
    assert all(length >= FRAME for length in found)
    assert len(bytes_) <= rest


def test_what_is_small_is_read(archive: Archive, store: Store) -> None:
    store(made.instance())
    status, found, bytes_ = asked(web.application(archive), f"/dicom-web/{ONE}", accept=FILE)
    assert (status, found, len(bytes_) > 300) == (200, [], True)


class Files:
    """A store whose objects are files of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def opened(self, key: str) -> int:
        try:
            return os.open(self.folder / key, os.O_RDONLY)
        except FileNotFoundError:
            raise ObjectMissing("gone", key) from None


@pytest.fixture
def files(tmp_path: Path) -> Any:
    for number in range(100):
        (tmp_path / f"{number}").write_bytes(b"head" + bytes([number]) * IN_FILE)
    return Files(tmp_path)


def test_an_object_that_ends_early_is_found_out_before_its_first_byte(files: Any) -> None:
    whole = Extent("1", 4, IN_FILE)
    assert b"".join(in_hand(sent(files, Body((b"x", whole))))) == b"x" + b"\1" * IN_FILE
    with pytest.raises(ObjectMissing):
        list(sent(files, Body((Extent("1", 4, IN_FILE + 1),))))
    with pytest.raises(ObjectMissing):
        list(sent(files, Body((Extent("1", 1 << 30, IN_FILE),))))


def located(number: int) -> Located:
    return Located(Scope, "", "", str(number), IN_FILE + 4, "", 4, 1)  # type: ignore[arg-type]


def descriptors(folder: Path) -> int:
    return sum(os.path.realpath(one).startswith(str(folder)) for one in Path("/proc/self/fd").iterdir())


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[InFile]]:
    """What is asked for early."""
    asked_for: list[InFile] = []
    monkeypatch.setattr(InFile, "wanted_soon", lambda self: asked_for.append(self))
    yield asked_for
    asked_for.clear()


@pytest.mark.parametrize(("cold", "early"), [(False, 0), (True, 98)])
def test_files_are_asked_for_early_where_the_disk_is_waited_for(
    files: Any, wanted: list[InFile], monkeypatch: pytest.MonkeyPatch, cold: bool, early: int
) -> None:
    """One hundred files: none more than needed where they are in memory; else all but the first, whose turn it was, and one
    that is not there."""
    (files.folder / "50").unlink()
    monkeypatch.setattr(InFile, "before", lambda self: (os.pread(self.descriptor, self.offset, 0), cold))
    ahead = Ahead(files, map(located, range(100)), lambda _: True)
    seen = []
    for one, file in ahead:
        assert descriptors(files.folder) <= 10
        seen.append(one.object_key)
        if file is not None:
            assert ahead.head(file) == b"head"
            assert len(file) == IN_FILE
            file.close()
    assert seen == [str(number) for number in range(100)]
    assert len(wanted) == early


def test_the_system_says_what_it_has_in_memory(files: Any) -> None:
    file = InFile(files.opened("1"), 4, IN_FILE)
    assert file.before()[0] == b"head"
    if hasattr(os, "RWF_NOWAIT"):
        assert file.before() == (b"head", False)
    file.wanted_soon()
    file.close()


def test_a_server_that_cannot_send_from_files_holds_no_more_than_it_pulls(tmp_path: Path) -> None:
    """Over TLS, above all: a file of any length is read a little at a time."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    pieces = in_hand(iter((InFile(os.open(path, os.O_RDONLY), 0, 64 << 20),)))
    sizes = []
    more = True
    while more:
        writes, more = exchange._pulled(pieces)
        sizes.append(sum(map(len, writes)))
    assert sum(sizes) == 64 << 20
    assert max(sizes) <= 2 * EAGER
