"""When the database is in trouble: nothing half done, nothing acknowledged in error, and an answer in time."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, make_url, text, update

from storage.errors import IndexUnavailable, StoreFull
from storage.index import Counts, Index, open_index
from storage.index.database import CommitUnknown, Database, Rerun
from storage.index.deletions import Deletions
from storage.index.holds import Holds
from storage.index.tables import counter
from storage.rejection import Why
from storage.types import Job, Outcome, Scope
from tests.support.entries import entry
from tests.support.indexes import counters_are_exact, in_threads, outcomes
from tests.support.proxies import Proxy, proxy


def test_an_exception_leaves_nothing_behind(index: Index) -> None:
    bad = entry(instance="2", jobs=(Job("x", {"y": object()}),))
    with pytest.raises(TypeError):
        index.add([entry(), bad])
    assert index.counts() == Counts(0, 0, 0, 0)
    assert index.changes(0, 10) == []
    assert outcomes(index.add([entry()])) == [Outcome.STORED]


class BreaksInCommit(Database):
    """Loses its connection in COMMIT: after it happened, or before."""

    happened = True

    def write(self, *, patient: bool = False) -> Any:
        @contextlib.contextmanager
        def writing() -> Iterator[Any]:
            try:
                with super(BreaksInCommit, self).write() as connection:
                    yield connection
                    if not self.happened:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                pass
            raise CommitUnknown("the connection broke")

        return writing()


@pytest.mark.parametrize("happened", [True, False])
def test_a_commit_of_unknown_outcome_is_looked_up(index: Index, index_url: str, happened: bool) -> None:
    index.add([entry("1.1", "1", "1", content="a")])
    database = BreaksInCommit(index_url)
    database.happened = happened
    broken = Index(database)
    batch = [entry("1.2", "1", "1"), entry("1.1", "1", "1", content="b")]
    if happened:
        assert outcomes(broken.add(batch)) == [Outcome.STORED, None]
        assert index.counts().instances == 2
    else:
        with pytest.raises(IndexUnavailable):
            broken.add(batch)
        assert index.counts().instances == 1
    broken.close()


@pytest.mark.parametrize("happened", [True, False])
def test_deletions_and_holds_of_unknown_outcome_are_looked_up(index: Index, index_url: str, happened: bool) -> None:
    index.add([entry("1.1"), entry("1.2")])
    made = Deletions(index).delete(Scope("1.1"), Why(), "x")
    database = BreaksInCommit(index_url)
    database.happened = happened
    broken = Index(database)
    asked: list[Callable[[], object]] = [
        lambda: Deletions(broken).restore(made.id, "x"),
        lambda: Holds(broken).add("1.1", "lawsuit", "x"),
        lambda: Deletions(broken).delete(Scope("1.2"), Why(), "x"),
    ]
    for one in asked:
        if happened:
            assert one() is not None
        else:
            with pytest.raises(IndexUnavailable):
                one()
    assert index.counts().studies == 1
    assert bool(list(index.locate(Scope("1.1")))) == happened
    assert bool(Holds(index).all()) == happened
    broken.close()


@pytest.mark.postgres
def test_who_loses_a_deadlock_runs_again(postgres_database: str) -> None:
    """Two transactions that want each other's rows: PostgreSQL ends one of them, and that one is only to be run again."""
    open_index(postgres_database).close()
    database, both = Database(postgres_database), threading.Barrier(2)

    def work(which: int) -> None:
        with database.write() as connection:
            for step in (which, 1 - which):
                connection.execute(update(counter).where(counter.c.name == ["change", "workitem event"][step]).values(value=1))
                if step == which:
                    both.wait(10)

    assert [type(error) for error in in_threads(work, 2)] == [Rerun]
    database.close()


def test_a_search_without_end_is_ended(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    index.ping()
    monkeypatch.setattr("storage.index.database._TRANSACTION_SECONDS", 0.3)
    endless = text(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000) SELECT count(*) FROM n"
    )
    begun = time.monotonic()
    with pytest.raises(IndexUnavailable), index.database.read() as connection:
        connection.execute(endless)
    assert time.monotonic() - begun < 5
    monkeypatch.undo()
    index.ping()


def test_ping_and_reuse_after_close(index: Index) -> None:
    index.ping()
    index.close()
    index.ping()


@pytest.mark.parametrize("url_text", ["mysql://x/y", "sqlite://", "sqlite:///:memory:"])
def test_other_databases_are_refused(url_text: str) -> None:
    with pytest.raises(ValueError, match="database URL"):
        open_index(url_text)


def test_an_absent_server_is_unavailable() -> None:
    with pytest.raises(IndexUnavailable) as refused:
        open_index("postgresql+psycopg://nobody:secret@127.0.0.1:9/none")
    assert "secret" not in str(refused.value)


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "index.db").write_bytes(b"no database" * 1000)
    with pytest.raises(IndexUnavailable):
        open_index(f"sqlite:///{tmp_path / 'index.db'}")


def test_a_full_disk_is_a_full_store(tmp_path: Path) -> None:
    index = open_index(f"sqlite:///{tmp_path / 'index.db'}")
    index.add([entry()])
    with index.database.engine.connect() as connection:
        pages = connection.scalar(text("PRAGMA page_count"))
    index.close()
    event.listen(index.database.engine, "connect", lambda c, _: c.execute(f"PRAGMA max_page_count={pages}"))
    with pytest.raises(StoreFull):
        index.add([entry("1.5", "1", str(n), PatientComments="x" * 500) for n in range(500)])
    assert index.counts() == Counts(1, 1, 1, 1000)
    assert outcomes(index.add([entry()])) == [Outcome.ALREADY]
    index.close()


def test_sqlite_is_as_durable_as_promised(tmp_path: Path) -> None:
    index = open_index(f"sqlite:///{tmp_path / 'deep' / 'er' / 'index.db'}")
    with index.database.read() as connection:
        asked = ("journal_mode", "synchronous", "foreign_keys")
        assert [connection.scalar(text(f"PRAGMA {name}")) for name in asked] == ["wal", 2, 1]
    index.close()


@pytest.mark.postgres
def test_postgresql_is_as_durable_as_promised(postgres_database: str) -> None:
    index = open_index(postgres_database)
    with index.database.read() as connection:
        assert connection.scalar(text("SHOW synchronous_commit")) == "on"
    index.close()


# --- a server that goes away (PostgreSQL) -------------------------------------------------------------------------


@pytest.fixture
def through_proxy(postgres_database: str) -> Iterator[tuple[Proxy, Index]]:
    """An index on a PostgreSQL behind a proxy that can be told to misbehave."""
    real = make_url(postgres_database)
    assert real.port is not None
    open_index(postgres_database).close()
    with proxy(real.port) as between:
        index = open_index(real.set(port=between.port).render_as_string(hide_password=False))
        yield between, index
        index.close()


@pytest.mark.postgres
@pytest.mark.parametrize("moment", ["after", "before"])
def test_a_connection_cut_in_commit(through_proxy: tuple[Proxy, Index], moment: str) -> None:
    """Cut after the server has committed, the ingest succeeds; cut before, it fails, and the resend succeeds."""
    between, index = through_proxy
    index.ping()
    cuts = iter([moment])
    between.watch = lambda data: next(cuts, None) if b"COMMIT" in data else None
    if moment == "after":
        assert outcomes(index.add([entry()])) == [Outcome.STORED]
    else:
        with pytest.raises(IndexUnavailable):
            index.add([entry()])
        assert index.counts().instances == 0
    assert outcomes(index.add([entry()])) == [Outcome.ALREADY if moment == "after" else Outcome.STORED]
    assert index.counts() == Counts(1, 1, 1, 1000)


@pytest.mark.postgres
def test_a_server_that_falls_silent_is_given_up_in_time(
    through_proxy: tuple[Proxy, Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    between, index = through_proxy
    monkeypatch.setattr("storage.index.database._TRANSACTION_SECONDS", 1.0)
    monkeypatch.setattr("storage.index.database._PING_SECONDS", 1.0)
    index.add([entry()])
    # In mid-transaction first, then at the next use of a connection.
    between.watch = lambda data: setattr(between, "silent", True) if b"INSERT" in data else None
    begun = time.monotonic()
    for _ in range(2):
        with pytest.raises(IndexUnavailable):
            index.add([entry(instance="2")])
        assert time.monotonic() - begun < 15
        begun = time.monotonic()
    between.watch = lambda _: None
    between.silent = False
    assert outcomes(index.add([entry(instance="2")])) == [Outcome.STORED]
    counters_are_exact(index)


@pytest.mark.postgres
def test_a_server_that_was_restarted_costs_nobody_an_error(postgres_database: str) -> None:
    index, other = open_index(postgres_database), open_index(postgres_database)
    index.add([entry()])
    assert in_threads(lambda _: index.ping(), 4) == []
    with other.database.write() as connection:
        ended = text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert connection.scalars(ended).all()
    assert index.counts().instances == 1
    assert outcomes(index.add([entry(instance="2")])) == [Outcome.STORED]
    index.close()
    other.close()
