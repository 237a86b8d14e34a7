"""Who may send HL7 messages: by address, and over TLS by certificate; and what is told of those who may not."""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from pacs.hl7.framing import Framing, framed
from pacs.hl7.listener import HL7Limits, Listener
from pacs.hl7.receiving import Receiver
from pacs.hl7.senders import Door, Senders
from pacs.tls import Renewed
from storage.archive import Archive
from tests.support.certificates import Pair
from tests.support.dimse_server import wait_until
from tests.support.secure import Papers, client_context
from tests.support.serving import serving
from tests.test_hl7 import answered, message


def digest(pair: Pair) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pair.pem)).hexdigest()


@contextmanager
def listening(archive: Archive, papers: Papers, senders: Senders, *, required: bool = True) -> Iterator[Any]:
    """A plain port and one in TLS, and what was told."""
    told: list[tuple[str, str]] = []

    def tell(address: str, reason: str) -> bool:
        told.append((address, reason))
        return told.count((address, reason)) == 1

    doors = (
        Door(socket.create_server(("127.0.0.1", 0))),
        Door(socket.create_server(("127.0.0.1", 0)), Renewed(papers.credentials(), client_certificate=required)),
    )
    listener = Listener(Receiver(archive.index), *doors, limits=HL7Limits(), senders=senders, told=tell)
    listener.start()
    try:
        yield (*listener.ports, told)
    finally:
        assert listener.stop(10)


def sent(port: int, context: ssl.SSLContext | None = None, control_id: str = "M1") -> str:
    """The acknowledgement code of an order; empty where the connection ends before."""
    framing = Framing(10_000)
    with suppress(ConnectionError, ssl.SSLError), ExitStack() as open_:
        client = open_.enter_context(socket.create_connection(("127.0.0.1", port), 10))
        if context:
            client = open_.enter_context(context.wrap_socket(client, server_hostname="127.0.0.1"))
        client.sendall(framed(message(control_id=control_id)))
        while data := client.recv(4096):
            for one in framing.feed(data):
                return answered(one)[0]
    return ""


@pytest.mark.parametrize(
    ("addresses", "taken"),
    [((), True), (("127.0.0.1",), True), (("10.0.0.0/8", "127.0.0.0/8"), True), (("10.0.0.0/8", "2001:db8::/32"), False)],
)
def test_addresses(archive: Archive, papers: Papers, addresses: tuple[str, ...], taken: bool) -> None:
    with capture_logs() as logs, listening(archive, papers, Senders(addresses)) as (plain, _, told):
        assert [sent(plain), sent(plain, control_id="M2")] == (["AA"] * 2 if taken else [""] * 2)
        says = "127.0.0.1 may not send HL7 messages: add it to PACS_HL7_SENDERS if it may"
        wait_until(lambda: told == ([] if taken else [("127.0.0.1", says)] * 2))
    # The second is the same again, and does not fill the log.
    assert [one["log_level"] for one in logs if one["event"] == "hl7.refused"] == ([] if taken else ["warning", "debug"])


def _nobody(_papers: Papers) -> None:
    return None


def _known(papers: Papers) -> Pair:
    return papers.client


def _other(papers: Papers) -> Pair:
    return papers.authority.sign("other engine")


def _foreign(papers: Papers) -> Pair:
    return papers.foreign.sign("foreign engine")


def _expired(papers: Papers) -> Pair:
    return papers.authority.sign("old engine", expired=True)


@pytest.mark.parametrize(
    ("made", "required", "tied", "says"),
    [
        (_known, True, True, ""),
        (_other, True, False, ""),
        (_nobody, False, False, ""),
        (_other, True, True, "it shows another certificate (SHA-256 {shown}) than PACS_HL7_SENDER_CERTIFICATES has"),
        (_nobody, False, True, "it shows no certificate, and must show one of PACS_HL7_SENDER_CERTIFICATES"),
        (_nobody, True, False, "no TLS with it: it shows no certificate, and one is required here"),
        (_foreign, True, False, "no TLS with it: its certificate comes from no authority that is trusted here"),
        (_expired, True, False, "no TLS with it: its certificate has expired"),
    ],
)
def test_certificates(
    archive: Archive, papers: Papers, made: Callable[[Papers], Pair | None], required: bool, tied: bool, says: str
) -> None:
    pair = made(papers)
    senders = Senders(certificates=(digest(papers.client),) if tied else ())
    with listening(archive, papers, senders, required=required) as (_, tls, told):
        assert sent(tls, client_context(papers, pair)) == ("" if says else "AA")
        if says:
            wait_until(lambda: told)
    assert [says.format(shown=digest(pair) if pair else "") in reason for _, reason in told] == ([True] if says else [])


def test_no_tls_on_the_port_for_it_and_others_go_on(archive: Archive, papers: Papers) -> None:
    with listening(archive, papers, Senders()) as (plain, tls, told):
        assert sent(tls) == ""
        wait_until(lambda: told == [("127.0.0.1", "no TLS with it: it does not speak TLS")])
        assert sent(plain, client_context(papers)) == ""
        says = "it speaks TLS, and this port is without: use PACS_HL7_TLS_PORT, or turn TLS off there"
        wait_until(lambda: told[1:] == [("127.0.0.1", says)])
        assert sent(plain) == "AA"
        assert sent(tls, client_context(papers, papers.client), "M2") == "AA"


@pytest.mark.slow
def test_the_whole_server_takes_orders_in_tls_and_logs_who_may_not(tmp_path: Path, papers: Papers) -> None:
    settings = {
        "PACS_HL7_TLS_PORT": "0",
        "PACS_HL7_SENDER_CERTIFICATES": digest(papers.client),
        "PACS_DIMSE_TLS_CERTIFICATE": str(papers.server.certificate),
        "PACS_DIMSE_TLS_KEY": str(papers.server.key),
        "PACS_DIMSE_TLS_CA": str(papers.authority.file),
    }
    with serving(tmp_path / "data", "--only", "hl7,web", **settings) as served:
        (port,) = re.findall(r"HL7 +MLLP in TLS, host 127.0.0.1, port (\d+)", served.output)
        assert sent(int(port), client_context(papers, papers.client)) == "AA"
        assert sent(int(port), client_context(papers, papers.authority.sign("another"))) == ""
        assert len(httpx.get(f"{served.url}/api/worklist").json()) == 1

        def logged() -> list[str]:
            found = httpx.get(f"{served.url}/api/associations?outcome=dropped").json()["associations"]
            return [one["reason"] for one in found]

        wait_until(lambda: any(one.startswith("HL7: it shows another certificate (SHA-256 ") for one in logged()))
