"""Schema versions, applied by alembic from inside the program: there is no command and no file to configure."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from storage.errors import IndexUnavailable

# The newest version in `versions`; a test compares the two.
HEAD = "0025"
# Any number that nobody else takes: only one process migrates at a time (PostgreSQL advisory lock).
_LOCK = 5_120_447


def current(connection: Connection) -> str | None:
    """The version of the database that `connection` is to, or None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return version


def upgrade(connection: Connection) -> None:
    """Bring the schema to HEAD inside the caller's transaction; nothing happens when it is there already.

    Raises IndexUnavailable when a newer release has already taken the database further.
    """
    if connection.dialect.name == "postgresql":
        # Nobody waits for a migration but its administrator.
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    found = current(connection)
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        raise newer()
    # Imported here: alembic takes longer to import than an up-to-date database takes to open.
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    with EnvironmentContext(
        config, script, fn=lambda revision, _: script._upgrade_revs(HEAD, revision)
    ) as environment:
        environment.configure(connection=connection)
        environment.run_migrations()


def check(connection: Connection) -> None:
    """Raises IndexUnavailable unless the schema is the one that this release knows."""
    found = current(connection)
    if found is None or found < HEAD:
        raise IndexUnavailable(
            f"the database has schema {found or 'none'}, this release needs {HEAD}; run `pacs migrate`"
        )
    if found > HEAD:
        raise newer()


def newer() -> IndexUnavailable:
    """The refusal of a database that a newer release has written."""
    return IndexUnavailable(
        "the database was written by a newer release; start that release, or restore a backup"
    )
