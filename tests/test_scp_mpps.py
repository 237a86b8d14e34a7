"""MPPS over DIMSE with pynetdicom as the modality: the statuses of PS3.4 F.7.2, and the step as the administrator sees it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.tag import Tag
from pynetdicom import AE, evt
from pynetdicom.association import Association
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pacs import admin
from pacs.scp.sop_classes import PERFORMED_STEP, PERFORMED_STEP_RETRIEVE, WORKLIST
from storage.archive import Archive
from storage.worklist import Worklist
from tests.support.archive import Store
from tests.support.dimse_server import serving
from tests.support.made import CT, instance
from tests.support.performed import STUDY, begun, ended, item, performed, without
from tests.support.worklist import fields

UID = "1.2.9.1"


@pytest.fixture
def modality(archive: Archive) -> Iterator[Association]:
    """An association of a modality's."""
    with serving(archive) as server:
        ae = AE("CT1")
        for uid in (WORKLIST, PERFORMED_STEP, PERFORMED_STEP_RETRIEVE, CT):
            ae.add_requested_context(uid)
        # pynetdicom gives no more of a response than its status.
        commands: list[Dataset] = []
        handlers: Any = [(evt.EVT_DIMSE_RECV, lambda event: commands.append(event.message.command_set))]
        association: Any = ae.associate("127.0.0.1", server.port, ae_title="LIGHTBOX", evt_handlers=handlers)
        association.commands = commands
        assert len(association.accepted_contexts) == 4
        yield association
        association.release()


def answered(modality: Association) -> Dataset:
    """The command set of the last response."""
    commands: list[Dataset] = modality.commands  # type: ignore[attr-defined]
    return commands[-1]


@pytest.fixture
def web(archive: Archive) -> TestClient:
    return TestClient(Starlette(routes=admin.routes(archive, calling="LIGHTBOX")), base_url="http://pacs.test")


def test_an_examination(modality: Association, archive: Archive, web: TestClient, store: Store) -> None:
    """From the worklist to the last image, as a modality does it."""
    Worklist(archive.index).create(fields(StudyInstanceUID=STUDY, PatientName="MÜLLER^JÖRG"))
    scheduled = list(modality.send_c_find(item(PatientName="", StudyInstanceUID="", ScheduledProcedureStepSequence=[Dataset()]), WORKLIST))
    (entry,) = [found for _, found in scheduled if found]
    (step,) = entry.ScheduledProcedureStepSequence
    of = item(StudyInstanceUID=entry.StudyInstanceUID, ScheduledProcedureStepID=step.ScheduledProcedureStepID)
    start = begun(of, PatientName=entry.PatientName, SpecificCharacterSet="ISO_IR 100")
    status, _ = modality.send_n_create(start, PERFORMED_STEP, UID)
    assert status.Status == 0x0000
    assert web.get("/api/worklist").json()[0]["ScheduledProcedureStepStatus"] == "STARTED"
    store(instance(1))
    last = ended(performed(1, 2), PatientName=entry.PatientName, SpecificCharacterSet="ISO_IR 100")
    status, _ = modality.send_n_set(last, PERFORMED_STEP, UID)
    assert status.Status == 0x0000, "the patient's name again, unchanged, is no change"
    assert web.get("/api/worklist").json() == []

    known = web.get(f"/api/procedure-steps/{UID}").json()
    assert (known["state"], known["announced"], known["arrived"], known["complete"]) == ("COMPLETED", 2, 1, False)
    assert (known["entries"], known["studies"], known["station"], known["modality"]) == ([1], [STUDY], "CT1", "CT")
    assert known["missing_instances"] == [{"SeriesInstanceUID": "1.2.3.4", "SOPClassUID": CT, "SOPInstanceUID": "1.2.3.4.2"}]
    store(instance(2))
    assert web.get(f"/api/procedure-steps/{UID}").json()["complete"]
    assert [one["uid"] for one in web.get(f"/api/procedure-steps?study={STUDY}&state=COMPLETED").json()] == [UID]
    assert web.get("/api/procedure-steps?state=IN PROGRESS").json() == []

    status, found = modality.send_n_get([Tag("PatientName"), Tag("PerformedProcedureStepStatus")], PERFORMED_STEP_RETRIEVE, UID)
    assert status.Status == 0x0000
    assert found is not None
    assert (found.PatientName, found.PerformedProcedureStepStatus) == ("MÜLLER^JÖRG", "COMPLETED")
    status, found = modality.send_n_get([], PERFORMED_STEP_RETRIEVE, UID)
    assert found is not None
    assert found.PerformedSeriesSequence[0].ReferencedImageSequence[1].ReferencedSOPInstanceUID == "1.2.3.4.2"


CREATING: list[tuple[Dataset, int, str]] = [
    (begun(), 0x0000, ""),
    # What is of type 2 may be left out; there is nothing to be gained by losing the message.
    (without(begun(), "PatientName"), 0x0000, ""),
    (without(begun(), "PerformedSeriesSequence"), 0x0000, ""),
    (without(begun(), "Modality"), 0x0120, "Modality"),
    (without(begun(), "ScheduledStepAttributesSequence"), 0x0120, "ScheduledStepAttributesSequence"),
    (without(begun(), "ScheduledStepAttributesSequence.StudyInstanceUID"), 0x0120, "StudyInstanceUID"),
    (without(begun(), "PerformedProcedureStepID"), 0x0120, "PerformedProcedureStepID"),
    (begun(PerformedStationAETitle=""), 0x0121, "PerformedStationAETitle"),
    (begun(ScheduledStepAttributesSequence=[]), 0x0121, "ScheduledStepAttributesSequence"),
    (begun(PerformedProcedureStepStatus="COMPLETED"), 0x0106, "PerformedProcedureStepStatus"),
    (begun(PerformedProcedureStepStatus="DONE"), 0x0106, "PerformedProcedureStepStatus"),
]


@pytest.mark.parametrize(("start", "expected", "about"), CREATING, ids=range(len(CREATING)))
def test_creation(modality: Association, start: Dataset, expected: int, about: str) -> None:
    status, _ = modality.send_n_create(start, PERFORMED_STEP, UID)
    assert status.Status == expected
    if expected:
        assert about in status.ErrorComment
        assert answered(modality).AttributeIdentifierList == Tag(about)
        status, _ = modality.send_n_set(ended(performed(1)), PERFORMED_STEP, UID)
        assert status.Status == 0x0112, "nothing is left of what was refused"
    else:
        assert answered(modality).AffectedSOPInstanceUID == UID
        status, _ = modality.send_n_create(start, PERFORMED_STEP, UID)
        assert status.Status == 0x0111


def test_a_uid_of_ours(modality: Association, web: TestClient) -> None:
    status, _ = modality.send_n_create(begun(), PERFORMED_STEP, None)
    assert status.Status == 0x0000
    assert web.get(f"/api/procedure-steps/{answered(modality).AffectedSOPInstanceUID}").status_code == 200


SETTING: list[tuple[Dataset, int, str]] = [
    (ended(performed(1)), 0x0000, ""),
    (ended(performed(1), performed(2, series="1.2.3.5")), 0x0000, ""),
    (ended(performed()), 0x0000, ""),
    (ended(status="DISCONTINUED"), 0x0000, ""),
    (ended(), 0x0121, "PerformedSeriesSequence"),
    (ended(without(performed(1), "ProtocolName")), 0x0120, "ProtocolName"),
    (ended(without(performed(1), "SeriesInstanceUID")), 0x0120, "SeriesInstanceUID"),
    (ended(without(performed(1), "ReferencedImageSequence.ReferencedSOPInstanceUID")), 0x0120, "ReferencedSOPInstanceUID"),
    (ended(performed(1), PerformedProcedureStepEndTime=""), 0x0121, "PerformedProcedureStepEndTime"),
    (ended(performed(1), status="DONE"), 0x0106, "PerformedProcedureStepStatus"),
    (ended(performed(1), PatientID="P2"), 0x0106, "PatientID"),
    (ended(performed(1), Modality="MR"), 0x0106, "Modality"),
    (item(PerformedProcedureStepDescription="goes on"), 0x0000, ""),
]


@pytest.mark.parametrize(("change", "expected", "about"), SETTING, ids=range(len(SETTING)))
def test_changes(modality: Association, web: TestClient, change: Dataset, expected: int, about: str) -> None:
    modality.send_n_create(begun(), PERFORMED_STEP, UID)
    status, _ = modality.send_n_set(change, PERFORMED_STEP, UID)
    assert status.Status == expected
    state = web.get(f"/api/procedure-steps/{UID}").json()["state"]
    if expected:
        assert about in status.ErrorComment
        assert answered(modality).AttributeIdentifierList == Tag(about)
        assert state == "IN PROGRESS"
    else:
        assert state == change.get("PerformedProcedureStepStatus", "IN PROGRESS")


def test_what_has_ended_is_changed_no_more(modality: Association) -> None:
    modality.send_n_create(begun(), PERFORMED_STEP, UID)
    modality.send_n_set(ended(performed(1)), PERFORMED_STEP, UID)
    status, _ = modality.send_n_set(item(PerformedProcedureStepStatus="IN PROGRESS"), PERFORMED_STEP, UID)
    assert (status.Status, status.ErrorID) == (0x0110, 0xA710)
    assert status.ErrorComment == "Performed Procedure Step Object may no longer be updated"


def test_an_administrator_ends_what_its_modality_will_not(modality: Association, archive: Archive, web: TestClient) -> None:
    Worklist(archive.index).create(fields(StudyInstanceUID=STUDY))
    modality.send_n_create(begun(), PERFORMED_STEP, UID)
    place = f"/api/procedure-steps/{UID}/discontinue"
    assert web.post(place, json={}).json()["state"] == "DISCONTINUED"
    assert Worklist(archive.index).get(1).value("ScheduledProcedureStepStatus") == "DISCONTINUED"
    assert web.post(place, json={}).status_code == 409
    assert web.post("/api/procedure-steps/1.2/discontinue", json={}).status_code == 404
    status, _ = modality.send_n_set(ended(performed(1)), PERFORMED_STEP, UID)
    assert (status.Status, status.ErrorID) == (0x0110, 0xA710), "the modality learns of it"


def test_what_is_not_there(modality: Association) -> None:
    status, _ = modality.send_n_get([], PERFORMED_STEP_RETRIEVE, UID)
    assert status.Status == 0x0112


def test_a_step_is_got_by_the_sop_class_for_that(modality: Association) -> None:
    status: Any
    status, _ = modality.send_n_get([], PERFORMED_STEP, UID)
    assert status.Status == 0x0122
