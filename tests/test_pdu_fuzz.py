"""Mutated PDUs against a running server, the same ones in every run: never a hang, nothing that another association would
notice, and a line in the log of associations for each."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from pacs.scp import journal
from storage.archive import Archive
from storage.index.associations import Wanted, search
from storage.types import Scope
from tests.support import dimse_peer as peer
from tests.support.dimse_peer import CT, DEFAULT_CONTEXTS, STUDY_ROOT, Peer
from tests.support.dimse_server import Serving, bare, serving, spooled, wait_until
from tests.support.made import instance

SEED = 20260101
# What is sent whole is answered or refused as soon as it has come; what is not, after the server's times below.
CLOSED, LEFT_OPEN = 500, 60
ANSWER_SECONDS = 10
TIMES: dict[str, Any] = {"request_seconds": 1.0, "idle_seconds": 1.0, "message_idle_seconds": 1.0, "answer_seconds": 1.0}

FIND = peer.element(0x00080052, "STUDY") + peer.element(0x0020000D, "")
EXTENDED = peer.item(0x56, len(STUDY_ROOT).to_bytes(2) + STUDY_ROOT.encode() + b"\1\1\1")
USER = peer.user(
    16384, peer.item(0x53, b"\0\5\0\1"), peer.item(0x54, len(CT).to_bytes(2) + CT.encode() + b"\1\1"), EXTENDED,
    peer.item(0x58, b"\2\1\0\4user\0\4pass"),
)  # fmt: skip
# What is mutated: requests for an association, and what comes within one that stands.
REQUESTS = (peer.associate(), peer.associate(user_item=USER), peer.associate() + peer.message(1, peer.echo_rq()) + peer.RELEASE_RQ)
MESSAGES = (
    peer.message(1, peer.echo_rq()) + peer.RELEASE_RQ,
    peer.message(3, peer.store_rq(CT, "1.2.3.4.1"), bare(instance()), size=500) + peer.RELEASE_RQ,
    peer.message(5, peer.find_rq(), FIND) + peer.message(5, peer.cancel_rq()) + peer.RELEASE_RQ,
    peer.p_data(peer.pdv(1, 1, peer.echo_rq()[:20]), peer.pdv(1, 3, peer.echo_rq()[20:])) + peer.ABORT,
    peer.RELEASE_RP,
)

Mutation = Callable[[random.Random, bytearray], None]


def flip(chance: random.Random, data: bytearray) -> None:
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def overwrite(chance: random.Random, data: bytearray) -> None:
    data[chance.randrange(len(data))] = chance.choice((0, 1, 2, 4, 0x7F, 0x80, 0xFF))


def cut(chance: random.Random, data: bytearray) -> None:
    del data[chance.randrange(1, len(data)) :]


def leave_out(chance: random.Random, data: bytearray) -> None:
    at = chance.randrange(len(data))
    del data[at : at + chance.randrange(1, 16)]


def put_in(chance: random.Random, data: bytearray) -> None:
    at = chance.randrange(len(data))
    data[at:at] = chance.randbytes(chance.randrange(1, 16))


def repeat(chance: random.Random, data: bytearray) -> None:
    at = chance.randrange(len(data))
    data[at:at] = data[at : at + chance.randrange(1, 200)]


def lie_about_length(chance: random.Random, data: bytearray) -> None:
    data[2:6] = chance.choice((0, 1, 5, 0xFFFF, 1 << 17, (1 << 17) + 1, 1 << 20, 0x7FFFFFFF, 0xFFFFFFFF)).to_bytes(4)


def another_type(chance: random.Random, data: bytearray) -> None:
    data[0] = chance.randrange(256)


MUTATIONS: tuple[Mutation, ...] = (flip, overwrite, cut, leave_out, put_in, repeat, lie_about_length, another_type)


def mutated(number: int) -> tuple[bool, bytes]:
    """Whether it is for an association that stands, and the bytes."""
    chance = random.Random(SEED + number)
    within = bool(number % 2)
    data = bytearray(chance.choice(MESSAGES if within else REQUESTS))
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        if len(data) > 6:
            chance.choice(MUTATIONS)(chance, data)
    return within, bytes(data)


def read_to_the_end(client: Peer) -> None:
    """Until the server has closed; fails when it does not in time."""
    try:
        while client.socket.recv(65536):
            pass
    except ConnectionError:
        pass  # It has closed with bytes of ours unread, which is what a reset says.


def attack(port: int, number: int, *, leave_open: bool) -> str:
    """Send one; what was wrong with the answer, or nothing."""
    within, data = mutated(number)
    with Peer(port, timeout=ANSWER_SECONDS) as client:
        if within:
            client.associate(DEFAULT_CONTEXTS, calling="MUTANT")
        try:
            client.send(data)
            if not leave_open:
                client.socket.shutdown(socket.SHUT_WR)
            read_to_the_end(client)
        except TimeoutError:
            return f"number {number} hangs: {data[:80].hex()}"
        except OSError:
            pass  # Closed while we were sending.
    return ""


class Beside:
    """An association that goes on with its work, and remembers how it fared."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._over = threading.Event()
        self.stored = 0
        self.slowest = 0.0
        self.errors: list[BaseException] = []

    def run(self) -> None:
        try:
            with Peer(self._port) as client:
                client.associate(calling="BESIDE")
                while not self._over.is_set():
                    self._work(client)
                client.release()
        except (AssertionError, OSError) as error:
            self.errors.append(error)

    def _work(self, client: Peer) -> None:
        number = self.stored + 1
        begun = time.monotonic()
        assert client.echo() == 0
        uid = f"1.2.77.1.{number}"
        assert client.store(bare(instance(number, study="1.2.77", series="1.2.77.1")), uid) == 0
        self.slowest = max(self.slowest, time.monotonic() - begun)
        self.stored = number
        self._over.wait(0.02)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join(30)


@pytest.mark.parametrize(("count", "leave_open"), [(CLOSED, False), (LEFT_OPEN, True)], ids=["closed", "left open"])
def test_mutated_pdus(archive: Archive, count: int, leave_open: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # As many rows a second as there are: none of ours is to be counted with others.
    monkeypatch.setattr(journal, "BURST", 10_000.0)
    monkeypatch.setattr(journal, "ROWS_PER_SECOND", 10_000.0)
    with serving(archive, **TIMES) as server:
        beside = Beside(server.port)
        with beside.going_on(), ThreadPoolExecutor(8 if not leave_open else 30) as pool:
            found = list(pool.map(lambda number: attack(server.port, number, leave_open=leave_open), range(count)))
        assert [one for one in found if one] == []
        assert beside.errors == []
        assert beside.stored > 5
        assert beside.slowest < 5
        quiet(server, archive)
        expect_a_line_for_each(archive, count + 1)
    assert len(list(archive.index.locate(Scope("1.2.77")))) == beside.stored


def quiet(server: Serving, archive: Archive) -> None:
    """Nothing of all that is left."""
    wait_until(lambda: server.server.associations == 0 and server.server.waiting == 0)
    wait_until(lambda: spooled(archive) == [])


def expect_a_line_for_each(archive: Archive, count: int) -> None:
    """Each says why, and there is something of every way in which it can end."""

    def lines() -> int:
        return sum(one.times for one in search(archive.index, Wanted(), limit=10_000))

    wait_until(lambda: lines() == count, why=lambda: f"{lines()} lines for {count} connections")
    found = search(archive.index, Wanted(), limit=10_000)
    assert {one.how for one in found} >= {"released", "violation"}
    for one in found:
        assert one.reason or one.how == "released", f"{one.outcome} {one.how} without a reason"
        assert "error of ours" not in one.reason
        assert one.how != "error"
