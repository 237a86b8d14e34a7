"""Fixtures for real servers: PostgreSQL and S3, started by the tests, stopped at the end, skipped loudly without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import postgres
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this session's own (of each worker's own, under pytest-xdist)."""
    reason = postgres.why_not()
    if reason:
        pytest.skip(f"not tested on PostgreSQL: {reason}")
    with postgres.running() as server:
        yield server


@pytest.fixture
def postgres_database(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a new, empty database (`postgresql+psycopg://…`), dropped after the test."""
    with postgres_server.database() as url:
        yield url
