"""Writers take turns: two locks on one file are what two processes have."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from storage.errors import IndexUnavailable
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
    with here.take(), pytest.raises(IndexUnavailable, match="too long"), other.take():
        pytest.fail("took a turn that another has")
    with other.take():
        pass


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
