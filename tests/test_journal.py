"""The writing side of the association log: what is one row, what is bounded, what happens while nothing can be written."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest

from pacs.scp import journal as journals
from pacs.scp.journal import BURST, KEYS_PER_ADDRESS, MOST_KEYS, MOST_PENDING, WINDOW_SECONDS, Journal
from storage.index import Index
from storage.index.associations import (
    Entry,
    Outcome,
    Proposed,
    Wanted,
    latest,
    one_of,
    search,
    since,
    tidy,
    write,
)
from storage.index.callers import callers


class Log:
    """Keeps what is written, the last of each; fails while told to."""

    def __init__(self) -> None:
        self.rows: dict[str, Entry] = {}
        self.batches = 0
        self.broken = False
        self.now = 0.0
        self.journal = self.process()

    def process(self) -> Journal:
        return Journal(self.write, clock=lambda: self.now, wall=lambda: self.now)

    def write(self, entries: Sequence[Entry]) -> None:
        """As `storage.index.associations.write`, of which the table is below."""
        self.batches += 1
        if self.broken:
            raise OSError("away")
        for one in entries:
            known = self.rows.get(one.id)
            self.rows[one.id] = replace(one, times=one.untold + (known.times if known else 0))

    def flushed(self) -> list[Entry]:
        self.journal.flush()
        return list(self.rows.values())


@pytest.fixture
def log() -> Log:
    return Log()


def accepted(journal: Journal, address: str = "10.0.0.1") -> Entry:
    return journal.accepted(address, "", calling_ae="CT1", called_ae="LIGHTBOX", contexts=(Proposed("1.2", ("1.3",), 0, "1.3"),))


def test_an_association_is_one_row_from_its_beginning_to_its_end(log: Log) -> None:
    entry = accepted(log.journal)
    (begun,) = log.flushed()
    assert (begun.seconds, begun.how) == (None, "")
    entry.operations["C-STORE 0000"] = 3
    log.journal.ended(entry, "released")
    (ended,) = log.flushed()
    assert (ended.id, ended.how, ended.operations) == (begun.id, "released", {"C-STORE 0000": 3})
    assert ended.seconds is not None
    log.journal.flush()
    assert log.batches == 2, "nothing waits any more"


def test_what_goes_on_is_told_again_with_its_counts(log: Log) -> None:
    entry = accepted(log.journal)
    log.flushed()
    entry.received = 1000
    log.now += 10
    assert log.flushed()[0].received == 0
    log.now += 10
    assert log.flushed()[0].received == 1000


def test_refusals_for_one_reason_are_one_row_that_counts(log: Log) -> None:
    told = [log.journal.refused("10.0.0.1", "unknown", calling_ae="X", called_ae="LIGHTBOX", asks=True) for _ in range(10_000)]
    assert told == [True] + [False] * 9_999, "the process's own log has one line of them"
    (row,) = log.flushed()
    assert (row.times, row.untold, row.asks) == (10_000, 10_000, True)
    log.journal.refused("10.0.0.1", "unknown", calling_ae="X", called_ae="LIGHTBOX", asks=True)
    (row,) = log.flushed()
    assert (row.times, row.untold) == (10_001, 1)
    log.now += WINDOW_SECONDS
    log.journal.refused("10.0.0.1", "unknown", calling_ae="X", called_ae="LIGHTBOX", asks=True)
    assert sorted(one.times for one in log.flushed()) == [1, 10_001]


def test_refusals_in_several_processes_are_the_same_row(log: Log) -> None:
    other = log.process()
    for journal in (log.journal, other, log.journal, other, other):
        journal.refused("10.0.0.1", "unknown", calling_ae="X", called_ae="LIGHTBOX")
        journal.dropped("10.0.0.1", "closed")
    other.refused("10.0.0.1", "unknown", calling_ae="X", called_ae="OTHER")
    other.flush()
    assert sorted((one.called_ae, one.outcome, one.times) for one in log.flushed()) == [
        ("", "dropped", 5), ("LIGHTBOX", "refused", 5), ("OTHER", "refused", 1)
    ]  # fmt: skip
    # Two processes are as few rows as one, however thick it comes.
    for number in range(1000):
        for journal in (log.journal, other):
            journal.refused("10.6.6.6", f"unknown {number}", calling_ae=f"X{number}")
    other.flush()
    mine = [one for one in log.flushed() if one.address == "10.6.6.6"]
    assert len(mine) == KEYS_PER_ADDRESS + 1
    assert sum(one.times for one in mine) == 2000


def test_a_clock_that_is_set_back_loses_no_refusal(log: Log) -> None:
    for now in (WINDOW_SECONDS, 0.0, WINDOW_SECONDS):
        log.now = now
        log.journal.refused("10.0.0.1", "unknown", calling_ae="X")
    assert sorted(one.times for one in log.flushed()) == [1, 2]


def test_a_flood_of_inventive_refusals_takes_few_rows_and_hides_nobody(log: Log) -> None:
    for number in range(20_000):
        log.journal.refused("10.6.6.6", f"unknown {number}", calling_ae=f"X{number}", called_ae="Y", asks=True)
    log.journal.refused("10.0.0.1", "unknown", calling_ae="CT1", called_ae="LIGHTBOX", asks=True)
    rows = log.flushed()
    assert len(rows) == KEYS_PER_ADDRESS + 2
    assert sum(one.times for one in rows) == 20_001
    assert [one.calling_ae for one in rows if one.address == "10.0.0.1"] == ["CT1"]
    (rest,) = [one for one in rows if one.times > 1]
    assert (rest.asks, rest.address) == (False, "10.6.6.6")


def test_a_flood_from_everywhere_is_bounded_too(log: Log) -> None:
    for number in range(20_000):
        log.journal.dropped(f"2001:db8::{number:x}", "closed")
    rows = log.flushed()
    assert len(rows) <= 2 * MOST_KEYS + 1
    assert sum(one.times for one in rows) == 20_000
    log.now += WINDOW_SECONDS
    log.journal.dropped("10.0.0.1", "closed")
    assert log.flushed()[-1].address == "10.0.0.1"


def test_associations_that_come_too_thick_are_counted_together(log: Log) -> None:
    for _ in range(5000):
        entry = accepted(log.journal)
        entry.operations["C-ECHO 0000"] = 1
        entry.received = 10
        log.journal.ended(entry, "released")
    other = log.process()
    for _ in range(int(BURST) + 1):
        other.ended(accepted(other), "released")
    other.flush()
    rows = [one for one in log.flushed() if one.operations]
    assert len(rows) == BURST + 1
    assert sum(one.times for one in rows) == 5000
    assert sum(one.operations["C-ECHO 0000"] for one in rows) == 5000
    assert sum(one.received for one in rows) == 50_000


def test_with_the_database_away_nothing_is_lost_that_there_is_room_for(log: Log) -> None:
    log.broken = True
    entry = accepted(log.journal)
    log.journal.refused("10.0.0.1", "unknown", calling_ae="X", asks=True)
    log.flushed()
    log.journal.refused("10.0.0.1", "unknown", calling_ae="X", asks=True)
    log.journal.ended(entry, "released")
    assert log.flushed() == []
    log.broken = False
    rows = {one.outcome: one for one in log.flushed()}
    assert rows[Outcome.ACCEPTED].how == "released"
    assert (rows[Outcome.REFUSED].times, rows[Outcome.REFUSED].untold) == (2, 2)


def test_with_the_database_away_for_long_memory_is_bounded(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "MOST_PENDING", 50)
    assert MOST_PENDING > 50
    log.broken = True
    for number in range(40):
        log.journal.dropped("10.0.0.1", f"{number}")
    log.flushed()
    for number in range(40):
        log.journal.dropped("10.0.0.2", f"{number}")
    log.flushed()
    log.broken = False
    rows = log.flushed()
    assert len(rows) == 50
    assert sum(one.address == "10.0.0.2" for one in rows) == 40


def test_telling_takes_no_time_while_writing_does() -> None:
    going_on, told = threading.Event(), threading.Event()

    def slow(_entries: Sequence[Entry]) -> None:
        going_on.set()
        told.wait(5)

    journal = Journal(slow, write_seconds=0.01)
    journal.start()
    journal.dropped("10.0.0.1", "closed")
    assert going_on.wait(5)
    begun = time.perf_counter()
    journal.ended(accepted(journal), "released")
    assert time.perf_counter() - begun < 4
    told.set()
    journal.stop()


def test_stopping_writes_what_waits(log: Log) -> None:
    log.journal.start()
    log.journal.dropped("10.0.0.1", "closed")
    log.journal.stop()
    assert len(log.rows) == 1


# The table


def row(number: int, outcome: Outcome = Outcome.REFUSED, *, at: float | None = None) -> Entry:
    when = time.time() if at is None else at
    return Entry(f"e{number}", outcome, f"10.0.0.{number}", f"CT{number}", "LIGHTBOX", "why", at=when, last_at=when)


def test_what_is_written_is_found(index: Index) -> None:
    whole = Entry(
        "a-1", Outcome.ACCEPTED, "10.0.0.1", "CT1", "LIGHTBOX", "why", "released", (Proposed("1.2", ("1.3", "1.4"), 0, "1.4"),),
        {"C-STORE 0000": 2}, 100, 50, 1.5, 2.5, 1.0, times=3, untold=3,
    )  # fmt: skip
    write(index, [whole])
    (found,) = search(index, Wanted())
    assert replace(found, pk=0, sequence=0, untold=3) == whole
    assert one_of(index, found.pk) == found
    assert one_of(index, found.pk + 1) is None


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(), [4, 3, 2, 1]),
        (Wanted(ae="ct2"), [2]),
        (Wanted(ae="light"), [4, 3, 2, 1]),
        (Wanted(ae="%"), []),
        (Wanted(address="10.0.0.3"), [3]),
        (Wanted(address="10.0"), [4, 3, 2, 1]),
        (Wanted(address="0.0"), []),
        (Wanted(outcome=Outcome.DROPPED), [4]),
        (Wanted(since=2000.0), [4, 3, 2]),
        (Wanted(since=2000.0, until=3000.0), [2]),
    ],
)
def test_the_search(index: Index, wanted: Wanted, found: list[int]) -> None:
    rows = [row(n, Outcome.DROPPED if n == 4 else Outcome.REFUSED, at=n * 1000.0) for n in (1, 2, 3, 4)]
    write(index, rows)
    assert [one.id for one in search(index, wanted)] == [f"e{n}" for n in found]


def test_pages(index: Index) -> None:
    write(index, [row(n) for n in range(7)])
    pages, before = [], None
    while page := search(index, Wanted(), before=before, limit=3):
        pages.append([one.id for one in page])
        before = page[-1].pk
    assert pages == [["e6", "e5", "e4"], ["e3", "e2", "e1"], ["e0"]]


def test_who_follows_misses_nothing(index: Index) -> None:
    write(index, [row(1), row(2)])
    at = latest(index)
    write(index, [replace(row(1), untold=4)])
    write(index, [row(3)])
    assert [(one.id, one.times) for one in since(index, at)] == [("e1", 5), ("e3", 1)]
    assert since(index, latest(index)) == []


def test_who_asks_is_remembered_with_its_rights(index: Index) -> None:
    write(index, [replace(row(1), asks=True, untold=3), row(2)])
    write(index, [replace(row(1), asks=True, untold=2)])
    (found,) = callers(index)
    assert (found.calling_ae, found.address, found.times) == ("CT1", "10.0.0.1", 5)


def test_times_are_added_whoever_writes_them(index: Index) -> None:
    for untold in (3, 2, 0):
        write(index, [replace(row(1), untold=untold)])
    assert [one.times for one in search(index, Wanted())] == [5]
    # What goes on is one, though it was told before and its row has been removed.
    tidy(index, seconds=-1)
    write(index, [replace(row(1), untold=0)])
    assert [one.times for one in search(index, Wanted())] == [1]


def test_the_log_is_bounded_in_time_and_number(index: Index) -> None:
    now = time.time()
    write(index, [row(n, at=now - 100) for n in range(3)] + [row(n) for n in range(3, 9)])
    assert tidy(index, seconds=50) == 3
    assert tidy(index, seconds=50) == 0
    assert tidy(index, seconds=50, most=2) == 4
    assert [one.id for one in search(index, Wanted())] == ["e8", "e7"]


def test_what_a_dead_process_has_left_open_is_ended(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    write(index, [replace(row(1, Outcome.ACCEPTED), seconds=None), row(2)])
    assert tidy(index, seconds=50) == 0
    assert search(index, Wanted(outcome=Outcome.ACCEPTED))[0].seconds is None
    monkeypatch.setattr("storage.index.associations.SILENT_SECONDS", -1.0)
    at = latest(index)
    tidy(index, seconds=50)
    (ended,) = since(index, at)
    assert (ended.how, ended.outcome) == ("lost", Outcome.ACCEPTED)
    assert "the process that served it ended" in ended.reason
    assert since(index, latest(index)) == []
