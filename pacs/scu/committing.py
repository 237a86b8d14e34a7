"""Storage commitment between an association and the archive: what an N-EVENT-REPORT says, and sending it (PS3.4 J.3.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from pydicom.uid import generate_uid

from pacs.dimse import CommandField, Status
from pacs.scp.association import Association, Message
from pacs.scp.identifiers import Encoder, text_values
from pacs.scp.normalized import read
from pacs.scp.sop_classes import COMMITMENT, COMMITMENT_INSTANCE, PLAIN
from pacs.scp.transport import Ended, Wait
from pacs.scu.associating import Destination, NothingAccepted, Proposal, Requested, associate
from pacs.upper_layer import Role
from storage.attributes import tag_of
from storage.commitment import Checked, Reference
from storage.errors import LightboxError
from storage.types import Dataset

TRANSACTION: Final = tag_of("TransactionUID")
REFERENCED: Final = tag_of("ReferencedSOPSequence")
SOP_CLASS: Final = tag_of("ReferencedSOPClassUID")
SOP_INSTANCE: Final = tag_of("ReferencedSOPInstanceUID")
_FAILED: Final = tag_of("FailedSOPSequence")
_REASON: Final = tag_of("FailureReason")
_RETRIEVE_AE: Final = tag_of("RetrieveAETitle")
_LARGEST: Final = 4 << 20
# Event types of table J.3-3.
SUCCESSFUL, FAILURES_EXIST = 1, 2


class ReportRefused(LightboxError):
    """The requester answers its report with a failure."""


class RequestRefused(LightboxError):
    """The other archive does not take our request for storage commitment."""


@dataclass(slots=True)
class Report:
    """What another archive has said of a transaction: the instances that it commits to, and why not to the others (Failure
    Reason)."""

    transaction: str = ""
    committed: set[str] = field(default_factory=set)
    failed: dict[str, int] = field(default_factory=dict)


def ask(
    destination: Destination, references: Iterable[Reference], transaction: str = "", *, report_seconds: float | None = None
) -> Report | None:
    """N-ACTION, and the report that comes on the same association; None when none comes within `report_seconds`, or the time
    that an answer may take.

    Many archives report on an association of their own, which goes to our server: `transaction` is then how to know it
    (`storage.sent_commitments`). Raises RequestRefused, NotReached …
    """
    items = [dict(_item(one)) for one in references]
    transaction = transaction or str(generate_uid(prefix=None))
    dataset: Dataset = {
        TRANSACTION: {"vr": "UI", "Value": [transaction]},
        REFERENCED: {"vr": "SQ", "Value": items},
    }
    came: list[Report] = []
    with associate(destination, [Proposal(COMMITMENT, PLAIN)]) as association:
        (context,) = association.contexts_for(COMMITMENT)
        association.on_request = lambda message: _take(association, message, transaction, came)
        response = association.request(
            context,
            CommandField.N_ACTION,
            [Encoder(context.transfer_syntax).encode(dataset)],
            RequestedSOPClassUID=COMMITMENT,
            RequestedSOPInstanceUID=COMMITMENT_INSTANCE,
            ActionTypeID=1,
        )
        association.drain(response)
        if response.status != Status.SUCCESS:
            raise RequestRefused(f"{destination.title} refuses to be asked for storage commitment: {response.status:04X}")
        if report_seconds is not None:
            association.wait_for_answers(report_seconds)
        with suppress(Ended):
            while not came:
                _take(association, association.next_message(Wait.ANSWER), transaction, came)
    return came[0] if came else None


def _take(association: Requested, message: Message, transaction: str, came: list[Report]) -> None:
    """Read a report, and say that it has come; one of another transaction is not what we wait for here."""
    if message.command["CommandField"] != CommandField.N_EVENT_REPORT:
        association.respond(message, Status.UNRECOGNIZED_OPERATION)
        return
    found = report_in(read(association, message, _LARGEST).dataset)
    if found.transaction != transaction:
        association.respond(message, Status.INVALID_ARGUMENT_VALUE)
        return
    association.respond(message, Status.SUCCESS)
    came.append(found)


def report_in(dataset: Dataset) -> Report:
    """What the event information of a report says (table J.3-2)."""
    committed = {_text(item, SOP_INSTANCE) for item in dataset.get(REFERENCED, {}).get("Value") or ()}
    found = Report(_text(dataset, TRANSACTION), committed)
    for item in dataset.get(_FAILED, {}).get("Value") or ():
        found.failed[_text(item, SOP_INSTANCE)] = int((item.get(_REASON, {}).get("Value") or [0])[0])
    return found


def _text(item: Dataset, tag: str) -> str:
    return next(iter(text_values(item.get(tag, {}))), "").strip()


def report(transaction: str, checked: Iterable[Checked], retrieve_ae: str) -> tuple[int, Dataset]:
    """The event type and its information (table J.3-2): what is committed to, and what is not and why."""
    committed: list[Dataset] = []
    failed: list[Dataset] = []
    for one in checked:
        item = dict(_item(one.reference))
        if one.failure is None:
            committed.append(item)
        else:
            failed.append({**item, _REASON: {"vr": "US", "Value": [int(one.failure)]}})
    dataset: dict[str, Any] = {
        TRANSACTION: {"vr": "UI", "Value": [transaction]},
        _RETRIEVE_AE: {"vr": "AE", "Value": [retrieve_ae]},
    }
    if committed:
        dataset[REFERENCED] = {"vr": "SQ", "Value": committed}
    if failed:
        dataset[_FAILED] = {"vr": "SQ", "Value": failed}
    return (FAILURES_EXIST if failed else SUCCESSFUL), dataset


def _item(reference: Reference) -> Iterator[tuple[str, dict[str, Any]]]:
    yield SOP_CLASS, {"vr": "UI", "Value": [reference.sop_class_uid]}
    yield SOP_INSTANCE, {"vr": "UI", "Value": [reference.sop_instance_uid]}


def send_report(association: Association, event: int, dataset: Dataset) -> None:
    """N-EVENT-REPORT on an association that has a context for it. Raises ReportRefused, NothingAccepted; Ended."""
    contexts = [one for one in association.contexts.values() if one.abstract_syntax == COMMITMENT]
    if not contexts:
        raise NothingAccepted("the requester does not take reports of storage commitment on an association of ours")
    context = contexts[0]
    response = association.request(
        context,
        CommandField.N_EVENT_REPORT,
        [Encoder(context.transfer_syntax).encode(dataset)],
        AffectedSOPClassUID=COMMITMENT,
        AffectedSOPInstanceUID=COMMITMENT_INSTANCE,
        EventTypeID=event,
    )
    association.drain(response)
    if response.status != Status.SUCCESS and response.status >> 12 != 0xB:
        raise ReportRefused(f"the requester answers its report with {response.status:04X}; ask what it did not like")


def report_to(destination: Destination, event: int, dataset: Dataset) -> None:
    """The same on a new association, on which we are the provider (PS3.7 D.3.3.4). Raises NotReached and Rejection too."""
    role = Role(COMMITMENT, scu=False, scp=True)
    with associate(destination, [Proposal(COMMITMENT, PLAIN)], roles=[role]) as association:
        send_report(association, event, dataset)
