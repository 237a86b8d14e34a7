"""Connections: how SQLite and PostgreSQL are opened so that a commit is durable, and where their errors become ours."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidatePoolError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from storage.errors import IndexUnavailable, StoreFull
from storage.index.deadlines import Budget, Deadlines
from storage.index.turns import Turns
from storage.index.writer import KEPT, CommitFailed, Writer

# How long a writer waits for another process's transaction, and a request for a connection, before it gives up.
BUSY_SECONDS: Final = 10
_SQLITE_PRAGMAS: Final = (
    "PRAGMA journal_mode=WAL",
    # In WAL mode only FULL syncs the log at every commit; NORMAL loses acknowledged instances in a power cut.
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}",
    "PRAGMA cache_size=-16384",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA journal_size_limit=67108864",
)
_POSTGRESQL_SETTINGS: Final = {
    "synchronous_commit": "on",
    "timezone": "UTC",
    "lock_timeout": f"{BUSY_SECONDS}s",
    "statement_timeout": "12s",
    # A process that stops in mid-transaction must not hold up everybody else's.
    "idle_in_transaction_session_timeout": "30s",
}
# Whole transactions, when the server may not answer at all: a client is to have its answer within 15 seconds.
_TRANSACTION_SECONDS: Final = 12.0
_PING_SECONDS: Final = 3.0
_STEPS_BETWEEN_QUESTIONS: Final = 200_000
_FULL: Final = "the database has no room on its disk; free space and send again"


class Rerun(Exception):
    """The transaction lost to another one (same new study or instance, deadlock): run it again."""


class CommitUnknown(IndexUnavailable):
    """The connection broke, or the disk failed, during COMMIT: the transaction may or may not have happened."""

    full = False

    def undone(self) -> IndexUnavailable | StoreFull:
        """What to raise when it turns out that it has not."""
        return StoreFull(_FULL) if self.full else self


class Database:
    """Transactions on one database.

    Connections belong to the process that opened them: after a fork the child gets an engine of its own at its first
    transaction, and leaves its parent's connections alone. Thread-safe.
    """

    def __init__(self, url: str) -> None:
        self.url: Final = _checked(url)
        self.sqlite: Final = self.url.get_backend_name() == "sqlite"
        self._lock = threading.Lock()
        self._deadlines = Deadlines()
        self._turns: Turns | None = None
        self._writer = Writer()
        # Of those that this process was forked from: never used, and never closed, because the parent still writes by them.
        self._inherited: list[Writer] = []
        self._engine: Engine | None = None
        self._pid = 0

    @property
    def engine(self) -> Engine:
        """This process's engine."""
        if self._engine is None or self._pid != os.getpid():
            with self._lock:
                if self._engine is None or self._pid != os.getpid():
                    if self._engine is not None:
                        self._engine.dispose(close=False)
                    if self._pid != os.getpid():
                        self._deadlines = Deadlines()
                        # After a fork the old lock is the parent's: the child must not share what it holds.
                        self._turns = self._new_turns()
                        self._inherited.append(self._writer)
                        self._writer = Writer()
                    self._engine, self._pid = _engine(self.url, self._deadlines), os.getpid()
        return self._engine

    def _new_turns(self) -> Turns | None:
        return Turns(Path(f"{self.url.database}-turn"), BUSY_SECONDS) if self.sqlite else None

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent snapshot; nothing may be written."""
        with translated(), self.engine.connect() as connection, self._in_time(connection, _TRANSACTION_SECONDS):
            yield connection

    @contextlib.contextmanager
    def write(self, *, patient: bool = False) -> Iterator[Connection]:
        """A transaction, committed at the end of the block and rolled back by an exception.

        `patient`: it may take as long as it takes (migrations). Raises Rerun when it lost to another transaction,
        CommitUnknown when it may have been committed.
        """
        # First the turn: who has it must not wait for a connection that one holds who waits for the turn.
        with translated(), self.turn(), self._begun(None if patient else _TRANSACTION_SECONDS) as connection:
            yield connection

    def _begun(self, seconds: float | None) -> contextlib.AbstractContextManager[Connection]:
        return self._writer.transaction(self.engine, seconds) if self.sqlite else self._begun_by_server(seconds)

    @contextlib.contextmanager
    def _begun_by_server(self, seconds: float | None) -> Iterator[Connection]:
        with self.engine.connect() as connection, self._in_time(connection, seconds):
            transaction = connection.begin()
            try:
                yield connection
            except BaseException:
                with contextlib.suppress(SQLAlchemyError):
                    transaction.rollback()
                raise
            try:
                transaction.commit()
            except DBAPIError as error:
                raise CommitFailed from error

    def turn(self) -> contextlib.AbstractContextManager[None]:
        """The right to write, where only one can (SQLite); a thread that has it keeps it in the blocks inside."""
        if not self.sqlite:
            return contextlib.nullcontext()
        _ = self.engine  # a process that was just forked makes its own first
        return self._turns.take() if self._turns else contextlib.nullcontext()

    def _in_time(self, connection: Connection, seconds: float | None) -> contextlib.AbstractContextManager[None]:
        if self.sqlite:
            connection.info["budget"].begin(seconds)
            return contextlib.nullcontext()
        if seconds is None:
            return contextlib.nullcontext()
        return self._deadlines.within(_descriptor(connection.connection.dbapi_connection), seconds)

    def reconnect(self) -> None:
        """Open new connections from now on; what this thread holds of its turn it keeps."""
        self._leave_writer()
        with self._lock:
            if self._engine is not None:
                self._engine.dispose(close=self._pid == os.getpid())
                self._engine = None

    def close(self) -> None:
        """Close this process's connections. The next transaction opens new ones."""
        self._leave_writer()
        with self._lock:
            if self._engine is not None:
                self._engine.dispose(close=self._pid == os.getpid())
                self._engine = None
            if self._turns is not None:
                self._turns.close()

    def _leave_writer(self) -> None:
        if self._pid == os.getpid():
            self._writer.close()


_watchers: Final[list[Callable[[BaseException], None]]] = []


def watch(watcher: Callable[[BaseException], None]) -> Callable[[], None]:
    """Have `watcher` told of every failure of a database of this process, lost races excluded; returns what ends that."""
    _watchers.append(watcher)
    return lambda: _watchers.remove(watcher)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """The one place where the database's errors become ours: SQLAlchemy's, and SQLite's own (see `prepared`)."""
    try:
        yield
    except CommitFailed as failed:
        raise _uncommitted(failed) from failed
    except PoolTimeout as error:
        _tell(error)
        raise IndexUnavailable("every connection to the database is in use; send again later") from error
    except IntegrityError as error:
        raise Rerun from error
    except DBAPIError as error:
        raise _ours(error, error.orig, broken=error.connection_invalidated) from error
    except sqlite3.IntegrityError as error:
        raise Rerun from error
    except sqlite3.Error as error:
        raise _ours(error, error) from error


def _ours(error: Exception, cause: BaseException | None, *, broken: bool = False) -> Exception:
    if _lost(cause):
        return Rerun()
    _tell(cause or error)
    if _is_full(cause):
        return StoreFull(_FULL)
    if _is(cause, "QueryCanceled") or _sqlite_code(cause) == sqlite3.SQLITE_INTERRUPT:
        return IndexUnavailable("the database took too long over this; ask for less, or send again later")
    if broken or isinstance(cause, sqlite3.DatabaseError) or _is(cause, "OperationalError", "InterfaceError", "InternalError"):
        # Only the kind of failure: the driver's text may quote values.
        return IndexUnavailable(f"the database does not answer ({type(cause).__name__}); send again later")
    return error


def _tell(error: BaseException) -> None:
    for watcher in _watchers:
        watcher(error)


def _lost(cause: BaseException | None) -> bool:
    """Whether PostgreSQL has rolled back in favour of another transaction: a deadlock, or one that cannot be serialized.

    Class 40 of its error codes; to psycopg these are kinds of OperationalError that have no ancestor of their own.
    """
    return _is(cause, "Error") and (getattr(cause, "sqlstate", None) or "").startswith("40")


def _is(cause: BaseException | None, *names: str) -> bool:
    """Whether it is one of these errors of psycopg, which is loaded only where the database is PostgreSQL."""
    driver = sys.modules.get("psycopg")
    return driver is not None and isinstance(cause, tuple(getattr(driver.errors, name) for name in names))


def _is_full(cause: BaseException | None) -> bool:
    return _is(cause, "DiskFull") or _sqlite_code(cause) == sqlite3.SQLITE_FULL


def _sqlite_code(cause: BaseException | None) -> int:
    """The primary result code (the low byte of the extended one), or 0."""
    return getattr(cause, "sqlite_errorcode", 0) & 0xFF


def _uncommitted(failed: CommitFailed) -> Exception:
    error = failed.__cause__
    cause = error.orig if isinstance(error, DBAPIError) else error
    if _is(cause, "IntegrityError") or _lost(cause):
        return Rerun()
    _tell(cause or failed)
    unknown = CommitUnknown("the database failed in mid-commit; send again")
    unknown.full = _is_full(cause)
    return unknown


def _checked(url: str) -> URL:
    made = make_url(url)
    backend = made.get_backend_name()
    if backend == "sqlite" and made.database and made.database != ":memory:":
        return made.set(drivername="sqlite+pysqlite")
    if backend == "postgresql":
        return made.set(drivername="postgresql+psycopg")
    raise ValueError("the database URL must be sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE")


def _engine(url: URL, deadlines: Deadlines) -> Engine:
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url)
    return _postgresql_engine(url, deadlines)


def _descriptor(connection: Any) -> int:
    """The socket of a psycopg connection."""
    found: int = connection.fileno()
    return found


def _sqlite_engine(url: URL) -> Engine:
    Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=8,
        max_overflow=56,
        # The latest used is used again: its cache has the most of what the next one needs.
        pool_use_lifo=True,
        pool_timeout=BUSY_SECONDS,
        connect_args={"check_same_thread": False, "timeout": BUSY_SECONDS, "cached_statements": 256},
    )
    event.listen(engine, "connect", _sqlite_connected)
    event.listen(engine, "begin", _sqlite_begin)
    return engine


def _sqlite_connected(connection: Any, record: Any) -> None:
    # Transactions are begun by `_sqlite_begin`; the driver must not begin any of its own.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in _SQLITE_PRAGMAS:
        cursor.execute(pragma)
    cursor.close()
    budget = record.info["budget"] = Budget()
    connection.set_progress_handler(budget.spent, _STEPS_BETWEEN_QUESTIONS)


def _sqlite_begin(connection: Connection) -> None:
    """What is read is one snapshot; who writes begins otherwise (`storage.index.writer`)."""
    if not connection.get_execution_options().get(KEPT):
        connection.exec_driver_sql("BEGIN")


def _postgresql_engine(url: URL, deadlines: Deadlines) -> Engine:
    import psycopg

    engine = create_engine(
        url,
        pool_size=8,
        max_overflow=24,
        pool_timeout=BUSY_SECONDS,
        connect_args={
            "connect_timeout": 5,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
            "application_name": "lightbox",
        },
    )
    event.listen(engine, "connect", _postgresql_connected)

    def ping(connection: Any, _record: Any, _proxy: Any) -> None:
        """Asked at every use: a server that was restarted costs nobody an error, one that is silent little time."""
        try:
            with deadlines.within(_descriptor(connection), _PING_SECONDS):
                connection.execute("SELECT 1")
                connection.rollback()
        except psycopg.Error as error:
            raise InvalidatePoolError from error

    event.listen(engine, "checkout", ping)
    return engine


def _postgresql_connected(connection: Any, _record: Any) -> None:
    settings = "; ".join(f"SET {name} = '{value}'" for name, value in _POSTGRESQL_SETTINGS.items())
    connection.execute(settings)
    connection.commit()
