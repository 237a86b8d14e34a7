"""Group commit: what waits goes together, and nobody pays for a neighbour's fault."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from storage.commits import GroupCommit
from storage.errors import Conflict, IndexUnavailable, LightboxError


class Ledger:
    """Stands in for the index: remembers each batch, and can be held closed."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()

    def commit(self, items: Sequence[int]) -> list[int]:
        self.entered.set()
        assert self.open.wait(5)
        self.batches.append(list(items))
        if 13 in items:
            raise ValueError("unlucky")
        if 99 in items:
            raise IndexUnavailable("the database does not answer")
        if 7 in items:
            raise Conflict("other bytes")
        return [item * 2 for item in items]


def run_together(commit: GroupCommit[int, int], ledger: Ledger, first: int, others: list[int]) -> dict[int, object]:
    """`first` holds the ledger while `others` queue up behind it; what each caller got."""
    got: dict[int, object] = {}

    def call(item: int) -> None:
        try:
            got[item] = commit(item)
        except LightboxError as error:
            got[item] = error

    ledger.open.clear()
    threads = [threading.Thread(target=call, args=(first,))]
    threads[0].start()
    assert ledger.entered.wait(5)
    threads += [threading.Thread(target=call, args=(item,)) for item in others]
    for thread in threads[1:]:
        thread.start()
    deadline = threading.Event()
    while len(commit._waiting) < len(others):
        assert not deadline.wait(0.001)
    ledger.open.set()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    return got


def test_alone_is_a_transaction_of_one() -> None:
    ledger = Ledger()
    assert GroupCommit(ledger.commit)(21) == 42
    assert ledger.batches == [[21]]


def test_those_who_wait_share_the_next_transaction() -> None:
    ledger = Ledger()
    got = run_together(GroupCommit(ledger.commit), ledger, 1, [2, 3, 4, 5])
    assert got == {1: 2, 2: 4, 3: 6, 4: 8, 5: 10}
    assert [len(batch) for batch in ledger.batches] == [1, 4]


def test_a_batch_has_a_largest_size() -> None:
    ledger = Ledger()
    got = run_together(GroupCommit(ledger.commit, largest=2), ledger, 1, [2, 3, 4, 5, 6])
    assert got == {n: 2 * n for n in range(1, 7)}
    assert [len(batch) for batch in ledger.batches] == [1, 2, 2, 1]


@pytest.mark.parametrize(("poison", "error"), [(13, LightboxError), (7, Conflict)])
def test_an_item_that_cannot_be_committed_fails_alone(poison: int, error: type[LightboxError]) -> None:
    ledger = Ledger()
    got = run_together(GroupCommit(ledger.commit), ledger, 1, [2, poison, 3])
    assert type(got.pop(poison)) is error
    assert got == {1: 2, 2: 4, 3: 6}


def test_an_absent_database_fails_all_at_once() -> None:
    ledger = Ledger()
    got = run_together(GroupCommit(ledger.commit), ledger, 1, [2, 99, 3])
    assert got.pop(1) == 2
    assert {type(error) for error in got.values()} == {IndexUnavailable}
    assert len({id(error) for error in got.values()}) == 3, "each caller gets an exception of its own"
    assert len(ledger.batches) == 2, "one try, not one per item"


def test_a_leader_lingers_for_those_who_are_coming() -> None:
    ledger = Ledger()
    commit = GroupCommit(ledger.commit, linger_seconds=5)
    got: list[int] = []
    with commit.coming() as bring:
        early = threading.Thread(target=lambda: got.append(commit(1)))
        early.start()
        while not commit._leading:
            assert early.is_alive()
        assert ledger.batches == []
        got.append(bring(2))
        early.join(5)
    assert ledger.batches == [[1, 2]]
    assert sorted(got) == [2, 4]


def test_a_leader_does_not_linger_for_those_who_gave_up() -> None:
    ledger = Ledger()
    commit = GroupCommit(ledger.commit, linger_seconds=60)
    with pytest.raises(ValueError, match="no bytes"), commit.coming():
        raise ValueError("no bytes")
    assert commit(1) == 2


def test_a_leader_lingers_only_so_long() -> None:
    ledger = Ledger()
    commit = GroupCommit(ledger.commit, linger_seconds=0.01)
    with commit.coming():
        assert commit(1) == 2


def test_alone_nobody_lingers() -> None:
    ledger = Ledger()
    with GroupCommit(ledger.commit, linger_seconds=60).coming() as bring:
        assert bring(1) == 2


class Door:
    """A turn that is somebody else's until it is opened, or never comes."""

    def __init__(self, error: Exception | None = None) -> None:
        self.open = threading.Event()
        self.knocked = threading.Event()
        self.error = error

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        self.knocked.set()
        assert self.open.wait(5)
        if self.error is not None:
            raise self.error
        yield


def behind_the_door(door: Door, ledger: Ledger, items: list[int]) -> list[object]:
    """What callers get of whom the first waits for the door while the others come."""
    commit = GroupCommit(ledger.commit, turn=door)

    def call(item: int) -> object:
        try:
            return commit(item)
        except LightboxError as error:
            return error

    with ThreadPoolExecutor(len(items)) as pool:
        first = pool.submit(call, items[0])
        assert door.knocked.wait(5)
        others = [pool.submit(call, item) for item in items[1:]]
        waiting = threading.Event()
        while len(commit._waiting) < len(items):
            assert not waiting.wait(0.001)
        door.open.set()
        return [one.result(5) for one in (first, *others)]


def test_what_comes_while_others_have_the_turn_goes_along() -> None:
    ledger = Ledger()
    assert behind_the_door(Door(), ledger, [1, 2, 3]) == [2, 4, 6]
    assert [sorted(batch) for batch in ledger.batches] == [[1, 2, 3]]


def test_a_turn_that_does_not_come_is_an_error_for_all_who_wait() -> None:
    ledger = Ledger()
    found = behind_the_door(Door(IndexUnavailable("others are writing")), ledger, [1, 2, 3])
    assert [str(error) for error in found] == ["others are writing"] * 3
    assert len({id(error) for error in found}) == 3, "each has an exception of its own"
    assert ledger.batches == []


def test_what_nobody_foresaw_of_the_turn_is_an_error_for_all_who_wait() -> None:
    ledger = Ledger()
    found = behind_the_door(Door(OSError("no descriptors")), ledger, [1, 2])
    assert {type(error) for error in found} == {IndexUnavailable}
    assert ledger.batches == []
