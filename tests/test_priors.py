"""Studies are fetched from other archives, by hand and by rule, and sent on: between two archives of ours on real sockets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pacs import admin
from pacs.processing import Work, prefetching, retrieving, sending
from pacs.settings import Settings
from pacs.worker import Postponed
from storage.archive import Archive
from storage.errors import LightboxError
from storage.index.ae import AeTitle, add_ae_title
from storage.jobs import JobQueue
from storage.priors import KIND, subject_of
from storage.rules import Prefetch, Route, Rule, Trigger, put_rule
from storage.transfer_records import JOB_KINDS, RETRIEVE, SEND, Order, State, Transfer, Wanted
from storage.transfers import Transfers
from storage.types import Scope, Source
from storage.worklist import Worklist
from tests.support import storage_scp
from tests.support.archive import close_archive, ingest, open_archive
from tests.support.children import free_port
from tests.support.dimse_server import Serving, serving
from tests.support.made import instance
from tests.support.worklist import fields

RUNS = {JOB_KINDS[SEND]: sending.send, JOB_KINDS[RETRIEVE]: retrieving.retrieve, KIND: prefetching.fetch}


def ago(years: float) -> str:
    return f"{datetime.now(UTC) - timedelta(days=365 * years):%Y%m%d}"


class Here:
    """This archive, and the work of its worker."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.transfers = Transfers(archive.index)
        self.work = Work(archive, Settings.model_construct(ae_title="LIGHTBOX", transfer_days=30.0))

    def come(self, content: bytes, source: Source = Source("dimse", calling_ae="CT1")) -> None:  # noqa: B008
        with self.archive.spool() as spool:
            spool.write(content)
            self.archive.ingest(spool, source)

    def work_off(self) -> list[str]:
        """Do all there is to do, as if it were due; what went wrong."""
        sending.gather(self.work)
        prefetching.gather(self.work)
        wrong: list[str] = []
        # Each look is some seconds later, and before the end of a lease.
        for later in range(10, 200, 10):
            queue = JobQueue(self.archive.index, clock=lambda later=later: time.time() + later)  # type: ignore[misc]
            claimed = queue.claim("test", kinds=tuple(RUNS), limit=100)
            for one in claimed:
                try:
                    RUNS[one.kind](self.work, one.payload)
                except LightboxError as error:
                    wrong.append(str(error))
                    queue.fail(one, str(error), retry=False)
                except Postponed:
                    queue.fail(one, "postponed", retry=False)
                else:
                    queue.done(one)
            if not claimed:
                break
            prefetching.gather(self.work)
        return wrong

    def shown(self, **wanted: Any) -> list[Transfer]:
        return list(reversed(self.transfers.search(Wanted(**wanted))))

    def done(self) -> list[tuple[str, str, str, State]]:
        return [(one.kind, one.node, one.scope.study, one.state) for one in self.shown()]

    def has(self) -> set[str]:
        return {one.uids.study for uid in ALL for one in self.archive.index.locate(Scope(uid))}


ALL = [f"1.2.{n}" for n in range(1, 20)]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    opened = open_archive(tmp_path / "here")
    yield Here(opened)
    close_archive(opened)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Archive]:
    opened = open_archive(tmp_path / "other")
    yield opened
    close_archive(opened)


@pytest.fixture
def pacs2(here: Here, other: Archive) -> Iterator[Serving]:
    """The other archive as a node of this one."""
    with serving(other, ae_title="PACS2", unknown_callers="accept") as running:
        add_ae_title(here.archive.index, AeTitle("PACS2", "127.0.0.1", running.port))
        yield running


def study(number: int, **attributes: Any) -> bytes:
    given: dict[str, Any] = {"StudyDate": ago(1), **attributes}
    return instance(study=f"1.2.{number}", series=f"1.2.{number}.1", **given)


# By hand


@pytest.mark.usefixtures("pacs2")
def test_a_study_is_fetched(here: Here, other: Archive) -> None:
    for number in (1, 2, 3):
        ingest(other, instance(number, study="1.2.1", series="1.2.1.1"))
    number = here.transfers.retrieve(Order("PACS2", Scope("1.2.1"), RETRIEVE, asked_by="anna"))
    assert here.work_off() == []
    one = here.transfers.one(number)
    assert (one.state, one.total, one.completed, one.failed) == (State.DONE, 3, 3, 0)
    assert len(list(here.archive.index.locate(Scope("1.2.1")))) == 3
    again = here.transfers.again(number)
    assert again != number
    assert here.work_off() == []
    assert here.transfers.one(again).state is State.DONE


def test_a_study_is_fetched_by_c_move_and_one_is_sent_from_there_to_a_third(here: Here, other: Archive, pacs2: Serving) -> None:
    ingest(other, study(1))
    ingest(other, study(2))
    with serving(here.archive) as ours, storage_scp.node(title="WS1") as node:
        add_ae_title(other.index, AeTitle("LIGHTBOX", "127.0.0.1", ours.port))
        add_ae_title(other.index, AeTitle("WS1", "127.0.0.1", node.port))
        here.transfers.retrieve(Order("PACS2", Scope("1.2.1"), RETRIEVE, target="LIGHTBOX"))
        here.transfers.retrieve(Order("PACS2", Scope("1.2.2"), RETRIEVE, target="WS1"))
        assert here.work_off() == []
    assert here.has() == {"1.2.1"}
    assert node.uids == ["1.2.2.1.1"]


@pytest.mark.usefixtures("pacs2")
def test_what_was_fetched_goes_on_to_a_workstation(here: Here, other: Archive) -> None:
    ingest(other, study(1))
    with storage_scp.node(title="WS1") as node:
        add_ae_title(here.archive.index, AeTitle("WS1", "127.0.0.1", node.port))
        here.transfers.retrieve(Order("PACS2", Scope("1.2.1"), RETRIEVE, then_to="WS1"))
        assert here.work_off() == []
    assert here.done() == [(RETRIEVE, "PACS2", "1.2.1", State.DONE), (SEND, "WS1", "1.2.1", State.DONE)]
    assert node.uids == ["1.2.1.1.1"]


@pytest.mark.usefixtures("pacs2")
@pytest.mark.parametrize(
    ("order", "text"),
    [
        (Order("PACS2", Scope("1.2.9"), RETRIEVE), "PACS2 has nothing of that study"),
        (Order("PACS2", Scope("1.2.1"), RETRIEVE, target="NOWHERE"), "A801"),
        (Order("NOWHERE", Scope("1.2.1"), RETRIEVE), "pacs ae add NOWHERE"),
        (Order("AWAY", Scope("1.2.1"), RETRIEVE), "cannot be reached"),
    ],
)
def test_why_nothing_is_fetched_is_told(here: Here, other: Archive, order: Order, text: str) -> None:
    ingest(other, study(1))
    add_ae_title(here.archive.index, AeTitle("AWAY", "127.0.0.1", free_port()))
    here.transfers.retrieve(order)
    (wrong,) = here.work_off()
    assert text in wrong
    assert "register it with" not in wrong, "the other node's words are for the administrator, not for logs"
    (one,) = here.shown()
    assert (one.state, text in one.error) == (State.FAILED, True)


def test_one_that_is_away_is_not_asked_again_at_once(here: Here) -> None:
    add_ae_title(here.archive.index, AeTitle("AWAY", "127.0.0.1", free_port()))
    first, second = (here.transfers.retrieve(Order("AWAY", Scope(uid), RETRIEVE)) for uid in ("1.2.1", "1.2.2"))
    with pytest.raises(LightboxError, match="cannot be reached"):
        retrieving.retrieve(here.work, {"transfer": first})
    with pytest.raises(Postponed):
        retrieving.retrieve(here.work, {"transfer": second})


# By rule


@pytest.mark.usefixtures("pacs2")
@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        # The newest first; 1.2.5 is another patient's, 1.2.6 an MR, 1.2.7 too old, 1.2.8 another issuer's.
        ({}, {"1.2.1", "1.2.2", "1.2.3"}),
        ({"newest": 2}, {"1.2.1", "1.2.2"}),
        ({"same_modality": False, "newest": 10}, {"1.2.1", "1.2.2", "1.2.3", "1.2.4", "1.2.6"}),
        ({"same_body_part": True, "newest": 10}, {"1.2.2"}),
        ({"years": 1.5, "newest": 10}, {"1.2.1"}),
        ({"years": 50, "newest": 10}, {"1.2.1", "1.2.2", "1.2.3", "1.2.4", "1.2.7"}),
        ({"conditions": {"Modality": "MR"}}, set()),
        ({"trigger": Trigger.WORKLIST}, set()),
    ],
)
def test_priors_are_fetched_when_a_study_begins_to_come(here: Here, other: Archive, rule: dict[str, Any], wanted: set[str]) -> None:
    for number in range(1, 5):
        ingest(other, study(number, StudyDate=ago(number), BodyPartExamined="CHEST" if number == 2 else "HEAD", IssuerOfPatientID="HOSP"))
    ingest(other, study(5, PatientID="P10"))
    ingest(other, study(6, StudyDate=ago(5), Modality="MR"))
    ingest(other, study(7, StudyDate=ago(30)))
    ingest(other, study(8, IssuerOfPatientID="ELSEWHERE"))
    put_rule(here.archive.index, Rule("p", Prefetch(("PACS2",), **rule)))
    for number in (1, 2):
        here.come(instance(number, study="1.2.19", series="1.2.19.1", BodyPartExamined="CHEST", IssuerOfPatientID="HOSP"))
    assert here.work_off() == []
    assert here.has() == wanted | {"1.2.19"}
    assert here.work_off() == [], "what was fetched is no reason to fetch more"
    assert {one.scope.study for one in here.shown()} == wanted


@pytest.mark.usefixtures("pacs2")
def test_priors_are_fetched_and_sent_to_a_workstation_when_somebody_is_scheduled(here: Here, other: Archive) -> None:
    ingest(other, study(1))
    here.come(study(2, StudyDate=ago(2)), Source("import"))
    put_rule(here.archive.index, Rule("p", Prefetch(("PACS2",), to="WS1", own=True)))
    with storage_scp.node(title="WS1") as node:
        add_ae_title(here.archive.index, AeTitle("WS1", "127.0.0.1", node.port))
        entry = Worklist(here.archive.index).create(fields())
        assert here.work_off() == []
        assert sorted(node.uids) == ["1.2.1.1.1", "1.2.2.1.1"]
        # The study itself comes: what was fetched for it is not fetched again.
        here.come(instance(study=entry.value("StudyInstanceUID"), series="1.2.77"))
        assert here.work_off() == []
    assert sorted(node.uids) == ["1.2.1.1.1", "1.2.2.1.1"]
    assert {(one.kind, one.node, one.rule) for one in here.shown()} == {(RETRIEVE, "PACS2", "p"), (SEND, "WS1", "p")}


@pytest.mark.usefixtures("pacs2")
def test_priors_go_to_a_workstation_past_this_archive(here: Here, other: Archive) -> None:
    ingest(other, study(1))
    put_rule(here.archive.index, Rule("p", Prefetch(("PACS2",), to="WS1", direct=True)))
    with storage_scp.node(title="WS1") as node:
        add_ae_title(other.index, AeTitle("WS1", "127.0.0.1", node.port))
        here.come(study(9))
        assert here.work_off() == []
    assert node.uids == ["1.2.1.1.1"]
    assert here.has() == {"1.2.9"}


@pytest.mark.usefixtures("pacs2")
def test_a_source_that_is_away_does_not_keep_the_others_from_being_asked(here: Here, other: Archive) -> None:
    ingest(other, study(1))
    add_ae_title(here.archive.index, AeTitle("AWAY", "127.0.0.1", free_port()))
    put_rule(here.archive.index, Rule("p", Prefetch(("AWAY", "PACS2"))))
    here.come(study(9))
    (wrong,) = here.work_off()
    assert "AWAY" in wrong
    assert here.has() == {"1.2.1", "1.2.9"}


@pytest.mark.usefixtures("pacs2")
def test_an_id_with_wildcards_is_not_asked_for(here: Here, other: Archive) -> None:
    ingest(other, study(1))
    put_rule(here.archive.index, Rule("p", Prefetch(("PACS2",))))
    here.come(study(9, PatientID="P*"))
    assert here.work_off() == []
    assert here.has() == {"1.2.9"}


def test_who_is_not_to_be_known_has_no_priors(here: Here, other: Archive) -> None:
    """The ID of a de-identified study may be that of a patient elsewhere."""
    ingest(other, study(1))
    put_rule(here.archive.index, Rule("p", Prefetch(("PACS2",))))
    here.come(study(9, PatientIdentityRemoved="YES"))
    assert here.work_off() == []
    assert here.has() == {"1.2.9"}


def test_jobs_name_no_patient(here: Here) -> None:
    put_rule(here.archive.index, Rule("p", Prefetch(("PACS2",))))
    here.come(study(9))
    prefetching.gather(here.work)
    (job,) = JobQueue(here.archive.index).search(kind=KIND)
    assert dict(job.payload) == {"rule": "p", "study": "1.2.9", "entry": 0}
    subject = subject_of(here.archive.index, "1.2.9")
    assert subject is not None
    assert (subject.patient_id, sorted(subject.modalities)) == ("P1", ["CT"])


@pytest.mark.usefixtures("pacs2")
def test_what_was_fetched_is_not_routed_unless_that_is_said(here: Here, other: Archive) -> None:
    ingest(other, study(1))
    put_rule(here.archive.index, Rule("r", Route("WS1")))
    put_rule(here.archive.index, Rule("all", Route("WS2", retrieved=True)))
    here.transfers.retrieve(Order("PACS2", Scope("1.2.1"), RETRIEVE))
    here.work_off()
    sending.gather(here.work)
    assert [(one.node, one.rule) for one in here.shown(kind=SEND)] == [("WS2", "all")]


# Asking


@pytest.fixture
def web(here: Here) -> TestClient:
    routes = [*admin.routes(here.archive, calling="LIGHTBOX"), *admin.page_routes(here.archive, calling="LIGHTBOX", unknown_callers="ask")]
    return TestClient(Starlette(routes=routes), base_url="http://pacs.test", raise_server_exceptions=False)


@pytest.mark.usefixtures("pacs2")
def test_another_archive_is_asked_and_a_study_chosen(here: Here, other: Archive, web: TestClient) -> None:
    for number in (1, 2):
        ingest(other, study(number, PatientID=f"P{number}", StudyDescription="<b>Chest</b>"))
    asked = {"keys": {"PatientID": "P1", "NumberOfStudyRelatedInstances": ""}}
    answer = web.post("/api/aes/PACS2/find", json=asked).json()
    assert answer == {
        "matches": [
            {
                "PatientID": "P1", "PatientName": "Müller^Hans", "StudyDate": ago(1), "ModalitiesInStudy": "CT",
                "StudyDescription": "<b>Chest</b>", "StudyInstanceUID": "1.2.1", "NumberOfStudyRelatedInstances": "1",
            }
        ],
        "more": False,
    }  # fmt: skip
    series = web.post("/api/aes/PACS2/find", json={"level": "SERIES", "keys": {"StudyInstanceUID": "1.2.2"}}).json()
    assert [one["SeriesInstanceUID"] for one in series["matches"]] == ["1.2.2.1"]
    assert web.post("/api/aes/PACS2/find", json={"keys": {"PatientID": "P*"}, "limit": 1}).json()["more"] is True
    page = web.get("/admin/remote?node=PACS2&PatientID=P1").text
    assert "Müller^Hans" in page
    assert "<b>Chest" not in page
    assert '"study": "1.2.1"' in page.replace("&#34;", '"')
    web.post("/api/transfers", json={"kind": "retrieve", "node": "PACS2", "study": "1.2.1"})
    assert here.work_off() == []
    assert here.has() == {"1.2.1"}


@pytest.mark.parametrize(
    ("title", "body", "status", "text"),
    [
        ("NOWHERE", {}, 404, "pacs ae add"),
        ("AWAY", {}, 502, "cannot be reached"),
        ("AWAY", {"keys": {"Patient": "x"}}, 400, "no attribute"),
        ("AWAY", {"level": "ROOM"}, 400, "level"),
    ],
)
def test_why_nobody_answers_is_told(here: Here, web: TestClient, title: str, body: dict[str, Any], status: int, text: str) -> None:
    add_ae_title(here.archive.index, AeTitle("AWAY", "127.0.0.1", free_port()))
    answer = web.post(f"/api/aes/{title}/find", json=body)
    assert (answer.status_code, text in answer.text) == (status, True), answer.text
    if title == "AWAY" and not body:
        assert "cannot be reached" in web.get("/admin/remote?node=AWAY&PatientID=P1").text
