"""Tokens of trusted issuers (JWT, RFC 7519, RFC 8725), from an issuer over HTTP, and in the user identity of pynetdicom."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, Key, KeySet, OctKey, RSAKey
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from pacs.setting_values import issuers
from pacs.settings import Settings
from pacs.settings_file import SettingsError
from pacs.tokens import FRESH_SECONDS, PAUSE_SECONDS, TokenRefused, Tokens, fetched, name_of
from pacs.users import TokenUsers, users_of
from storage.archive import Archive
from storage.index.associations import Wanted, search
from tests.support.dimse_server import serving, wait_until
from tests.support.made import instance


class Issuer:
    """An issuer of tokens at an address of its own, which publishes what of its keys it is told to."""

    def __init__(self) -> None:
        self.own = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
        self.keys: list[Key] = [self.own]
        self.asked: list[str] = []
        self.calls_itself = ""
        self.fails = False
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                if issuer.fails:
                    self.send_error(500)
                    return
                found: Any = {"issuer": issuer.calls_itself or issuer.url, "jwks_uri": f"{issuer.url}/keys"}
                if self.path == "/keys":
                    found = KeySet(issuer.keys).as_dict(private=False)
                body = orjson.dumps(found)
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def token(self, key: Key | None = None, algorithm: str = "RS256", **changed: Any) -> bytes:
        signing = key or self.keys[0]
        claims = {"iss": self.url, "aud": "lightbox", "sub": "4711", "preferred_username": "anna", "exp": int(time.time()) + 300}
        claims = {name: value for name, value in {**claims, **changed}.items() if value is not None}
        header = {"alg": algorithm, **({"kid": signing.kid} if signing.kid else {})}
        return jwt.encode(header, claims, signing, algorithms=[algorithm]).encode()


@pytest.fixture(scope="module")
def running() -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.server.shutdown()
    issuer.server.server_close()


@pytest.fixture
def issuer(running: Issuer) -> Issuer:
    running.fails, running.calls_itself = False, ""
    running.keys = running.keys[:1]
    running.asked.clear()
    return running


@pytest.fixture
def tokens(issuer: Issuer) -> Tokens:
    return Tokens([issuer.url], audience="lightbox", client_id="app")


@pytest.mark.parametrize(
    "changed",
    [{}, {"aud": ["other", "lightbox"]}, {"aud": "app"}, {"aud": None, "client_id": "app"}, {"exp": -30}],
    ids=["audience", "one of several", "the client as audience", "the client where there is no audience", "clocks apart"],
)
def test_what_is_accepted(issuer: Issuer, tokens: Tokens, changed: dict[str, Any]) -> None:
    if "exp" in changed:
        # From when the test runs, which may be long after it was collected.
        changed = {"exp": int(time.time()) + changed["exp"]}
    assert name_of(tokens.check(issuer.token(**changed))) == "anna"


NOW = int(time.time())


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"exp": NOW - 3600}, "has expired"),
        ({"exp": None}, "does not say its exp"),
        ({"exp": "tomorrow"}, "the exp of its token"),
        ({"nbf": NOW + 3600}, "the nbf of its token"),
        ({"iss": "https://elsewhere.example"}, "no issuer of PACS_OIDC_ISSUERS"),
        ({"iss": None}, "no issuer of PACS_OIDC_ISSUERS"),
        ({"aud": "other"}, "for another service"),
        ({"aud": None}, "does not say for whom"),
        ({"aud": None, "client_id": "other"}, "does not say for whom"),
        ({"aud": "other", "client_id": "app"}, "for another service"),
    ],
)
def test_claims_that_are_refused(issuer: Issuer, tokens: Tokens, changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(TokenRefused, match=reason) as caught:
        tokens.check(issuer.token(**changed))
    assert "anna" not in str(caught.value)


def test_signatures_that_are_refused(issuer: Issuer, tokens: Tokens) -> None:
    good = issuer.token()
    foreign = RSAKey.generate_key(2048, {"kid": "one"})
    secret = OctKey.generate_key(256, {"kid": "one"})
    head, body, signature = good.split(b".")
    cases = [
        (issuer.token(foreign), "signed with no key"),
        (issuer.token(secret, "HS256"), "not signed with a public key"),
        (b".".join((head, body[:-4] + b"AAAA", signature)), "no signed JSON web token|signed with no key|no issuer"),
        (b".".join((b"eyJhbGciOiJub25lIn0", body, b"")), "not signed with a public key|no signed JSON web token"),
        (b"", "no signed JSON web token"),
        (b"a.b.c", "no signed JSON web token"),
        (b"\xff\xfe.\x00.", "no signed JSON web token"),
        (good + b"x" * 40_000, "too long"),
    ]
    for token, reason in cases:
        with pytest.raises(TokenRefused, match=reason):
            tokens.check(token)


def test_keys_of_other_kinds_and_without_names(issuer: Issuer, tokens: Tokens) -> None:
    elliptic = ECKey.generate_key("P-256", {"kid": "two"})
    issuer.keys = [issuer.keys[0], elliptic]
    assert tokens.check(issuer.token(elliptic, "ES256"))
    nameless = RSAKey.import_key(issuer.own.as_pem(private=True))
    assert tokens.check(issuer.token(nameless)), "each is tried"


def test_keys_are_kept_and_looked_for_again(issuer: Issuer) -> None:
    now = [time.time()]
    tokens = Tokens([issuer.url], audience="lightbox", clock=lambda: now[0])
    for _ in range(3):
        tokens.check(issuer.token())
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]
    # A new key is not looked for at once, for anybody can name one; then it is.
    new = RSAKey.generate_key(2048, {"kid": "new"})
    issuer.keys = [*issuer.keys, new]
    for _ in range(3):
        with pytest.raises(TokenRefused, match="no key"):
            tokens.check(issuer.token(new))
    assert len(issuer.asked) == 2
    now[0] += PAUSE_SECONDS + 1
    assert tokens.check(issuer.token(new))
    # An issuer that does not answer is done without for a day.
    issuer.fails = True
    now[0] += FRESH_SECONDS + 1
    assert tokens.check(issuer.token(new, exp=int(now[0]) + 60))
    now[0] += 86_400
    with pytest.raises(TokenRefused, match="cannot be had now"):
        tokens.check(issuer.token(new, exp=int(now[0]) + 60))


def test_a_slow_issuer_holds_up_only_who_needs_it(issuer: Issuer) -> None:
    asked, answer = threading.Event(), threading.Event()
    slow = False

    def fetch(url: str) -> Any:
        if slow:
            asked.set()
            answer.wait(10)
        return fetched(url)

    now = [time.time()]
    tokens = Tokens([issuer.url], audience="lightbox", fetch=fetch, clock=lambda: now[0])
    tokens.check(issuer.token())
    slow = True
    now[0] += PAUSE_SECONDS + 1
    new = RSAKey.generate_key(2048, {"kid": "new"})
    issuer.keys = [*issuer.keys, new]
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(tokens.check(issuer.token(new))))
    waiting.start()
    assert asked.wait(10)
    assert tokens.check(issuer.token())
    assert found == []
    answer.set()
    waiting.join(10)
    assert len(found) == 1


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"], ids=["head", "body"])
def test_an_issuer_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    monkeypatch.setattr("pacs.tokens._FETCH_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def trickle() -> None:
            taken, _ = server.accept()
            with taken, suppress(OSError):
                taken.sendall(begun or b"HTTP/1.1 200 OK\r\nX: ")
                for _ in range(200):
                    taken.sendall(b" ")
                    time.sleep(0.05)

        threading.Thread(target=trickle, daemon=True).start()
        asked = time.monotonic()
        with pytest.raises(OSError, match=r"does not answer within 0\.5 s"):
            fetched(f"http://127.0.0.1:{server.getsockname()[1]}/")
        assert time.monotonic() - asked < 5


def test_an_issuer_of_another_name(issuer: Issuer, tokens: Tokens) -> None:
    issuer.calls_itself = "https://another.example"
    with pytest.raises(TokenRefused, match="cannot be had now"):
        tokens.check(issuer.token())


@pytest.mark.parametrize("keys", ["http://issuer.example/keys", "ftp://issuer.example/keys", "/keys", 5])
def test_keys_are_not_read_where_anybody_can_change_them(keys: Any) -> None:
    asked: list[Any] = []

    def fetch(url: str) -> Any:
        asked.append(url)
        return {"issuer": "https://issuer.example", "jwks_uri": keys}

    tokens = Tokens(["https://issuer.example"], audience="lightbox", fetch=fetch)
    token = jwt.encode({"alg": "RS256"}, {"iss": "https://issuer.example"}, RSAKey.generate_key(2048)).encode()
    with pytest.raises(TokenRefused, match="cannot be had now"):
        tokens.check(token)
    assert asked == ["https://issuer.example/.well-known/openid-configuration"]


@pytest.mark.parametrize(
    "other",
    [{"kty": "EC", "crv": "BP-256", "x": "AA", "y": "AA"}, {"kty": "AKP", "pub": "AA"}, {"kty": "RSA"}, {"kty": ["RSA"]}, 5],
    ids=["curve", "type", "nothing in it", "no text", "no key"],
)
def test_a_key_that_is_not_understood_is_passed_over(issuer: Issuer, tmp_path: Path, other: Any) -> None:
    file = tmp_path / "keys.json"
    for keys in ([other, issuer.own.as_dict(private=False)], [other]):
        file.write_bytes(orjson.dumps({"keys": keys}))
        tokens = Tokens([issuer.url], audience="lightbox", keys_file=file)
        if len(keys) == 2:
            assert tokens.check(issuer.token())["sub"] == "4711"
        else:
            with pytest.raises(TokenRefused, match="cannot be had now"):
                tokens.check(issuer.token())


def test_a_header_of_other_types_is_refused(issuer: Issuer, tokens: Tokens) -> None:
    _, claims, signature = issuer.token().split(b".")
    header = urlsafe_b64encode(orjson.dumps({"alg": "RS256", "kid": issuer.own.kid, "crit": 5})).rstrip(b"=")
    with pytest.raises(TokenRefused, match="no key"):
        tokens.check(b".".join((header, claims, signature)))


def test_keys_of_a_file(issuer: Issuer, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_bytes(orjson.dumps(KeySet(issuer.keys).as_dict(private=False)))
    tokens = Tokens([issuer.url], audience="lightbox", keys_file=file)
    assert tokens.check(issuer.token())
    assert issuer.asked == []


@pytest.mark.parametrize(
    ("claims", "name"), [({"sub": "1"}, "1"), ({"sub": "1", "username": "a"}, "a"), ({"sub": 1}, ""), ({"email": "a@b"}, "a@b")]
)
def test_names(claims: dict[str, Any], name: str) -> None:
    assert name_of(claims) == name


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"dimse_user_identity": "verified"}, "would refuse everybody"),
        ({"oidc_issuers": "https://a.example"}, "PACS_OIDC_AUDIENCE or PACS_OIDC_CLIENT_ID"),
    ],
)
def test_settings_that_contradict_each_other(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        users_of(Settings(**values))


@pytest.mark.parametrize("wrong", ["http://a.example", "a.example", "https://", "https://a.example?x=1"])
def test_what_is_no_issuer(wrong: str) -> None:
    with pytest.raises(ValueError, match="is no issuer"):
        issuers((wrong,))


def negotiation(token: bytes) -> UserIdentityNegotiation:
    item = UserIdentityNegotiation()
    item.user_identity_type, item.positive_response_requested, item.primary_field = 5, True, token
    return item


def test_pynetdicom_with_a_token(archive: Archive, issuer: Issuer, tokens: Tokens) -> None:
    entity: Any = ApplicationEntity
    entity = entity(ae_title="CT1")
    entity.add_requested_context("1.2.840.10008.1.1")
    with serving(archive, users=TokenUsers(tokens), user_identity="verified") as server:
        good = entity.associate("127.0.0.1", server.port, ae_title="LIGHTBOX", ext_neg=[negotiation(issuer.token())])
        assert good.is_established
        response = good.acceptor.user_identity
        assert response is not None
        assert response.server_response == b""
        assert good.send_c_echo().Status == 0
        good.release()
        # From the PDUs, since pynetdicom takes a rejection that comes before its own thread has looked for a failed connection.
        answers: list[Any] = []
        handlers = [(evt.EVT_PDU_RECV, lambda event: answers.append(event.pdu))]
        expired = [negotiation(issuer.token(exp=NOW - 3600))]
        for said in (expired, None):
            entity.associate("127.0.0.1", server.port, ae_title="LIGHTBOX", ext_neg=said, evt_handlers=handlers)
        assert [(type(one), one.result, one.source, one.reason_diagnostic) for one in answers] == [(A_ASSOCIATE_RJ, 1, 2, 1)] * 2
        wait_until(lambda: len(search(archive.index, Wanted())) == 3)
        told = " ".join(one.reason for one in search(archive.index, Wanted()))
    assert f"its user is anna (by a token of {issuer.url})" in told
    assert "its token has expired" in told
    assert "it says nothing of its user" in told


def test_dcmtk_with_a_token(archive: Archive, issuer: Issuer, tokens: Tokens, tmp_path: Path) -> None:
    if not shutil.which("storescu", path="/usr/bin"):
        pytest.skip("DCMTK's storescu is not installed: nothing is tested with it")
    (tmp_path / "one.dcm").write_bytes(instance())
    with serving(archive, users=TokenUsers(tokens), user_identity="verified") as server:
        command = ["/usr/bin/storescu", "--jwt", str(tmp_path / "token"), "--pos-response", "-aec", "LIGHTBOX", "127.0.0.1", str(server.port)]
        for token, status in ((issuer.token(), 0), (issuer.token(aud="other"), 1)):
            (tmp_path / "token").write_bytes(token)
            done = subprocess.run([*command, str(tmp_path / "one.dcm")], capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == status, done.stderr
    assert archive.index.counts().instances == 1
