"""Storage commitment for what we send: reports on an association of the other archive's own, refusals, silence; pynetdicom and
Orthanc as the other archive."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt

from pacs.processing import committing
from storage.archive import Archive
from storage.commitment import Reference
from storage.index.ae import AeTitle, add_ae_title
from storage.rules import Sending
from storage.sent_commitments import SentCommitments
from storage.transfer_records import State
from storage.transfers import Transfers
from storage.types import Scope
from tests.support import orthanc
from tests.support.archive import Store
from tests.support.dimse_peer import CT, EXPLICIT
from tests.support.dimse_server import serving, wait_until
from tests.support.made import instance
from tests.test_routing import shown, until, working

COMMITMENT, WELL_KNOWN = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"

# What the other archive makes of the references of the nth request: those that it commits to, or None where it says nothing.
Judge = Callable[[list[Dataset], int], list[Dataset] | None]


class Other:
    """Another archive, of pynetdicom's, which reports on an association of its own after it has answered."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.port = 0
        self.ours = 0
        self.asked: list[Dataset] = []
        self.stored: list[str] = []
        self.answers: list[int] = []
        self._threads: list[threading.Thread] = []

    def store(self, event: Any) -> int:
        self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    def action(self, event: evt.Event) -> tuple[int, None]:
        asked = event.action_information
        self.asked.append(asked)
        judged = self.judge(list(asked.ReferencedSOPSequence), len(self.asked))
        if judged is not None:
            thread = threading.Thread(target=self.report, args=(asked, judged))
            self._threads.append(thread)
            thread.start()
        return 0, None

    def report(self, asked: Dataset, committed: list[Dataset], event: int = 0) -> None:
        """Call our server, as provider of the SOP class."""
        said = Dataset()
        said.TransactionUID = asked.TransactionUID
        kept = {one.ReferencedSOPInstanceUID for one in committed}
        failed = [one for one in asked.ReferencedSOPSequence if one.ReferencedSOPInstanceUID not in kept]
        if committed:
            said.ReferencedSOPSequence = committed
        for one in failed:
            one.FailureReason = 0x0112
        if failed:
            said.FailedSOPSequence = failed
        entity = AE(ae_title="OTHER")
        entity.add_requested_context(COMMITMENT)
        association = entity.associate("127.0.0.1", self.ours, ae_title="LIGHTBOX", ext_neg=[build_role(COMMITMENT, scu_role=False, scp_role=True)])
        assert association.is_established
        status, _ = association.send_n_event_report(said, event or (2 if failed else 1), COMMITMENT, WELL_KNOWN)
        self.answers.append(status.Status)
        association.release()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(20)


@contextmanager
def other(archive: Archive, judge: Judge) -> Iterator[Other]:
    """The other archive, known to ours as OTHER; and our server, which it calls."""
    found = Other(judge)
    entity: Any = AE
    entity = entity(ae_title="OTHER")
    entity.add_supported_context(CT, EXPLICIT)
    entity.add_supported_context(COMMITMENT)
    handlers = [(evt.EVT_C_STORE, found.store), (evt.EVT_N_ACTION, found.action)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    found.port = server.socket.getsockname()[1]
    add_ae_title(archive.index, AeTitle("OTHER", "127.0.0.1", found.port))
    try:
        with serving(archive) as ours:
            found.ours = ours.port
            yield found
            found.join()
    finally:
        server.shutdown()


def everything(references: list[Dataset], _number: int) -> list[Dataset]:
    return references


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committing, "SAME_ASSOCIATION_SECONDS", 0.3)
    monkeypatch.setattr(committing, "_LOOK_SECONDS", 0.3)


def send(archive: Archive) -> None:
    Transfers(archive.index).send(Scope("1.2.3"), "OTHER", sending=Sending(commit=True))


@pytest.fixture
def stored(store: Store) -> None:
    for number in (1, 2):
        store(instance(number))


@pytest.mark.usefixtures("stored")
def test_a_report_on_another_association_is_the_transfers(archive: Archive) -> None:
    with other(archive, everything) as there, working(archive):
        send(archive)
        (done,) = until(archive, State.DONE, seconds=15)
        assert done.error == "sent; OTHER commits to 2 instances"
        assert (len(there.asked), sorted(there.stored)) == (1, ["1.2.3.4.1", "1.2.3.4.2"])
        there.join()
        assert there.answers == [0]
    assert SentCommitments(archive.index).of(done.number) == []


@pytest.mark.usefixtures("stored")
def test_it_is_said_that_a_report_is_waited_for_and_a_late_one_is_taken(archive: Archive) -> None:
    with other(archive, lambda *_: None) as there, working(archive):
        send(archive)
        wait_until(lambda: "waits for OTHER to report on storage commitment of 2 instances, until " in shown(archive)[0].error)
        there.report(there.asked[0], list(there.asked[0].ReferencedSOPSequence))
        (done,) = until(archive, State.DONE, seconds=15)
        assert done.error == "sent; OTHER commits to 2 instances"
        assert there.answers == [0]


@pytest.mark.usefixtures("stored")
def test_what_is_not_committed_to_is_sent_again(archive: Archive) -> None:
    with other(archive, lambda references, number: references[:1] if number == 1 else references) as there, working(archive):
        send(archive)
        (done,) = until(archive, State.DONE, seconds=15)
        assert (done.completed, done.error) == (2, "sent; OTHER commits to 2 instances")
        assert len(there.stored) == 3
        assert there.stored[2] not in {one.ReferencedSOPInstanceUID for one in there.asked[0].ReferencedSOPSequence[:1]}


@pytest.mark.usefixtures("stored")
def test_who_does_not_report_is_asked_three_times_and_then_an_administrator(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committing, "REPORT_SECONDS", 0.5)
    with other(archive, lambda *_: None) as there, working(archive):
        send(archive)
        (failed,) = until(archive, State.FAILED, seconds=15)
        assert "was asked 3 times for storage commitment and never reported" in failed.error
        assert len({one.TransactionUID for one in there.asked}) == 3
        there.judge = everything
        Transfers(archive.index).again(failed.number)
        (done,) = until(archive, State.DONE, seconds=15)
    assert (len(there.stored), len(there.asked)) == (2, 4), "nothing is sent once more for that"
    assert done.error == "sent; OTHER commits to 2 instances"


@pytest.mark.usefixtures("stored")
def test_reports_that_nobody_asked_for(archive: Archive) -> None:
    """PS3.4 J.3.3: refused, and nothing changes; one that is said twice is taken twice, and the first counts."""
    commitments = SentCommitments(archive.index)
    uid = commitments.begin("OTHER", [(Reference(CT, "1.2.3.4.1"), 0)])
    said, item = Dataset(), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, "1.2.3.4.1"
    said.ReferencedSOPSequence = [item]
    with other(archive, everything) as there:
        for transaction, committed, event, expected in (
            ("1.2.3.99", [item], 0, 0x0115),
            (uid, [item], 7, 0x0113),
            (uid, [item], 0, 0),
            (uid, [], 0, 0),
        ):
            said.TransactionUID = transaction
            there.report(said, committed, event)
            assert there.answers.pop() == expected
    known = commitments.one(uid)
    assert known is not None
    assert set(known.committed or ()) == {"1.2.3.4.1"}


@pytest.mark.usefixtures("stored")
def test_orthanc_reports_on_an_association_of_its_own(archive: Archive, tmp_path: Path) -> None:
    with serving(archive) as ours:
        us = {"LIGHTBOX": ["LIGHTBOX", "127.0.0.1", ours.port]}
        with orthanc.running(tmp_path / "orthanc", DicomModalities=us) as there, working(archive):
            add_ae_title(archive.index, AeTitle("OTHER", "127.0.0.1", there.dimse_port))
            send(archive)
            (done,) = until(archive, State.DONE, seconds=30)
            assert done.error == "sent; OTHER commits to 2 instances"
            assert there.instances() == ["1.2.3.4.1", "1.2.3.4.2"]
