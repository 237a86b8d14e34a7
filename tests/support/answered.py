"""What pynetdicom has really answered: asked for release before it has sent an answer, it sends none (its state machine)."""

from __future__ import annotations

from typing import Any, Final

from pynetdicom import evt
from pynetdicom.pdu import P_DATA_TF

from tests.support.dimse_server import wait_until

# Command Field (0000,0100) of an N-EVENT-REPORT-RSP, as it is encoded (PS3.7 E.1).
_ANSWER: Final = b"\x00\x00\x00\x01\x02\x00\x00\x00\x00\x81"


class Answered:
    """Counts the answers to N-EVENT-REPORTs that have gone out; `handler` is for associations."""

    def __init__(self) -> None:
        self.count = 0
        self.handler: tuple[Any, Any] = (evt.EVT_PDU_SENT, self._sent)

    def _sent(self, event: Any) -> None:
        if isinstance(event.pdu, P_DATA_TF) and _ANSWER in event.pdu.encode():
            self.count += 1

    def wait(self, number: int) -> None:
        """Until so many have."""
        wait_until(lambda: self.count >= number, why=lambda: f"{self.count} of {number} reports were answered")
