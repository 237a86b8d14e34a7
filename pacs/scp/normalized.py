"""DIMSE-N (PS3.7 10): what a service of N-CREATE, N-SET, N-GET, N-ACTION, N-DELETE or N-EVENT-REPORT has to do with a message.

Such a service is a function from a `Request` to an `Answer`, which knows no association; `answering` makes of it what the
table of services wants. What it raises becomes the status of the response, with a comment:

    def set_attributes(request: Request, provider: Provider) -> Answer: ...

    (CommandField.N_SET, Kind.WORKITEM): answering(set_attributes),
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import structlog

from pacs.dimse import Command, CommandField, Status
from pacs.scp.association import Association, Message, NoDataSet, Peer
from pacs.scp.identifiers import LARGE, Encoder, Identifier, decode
from pacs.scp.negotiation import Context
from pacs.scp.provider import Provider
from pacs.scp.transport import Ended
from storage.errors import BadRequest, Conflict, LightboxError, LimitExceeded, NotFound, Refused, Unavailable
from storage.types import Dataset

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """A DIMSE-N request: its command set, and its data set in the DICOM JSON model (empty where there is none)."""

    peer: Peer
    context: Context
    command: Command
    identifier: Identifier
    # Of the association that it came on, by their ID.
    contexts: Mapping[int, Context] = field(default_factory=dict)

    @property
    def dataset(self) -> Dataset:
        return self.identifier.dataset

    @property
    def sop_class(self) -> str:
        """Affected or Requested SOP Class UID, as the command says it; it need not be the context's (PS3.4 CC.2)."""
        return str(self.command.get("RequestedSOPClassUID") or self.command.get("AffectedSOPClassUID") or "")

    @property
    def instance(self) -> str:
        """Affected or Requested SOP Instance UID; empty where an N-CREATE leaves it to us."""
        return str(self.command.get("RequestedSOPInstanceUID") or self.command.get("AffectedSOPInstanceUID") or "")

    @property
    def wanted(self) -> frozenset[str]:
        """The attributes that an N-GET asks for, as tags of eight hex digits; empty: all (PS3.7 10.1.2.1.5)."""
        return frozenset(f"{tag:08X}" for tag in self.command.get("AttributeIdentifierList") or ())


@dataclass(frozen=True, slots=True)
class Answer:
    """The response: its status and data set, `more` elements of its command (AffectedSOPInstanceUID of an N-CREATE, say).

    `then` is done after the response has gone out, on the same association: an N-EVENT-REPORT, say.
    """

    status: int = Status.SUCCESS
    dataset: Dataset | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    then: Callable[[Association], None] | None = None


Perform: TypeAlias = Callable[[Request, Provider], Answer]


class Failure(LightboxError):
    """A request that is answered with a status of its own; the text becomes the Error Comment.

    `more` are elements that PS3.7 C.5 wants with that status: ErrorID, AttributeIdentifierList.
    """

    def __init__(self, status: int, text: str, **more: Any) -> None:
        super().__init__(text)
        self.status = status
        self.more = more


# Statuses of DIMSE-N (PS3.7 annex C) for what is raised; by the nearest ancestor.
N_STATUS: Final[Mapping[type[LightboxError], Status]] = {
    LightboxError: Status.PROCESSING_FAILURE,
    Refused: Status.INVALID_ARGUMENT_VALUE,
    BadRequest: Status.INVALID_ARGUMENT_VALUE,
    LimitExceeded: Status.RESOURCE_LIMITATION,
    Conflict: Status.DUPLICATE_SOP_INSTANCE,
    NotFound: Status.NO_SUCH_SOP_INSTANCE,
    Unavailable: Status.RESOURCE_LIMITATION,
}


def answering(perform: Perform) -> Callable[[Association, Message, Provider], None]:
    """What the table of services wants, of a function of values."""

    def answer(association: Association, message: Message, provider: Provider) -> None:
        given = _performed(association, message, provider, perform)
        data = None
        if given.dataset is not None:
            data = Encoder(message.context.transfer_syntax).encode(given.dataset)
        association.respond(message, given.status, data=data, **given.more)
        if given.then:
            given.then(association)

    return answer


def _performed(association: Association, message: Message, provider: Provider, perform: Perform) -> Answer:
    peer, name = association.peer, CommandField(message.command["CommandField"]).name
    try:
        identifier = read(association, message, provider.settings.max_dataset_bytes)
        return perform(Request(peer, message.context, message.command, identifier, association.contexts), provider)
    except Ended:
        raise
    except LightboxError as error:
        status = n_status(error)
        _log.warning(
            "normalized.refused",
            command=name,
            status=f"{status:04X}",
            reason=str(error),
            calling_ae=peer.calling_ae,
            address=peer.address,
        )
        more = error.more if isinstance(error, Failure) else {}
        return Answer(status, more={"ErrorComment": str(error).replace("\\", "/"), **more})
    except Exception as error:  # noqa: BLE001
        _log.exception("normalized.failed", command=name, calling_ae=peer.calling_ae, address=peer.address)
        return Answer(n_status(error), more={"ErrorComment": "an error of the archive; its log says more"})


def n_status(error: BaseException) -> int:
    """The status that answers `error`."""
    if isinstance(error, Failure):
        return error.status
    return next((N_STATUS[kind] for kind in type(error).__mro__ if kind in N_STATUS), Status.PROCESSING_FAILURE)


def read(association: Association, message: Message, limit: int) -> Identifier:
    """The data set of a request or response; empty where it has none and need not. Raises NoDataSet, LimitExceeded, Truncated."""
    if not message.data_pending:
        if message.command["CommandField"] == CommandField.N_SET:
            # Of all requests only this one's is mandatory in DIMSE itself (PS3.7 table 10.1-4).
            raise NoDataSet("the N-SET came without a Modification List; send one")
        return Identifier({}, ())
    data = association.read_data(message, limit)
    if data is None:
        raise LimitExceeded(f"the data set is larger than {limit} bytes; ask in several messages")
    return decode(data, message.context.transfer_syntax, LARGE)
