"""Storage commitment: what is verified, and that the report comes, whatever becomes of the requester's association (PS3.4 annex J)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from sqlalchemy import update

from pacs.processing import KINDS, Work
from pacs.scp import commitment as service
from pacs.settings import Settings
from pacs.worker import Worker
from storage.archive import Archive
from storage.commitment import Failure, Reference, verify
from storage.errors import StoreUnavailable
from storage.index.ae import AeTitle, add_ae_title
from storage.index.tables import job
from storage.jobs import JobQueue
from storage.types import Scope
from tests.support.answered import Answered
from tests.support.archive import Store
from tests.support.dimse_peer import CT
from tests.support.dimse_server import Serving, serving, wait_until
from tests.support.made import instance

COMMITMENT, WELL_KNOWN = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
MR = "1.2.840.10008.5.1.4.1.1.4"
A, B = "1.2.3.4.1", "1.2.3.4.2"


@pytest.fixture
def stored(store: Store) -> None:
    for number in (1, 2):
        store(instance(number))


def checked(archive: Archive, *references: tuple[str, str]) -> list[Failure | None]:
    return [one.failure for one in verify(archive, [Reference(*one) for one in references])]


# What is verified


@pytest.mark.usefixtures("stored")
def test_only_what_is_there_is_committed_to(archive: Archive) -> None:
    found = checked(archive, (CT, A), (CT, "9.9"), (MR, A), (CT, B))
    assert found == [None, Failure.NO_SUCH_OBJECT_INSTANCE, Failure.CLASS_INSTANCE_CONFLICT, None]


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), Failure.PROCESSING_FAILURE),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\7"), Failure.PROCESSING_FAILURE),
        (lambda path: path.write_bytes(b""), Failure.PROCESSING_FAILURE),
        (lambda path: path.unlink(), Failure.NO_SUCH_OBJECT_INSTANCE),
    ],
)
def test_what_is_damaged_is_not(archive: Archive, damage: Any, expected: Failure) -> None:
    first, _ = archive.index.locate(Scope("1.2.3"))
    path = archive.blobs.path(first.object_key)  # type: ignore[attr-defined]
    path.chmod(0o600)
    damage(path)
    assert checked(archive, (CT, A), (CT, B)) == [expected, None]


@pytest.mark.usefixtures("stored")
def test_a_store_that_does_not_answer_says_nothing(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> Iterator[bytes]:
        raise StoreUnavailable("away")

    monkeypatch.setattr(archive.blobs, "stream", away)
    with pytest.raises(StoreUnavailable):
        checked(archive, (CT, A))


def test_many_references(archive: Archive, store: Store) -> None:
    store(instance(1))
    found = checked(archive, *((CT, f"1.2.3.4.{number}") for number in range(1, 1001)))
    assert found == [None] + [Failure.NO_SUCH_OBJECT_INSTANCE] * 999


# Over DIMSE


class Requester:
    """Asks by pynetdicom, and keeps the reports that come on that association or to its own port."""

    def __init__(self) -> None:
        self.reports: list[tuple[int, Any]] = []
        self.reported_times = 0
        self.answered = Answered()
        self.association: Any = None
        self.port = 0
        self.answers: list[int] = []

    def reported(self, event: Any) -> tuple[int, None]:
        self.reports.append((event.request.EventTypeID, event.event_information))
        self.reported_times += 1
        return (self.answers.pop(0) if self.answers else 0), None

    def ask(self, *references: tuple[str, str], transaction: str = "1.2.9", action: int = 1, to: str = WELL_KNOWN) -> Any:
        dataset = Dataset()
        if transaction:
            dataset.TransactionUID = transaction
        dataset.ReferencedSOPSequence = []
        for sop_class, uid in references:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
            dataset.ReferencedSOPSequence.append(item)
        status, _ = self.association.send_n_action(dataset, action, COMMITMENT, to)
        return status

    def wait(self) -> tuple[int, list[str], list[tuple[str, int]]]:
        """Event type, what is committed to, what is not and why."""
        wait_until(lambda: bool(self.reports))
        event, dataset = self.reports[-1]
        assert dataset.TransactionUID == "1.2.9"
        assert dataset.RetrieveAETitle == "LIGHTBOX"
        committed = [one.ReferencedSOPInstanceUID for one in dataset.get("ReferencedSOPSequence") or []]
        failed = [(one.ReferencedSOPInstanceUID, one.FailureReason) for one in dataset.get("FailedSOPSequence") or []]
        return event, committed, failed


@contextmanager
def requester(server: Serving, *, listening: bool = False) -> Iterator[Requester]:
    found = Requester()
    handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, found.reported), found.answered.handler]
    entity: Any = ApplicationEntity
    entity = entity(ae_title="MODALITY")
    entity.add_requested_context(COMMITMENT)
    entity.add_supported_context(COMMITMENT, scu_role=False, scp_role=True)
    listener = None
    if listening:
        listener = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        found.port = listener.socket.getsockname()[1]
    found.association = entity.associate("127.0.0.1", server.port, ae_title="LIGHTBOX", evt_handlers=handlers)
    assert found.association.is_established
    try:
        yield found
        found.answered.wait(found.reported_times)
    finally:
        found.association.release()
        if listener:
            listener.shutdown()


@pytest.fixture
def server(archive: Archive) -> Iterator[Serving]:
    with serving(archive) as running:
        yield running


@pytest.fixture
def worker(archive: Archive) -> Iterator[Worker]:
    work = Work(archive, Settings.model_construct(ae_title="LIGHTBOX"))
    kind = service.KIND
    worker = Worker(JobQueue(archive.index), {kind: lambda job: KINDS[kind](work, job.payload)}, idle_seconds=0.02)
    yield worker
    worker.stop(5)


def due(archive: Archive) -> None:
    """What waits for its next try does not wait any longer."""
    with archive.index.database.write() as connection:
        connection.execute(update(job).where(job.c.state == "waiting").values(not_before=0))


@pytest.mark.usefixtures("stored")
def test_the_report_comes_on_the_same_association(server: Serving, archive: Archive) -> None:
    with requester(server) as one:
        assert one.ask((CT, A), (CT, B)).Status == 0
        assert one.wait() == (1, [A, B], [])
        one.reports.clear()
        assert one.ask((CT, A), (CT, "9.9"), (MR, B)).Status == 0
        assert one.wait() == (2, [A], [("9.9", 0x0112), (B, 0x0119)])
        one.reports.clear()
        assert one.ask((CT, "9.9")).Status == 0
        assert one.wait() == (2, [], [("9.9", 0x0112)])
    wait_until(lambda: JobQueue(archive.index).counts() == {"waiting": 0, "running": 0, "dead": 0})


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"to": "1.2.3"}, 0x0112),
        ({"action": 2}, 0x0123),
        ({"transaction": ""}, 0x0115),
        ({"references": ()}, 0x0115),
        ({"references": (("", A),)}, 0x0115),
        ({"references": ((CT, ""),)}, 0x0115),
    ],
)
def test_requests_that_cannot_be_understood(server: Serving, archive: Archive, asked: dict[str, Any], status: int) -> None:
    references = asked.pop("references", ((CT, A),))
    with requester(server) as one:
        answer = one.ask(*references, **asked)
        assert answer.Status == status
        assert answer.ErrorComment
    assert JobQueue(archive.index).counts()["waiting"] == 0


@pytest.mark.usefixtures("stored")
def test_a_requester_that_has_hung_up_is_called(server: Serving, archive: Archive, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = threading.Event()
    original = service.outcome

    def slowly(*arguments: Any) -> Any:
        gone.wait(10)
        return original(*arguments)

    with requester(server, listening=True) as one:
        add_ae_title(archive.index, AeTitle("MODALITY", "127.0.0.1", one.port))
        monkeypatch.setattr(service, "outcome", slowly)
        assert one.ask((CT, A)).Status == 0
        threading.Thread(target=one.association.release).start()
        time.sleep(0.2)
        gone.set()
        wait_until(lambda: JobQueue(archive.index).counts()["waiting"] == 1)
        server.told.wait("ended", "released")
        assert one.reports == []
        due(archive)
        worker.start()
        assert one.wait() == (1, [A], [])
        wait_until(lambda: JobQueue(archive.index).counts()["running"] == 0)


@pytest.mark.usefixtures("stored")
def test_a_large_request_is_left_to_the_worker(
    server: Serving, archive: Archive, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "AT_ONCE", 1)
    with requester(server, listening=True) as one:
        add_ae_title(archive.index, AeTitle("MODALITY", "127.0.0.1", one.port))
        assert one.ask((CT, A), (CT, B)).Status == 0
        assert JobQueue(archive.index).counts()["waiting"] == 1
        worker.start()
        assert one.wait() == (1, [A, B], [])


@pytest.mark.usefixtures("stored")
def test_who_cannot_be_called_is_reported_to_at_once(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """No node of that title is known: the association in hand is the only way."""
    monkeypatch.setattr(service, "AT_ONCE", 0)
    with requester(server) as one:
        assert one.ask((CT, A)).Status == 0
        assert one.wait() == (1, [A], [])


@pytest.mark.usefixtures("stored")
def test_three_tries_then_an_administrator(
    server: Serving, archive: Archive, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.jobs.WAIT_SECONDS", 0.01)
    queue = JobQueue(archive.index)
    with requester(server, listening=True) as one:
        one.answers = [0x0110] * 4
        add_ae_title(archive.index, AeTitle("MODALITY", "127.0.0.1", one.port))
        assert one.ask((CT, A)).Status == 0
        worker.start()
        wait_until(lambda: queue.counts()["dead"] == 1)
        (dead,) = queue.dead()
        assert (dead.kind, dead.attempts) == ("commitment-report", 3)
        assert "0110" in dead.error
        assert len(one.reports) == 4, "once on the association, three times by the worker"
        assert queue.retry(dead.id)
        wait_until(lambda: queue.counts() == {"waiting": 0, "running": 0, "dead": 0})
        assert len(one.reports) == 5
