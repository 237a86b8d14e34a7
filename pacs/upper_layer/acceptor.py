"""The acceptor's half of PS3.8: an association that a peer asks for."""

from __future__ import annotations

from pacs.upper_layer.associate import AssociateAnswer, encode_answer, text_of
from pacs.upper_layer.machine import Machine
from pacs.upper_layer.pdus import HEADER, PduType, Reject, reject
from pacs.upper_layer.states import Event, State


class Acceptor(Machine):
    """One association from the transport connection on (Sta2) to its end; the limits are `Machine`'s."""

    def __init__(
        self, *, max_length: int = 1 << 17, max_request: int = 1 << 20, buffer_size: int = 1 << 18
    ) -> None:
        super().__init__(
            Event.CONNECTED, max_length=max_length, max_request=max_request, buffer_size=buffer_size
        )

    @property
    def request_is_whole(self) -> bool:
        """Whether a complete A-ASSOCIATE-RQ waits to be taken by `next_event`, which then parses it."""
        if self.state is not State.AWAITING_REQUEST or self._end - self._start < HEADER.size:
            return False
        kind, length = self._header()
        return kind == PduType.ASSOCIATE_RQ and HEADER.size + length <= self._end - self._start

    @property
    def titles(self) -> tuple[str, str]:
        """Calling and called AE title of a whole request that is not read yet; empty where it is too short for them."""
        body = self._view[self._start + HEADER.size : self._end]
        return text_of(body[20:36]), text_of(body[4:20])

    def accept(self, answer: AssociateAnswer) -> bytes:
        """A-ASSOCIATE-AC (AE-7). From now on data may come, on the contexts accepted in `answer`."""
        self._to(Event.ACCEPT)
        assert self._request is not None
        pdu = encode_answer(self._request, answer)
        self._request = None
        self._associated(answer.contexts)
        return pdu

    def reject(self, why: Reject) -> bytes:
        """A-ASSOCIATE-RJ (AE-8)."""
        self._to(Event.REJECT)
        return reject(why)

    def refuse(self, why: Reject) -> bytes:
        """A-ASSOCIATE-RJ for a whole request that is not even read: there is no room for another association."""
        self._to(Event.ASSOCIATE_RQ_RECEIVED)
        return self.reject(why)
