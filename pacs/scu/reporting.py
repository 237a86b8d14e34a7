"""Events of workitems to a subscriber, as N-EVENT-REPORT on an association of ours (PS3.4 CC.2.4, PS3.7 10.1.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pacs.scp.identifiers import Encoder
from pacs.scp.sop_classes import PLAIN
from pacs.scp.transport import Ended
from pacs.scp.watching import send_event
from pacs.scu.associating import Destination, NotReached, Proposal, associate
from pacs.upper_layer import Role
from storage.procedure_steps import EVENT_SOP_CLASS
from storage.workitems import Event


def report_events(destination: Destination, events: Iterable[Event]) -> Iterator[Event]:
    """Send each and give it back when the subscriber has answered, whatever it answered: it knows of it.

    We are the provider of UPS Event, whose instances are those of UPS Push (CC.2.4.3). Raises NotReached, Rejection,
    NothingAccepted.
    """
    role = Role(EVENT_SOP_CLASS, scu=False, scp=True)
    with associate(destination, [Proposal(EVENT_SOP_CLASS, PLAIN)], roles=[role]) as association:
        context = association.contexts_for(EVENT_SOP_CLASS)[0]
        encoder = Encoder(context.transfer_syntax)
        for event in events:
            try:
                send_event(association, context, encoder, event)
            except Ended as error:
                raise NotReached(f"{destination.title} took no report of a workitem: {error}") from error
            yield event
