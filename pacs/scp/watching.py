"""Events of workitems as N-EVENT-REPORT (PS3.4 CC.2.4), to subscribers that have opened an association for it.

Who calls with a context of UPS Event is its user, and we are its provider, as without a word on roles (PS3.7 D.3.3.4): what
waits for that AE title is told there, between its own requests. While that goes on nobody else tells it; what it has not
taken when the association ends, goes out on the next one, or on one of ours (`pacs.processing.workitem_reports`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

import structlog

from pacs.dimse import CommandField, Status
from pacs.scp.association import Association
from pacs.scp.identifiers import Encoder
from pacs.scp.negotiation import Context
from pacs.scp.provider import Provider
from pacs.scp.sop_classes import Kind, kind_of
from storage.errors import LightboxError
from storage.index.database import Rerun
from storage.procedure_steps import PUSH_SOP_CLASS
from storage.workitem_reports import Lease, WorkitemReports
from storage.workitems import Event, Workitems

_log = structlog.get_logger(__name__)
# How long an event waits at most while the peer is silent; and while it asks for one thing after the other.
LOOK_SECONDS: Final = 0.5
_BUSY_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 10.0


def takes_events(contexts: Mapping[int, Context]) -> Context | None:
    """The context on which the peer is told of workitems; None where it has asked for none, or not as user."""
    of_events = (one for one in contexts.values() if kind_of(one.abstract_syntax) is Kind.WORKITEM_EVENT)
    return next((one for one in of_events if one.peer_uses), None)


def send_event(association: Association, context: Context, encoder: Encoder, event: Event) -> None:
    """Report one event and wait for the answer, whatever that is: the subscriber knows of it. Raises Ended."""
    response = association.request(
        context,
        CommandField.N_EVENT_REPORT,
        [encoder.encode(event.fields)],
        # Whose instances those of UPS Event are (CC.2.4.3).
        AffectedSOPClassUID=PUSH_SOP_CLASS,
        AffectedSOPInstanceUID=event.uid,
        EventTypeID=event.kind,
    )
    association.drain(response)
    if response.status != Status.SUCCESS:
        _log.warning(
            "workitem.report_refused",
            to=association.peer.called_ae if context.peer_provides else association.peer.calling_ae,
            workitem=event.uid,
            event_type=event.kind,
            status=f"{response.status:04X}",
        )


class Watch:
    """What one association's peer is told. Used by the thread that serves it, between two messages."""

    def __init__(self, association: Association, context: Context, provider: Provider) -> None:
        self._association = association
        self._context = context
        self._encoder = Encoder(context.transfer_syntax)
        self._reports = WorkitemReports(provider.archive.index)
        self._workitems = Workitems(provider.archive.index)
        self._title = association.peer.calling_ae
        # What makes its events ours to tell; when was looked for them, and may be again.
        self._lease: Lease | None = None
        self._looked = time.monotonic()
        self._pause_until = float("-inf")

    def wait(self) -> None:
        """Until the peer says something, tell it what waits. Raises Ended, also where there is nothing to wait for.

        That is in its pauses: who asks for one thing and releases is not told in between.
        """
        while self._association.is_quiet(LOOK_SECONDS, patient=self._lease is not None):
            self._look()
        if time.monotonic() - self._looked >= _BUSY_SECONDS:
            self._look()

    def end(self) -> None:
        """The association is over: whoever can may tell the rest."""
        if self._lease is None:
            return
        try:
            self._lease.release()
        except (LightboxError, Rerun) as error:
            # They can have it all the same when the lease is over.
            _log.warning("workitem.not_released", to=self._title, reason=str(error))

    def _look(self) -> None:
        now = self._looked = time.monotonic()
        if now < self._pause_until:
            return
        try:
            self._tell()
        except (LightboxError, Rerun) as error:
            # The database is away: it waits, and not every look is worth a line.
            self._pause_until = now + _PAUSE_SECONDS
            _log.warning("workitem.not_reported", to=self._title, reason=str(error), again_in=_PAUSE_SECONDS)

    def _tell(self) -> None:
        if self._lease is None or not self._lease.keep():
            self._lease = self._reports.claim(self._title)
        if self._lease is None:
            return
        for event in self._workitems.events(self._title, self._workitems.delivered(self._title)):
            # A peer that takes its time for each must not outlast the lease; who has it then tells the rest.
            if not self._lease.keep():
                return
            send_event(self._association, self._context, self._encoder, event)
            self._workitems.acknowledge(self._title, event.sequence)
            _log.info("workitem.reported", to=self._title, workitem=event.uid, event_type=event.kind)
