"""An index of its own for every test, on SQLite and on PostgreSQL, and short ways to ask it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom.datadict import dictionary_VR
from sqlalchemy import func, select, text, update

from storage.attributes import TABLE, tag_of
from storage.index import Added, Index, open_index
from storage.index import tables as t
from storage.index.database import Database
from storage.matching import Conditions, combined, parse
from storage.types import Level, Outcome, Query
from tests.support.entries import values
from tests.support.postgres import PostgresServer

ENGINES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(scope="session")
def empty_index_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file without a row, to be copied: quicker than to migrate for every test."""
    path = tmp_path_factory.mktemp("empty") / "index.db"
    open_index(f"sqlite:///{path}").close()
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: PostgresServer) -> Iterator[str]:
    """A migrated PostgreSQL database, to be emptied for every test."""
    with postgres_server.database() as url:
        open_index(url).close()
        yield url


@pytest.fixture(params=ENGINES)
def index_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a migrated index without a row: the test runs once on each engine."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("empty_index_file"), tmp_path / "index.db")
        return f"sqlite:///{tmp_path / 'index.db'}"
    found: str = request.getfixturevalue("migrated_postgres")
    names = ", ".join(table.name for table in t.metadata.sorted_tables if table is not t.counter)
    database = Database(found)
    with database.write() as connection:
        connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
        connection.execute(update(t.counter).values(value=0))
    database.close()
    return found


@pytest.fixture
def index(index_url: str) -> Iterator[Index]:
    """An open index without a row: the test runs once on each engine."""
    opened = open_index(index_url)
    yield opened
    opened.close()


def conditions(asked: dict[str, str]) -> Conditions:
    """Conditions by keyword; `A__B` is B inside the sequence A."""
    made = []
    for keyword, value in asked.items():
        path = tuple(tag_of(part) for part in keyword.split("__"))
        made.append((path, parse(path, _vr(keyword.split("__")[-1]), value)))
    return tuple(made)


def _vr(keyword: str) -> str:
    return TABLE[keyword].vr if keyword in TABLE else dictionary_VR(tag_of(keyword))


def find(index: Index, level: Level, fields: list[str] | None = None, **asked: Any) -> list[Any]:
    """The answers to a question by keyword; limit, offset and fuzzy are options."""
    options = {name: asked.pop(name) for name in ("limit", "offset", "fuzzy") if name in asked}
    wanted = None if fields is None else frozenset(".".join(tag_of(p) for p in f.split("__")) for f in fields)
    return list(index.find(Query(level, combined(conditions(asked)), wanted, **options)))


def studies(index: Index, **asked: Any) -> list[Any]:
    """The UIDs of the studies that are found."""
    return values(find(index, Level.STUDY, [], **asked), "StudyInstanceUID")


def outcomes(added: Sequence[Added]) -> list[Outcome | None]:
    """What became of each entry."""
    return [one.outcome for one in added]


def in_threads(work: Callable[[int], object], number: int) -> list[BaseException]:
    """Call `work` with 0, 1, 2… in as many threads at once; what they raised."""
    errors: list[BaseException] = []

    def run(which: int) -> None:
        try:
            work(which)
        except BaseException as error:  # noqa: BLE001 - reported by the test
            errors.append(error)

    threads = [threading.Thread(target=run, args=(which,)) for which in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    return errors


def counters_are_exact(index: Index) -> None:
    """Every counter equals what it counts."""
    with index.database.read() as connection:
        for row in connection.execute(select(t.study)).all():
            of_study = select(t.series).where(t.series.c.study_pk == row.pk)
            assert len(connection.execute(of_study).all()) == row.number_of_series
        total = 0
        for row in connection.execute(select(t.series)).all():
            found = connection.scalars(
                select(t.instance.c.size).where(t.instance.c.series_pk == row.pk)
            ).all()
            assert (len(found), sum(found)) == (row.number_of_instances, row.size)
            total += len(found)
        assert total == connection.scalar(select(func.sum(t.study.c.number_of_instances)))
    tally_is_exact(index)


def tally_is_exact(index: Index) -> None:
    """As many studies as each day, and each month, has: not one row more."""
    days = "SELECT partition, substr(study_date, 1, 6), study_date, count(*) FROM study WHERE deleted_at IS NULL GROUP BY 1, 2, 3"
    months = "SELECT partition, 'all', substr(study_date, 1, 6), count(*) FROM study WHERE deleted_at IS NULL GROUP BY 1, 2, 3"
    with index.database.read() as connection:
        counted = {tuple(row) for query in (days, months) for row in connection.execute(text(query))}
        assert {tuple(row) for row in connection.execute(select(t.study_tally))} == counted
