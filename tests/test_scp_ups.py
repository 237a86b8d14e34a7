"""UPS Push, Pull, Watch and Query over DIMSE (PS3.4 annex CC), with pynetdicom as user, over the store that UPS-RS shares."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydicom import Dataset as PydicomDataset
from pydicom.tag import Tag
from pynetdicom import AE
from pynetdicom.association import Association

from storage.archive import Archive
from storage.procedure_steps import State
from storage.workitems import Workitems
from tests.support.dimse_server import serving
from tests.test_ups import OTHER, TRANSACTION, UID, performed, scheduled

PUSH, WATCH, PULL, QUERY = (f"1.2.840.10008.5.1.4.34.6.{number}" for number in (1, 2, 3, 5))


def dataset(given: dict[str, object]) -> PydicomDataset:
    return PydicomDataset.from_json(given)


def asked_state(state: str, transaction: str | None = TRANSACTION) -> PydicomDataset:
    made = PydicomDataset()
    made.ProcedureStepState = state
    if transaction:
        made.TransactionUID = transaction
    return made


@pytest.fixture
def peer(archive: Archive) -> Iterator[Association]:
    """An association on which all four SOP classes were agreed."""
    with serving(archive) as served:
        ae = AE("WORKER")
        for uid in (PUSH, WATCH, PULL, QUERY):
            ae.add_requested_context(uid)
        association = ae.associate("127.0.0.1", served.port, ae_title="LIGHTBOX")
        assert association.is_established
        assert len(association.accepted_contexts) == 4
        yield association
        association.release()


def test_a_workitem_from_scheduled_to_completed(peer: Association, archive: Archive) -> None:
    """Each request on the context of the SOP class that has it, of an instance of UPS Push (CC.3.1)."""
    status, _ = peer.send_n_create(dataset(scheduled()), PUSH, UID)
    assert status.Status == 0x0000
    status, found = peer.send_n_get([Tag(0x00741204), Tag(0x00081195)], PUSH, UID, meta_uid=PULL)
    assert status.Status == 0x0000
    assert found is not None
    assert (found.ProcedureStepLabel, len(found)) == ("Find nodules", 1)

    for state, transaction, expected in [
        (State.COMPLETED, TRANSACTION, 0xC310),
        (State.IN_PROGRESS, None, 0xC301),
        (State.IN_PROGRESS, TRANSACTION, 0x0000),
        (State.IN_PROGRESS, TRANSACTION, 0xC302),
        (State.SCHEDULED, TRANSACTION, 0xC303),
        (State.COMPLETED, OTHER, 0xC301),
        (State.COMPLETED, TRANSACTION, 0xC304),
    ]:
        status, _ = peer.send_n_action(asked_state(state, transaction), 1, PUSH, UID, meta_uid=PULL)
        assert status.Status == expected

    change = dataset(performed())
    status, _ = peer.send_n_set(change, PUSH, UID, meta_uid=PULL)
    assert status.Status == 0xC301
    change.TransactionUID = TRANSACTION
    status, _ = peer.send_n_set(change, PUSH, UID, meta_uid=PULL)
    assert status.Status == 0x0000
    for expected in (0x0000, 0xB306):
        status, _ = peer.send_n_action(asked_state(State.COMPLETED), 1, PUSH, UID, meta_uid=PULL)
        assert status.Status == expected
    status, _ = peer.send_n_set(change, PUSH, UID, meta_uid=PULL)
    assert status.Status == 0xC300
    # The same store as UPS-RS.
    assert Workitems(archive.index).get(UID).state is State.COMPLETED


def test_creation(peer: Association, archive: Archive) -> None:
    status, _ = peer.send_n_create(dataset(scheduled()), PUSH, UID)
    assert status.Status == 0x0000
    status, _ = peer.send_n_create(dataset(scheduled()), PUSH, UID)
    assert status.Status == 0x0111
    without = dataset(scheduled())
    del without.PatientSex
    status, _ = peer.send_n_create(without, PUSH, OTHER)
    assert status.Status == 0xB300
    del without.ProcedureStepLabel
    status, _ = peer.send_n_create(without, PUSH, "1.2.3.7")
    assert status.Status == 0x0120
    wrong = dataset(scheduled())
    wrong.ProcedureStepState = "COMPLETED"
    status, _ = peer.send_n_create(wrong, PUSH, "1.2.3.7")
    assert status.Status == 0xC309


def test_what_is_not_there_and_not_possible(peer: Association, archive: Archive) -> None:
    Workitems(archive.index).create(scheduled(), UID)
    status, _ = peer.send_n_get([], PUSH, OTHER, meta_uid=WATCH)
    assert status.Status == 0xC307
    status, _ = peer.send_n_action(asked_state("CANCELED"), 9, PUSH, UID, meta_uid=WATCH)
    assert status.Status == 0x0123


def test_cancellation(peer: Association, archive: Archive) -> None:
    Workitems(archive.index).create(scheduled(), UID)
    reason = PydicomDataset()
    reason.ReasonForCancellation = "no longer needed"
    for expected in (0x0000, 0xB304):
        status, _ = peer.send_n_action(reason, 2, PUSH, UID, meta_uid=WATCH)
        assert status.Status == expected
    assert Workitems(archive.index).get(UID).state is State.CANCELED


@pytest.mark.parametrize("model", [PULL, WATCH, QUERY])
def test_search(peer: Association, archive: Archive, model: str) -> None:
    items = Workitems(archive.index)
    items.create(scheduled(PatientName={"vr": "PN", "Value": [{"Alphabetic": "Müller^Jörg"}]}), UID)
    items.create(scheduled(WorklistLabel={"vr": "LO", "Value": ["other"]}), OTHER)
    station = PydicomDataset()
    station.CodeValue = "STATION1"
    for keyword, value, uids in [
        ("ProcedureStepState", "SCHEDULED", [UID, OTHER]),
        ("WorklistLabel", "oth*", [OTHER]),
        ("PatientName", "M*", [UID]),
        ("ScheduledStationNameCodeSequence", [station], [UID, OTHER]),
        ("ScheduledProcedureStepStartDateTime", "20270101-", []),
    ]:
        query = PydicomDataset()
        query.SOPInstanceUID = ""
        query.PatientName = ""
        query.TransactionUID = ""
        setattr(query, keyword, value)
        answers = list(peer.send_c_find(query, model))
        assert answers[-1][0].Status == 0x0000
        found = [one for status, one in answers if status.Status == 0xFF00 and one]
        assert [one.SOPInstanceUID for one in found] == uids
        if UID in uids:
            assert found[0].PatientName == "Müller^Jörg"
            assert "TransactionUID" not in found[0]
