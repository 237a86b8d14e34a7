"""Query/Retrieve of objects of no patient over DIMSE, with pynetdicom and DCMTK as users (PS3.4 annexes U, X, BB, HH, II, JJ)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.presentation import build_role

from storage.archive import Archive
from storage.index.ae import AeTitle, add_ae_title
from storage.non_patient import BY_SOP_CLASS
from tests.support.archive import Store
from tests.support.corpus import corpus_file
from tests.support.dimse_peer import EXPLICIT
from tests.support.dimse_server import Serving, serving
from tests.support.made import instance
from tests.support.storage_scp import node
from tests.test_npi import APPROVAL, GROUP, HANGING, INVENTORY, PALETTE, PROTOCOL, hanging, item, npi
from tests.test_scp import dcmtk, run

# Storage SOP class -> the UIDs of its model for C-FIND, C-MOVE and C-GET (PS3.6 A).
MODELS = {
    HANGING: ["1.2.840.10008.5.1.4.38.2", "1.2.840.10008.5.1.4.38.3", "1.2.840.10008.5.1.4.38.4"],
    PALETTE: ["1.2.840.10008.5.1.4.39.2", "1.2.840.10008.5.1.4.39.3", "1.2.840.10008.5.1.4.39.4"],
    "1.2.840.10008.5.1.4.43.1": ["1.2.840.10008.5.1.4.43.2", "1.2.840.10008.5.1.4.43.3", "1.2.840.10008.5.1.4.43.4"],
    "1.2.840.10008.5.1.4.44.1": ["1.2.840.10008.5.1.4.44.2", "1.2.840.10008.5.1.4.44.3", "1.2.840.10008.5.1.4.44.4"],
    GROUP: ["1.2.840.10008.5.1.4.45.2", "1.2.840.10008.5.1.4.45.3", "1.2.840.10008.5.1.4.45.4"],
    PROTOCOL: ["1.2.840.10008.5.1.4.20.1", "1.2.840.10008.5.1.4.20.2", "1.2.840.10008.5.1.4.20.3"],
    "1.2.840.10008.5.1.4.1.1.200.7": ["1.2.840.10008.5.1.4.20.1", "1.2.840.10008.5.1.4.20.2", "1.2.840.10008.5.1.4.20.3"],
    APPROVAL: [f"1.2.840.10008.5.1.4.1.1.200.{number}" for number in (4, 5, 6)],
    INVENTORY: [f"1.2.840.10008.5.1.4.1.1.201.{number}" for number in (2, 3, 4)],
}


@pytest.fixture
def server(archive: Archive) -> Iterator[Serving]:
    with serving(archive) as running:
        yield running


@contextmanager
def user(server: Serving, *models: str, storage: str = "", received: list[Any] | None = None) -> Iterator[Any]:
    def store(event: Any) -> int:
        if received is not None:
            received.append(event.dataset)
        return 0

    entity: Any = ApplicationEntity
    entity = entity(ae_title="USER")
    for model in models:
        entity.add_requested_context(model)
    if storage:
        entity.add_requested_context(storage, EXPLICIT)
    roles = [build_role(storage, scp_role=True)] if storage else []
    association = entity.associate(
        "127.0.0.1", server.port, ae_title="LIGHTBOX", ext_neg=roles, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    assert association.is_established
    yield association
    association.release()


def find(server: Serving, model: str, **keys: Any) -> tuple[list[Any], list[int]]:
    """The answers, and the status of each and of the end."""
    with user(server, model) as association:
        responses = [(status.Status, data) for status, data in association.send_c_find(item(**keys), model)]
    assert responses[-1][0] == 0
    return [data for _, data in responses[:-1]], [status for status, _ in responses]


KEYS = [
    ({"HangingProtocolName": ""}, ["1.2.1", "1.2.2", "1.2.3"]),
    ({"HangingProtocolName": "Ch*"}, ["1.2.1", "1.2.2"]),
    ({"HangingProtocolLevel": "SITE", "SOPInstanceUID": "1.2.3"}, ["1.2.3"]),
    ({"SOPInstanceUID": ["1.2.1", "1.2.3", "1.2.4"]}, ["1.2.1", "1.2.3"]),
    ({"SOPClassUID": PALETTE}, []),
    ({"HangingProtocolDefinitionSequence": Sequence([item(Modality="MR")])}, ["1.2.2", "1.2.3"]),
    ({"HangingProtocolDefinitionSequence": Sequence([item(Modality="MR", Laterality="")]), "HangingProtocolName": "Knee"}, ["1.2.3"]),
    ({}, ["1.2.1", "1.2.2", "1.2.3"]),
]


@pytest.mark.parametrize(("keys", "expected"), KEYS)
def test_finding_by_the_keys_of_the_model(server: Serving, store: Store, keys: dict[str, Any], expected: list[str]) -> None:
    """Table U.6-1; there is no Query/Retrieve Level."""
    for uid, name, modality in (("1.2.1", "Chest", "CT"), ("1.2.2", "Chest MR", "MR"), ("1.2.3", "Knee", "MR")):
        store(hanging(uid, name, modality))
    store(npi("1.2.4", PALETTE))
    store(instance())
    answers, statuses = find(server, MODELS[HANGING][0], **{"SOPInstanceUID": "", **keys})
    assert [str(one.SOPInstanceUID) for one in answers] == expected
    assert set(statuses[:-1]) <= {0xFF00}


def test_answers_have_what_was_asked_for_and_no_other(server: Serving, store: Store) -> None:
    store(hanging("1.2.1", "Größe"))
    keys = {"HangingProtocolName": "", "HangingProtocolCreator": "", "SpecificCharacterSet": "ISO_IR 192", "StudyInstanceUID": ""}
    (answer,), statuses = find(server, MODELS[HANGING][0], **keys)
    assert {one.keyword for one in answer} == set(keys)
    assert (answer.HangingProtocolName, answer.HangingProtocolCreator, answer.StudyInstanceUID) == ("Größe", "", "")
    assert statuses == [0xFF01, 0], "there is no study in the model"


@pytest.mark.parametrize("sop_class", sorted(BY_SOP_CLASS))
def test_every_model_finds_and_sends_its_own(server: Serving, store: Store, archive: Archive, sop_class: str) -> None:
    store(npi("1.2.1", sop_class, InstanceCreationDate="20240101"))
    other = PALETTE if sop_class != PALETTE else HANGING
    store(npi("1.2.2", other))
    finding, moving, getting = MODELS[sop_class]
    answers, _ = find(server, finding, SOPInstanceUID="", InstanceCreationDate="20240101-")
    assert [str(one.SOPInstanceUID) for one in answers] == ["1.2.1"]

    received: list[Any] = []
    with user(server, getting, storage=sop_class, received=received) as association:
        responses = list(association.send_c_get(item(SOPInstanceUID=["1.2.1", "1.2.2", "9.9"]), getting))
    assert (responses[-1][0].Status, [str(one.SOPInstanceUID) for one in received]) == (0, ["1.2.1"])

    with node([(sop_class, [EXPLICIT])]) as destination:
        add_ae_title(archive.index, AeTitle("NODE", "127.0.0.1", destination.port))
        with user(server, moving) as association:
            responses = list(association.send_c_move(item(SOPInstanceUID="1.2.1"), "NODE", moving))
    final = responses[-1][0]
    assert (final.Status, final.NumberOfCompletedSuboperations, destination.uids) == (0, 1, ["1.2.1"])


def test_it_is_decoded_for_who_does_not_take_it_as_stored(server: Serving, store: Store) -> None:
    store(npi("1.2.1", syntax=ExplicitVRBigEndian, HangingProtocolName="A"))
    received: list[Any] = []
    with user(server, MODELS[HANGING][2], storage=HANGING, received=received) as association:
        *_, (status, _) = association.send_c_get(item(SOPInstanceUID="1.2.1"), MODELS[HANGING][2])
    assert (status.Status, received[0].HangingProtocolName) == (0, "A")


@pytest.mark.parametrize("keys", [{}, {"SOPInstanceUID": ""}])
def test_a_retrieve_names_instances(server: Serving, store: Store, keys: dict[str, Any]) -> None:
    store(hanging("1.2.1", "A"))
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.update(item(**keys))
    with user(server, MODELS[HANGING][2], storage=HANGING) as association:
        ((status, _),) = association.send_c_get(dataset, MODELS[HANGING][2])
    assert status.Status == 0xA900
    assert "SOP Instance UIDs" in status.ErrorComment


def test_the_models_of_patients_do_not_know_it(server: Serving, store: Store) -> None:
    uids = store(hanging("1.2.1", "A")).uids
    study_root = "1.2.840.10008.5.1.4.1.2.2.1"
    for keys in ({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": uids.study}, {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": ""}):
        assert find(server, study_root, **keys)[0] == []


@dcmtk
def test_dcmtk_stores_a_palette_by_c_store(server: Serving, archive: Archive) -> None:
    sent = run("dcmsend", "-aec", "LIGHTBOX", "127.0.0.1", str(server.port), str(corpus_file("derived/hotiron.dcm")))
    assert sent.returncode == 0, sent.stdout
    (found,), _ = find(server, MODELS[PALETTE][0], SOPInstanceUID="", ContentLabel="HOT_IRON")
    assert (found.SOPInstanceUID, found.ContentLabel) == ("1.2.840.10008.1.5.1", "HOT_IRON")
    assert archive.index.counts().studies == 0
