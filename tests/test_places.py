"""Fairness among callers: who gets a place when all are taken, and at whose expense."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from pacs.scp import reasons
from pacs.scp.places import Places
from pacs.scp.settings import Alone, DimseSettings
from pacs.scp.transport import TICK, Ended, Stopping, Transport, Wait
from storage.archive import Archive
from storage.index.associations import Wanted, search
from tests.support import dimse_peer as peer
from tests.support.dimse_peer import Peer
from tests.support.dimse_server import serving, wait_until


class Seat:
    """What `Places` sees of an association."""

    def __init__(self, rests_since: float | None) -> None:
        self.rests_since = rests_since
        self.away = False

    def send_away(self) -> None:
        self.away = True


NOW = 100.0


def seated(*rows: tuple[str, float | None], most: int | None = None) -> tuple[Places, list[Seat]]:
    """Each by its address, and since when it rests."""
    places = Places(most or len(rows), Alone(), rested_seconds=5, clock=lambda: NOW)
    seats = [Seat(since) for _, since in rows]
    for (address, _), seat in zip(rows, seats, strict=True):
        assert places.take(address)
        there: Any = seat
        places.occupy(there, address)
    return places, seats


@pytest.mark.parametrize(
    ("rows", "who", "leaves"),
    [
        ((("A", 10), ("A", 20), ("A", 30)), "B", 0),
        ((("A", None), ("A", 20), ("A", 10)), "B", 2),
        ((("A", 96), ("A", None), ("A", 97)), "B", None),
        ((("A", None), ("A", None), ("A", None)), "B", None),
        ((("A", 10), ("A", 20), ("A", 30)), "A", None),
        ((("A", 10), ("B", 20), ("B", 30)), "C", 1),
        ((("A", 10), ("B", 20), ("C", 30)), "D", None),
        ((("A", 10), ("A", 20), ("B", 5), ("B", 6), ("B", 7)), "C", 2),
        ((("A", 10), ("A", 20), ("B", 5)), "B", None),
    ],
    ids=[
        "the longest at rest", "not who is at work", "not who has just finished", "nobody where all are at work",
        "not for the same address", "of the address with most", "all are as many", "most counts before longest", "it would be as many",
    ],
)  # fmt: skip
def test_who_makes_room(rows: tuple[tuple[str, float | None], ...], who: str, leaves: int | None) -> None:
    places, seats = seated(*rows)
    assert places.take(who) is (leaves is not None)
    assert [number for number, seat in enumerate(seats) if seat.away] == ([] if leaves is None else [leaves])
    assert places.taken == len(rows)


def test_a_place_is_given_back_once() -> None:
    places, (first, second) = seated(("A", 10), ("A", 20))
    assert places.take("B")
    assert not places.take("B"), "the one that leaves is asked once, and then both have one"
    gone: Any = first
    places.leave(gone, "A")
    assert places.taken == 2
    assert not places.wait(0)
    places.leave(None, "B")
    rest: Any = second
    places.leave(rest, "A")
    assert places.taken == 0
    assert places.wait(0)
    assert places.take("C")


def test_an_address_that_holds_every_place_lets_another_in(archive: Archive) -> None:
    with serving(archive, max_associations=3, rested_seconds=0.5, idle_seconds=30) as server:
        crowd = [Peer(server.port) for _ in range(3)]
        for one in crowd:
            one.associate(calling="HOG")
        with Peer(server.port, source="127.0.0.2") as early:
            # Nobody has been at rest for long enough.
            early.send(peer.associate(calling="CT1"))
            assert early.pdu()[0] == 3
        wait_until(lambda: server.server.associations == 3)
        assert crowd[0].echo() == 0
        accepted = 0

        def let_in() -> bool:
            nonlocal accepted
            with Peer(server.port, source="127.0.0.2") as newcomer:
                newcomer.send(peer.associate(calling="CT1"))
                accepted = newcomer.pdu()[0]
                return accepted == 2 and newcomer.echo() == 0

        wait_until(let_in, 10)
        # It learns of it, and the log says why; the others go on.
        server.told.wait("ended", "crowded out")
        assert crowd[0].echo() == 0
        wait_until(lambda: any(reasons.MADE_ROOM in one.reason for one in search(archive.index, Wanted())))
        for one in crowd:
            one.socket.close()


def test_one_that_was_sent_away_ends_in_its_first_pause_however_busy_it_is() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        transport = Transport(ours, DimseSettings(), Stopping())
        space = memoryview(bytearray(64))
        transport.send_away()
        # What it had begun before it could learn of it is read to the end.
        theirs.send(b"command")
        assert transport.receive(space, Wait.REST) == len(b"command")
        theirs.send(b"data set")
        assert transport.receive(space, Wait.MESSAGE) == len(b"data set")
        # It would send the next within less than a tick, and for ever.
        begun = time.monotonic()
        with pytest.raises(Ended, match=reasons.MADE_ROOM):
            transport.receive(space, Wait.REST)
        assert time.monotonic() - begun < TICK / 2
        transport.close()


def test_who_is_asked_something_is_not_at_rest() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        transport = Transport(ours, DimseSettings(idle_seconds=30), Stopping())
        assert transport.is_quiet(0.01, patient=True)
        rested = transport.rests_since
        assert rested is not None
        theirs.send(b"answer")
        transport.receive(memoryview(bytearray(64)), Wait.ANSWER)
        assert transport.rests_since is None
        transport.close()
