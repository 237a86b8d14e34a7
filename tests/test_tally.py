"""How many studies each day has, and pages far down the list that are found by it: as by counting off, whatever happens, on both engines."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from storage.errors import NotFound
from storage.index import Index, open_index
from storage.index.deletions import Deletions
from storage.index.migrations.versions import v0025_tally
from storage.matching import combined
from storage.rejection import Why
from storage.types import DEFAULT_PARTITION, Level, Query, Scope
from tests.support.counting import steps_of_sqlite
from tests.support.entries import entry, values
from tests.support.indexes import conditions, in_threads, tally_is_exact

# `storage.index` has a function of that name.
find = import_module("storage.index.find")

DAYS = ("20221231", "20230501", "20240101", "20240102", "20240131", "20240201", "")
PARTITIONS = (DEFAULT_PARTITION, "other")
# Every way to ask for a part of the list by its days, and some that are answered otherwise.
ASKED: list[dict[str, str]] = [
    {},
    {"StudyDate": "20240101-"},
    {"StudyDate": "20230502-"},
    {"StudyDate": "-20240131"},
    {"StudyDate": "-20230430"},
    {"StudyDate": "20230101-20240131"},
    {"StudyDate": "20240101-20240102"},
    {"StudyDate": "20250101-"},
    {"StudyDate": "", "PatientName": "*"},
    {"StudyDate": "20240101"},
    {"StudyDate": "20240101-", "PatientID": "P1"},
    {"ModalitiesInStudy": "CT"},
    {"StudyDate": "20230101-20240131", "StudyTime": "10-"},
]


def _as_counted_off(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every page of some searches, and how many answers they have, is what it is without a tally."""
    for partition in PARTITIONS:
        for asked in ASKED:
            query = Query(Level.STUDY, combined(conditions(asked)), frozenset(), partition=partition)
            monkeypatch.setattr(find, "LEAST_OFFSET", 10**9)
            whole = values(index.find(query), "StudyInstanceUID")
            monkeypatch.setattr(find, "LEAST_OFFSET", 0)
            assert index.count(query) == len(whole), asked
            for offset in range(len(whole) + 3):
                page = values(index.find(replace(query, offset=offset, limit=3)), "StudyInstanceUID")
                assert page == whole[offset : offset + 3], (asked, offset)
            assert values(index.find(replace(query, offset=2)), "StudyInstanceUID") == whole[2:], asked
            first = index.find(replace(query, limit=2))
            assert values(first, "StudyInstanceUID") == whole[:2]
            behind = replace(query, after=first.key)
            assert values(index.find(replace(behind, offset=1)), "StudyInstanceUID") == whole[3:], asked
            assert index.count(behind) == max(len(whole) - 2, 0), asked


class _Archive:
    """Whatever happens to studies, at random."""

    def __init__(self, index: Index, seed: int) -> None:
        self._index = index
        self._deletions = Deletions(index)
        self._random = random.Random(seed)
        self._deleted: list[int] = []

    def step(self) -> None:
        self._random.choice((self._store, self._store, self._store, self._delete, self._delete, self._restore, self._purge))()

    def _study(self) -> str:
        return f"1.{self._random.randrange(20)}"

    def _store(self) -> None:
        """Of a batch some belong to studies that are there, or were, and may say another day than the first did."""
        partition = self._random.choice((*PARTITIONS, PARTITIONS[0]))
        batch = []
        for _ in range(self._random.randrange(1, 5)):
            study, instance = self._study(), str(self._random.randrange(3))
            date, time = self._random.choice(DAYS), self._random.choice(("09", "10", "11", ""))
            batch.append(
                entry(f"{study}.{partition}".replace(".other", ".9").replace(".default", ""), "1", instance, StudyDate=date,
                      StudyTime=time, PatientID=f"P{int(study[2:]) % 2}", Modality=self._random.choice(("CT", "MR")))
            )  # fmt: skip
        self._index.add([replace(one, partition=partition) for one in batch], duplicates=self._random.choice(("keep", "replace")))

    def _delete(self) -> None:
        study = self._study()
        scope = self._random.choice((Scope(study), Scope(study, f"{study}.1", f"{study}.1.0")))
        try:
            self._deleted.append(self._deletions.delete(scope, Why(), "x").id)
        except NotFound:
            return

    def _taken(self) -> int:
        return self._deleted.pop(self._random.randrange(len(self._deleted)))

    def _restore(self) -> None:
        if self._deleted:
            self._deletions.restore(self._taken(), "x")

    def _purge(self) -> None:
        if self._deleted:
            self._deletions.purge_some(self._taken(), "x")


@pytest.mark.parametrize("seed", range(4))
def test_pages_are_as_counted_off_whatever_happens(index: Index, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = _Archive(index, seed)
    for number in range(60):
        archive.step()
        tally_is_exact(index)
        if number % 20 == 19:
            _as_counted_off(index, monkeypatch)


def test_new_studies_of_one_day_from_many_threads(index: Index) -> None:
    """They all write the same two rows, in whichever order their studies come."""

    def work(which: int) -> None:
        for n in range(4):
            days = DAYS if which % 2 else DAYS[::-1]
            index.add([entry(f"1.{which}.{n}.{m}", StudyDate=day) for m, day in enumerate(days)])
            Deletions(index).delete(Scope(f"1.{which}.{n}.0"), Why(), "x")

    assert in_threads(work, 6) == []
    tally_is_exact(index)
    assert index.count(Query(Level.STUDY)) == 6 * 4 * (len(DAYS) - 1)


def test_what_is_rolled_back_was_not_counted(index: Index) -> None:
    index.add([entry("1.1", StudyDate="20240101")])

    def fail() -> None:
        with index.database.write() as connection:
            connection.execute(text("UPDATE study SET study_date = '20250101'"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    tally_is_exact(index)
    assert index.count(Query(Level.STUDY, conditions({"StudyDate": "20250101-"}))) == 0


def test_an_archive_of_before_is_counted_when_it_is_migrated(index: Index) -> None:
    """On from then it is kept."""
    studies = Counter(DAYS[number % 3] for number in range(11))
    index.add([entry(f"1.{number}", StudyDate=DAYS[number % 3]) for number in range(11)])
    Deletions(index).delete(Scope("1.0"), Why(), "x")
    with index.database.write() as connection:
        for name, *_ in v0025_tally._TRIGGERS:
            connection.execute(text(f"DROP TRIGGER study_tally_{name}" + ("" if index.database.sqlite else " ON study")))
        for does in () if index.database.sqlite else v0025_tally._DOES:
            connection.execute(text(f"DROP FUNCTION study_tally_{does}"))
        connection.execute(text("DROP TABLE study_tally"))
    with index.database.write() as connection, Operations.context(MigrationContext.configure(connection)):
        v0025_tally.upgrade()
    tally_is_exact(index)
    assert index.count(Query(Level.STUDY, conditions({"StudyDate": f"{DAYS[1]}-"}))) == studies[DAYS[1]] + studies[DAYS[2]]
    index.add([entry("2.1", StudyDate=DAYS[1])])
    tally_is_exact(index)


def _three_years(number: int) -> str:
    days = number * 37 % 900
    return f"{2021 + days // 300}{days // 25 % 12 + 1:02d}{days % 25 + 1:02d}"


def _full(index: Index, page: Query) -> None:
    assert len(list(index.find(page))) == page.limit


@pytest.mark.parametrize("asked", [{}, {"StudyDate": "20210201-20231101"}])
def test_a_page_far_down_costs_the_same_in_a_larger_archive(asked: dict[str, str], tmp_path: Path) -> None:
    """The last one, as one in the middle, and counting all: nothing is passed but some of their day."""
    index = open_index(f"sqlite:///{tmp_path / 'index.db'}")
    taken: list[list[int]] = []
    try:
        for first, last in ((0, 1800), (1800, 5400)):
            index.add([entry(f"1.{n}", StudyDate=_three_years(n)) for n in range(first, last)])
            query = Query(Level.STUDY, conditions(asked), limit=10)
            total = index.count(query)
            assert total > 2 * find.LEAST_OFFSET
            taken.append([])
            for offset in (total - 15, total // 2):
                page = replace(query, offset=offset)
                taken[-1].append(steps_of_sqlite(index, partial(_full, index, page)))
            taken[-1].append(steps_of_sqlite(index, partial(index.count, query)))
    finally:
        index.close()
    print(taken)
    assert all(after <= 1.1 * before + 20 for before, after in zip(*taken, strict=True)), taken
