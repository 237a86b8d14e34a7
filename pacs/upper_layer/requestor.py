"""The requestor's half of PS3.8: an association that we ask for, and end."""

from __future__ import annotations

from pacs.upper_layer.associate import AssociateAnswer, AssociateRequest, encode_request
from pacs.upper_layer.machine import Machine, Received
from pacs.upper_layer.pdus import release_request
from pacs.upper_layer.states import Event


class Requestor(Machine):
    """One association from its request (Sta4) to its end; the limits are `Machine`'s."""

    def __init__(
        self, *, max_length: int = 1 << 17, max_request: int = 1 << 20, buffer_size: int = 1 << 18
    ) -> None:
        super().__init__(
            Event.ASSOCIATE, max_length=max_length, max_request=max_request, buffer_size=buffer_size
        )

    def request(self, request: AssociateRequest) -> bytes:
        """A-ASSOCIATE-RQ (AE-2), when the transport connection is there."""
        self._to(Event.CONNECTION_CONFIRMED)
        return encode_request(request)

    def request_release(self) -> bytes:
        """A-RELEASE-RQ (AR-1). What comes until `Released` may still be data (AR-6)."""
        self._to(Event.REQUEST_RELEASE)
        return release_request()

    def _take(self, event: Event, length: int) -> Received:
        taken = super()._take(event, length)
        if isinstance(taken, AssociateAnswer):
            self._associated(taken.contexts)
        return taken
