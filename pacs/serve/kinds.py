"""The kinds of process there are, and what one tells its supervisor."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What a process does."""

    WEB = "web"
    DIMSE = "dimse"
    WORKER = "worker"


# Said on a pipe: the index is up to date; this process serves.
PREPARED: Final = b"p"
READY: Final = b"r"

# Exit status of a process that has said, in a sentence on standard error, why it cannot begin (EX_CONFIG).
CANNOT_START: Final = 78
