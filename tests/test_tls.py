"""DICOM over TLS as server (PS3.15 B.12, B.13): with DCMTK and openssl, and with peers that do not mean it."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from pacs.scp.server import listening_socket
from pacs.tls import Profile, TlsSettings, server_context
from storage.archive import Archive
from storage.index.ae import AeTitle, add_ae_title, fingerprint_of
from storage.index.callers import allow, callers
from tests.support import dimse_peer as peer
from tests.support.certificates import Pair
from tests.support.dimse_peer import Peer
from tests.support.dimse_server import wait_until
from tests.support.made import instance
from tests.support.secure import Papers, Secure, TlsPeer, client_context, dcmtk, secured
from tests.support.serving import serving


@pytest.fixture
def server(archive: Archive, papers: Papers) -> Iterator[Secure]:
    with secured(archive, papers.credentials()) as running:
        yield running


# Real clients


@pytest.mark.parametrize("profile", ["+py", "+px", "+pz"])
@pytest.mark.parametrize("ours", Profile)
def test_dcmtk_is_let_in(archive: Archive, papers: Papers, ours: Profile, profile: str) -> None:
    with secured(archive, papers.credentials(profile=ours)) as server:
        done = dcmtk("echoscu", server.tls, papers, option=profile)
        assert done.returncode == 0, done.stderr
        server.told.wait("ended", "released")


def test_dcmtk_stores(archive: Archive, papers: Papers, server: Secure, tmp_path: Path) -> None:
    files = []
    for number in range(3):
        files.append(tmp_path / f"{number}.dcm")
        files[-1].write_bytes(instance(number + 1, side=400))
    done = dcmtk("storescu", server.tls, papers, *map(str, files))
    assert done.returncode == 0, done.stderr
    assert archive.index.counts().instances == 3
    server.told.wait("ended", "released")


@pytest.mark.parametrize(("arguments", "version", "fine"), [
    (("-tls1_2",), "TLSv1.2", True),
    (("-tls1_3",), "TLSv1.3", True),
    (("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"), "", False),
    (("-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"), "", False),
    (("-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA256"), "", False),
    (("-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"), "TLSv1.2", True),
])
def test_versions_and_suites(papers: Papers, server: Secure, arguments: tuple[str, ...], version: str, fine: bool) -> None:
    done = subprocess.run(
        [
            *("openssl", "s_client", "-connect", f"127.0.0.1:{server.tls}", "-verify_return_error", *arguments),
            *("-CAfile", papers.authority.file, "-cert", papers.client.certificate, "-key", papers.client.key),
        ],
        input="", capture_output=True, text=True, timeout=20, check=False,
    )
    assert (done.returncode == 0) is fine, done.stdout + done.stderr
    if fine:
        assert version in done.stdout
        assert "Verify return code: 0 (ok)" in done.stdout


def test_an_ipv6_address(archive: Archive, papers: Papers) -> None:
    if not socket.has_ipv6:
        pytest.skip("this Python has no IPv6")
    try:
        listening_socket("::1", 0).close()
    except OSError:
        pytest.skip("this machine has no ::1")
    with secured(archive, papers.credentials(), host="::1") as server:
        with Peer(server.plain, host="::1") as plain:
            plain.associate()
            assert plain.echo() == 0
        with TlsPeer(server.tls, client_context(papers, papers.client), "::1") as client:
            client.associate()
            assert client.echo() == 0


def test_the_log_says_who_has_shown_what(papers: Papers, server: Secure) -> None:
    with capture_logs() as logs, TlsPeer(server.tls, client_context(papers, papers.client)) as client:
        client.associate()
        assert client.echo() == 0
    (accepted,) = (one for one in logs if one["event"] == "association.accepted")
    assert accepted["tls"].startswith("TLSv1.3 TLS_")
    assert accepted["certificate"] == "commonName=client"
    assert accepted["fingerprint"] == hashlib.sha256(ssl.PEM_cert_to_DER_cert(papers.client.pem)).hexdigest()


# Who is not let in, and what is said of it


def _foreign(papers: Papers) -> Pair:
    return papers.foreign.sign("stranger")


def _expired(papers: Papers) -> Pair:
    return papers.authority.sign("old", expired=True)


@pytest.mark.parametrize(("made", "reason"), [
    (_foreign, "its certificate comes from no authority that is trusted here (unknown CA)"),
    (_expired, "its certificate has expired"),
    (None, "it shows no certificate, and one is required here"),
])
def test_wrong_client_certificates(
    papers: Papers, server: Secure, made: Callable[[Papers], Pair] | None, reason: str
) -> None:
    pair = made(papers) if made else None
    with capture_logs() as logs:
        with pytest.raises((ssl.SSLError, ConnectionError)), TlsPeer(server.tls, client_context(papers, pair)) as client:
            client.associate()
        server.told.wait("dropped", "TLS")
    assert [(one["event"], one["reason"]) for one in logs if "reason" in one] == [("connection.not_secure", reason)]
    if pair:
        refused = dcmtk("echoscu", server.tls, papers, pair=pair)
        assert refused.returncode != 0


def test_a_title_is_tied_to_its_certificate(archive: Archive, papers: Papers, server: Secure) -> None:
    """DCMTK with its certificate, with another one of the same authority, and without TLS; then the other is accepted."""
    add_ae_title(archive.index, AeTitle("ECHOSCU", "", 0, certificates=(papers.client.pem,)))
    assert dcmtk("echoscu", server.tls, papers).returncode == 0
    other = papers.authority.sign("renewed")
    assert dcmtk("echoscu", server.tls, papers, pair=other).returncode != 0
    wait_until(lambda: [one.certificate for one in callers(archive.index)] == [fingerprint_of(other.pem)])
    (asking,) = callers(archive.index)
    assert f"another certificate than is kept for it (SHA-256 {asking.certificate})" in asking.reason
    with Peer(server.plain) as plain:
        plain.send(peer.associate(calling="ECHOSCU"))
        assert plain.pdu()[0] == 3
    server.logged(
        "ECHOSCU may call over TLS alone: turn TLS on there and call the TLS port, or allow it without (pacs ae add ECHOSCU --any-transport)"
    )
    allow(archive.index, asking)
    time.sleep(0.15)  # before a refusal the registry is looked at again, when what is known is so old
    for pair in (papers.client, other):
        assert dcmtk("echoscu", server.tls, papers, pair=pair).returncode == 0


def test_a_client_that_does_not_trust_us(papers: Papers, server: Secure) -> None:
    with capture_logs() as logs:
        refused = dcmtk("echoscu", server.tls, papers, ca=papers.foreign.file)
        assert refused.returncode != 0
        server.told.wait("dropped", "TLS")
    assert logs[0]["reason"] == "it does not trust our certificate's authority (unknown CA)"


def test_a_certificate_is_optional_by_setting(archive: Archive, papers: Papers) -> None:
    credentials = papers.credentials(authorities=None)
    with secured(archive, credentials, required=False) as server, TlsPeer(server.tls, client_context(papers)) as client:
        client.associate()
        assert client.echo() == 0


@pytest.mark.parametrize(("first", "reason"), [
    (peer.associate(), "it speaks DICOM without TLS: turn TLS on there, or use the port without TLS"),
    (b"GET / HTTP/1.1\r\n\r\n", "it speaks HTTP, and this is DICOM over TLS"),
    (b"\0\0\0\0", "it does not speak TLS"),
])
def test_no_tls_on_the_port_for_it(server: Secure, first: bytes, reason: str) -> None:
    with capture_logs() as logs, Peer(server.tls) as client:
        client.send(first)
        # A DICOM peer understands that it was aborted.
        assert client.pdu() == (7, bytes((0, 0, 2, 0)))
        assert client.read(1) == b""
    server.told.wait("dropped", "TLS")
    assert [one["reason"] for one in logs if one["event"] == "connection.not_secure"] == [reason]
    server.logged(f"no TLS with it: {reason}")


def test_tls_on_the_port_without(papers: Papers, server: Secure) -> None:
    with capture_logs() as logs:
        done = dcmtk("echoscu", server.plain, papers)
        assert done.returncode != 0
        server.told.wait("dropped", "violation")
    reason = "it speaks TLS, and this is DICOM without TLS: turn TLS off there, or use the port for TLS"
    assert reason in logs[0]["reason"]
    server.logged(reason)


HELLO = bytes.fromhex("1603010200") + b"\x01\x00\x01\xfc\x03\x03" + bytes(32)


@pytest.mark.parametrize("hostile", [
    b"\x16\x03\x01\xff\xff" + os.urandom(5000),
    b"\x16\x03\x01\x40\x00" + os.urandom(16384),
    b"\x15\x03\x01\x00\x02\x02\x28",
    HELLO + os.urandom(600),
    b"\x16\x03\x01\x00\x00" * 2000,
], ids=["record too long", "random hello", "alert", "random rest", "empty records"])
def test_hostile_bytes(papers: Papers, server: Secure, hostile: bytes) -> None:
    with Peer(server.tls) as client:
        with suppress(ConnectionError):
            client.send(hostile)
            client.socket.settimeout(5)
            while client.socket.recv(4096):
                pass
        server.told.wait("dropped", "TLS")
    _echoes(papers, server)


def _echoes(papers: Papers, server: Secure) -> float:
    begun = time.monotonic()
    with TlsPeer(server.tls, client_context(papers, papers.client)) as client:
        client.associate()
        assert client.echo() == 0
    return time.monotonic() - begun


@pytest.mark.parametrize("sent", [b"", HELLO[:3], HELLO], ids=["silent", "three bytes", "half a hello"])
def test_slow_handshakes_hold_nobody_up(archive: Archive, papers: Papers, sent: bytes) -> None:
    settings: dict[str, Any] = {"request_seconds": 4, "max_waiting": 60, "max_waiting_per_address": 50, "max_associations": 4}
    with secured(archive, papers.credentials(), **settings) as server, ExitStack() as open_:
        for _ in range(80):
            open_.enter_context(Peer(server.tls)).send(sent)
        # Half of what each of the slow ones is waited for; a busy machine takes a second.
        assert _echoes(papers, server) < 2
        with Peer(server.plain) as plain:
            plain.associate()
            assert plain.echo() == 0
        assert server.server.waiting <= 50
        server.told.wait("dropped", "crowded out")
        wait_until(lambda: server.server.waiting == 0, 15)
        server.told.wait("dropped", "too slow")
        server.logged("it connected to the port for TLS and did not finish its handshake in time: does it speak TLS?")


def test_a_handshake_by_the_byte_and_a_request_in_pieces(papers: Papers, server: Secure) -> None:
    """Nothing depends on how the bytes are cut, and what came with the last byte of the handshake is seen."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(papers, papers.client).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", server.tls), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    sock.send(bytes((byte,)))
                incoming.write(sock.recv(65536))
        contexts = tuple((2 * n + 1, peer.CT, (peer.EXPLICIT, peer.IMPLICIT)) for n in range(120))
        request = peer.associate(contexts)
        assert len(request) > 8192
        client.write(request[:10])
        client.write(request[10:5000])
        client.write(request[5000:])
        sock.sendall(outgoing.read())
        answer = b""
        while len(answer) < 6 or len(answer) < 6 + int.from_bytes(answer[2:6]):
            try:
                answer += client.read(65536)
            except ssl.SSLWantReadError:
                incoming.write(sock.recv(65536))
        assert answer[0] == 2


def test_a_message_that_stops_within_a_record(archive: Archive, papers: Papers) -> None:
    """Bytes that never make a record count for nothing: the association ends as one without TLS does."""
    with secured(archive, papers.credentials(), message_idle_seconds=1.0, idle_seconds=1.0) as server:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = client_context(papers, papers.client).wrap_bio(incoming, outgoing, server_hostname="localhost")
        with socket.create_connection(("127.0.0.1", server.tls), timeout=10) as sock:
            _until(client.do_handshake, sock, incoming, outgoing)
            client.write(peer.associate())
            _until(lambda: client.read(1000), sock, incoming, outgoing)
            client.write(peer.p_data(peer.pdv(1, 1, b"\0\0")) + bytes(10_000))
            over = threading.Event()

            def drip() -> None:
                with suppress(OSError):
                    for byte in outgoing.read():
                        sock.send(bytes((byte,)))
                        if over.wait(0.05):
                            return

            thread = threading.Thread(target=drip)
            thread.start()
            server.told.wait("ended", "idle", seconds=5)
            over.set()
            thread.join()


def _until(step: Callable[[], object], sock: socket.socket, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
    while True:
        try:
            step()
            break
        except ssl.SSLWantReadError:
            sock.sendall(outgoing.read())
            incoming.write(sock.recv(65536))
    sock.sendall(outgoing.read())


# Files


def test_a_renewed_certificate_is_shown_without_a_restart(archive: Archive, papers: Papers, tmp_path: Path) -> None:
    mine = Pair(tmp_path / "server.crt", tmp_path / "server.key")

    def put(pair: Pair) -> None:
        shutil.copy(pair.certificate, mine.certificate)
        shutil.copy(pair.key, mine.key)

    def shown(server: Secure) -> Any:
        with TlsPeer(server.tls, client_context(papers, papers.client)) as client:
            assert isinstance(client.socket, ssl.SSLSocket)
            return dict(pair for part in (client.socket.getpeercert() or {})["subject"] for pair in part)["commonName"]  # type: ignore[misc]

    put(papers.server)
    with secured(archive, papers.credentials(certificate=mine.certificate, key=mine.key)) as server:
        assert shown(server) == "server"
        mine.key.write_text("half written")
        time.sleep(1.1)
        with capture_logs() as logs:
            assert shown(server) == "server", "what cannot be used changes nothing"
        assert "cannot be used" in next(one["reason"] for one in logs if one["event"] == "tls.not_renewed")
        put(papers.authority.sign("renewed"))
        time.sleep(1.1)
        assert shown(server) == "renewed"


def _encrypted(papers: Papers, folder: Path) -> Path:
    file = folder / "encrypted.key"
    command = ["openssl", "pkey", "-in", str(papers.server.key), "-aes256", "-passout", "pass:secret", "-out", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    return file


@pytest.mark.parametrize(("changed", "text"), [
    (lambda papers, _: {"certificate": None}, "needs a certificate"),
    (lambda papers, _: {"key": papers.client.key}, "the key does not belong to the certificate"),
    (lambda papers, folder: {"key": _encrypted(papers, folder)}, "must not be encrypted"),
    (lambda papers, folder: {"certificate": folder / "missing.crt"}, "cannot be read (No such file or directory)"),
    (lambda papers, folder: {"authorities": folder / "missing.crt"}, "cannot be read (No such file or directory)"),
    (lambda papers, _: {"authorities": papers.server.key}, "holds no certificate"),
    (lambda papers, _: {"authorities": None}, "only with the CA certificates"),
])
def test_files_that_cannot_be_used(
    papers: Papers, tmp_path: Path, changed: Callable[[Papers, Path], dict[str, Any]], text: str
) -> None:
    with pytest.raises(TlsSettings) as caught:
        server_context(papers.credentials(**changed(papers, tmp_path)), client_certificate=True)
    assert text in str(caught.value)


def test_a_short_key_is_refused(papers: Papers) -> None:
    weak = papers.authority.sign("weak", rsa_bits=1024)
    with pytest.raises(TlsSettings, match="too short"):
        server_context(papers.credentials(certificate=weak.certificate, key=weak.key), client_certificate=True)


# The whole server


def test_pacs_serve_on_the_tls_port_alone(papers: Papers, tmp_path: Path) -> None:
    settings = {
        "PACS_DIMSE_PLAIN": "false",
        "PACS_DIMSE_TLS_PORT": "0",
        "PACS_DIMSE_TLS_CERTIFICATE": str(papers.server.certificate),
        "PACS_DIMSE_TLS_KEY": str(papers.server.key),
        "PACS_DIMSE_TLS_CA": str(papers.authority.file),
        "PACS_WORKERS": "2",
    }
    with serving(tmp_path / "data", "--only", "dimse", **settings) as served:
        assert "DIMSE TLS  AE title LIGHTBOX" in served.output
        assert "storescu" not in served.output
        for _ in range(4):
            done = dcmtk("echoscu", served.dimse_port, papers)
            assert done.returncode == 0, done.stderr
