"""UPS Event over DIMSE (PS3.4 CC.2.3, CC.2.4): subscriptions by N-ACTION, reports to pynetdicom on associations of ours and of its own."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity

from pacs.dimse import Status
from pacs.processing import Work, workitem_reports
from pacs.settings import Settings
from storage.archive import Archive
from storage.errors import IndexUnavailable
from storage.index.ae import AeTitle, Right, add_ae_title
from storage.procedure_steps import EVENT_SOP_CLASS, FILTERED, GLOBAL, PUSH_SOP_CLASS, State
from storage.workitem_reports import LEASE_SECONDS, Lease, WorkitemReports
from storage.workitems import Workitems
from tests.support.answered import Answered
from tests.support.archive import close_archive, open_archive
from tests.support.children import free_port
from tests.support.dimse_server import serving, wait_until
from tests.support.indexes import ENGINES
from tests.support.secure import Papers, client_context, secured
from tests.test_ups import OTHER, TRANSACTION, UID, scheduled

WATCH = "1.2.840.10008.5.1.4.34.6.2"


both_engines = pytest.mark.parametrize("archive", ENGINES, indirect=True)


@pytest.fixture
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Archive]:
    """On SQLite, or where claims and locks matter on each engine."""
    engine = getattr(request, "param", "sqlite")
    url = request.getfixturevalue("postgres_database") if engine == "postgresql" else None
    opened = open_archive(tmp_path / "archive", database_url=url)
    yield opened
    close_archive(opened)


class Subscriber:
    """A node that takes reports."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.reports: list[tuple[str, int, Any]] = []
        self.status = 0
        # What happens before it answers a report.
        self.meanwhile: Callable[[], object] = lambda: None
        self.port = free_port()
        add_ae_title(archive.index, AeTitle("WATCHER", "127.0.0.1", self.port))

    def reported(self, event: Any) -> tuple[int, None]:
        request = event.request
        assert request.AffectedSOPClassUID == PUSH_SOP_CLASS
        self.reports.append((str(request.AffectedSOPInstanceUID), int(request.EventTypeID), event.event_information))
        self.meanwhile()
        return self.status, None

    @contextmanager
    def listening(self, sop_class: str = EVENT_SOP_CLASS, tls: ssl.SSLContext | None = None) -> Iterator[None]:
        entity: Any = ApplicationEntity
        entity = entity(ae_title="WATCHER")
        entity.add_supported_context(sop_class, scu_role=False, scp_role=True)
        handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, self.reported)]
        server = entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers, ssl_context=tls)
        try:
            yield
        finally:
            server.shutdown()

    def is_due(self) -> None:
        """Its pause is over."""
        lease = WorkitemReports(self.archive.index).claim("WATCHER")
        assert lease is not None
        lease.release()

    def deliver(self, **settings: Any) -> list[tuple[str, int]]:
        """What the next round of the worker brings."""
        before = len(self.reports)
        workitem_reports.deliver(Work(self.archive, Settings.model_construct(ae_title="LIGHTBOX", **settings)))
        return [report[:2] for report in self.reports[before:]]


@pytest.fixture
def watcher(archive: Archive) -> Subscriber:
    return Subscriber(archive)


@pytest.fixture
def act(archive: Archive) -> Iterator[Any]:
    """N-ACTION on the context of UPS Watch; gives the status."""
    with serving(archive) as served:
        entity: Any = ApplicationEntity
        entity = entity(ae_title="ASKER")
        entity.add_requested_context(WATCH)
        association = entity.associate("127.0.0.1", served.port, ae_title="LIGHTBOX")
        assert association.is_established

        def acted(action: int, uid: str, **values: Any) -> int:
            dataset = Dataset()
            for keyword, value in {"ReceivingAE": "WATCHER", "DeletionLock": "FALSE", **values}.items():
                if value is not None:
                    setattr(dataset, keyword, value)
            status, _ = association.send_n_action(dataset, action, PUSH_SOP_CLASS, uid, meta_uid=WATCH)
            return int(status.Status)

        yield acted
        association.release()


@both_engines
def test_from_subscription_to_completion(archive: Archive, watcher: Subscriber, act: Any) -> None:
    items = Workitems(archive.index)
    items.create(scheduled(), UID)
    with watcher.listening():
        assert act(3, UID) == 0
        # At once in which state it is (CC.2.3.3).
        assert watcher.deliver() == [(UID, 1)]
        assert watcher.reports[0][2].ProcedureStepState == "SCHEDULED"
        items.change_state(UID, TRANSACTION, State.IN_PROGRESS)
        items.request_cancel(UID, {"00741238": {"vr": "LT", "Value": ["Bitte abbrechen, Müller"]}}, "ASKER")
        assert watcher.deliver() == [(UID, 1), (UID, 2)]
        assert watcher.reports[-1][2].RequestingAE == "ASKER"
        assert watcher.reports[-1][2].ReasonForCancellation == "Bitte abbrechen, Müller"
        assert watcher.deliver() == [], "each is told once"
        assert act(4, UID, DeletionLock=None) == 0
        items.create(scheduled(), OTHER)
        assert watcher.deliver() == []


def test_over_tls(archive: Archive, watcher: Subscriber, act: Any, papers: Papers) -> None:
    """To pynetdicom, which asks for our certificate."""
    add_ae_title(archive.index, AeTitle("WATCHER", "127.0.0.1", watcher.port, tls=True))
    Workitems(archive.index).create(scheduled(), UID)
    assert act(3, UID) == 0
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(papers.authority.file))
    context.load_cert_chain(papers.server.certificate, papers.server.key)
    context.verify_mode = ssl.CERT_REQUIRED
    ours = {"dimse_tls_certificate": papers.client.certificate, "dimse_tls_key": papers.client.key}
    with watcher.listening(tls=context):
        assert watcher.deliver(**ours, dimse_tls_ca=papers.foreign.file) == []
        watcher.is_due()
        assert watcher.deliver(**ours, dimse_tls_ca=papers.authority.file) == [(UID, 1)]


def test_all_workitems_a_filter_and_suspending(archive: Archive, watcher: Subscriber, act: Any) -> None:
    items = Workitems(archive.index)
    with watcher.listening():
        assert act(3, FILTERED, WorklistLabel="CAD", DeletionLock="TRUE") == 0
        items.create(scheduled(WorklistLabel={"vr": "LO", "Value": ["CAD"]}), UID)
        items.create(scheduled(WorklistLabel={"vr": "LO", "Value": ["other"]}), OTHER)
        assert {uid for uid, _ in watcher.deliver()} == {UID}
        # Of what it subscribes to already nothing changes.
        assert act(3, GLOBAL, DeletionLock="TRUE") == 0
        assert [uid for uid, _ in watcher.deliver()] == [OTHER]
        assert act(5, GLOBAL, DeletionLock=None) == 0
        items.create(scheduled(), "1.2.3.99")
        assert watcher.deliver() == []


@pytest.mark.parametrize(
    ("action", "uid", "values", "status"),
    [
        (3, UID, {"ReceivingAE": "NOBODY"}, 0xC308),
        (3, UID, {"ReceivingAE": "ONLYCALLS"}, 0xC308),
        (3, OTHER, {}, 0xC307),
        (3, UID, {"ReceivingAE": None}, 0x0121),
        (3, UID, {"DeletionLock": "PERHAPS"}, 0x0106),
        (3, UID, {"WorklistLabel": "CAD"}, 0x0106),
        (3, FILTERED, {}, 0x0106),
        (4, OTHER, {}, 0xC307),
        (5, UID, {}, 0x0106),
    ],
)
@pytest.mark.usefixtures("watcher")
def test_what_cannot_be_subscribed_to(
    archive: Archive, act: Any, action: int, uid: str, values: dict[str, Any], status: int
) -> None:
    add_ae_title(archive.index, AeTitle("ONLYCALLS", "", 0))
    Workitems(archive.index).create(scheduled(), UID)
    assert act(action, uid, **values) == status


@both_engines
def test_a_subscriber_that_is_away_is_told_later(archive: Archive, watcher: Subscriber, act: Any) -> None:
    items = Workitems(archive.index)
    items.create(scheduled(), UID)
    assert act(3, UID) == 0
    items.change_state(UID, TRANSACTION, State.IN_PROGRESS)
    reports = WorkitemReports(archive.index)
    assert watcher.deliver() == []
    assert reports.due() == [], "not at once again"
    assert WorkitemReports(archive.index, clock=lambda: time.time() + 4).due() == []
    assert WorkitemReports(archive.index, clock=lambda: time.time() + 6).due() == ["WATCHER"]
    watcher.is_due()
    # Its answer to the association is no: that is no reason to forget what it has not been told.
    with watcher.listening("1.2.840.10008.1.1"):
        assert watcher.deliver() == []
    watcher.is_due()
    with watcher.listening():
        assert watcher.deliver() == [(UID, 1), (UID, 1)]


def test_a_report_that_is_refused_holds_up_no_other(archive: Archive, watcher: Subscriber, act: Any) -> None:
    items = Workitems(archive.index)
    items.create(scheduled(), UID)
    assert act(3, UID) == 0
    items.change_state(UID, TRANSACTION, State.IN_PROGRESS)
    watcher.status = 0x0110
    with watcher.listening():
        assert watcher.deliver() == [(UID, 1), (UID, 1)]
        assert watcher.deliver() == []


@both_engines
def test_two_workers_do_not_tell_the_same(archive: Archive, watcher: Subscriber, act: Any) -> None:
    items = Workitems(archive.index)
    items.create(scheduled(), UID)
    assert act(3, UID) == 0
    with watcher.listening():
        threads = [threading.Thread(target=watcher.deliver) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [report[:2] for report in watcher.reports] == [(UID, 1)]


def test_who_subscribed_by_rest_is_not_called(archive: Archive, watcher: Subscriber) -> None:
    items = Workitems(archive.index)
    items.create(scheduled(), UID)
    items.subscribe(UID, "WATCHER", locked=False)
    with watcher.listening():
        assert watcher.deliver() == []
    assert WorkitemReports(archive.index).due() == []


class Caller:
    """A watcher that calls, with the contexts of UPS Watch and UPS Event, and cannot be called."""

    def __init__(self, port: int, *, title: str = "ASKER", status: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.reports: list[tuple[str, int, str]] = []
        self.status = status
        self._answered = Answered()
        entity: Any = ApplicationEntity
        entity = entity(ae_title=title)
        entity.add_requested_context(WATCH)
        entity.add_requested_context(EVENT_SOP_CLASS)
        handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, self._reported), self._answered.handler]
        secrecy = (tls, "127.0.0.1") if tls else None
        self.association = entity.associate("127.0.0.1", port, ae_title="LIGHTBOX", evt_handlers=handlers, tls_args=secrecy)
        assert {context.abstract_syntax for context in self.association.accepted_contexts} == {WATCH, EVENT_SOP_CLASS}

    def _reported(self, event: Any) -> tuple[int, None]:
        request = event.request
        told = getattr(event.event_information, "ProcedureStepState", "")
        self.reports.append((str(request.AffectedSOPInstanceUID), int(request.EventTypeID), str(told)))
        return self.status, None

    def act(self, action: int, uid: str, receiver: str = "ASKER") -> int:
        dataset = Dataset()
        dataset.ReceivingAE, dataset.DeletionLock = receiver, "FALSE"
        status, _ = self.association.send_n_action(dataset, action, PUSH_SOP_CLASS, uid, meta_uid=WATCH)
        return int(status.Status)

    def wait(self, *reports: tuple[str, int, str], seconds: float = 5) -> None:
        wait_until(lambda: self.reports == list(reports), seconds, lambda: f"{self.reports}")

    def leave(self) -> None:
        """Release, once all that has come is answered."""
        self._answered.wait(len(self.reports))
        self.association.release()


@both_engines
def test_a_watcher_is_told_on_its_own_association(archive: Archive) -> None:
    items = Workitems(archive.index)
    items.create(scheduled(), UID)
    with serving(archive, idle_seconds=1.5) as served:
        caller = Caller(served.port)
        assert caller.act(3, UID) == 0
        caller.wait((UID, 1, "SCHEDULED"))
        items.change_state(UID, TRANSACTION, State.IN_PROGRESS)
        caller.wait((UID, 1, "SCHEDULED"), (UID, 1, "IN PROGRESS"))
        # Longer than who asks for nothing may stay; and while it asks for things of its own.
        time.sleep(2)
        assert caller.association.send_n_get([], PUSH_SOP_CLASS, UID, meta_uid=WATCH)[0].Status == 0
        items.request_cancel(UID, {}, "OTHER")
        wait_until(lambda: (UID, 2, "") in caller.reports, 5)
        assert len(caller.reports) == 3, "each is told once"
        caller.leave()
        served.told.wait("ended", "released")
    assert Workitems(archive.index).events("ASKER", items.delivered("ASKER")) == []


def test_a_watcher_is_told_over_tls(archive: Archive, papers: Papers) -> None:
    items = Workitems(archive.index)
    items.create(scheduled(), UID)
    with secured(archive, papers.credentials()) as server:
        caller = Caller(server.tls, tls=client_context(papers, papers.client))
        assert caller.act(3, UID) == 0
        caller.wait((UID, 1, "SCHEDULED"))
        assert caller.act(4, UID) == 0
        caller.leave()


def test_what_comes_while_it_is_away_is_told_when_it_comes_again(archive: Archive) -> None:
    items = Workitems(archive.index)
    items.create(scheduled(), UID)
    with serving(archive) as served:
        first = Caller(served.port)
        assert first.act(3, UID) == 0
        first.wait((UID, 1, "SCHEDULED"))
        first.association.abort()
        wait_until(lambda: served.server.associations == 0)
        items.change_state(UID, TRANSACTION, State.IN_PROGRESS)
        # It is no node, and nobody tries to call it.
        workitem_reports.deliver(Work(archive, Settings.model_construct(ae_title="LIGHTBOX")))
        again = Caller(served.port)
        again.wait((UID, 1, "IN PROGRESS"))
        assert again.act(4, UID) == 0
        again.leave()


def test_who_can_be_called_is_not_called_while_it_watches(archive: Archive, watcher: Subscriber) -> None:
    items = Workitems(archive.index)
    items.create(scheduled(), UID)
    with serving(archive) as served:
        # Nobody listens, and so the pauses between calls grow; it is told all the same as soon as it comes.
        items.subscribe(UID, "WATCHER", locked=False, dimse=True)
        assert watcher.deliver() == []
        caller = Caller(served.port, title="WATCHER")
        caller.wait((UID, 1, "SCHEDULED"))
        # A second association of the same title is told nothing twice.
        second = Caller(served.port, title="WATCHER")
        with watcher.listening():
            items.change_state(UID, TRANSACTION, State.IN_PROGRESS)
            assert watcher.deliver() == []
            caller.wait((UID, 1, "SCHEDULED"), (UID, 1, "IN PROGRESS"))
            caller.leave()
            second.leave()
            wait_until(lambda: served.told.events.count(("ended", "released")) == 2)
            items.request_cancel(UID, {}, "OTHER")
            # Its end is told before it gives back what it had.
            wait_until(lambda: WorkitemReports(archive.index).due() == ["WATCHER"])
            assert watcher.deliver() == [(UID, 2)]
        assert second.reports == []


@pytest.mark.parametrize(("receiver", "status"), [("ASKER", 0), ("NOBODY", 0xC308)])
def test_only_the_caller_itself_needs_no_address(archive: Archive, receiver: str, status: int) -> None:
    Workitems(archive.index).create(scheduled(), UID)
    with serving(archive) as served:
        caller = Caller(served.port, status=0x0110)
        assert caller.act(3, UID, receiver) == status
        if not status:
            # What it refuses is told once, as to anybody.
            caller.wait((UID, 1, "SCHEDULED"))
            time.sleep(1.2)
            assert len(caller.reports) == 1
        caller.leave()


def test_without_the_right_the_context_is_refused(archive: Archive) -> None:
    add_ae_title(archive.index, AeTitle("ASKER", "", 0, rights=frozenset({Right.ECHO})))
    with serving(archive) as served:
        entity: Any = ApplicationEntity
        entity = entity(ae_title="ASKER")
        for uid in (EVENT_SOP_CLASS, "1.2.840.10008.1.1"):
            entity.add_requested_context(uid)
        association = entity.associate("127.0.0.1", served.port, ae_title="LIGHTBOX")
        assert [(one.abstract_syntax, one.result) for one in association.rejected_contexts] == [(EVENT_SOP_CLASS, 1)]
        association.release()


def test_nothing_can_be_asked_for_on_a_context_of_events(archive: Archive) -> None:
    Workitems(archive.index).create(scheduled(), UID)
    with serving(archive) as served:
        caller = Caller(served.port)
        status, _ = caller.association.send_n_get([], PUSH_SOP_CLASS, UID, meta_uid=EVENT_SOP_CLASS)
        assert status.Status == Status.SOP_CLASS_NOT_SUPPORTED
        caller.leave()


@both_engines
def test_who_has_a_subscriber_in_hand(archive: Archive) -> None:
    Workitems(archive.index).create(scheduled(), UID)
    now = [time.time()]
    reports = WorkitemReports(archive.index, clock=lambda: now[0])
    assert reports.claim("ASKER") is None, "nobody of that title has subscribed"
    Workitems(archive.index).subscribe(UID, "ASKER", locked=False, dimse=True)
    held = reports.claim("ASKER")
    assert held is not None
    assert reports.claim("ASKER") is None
    assert reports.take("ASKER") is None
    now[0] += LEASE_SECONDS * 0.9
    assert held.keep()
    now[0] += LEASE_SECONDS * 0.9
    assert reports.take("ASKER") is None, "it was kept"
    held.release()
    called = reports.take("ASKER")
    assert called is not None
    assert reports.claim("ASKER") is None, "it is being called"
    assert called.failed() == 5.0
    # Nobody calls it for a while, and here it is.
    assert reports.take("ASKER") is None
    watched = reports.claim("ASKER")
    assert watched is not None
    # Who held it for too long has it no more, and changes nothing of what the other has.
    now[0] += LEASE_SECONDS + 1
    called = reports.take("ASKER")
    assert called is not None
    assert not watched.keep()
    watched.release()
    assert reports.take("ASKER") is None
    called.failed()
    now[0] += 6
    again = reports.take("ASKER")
    assert again is not None
    assert reports.claim("ASKER") is None, "it is being called again, and told once"
    assert again.failed() == 10.0, "the pauses grow"


def test_a_database_that_is_away_ends_no_watch(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    Workitems(archive.index).create(scheduled(), UID)
    monkeypatch.setattr("pacs.scp.watching._PAUSE_SECONDS", 1.0)
    asked = 0
    claim = WorkitemReports.claim

    def away(self: WorkitemReports, ae_title: str) -> Lease | None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise IndexUnavailable("the database is away")
        return claim(self, ae_title)

    monkeypatch.setattr(WorkitemReports, "claim", away)
    with serving(archive) as served:
        caller = Caller(served.port)
        assert caller.act(3, UID) == 0
        caller.wait((UID, 1, "SCHEDULED"))
        caller.leave()


def test_who_no_longer_holds_the_events_of_a_slow_watcher_tells_no_more_of_them(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    items = Workitems(archive.index)
    items.create(scheduled(), UID)
    with serving(archive) as served:
        before = Caller(served.port)
        assert before.act(3, UID) == 0
        before.wait((UID, 1, "SCHEDULED"))
        before.leave()
        served.told.wait("ended", "released")
        items.change_state(UID, TRANSACTION, State.IN_PROGRESS)
        items.request_cancel(UID, {}, "OTHER")
        # As if the first answer took longer than the lease lasts, and another had it by then.
        kept: list[bool] = []

        def keep(_lease: Lease) -> bool:
            kept.append(not kept)
            return kept[-1]

        monkeypatch.setattr(Lease, "keep", keep)
        claims: list[str] = []
        claim = WorkitemReports.claim

        def lost(self: WorkitemReports, ae_title: str) -> Lease | None:
            claims.append(ae_title)
            return claim(self, ae_title) if len(claims) < 2 else None

        monkeypatch.setattr(WorkitemReports, "claim", lost)
        caller = Caller(served.port)
        caller.wait((UID, 1, "IN PROGRESS"))
        wait_until(lambda: len(claims) >= 3, 5)
        assert caller.reports == [(UID, 1, "IN PROGRESS")], "the rest is another's to tell"
        caller.leave()


def test_who_no_longer_holds_the_events_of_a_slow_node_tells_no_more_of_them(archive: Archive, watcher: Subscriber) -> None:
    items = Workitems(archive.index)
    items.create(scheduled(), UID)
    items.subscribe(UID, "WATCHER", locked=False, dimse=True)
    items.change_state(UID, TRANSACTION, State.IN_PROGRESS)
    later = WorkitemReports(archive.index, clock=lambda: time.time() + LEASE_SECONDS + 1)
    others: list[Lease | None] = []
    watcher.meanwhile = lambda: others.append(later.take("WATCHER"))
    with watcher.listening(), pytest.MonkeyPatch.context() as patched:
        patched.setattr("storage.workitem_reports._KEEP_SECONDS", 0.0)
        assert watcher.deliver() == [(UID, 1)]
    (other,) = others
    assert other is not None
    assert other.keep(), "what it has is not given back by who has lost it"
    assert len(items.events("WATCHER", items.delivered("WATCHER"))) == 1


@both_engines
def test_a_watcher_that_comes_while_it_is_called_is_told_once(archive: Archive, watcher: Subscriber) -> None:
    items = Workitems(archive.index)
    items.create(scheduled(), UID)
    items.subscribe(UID, "WATCHER", locked=False, dimse=True)
    # It was called in vain before, and is called again when it comes.
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("storage.workitem_reports._FIRST_PAUSE", 0.0)
        assert watcher.deliver() == []
    with serving(archive) as served:
        callers: list[Caller] = []

        def come() -> None:
            callers.append(Caller(served.port, title="WATCHER"))
            # Longer than until it is looked for what waits for it.
            time.sleep(1.2)

        watcher.meanwhile = come
        with watcher.listening():
            assert watcher.deliver() == [(UID, 1)]
        (caller,) = callers
        items.change_state(UID, TRANSACTION, State.IN_PROGRESS)
        caller.wait((UID, 1, "IN PROGRESS"))
        caller.leave()
