"""Behind a reverse proxy: what is believed of Forwarded and X-Forwarded-*, of whom, and the URLs that come of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from dicomweb.settings import WebSettings
from pacs.forwarded import Forwarded, Origin, Proxies
from storage.archive import Archive
from storage.types import Content, Source
from tests.support import made, web

TRUSTED = ("10.0.0.0/8", "192.168.1.5", "fd00::/8")
NEAR, NEXT, CLIENT = "10.0.0.1", "192.168.1.5", "203.0.113.9"

# (who connects, headers, what is made of them)
CASES: list[tuple[str, dict[str, str], Origin | None]] = [
    # One proxy, as nginx, Apache, Traefik and Caddy are set up.
    (NEAR, {"x-forwarded-for": CLIENT, "x-forwarded-proto": "https", "x-forwarded-host": "pacs.example"}, Origin(CLIENT, "https", "pacs.example")),
    (NEAR, {"x-forwarded-for": CLIENT, "x-forwarded-proto": "https"}, Origin(CLIENT, "https")),
    (NEAR, {"x-forwarded-proto": "HTTPS", "x-forwarded-host": "pacs.example:8443"}, Origin("", "https", "pacs.example:8443")),
    (NEAR, {"x-forwarded-proto": "wss"}, Origin("", "https")),
    (NEAR, {}, Origin()),
    # The port, where the host does not say it and the scheme does not mean it.
    (NEAR, {"x-forwarded-proto": "https", "x-forwarded-host": "pacs.example", "x-forwarded-port": "8443"}, Origin("", "https", "pacs.example:8443")),
    (NEAR, {"x-forwarded-proto": "https", "x-forwarded-host": "pacs.example", "x-forwarded-port": "443"}, Origin("", "https", "pacs.example")),
    (NEAR, {"x-forwarded-host": "[2001:db8::1]", "x-forwarded-port": "81"}, Origin("", "", "[2001:db8::1]:81")),
    (NEAR, {"x-forwarded-host": "pacs.example:1", "x-forwarded-port": "2"}, Origin("", "", "pacs.example:1")),
    (NEAR, {"x-forwarded-host": "pacs.example", "x-forwarded-port": "99999999"}, Origin("", "", "pacs.example")),
    # A prefix that the proxy takes off.
    (NEAR, {"x-forwarded-prefix": "/pacs/"}, Origin(prefix="/pacs")),
    (NEAR, {"x-forwarded-prefix": "/a/b-c_d"}, Origin(prefix="/a/b-c_d")),
    # RFC 7239, its own examples and quoting.
    (NEAR, {"forwarded": "for=203.0.113.9;proto=https;host=pacs.example"}, Origin(CLIENT, "https", "pacs.example")),
    (NEAR, {"forwarded": 'For="[2001:db8::1]:4711"; Proto=https; Host="pacs.example:8443"'}, Origin("2001:db8::1", "https", "pacs.example:8443")),
    (NEAR, {"forwarded": "for=_hidden;proto=https"}, Origin("", "https")),
    (NEAR, {"forwarded": "for=unknown, for=203.0.113.9;by=10.0.0.1"}, Origin(CLIENT)),
    # Both kinds, from a proxy that writes both; where they contradict, one of them is the client's own, and neither is believed.
    (NEAR, {"forwarded": "for=203.0.113.9;host=a.example", "x-forwarded-for": CLIENT, "x-forwarded-proto": "https"}, Origin(CLIENT, "", "a.example")),
    (NEAR, {"forwarded": "host=a.example", "x-forwarded-prefix": "/p"}, Origin("", "", "a.example", "/p")),
    (NEAR, {"forwarded": "host=a.example", "x-forwarded-host": "b.example", "x-forwarded-prefix": "/p"}, None),
    (NEAR, {"forwarded": "for=1.1.1.1;host=evil.example", "x-forwarded-for": CLIENT}, None),
    (NEAR, {"forwarded": "proto=http", "x-forwarded-proto": "https"}, None),
    # Two proxies, both trusted: what the outer one said.
    (NEAR, {"forwarded": "for=203.0.113.9;proto=https;host=pacs.example, for=192.168.1.5;proto=http;host=inner"}, Origin(CLIENT, "https", "pacs.example")),
    (NEAR, {"forwarded": "for=203.0.113.9, for=192.168.1.5;proto=https;host=pacs.example"}, Origin(CLIENT, "https", "pacs.example")),
    (NEAR, {"x-forwarded-for": f"{CLIENT}, {NEXT}", "x-forwarded-proto": "https, http", "x-forwarded-host": "pacs.example, inner"}, Origin(CLIENT, "https", "pacs.example")),
    (NEAR, {"x-forwarded-for": f"{CLIENT}, {NEXT}", "x-forwarded-proto": "https"}, Origin(CLIENT, "https")),
    ("::ffff:10.0.0.1", {"x-forwarded-for": f"{CLIENT}:5000"}, Origin(CLIENT)),
    ("fd00::1", {"x-forwarded-for": "2001:db8::1"}, Origin("2001:db8::1")),
    # Spoofing. A stranger is not believed at all.
    (CLIENT, {"x-forwarded-for": "1.1.1.1", "x-forwarded-host": "evil.example"}, None),
    (CLIENT, {"forwarded": "for=1.1.1.1;host=evil.example"}, None),
    ("192.168.1.6", {"x-forwarded-host": "evil.example"}, None),
    ("testclient", {"x-forwarded-host": "evil.example"}, None),
    # What a client wrote stands left of what the proxy added, and is not reached.
    (NEAR, {"x-forwarded-for": f"10.9.9.9, 1.1.1.1, {CLIENT}", "x-forwarded-proto": "http, https", "x-forwarded-host": "evil.example, pacs.example"}, Origin(CLIENT, "https", "pacs.example")),
    (NEAR, {"forwarded": "for=10.9.9.9;host=evil.example;proto=http, for=203.0.113.9;host=pacs.example;proto=https"}, Origin(CLIENT, "https", "pacs.example")),
    (NEAR, {"forwarded": 'for=1.1.1.1;host="evil.example, for=203.0.113.9;host=pacs.example'}, Origin(CLIENT, "", "pacs.example")),
    # What is no host, scheme or path is not one because a proxy passes it on.
    (NEAR, {"x-forwarded-host": "evil.example/path", "x-forwarded-proto": "javascript", "x-forwarded-prefix": "//evil.example"}, Origin()),
    (NEAR, {"x-forwarded-host": "a b", "x-forwarded-prefix": "/../x"}, Origin()),
    (NEAR, {"x-forwarded-host": "user@evil.example", "x-forwarded-prefix": "/x?y"}, Origin()),
    (NEAR, {"forwarded": "host=\"evil.example\r\nX: y\"", "x-forwarded-prefix": "/x\r\ny"}, Origin()),
    (NEAR, {"forwarded": ";;;=,"}, Origin()),
]


@pytest.mark.parametrize(("peer", "headers", "origin"), CASES)
def test_what_is_believed(peer: str, headers: dict[str, str], origin: Origin | None) -> None:
    assert Proxies(TRUSTED).origin(peer, headers) == origin


@given(st.text(max_size=80), st.text(max_size=40))
def test_anything_is_read_or_not_believed(text: str, other: str) -> None:
    for headers in ({"forwarded": text}, {"x-forwarded-for": text, "x-forwarded-host": other, "x-forwarded-proto": text, "x-forwarded-prefix": other}):
        origin = Proxies(TRUSTED).origin(NEAR, headers)
        assert origin is not None
        assert not any(character in origin.authority + origin.prefix for character in "\r\n \"<>@?#\\")


@pytest.fixture(params=["testclient", NEAR])
def behind(request: pytest.FixtureRequest, archive: Archive) -> Iterator[tuple[str, TestClient]]:
    """The routes, asked by a stranger and by a trusted proxy."""
    application = Forwarded(web.application(archive), TRUSTED)
    with TestClient(application, base_url="http://inner.test/dicom-web", client=(request.param, 50000)) as client:
        yield request.param, client


FORWARDED = {"X-Forwarded-For": CLIENT, "X-Forwarded-Proto": "https", "X-Forwarded-Host": "pacs.example", "X-Forwarded-Prefix": "/imaging"}


def test_every_absolute_url(behind: tuple[str, TestClient]) -> None:
    """RetrieveURL of stores and searches, and the Link to the next page (PS3.18 10.5.3, 10.6.3, 8.3.4.4)."""
    peer, client = behind
    root = "https://pacs.example/imaging/dicom-web" if peer == NEAR else "http://inner.test/dicom-web"
    body, headers = web.related([made.instance(1, side=32), made.instance(2, side=32)])
    stored: Any = client.post("studies", content=body, headers={**headers, **FORWARDED}).json()
    assert stored["00081190"]["Value"] == [f"{root}/studies/1.2.3"]
    assert stored["00081199"]["Value"][0]["00081190"]["Value"] == [f"{root}/studies/1.2.3/series/1.2.3.4/instances/1.2.3.4.1"]
    found = client.get("instances", params={"limit": 1}, headers=FORWARDED)
    assert found.json()[0]["00081190"]["Value"][0].startswith(f"{root}/studies/1.2.3/")
    assert f"<{root}/instances" in found.headers["link"]
    metadata = client.get("studies/1.2.3/metadata", headers=FORWARDED).json()
    uri = metadata[0]["7FE00010"]["BulkDataURI"]
    assert uri.startswith("/imaging/dicom-web/studies/" if peer == NEAR else "/dicom-web/studies/")


@pytest.mark.parametrize("prefix", ["/imaging", "/dicom-web", "/dicom-web/studies"])
def test_a_prefix_may_be_called_like_one_of_our_own_paths(archive: Archive, prefix: str) -> None:
    application = Forwarded(web.application(archive), TRUSTED)
    with TestClient(application, base_url="http://inner.test/dicom-web", client=(NEAR, 1)) as client:
        answer = client.get("workitems/1.2.3", headers={**FORWARDED, "X-Forwarded-Prefix": prefix})
    assert (answer.status_code, answer.json()["reference"]) == (404, "PS3.18 11.5")


def test_the_setting_comes_first(archive: Archive) -> None:
    application = Forwarded(web.application(archive, WebSettings(public_url="https://set.example")), TRUSTED)
    with TestClient(application, base_url="http://inner.test/dicom-web", client=(NEAR, 1)) as client:
        body, headers = web.related([made.instance(1)])
        stored: Any = client.post("studies", content=body, headers={**headers, **FORWARDED}).json()
    assert stored["00081190"]["Value"] == ["https://set.example/dicom-web/studies/1.2.3"]


def test_the_client_is_who_sent_it(archive: Archive) -> None:
    """What is kept as the source of an instance is the client's address, not the proxy's."""
    sources: list[Source] = []
    ingest = archive.ingest

    def watched(content: Content, source: Source, **keywords: Any) -> Any:
        sources.append(source)
        return ingest(content, source, **keywords)

    archive = replace(archive, ingest=watched)  # type: ignore[arg-type]
    application = Forwarded(web.application(archive), TRUSTED)
    with TestClient(application, base_url="http://inner.test/dicom-web", client=(NEAR, 1)) as client:
        body, headers = web.related([made.instance(1)])
        assert client.post("studies", content=body, headers={**headers, **FORWARDED}).status_code == 200
    assert [source.address for source in sources] == [CLIENT]
