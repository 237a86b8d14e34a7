"""What an association has come to, for its log: responses by command and status, and what was refused in words."""

from __future__ import annotations

import functools
from typing import Final

from pacs import dimse
from pacs.dimse import CommandField

# Kinds of responses that are counted apart: a peer may invent statuses.
_MOST_COUNTED: Final = 64
_MOST_REMARKS: Final = 5


class Tally:
    """The tally of one association.

    `operations`: how many responses of which command and status, ours, and (sent …) those to requests of ours. `remarks`: what was
    refused, and how often: by us in the words of the Error Comments before they are cut, by the peer in ours.
    """

    __slots__ = ("operations", "remarks")

    def __init__(self) -> None:
        self.operations: dict[str, int] = {}
        self.remarks: dict[str, int] = {}

    def count(self, field: int, status: int, prefix: str = "") -> None:
        """One response; pending ones are none."""
        if status not in dimse.PENDING:
            name = prefix + operation(field, status)
            if name not in self.operations and len(self.operations) >= _MOST_COUNTED:
                name = f"{prefix}other"
            self.operations[name] = self.operations.get(name, 0) + 1

    def note(self, remark: str) -> None:
        """One refusal."""
        if remark in self.remarks or len(self.remarks) < _MOST_REMARKS:
            self.remarks[remark] = self.remarks.get(remark, 0) + 1


@functools.lru_cache(1024)
def operation(field: int, status: int) -> str:
    """A command and its status, as the log has them: C-STORE 0000."""
    try:
        name = CommandField(field & ~dimse.RESPONSE_BIT).name.replace("_", "-")
    except ValueError:
        name = f"{field:04X}H"
    return f"{name} {status:04X}"
