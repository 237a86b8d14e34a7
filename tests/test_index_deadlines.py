"""Deadlines of a database connection: they hold at once, after a pause and for many at a time, and spare who ends in time."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from storage.index import deadlines
from storage.index.deadlines import Deadlines


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "_TICK_SECONDS", 0.02)


def _waits_for_ever(watched: Deadlines) -> bytes:
    """What a reader of a silent peer gets, whose deadline is near: nothing, as the socket is shut down under it."""
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.settimeout(10)  # of the test alone: a deadline that is not kept fails here
        with watched.within(ours.fileno(), 0.05):
            return ours.recv(1)


def test_a_silent_peer_is_given_up() -> None:
    assert _waits_for_ever(Deadlines()) == b""


def test_a_silent_peer_is_given_up_after_a_pause() -> None:
    """The watching thread has gone to sleep in between: the next deadline must wake it."""
    watched = Deadlines()
    for _ in range(3):
        assert _waits_for_ever(watched) == b""
        time.sleep(0.1)


def test_a_silent_peer_is_given_up_after_the_thread_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "_IDLE_SECONDS", 0.02)
    watched = Deadlines()
    for _ in range(2):
        assert _waits_for_ever(watched) == b""
        while watched._running:
            time.sleep(0.01)


def test_many_at_a_time() -> None:
    watched, answers = Deadlines(), []
    threads = [threading.Thread(target=lambda: answers.append(_waits_for_ever(watched))) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert answers == [b""] * 8


def test_who_ends_in_time_keeps_the_connection() -> None:
    watched = Deadlines()
    ours, peer = socket.socketpair()
    with ours, peer:
        with watched.within(ours.fileno(), 0.05):
            pass
        time.sleep(0.15)
        peer.sendall(b"x")
        assert ours.recv(1) == b"x"
