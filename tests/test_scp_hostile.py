"""What a peer may do wrong on the socket, by accident or not, and that nobody else notices (RELIABILITY 3, 4, 5)."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from storage.archive import Archive
from storage.spool import Spool
from tests.support import dimse_peer as peer
from tests.support.dimse_peer import CT, STUDY_ROOT, Peer
from tests.support.dimse_server import Serving, bare, serving, spooled, wait_until
from tests.support.made import instance

MIB = 1 << 20


@pytest.fixture
def server(archive: Archive) -> Iterator[Serving]:
    with serving(archive) as running:
        yield running


def ended(client: Peer) -> bool:
    """Whether the server has closed the connection; a reset is an end too."""
    try:
        return client.read(1) == b""
    except ConnectionError:
        return True


# Violations, on real sockets: what is sent, and the A-ABORT's source and reason.

BEFORE = [
    ("web browser", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 0, 0),
    ("data first", peer.message(1, peer.echo_rq()), 0, 0),
    ("4 GiB request", peer.pdu(1, b"x" * 5000, length=0xFFFFFFFF), 0, 0),
    ("even context ID", peer.associate([(2, CT, (peer.IMPLICIT,))]), 0, 0),
    ("maximum length of 6", peer.associate(user_item=peer.user(6)), 2, 6),
    ("data before our answer", peer.associate() + peer.message(1, peer.echo_rq()), 2, 2),
]
WITHIN = [
    ("unknown PDU", peer.pdu(0x42, b"x"), 2, 1),
    ("second request", peer.associate(), 2, 2),
    ("4 GiB of data", peer.p_data(b"x" * 1000, length=0xFFFFFFFF), 2, 6),
    ("data over the maximum", peer.p_data(b"x" * 1000, length=(1 << 17) + 1), 2, 6),
    ("PDV length lies", peer.p_data(peer.pdv(1, 3, b"", length=99)), 2, 6),
    ("even context ID", peer.p_data(peer.pdv(2, 3, b"")), 2, 6),
    ("refused context", peer.p_data(peer.pdv(9, 3, b"")), 2, 5),
    # The order of messages is the DIMSE layer's: its aborts are the user's.
    ("data set without command", peer.p_data(peer.pdv(3, 2, b"data")), 0, 0),
    ("command over two contexts", peer.p_data(peer.pdv(1, 1, b"\0\0"), peer.pdv(3, 3, b"\0\0")), 0, 0),
    ("command over the limit", peer.p_data(peer.pdv(1, 1, bytes(17_000))), 0, 0),
    ("command that is none", peer.p_data(peer.pdv(1, 3, b"rubbish!")), 0, 0),
    ("response to nothing", peer.message(1, peer.command({0x100: 0x8030, 0x120: 1, 0x800: 0x101, 0x900: 0})), 0, 0),
    ("data set in another context", peer.p_data(peer.pdv(3, 3, peer.store_rq(CT, "1.2")), peer.pdv(5, 2, b"x")), 0, 0),
    (
        "command within a data set",
        peer.p_data(peer.pdv(3, 3, peer.store_rq(CT, "1.2")), peer.pdv(3, 0, b"x"), peer.pdv(3, 3, peer.echo_rq())),
        0,
        0,
    ),
    ("release with an odd length", peer.pdu(5, b"12345"), 2, 6),
    ("violation within a data set", peer.p_data(peer.pdv(3, 3, peer.store_rq(CT, "1.2")), peer.pdv(3, 0, b"x")) + b"\xee" * 6, 2, 1),
]


def expect_abort(client: Peer, source: int, reason: int) -> None:
    assert client.pdu() == (7, bytes((0, 0, source, reason)))
    assert ended(client)


@pytest.mark.parametrize(("data", "source", "reason"), [row[1:] for row in BEFORE], ids=[row[0] for row in BEFORE])
def test_violation_before_an_association(server: Serving, data: bytes, source: int, reason: int) -> None:
    with Peer(server.port) as client:
        client.send(data)
        expect_abort(client, source, reason)
    server.told.wait("dropped", "violation")
    with Peer(server.port) as other:
        other.associate()
        assert other.echo() == 0


@pytest.mark.parametrize(("data", "source", "reason"), [row[1:] for row in WITHIN], ids=[row[0] for row in WITHIN])
def test_violation_within_an_association(
    server: Serving, archive: Archive, data: bytes, source: int, reason: int
) -> None:
    with Peer(server.port) as other, Peer(server.port) as client:
        other.associate()
        client.associate()
        client.send(data)
        expect_abort(client, source, reason)
        server.told.wait("ended", "violation")
        assert other.echo() == 0, "no effect on others"
    assert spooled(archive) == []
    assert archive.index.counts().instances == 0


@pytest.mark.parametrize("after", [peer.ABORT, b""], ids=["abort", "close"])
def test_a_peer_that_changes_its_mind(server: Serving, after: bytes) -> None:
    with Peer(server.port) as client:
        client.send(peer.associate() + after)
    wait_until(lambda: any(event[0] in ("dropped", "ended") for event in server.told.events))
    wait_until(lambda: server.server.associations == 0)
    with Peer(server.port) as client:
        client.send(after or b"\1")
    assert echo_times(server.port, 1)[0] < 5
    wait_until(lambda: server.server.waiting == 0)


# Slow sockets


def slow_sockets(port: int, count: int, first: bytes) -> ExitStack:
    stack = ExitStack()
    for _ in range(count):
        client = stack.enter_context(Peer(port))
        client.send(first)
    return stack


def echo_times(port: int, count: int) -> list[float]:
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        with Peer(port) as client:
            client.associate()
            assert client.echo() == 0
            client.release()
        times.append(time.perf_counter() - begun)
    return sorted(times)


@pytest.mark.parametrize("first", [b"", b"\1\0\0", peer.associate()[:-1]], ids=["silent", "three bytes", "nearly all"])
def test_two_hundred_slow_sockets_do_not_delay_an_echo(server: Serving, first: bytes) -> None:
    with slow_sockets(server.port, 200, first):
        wait_until(lambda: server.server.waiting == 200)
        assert echo_times(server.port, 20)[-1] < 3
    wait_until(lambda: server.server.waiting == 0)


def test_slow_requests_are_dropped_in_time(archive: Archive) -> None:
    with serving(archive, request_seconds=0.5) as server, Peer(server.port) as silent, Peer(server.port) as dripping:
        request = peer.associate()
        begun = time.monotonic()
        with suppress(ConnectionError):
            for byte in request[:-1]:
                dripping.send(bytes((byte,)))
                time.sleep(0.02)
        assert ended(silent)
        assert ended(dripping)
        assert time.monotonic() - begun < len(request) * 0.02 + 4
        assert server.told.events.count(("dropped", "too slow")) == 2
        with Peer(server.port) as other:
            other.associate()
            time.sleep(0.7)
            assert other.echo() == 0, "the limit is for requests only"


def test_too_many_waiting_cost_the_oldest_its_place(archive: Archive) -> None:
    with (
        serving(archive, max_waiting=8, max_waiting_per_address=5) as server,
        slow_sockets(server.port, 5, b"\1"),
        Peer(server.port) as newest,
    ):
        server.told.wait("dropped", "crowded out")
        # The oldest is told of before the newest is counted.
        until = time.monotonic() + 5
        while server.server.waiting != 5 and time.monotonic() < until:
            time.sleep(0.01)
        assert server.server.waiting == 5
        newest.associate()
        assert newest.echo() == 0


def test_waiting_requests_together_are_bounded(archive: Archive) -> None:
    with serving(archive, max_waiting_bytes=2 * MIB) as server:
        # Each sends 400 KB of a request that says 1 MB: with all of them the sum would be 4 MB and more.
        with slow_sockets(server.port, 10, peer.pdu(1, bytes(400_000), length=1_000_000)):
            server.told.wait("dropped", "crowded out")
            wait_until(lambda: server.server.waiting <= 4)
        assert echo_times(server.port, 1)[0] < 3


def resident() -> int:
    return int(psutil.Process(os.getpid()).memory_info().rss)


@pytest.mark.parametrize(
    "hostile",
    [
        peer.pdu(1, bytes(4000), length=MIB),
        peer.pdu(1, bytes(700_000), length=MIB),
        peer.pdu(1, bytes(4000), length=0xFFFFFFFF),
        peer.associate(body=peer.item(0x10, peer.APPLICATION_CONTEXT.encode()) + peer.item(0x99, b"") * 200_000),
    ],
    ids=["says 1 MiB", "sends 700 kB", "says 4 GiB", "200,000 items"],
)
def test_memory_of_a_hostile_socket(server: Serving, hostile: bytes) -> None:
    echo_times(server.port, 2)
    before = resident()
    with slow_sockets(server.port, 20, hostile):
        time.sleep(0.5)
        assert resident() - before < 20 * 2 * MIB
        assert echo_times(server.port, 1)[0] < 3


def test_memory_of_associations_that_promise_much(server: Serving) -> None:
    """A data set without end, and PDUs that never come whole: what is kept is the read buffer and the spool's start."""
    with ExitStack() as stack:
        clients = [stack.enter_context(Peer(server.port)) for _ in range(10)]
        for client in clients:
            client.associate()
        before = resident()
        for client in clients:
            client.send(peer.message(3, peer.store_rq(CT, "1.2")) + peer.p_data(peer.pdv(3, 0, b""), length=131072)[:6])
        time.sleep(0.3)
        assert resident() - before < 10 * 2 * MIB


# Stalls


def stalled(archive: Archive, **settings: Any) -> Any:
    return serving(archive, **{"message_idle_seconds": 1.0, "idle_seconds": 30.0, **settings})


HALF = peer.message(3, peer.store_rq(CT, "1.2.3.4.1"), bytes(60_000))[:30_000]


@pytest.mark.parametrize(
    "sent",
    [HALF, peer.p_data(peer.pdv(1, 1, b"\0\0")), HALF[:250]],
    ids=["in a data set", "in a command", "at the data set's beginning"],
)
def test_a_message_that_stops_in_the_middle(archive: Archive, sent: bytes) -> None:
    with stalled(archive) as server, Peer(server.port) as client:
        client.associate()
        begun = time.monotonic()
        client.send(sent)
        expect_abort(client, 0, 0)
        assert 0.9 < time.monotonic() - begun < 4
        server.told.wait("ended", "idle")
        wait_until(lambda: server.server.associations == 0)
    assert spooled(archive) == []


def test_a_message_that_drips(archive: Archive) -> None:
    """A byte now and then is not silence, but it is not a transfer either."""
    with stalled(archive) as server, Peer(server.port) as client:
        client.associate()
        client.send(HALF[:20_000])
        begun = time.monotonic()
        with suppress(ConnectionError):
            for byte in HALF[20_000:]:
                client.send(bytes((byte,)))
                time.sleep(0.05)
                assert time.monotonic() - begun < 10, "it was let drip"
        server.told.wait("ended", "idle")


def test_a_slow_but_honest_sender_is_served(archive: Archive) -> None:
    data = bare(instance())
    with stalled(archive, min_bytes_per_second=200) as server, Peer(server.port) as client:
        client.associate()
        sent = peer.message(3, peer.store_rq(CT, "1.2.3.4.1"), data)
        for at in range(0, len(sent), 100):
            client.send(sent[at : at + 100])
            time.sleep(0.25)
        assert peer.status_of(client.answer()[0]) == 0


def test_an_association_that_asks_for_nothing(archive: Archive) -> None:
    with serving(archive, idle_seconds=0.6) as server, Peer(server.port) as client:
        client.associate()
        for _ in range(3):
            time.sleep(0.4)
            assert client.echo() == 0, "each request gives it more time"
        # Not so the beginning of a header.
        client.send(b"\4\0\0")
        expect_abort(client, 0, 0)
        server.told.wait("ended", "idle")


def test_a_peer_that_does_not_read(archive: Archive) -> None:
    class Endless:
        index: Any
        database = archive.index.database

        def find(self, _query: Any) -> Iterator[dict[str, Any]]:
            while True:
                yield {"00081030": {"vr": "LO", "Value": ["x" * 60_000]}}

    endless = Endless()
    endless.index = endless
    with stalled(endless) as server, Peer(server.port) as client:  # type: ignore[arg-type]
        client.associate()
        identifier = peer.element(0x00080052, "STUDY") + peer.element(0x00081030, "")
        client.send(peer.message(5, peer.find_rq(STUDY_ROOT), identifier))
        server.told.wait("ended", "idle", seconds=15)


# Cuts


def object_of(size: int = 300_000) -> bytes:
    return bare(instance(frames=size // 512, side=16))


@pytest.mark.parametrize("how", ["closed", "reset", "aborted", "released"])
def test_transfers_that_end_in_the_middle(archive: Archive, how: str) -> None:
    """At each tenth of an object: no part of it is left, its place is free again, and it can be sent again."""
    command, data = peer.store_rq(CT, "1.2.3.4.1"), object_of()
    sent = peer.message(3, command, data)
    start = len(peer.p_data(peer.pdv(3, 3, command)))
    last_word = {"aborted": peer.ABORT, "released": peer.RELEASE_RQ}.get(how, b"")
    # Spilt to a file at once, so that there is something to be left behind.
    with serving(_spilling(archive)) as server:
        for tenth in range(10):
            at = start + (len(sent) - start) * tenth // 10
            with Peer(server.port) as client:
                client.associate()
                # A PDU can only come where another ends.
                client.send(sent[: _end_of_a_pdu(sent, at) if last_word else at] + last_word)
                if how == "reset":
                    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if how == "released":
                    assert client.pdu()[0] == 6
            expected = ("ended", {"aborted": "aborted by peer", "released": "released"}.get(how, "lost"))
            wait_until(lambda: server.told.events.count(expected) == tenth + 1)  # noqa: B023
            wait_until(lambda: server.server.associations == 0)
            assert spooled(archive) == []
        assert archive.index.counts().instances == 0
        with Peer(server.port) as again:
            again.associate()
            assert again.store(data, "1.2.3.4.1") == 0
    assert archive.index.counts().instances == 1
    assert spooled(archive) == []


def _end_of_a_pdu(sent: bytes, at: int) -> int:
    place = 0
    while place < at:
        place += 6 + int.from_bytes(sent[place + 2 : place + 6])
    return min(place, len(sent))


class _Spilling:
    def __init__(self, archive: Archive) -> None:
        self.index, self.ingest = archive.index, archive.ingest
        self._folder: Path = archive.spool_folder

    def spool(self) -> Any:
        return Spool(self._folder, memory_limit=0)


def _spilling(archive: Archive) -> Any:
    return _Spilling(archive)


def test_many_at_once_good_and_bad(server: Serving, archive: Archive) -> None:
    """Good senders among bad ones: every good object is there, and nothing else."""
    errors: list[BaseException] = []

    def good(number: int) -> None:
        with Peer(server.port) as client:
            client.associate()
            for turn in range(5):
                uid = f"1.2.3.{number}.{turn}"
                data = bare(instance(turn, series=f"1.2.3.{number}"))
                assert client.store(data, uid, message_id=turn + 1) == 0
            client.release()

    def bad(number: int) -> None:
        for kind in (BEFORE, WITHIN):
            for _, data, _, _ in kind:
                with Peer(server.port) as client:
                    if kind is WITHIN:
                        client.associate()
                    client.send(data[: len(data) - number])

    def guarded(work: Callable[[int], None], number: int) -> None:
        try:
            work(number)
        except (AssertionError, OSError) as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work, number)) for number in range(1, 5) for work in (good, bad)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert archive.index.counts().instances == 20
    wait_until(lambda: server.server.associations == 0)
    assert spooled(archive) == []


def test_running_out_of_descriptors_is_survived(archive: Archive) -> None:
    failures = iter([True] * 3)

    class Listener(socket.socket):
        def accept(self) -> tuple[socket.socket, Any]:
            if next(failures, False):
                raise OSError(24, "Too many open files")
            return super().accept()

    listener = Listener(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    with serving(archive, sock=listener) as server:
        assert echo_times(server.port, 3)[-1] < 5
    assert next(failures, None) is None
