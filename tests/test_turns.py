"""Writers take turns: two locks on one file are what two processes have."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage.errors import IndexUnavailable, StoreUnavailable
from storage.index.turns import Turns


def test_one_at_a_time(tmp_path: Path) -> None:
    here, there = Turns(tmp_path / "turn", 5), Turns(tmp_path / "turn", 5)
    inside = threading.Semaphore(1)
    done: list[int] = []

    def work(turns: Turns) -> None:
        for number in range(50):
            with turns.take():
                assert inside.acquire(blocking=False), "two at once"
                done.append(number)
                inside.release()

    threads = [threading.Thread(target=work, args=(turns,)) for turns in (here, there, here, there)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(done) == 200


@pytest.mark.parametrize("same_process", [True, False])
def test_who_waits_too_long_is_told(tmp_path: Path, same_process: bool) -> None:
    here = Turns(tmp_path / "turn", 0.05)
    other = here if same_process else Turns(tmp_path / "turn", 0.05)

    def take() -> None:
        with other.take():
            pass

    with (
        ThreadPoolExecutor(1) as another_thread,
        here.take(),
        pytest.raises(IndexUnavailable, match="too long"),
    ):
        another_thread.submit(take).result()
    take()


def test_who_has_it_keeps_it_inside(tmp_path: Path) -> None:
    here, there = Turns(tmp_path / "turn", 0.05), Turns(tmp_path / "turn", 0.05)
    with here.take():
        with here.take():
            pass
        with pytest.raises(IndexUnavailable), there.take():
            pytest.fail("the inner block gave away what the outer one has")


def test_where_no_bell_can_be_made_they_look_now_and_then(tmp_path: Path) -> None:
    (tmp_path / "turn-bell").mkdir()
    test_one_at_a_time(tmp_path)


def test_a_bell_that_nobody_hears_does_not_stop_who_rings(tmp_path: Path) -> None:
    here = Turns(tmp_path / "turn", 5)
    with here.take():
        pass
    for _ in range(70_000):
        here._ring()
    test_one_at_a_time(tmp_path)


def test_an_error_inside_gives_the_turn_back(tmp_path: Path) -> None:
    here, there = Turns(tmp_path / "turn", 0.05), Turns(tmp_path / "turn", 0.05)
    with pytest.raises(ValueError, match="inside"), here.take():
        raise ValueError("inside")
    with there.take():
        pass


def test_a_lock_that_was_closed_opens_again(tmp_path: Path) -> None:
    here = Turns(tmp_path / "turn", 0.05)
    with here.take():
        pass
    here.close()
    with here.take():
        pass


def test_a_lock_file_that_cannot_be_opened_is_said_to_be(tmp_path: Path) -> None:
    here = Turns(tmp_path / "nowhere" / "turn", 0.05)
    with pytest.raises(StoreUnavailable, match="take turns"), here.take():
        pytest.fail("took a turn without a lock")


def test_who_has_the_turn_does_not_close_it(tmp_path: Path) -> None:
    here = Turns(tmp_path / "turn", 0.05)
    with here.take(), pytest.raises(RuntimeError):
        here.close()
