"""What has come is sent on by rule: to real nodes, once, without loops, whatever breaks on the way."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pacs import processing
from pacs.processing import Work, sending
from pacs.settings import Settings
from pacs.worker import Lane, Postponed, Worker
from storage.archive import Archive
from storage.errors import BadRequest, NotFound
from storage.index.ae import AeTitle, add_ae_title
from storage.jobs import JobQueue
from storage.mpps import PerformedSteps
from storage.routing import Router, lag
from storage.rules import (
    Prefetch,
    Priority,
    Route,
    Rule,
    Sending,
    When,
    put_rule,
    remove_rule,
    rules,
)
from storage.transfer_records import JOB_KINDS, RETRIEVE, SEND, Order, State, Transfer, Wanted
from storage.transfers import Transfers
from storage.types import Scope, Source
from tests.support import storage_scp
from tests.support.archive import close_archive, open_archive
from tests.support.children import free_port
from tests.support.dimse_server import wait_until
from tests.support.indexes import ENGINES
from tests.support.made import instance
from tests.support.performed import begun, ended, performed

CT = Source("dimse", calling_ae="CT1", called_ae="LIGHTBOX", address="10.0.0.1")


@pytest.fixture(params=ENGINES)
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Archive]:
    """An empty archive, once on each engine: claims and locks matter."""
    url = request.getfixturevalue("postgres_database") if request.param == "postgresql" else None
    opened = open_archive(tmp_path / "archive", database_url=url)
    yield opened
    close_archive(opened)


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Archive]:
    opened = open_archive(tmp_path / "archive")
    yield opened
    close_archive(opened)


def come(archive: Archive, content: bytes, source: Source = CT) -> None:
    with archive.spool() as spool:
        spool.write(content)
        archive.ingest(spool, source)


def shown(archive: Archive, **wanted: Any) -> list[Transfer]:
    return Transfers(archive.index).search(Wanted(**wanted))


def orders(archive: Archive) -> list[tuple[str, str, int]]:
    """(rule, node, instances) of what is to be sent, the oldest first."""
    return [(one.rule, one.node, one.total) for one in reversed(shown(archive))]


def gathered(archive: Archive) -> list[tuple[str, str, int]]:
    router = Router(archive.index)
    while router.gather():
        pass
    return orders(archive)


def work_of(archive: Archive) -> Work:
    return Work(archive, Settings.model_construct(ae_title="LIGHTBOX", transfer_days=30.0))


@contextmanager
def working(archive: Archive, waits: tuple[float, ...] = (0.2, 0.2), **kinds: Any) -> Iterator[Worker]:
    """A worker that notices and sends, with short waits between tries."""
    work = work_of(archive)
    lane = Lane(tuple(JOB_KINDS.values()), threads=2, waits=waits)
    periodic = tuple(one for one in processing.periodic(work) if one.name in ("routing", "prefetch"))
    worker = Worker(
        JobQueue(archive.index), processing.kinds(work), periodic=periodic, lanes=(lane,), over=work.stopping, idle_seconds=0.05
    )
    worker.start()
    try:
        yield worker
    finally:
        assert worker.stop(20)


def until(archive: Archive, *states: State, seconds: float = 60) -> list[Transfer]:
    """The transfers, once their states are these (the oldest first)."""
    wait_until(
        lambda: [one.state for one in reversed(shown(archive))] == list(states),
        seconds,
        lambda: f"there is {[(one.state, one.error) for one in shown(archive)]}",
    )
    return list(reversed(shown(archive)))


# What a rule takes


@pytest.mark.parametrize(
    ("route", "source", "attributes", "taken"),
    [
        ({}, CT, {}, True),
        ({"calling": ("CT1",)}, CT, {}, True),
        ({"calling": ("MR*", "CT?")}, CT, {}, True),
        ({"calling": ("MR*",)}, CT, {}, False),
        ({"called": ("RESEARCH",)}, CT, {}, False),
        ({"conditions": {"Modality": "CT\\MR"}}, CT, {}, True),
        ({"conditions": {"Modality": "MR"}}, CT, {}, False),
        # Matched as in a query (PS3.4 C.2.2.2): wildcards, ranges, person names without case, sequences.
        ({"conditions": {"StudyDescription": "*chest*"}}, CT, {"StudyDescription": "CT of chest, low dose"}, True),
        ({"conditions": {"StudyDescription": "*chest*"}}, CT, {"StudyDescription": "CT of head"}, False),
        ({"conditions": {"StudyDate": "20240101-20240131"}}, CT, {}, True),
        ({"conditions": {"StudyDate": "20230101-20230131"}}, CT, {}, False),
        ({"conditions": {"ReferringPhysicianName": "house^*"}}, CT, {"ReferringPhysicianName": "House^Gregory"}, True),
        ({"conditions": {"BodyPartExamined": "CHEST", "StationName": "CT-2"}}, CT, {"BodyPartExamined": "CHEST", "StationName": "CT-2"}, True),
        ({"conditions": {"BodyPartExamined": "CHEST", "StationName": "CT-2"}}, CT, {"BodyPartExamined": "CHEST", "StationName": "CT-1"}, False),
        ({"conditions": {"InstitutionName": "General*"}}, CT, {"InstitutionName": "General Hospital"}, True),
        # Of the instance, not of its series.
        ({"conditions": {"ImageType": "DERIVED"}}, CT, {"ImageType": ["DERIVED", "SECONDARY"]}, True),
        ({"conditions": {"ImageType": "DERIVED"}}, CT, {"ImageType": ["ORIGINAL", "PRIMARY"]}, False),
        ({"conditions": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}}, CT, {}, True),
        ({"conditions": {"AccessionNumber": '""'}}, CT, {}, False),
        # Where it has come from.
        ({}, Source("dimse", calling_ae="WS1"), {}, False),
        ({}, Source("stow", address="10.0.0.9"), {}, True),
        ({}, Source("import", file="a.dcm"), {}, False),
        ({"imported": True}, Source("import", file="a.dcm"), {}, True),
        ({"imported": True}, Source("rebuild"), {}, False),
    ],
)
def test_what_a_route_takes(sqlite: Archive, route: dict[str, Any], source: Source, attributes: dict[str, Any], taken: bool) -> None:
    put_rule(sqlite.index, Rule("r", Route("WS1", **route)))
    come(sqlite, instance(**attributes), source)
    assert gathered(sqlite) == ([("r", "WS1", 1)] if taken else [])


@pytest.mark.parametrize(
    ("conditions", "text"),
    [
        ({"Modalty": "CT"}, "no attribute"),
        ({"ModalitiesInStudy": "CT"}, "say Modality"),
        ({"PixelData": "1"}, "cannot be matched"),
        ({"Rows": "many"}, "whole number"),
        ({"StudyDate": "yesterday"}, "StudyDate"),
        ({"00091001": "x"}, "private"),
    ],
)
def test_what_cannot_be_matched_is_refused_when_it_is_said(conditions: dict[str, str], text: str) -> None:
    with pytest.raises(BadRequest, match=text):
        Route("WS1", conditions)


@pytest.mark.parametrize(
    "said", [{"to": ""}, {"to": "a\\b"}, {"to": "W", "quiet_seconds": -1}, {"to": "W", "calling": ("a" * 17 + "\x00",) * 20_000}]
)
def test_what_is_no_route_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        Route(**said)


@pytest.mark.parametrize("said", [{"hours": "25:00-01:00"}, {"hours": "at night"}, {"parallel": 0}, {"parallel": 9}])
def test_how_nothing_can_be_sent_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        Sending(**said)


@pytest.mark.parametrize(
    ("hours", "at", "wait"),
    [
        ("", "12:00", 0),
        ("22:00-06:00", "23:00", 0),
        ("22:00-06:00", "05:59", 0),
        ("22:00-06:00", "06:00", 16 * 3600),
        ("22:00-06:00", "21:30", 1800),
        ("08:00-17:00", "12:00", 0),
        ("08:00-17:00", "17:00", 15 * 3600),
        ("08:00-17:00", "07:00", 3600),
    ],
)
def test_hours(hours: str, at: str, wait: float) -> None:
    now = time.mktime(time.strptime(f"2024-01-15 {at}", "%Y-%m-%d %H:%M"))
    assert Sending(hours=hours).wait(now) == wait


def test_rules_are_kept_as_they_are(archive: Archive) -> None:
    route = Route("WS1", {"Modality": "CT"}, ("CT*",), ("LIGHTBOX",), When.STUDY, 5, sending=Sending(True, Priority.HIGH, "22:00-06:00", 2))
    put_rule(archive.index, Rule("b", route, enabled=False, position=1))
    put_rule(archive.index, Rule("a", Route("WS2"), position=2))
    put_rule(archive.index, Rule("p", Prefetch(("PACS2",))))
    assert [(one.name, one.definition, one.enabled) for one in rules(archive.index, Route)] == [("b", route, False), ("a", Route("WS2"), True)]
    assert [one.definition for one in rules(archive.index, Prefetch)] == [Prefetch(("PACS2",))]
    assert remove_rule(archive.index, Route, "b")
    assert not remove_rule(archive.index, Route, "b")
    for name in ("", "=a", "a/b", "a" * 65):
        with pytest.raises(BadRequest):
            put_rule(archive.index, Rule(name, Route("WS1")))


# What is noticed, and when


def test_without_a_route_storing_writes_nothing_more_and_nothing_is_sent(archive: Archive) -> None:
    come(archive, instance())
    assert gathered(archive) == []
    assert lag(archive.index) == 0
    put_rule(archive.index, Rule("r", Route("WS1")))
    assert gathered(archive) == [], "what came before the rule is not sent on"


def test_what_came_while_no_worker_ran_is_sent_on_and_what_came_before_the_rule_is_not(archive: Archive) -> None:
    come(archive, instance(1))
    put_rule(archive.index, Rule("r", Route("WS1")))
    come(archive, instance(2))
    put_rule(archive.index, Rule("r", Route("WS1", calling=("CT1",))))
    come(archive, instance(3))
    assert gathered(archive) == [("r", "WS1", 2)]


def test_a_rule_that_is_not_enabled_sends_nothing_and_later_only_what_comes_then(archive: Archive) -> None:
    put_rule(archive.index, Rule("r", Route("WS1"), enabled=False))
    come(archive, instance(1))
    put_rule(archive.index, Rule("r", Route("WS1")))
    come(archive, instance(2))
    assert gathered(archive) == [("r", "WS1", 1)]


def test_a_study_is_one_transfer_for_each_rule_and_node(archive: Archive) -> None:
    put_rule(archive.index, Rule("all", Route("WS1")))
    put_rule(archive.index, Rule("mr", Route("WS2", {"Modality": "MR"}, when=When.SERIES)))
    for number in (1, 2, 3):
        come(archive, instance(number))
        gathered(archive)
        come(archive, instance(number, series=f"1.2.3.{4 + number}", Modality="MR"))
    come(archive, instance(1, study="1.2.9", series="1.2.9.1"))
    assert gathered(archive) == [("all", "WS1", 6), *[("mr", "WS2", 1)] * 3, ("all", "WS1", 1)]


def test_what_is_sent_again_is_not_sent_on_again(archive: Archive) -> None:
    put_rule(archive.index, Rule("r", Route("WS1")))
    for _ in range(3):
        come(archive, instance())
    assert gathered(archive) == [("r", "WS1", 1)]


def test_default_destinations_of_a_node_are_routes(archive: Archive) -> None:
    add_ae_title(archive.index, AeTitle("CT1", "", 0, destinations=("WS1", "WS 2")))
    come(archive, instance())
    come(archive, instance(1, study="1.2.9", series="1.2.9.1"), Source("dimse", calling_ae="CT2"))
    assert sorted(gathered(archive)) == [("=CT1", "WS 2", 1), ("=CT1", "WS1", 1)]


@pytest.mark.parametrize("retrieved", [False, True])
def test_what_was_fetched_is_not_sent_on_unless_that_is_said(archive: Archive, retrieved: bool) -> None:
    put_rule(archive.index, Rule("r", Route("WS1", retrieved=retrieved)))
    Transfers(archive.index).retrieve(Order("PACS2", Scope("1.2.3"), RETRIEVE))
    come(archive, instance(), Source("dimse", calling_ae="PACS2"))
    come(archive, instance(1, study="1.2.9", series="1.2.9.1"), Source("dimse", calling_ae="PACS2"))
    assert [one for one in gathered(archive) if one[0]] == [("r", "WS1", 1)] * (1 + retrieved)


def test_two_workers_who_look_at_once_send_once(archive: Archive) -> None:
    put_rule(archive.index, Rule("r", Route("WS1")))
    for number in range(1, 31):
        come(archive, instance(number))
    threads = [threading.Thread(target=gathered, args=(archive,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert gathered(archive) == [("r", "WS1", 30)]


# Sending


def test_what_comes_is_sent_on_on_one_association(archive: Archive) -> None:
    with storage_scp.node(title="WS1") as node, working(archive):
        add_ae_title(archive.index, AeTitle("WS1", "127.0.0.1", node.port))
        put_rule(archive.index, Rule("r", Route("WS1", sending=Sending(priority=Priority.LOW))))
        for number in range(1, 11):
            come(archive, instance(number))
        (one,) = until(archive, State.DONE)
    assert sorted(node.uids) == sorted(f"1.2.3.4.{number}" for number in range(1, 11))
    assert (one.total, one.completed, one.failed, one.error) == (10, 10, 0, "")
    assert node.associations == 1
    assert {request.Priority for request in node.requests} == {2}
    assert JobQueue(archive.index).counts() == {"waiting": 0, "running": 0, "dead": 0}


def test_a_series_is_sent_when_nothing_more_of_it_comes(sqlite: Archive) -> None:
    with storage_scp.node(title="WS1") as node, working(sqlite):
        add_ae_title(sqlite.index, AeTitle("WS1", "127.0.0.1", node.port))
        put_rule(sqlite.index, Rule("r", Route("WS1", when=When.SERIES, quiet_seconds=4)))
        since = time.monotonic()
        for number in range(1, 5):
            come(sqlite, instance(number))
            time.sleep(0.5)
            assert node.uids == []
        (one,) = until(sqlite, State.DONE)
    assert time.monotonic() - since > 5
    assert (one.total, node.associations) == (4, 1)


def test_a_study_waits_for_the_step_that_its_modality_is_still_at(sqlite: Archive) -> None:
    steps = PerformedSteps(sqlite.index)
    step = steps.create(begun().to_json_dict())
    with storage_scp.node(title="WS1") as node:
        add_ae_title(sqlite.index, AeTitle("WS1", "127.0.0.1", node.port))
        put_rule(sqlite.index, Rule("r", Route("WS1", when=When.STUDY, quiet_seconds=0)))
        come(sqlite, instance())
        gathered(sqlite)
        (one,) = shown(sqlite)
        with pytest.raises(Postponed):
            sending.send(work_of(sqlite), {"transfer": one.number})
        steps.update(step.uid, ended(performed(1)).to_json_dict())
        sending.send(work_of(sqlite), {"transfer": one.number})
    assert node.uids == ["1.2.3.4.1"]


def test_a_study_that_is_whole_by_its_mpps_does_not_wait_to_be_quiet(sqlite: Archive) -> None:
    steps = PerformedSteps(sqlite.index)
    step = steps.create(begun().to_json_dict())
    put_rule(sqlite.index, Rule("r", Route("WS1", when=When.STUDY, quiet_seconds=3600)))
    put_rule(sqlite.index, Rule("other", Route("WS2", when=When.STUDY, quiet_seconds=3600)))
    come(sqlite, instance(1))
    come(sqlite, instance(1, study="1.2.9", series="1.2.9.1"))
    work = work_of(sqlite)

    def due() -> list[str]:
        sending.gather(work)
        now = datetime.now(UTC)
        return sorted({one.scope.study for one in shown(sqlite) if one.due_at is None or one.due_at <= now})

    assert due() == []
    steps.update(step.uid, ended(performed(1, 2)).to_json_dict())
    assert due() == [], "one is missing"
    come(sqlite, instance(2))
    assert due() == ["1.2.3"]


def test_what_is_refused_is_tried_three_times_and_waits_for_an_administrator(archive: Archive) -> None:
    with storage_scp.node(title="WS1") as node, working(archive):
        node.behave = lambda event, _number: 0xC001 if str(event.dataset.SOPInstanceUID).endswith(".2") else 0
        add_ae_title(archive.index, AeTitle("WS1", "127.0.0.1", node.port))
        put_rule(archive.index, Rule("r", Route("WS1")))
        for number in (1, 2, 3):
            come(archive, instance(number))
        (one,) = until(archive, State.FAILED)
        assert (one.total, one.completed, one.failed, one.tries) == (3, 2, 1, 3)
        assert [(failure.instance, failure.status) for failure in one.failures] == [("1.2.3.4.2", 0xC001)]
        assert one.error == "1 of 1 instances were not sent to WS1: the peer answered C001: it cannot understand, or process, what was sent"
        assert len(node.requests) == 5, "what was sent is not sent again"
        node.behave = lambda _event, _number: 0
        assert Transfers(archive.index).again(one.number) == one.number
        (one,) = until(archive, State.DONE)
    assert (one.completed, one.failed, one.failures, one.error) == (3, 0, (), "")


def test_what_a_node_does_not_support_is_not_tried_again(sqlite: Archive) -> None:
    with storage_scp.node([("1.2.840.10008.1.1", ["1.2.840.10008.1.2"])], title="WS1") as node, working(sqlite):
        add_ae_title(sqlite.index, AeTitle("WS1", "127.0.0.1", node.port))
        put_rule(sqlite.index, Rule("r", Route("WS1")))
        come(sqlite, instance())
        (one,) = until(sqlite, State.FAILED)
    assert one.tries == 1
    assert "WS1 accepts no presentation context" in one.error


def test_a_node_that_is_away_gets_everything_when_it_is_back(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pacs.processing.nodes.AWAY_SECONDS", 0.3)
    monkeypatch.setattr("pacs.scu.delivery._PAUSES", (0.05,))
    port = free_port()
    add_ae_title(archive.index, AeTitle("WS1", "127.0.0.1", port))
    put_rule(archive.index, Rule("r", Route("WS1")))
    with working(archive, waits=(0.5, 60.0)):
        for study in ("1.2.3", "1.2.9", "1.2.10"):
            come(archive, instance(study=study, series=f"{study}.1"))
        wait_until(lambda: any("cannot be reached" in one.error for one in shown(archive)), 60)
        with storage_scp.node(title="WS1", port=port) as node:
            until(archive, State.DONE, State.DONE, State.DONE, seconds=90)
    assert len(node.uids) == 3


def test_one_that_is_away_holds_up_nobody_else(sqlite: Archive) -> None:
    add_ae_title(sqlite.index, AeTitle("AWAY", "127.0.0.1", free_port()))
    put_rule(sqlite.index, Rule("a", Route("AWAY")))
    put_rule(sqlite.index, Rule("b", Route("WS1")))
    with storage_scp.node(title="WS1") as node, working(sqlite, waits=(60.0, 60.0)):
        add_ae_title(sqlite.index, AeTitle("WS1", "127.0.0.1", node.port))
        for number in range(1, 9):
            come(sqlite, instance(1, study=f"1.2.{number}", series=f"1.2.{number}.1"))
        wait_until(lambda: len(node.uids) == 8, 30)
    tries = sorted(one.tries for one in shown(sqlite, node="AWAY"))
    assert tries[:-2] == [0] * 6, "those behind it have lost no try"


def test_a_worker_that_dies_in_the_middle_loses_nothing(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent and not yet written down is sent twice, which does no harm; everything else is sent once."""
    with storage_scp.node(title="WS1") as node:
        add_ae_title(archive.index, AeTitle("WS1", "127.0.0.1", node.port))
        put_rule(archive.index, Rule("r", Route("WS1")))
        for number in range(1, 7):
            come(archive, instance(number))
        gathered(archive)
        queue = JobQueue(archive.index, clock=lambda: time.time() + 10)
        (claimed,) = queue.claim("dies", kinds=(JOB_KINDS[SEND],), lease=0)

        class Killed(BaseException):
            pass

        real = Transfers.note

        def note(self: Transfers, number: int, done: Any) -> bool:
            raise Killed

        monkeypatch.setattr(Transfers, "note", note)
        with pytest.raises(Killed):
            sending.send(work_of(archive), claimed.payload)
        monkeypatch.setattr(Transfers, "note", real)
        (one,) = shown(archive)
        assert (one.state, one.completed) == (State.RUNNING, 0)
        (again,) = JobQueue(archive.index, clock=lambda: time.time() + 600).claim("lives", kinds=(JOB_KINDS[SEND],))
        sending.send(work_of(archive), again.payload)
    assert set(node.uids) == {f"1.2.3.4.{number}" for number in range(1, 7)}
    assert shown(archive)[0].state is State.DONE


def test_what_was_deleted_meanwhile_is_not_waited_for(sqlite: Archive) -> None:
    from storage.index.deletions import Deletions
    from storage.rejection import Why

    put_rule(sqlite.index, Rule("r", Route("WS1")))
    for number in (1, 2):
        come(sqlite, instance(number))
    gathered(sqlite)
    Deletions(sqlite.index).delete(Scope("1.2.3", "1.2.3.4", "1.2.3.4.2"), Why(), "anna")
    with storage_scp.node(title="WS1") as node:
        add_ae_title(sqlite.index, AeTitle("WS1", "127.0.0.1", node.port))
        sending.send(work_of(sqlite), {"transfer": shown(sqlite)[0].number})
    assert node.uids == ["1.2.3.4.1"]
    (one,) = shown(sqlite)
    assert (one.state, one.total, one.completed) == (State.DONE, 1, 1)


def test_a_node_that_nobody_knows_is_named(sqlite: Archive) -> None:
    put_rule(sqlite.index, Rule("r", Route("NOWHERE")))
    come(sqlite, instance())
    gathered(sqlite)
    with pytest.raises(NotFound, match="pacs ae add NOWHERE"):
        sending.send(work_of(sqlite), {"transfer": shown(sqlite)[0].number})
    assert "pacs ae add NOWHERE" in shown(sqlite)[0].error


# For administrators


def test_a_study_is_sent_by_hand_cancelled_and_sent_again(archive: Archive) -> None:
    transfers = Transfers(archive.index)
    with pytest.raises(NotFound):
        transfers.send(Scope("1.2.3"), "WS1")
    for number in (1, 2):
        come(archive, instance(number))
    number = transfers.send(Scope("1.2.3"), "WS1", asked_by="anna")
    assert [(one.asked_by, one.total, one.state) for one in shown(archive)] == [("anna", 2, State.WAITING)]
    transfers.cancel(number)
    assert shown(archive)[0].state is State.CANCELLED
    again = transfers.again(number)
    assert again != number
    with storage_scp.node(title="WS1") as node:
        add_ae_title(archive.index, AeTitle("WS1", "127.0.0.1", node.port))
        sending.send(work_of(archive), {"transfer": again})
        third = transfers.again(again, "bert")
        sending.send(work_of(archive), {"transfer": third})
    assert node.uids == ["1.2.3.4.1", "1.2.3.4.2"] * 2
    assert transfers.counts() == {**dict.fromkeys(State, 0), State.CANCELLED: 1, State.DONE: 2}
    assert transfers.tidy(seconds=3600) == 0
    assert Transfers(archive.index, clock=lambda: time.time() + 7200).tidy(seconds=3600) == 3


def test_one_that_is_cancelled_while_it_runs_stops(sqlite: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_NOTE_SECONDS", 0.0)
    for number in range(1, 21):
        come(sqlite, instance(number))
    transfers = Transfers(sqlite.index)
    number = transfers.send(Scope("1.2.3"), "WS1")

    def cancel(_event: Any, count: int) -> int:
        if count == 3:
            transfers.cancel(number)
        return 0

    with storage_scp.node(title="WS1") as node:
        node.behave = cancel
        add_ae_title(sqlite.index, AeTitle("WS1", "127.0.0.1", node.port))
        sending.send(work_of(sqlite), {"transfer": number})
    assert len(node.uids) <= 4
    assert shown(sqlite)[0].state is State.CANCELLED


STORESCP = shutil.which("storescp", path="/usr/bin")


@pytest.mark.skipif(STORESCP is None, reason="DCMTK's storescp is not installed: nothing is sent to it")
def test_to_storescp_that_refuses_goes_away_and_comes_back(sqlite: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pacs.processing.nodes.AWAY_SECONDS", 0.3)
    monkeypatch.setattr("pacs.scu.delivery._PAUSES", (0.05,))
    port, folder = free_port(), tmp_path / "got"
    folder.mkdir()
    add_ae_title(sqlite.index, AeTitle("WS1", "127.0.0.1", port))
    put_rule(sqlite.index, Rule("r", Route("WS1")))

    @contextmanager
    def storescp(*options: str) -> Iterator[None]:
        process = subprocess.Popen([str(STORESCP), *options, "-od", str(folder), "-aet", "WS1", str(port)], env={"TCP_NODELAY": "1"})
        try:
            yield
        finally:
            process.kill()
            process.wait()

    with working(sqlite, waits=(1.0, 60.0)):
        with storescp("--refuse"):
            come(sqlite, instance(1))
            wait_until(lambda: bool(shown(sqlite)[0:1]) and "rejects the association" in shown(sqlite)[0].error, 60)
        with storescp():
            until(sqlite, State.DONE, seconds=90)
    assert len(list(folder.iterdir())) == 1
