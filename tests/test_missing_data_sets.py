"""Requests without the data set that they need: said to have none (0000,0800), or announced and never sent (PS3.7 9.3, 10.3)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom.ae import ApplicationEntity

from storage.archive import Archive
from tests.support import dimse_peer as raw
from tests.support.dimse_peer import CT, IMPLICIT, Peer
from tests.support.dimse_server import Serving, serving
from tests.support.performed import begun

COMMITMENT, WELL_KNOWN = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
STEP, STEP_RETRIEVE, PUSH = "1.2.840.10008.3.1.2.3.3", "1.2.840.10008.3.1.2.3.4", "1.2.840.10008.5.1.4.34.6.1"
FIND, MOVE, GET = (f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3))
WORKLIST = "1.2.840.10008.5.1.4.31"
NONE, ANNOUNCED = 0x0101, 0x0001
# The data set that does not begin is given up after so long.
SECONDS = 0.4


def normalized(field: int, sop_class: str, instance: str, **more: int) -> Callable[[int], bytes]:
    named = {0x002: sop_class, 0x1000: instance} if field == 0x0140 else {0x003: sop_class, 0x1001: instance}
    extra = {0x1008: more["action"]} if "action" in more else {}
    return lambda data_set: raw.command({**named, 0x100: field, 0x110: 1, 0x800: data_set, **extra})


def composite(field: int, sop_class: str, **more: str) -> Callable[[int], bytes]:
    extra = {0x600: more["destination"]} if "destination" in more else {}
    return lambda data_set: raw.command({0x002: sop_class, 0x100: field, 0x110: 1, 0x700: 0, 0x800: data_set, **extra})


# What is sent in which context, its status where there is no data set, and where one is announced and does not come.
REQUESTS: dict[str, tuple[str, Callable[[int], bytes], int, int]] = {
    "N-ACTION storage commitment": (COMMITMENT, normalized(0x0130, COMMITMENT, WELL_KNOWN, action=1), 0x0115, 0x0115),
    "N-CREATE performed step": (STEP, normalized(0x0140, STEP, "1.2.3"), 0x0120, 0x0115),
    "N-SET performed step": (STEP, normalized(0x0120, STEP, "1.2.3"), 0x0115, 0x0115),
    # An N-GET has no data set by nature: its list is in the command.
    "N-GET performed step": (STEP_RETRIEVE, normalized(0x0110, STEP_RETRIEVE, "1.2.3"), 0x0112, 0x0115),
    "N-CREATE workitem": (PUSH, normalized(0x0140, PUSH, "1.2.3"), 0x0120, 0x0115),
    "N-SET workitem": (PUSH, normalized(0x0120, PUSH, "1.2.3"), 0x0115, 0x0115),
    "N-ACTION workitem": (PUSH, normalized(0x0130, PUSH, "1.2.3", action=1), 0xC307, 0x0115),
    "C-FIND": (FIND, composite(0x0020, FIND), 0xA900, 0xA900),
    "C-FIND worklist": (WORKLIST, composite(0x0020, WORKLIST), 0xA900, 0xA900),
    "C-MOVE": (MOVE, composite(0x0021, MOVE, destination="PEER"), 0xA900, 0xA900),
    "C-GET": (GET, composite(0x0010, GET), 0xA900, 0xA900),
}
ROWS = [pytest.param(*row, id=name) for name, row in REQUESTS.items()]


@pytest.fixture
def server(archive: Archive) -> Iterator[Serving]:
    with serving(archive, data_set_seconds=SECONDS) as running:
        yield running


def asked(client: Peer, command: bytes) -> tuple[int, str, float]:
    """Status, comment, and seconds until they came."""
    since = time.monotonic()
    client.send(raw.message(3, command))
    answer, _ = client.answer()
    return raw.status_of(answer), answer.get(0x902, b"").decode(), time.monotonic() - since


@pytest.mark.parametrize(("sop_class", "command", "none", "announced"), ROWS)
def test_each_request(server: Serving, sop_class: str, command: Callable[[int], bytes], none: int, announced: int) -> None:
    with Peer(server.port) as client:
        client.associate([(1, raw.VERIFICATION, (IMPLICIT,)), (3, sop_class, (IMPLICIT,))])
        status, comment, seconds = asked(client, command(NONE))
        assert (status, bool(comment)) == (none, True)
        assert seconds < SECONDS, "what says that it has none is answered at once"
        status, comment, seconds = asked(client, command(ANNOUNCED))
        assert (status, "0101H" in comment) == (announced, True)
        assert SECONDS <= seconds < SECONDS + 5
        assert client.echo() == 0, "the association goes on"
        client.release()


# Refused, or answered, without a look at the data set: what is sent in which context, and its status.
UNREAD: dict[str, tuple[str, bytes, int]] = {
    "a query where instances are sent": (CT, raw.find_rq(FIND, data_set=ANNOUNCED), 0x0122),
    "an N-ACTION where queries are sent": (FIND, normalized(0x0130, COMMITMENT, WELL_KNOWN, action=1)(ANNOUNCED), 0x0122),
    "an operation that nobody serves": (STEP, normalized(0x0150, STEP, "1.2.3")(ANNOUNCED), 0x0211),
    "C-ECHO": (raw.VERIFICATION, composite(0x0030, raw.VERIFICATION)(ANNOUNCED), 0x0212),
}


@pytest.mark.parametrize(("sop_class", "command", "expected"), [pytest.param(*row, id=name) for name, row in UNREAD.items()])
def test_a_data_set_that_nobody_reads_is_not_waited_for_either(server: Serving, sop_class: str, command: bytes, expected: int) -> None:
    with Peer(server.port) as client:
        client.associate([(1, raw.VERIFICATION, (IMPLICIT,)), (3, sop_class, (IMPLICIT,))])
        status, _, seconds = asked(client, command)
        assert status == expected
        assert SECONDS <= seconds < SECONDS + 5
        client.send(raw.p_data(raw.pdv(3, 2, b"late")))
        assert client.echo() == 0, "the association goes on, and what comes too late is passed over"
        client.release()


def test_a_cancel_of_nothing_that_announces_a_data_set(server: Serving) -> None:
    cancel = raw.command({0x100: 0x0FFF, 0x120: 1, 0x800: ANNOUNCED})
    with Peer(server.port) as client:
        client.associate([(1, raw.VERIFICATION, (IMPLICIT,)), (3, FIND, (IMPLICIT,))])
        client.send(raw.message(3, cancel))
        # What comes before it is given up would interrupt its data set.
        time.sleep(3 * SECONDS)
        assert client.echo() == 0


@pytest.mark.parametrize("after", [b"", raw.element(0x00080052, "STUDY")], ids=["empty", "filled"])
def test_what_comes_too_late_is_passed_over(server: Serving, after: bytes) -> None:
    """Its request has been refused: it is neither taken for another's nor a violation."""
    with Peer(server.port) as client:
        client.associate([(1, raw.VERIFICATION, (IMPLICIT,)), (3, FIND, (IMPLICIT,))])
        assert asked(client, raw.find_rq(data_set=ANNOUNCED))[0] == 0xA900
        client.send(raw.p_data(raw.pdv(3, 0, after), raw.pdv(3, 2, after)))
        assert client.echo() == 0
        client.send(raw.message(3, raw.find_rq(FIND, 2), raw.element(0x00080052, "STUDY")))
        assert raw.status_of(client.answer()[0]) == 0
        # What was never announced is a violation as before.
        client.send(raw.p_data(raw.pdv(3, 2, b"data")))
        assert client.pdu()[0] == 7


def test_a_data_set_that_pauses_has_the_time_of_a_message(server: Serving) -> None:
    """Only its beginning is waited for impatiently."""
    identifier = raw.element(0x00080052, "STUDY")
    with Peer(server.port) as client:
        client.associate([(3, FIND, (IMPLICIT,))])
        client.send(raw.message(3, raw.find_rq(FIND)) + raw.p_data(raw.pdv(3, 0, identifier[:5])))
        time.sleep(2 * SECONDS)
        client.send(raw.p_data(raw.pdv(3, 2, identifier[5:])))
        assert raw.status_of(client.answer()[0]) == 0


def test_a_late_modification_is_never_called_a_success(server: Serving, archive: Archive) -> None:
    """An N-SET whose list is late is refused, not taken for one that changes nothing."""
    with associated(server, STEP) as association:
        assert association.send_n_create(begun(), STEP, "1.2.3")[0].Status == 0
        status, _ = association.send_n_set(Dataset(), STEP, "1.2.3")
        assert status.Status == 0x0115


# pynetdicom announces a data set that is empty, and sends none.
SENT: dict[str, tuple[str, Callable[[Any], int], int]] = {
    "N-ACTION": (COMMITMENT, lambda one: one.send_n_action(Dataset(), 1, COMMITMENT, WELL_KNOWN)[0].Status, 0x0115),
    "N-ACTION without": (COMMITMENT, lambda one: one.send_n_action(None, 1, COMMITMENT, WELL_KNOWN)[0].Status, 0x0115),
    "N-CREATE": (STEP, lambda one: one.send_n_create(Dataset(), STEP, "1.2.3")[0].Status, 0x0115),
    "C-FIND": (FIND, lambda one: next(one.send_c_find(Dataset(), FIND))[0].Status, 0xA900),
    "C-MOVE": (MOVE, lambda one: next(one.send_c_move(Dataset(), "PEER", MOVE))[0].Status, 0xA900),
}


@pytest.mark.parametrize(("sop_class", "send", "expected"), [pytest.param(*row, id=name) for name, row in SENT.items()])
def test_pynetdicom(server: Serving, sop_class: str, send: Callable[[Any], int], expected: int) -> None:
    with associated(server, sop_class) as association:
        assert send(association) == expected
        assert association.is_established


@contextmanager
def associated(server: Serving, sop_class: str) -> Iterator[Any]:
    entity: Any = ApplicationEntity
    entity = entity(ae_title="MODALITY")
    entity.add_requested_context(sop_class)
    association = entity.associate("127.0.0.1", server.port, ae_title="LIGHTBOX")
    assert association.is_established
    yield association
    association.release()


def test_an_instance_that_is_announced_has_the_time_of_a_message(archive: Archive) -> None:
    """A router may stream what it has still to get: it is aborted only after as long as a message may stand still."""
    with serving(archive, data_set_seconds=0.2, message_idle_seconds=1.0) as server, Peer(server.port) as client:
        client.associate()
        since = time.monotonic()
        client.send(raw.message(3, raw.store_rq(CT, "1.2.3")))
        assert client.pdu()[0] == 7
        assert time.monotonic() - since >= 1.0
        server.told.wait("ended", "idle")


def test_so_has_an_instance_that_is_refused(archive: Archive) -> None:
    """Its command alone is refused, and its data set read to its end, however late it begins."""
    with serving(archive, data_set_seconds=0.2, message_idle_seconds=5.0) as server, Peer(server.port) as client:
        client.associate([(1, raw.VERIFICATION, (IMPLICIT,)), (3, FIND, (IMPLICIT,))])
        client.send(raw.message(3, raw.store_rq(CT, "1.2.3")))
        time.sleep(0.8)
        client.send(raw.p_data(raw.pdv(3, 2, b"late")))
        assert raw.status_of(client.answer()[0]) == 0x0122
        assert client.echo() == 0
