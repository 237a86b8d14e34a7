"""Every refusal once, and the one table from error to DIMSE and HTTP status.

    LightboxError
    ├── Refused                   the sender must change something
    │   ├── NotDicom              neither Part 10 nor a bare data set
    │   ├── NotStorable           an identifying attribute is missing or malformed
    │   ├── Mismatch              command, URL and data set disagree
    │   ├── Truncated             the bytes end before the header does
    │   ├── LimitExceeded         depth, elements, header size, inflation, object size
    │   ├── NotCoercible          what the policy of an AE title wants cannot be done to the data set
    │   ├── Conflict              same SOP Instance UID, other bytes: kept in quarantine
    │   ├── Rejected              the instance was deleted as wrong, and is not taken again
    │   ├── Held                  a legal hold on the study forbids it
    │   ├── Settled               a deletion or a quarantined instance that has been decided about already
    │   ├── WorkitemRefused       a procedure step that is not in the state for what is asked, or lacks what it needs
    │   ├── StepRefused           a performed procedure step that cannot be created or changed so
    │   ├── WorklistRefused       a worklist entry that is there already, or whose identity would change
    │   └── BadRequest            a query or request that is not understood
    │       └── UnsupportedQuery  understood, but not something that can be matched
    ├── NotFound                  no such study, series, instance, frame or bulk data
    │   ├── Gone                  there was such a one, which was removed for good
    │   └── ObjectMissing         a row without its bytes: damage, reported loudly
    ├── NotAcceptable             nothing that the client accepts can be made
    ├── CannotDecode              the stored pixel data cannot be decoded (damaged, or no codec): had only as it is stored
    └── Unavailable               try again later; nothing is lost
        ├── StoreFull             no room in the object store or spool
        ├── StoreUnavailable      the object store does not answer, or failed to make bytes durable
        └── IndexUnavailable      the database does not answer, or the outcome of a commit is unknown

Status numbers: C-STORE PS3.4 B.2.3 and PS3.7 C.5; C-FIND, C-MOVE, C-GET PS3.4 C.4; HTTP PS3.18 and its Annex I.
STOW-RS reports the C-STORE number as Failure Reason (0008,1197).
"""

from __future__ import annotations

from typing import NamedTuple


class LightboxError(Exception):
    """Base of everything that Lightbox refuses or cannot do.

    `str(error)` says what was wrong and what to do, in one sentence, without patient data.
    """


class Refused(LightboxError):
    """The sender must change something before trying again."""


class NotDicom(Refused):
    """The bytes are neither a Part 10 file nor a bare data set."""


class NotStorable(Refused):
    """SOP Class or SOP Instance UID is missing, or one of the four identifying UIDs is malformed."""


class Mismatch(Refused):
    """The request's UIDs (C-STORE command, STOW-RS URL) are not those of the data set."""


class Truncated(Refused):
    """The bytes end before the identifying header does."""


class LimitExceeded(Refused):
    """Sequence depth, number of elements, header size, inflation ratio or object size is over its limit."""


class NotCoercible(Refused):
    """What the policy of an AE title wants cannot be done to the data set; nothing of it is stored."""


class Conflict(Refused):
    """The SOP Instance UID is already stored with other bytes; the newcomer is kept in quarantine."""


class Rejected(Refused):
    """The instance was deleted for a reason that makes it wrong (PS3.16 CID 7011), and comes again."""


class Held(Refused):
    """The study is under a legal hold: nothing of it may be deleted, purged or replaced."""


class Settled(Refused):
    """It has been decided already: what is restored or purged cannot be restored or purged again."""


class WorkitemRefused(Refused):
    """A workitem cannot be created or changed so. `reason` is the N-service status (PS3.4 CC.2, PS3.7 C.5).

    `missing`: what is wrong with the Transaction UID is that there is none.
    """

    def __init__(self, reason: int, text: str, *, missing: bool = False) -> None:
        super().__init__(text)
        self.reason = reason
        self.missing = missing


class StepRefused(Refused):
    """A performed procedure step cannot be created or changed so. `reason` is the N-service status (PS3.4 F.7.2, PS3.7 C.5),
    `error_id` the Error ID that belongs to it or 0, `tags` the attributes that it is about."""

    def __init__(self, reason: int, text: str, tags: tuple[str, ...] = (), error_id: int = 0) -> None:
        super().__init__(text)
        self.reason = reason
        self.tags = tags
        self.error_id = error_id


class WorklistRefused(Refused):
    """A worklist entry cannot be made or changed so: there is one of its step already, or its identity would change."""


class BadRequest(Refused):
    """A request or query that is not understood; the text names the parameter."""


class UnsupportedQuery(BadRequest):
    """A query that is understood but that cannot be matched at this level."""


class NotFound(LightboxError):
    """No such study, series, instance, frame or bulk data."""


class Gone(NotFound):
    """There was such a one, which was removed for good."""


class ObjectMissing(NotFound):
    """The index knows the instance but the store has not got its bytes."""

    def __init__(self, text: str, key: str = "") -> None:
        super().__init__(text)
        # Of the object, for logs and not for clients.
        self.key = key


class NotAcceptable(LightboxError):
    """Nothing that the client accepts can be made; the text lists what could be had."""


class CannotDecode(LightboxError):
    """The stored pixel data cannot be decoded."""


class Unavailable(LightboxError):
    """Not now; nothing was stored and nothing is lost. Send again later."""


class StoreFull(Unavailable):
    """No room in the object store or in the spool."""


class StoreUnavailable(Unavailable):
    """The object store does not answer, or could not make the bytes durable."""


class IndexUnavailable(Unavailable):
    """The database does not answer, or the outcome of a commit is unknown."""


class Statuses(NamedTuple):
    """One row of the table: DIMSE status for C-STORE, for C-FIND/C-MOVE/C-GET, and HTTP status."""

    store: int
    query: int
    http: int


STATUS: dict[type[LightboxError], Statuses] = {
    LightboxError: Statuses(0x0110, 0xC000, 500),
    Refused: Statuses(0xC000, 0xC000, 400),
    NotDicom: Statuses(0xC000, 0xA900, 400),
    NotStorable: Statuses(0xA900, 0xA900, 400),
    Mismatch: Statuses(0xA900, 0xA900, 409),
    Truncated: Statuses(0xC000, 0xA900, 400),
    LimitExceeded: Statuses(0xC000, 0xA700, 413),
    NotCoercible: Statuses(0xC000, 0xC000, 400),
    Conflict: Statuses(0x0111, 0xC000, 409),
    Rejected: Statuses(0x0124, 0xC000, 409),
    Held: Statuses(0x0124, 0xC000, 409),
    Settled: Statuses(0x0110, 0xC000, 409),
    WorkitemRefused: Statuses(0x0110, 0xC000, 409),
    StepRefused: Statuses(0x0110, 0xC000, 409),
    WorklistRefused: Statuses(0x0110, 0xC000, 409),
    BadRequest: Statuses(0xC000, 0xA900, 400),
    UnsupportedQuery: Statuses(0xC000, 0xC000, 400),
    NotFound: Statuses(0x0112, 0xC000, 404),
    Gone: Statuses(0x0112, 0xC000, 410),
    ObjectMissing: Statuses(0x0110, 0xC000, 500),
    NotAcceptable: Statuses(0x0122, 0xC000, 406),
    CannotDecode: Statuses(0x0110, 0xC000, 406),
    Unavailable: Statuses(0xA700, 0xA700, 503),
    StoreFull: Statuses(0xA700, 0xA700, 507),
    StoreUnavailable: Statuses(0xA700, 0xA700, 503),
    IndexUnavailable: Statuses(0xA700, 0xA700, 503),
}


def statuses(error: BaseException) -> Statuses:
    """The row for `error`: that of its nearest ancestor in the table; an unforeseen exception is LightboxError's."""
    for ancestor in type(error).__mro__:
        if ancestor in STATUS:
            return STATUS[ancestor]
    return STATUS[LightboxError]
