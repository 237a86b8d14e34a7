"""User identity negotiation (PS3.7 D.3.3.7, PS3.15 B.4): what is read, answered, recorded and refused."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from pacs.scp.identity import Identified, Known, Required, Strangers, Users, Verifier
from pacs.upper_layer import (
    AnsweredContext,
    AssociateAnswer,
    AssociateRequest,
    Malformed,
    ProposedContext,
    UserIdentity,
    UserInformation,
    encode_answer,
    encode_request,
    parse_answer,
    parse_request,
)
from storage.archive import Archive
from storage.errors import Refused
from storage.index.associations import Entry, Wanted, search
from tests.support import dimse_peer as peer
from tests.support.dimse_peer import Peer, item, user
from tests.support.dimse_server import serving, wait_until
from tests.support.made import instance


def identity(kind: int, primary: bytes, secondary: bytes = b"", *, wanted: int = 0, more: bytes = b"") -> bytes:
    body = bytes((kind, wanted)) + struct.pack(">H", len(primary)) + primary
    return item(0x58, body + struct.pack(">H", len(secondary)) + secondary + more)


def request(*items: bytes) -> memoryview:
    return memoryview(peer.associate(user_item=user(16384, *items)))[6:]


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (identity(1, b"anna"), UserIdentity(1, False, b"anna")),
        (identity(2, b"anna", b"secret", wanted=1), UserIdentity(2, True, b"anna", b"secret")),
        (identity(5, b"e30.e30.", wanted=1), UserIdentity(5, True, b"e30.e30.")),
    ],
)
def test_identities_are_read(sent: bytes, read: UserIdentity) -> None:
    found = parse_request(request(sent)).user.identity
    assert found == read
    assert "secret" not in repr(found)
    assert "anna" not in repr(found)


@pytest.mark.parametrize(
    "wrong",
    [
        item(0x58, b""),
        item(0x58, b"\x01\x00\x00"),
        item(0x58, b"\x01\x00\x00\x04anna"),
        item(0x58, b"\x01\x00\x00\x09anna\x00\x00"),
        identity(1, b"anna", more=b"x"),
        identity(1, b"anna") + identity(1, b"bert"),
    ],
    ids=["empty", "cut short", "no secondary length", "length lies", "more than its lengths", "two"],
)
def test_what_is_no_identity(wrong: bytes) -> None:
    with pytest.raises(Malformed, match=r"58H is too short or too long|two user identities"):
        parse_request(request(wrong))


def test_both_ends_write_what_the_other_reads() -> None:
    ours = UserIdentity(2, True, "Ännchen".encode(), b"passcode")
    asked = AssociateRequest(
        1, "THEM", "US", b"", peer.APPLICATION_CONTEXT, (ProposedContext(1, peer.VERIFICATION, (peer.IMPLICIT,)),),
        UserInformation(maximum_length=16384, implementation_class_uid="1.2.3", identity=ours),
    )
    read = parse_request(memoryview(encode_request(asked))[6:])
    assert read.user.identity == ours
    for response in (None, b"", b"ticket"):
        answer = AssociateAnswer(
            (AnsweredContext(1, 0, peer.IMPLICIT),), UserInformation(16384, "1.2.3", identity_answer=response)
        )
        assert parse_answer(memoryview(encode_answer(read, answer))[6:]).user.identity_answer == response


class Two:
    """Users of whom one is known by a passcode and one by a token."""

    def by_passcode(self, name: str, passcode: bytes) -> Known | None:
        if passcode != b"secret":
            raise Refused("its passcode is wrong")
        return Known(name, "by a passcode")

    def by_token(self, token: bytes) -> Known | None:
        if token != b"e30.e30.":
            raise Refused("its token has expired")
        return Known("bert", "by a token of X")


NAME, PASSCODE = UserIdentity(1, True, b"anna"), UserIdentity(2, True, b"anna", b"secret")
TICKET, TOKEN = UserIdentity(3, True, b"ticket"), UserIdentity(5, True, b"e30.e30.")


@pytest.mark.parametrize(
    ("users", "identity_", "expected"),
    [
        (Strangers(), None, Identified()),
        (Strangers(), UserIdentity(1, False, b"anna"), Identified("anna")),
        (Strangers(), NAME, Identified("anna", answer=b"")),
        (Strangers(), UserIdentity(1, True, b"a\nb\xff"), Identified("a\\nb\\\\xff", answer=b"")),
        (Strangers(), UserIdentity(1, False, b"x" * 1000), Identified("x" * 64 + "…")),
        # An answer would say that they were checked (PS3.7 D.3.3.7).
        (Strangers(), PASSCODE, Identified("anna", missed=True)),
        (Strangers(), UserIdentity(2, False, b"anna", b"secret"), Identified("anna")),
        (Strangers(), TICKET, Identified(unread="Kerberos service ticket", missed=True)),
        (Strangers(), TOKEN, Identified(unread="JSON web token", missed=True)),
        (Strangers(), UserIdentity(9, False, b"x"), Identified(refused="its user identity is of kind 9, which there is not (PS3.7 D.3.3.7)")),
        (Two(), NAME, Identified("anna", answer=b"")),
        (Two(), PASSCODE, Identified("anna", "by a passcode", answer=b"")),
        (Two(), UserIdentity(2, True, b"anna", b"guessed"), Identified(refused="its passcode is wrong")),
        (Two(), TOKEN, Identified("bert", "by a token of X", answer=b"")),
        (Two(), UserIdentity(5, False, b"e30.e30."), Identified("bert", "by a token of X")),
        (Two(), UserIdentity(5, False, b"old"), Identified(refused="its token has expired")),
        (Two(), TICKET, Identified(unread="Kerberos service ticket", missed=True)),
    ],
)
def test_what_is_made_of_it(users: Users, identity_: UserIdentity | None, expected: Identified) -> None:
    assert Verifier(users).identify(identity_) == expected


@pytest.mark.parametrize(
    ("required", "users", "identity_", "refused"),
    [
        (Required.REQUIRED, Strangers(), None, "set a user name at the sender"),
        (Required.REQUIRED, Strangers(), UserIdentity(1, True, b"  "), "its user name is empty"),
        (Required.REQUIRED, Strangers(), NAME, ""),
        (Required.VERIFIED, Two(), None, "set what proves its user"),
        (Required.VERIFIED, Two(), NAME, "is a user name, which cannot be checked here"),
        (Required.VERIFIED, Strangers(), PASSCODE, "is a user name and passcode, which cannot be checked here"),
        (Required.VERIFIED, Two(), TICKET, "is a Kerberos service ticket, which cannot be checked here"),
        (Required.VERIFIED, Two(), TOKEN, ""),
        (Required.VERIFIED, Two(), PASSCODE, ""),
    ],
)
def test_required(required: Required, users: Users, identity_: UserIdentity | None, refused: str) -> None:
    found = Verifier(users, required).identify(identity_).refused
    assert refused in found
    assert bool(refused) is bool(found)


def logged(archive: Archive) -> Entry:
    wait_until(lambda: bool(search(archive.index, Wanted())))
    return search(archive.index, Wanted())[0]


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (identity(1, b"anna", wanted=1), item(0x59, b"\0\0")),
        (identity(2, b"anna", b"secret", wanted=1), None),
        (identity(2, b"anna", b"secret"), None),
        (identity(5, b"e30.e30.", wanted=1), None),
    ],
)
def test_answers_and_the_log(archive: Archive, sent: bytes, answer: bytes | None) -> None:
    with serving(archive) as server, Peer(server.port) as client:
        body = client.associate(user_item=user(16384, sent))
        assert (item(0x59, b"\0\0") in body) is (answer is not None)
        assert client.echo() == 0
        entry = logged(archive)
        assert "not checked" in entry.reason
        assert "secret" not in entry.reason


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (
            identity(3, b"ticket", wanted=1),
            "it presents a Kerberos service ticket for its user, which is not checked here, and so the positive answer that it asks for is not given:"
            " set a user name or a JSON web token at the sender to have its user known",
        ),
        (
            identity(4, b"<saml/>"),
            "it presents a SAML assertion for its user, which is not checked here: set a user name or a JSON web token at the sender to have its user known",
        ),
        (
            identity(5, b"e30.e30."),
            "it presents a JSON web token for its user, which is not checked here: set PACS_OIDC_ISSUERS to have it checked",
        ),
    ],
)
def test_what_says_nothing_to_us_is_accepted_without_an_answer(archive: Archive, sent: bytes, told: str) -> None:
    """As from an acceptor that does not support it (PS3.7 D.3.3.7)."""
    with serving(archive) as server, Peer(server.port) as client:
        assert b"\x59\0" not in client.associate(user_item=user(16384, sent))
        assert client.echo() == 0
        assert logged(archive).reason == told


def test_a_caller_without_a_user_is_refused_by_setting(archive: Archive) -> None:
    with serving(archive, user_identity="required") as server:
        with Peer(server.port) as client:
            client.send(peer.associate())
            assert client.pdu() == (3, bytes((0, 1, 2, 1)))
        server.told.wait("rejected", "user identity")
        assert "set a user name at the sender" in logged(archive).reason
        with Peer(server.port) as client:
            client.associate(user_item=user(16384, identity(1, b"anna")))
            assert client.echo() == 0


@pytest.mark.parametrize(
    "options", [("--user", "anna", "--pos-response"), ("--user", "anna", "--password", "secret"), ("--user", "anna", "--empty-password")]
)
def test_dcmtk_says_who_it_is(archive: Archive, tmp_path: Path, options: tuple[str, ...]) -> None:
    if not shutil.which("storescu", path="/usr/bin"):
        pytest.skip("DCMTK's storescu is not installed: nothing is tested with it")
    (tmp_path / "one.dcm").write_bytes(instance())
    with serving(archive, user_identity="required") as server:
        command = ["/usr/bin/storescu", *options, "-aec", "LIGHTBOX", "127.0.0.1", str(server.port)]
        done = subprocess.run([*command, str(tmp_path / "one.dcm")], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert "its user is anna (as it says; not checked)" in logged(archive).reason


def test_who_hangs_up_without_a_positive_answer_is_told_of(archive: Archive, tmp_path: Path) -> None:
    if not shutil.which("storescu", path="/usr/bin"):
        pytest.skip("DCMTK's storescu is not installed: nothing is tested with it")
    (tmp_path / "one.dcm").write_bytes(instance())
    with serving(archive) as server:
        asks = ["--user", "anna", "--password", "secret", "--pos-response", "-aec", "LIGHTBOX", "127.0.0.1", str(server.port)]
        done = subprocess.run(["/usr/bin/storescu", *asks, str(tmp_path / "one.dcm")], capture_output=True, timeout=60, check=False)
        assert done.returncode != 0
        assert "the positive answer that it asks for is not given" in logged(archive).reason


def test_pynetdicom_writes_what_we_read() -> None:
    theirs = UserIdentityNegotiation()
    theirs.user_identity_type, theirs.positive_response_requested = 2, True
    theirs.primary_field, theirs.secondary_field = b"anna", b"secret"
    found = parse_request(request(theirs.from_primitive().encode())).user.identity
    assert found == UserIdentity(2, True, b"anna", b"secret")
