"""The TLS certificates that this archive knows, and when they end: its own, those it trusts, and those of its nodes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pacs.scp.reasons import ending
from pacs.tls import Credentials
from storage.index.ae import AeTitle


@dataclass(frozen=True, slots=True)
class Known:
    """A certificate: where it is from, its subject, its end in seconds since 1970, and what is to be done, empty while there
    is nothing. One that cannot be read has no subject, and no end."""

    whose: str
    subject: str
    ends: float | None
    todo: str = ""

    @property
    def ends_at(self) -> datetime | None:
        """Its end, in UTC."""
        return None if self.ends is None else datetime.fromtimestamp(self.ends, UTC)


def known_certificates(credentials: Credentials, nodes: Iterable[AeTitle], now: float | None = None) -> list[Known]:
    """All of them, those that end first in front. Certificates with which nodes call are kept by fingerprint alone: that one of
    those ends is told in the log of associations."""
    now = time.time() if now is None else now
    found = [*_of_file("PACS_DIMSE_TLS_CERTIFICATE", credentials.certificate, now)]
    found += _of_file("PACS_DIMSE_TLS_CA", credentials.authorities, now)
    for node in nodes:
        if node.tls_certificate:
            found += _of(f"node {node.title}", node.tls_certificate.encode(), now)
    return sorted(found, key=lambda one: one.ends or 0.0)


def _of_file(whose: str, file: Path | None, now: float) -> Iterator[Known]:
    if file is None:
        return
    try:
        pem = file.read_bytes()
    except OSError as error:
        yield Known(whose, "", None, f"it cannot be read ({error.strerror})")
        return
    yield from _of(whose, pem, now)


def _of(whose: str, pem: bytes, now: float) -> Iterator[Known]:
    # Here, since most have no certificates: it would be a twentieth of the memory of all processes.
    from cryptography import x509

    try:
        certificates = x509.load_pem_x509_certificates(pem)
        for one in certificates:
            ends = one.not_valid_after_utc.timestamp()
            yield Known(whose, one.subject.rfc4514_string(), ends, _todo(ends, now))
    except ValueError:
        yield Known(whose, "", None, "it cannot be read: give it in PEM form")


def _todo(ends: float, now: float) -> str:
    text = ending(ends, now)
    return f"it {text}: renew it" if text else ""
