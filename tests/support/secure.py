"""DICOM over TLS in tests: everybody's certificates, a server with both ports, and peers."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pacs.scp.front import Listener
from pacs.scp.server import DimseServer, listening_socket
from pacs.scp.settings import DimseSettings
from pacs.tls import Credentials, Renewed
from storage.archive import Archive
from storage.index.associations import Wanted, search
from tests.support.certificates import Authority, Pair
from tests.support.dimse_peer import Peer
from tests.support.dimse_server import Told, wait_until


@dataclass(frozen=True)
class Papers:
    """Everybody's certificates."""

    authority: Authority
    foreign: Authority
    server: Pair
    client: Pair

    def credentials(self, **changed: Any) -> Credentials:
        files = {"certificate": self.server.certificate, "key": self.server.key, "authorities": self.authority.file}
        return Credentials(**{**files, **changed})


@pytest.fixture(scope="session")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    authority = Authority(tmp_path_factory.mktemp("ca"))
    foreign = Authority(tmp_path_factory.mktemp("foreign"), "Foreign CA")
    return Papers(authority, foreign, authority.sign("server", rsa_bits=2048), authority.sign("client"))


class Secure:
    """A running server with both ports."""

    def __init__(self, archive: Archive, server: DimseServer, told: Told) -> None:
        self.archive, self.server, self.told = archive, server, told
        self.plain, self.tls = server.ports

    def logged(self, reason: str) -> None:
        """Wait until the association log says so."""
        wait_until(lambda: reason in [one.reason for one in search(self.archive.index, Wanted())])


@contextmanager
def secured(
    archive: Archive, credentials: Credentials, *, required: bool = True, host: str = "127.0.0.1", **settings: Any
) -> Iterator[Secure]:
    told = Told()
    server = DimseServer(
        archive,
        DimseSettings(credentials=credentials, **settings),
        sock=listening_socket(host, 0),
        tls=Listener(listening_socket(host, 0), Renewed(credentials, client_certificate=required)),
        observer=told,
    )
    server.start()
    try:
        yield Secure(archive, server, told)
    finally:
        server.stop(0)


def client_context(papers: Papers, pair: Pair | None = None, authority: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority or papers.authority.file))
    if pair:
        context.load_cert_chain(pair.certificate, pair.key)
    return context


class TlsPeer(Peer):
    """A peer of raw bytes, in Python's own TLS."""

    def __init__(self, port: int, context: ssl.SSLContext, host: str = "127.0.0.1") -> None:
        super().__init__(port, host=host)
        self.socket = context.wrap_socket(self.socket, server_hostname=host)


def dcmtk(
    program: str, port: int, papers: Papers, *files: str, option: str = "", pair: Pair | None = None, ca: Path | None = None
) -> subprocess.CompletedProcess[str]:
    # Not the Python programs of the same names that an environment may have first.
    if not shutil.which(program, path="/usr/bin"):
        pytest.skip(f"DCMTK's {program} is not installed: nothing is tested with it")
    pair = pair or papers.client
    command = [f"/usr/bin/{program}", "+tls", str(pair.key), str(pair.certificate), "+cf", str(ca or papers.authority.file)]
    command += [*([option] if option else []), "-aec", "LIGHTBOX", "127.0.0.1", str(port), *files]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
