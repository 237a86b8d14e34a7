"""A real PostgreSQL for tests: its own cluster in a temporary folder, on a free port, as a user who is not root."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.support.children import Child, ServerFailed, free_port, run, server_folder, start

# A test server may lose everything in a power cut, so nothing is flushed; what a transaction means is as in production.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "max_wal_size": "1GB",
    "log_min_messages": "warning",
    "timezone": "UTC",
}


@dataclass(frozen=True)
class PostgresServer:
    """A running server. `child` is the postmaster, for tests that stop, kill or pause it."""

    port: int
    password: str
    version: str
    child: Child

    def url(self, database: str = "postgres") -> str:
        """A SQLAlchemy URL for psycopg 3."""
        return f"postgresql+psycopg://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        """A connection to the maintenance database in which each statement is its own transaction."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", password=self.password, dbname="postgres",
            autocommit=True, connect_timeout=5,
        )  # fmt: skip

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """A new empty database: its URL. Dropped afterwards, whoever is still connected to it."""
        name = f"t_{secrets.token_hex(6)}"
        with self.connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        try:
            yield self.url(name)
        finally:
            with self.connect() as connection:
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def programs() -> Path | None:
    """The folder of initdb and postgres: the newest that Debian keeps, else what the PATH has; None without any."""
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(versions, key=lambda path: float(path.parts[-3]), default=None)
    found = newest or shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def why_not() -> str | None:
    """Why no PostgreSQL can be started here, or None when one can."""
    if programs() is None:
        return "PostgreSQL's programs (initdb, postgres) are not installed: apt-get install postgresql"
    if os.geteuid() == 0 and _owner() is None:
        return "postgres refuses to run as root, and there is neither a user postgres nor nobody to run it as"
    return None


@contextlib.contextmanager
def running() -> Iterator[PostgresServer]:
    """A new server; stopped and its folder removed afterwards."""
    binaries, owner = programs(), _owner()
    assert binaries is not None, why_not()
    with server_folder("postgres", owner) as folder:
        password = _make_cluster(binaries, folder, owner)
        server = _start(binaries, folder, owner, password)
        try:
            yield server
        finally:
            server.child.stop()


def _owner() -> str | None:
    """The user who runs the server: whoever runs the tests, unless that is root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)


def _make_cluster(binaries: Path, folder: Path, owner: str | None) -> str:
    password = secrets.token_hex(16)
    secret = folder / "password"
    secret.write_text(password)
    if owner is not None:
        os.chown(secret, pwd.getpwnam(owner).pw_uid, -1)
    # UTF-8 with its letters known: pg_trgm and lower() see only ASCII letters under the locale C.
    locale = "C.UTF-8" if sys.platform == "linux" else "en_US.UTF-8"
    options = ["--no-sync", "--encoding=UTF8", f"--locale={locale}", "--username=postgres"]
    options += ["--auth=scram-sha-256", f"--pwfile={secret}", f"--pgdata={folder / 'data'}"]
    run([str(binaries / "initdb"), *options], user=owner)
    return password


def _start(binaries: Path, folder: Path, owner: str | None, password: str) -> PostgresServer:
    """Start it on a free port, on another one when somebody was faster."""
    for attempt in range(3):
        port = free_port()
        settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        command = [str(binaries / "postgres"), "-D", str(folder / "data"), "-p", str(port), *settings]
        # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients to leave.
        child = start(command, folder / f"postgres-{attempt}.log", user=owner, stop_signal=signal.SIGINT)
        server = PostgresServer(port, password, binaries.parent.name, child)
        try:
            child.wait_until(lambda server=server: _answers(server))  # type: ignore[misc]
        except ServerFailed:
            child.stop()
            if attempt == 2 or "Address already in use" not in child.log_tail():
                raise
            continue
        return server
    raise AssertionError("unreachable: the last attempt returns or raises")


def _answers(server: PostgresServer) -> bool:
    try:
        server.connect().close()
    except psycopg.OperationalError:
        return False
    return True
