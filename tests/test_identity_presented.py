"""Who we say that we are when we call a node (PS3.7 D.3.3.7): kept and never shown, presented, confirmed or not, and refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from starlette.applications import Starlette
from starlette.testclient import TestClient
from typer.testing import CliRunner

from pacs import admin, diagnosis
from pacs.cli import app
from pacs.scp.journal import Journal
from pacs.scu.associating import Proposal, Rejection, associate
from pacs.scu.nodes import destination_of
from pacs.tls import Credentials
from storage.archive import Archive
from storage.errors import BadRequest, NotFound
from storage.index import Index
from storage.index.ae import AeTitle, add_ae_title, ae_title_of, remove_ae_title
from storage.index.associations import Direction, Entry, Wanted, search, write
from storage.index.identities import Identity, IdentityKind, identities, identity_of, set_identity
from tests.support.dimse_peer import IMPLICIT, VERIFICATION
from tests.support.dimse_server import serving
from tests.test_identity import Two

PASSCODE = Identity("anna", "sesame", confirm=True)
WRONG = Identity("anna", "guessed", confirm=True)
PLAIN = (Proposal(VERIFICATION, (IMPLICIT,)),)


class Known(Two):
    """As `Two`, whose passcode is another."""

    def by_passcode(self, name: str, passcode: bytes) -> Any:
        return super().by_passcode(name, b"secret" if passcode == b"sesame" else b"")


def called(archive: Archive, port: int, identity: Identity | None) -> list[diagnosis.Step]:
    """C-ECHO to the node there, of which we are that."""
    add_ae_title(archive.index, AeTitle("LIGHTBOX", "127.0.0.1", port))
    set_identity(archive.index, "LIGHTBOX", identity)
    node = ae_title_of(archive.index, "LIGHTBOX")
    assert node is not None
    steps = diagnosis.echo_node(node, identity_of(archive.index, "LIGHTBOX"), calling="OTHER", credentials=Credentials())
    return list(steps)


@pytest.mark.parametrize(
    ("identity", "text"),
    [
        (Identity("anna"), "user name: LIGHTBOX was told, and not asked to confirm it"),
        (Identity("anna", confirm=True), "user name: LIGHTBOX confirms it"),
        (PASSCODE, "user name and passcode: LIGHTBOX confirms it; without TLS who listens on the way can read it"),
        (Identity(token="e30.e30.", confirm=True), "JSON web token: LIGHTBOX confirms it; without TLS who listens on the way can read it"),
        (replace(PASSCODE, confirm=False), "user name and passcode: LIGHTBOX was told, and not asked to confirm it; without TLS who listens on the way can read it"),
    ],
)
def test_our_own_front_believes_it(archive: Archive, identity: Identity, text: str) -> None:
    with serving(archive, users=Known()) as server:
        steps = called(archive, server.port, identity)
    assert [(step.name, step.ok) for step in steps] == [(name, True) for name in ("name", "port", "association", "user identity", "echo")]
    assert steps[3].text == text


@pytest.mark.parametrize("identity", [WRONG, Identity(token="e30.x."), Identity(token="e30.x.", confirm=True)])
def test_our_own_front_does_not(archive: Archive, identity: Identity) -> None:
    with serving(archive, users=Known()) as server:
        *_, last = called(archive, server.port, identity)
    assert (last.name, last.ok) == ("association", False)
    assert last.text == (
        f"LIGHTBOX rejects the association: it gives no reason, as who does not believe the {identity.kind} that it is told does:"
        " have it right there, or anew here with pacs ae identity LIGHTBOX"
    )


def test_a_node_that_wants_to_know_and_is_not_told(archive: Archive) -> None:
    with serving(archive, user_identity="required") as server:
        *_, last = called(archive, server.port, None)
    assert (last.name, last.ok) == ("association", False)
    assert "have it told with pacs ae identity LIGHTBOX" in last.text


def test_a_node_that_checks_nothing(archive: Archive) -> None:
    """It may go on without confirming, and so do we; both the echo and the log say so."""
    lines: list[Entry] = []
    with serving(archive) as server:
        steps = called(archive, server.port, PASSCODE)
        assert steps[3].text.startswith("user name and passcode: LIGHTBOX was told, and does not confirm it as asked: it may not check it at all")
        assert [step.ok for step in steps] == [True] * 5
        journal = Journal(lines.extend)
        destination = destination_of(archive.index, "LIGHTBOX", calling_ae="OTHER", journal=journal)
        assert destination is not None
        associate(destination, PLAIN).release()
        journal.flush()
    (line,) = lines
    assert line.reason == "LIGHTBOX does not confirm who we are (user identity), as it was asked to"


@contextmanager
def pynetdicom(check: Callable[[Any], tuple[bool, bytes | None]]) -> Iterator[tuple[int, list[Any]]]:
    """An acceptor of pynetdicom's, and what it was told."""
    told: list[Any] = []

    def identified(event: Any) -> tuple[bool, bytes | None]:
        told.append((event.user_id_type, event.primary_field, event.secondary_field))
        return check(event)

    entity: Any = ApplicationEntity
    entity = entity(ae_title="LIGHTBOX")
    entity.add_supported_context(VERIFICATION)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_USER_ID, identified)])
    try:
        yield server.socket.getsockname()[1], told
    finally:
        server.shutdown()


@pytest.mark.parametrize(
    ("identity", "told", "confirmed"),
    [
        (Identity("Ännchen"), (1, "Ännchen".encode(), None), "not asked to confirm it"),
        # Which it checks, and never confirms.
        (PASSCODE, (2, b"anna", b"sesame"), "does not confirm it as asked"),
        (Identity(token="e30.e30.", confirm=True), (5, b"e30.e30.", None), "LIGHTBOX confirms it"),
    ],
)
def test_pynetdicom_reads_it(archive: Archive, identity: Identity, told: tuple[int, bytes, bytes | None], confirmed: str) -> None:
    with pynetdicom(lambda _event: (True, b"")) as (port, found):
        steps = called(archive, port, identity)
    assert [step.ok for step in steps] == [True] * 5, steps
    ((kind, primary, secondary),) = found
    assert (kind, primary, secondary or None) == told
    assert confirmed in steps[3].text


def test_pynetdicom_refuses_it(archive: Archive) -> None:
    """As for now (2, 2, 1), where PS3.7 D.3.3.7.3 says for good."""
    with pynetdicom(lambda _event: (False, None)) as (port, _):
        *_, last = called(archive, port, WRONG)
        assert "does not believe the user name and passcode" in last.text
        destination = destination_of(archive.index, "LIGHTBOX", calling_ae="OTHER")
        assert destination is not None
        with pytest.raises(Rejection) as raised:
            associate(destination, PLAIN)
    assert raised.value.transient


# Kept, and never shown


@pytest.mark.parametrize(
    "wrong",
    [{}, {"passcode": "x"}, {"user": "a", "token": "t"}, {"user": "a\nb"}, {"user": "a" * 257}, {"token": "x" * 65536}, {"user": "a", "passcode": "b\0"}],
)
def test_what_is_no_identity(wrong: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        Identity(**wrong)  # type: ignore[arg-type]


def test_it_is_kept_beside_its_node_and_goes_with_it(index: Index) -> None:
    with pytest.raises(NotFound):
        set_identity(index, "PACS2", PASSCODE)
    add_ae_title(index, AeTitle("PACS2", "h", 104))
    assert identity_of(index, "PACS2") is None
    set_identity(index, " PACS2 ", PASSCODE)
    assert identities(index) == {"PACS2": PASSCODE}
    add_ae_title(index, AeTitle("PACS2", "other", 105))
    assert identity_of(index, "PACS2") == PASSCODE, "who changes the node need not know it"
    set_identity(index, "PACS2", Identity(token="t"))
    assert identity_of(index, "PACS2 ") == Identity(token="t")
    set_identity(index, "PACS2", None)
    assert identities(index) == {}
    set_identity(index, "PACS2", PASSCODE)
    remove_ae_title(index, "PACS2")
    add_ae_title(index, AeTitle("PACS2", "attacker", 104))
    assert identity_of(index, "PACS2") is None
    add_ae_title(index, AeTitle("WEB", "", 0, url="https://web/dicom"))
    with pytest.raises(BadRequest, match="login"):
        set_identity(index, "WEB", PASSCODE)


def test_it_is_set_by_the_api_and_the_page_and_shown_by_neither(archive: Archive) -> None:
    web = TestClient(Starlette(routes=[*admin.routes(archive, calling="OTHER"), *admin.page_routes(archive, calling="OTHER", unknown_callers="ask")]), base_url="http://pacs.test")
    web.put("/api/aes/PACS2", json={"host": "127.0.0.1", "port": 104})
    given = {"user": "anna", "passcode": " sesame ", "confirm": True}
    shown = {"kind": IdentityKind.PASSCODE, "user": "anna", "confirm": True}
    answer = web.put("/api/aes/PACS2/identity", json=given)
    assert (answer.status_code, answer.json()["identity"]) == (200, shown)
    assert web.put("/api/aes/PACS2", json={"host": "127.0.0.1", "port": 105}).json()["identity"] == shown
    assert identity_of(archive.index, "PACS2") == Identity("anna", " sesame ", confirm=True)
    page = web.get("/admin/aes/PACS2").text
    assert "it is told a user name and passcode (anna), to be confirmed" in page
    for path in ("/api/aes", "/api/aes/PACS2", "/admin/", "/admin/aes/PACS2", "/api/openapi.json"):
        answer = web.get(path)
        assert answer.status_code == 200
        assert "sesame" not in answer.text
    for wrong in ({"user": "anna", "token": "sesame"}, {"user": 7, "passcode": "sesame"}, {"passcode": ["sesame"]}, {}):
        refused = web.put("/api/aes/PACS2/identity", json=wrong)
        assert refused.status_code == 400
        assert "sesame" not in refused.text
    assert web.put("/api/aes/NONE/identity", json=given).status_code == 404
    assert web.delete("/api/aes/PACS2/identity").status_code == 204
    assert web.get("/api/aes/PACS2").json()["identity"] is None


def test_it_is_set_by_the_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("PACS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PACS_DATA_DIR", str(tmp_path))

    def pacs(*words: str, given: str = "") -> str:
        return str(CliRunner().invoke(app, ["ae", *words], input=given).output)

    pacs("add", "PACS2", "127.0.0.1", "104")
    assert pacs("identity", "PACS2") == "PACS2 is told nothing of who we are\n"
    assert pacs("identity", "PACS2", "--user", "anna", "--passcode", "--confirm", given="sesame\n") == "PACS2 is told a user name and passcode (anna), to be confirmed of who we are\n"
    assert "is told a user name and passcode (anna), to be confirmed" in pacs("list")
    assert '"kind": "user name and passcode"' in pacs("list", "--json")
    assert "sesame" not in pacs("list", "--json") + pacs("identity", "PACS2", "--json")
    assert "PACS2 is told a JSON web token" in pacs("identity", "PACS2", "--token", given="e30.e30.\n")
    assert "give a user name" in pacs("identity", "PACS2", "--passcode", given="x\n")
    assert "--user or --token" in pacs("identity", "PACS2", "--confirm")
    assert "there is no node" in pacs("identity", "OTHER", "--user", "anna")
    assert "is told nothing" in pacs("identity", "PACS2", "--none")


def test_no_log_tells_it(archive: Archive, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with serving(archive, users=Known()) as server:
        called(archive, server.port, WRONG)
        journal = Journal(lambda entries: write(archive.index, entries))
        destination = destination_of(archive.index, "LIGHTBOX", calling_ae="OTHER", journal=journal)
        assert destination is not None
        assert "guessed" not in repr(destination)
        with pytest.raises(Rejection):
            associate(destination, PLAIN)
        journal.flush()
    (entry,) = search(archive.index, Wanted(direction=Direction.OUT))
    everything = repr(entry) + caplog.text + "".join(capfd.readouterr())
    assert "does not believe" in entry.reason
    assert "guessed" not in everything
