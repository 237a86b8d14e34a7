"""The schema: what the migrations make is what the tables say, on both engines, whoever opens it first."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from storage.errors import IndexUnavailable
from storage.index import migrations, open_index
from storage.index.clauses import _TRIGRAMS
from storage.index.database import Database
from storage.index.migrations.versions import v0014_joined_names
from storage.index.tables import metadata
from tests.support.entries import entry
from tests.support.indexes import studies

FOLDER = Path(migrations.__file__).parent


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'index.db'}"
    found: str = request.getfixturevalue("postgres_database")
    return found


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(url)
    yield opened
    opened.close()


def test_the_newest_migration_is_the_one_that_the_program_asks_for() -> None:
    script = ScriptDirectory(str(FOLDER))
    assert script.get_heads() == [migrations.HEAD]
    assert [revision.revision for revision in script.walk_revisions()] == sorted(
        (revision.revision for revision in script.walk_revisions()), reverse=True
    )


def _ours(_object: Any, name: str | None, kind: str, _reflected: bool, _compared: Any) -> bool:
    """SQLite's trigram index is a virtual table with tables of its own; PostgreSQL's an index by expression."""
    return not (
        kind in ("table", "index")
        and name is not None
        and ("study_text" in name or name == "alembic_version")
    )


def test_the_migrations_make_what_the_tables_say(url: str, database: Database) -> None:
    open_index(url).close()
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": _ours, "compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_opening_again_changes_nothing(url: str) -> None:
    index = open_index(url)
    index.add([entry()])
    index.close()
    for migrate in (True, False):
        again = open_index(url, migrate=migrate)
        assert again.counts().instances == 1
        again.close()


def test_several_may_open_a_new_database_at_once(url: str) -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            open_index(url).close()
        except BaseException as error:  # noqa: BLE001 - reported below
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert errors == []


def test_an_empty_database_is_refused_without_migration(url: str) -> None:
    with pytest.raises(IndexUnavailable, match="pacs migrate"):
        open_index(url, migrate=False)


@pytest.mark.parametrize("migrate", [True, False])
def test_a_database_of_a_newer_release_is_refused(url: str, database: Database, migrate: bool) -> None:
    open_index(url).close()
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(IndexUnavailable, match="newer release"):
        open_index(url, migrate=migrate)


def test_a_migration_that_fails_leaves_the_database_as_it_was(
    url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("alembic.op.bulk_insert", fail)
    with pytest.raises(ZeroDivisionError):
        open_index(url)
    with database.read() as connection:
        assert inspect(connection).get_table_names() == []
    monkeypatch.undo()
    open_index(url).close()


def test_names_of_an_older_schema_are_found_joined_too(url: str, database: Database) -> None:
    index = open_index(url)
    index.add([entry(PatientName="De la Cruz^María"), entry("1.2.4", PatientName="Doe^Jane")])
    with database.write() as connection:
        connection.execute(
            text(
                "UPDATE study SET patient_name_words = ' de la cruz maria ' WHERE patient_name LIKE 'de la%'"
            )
        )
    assert studies(index, PatientName="delacruz", fuzzy=True) == []
    with database.write() as connection, Operations.context(MigrationContext.configure(connection)):
        v0014_joined_names.upgrade()
    assert studies(index, PatientName="delacruz", fuzzy=True) == ["1.2.3"]
    assert studies(index, PatientName="doe", fuzzy=True) == ["1.2.4"]
    index.close()


def test_sqlite_finds_names_by_trigrams(tmp_path: Path) -> None:
    index = open_index(f"sqlite:///{tmp_path / 'i.db'}")
    with index.database.read() as connection:
        columns = {
            row[0] for row in connection.execute(text("SELECT name FROM pragma_table_info('study_text')"))
        }
        assert columns == _TRIGRAMS
        plan = connection.execute(
            text(
                "EXPLAIN QUERY PLAN SELECT * FROM study WHERE pk IN (SELECT rowid FROM study_text WHERE study_text MATCH 'abc')"
            )
        )
        assert "VIRTUAL TABLE" in str(plan.all())
    index.close()


@pytest.mark.parametrize("opened_again", [False, True])
def test_sqlite_merges_the_index_of_texts_without_passing_all_of_it(tmp_path: Path, opened_again: bool) -> None:
    """By FTS5's own statement, on the connection that has migrated as on every later one."""
    index = open_index(f"sqlite:///{tmp_path / 'index.sqlite'}")
    if opened_again:
        index.close()
    with index.database.write() as connection:
        plan = connection.execute(text("EXPLAIN QUERY PLAN DELETE FROM study_text_data WHERE id >= 1 AND id <= 2")).all()
    index.close()
    assert [row[3].split()[0] for row in plan] == ["SEARCH"], plan


@pytest.mark.postgres
def test_postgresql_finds_names_by_trigrams(postgres_database: str) -> None:
    index = open_index(postgres_database)
    with index.database.read() as connection:
        found = {one["name"]: one for one in inspect(connection).get_indexes("study")}
    assert set(found["ix_study_text"]["column_names"]) == _TRIGRAMS
    index.close()


@pytest.mark.postgres
def test_without_the_trigram_extension_search_is_only_slower(postgres_database: str) -> None:
    """A role that may not create extensions, in a database whose owner it is not."""
    engine = create_engine(postgres_database, isolation_level="AUTOCOMMIT")
    name = engine.url.database
    with engine.connect() as connection:
        connection.execute(text("DROP ROLE IF EXISTS plain_user"))
        connection.execute(text("CREATE ROLE plain_user LOGIN PASSWORD 'plain'"))
        connection.execute(text("GRANT CREATE, USAGE ON SCHEMA public TO plain_user"))
    try:
        url = engine.url.set(username="plain_user", password="plain").render_as_string(hide_password=False)
        index = open_index(url)
        index.add([entry(PatientName="Doe^Jane")])
        assert studies(index, PatientName="*jan*") == ["1.2.3"]
        index.close()
    finally:
        with engine.connect() as connection:
            connection.execute(text("DROP OWNED BY plain_user"))
            connection.execute(text(f'REVOKE ALL ON DATABASE "{name}" FROM plain_user'))
            connection.execute(text("DROP ROLE plain_user"))
        engine.dispose()


def test_an_up_to_date_database_opens_without_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'i.db'}"
    open_index(url).close()
    program = "import sys; from storage.index import open_index; open_index(sys.argv[1]); print('alembic' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program, url], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


FORKS = """
import os, sys
from storage.index import open_index
from tests.support.entries import entry
from tests.support.indexes import studies
index = open_index(sys.argv[1])
index.add([entry("1.1", "1", "parent")])
children = []
for child in range(3):
    pid = os.fork()
    if pid == 0:
        for n in range(10):
            index.add([entry("1.1", "1", f"{child}{n}")])
        os._exit(0)
    children.append(pid)
for n in range(10):
    index.add([entry("1.1", "1", f"9{n}")])
codes = [os.waitpid(pid, 0)[1] for pid in children]
assert codes == [0, 0, 0], codes
print(index.counts().instances, len(index.changes(0, 100)))
"""


def test_an_index_works_on_both_sides_of_a_fork(url: str) -> None:
    """Several processes write into one study: counters and feed are exact."""
    checkout = Path(__file__).resolve().parents[1]
    found = subprocess.run(
        [sys.executable, "-c", FORKS, url], capture_output=True, text=True, cwd=checkout, timeout=120
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == ["41", "41"]
