"""Instance Availability Notification (PS3.4 annex R): who is told what, when, and what becomes of a node that is away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity

from pacs.processing import Work, availability
from pacs.scu.associating import NotReached
from pacs.scu.availability import NOTIFICATION, NotificationRefused, notification
from pacs.settings import Settings
from storage.archive import Archive
from storage.availability import KIND, TOGETHER_SECONDS, Held, held
from storage.errors import NotFound
from storage.index.ae import AeTitle, add_ae_title
from storage.index.deletions import Deletions
from storage.jobs import JobQueue
from storage.rejection import Why
from storage.types import Scope
from tests.support.archive import close_archive, open_archive
from tests.support.children import free_port
from tests.support.indexes import ENGINES
from tests.support.made import instance

Store = Callable[..., object]


both_engines = pytest.mark.parametrize("archive", ENGINES, indirect=True)


@pytest.fixture
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Archive]:
    """On SQLite, or where claims and locks matter on each engine."""
    engine = getattr(request, "param", "sqlite")
    url = request.getfixturevalue("postgres_database") if engine == "postgresql" else None
    opened = open_archive(tmp_path / "archive", database_url=url)
    yield opened
    close_archive(opened)


class Informed:
    """A node that takes notifications, and the work of one worker."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.got: list[Any] = []
        self.status = 0
        self.port = free_port()
        self.work = Work(archive, Settings.model_construct(ae_title="LIGHTBOX", availability_nodes=("RIS",)))
        add_ae_title(archive.index, AeTitle("RIS", "127.0.0.1", self.port))

    def created(self, event: Any) -> tuple[int, Dataset]:
        assert event.request.AffectedSOPClassUID == NOTIFICATION
        assert event.request.AffectedSOPInstanceUID
        self.got.append(event.attribute_list)
        return self.status, Dataset()

    @contextmanager
    def listening(self) -> Iterator[None]:
        entity: Any = ApplicationEntity
        entity = entity(ae_title="RIS")
        entity.add_supported_context(NOTIFICATION)
        server = entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_N_CREATE, self.created)]
        )
        try:
            yield
        finally:
            server.shutdown()

    def jobs(self, seconds: float = TOGETHER_SECONDS + 1) -> list[dict[str, Any]]:
        """What a worker has to do so many seconds from now."""
        queue = JobQueue(self.archive.index, clock=lambda: time.time() + seconds)
        return [dict(one.payload) for one in queue.claim("test", kinds=(KIND,), limit=100, lease=0)]


@pytest.fixture
def node(archive: Archive) -> Informed:
    found = Informed(archive)
    availability.gather(found.work)
    return found


@both_engines
def test_a_study_is_told_once_and_whole(node: Informed, store: Store) -> None:
    for series in ("1.2.3.4", "1.2.3.5"):
        for number in (1, 2):
            store(instance(number, series=series))
            availability.gather(node.work)
    assert node.jobs(seconds=5) == [], "it waits for more"
    (payload,) = node.jobs()
    with node.listening():
        availability.tell(node.work, payload)
    (told,) = node.got
    assert told.StudyInstanceUID == "1.2.3"
    assert list(told.ReferencedPerformedProcedureStepSequence) == []
    found = {
        (one.SeriesInstanceUID, ref.ReferencedSOPInstanceUID, ref.InstanceAvailability, ref.RetrieveAETitle)
        for one in told.ReferencedSeriesSequence
        for ref in one.ReferencedSOPSequence
    }
    assert found == {
        (series, f"{series}.{number}", "ONLINE", "LIGHTBOX") for series in ("1.2.3.4", "1.2.3.5") for number in (1, 2)
    }
    # Optional attributes are forbidden (R.3.2.1.2): no names, no dates.
    assert {one.keyword for one in told} == {
        "ReferencedPerformedProcedureStepSequence", "StudyInstanceUID", "ReferencedSeriesSequence"
    }


@both_engines
def test_what_was_there_before_is_no_news(archive: Archive, store: Store) -> None:
    store(instance(1))
    node = Informed(archive)
    availability.gather(node.work)
    assert node.jobs() == []
    store(instance(1, study="1.2.9", series="1.2.9.1"))
    availability.gather(node.work)
    assert node.jobs() == [{"study": "1.2.9", "node": "RIS"}]


def test_what_comes_while_a_notice_is_sent_is_told_by_another(node: Informed, store: Store) -> None:
    store(instance(1))
    availability.gather(node.work)
    assert len(node.jobs()) == 1
    store(instance(2))
    availability.gather(node.work)
    assert len(node.jobs()) >= 1


@both_engines
def test_a_deletion_is_told(node: Informed, archive: Archive, store: Store) -> None:
    for number in (1, 2):
        store(instance(number))
    availability.gather(node.work)
    JobQueue(archive.index, clock=lambda: time.time() + 60).claim("other", kinds=(KIND,), limit=100)
    Deletions(archive.index).delete(Scope("1.2.3", "1.2.3.4", "1.2.3.4.2"), Why(), "anna")
    availability.gather(node.work)
    (payload,) = node.jobs()
    with node.listening():
        availability.tell(node.work, payload)
    (series,) = node.got[0].ReferencedSeriesSequence
    assert [(ref.ReferencedSOPInstanceUID, ref.InstanceAvailability) for ref in series.ReferencedSOPSequence] == [
        ("1.2.3.4.1", "ONLINE"), ("1.2.3.4.2", "UNAVAILABLE")
    ]


def test_deleted_instances_are_unavailable() -> None:
    made = notification("1.2.3", [Held("1.2.3.4", "1.2", "1.2.3.4.1", True), Held("1.2.3.4", "1.2", "1.2.3.4.2", False)], "LIGHTBOX")
    (series,) = made["00081115"]["Value"]
    assert [ref["00080056"]["Value"] for ref in series["00081199"]["Value"]] == [["ONLINE"], ["UNAVAILABLE"]]


def test_a_node_that_is_away_or_refuses_is_a_failed_job(node: Informed, archive: Archive, store: Store) -> None:
    store(instance(1))
    payload = {"study": "1.2.3", "node": "RIS"}
    with pytest.raises(NotReached):
        availability.tell(node.work, payload)
    node.status = 0x0110
    with node.listening(), pytest.raises(NotificationRefused, match="0110"):
        availability.tell(node.work, payload)
    node.status = 0x0107
    with node.listening():
        availability.tell(node.work, payload)
    assert len(node.got) == 2
    assert [one.available for one in held(archive.index, "1.2.3")] == [True]


def test_who_is_not_named_or_not_known(node: Informed, archive: Archive, store: Store) -> None:
    store(instance(1))
    availability.tell(node.work, {"study": "1.2.3", "node": "FORMER"})
    work = Work(archive, Settings.model_construct(ae_title="LIGHTBOX", availability_nodes=("NOBODY",)))
    with pytest.raises(NotFound, match="pacs ae add NOBODY"):
        availability.tell(work, {"study": "1.2.3", "node": "NOBODY"})


def test_nobody_is_told_by_default(archive: Archive, store: Store) -> None:
    work = Work(archive, Settings.model_construct(ae_title="LIGHTBOX", availability_nodes=()))
    availability.gather(work)
    store(instance(1))
    availability.gather(work)
    assert JobQueue(archive.index, clock=lambda: time.time() + 60).claim("test", kinds=(KIND,)) == []
