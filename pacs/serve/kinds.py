"""The kinds of process there are, what the supervisor tells one, and what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What a process does."""

    WEB = "web"
    DIMSE = "dimse"
    HL7 = "hl7"
    WORKER = "worker"
    # Brings the index up to date for all of them, and ends: what it needs for that, nobody keeps in memory.
    PREPARE = "prepare"


@dataclass(frozen=True, slots=True)
class Orders:
    """What one process is to do. Numbers are descriptors, but for `parent`, a pid, and `slot`, its place in `loads`."""

    kind: Kind
    parent: int
    # A pipe that ends when the supervisor does, and one to say on how far we are.
    lifeline: int
    tell: int
    # Memory in which the processes of the kind tell how busy they are.
    loads: int
    slot: int
    # The listening socket, for what listens, and the one for DICOM over TLS.
    socket: int | None
    tls_socket: int | None
    # Until the index is up to date: a pipe that ends when it is.
    after: int | None
    environment: Mapping[str, str]

    @property
    def descriptors(self) -> list[int]:
        """All that the process needs to have open."""
        all_ = (self.lifeline, self.tell, self.loads, self.socket, self.tls_socket, self.after)
        return [one for one in all_ if one is not None]


# Said on a pipe: this process serves.
READY: Final = b"r"

# Exit status of a process that has said, in a sentence on standard error, why it cannot begin (EX_CONFIG).
CANNOT_START: Final = 78
