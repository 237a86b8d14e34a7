"""Instances to a node over the web, by STOW-RS: Orthanc's DICOMweb plug-in, this archive itself, and servers that refuse, each in its way."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pacs import diagnosis
from pacs.scu import web as client
from pacs.scu.web import WebDestination
from pacs.tls import Credentials
from storage.archive import Archive
from storage.errors import BadRequest
from storage.index.ae import AeTitle, add_ae_title, ae_title_of
from storage.rules import Route, Rule, Sending, put_rule
from storage.transfer_records import State
from storage.transfers import Transfers
from storage.types import Scope
from tests.support import orthanc, web
from tests.support.archive import Store, close_archive, open_archive
from tests.support.commands import Pacs
from tests.support.dimse_server import bare, wait_until
from tests.support.made import instance, rle
from tests.test_routing import come, shown, until, working

LOGIN = {"Authorization": f"Basic {base64.b64encode(b'lightbox:secret').decode()}"}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_PAUSES", (0.01, 0.02))


def send(archive: Archive, *, commit: bool = False) -> None:
    Transfers(archive.index).send(Scope("1.2.3"), "WEB", sending=Sending(commit=commit))


def test_orthanc_lets_us_in_by_a_login_and_stores(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a route, as it comes; compressed and not; without the login it is said what is missing, and it goes on when it is there."""
    users = {"AuthenticationEnabled": True, "RegisteredUsers": {"lightbox": "secret"}}
    with orthanc.running(tmp_path / "orthanc", **users) as there, working(archive, waits=(0.2, 0.2)):
        add_ae_title(archive.index, AeTitle("WEB", "", 0, url=there.web, login="OTHER"))
        put_rule(archive.index, Rule("all", Route(to="WEB")))
        come(archive, instance(1))
        come(archive, rle(2))
        (failed,) = until(archive, State.FAILED)
        assert "WEB is let in by LIGHTBOX_LOGIN_OTHER, which is not set here" in failed.error
        monkeypatch.setenv("LIGHTBOX_LOGIN_OTHER", "lightbox:wrong")
        Transfers(archive.index).again(failed.number)
        (failed,) = until(archive, State.FAILED)
        assert "WEB does not let us in (401): is LIGHTBOX_LOGIN_OTHER right" in failed.error
        monkeypatch.setenv("LIGHTBOX_LOGIN_OTHER", "lightbox:secret")
        Transfers(archive.index).again(failed.number)
        (done,) = until(archive, State.DONE)
        assert (done.completed, done.failed) == (2, 0)
        assert there.instances(headers=LOGIN) == ["1.2.3.4.1", "1.2.3.4.2"]
        (step,) = diagnosis.echo_node(known(archive), calling="LIGHTBOX", credentials=Credentials())
        assert (step.ok, step.name) == (True, "DICOMweb")


def known(archive: Archive) -> AeTitle:
    found = ae_title_of(archive.index, "WEB")
    assert found is not None
    return found


def test_another_archive_of_ours_stores_what_comes_byte_for_byte(archive: Archive, store: Store, tmp_path: Path) -> None:
    for number in range(1, 8):
        store(instance(number))
    other = open_archive(tmp_path / "other")
    with web.serving(other) as url, working(archive):
        add_ae_title(archive.index, AeTitle("WEB", "", 0, url=url))
        send(archive, commit=True)
        (done,) = until(archive, State.DONE)
        assert done.completed == 7
        assert done.error == "sent; WEB is not asked for storage commitment, for it is sent to by STOW-RS"
    ours = {one.uids.instance: one.sha256 for one in archive.index.locate(Scope("1.2.3"))}
    assert {one.uids.instance: one.sha256 for one in other.index.locate(Scope("1.2.3"))} == ours
    close_archive(other)


def test_what_the_other_archive_has_otherwise_fails_with_its_reason(archive: Archive, store: Store, tmp_path: Path) -> None:
    store(instance(1, PatientID="P1"))
    store(instance(2))
    other = open_archive(tmp_path / "other")
    with web.serving(other) as url, working(archive):
        assert web.stow(web.client(other), [instance(1, PatientID="ELSE")]).status_code == 200
        add_ae_title(archive.index, AeTitle("WEB", "", 0, url=url))
        send(archive)
        (failed,) = until(archive, State.FAILED)
    assert failed.completed == 1
    assert [(one.instance, one.status) for one in failed.failures] == [("1.2.3.4.1", 0x0111)]
    close_archive(other)


Respond = Callable[[int], tuple[int, bytes]]


@contextmanager
def server(respond: Respond) -> Iterator[tuple[str, list[int]]]:
    """The URL of a server that answers the nth POST so, and the lengths of the bodies that came."""
    bodies: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            bodies.append(len(self.rfile.read(int(self.headers["Content-Length"]))))
            status, body = respond(len(bodies))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{found.server_port}/dicom-web", bodies
    finally:
        found.shutdown()
        thread.join(10)
        found.server_close()


WARNED = b'{"00081199": {"vr": "SQ", "Value": [{"00081196": {"vr": "US", "Value": [45056]}}]}}'


@pytest.mark.parametrize(
    ("respond", "state", "tries", "says"),
    [
        (lambda _: (200, b"{}"), State.DONE, 1, ""),
        (lambda _: (202, WARNED), State.DONE, 1, ""),
        (lambda _: (202, b"<xml/>"), State.DONE, 1, ""),
        (lambda number: (503, b"") if number == 1 else (200, b"{}"), State.DONE, 2, ""),
        (lambda number: (409, b"not json") if number == 1 else (200, b"{}"), State.DONE, 2, ""),
        (lambda _: (404, b""), State.FAILED, 3, "WEB answers 404: is http://127.0.0.1"),
        (lambda _: (302, b""), State.FAILED, 3, "the root of its DICOMweb service?"),
        (lambda _: (401, b""), State.FAILED, 3, "does not let us in (401): name a login: pacs ae add WEB --login NAME"),
        (lambda _: (500, b""), State.FAILED, 3, "WEB answers 500; its own log says why"),
        (lambda _: (503, b""), State.FAILED, 9, "WEB answers 503; its own log says why"),
    ],
)
def test_answers(archive: Archive, store: Store, respond: Respond, state: State, tries: int, says: str) -> None:
    """Three tries of the transfer, then an administrator; within one, what is overloaded is asked three times."""
    store(instance())
    with server(respond) as (url, bodies), working(archive, waits=(0.05, 0.05)):
        add_ae_title(archive.index, AeTitle("WEB", "", 0, url=url))
        send(archive)
        (ended,) = until(archive, state, seconds=20)
    assert says in ended.error
    assert len(bodies) == tries


def test_a_node_that_is_away_is_said_to_be(archive: Archive, store: Store) -> None:
    store(instance())
    add_ae_title(archive.index, AeTitle("WEB", "", 0, url="http://127.0.0.1:9/dicom-web"))
    with working(archive):
        send(archive)
        wait_for = "WEB at http://127.0.0.1:9/dicom-web cannot be reached"
        wait_until(lambda: wait_for in shown(archive)[0].error)
    (step,) = diagnosis.echo_node(known(archive), calling="LIGHTBOX", credentials=Credentials())
    assert (step.ok, wait_for in step.text) == (False, True)


# pacs send


def test_the_command_sends_files_and_studies(pacs: Pacs, tmp_path: Path) -> None:
    """With the report that it has for nodes of DIMSE; what is only a data set goes as a file that has what a file must have."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(1, 6):
        (folder / f"{number}.dcm").write_bytes(instance(number))
    (folder / "6.dcm").write_bytes(bare(instance(6)))
    (folder / "7.dcm").write_bytes(instance(7)[128:])
    (folder / "notes.txt").write_text("no image")
    (folder / "broken.dcm").write_bytes(bytes(128) + b"DICM" + b"\2\0\0\0UL\4\0")
    other = open_archive(tmp_path / "other")
    with web.serving(other) as url:
        pacs("ae", "add", "WEB", "--url", url)
        sent: Any = pacs.json("send", "WEB", str(folder), "--parallel", "2", status=1)
        assert (sent["completed"], sent["warning"], sent["failed"]) == (7, 0, 1)
        assert [Path(one["instance"]).name for one in sent["failures"]] == ["broken.dcm"]
        assert other.index.counts().instances == 7
        pacs("import", str(folder / "1.dcm"), str(folder / "2.dcm"))
        whole = {"completed": 2, "warning": 0, "failed": 0, "failures": []}
        assert pacs.json("send", "WEB", "--study", "1.2.3", "--series", "1.2.3.4") == whole
        (folder / "1.dcm").write_bytes(instance(1, PatientID="ELSE"))
        sent = pacs.json("send", "WEB", str(folder / "1.dcm"), status=1)
        assert sent["failures"] == [{"instance": "1.2.3.4.1", "reason": "WEB does not store it: 0111"}]
    close_archive(other)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("send", "WEB", "--study", "1.2", "--commit"), "leave --commit out"),
        (("send", "WEB", "--study", "1.2"), "nothing is stored of study 1.2"),
        (("find", "WEB", "PatientID=1"), "it can only be sent to"),
        (("fetch", "WEB", "--study", "1.2"), "it can only be sent to"),
    ],
)
def test_what_the_command_refuses(pacs: Pacs, arguments: tuple[str, ...], says: str) -> None:
    pacs("ae", "add", "WEB", "--url", "http://127.0.0.1:9/dicom-web")
    assert says in pacs(*arguments, status=1)


def test_the_command_says_that_a_node_is_away(pacs: Pacs, tmp_path: Path) -> None:
    (tmp_path / "1.dcm").write_bytes(instance())
    pacs("ae", "add", "WEB", "--url", "http://127.0.0.1:9/dicom-web")
    assert "1.2.3.4.1: WEB at http://127.0.0.1:9/dicom-web cannot be reached" in pacs("send", "WEB", str(tmp_path / "1.dcm"), status=1)


@pytest.mark.parametrize(
    ("node", "says"),
    [
        ({"url": "ftp://x/y"}, "as https://HOST/PATH"),
        ({"url": "https://user:secret@x/y"}, "without user, password or query"),
        ({"url": "https://x/y?token=1"}, "without user, password or query"),
        ({"url": "https://x/y", "host": "x", "port": 104}, "either host and port"),
        ({"url": "https://x/y", "login": "aws secret"}, "capitals, digits and underscores"),
    ],
)
def test_what_is_no_node(archive: Archive, node: dict[str, Any], says: str) -> None:
    given = {"host": "", "port": 0, **node}
    with pytest.raises(BadRequest, match=says):
        add_ae_title(archive.index, AeTitle("WEB", **given))


@pytest.mark.parametrize(
    ("said", "header"),
    [
        ("Bearer abc.def", "Bearer abc.def"),
        ("Basic bGlnaHRib3g6c2VjcmV0", "Basic bGlnaHRib3g6c2VjcmV0"),
        ("lightbox:secret", "Basic bGlnaHRib3g6c2VjcmV0"),
    ],
)
def test_how_we_are_let_in(monkeypatch: pytest.MonkeyPatch, said: str, header: str) -> None:
    monkeypatch.setenv("LIGHTBOX_LOGIN_X", said)
    assert WebDestination("WEB", "https://x/y", "X").headers == {"Authorization": header}
