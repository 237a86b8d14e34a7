"""What answers which command on which kind of SOP class: the one table of services."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from pacs.dimse import CommandField
from pacs.scp import commitment, echo, find, get, move, mpps, store, ups, worklist
from pacs.scp.association import Association, Message
from pacs.scp.normalized import answering
from pacs.scp.provider import Provider
from pacs.scp.sop_classes import Kind

# Reads the message's data set, if it has one, does what is asked, and sends every response.
Answer: TypeAlias = Callable[[Association, Message, Provider], None]

# A service of DIMSE-N is a function of values: see `normalized.answering`.
SERVICES: Final[Mapping[tuple[CommandField, Kind], Answer]] = {
    (CommandField.C_ECHO, Kind.VERIFICATION): echo.answer,
    (CommandField.C_STORE, Kind.STORAGE): store.answer,
    (CommandField.C_FIND, Kind.FIND): find.answering(find.stored),
    (CommandField.C_FIND, Kind.WORKLIST): find.answering(worklist.asked),
    (CommandField.C_MOVE, Kind.MOVE): move.answer,
    (CommandField.C_GET, Kind.GET): get.answer,
    (CommandField.N_ACTION, Kind.COMMITMENT): answering(commitment.ask),
    (CommandField.N_EVENT_REPORT, Kind.COMMITMENT): answering(commitment.take),
    (CommandField.N_CREATE, Kind.PERFORMED_STEP): answering(mpps.create),
    (CommandField.N_SET, Kind.PERFORMED_STEP): answering(mpps.update),
    (CommandField.N_GET, Kind.PERFORMED_STEP_RETRIEVE): answering(mpps.get),
    (CommandField.N_CREATE, Kind.WORKITEM): answering(ups.create),
    (CommandField.N_SET, Kind.WORKITEM): answering(ups.update),
    (CommandField.N_GET, Kind.WORKITEM): answering(ups.get),
    (CommandField.N_ACTION, Kind.WORKITEM): answering(ups.act),
    (CommandField.C_FIND, Kind.WORKITEM): ups.find,
}
