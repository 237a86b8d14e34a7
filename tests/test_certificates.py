"""When TLS certificates end: what is told of our own, of those we trust, of nodes', and of those that callers show."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pacs import admin
from pacs.certificates import known_certificates
from pacs.scp.reasons import ending
from pacs.tls import Credentials
from storage.archive import Archive
from storage.index.ae import AeTitle, add_ae_title
from storage.index.associations import Wanted, search
from tests.support.dimse_server import wait_until
from tests.support.secure import Papers, dcmtk, secured

DAY = 86_400.0


@pytest.mark.parametrize(
    ("days", "text"),
    [
        (None, ""),
        (31, ""),
        (29.5, "ends on 1970-04-10, in 29 days"),
        (1.5, "ends on 1970-03-13, in 1 day"),
        (0.5, "ends on 1970-03-12, in 0 days"),
        (0, "has ended on 1970-03-12"),
        (-5, "has ended on 1970-03-07"),
    ],
)
def test_ending(days: float | None, text: str) -> None:
    now = 70 * DAY
    assert ending(None if days is None else now + days * DAY, now) == text


def test_every_certificate_is_listed(papers: Papers, tmp_path: Path) -> None:
    """Those of tests end in 10 days, their authority in 30."""
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    old = papers.authority.sign("old node", expired=True)
    nodes = [AeTitle("OLD", "h", 1, tls_certificate=old.pem), AeTitle("PLAIN", "h", 1)]
    found = known_certificates(papers.credentials(), nodes)
    assert [(one.whose, one.subject) for one in found] == [
        ("node OLD", "CN=old node"),
        ("PACS_DIMSE_TLS_CERTIFICATE", "CN=server"),
        ("PACS_DIMSE_TLS_CA", "CN=Test CA"),
    ]
    assert "it has ended on " in found[0].todo
    assert found[1].todo.endswith("days: renew it")
    assert known_certificates(papers.credentials(), nodes, now=0.0)[0].todo == ""
    for file, says in ((nonsense, "give it in PEM form"), (tmp_path / "none.pem", "it cannot be read (No such file or directory)")):
        (unread,) = known_certificates(Credentials(file), [])
        assert (unread.subject, unread.ends_at, says in unread.todo) == ("", None, True)
    assert known_certificates(Credentials(), []) == []


def test_the_page_and_the_api_warn(archive: Archive, papers: Papers) -> None:
    credentials = papers.credentials(authorities=None)
    routes = admin.routes(archive, calling="LIGHTBOX", credentials=credentials)
    routes += admin.page_routes(archive, calling="LIGHTBOX", unknown_callers="ask", credentials=credentials)
    with TestClient(Starlette(routes=routes), base_url="http://pacs.test") as web:
        (one,) = web.get("/api/certificates").json()
        assert (one["whose"], one["subject"]) == ("PACS_DIMSE_TLS_CERTIFICATE", "CN=server")
        assert one["todo"].endswith(": renew it")
        page = web.get("/admin/").text
        assert f"The certificate CN=server of PACS_DIMSE_TLS_CERTIFICATE: {one['todo']}." in page
        assert one["ends"][:10] in page


def test_a_caller_whose_certificate_ends_soon_is_let_in_and_told(archive: Archive, papers: Papers) -> None:
    add_ae_title(archive.index, AeTitle("ECHOSCU", "", 0, certificates=(papers.client.pem,)))
    with secured(archive, papers.credentials()) as server:
        assert dcmtk("echoscu", server.tls, papers).returncode == 0
        wait_until(lambda: any(one.seconds is not None for one in search(archive.index, Wanted())))
    (entry,) = search(archive.index, Wanted())
    assert entry.reason.startswith("its certificate ends on ")
    assert entry.reason.endswith("renew it at the sender, and accept the new one here if it is tied to this one")
