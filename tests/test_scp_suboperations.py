"""Bad input to retrieves and DIMSE-N, and what may come while an operation of ours is going on, by a peer of raw bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from storage.archive import Archive
from tests.support import dimse_peer as peer
from tests.support.archive import Store
from tests.support.dimse_peer import CT, EXPLICIT, IMPLICIT, VERIFICATION, Peer
from tests.support.dimse_server import Serving, bare, serving
from tests.support.made import instance

GET, MOVE, COMMITMENT = "1.2.840.10008.5.1.4.1.2.2.3", "1.2.840.10008.5.1.4.1.2.2.2", "1.2.840.10008.1.20.1"
CONTEXTS = ((1, VERIFICATION, (IMPLICIT,)), (3, CT, (EXPLICIT,)), (5, GET, (IMPLICIT,)), (7, MOVE, (IMPLICIT,)), (9, COMMITMENT, (IMPLICIT,)))
WHOLE = peer.element(0x00080052, "STUDY ") + peer.element(0x0020000D, "1.2.3")


@pytest.fixture
def server(archive: Archive, store: Store) -> Iterator[Serving]:
    for number in (1, 2, 3):
        store(instance(number))
    with serving(archive) as running:
        yield running


@contextmanager
def associated(server: Serving) -> Iterator[Peer]:
    """All contexts, and storage both ways."""
    role = peer.item(0x54, len(CT).to_bytes(2, "big") + CT.encode() + b"\1\1")
    with Peer(server.port) as client:
        client.associate(CONTEXTS, user_item=peer.user(16384, role))
        yield client


def get_rq(data_set: int = 0, message_id: int = 1) -> bytes:
    return peer.command({0x002: GET, 0x100: 0x0010, 0x110: message_id, 0x700: 0, 0x800: data_set})


def move_rq(data_set: int = 0) -> bytes:
    return peer.command({0x002: MOVE, 0x100: 0x0021, 0x110: 1, 0x600: "NODE", 0x700: 0, 0x800: data_set})


def action_rq(data_set: int = 0) -> bytes:
    return peer.command(
        {0x003: COMMITMENT, 0x100: 0x0130, 0x110: 1, 0x800: data_set, 0x1001: "1.2.840.10008.1.20.1.1", 0x1008: 1}
    )


def stored(request: dict[int, bytes], *, message_id: int | None = None) -> bytes:
    """C-STORE-RSP, success; of another message where that is said."""
    answered = int.from_bytes(request[0x110], "little") if message_id is None else message_id
    return peer.message(3, peer.command({0x100: 0x8001, 0x120: answered, 0x800: 0x101, 0x900: 0}))


@pytest.mark.parametrize(
    ("context", "command", "identifier", "expected"),
    [
        (5, get_rq(0x101), None, 0xA900),
        (7, move_rq(0x101), None, 0xA900),
        (9, action_rq(0x101), None, 0x0115),
        # Cut short, no data set at all, too large; PS3.4 C.4.2.1.5, C.4.3.1.4, PS3.7 C.
        (5, get_rq(), WHOLE[:-3], 0xA900),
        (7, move_rq(), WHOLE[:-3], 0xA900),
        (9, action_rq(), WHOLE[:-3], 0x0115),
        (5, get_rq(), b"\xff" * 40, 0xA900),
        (7, move_rq(), b"\xff" * 40, 0xA900),
        (9, action_rq(), b"\xff" * 40, 0x0115),
        (5, get_rq(), b"", 0xA900),
        (5, get_rq(), bytes(2 << 20), 0xA700),
        (7, move_rq(), bytes(2 << 20), 0xA700),
        (9, action_rq(), bytes(5 << 20), 0x0213),
    ],
)
def test_requests_that_cannot_be_read(
    server: Serving, context: int, command: bytes, identifier: bytes | None, expected: int
) -> None:
    with associated(server) as client:
        client.send(peer.message(context, command, identifier))
        answer, _ = client.answer()
        assert peer.status_of(answer) == expected
        assert answer[0x902].strip()
        assert client.echo() == 0, "and the association goes on"


def test_the_peer_may_have_an_operation_of_its_own_meanwhile(server: Serving, archive: Archive) -> None:
    """PS3.7 D.3.3.3: one in either direction. Between our C-STORE and its answer come an echo and a C-STORE of the peer's."""
    with associated(server) as client:
        client.send(peer.message(5, get_rq(message_id=9), WHOLE))
        statuses, received = [], 0
        while True:
            request, _ = client.answer()
            if request[0x100] != b"\1\0":
                statuses.append(peer.status_of(request))
                if statuses[-1] != 0xFF00:
                    break
                continue
            received += 1
            assert client.echo(message_id=50) == 0
            assert client.store(bare(instance(received, series="1.2.9.1", study="1.2.9")), f"1.2.9.1.{received}", message_id=51) == 0
            client.send(stored(request))
        assert (received, statuses[-1]) == (3, 0)
        client.release()
    assert archive.index.counts().instances == 6


@pytest.mark.parametrize(
    "meanwhile",
    [
        # The answer to something else; a retrieve within a retrieve, which would ask for sub-operations of its own.
        lambda request: stored(request, message_id=4711),
        lambda _: peer.message(5, get_rq(message_id=10), WHOLE),
    ],
)
def test_what_must_not_come_meanwhile(server: Serving, meanwhile: object) -> None:
    with associated(server) as client:
        client.send(peer.message(5, get_rq(message_id=9), WHOLE))
        request, _ = client.answer()
        assert request[0x100] == b"\1\0"
        client.send(meanwhile(request))  # type: ignore[operator]
        assert client.pdu() == (7, bytes(4)), "A-ABORT"
    server.told.wait("ended", "violation")


@pytest.mark.parametrize("ending", ["abort", "cut", "release"])
def test_a_peer_that_goes_away_in_the_middle(server: Serving, ending: str) -> None:
    with associated(server) as client:
        client.send(peer.message(5, get_rq(), WHOLE))
        client.answer()
        if ending == "cut":
            client.socket.close()
        else:
            client.send(peer.ABORT if ending == "abort" else peer.RELEASE_RQ)
            assert client.pdu()[0] == (6 if ending == "release" else 0)
    server.told.wait("ended", {"abort": "aborted by peer", "cut": "lost", "release": "released"}[ending])


def test_a_peer_that_never_answers(archive: Archive, store: Store) -> None:
    store(instance())
    with serving(archive, answer_seconds=0.3) as server, associated(server) as client:
        client.send(peer.message(5, get_rq(), WHOLE))
        client.answer()
        assert client.pdu() == (7, bytes(4)), "A-ABORT"
        server.told.wait("ended", "idle")
