"""DIMSE-N by pynetdicom as user: what a service is given, what its answer becomes, and what its errors become (PS3.7 10, annex C)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.sop_class import UnifiedProcedureStepPush, Verification  # type: ignore[attr-defined]

from pacs.dimse import CommandField, Status
from pacs.scp.association import Association
from pacs.scp.normalized import Answer, Failure, Request, answering
from pacs.scp.server import DimseServer
from pacs.scp.settings import DimseSettings
from pacs.scp.sop_classes import SOP_CLASSES, Kind, SopClass
from storage.archive import Archive
from storage.errors import BadRequest, Conflict, IndexUnavailable, LimitExceeded, NotFound
from tests.support.dimse_server import wait_until

PUSH = str(UnifiedProcedureStepPush)
INSTANCE = "1.2.3.4"
LABEL = "00741204"
FIELDS = [field for field in CommandField if field.name.startswith("N_")]


class Service:
    """Remembers what it was asked, and answers or raises what the test says."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.answer: Answer | Exception = Answer()

    def __call__(self, request: Request, _provider: Any) -> Answer:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setitem(SOP_CLASSES, PUSH, SopClass(PUSH, Kind.COMMITMENT))
    return Service()


@pytest.fixture
def client(archive: Archive, service: Service) -> Iterator[Any]:
    """An established association of pynetdicom's."""
    services = {(field, Kind.COMMITMENT): answering(service) for field in FIELDS}
    server = DimseServer(archive, DimseSettings(port=0, max_dataset_bytes=100_000), services=services)
    server.start()
    entity: Any = ApplicationEntity
    entity = entity(ae_title="USER")
    entity.add_requested_context(PUSH)
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", server.port, ae_title="LIGHTBOX")
    assert association.is_established
    yield association
    association.release()
    server.stop(0)


def labelled(text: str = "given") -> Dataset:
    dataset = Dataset()
    dataset.ProcedureStepLabel = text
    return dataset


# What of pynetdicom sends which command, and whether its data set is a required argument.
SENDS: dict[CommandField, Any] = {
    CommandField.N_CREATE: lambda one: one.send_n_create(labelled(), PUSH, INSTANCE),
    CommandField.N_SET: lambda one: one.send_n_set(labelled(), PUSH, INSTANCE),
    CommandField.N_GET: lambda one: one.send_n_get([0x00741204, 0x00404005], PUSH, INSTANCE),
    CommandField.N_ACTION: lambda one: one.send_n_action(labelled(), 3, PUSH, INSTANCE),
    CommandField.N_EVENT_REPORT: lambda one: one.send_n_event_report(labelled(), 2, PUSH, INSTANCE),
    CommandField.N_DELETE: lambda one: (one.send_n_delete(PUSH, INSTANCE), None),
}


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_each_command(client: Any, service: Service, field: CommandField) -> None:
    answered = None if field == CommandField.N_DELETE else {LABEL: {"vr": "LO", "Value": ["answered"]}}
    service.answer = Answer(dataset=answered)
    status, dataset = SENDS[field](client)
    assert status.Status == 0
    assert answered is None or dataset.ProcedureStepLabel == "answered"
    (request,) = service.asked
    assert request.command["CommandField"] == field
    assert (request.sop_class, request.instance, request.peer.calling_ae) == (PUSH, INSTANCE, "USER")
    given = field in (CommandField.N_CREATE, CommandField.N_SET, CommandField.N_ACTION, CommandField.N_EVENT_REPORT)
    assert request.dataset == ({LABEL: {"vr": "LO", "Value": ["given"]}} if given else {})
    assert request.wanted == (frozenset({LABEL, "00404005"}) if field == CommandField.N_GET else frozenset())
    kind = {CommandField.N_ACTION: ("ActionTypeID", 3), CommandField.N_EVENT_REPORT: ("EventTypeID", 2)}.get(field)
    assert kind is None or request.command[kind[0]] == kind[1]


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (Failure(0xC307, "no such work item"), 0xC307),
        (BadRequest("a wrong value"), Status.INVALID_ARGUMENT_VALUE),
        (NotFound("nothing there"), Status.NO_SUCH_SOP_INSTANCE),
        (Conflict("there already"), Status.DUPLICATE_SOP_INSTANCE),
        (LimitExceeded("too much"), Status.RESOURCE_LIMITATION),
        (IndexUnavailable("later"), Status.RESOURCE_LIMITATION),
        (ZeroDivisionError("Doe^Jane"), Status.PROCESSING_FAILURE),
    ],
)
def test_what_is_raised_becomes_a_status(client: Any, service: Service, raised: Exception, expected: int) -> None:
    service.answer = raised
    status, _ = client.send_n_set(labelled(), PUSH, INSTANCE)
    assert status.Status == expected
    assert status.ErrorComment
    assert "Doe" not in status.ErrorComment
    service.answer = Answer()
    assert client.send_n_set(labelled(), PUSH, INSTANCE)[0].Status == 0, "and the association goes on"


def test_a_created_instance_is_named(client: Any, service: Service) -> None:
    """PS3.7 10.1.5.1.4: the provider may assign the UID, and then says so."""
    service.answer = Answer(more={"AffectedSOPInstanceUID": "1.2.9"})
    received: list[Any] = []
    client.bind(evt.EVT_DIMSE_RECV, lambda event: received.append(event.message.command_set))
    status, _ = client.send_n_create(labelled(), PUSH)
    assert (status.Status, received[0].AffectedSOPInstanceUID) == (0, "1.2.9")
    assert service.asked[0].instance == ""


def test_a_data_set_over_the_limit_is_passed_over(client: Any, service: Service) -> None:
    large = Dataset()
    large.TextValue = "x" * 200_000
    status, _ = client.send_n_set(large, PUSH, INSTANCE)
    assert status.Status == Status.RESOURCE_LIMITATION
    assert service.asked == []
    assert client.send_n_set(labelled(), PUSH, INSTANCE)[0].Status == 0


def test_commands_of_another_service(client: Any) -> None:
    assert client.send_c_echo().Status == Status.UNRECOGNIZED_OPERATION


def test_an_event_after_the_response_on_the_same_association(archive: Archive, service: Service, client: Any) -> None:
    """`then`: our N-EVENT-REPORT goes out behind the response, and its answer comes back to us."""
    answers: list[int] = []
    events: list[tuple[int, str]] = []

    def report(association: Association) -> None:
        (context, *_) = (one for one in association.contexts.values() if one.abstract_syntax == PUSH)
        response = association.request(
            context,
            CommandField.N_EVENT_REPORT,
            [b""],
            AffectedSOPClassUID=PUSH,
            AffectedSOPInstanceUID=INSTANCE,
            EventTypeID=1,
        )
        association.drain(response)
        answers.append(response.status)

    def handle(event: Any) -> tuple[int, None]:
        events.append((event.request.EventTypeID, str(event.request.AffectedSOPInstanceUID)))
        return 0, None

    client.bind(evt.EVT_N_EVENT_REPORT, handle)
    service.answer = Answer(then=report)
    assert client.send_n_action(labelled(), 1, PUSH, INSTANCE)[0].Status == 0
    service.answer = Answer()
    assert client.send_n_set(labelled(), PUSH, INSTANCE)[0].Status == 0
    wait_until(lambda: answers == [0])
    assert events == [(1, INSTANCE)]
