"""The limits of the DIMSE server, and what it tells whoever counts; plain values, made by the composition root."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pacs.tls import Credentials


@dataclass(frozen=True, slots=True)
class DimseSettings:
    """Times in seconds, sizes in bytes. The defaults are RELIABILITY's (rows 3, 4 and 5)."""

    host: str = "127.0.0.1"
    # 0 takes a free port; the server's `port` says which.
    port: int = 11112
    ae_title: str = "LIGHTBOX"
    # Whether to answer to any called AE title, not only to our own.
    any_called_ae: bool = False
    # What a request must say of its user (PS3.7 D.3.3.7): see `pacs.scp.identity.Required`.
    user_identity: str = "optional"
    # What becomes of callers that are no known nodes: accept, ask (refused, and an administrator may let them in) or refuse.
    unknown_callers: str = "accept"
    # The names of the rights that they have where they are accepted.
    unknown_caller_rights: tuple[str, ...] = ("all",)

    # Sockets that have not negotiated: time for the whole A-ASSOCIATE-RQ, its size, how many at once. One too many
    # costs the one that has waited longest its place: who sends a request at once never waits.
    request_seconds: float = 10.0
    max_request_bytes: int = 1 << 20
    max_waiting: int = 400
    max_waiting_per_address: int = 250
    max_waiting_bytes: int = 64 << 20

    max_associations: int = 100
    # How long one must have been at rest before it makes room for another caller, when all are open (`pacs.scp.places`).
    rested_seconds: float = 5.0
    max_pdu_bytes: int = 1 << 17
    # One read of the socket; also the memory of an association between messages.
    read_bytes: int = 1 << 18
    # Inside a message: time without a byte, and the least rate over such a time. Between messages: patience.
    message_idle_seconds: float = 30.0
    min_bytes_per_second: int = 256
    # A small data set that a command announces, other than an instance: its first byte.
    data_set_seconds: float = 3.0
    idle_seconds: float = 60.0
    # The answer to what we have asked: a C-STORE within a C-GET or C-MOVE, an N-EVENT-REPORT.
    answer_seconds: float = 60.0
    max_command_bytes: int = 1 << 14
    max_identifier_bytes: int = 1 << 20
    # The data set of a DIMSE-N request: a storage commitment of ten thousand instances has about two million bytes.
    max_dataset_bytes: int = 4 << 20
    # Who we are, and whom we trust, where we call a node that speaks TLS.
    credentials: Credentials = Credentials()  # noqa: RUF009 - frozen


class Observer(Protocol):
    """What happens, told as it happens, from many threads at once; must return quickly."""

    def association_accepted(self) -> None: ...

    def association_rejected(self, reason: str) -> None:
        """`reason`: called AE, calling AE, protocol version, application context, limit."""

    def association_ended(self, how: str, seconds: float) -> None:
        """`how`: released, aborted by peer, lost, violation, idle, crowded out, stopped, error."""

    def connection_dropped(self, reason: str) -> None:
        """A socket that never negotiated: too slow, crowded out, violation, TLS, closed."""

    def stored(self, status: int, seconds: float, size: int) -> None:
        """One C-STORE answered; `seconds` from the command to the answer, `size` of the object."""

    def found(self, level: str, status: int, seconds: float, answers: int) -> None:
        """One C-FIND answered; `level` is empty where the identifier had none that we know."""

    def retrieved(self, operation: str, status: int, seconds: float, completed: int) -> None:
        """One C-GET or C-MOVE answered; `completed` instances were sent."""


class Nobody:
    """An observer that does not look."""

    def association_accepted(self) -> None:
        """See `Observer`."""

    def association_rejected(self, reason: str) -> None:
        """See `Observer`."""

    def association_ended(self, how: str, seconds: float) -> None:
        """See `Observer`."""

    def connection_dropped(self, reason: str) -> None:
        """See `Observer`."""

    def stored(self, status: int, seconds: float, size: int) -> None:
        """See `Observer`."""

    def found(self, level: str, status: int, seconds: float, answers: int) -> None:
        """See `Observer`."""

    def retrieved(self, operation: str, status: int, seconds: float, completed: int) -> None:
        """See `Observer`."""


class Load(Protocol):
    """How much this server has to do, beside others that share its listening socket (`pacs.serve.loads`)."""

    def add(self, number: int) -> None:
        """So many more connections and associations than before, or fewer."""

    def deference(self) -> float:
        """Seconds to accept nothing, so that another with less to do goes first; mostly 0, and never twice in succession."""


class Alone:
    """The load of a server that shares its socket with nobody."""

    def add(self, number: int) -> None:
        """See `Load`."""

    def deference(self) -> float:
        """See `Load`."""
        return 0.0
