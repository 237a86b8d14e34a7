"""Fixtures for real servers: PostgreSQL and S3, started by the tests, stopped at the end, skipped loudly without."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support import postgres, s3
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Bucket, S3Server


def pytest_report_header() -> list[str]:
    """Say at the top of the report which servers the tests run on."""
    database = postgres.why_not()
    version = postgres.programs()
    on = f"PostgreSQL tests run on PostgreSQL {version.parent.name}" if version and not database else ""
    return [on or f"PostgreSQL tests are skipped: {database}", s3.description()]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this session's own (of each worker's own, under pytest-xdist: it starts in a second)."""
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


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """An S3 server of this session's own: Ceph's gateway or moto (`server.kind`)."""
    reason = s3.why_not()
    if reason and os.environ.get(s3.CHOICE):
        pytest.fail(f"{s3.CHOICE} asks for a server that is not there: {reason}")
    if reason:
        pytest.skip(f"not tested on S3: {reason}")
    with s3.running() as server:
        yield server


@pytest.fixture
def s3_bucket(s3_server: S3Server) -> Iterator[S3Bucket]:
    """A new, empty bucket, removed after the test."""
    with s3_server.bucket() as bucket:
        yield bucket
