"""DICOM over TLS as requestor: which nodes are spoken to, which are not and why, and a whole C-MOVE to DCMTK's storescp."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pacs import diagnosis
from pacs.scu import querying
from pacs.scu.associating import Destination, NotReached, NotSecure
from pacs.scu.nodes import destination_of
from pacs.tls import Credentials, TlsSettings, client_context
from storage.archive import Archive
from storage.errors import BadRequest
from storage.index.ae import AeTitle, add_ae_title, ae_title_of
from tests.support.children import free_port
from tests.support.dimse_peer import STUDY_ROOT, element, message, status_of
from tests.support.dimse_peer import command as command_set
from tests.support.made import instance
from tests.support.secure import Papers, Secure, TlsPeer, secured
from tests.support.secure import client_context as peer_context

Store = Callable[..., object]


@pytest.fixture
def server(archive: Archive, papers: Papers) -> Iterator[Secure]:
    with secured(archive, papers.credentials()) as running:
        yield running


def ours(papers: Papers, **changed: object) -> Credentials:
    files = {"certificate": papers.client.certificate, "key": papers.client.key, "authorities": papers.authority.file}
    return Credentials(**{**files, **changed})  # type: ignore[arg-type]


def steps(port: int, credentials: Credentials | None, host: str = "127.0.0.1", pinned: str = "") -> list[diagnosis.Step]:
    tls = client_context(credentials, pinned) if credentials else None
    return list(diagnosis.echo(Destination("LIGHTBOX", host, port, "OTHER", tls=tls)))


def test_every_step_of_an_echo(papers: Papers, server: Secure) -> None:
    found = steps(server.tls, ours(papers))
    assert [step.name for step in found] == ["name", "port", "TLS", "association", "echo"]
    assert all(step.ok for step in found), found
    assert found[2].text.startswith("TLSv1.3 with TLS_")
    assert found[2].text.endswith("its certificate is that of commonName=server")


@pytest.mark.parametrize(
    ("credentials", "step", "text"),
    [
        (lambda papers: ours(papers, authorities=papers.foreign.file), "TLS", "comes from no authority that is trusted here (unknown CA)"),
        (lambda papers: ours(papers, certificate=None), "association", "it requires a certificate of ours, and we have shown none"),
        (
            lambda papers: (lambda pair: ours(papers, certificate=pair.certificate, key=pair.key))(papers.foreign.sign("other")),
            "association",
            "it does not trust our certificate's authority (unknown CA)",
        ),
        (
            lambda papers: (lambda pair: ours(papers, certificate=pair.certificate, key=pair.key))(papers.authority.sign("ended", expired=True)),
            "association",
            "it says that our certificate has expired",
        ),
    ],
)
def test_what_does_not_fit(
    papers: Papers, server: Secure, credentials: Callable[[Papers], Credentials], step: str, text: str
) -> None:
    *_, last = steps(server.tls, credentials(papers))
    assert (last.name, last.ok) == (step, False)
    assert text in last.text


@pytest.mark.parametrize(
    ("signed", "text"),
    [
        ({"expired": True}, "its certificate has expired"),
        ({"names": ("elsewhere.example",), "addresses": ()}, "its certificate is for another address than that by which it is reached (name mismatch)"),
    ],
)
def test_certificates_that_a_node_should_not_show(
    archive: Archive, papers: Papers, signed: dict[str, object], text: str
) -> None:
    pair = papers.authority.sign("wrong", **signed)  # type: ignore[arg-type]
    with secured(archive, papers.credentials(certificate=pair.certificate, key=pair.key)) as server:
        *_, last = steps(server.tls, ours(papers))
        assert (last.name, last.ok) == ("TLS", False)
        assert text in last.text
        server.told.wait("dropped", "TLS")


def test_a_pinned_certificate_is_enough_whatever_its_name(archive: Archive, papers: Papers) -> None:
    pair = papers.foreign.sign("odd", names=("elsewhere.example",), addresses=())
    with secured(archive, papers.credentials(certificate=pair.certificate, key=pair.key)) as server:
        assert steps(server.tls, ours(papers), pinned=pair.pem)[-1].ok
        # And nothing else is: not even what the settings trust.
        *_, last = steps(server.tls, ours(papers), pinned=papers.server.pem)
        assert (last.name, last.ok) == ("TLS", False)
        assert "unknown CA" in last.text


def test_tls_to_a_port_without(papers: Papers, server: Secure) -> None:
    *_, last = steps(server.plain, ours(papers))
    assert (last.name, last.ok) == ("TLS", False)
    assert "it speaks DICOM without TLS" in last.text


def test_no_tls_to_a_port_with(server: Secure) -> None:
    *_, last = steps(server.tls, None)
    assert (last.name, last.ok) == ("association", False)
    assert "does it expect TLS?" in last.text


@contextmanager
def answering(reply: bytes, seconds: float = 0) -> Iterator[int]:
    """A port at which whatever comes is answered with `reply`, after a while."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    sock, _ = listener.accept()
                    with sock:
                        sock.recv(4096)
                        sock.sendall(reply)
                        time.sleep(seconds)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (b"", "it hung up in the middle of the TLS handshake"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it speaks HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "there is no TLS version that both speak"),
    ],
)
def test_what_answers_no_handshake(papers: Papers, reply: bytes, text: str) -> None:
    with answering(reply) as port:
        destination = Destination("NODE", "127.0.0.1", port, "LIGHTBOX", tls=client_context(ours(papers)))
        with pytest.raises(NotSecure) as caught:
            querying.echo(destination)
    assert text in str(caught.value)


def test_a_silent_handshake(papers: Papers) -> None:
    with answering(b"", seconds=5) as port:
        destination = Destination(
            "NODE", "127.0.0.1", port, "LIGHTBOX", connect_seconds=0.3, tls=client_context(ours(papers))
        )
        begun = time.monotonic()
        with pytest.raises(NotSecure, match="did not finish the TLS handshake within 0"):
            querying.echo(destination)
        assert time.monotonic() - begun < 10


def test_a_handshake_by_the_byte_ends_in_time(papers: Papers) -> None:
    """Each byte is progress, and yet the whole of it has only so long."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            with suppress(OSError):
                sock, _ = listener.accept()
                with sock:
                    for byte in b"\x16\x03\x03\x40\x00" + bytes(1000):
                        sock.send(bytes((byte,)))
                        time.sleep(0.05)

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        destination = Destination(
            "NODE", "127.0.0.1", port, "LIGHTBOX", connect_seconds=0.5, tls=client_context(ours(papers))
        )
        begun = time.monotonic()
        with pytest.raises(NotSecure, match="did not finish"):
            querying.echo(destination)
        assert time.monotonic() - begun < 10
        thread.join(5)


def test_a_tls_alert_where_dicom_was_expected() -> None:
    with answering(b"\x15\x03\x01\x00\x02\x02\x46") as port:
        destination = Destination("NODE", "127.0.0.1", port, "LIGHTBOX")
        with pytest.raises(NotReached, match="it expects TLS"):
            querying.echo(destination)


# The registry


def test_a_node_is_called_over_tls(archive: Archive, papers: Papers, server: Secure) -> None:
    add_ae_title(archive.index, AeTitle("LIGHTBOX", "127.0.0.1", server.tls, tls=True))
    destination = destination_of(archive.index, "LIGHTBOX", calling_ae="OTHER", credentials=ours(papers))
    assert destination is not None
    querying.echo(destination)
    add_ae_title(archive.index, AeTitle("LIGHTBOX", "127.0.0.1", server.plain))
    destination = destination_of(archive.index, "LIGHTBOX", calling_ae="OTHER", credentials=ours(papers))
    assert destination is not None
    assert destination.tls is None
    querying.echo(destination)


def test_certificates_of_nodes_are_kept(archive: Archive, papers: Papers) -> None:
    add_ae_title(archive.index, AeTitle("NODE", "127.0.0.1", 104, tls=True, tls_certificate=papers.server.pem))
    known = ae_title_of(archive.index, "NODE")
    assert known is not None
    assert (known.tls, known.tls_certificate) == (True, papers.server.pem)


@pytest.mark.parametrize(("text", "says"), [("nonsense", "in PEM form"), (None, "holds a private key")])
def test_certificates_that_are_none(archive: Archive, papers: Papers, text: str | None, says: str) -> None:
    text = text or papers.server.pem + papers.server.key.read_text()
    with pytest.raises(BadRequest, match=says):
        add_ae_title(archive.index, AeTitle("NODE", "127.0.0.1", 104, tls=True, tls_certificate=text))


def test_a_certificate_that_cannot_be_read_is_told_when_it_is_used(papers: Papers) -> None:
    broken = "-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\n"
    with pytest.raises(TlsSettings, match="the certificate of this node cannot be read"):
        client_context(ours(papers), broken)


def test_c_move_to_a_node_with_tls(
    archive: Archive, papers: Papers, store: Store, tmp_path: Path
) -> None:
    if not shutil.which("storescp", path="/usr/bin"):
        pytest.skip("DCMTK's storescp is not installed: nothing is tested with it")
    for number in (1, 2, 3):
        store(instance(number, side=300))
    node, port, got = papers.authority.sign("node"), free_port(), tmp_path / "got"
    got.mkdir()
    command = ["/usr/bin/storescp", "+tls", str(node.key), str(node.certificate), "+cf", str(papers.authority.file)]
    listening = subprocess.Popen([*command, "-aet", "NODE", "-od", str(got), str(port)])
    try:
        add_ae_title(archive.index, AeTitle("NODE", "127.0.0.1", port, tls=True))
        with secured(archive, papers.credentials()) as server:
            _until_listening(port)
            with TlsPeer(server.tls, peer_context(papers, papers.client)) as client:
                model = STUDY_ROOT.replace("2.1", "2.2")
                client.associate([(1, model, ("1.2.840.10008.1.2",))])
                elements: dict[int, bytes | str | int] = {0x002: model, 0x100: 0x21, 0x110: 1, 0x600: "NODE", 0x700: 0, 0x800: 0}
                keys = element(0x00080052, "STUDY ") + element(0x0020000D, "1.2.3")
                client.send(message(1, command_set(elements), keys))
                while (status := status_of(client.answer()[0])) == 0xFF00:
                    pass
                assert status == 0
    finally:
        listening.terminate()
        listening.wait(10)
    assert len(list(got.iterdir())) == 3


def _until_listening(port: int) -> None:
    for _ in range(200):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise AssertionError("storescp does not listen")
