"""C-FIND (PS3.7 9.1.2): how any query is answered, and the patient root, study root and patient/study only models (PS3.4 C.4.1)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import structlog

from pacs.dimse import Status
from pacs.scp import non_patient
from pacs.scp import query as queries
from pacs.scp.association import Association, Message
from pacs.scp.identifiers import Encoder, Identifier
from pacs.scp.provider import Provider
from pacs.scp.query import AVAILABILITY, QUERY_LEVEL, RETRIEVE_AE_TITLE, Find, WrongLevel
from pacs.scp.sop_classes import SOP_CLASSES
from pacs.scp.store import comment
from pacs.scp.suboperations import identifier_of
from pacs.scp.transport import Ended
from storage.errors import LightboxError, UnsupportedQuery, statuses
from storage.types import Dataset, Level, Query

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """A query understood: `level` for the figures, whether some of its keys are not supported, and its answers, which are
    looked for while they are taken."""

    level: str
    some_unsupported: bool
    answers: Iterable[Dataset]


# From the identifier of a query to what it asks for. Raises what `storage.errors` has for one that is not understood.
Understand: TypeAlias = Callable[[Identifier, Association, Message, Provider], Asked]


def answering(understand: Understand) -> Callable[[Association, Message, Provider], None]:
    """What the table of services wants: one pending response for each match, and a last one that says how it ended."""

    def answer(association: Association, message: Message, provider: Provider) -> None:
        search = _Search(association, message, provider, understand)
        begun = time.perf_counter()
        status, more = search.run()
        association.respond(message, status, **more)
        provider.observer.found(search.level, status, time.perf_counter() - begun, search.answers)

    return answer


class _Search:
    """One C-FIND; `level` and `answers` tell how far it came."""

    def __init__(self, association: Association, message: Message, provider: Provider, understand: Understand) -> None:
        self._association = association
        self._message = message
        self._provider = provider
        self._understand = understand
        self.level = ""
        self.answers = 0

    def run(self) -> tuple[int, dict[str, Any]]:
        """Send the matches; gives the status of the last response and what else it says."""
        try:
            return (Status.CANCEL if self._send_all() else Status.SUCCESS), {}
        except Ended:
            raise
        except LightboxError as error:
            status = statuses(error).query
            self._tell(status, str(error))
            more: dict[str, Any] = {"ErrorComment": comment(error)}
            if isinstance(error, WrongLevel):
                more["OffendingElement"] = (int(QUERY_LEVEL, 16),)
            return status, more
        except Exception as error:  # noqa: BLE001
            _log.exception("find.failed", address=self._association.peer.address)
            return statuses(error).query, {"ErrorComment": "an error of the archive; its log says more"}

    def _send_all(self) -> bool:
        """Whether it was cancelled."""
        identifier = identifier_of(self._association, self._message, self._provider.settings.max_identifier_bytes)
        asked = self._understand(identifier, self._association, self._message, self._provider)
        self.level = asked.level
        status = Status.PENDING_WITHOUT_SOME_KEYS if asked.some_unsupported else Status.PENDING
        pending = self._association.pending(self._message, status)
        encoder = Encoder(self._message.context.transfer_syntax, identifier.character_set)
        for one in asked.answers:
            self.answers += 1
            if pending.add(encoder.encode(one)):
                return True
        if encoder.odd:
            _log.warning("find.values_left_empty", attributes=sorted(encoder.odd), calling_ae=self._association.peer.calling_ae)
        return pending.flush()

    def _tell(self, status: int, reason: str) -> None:
        peer = self._association.peer
        _log.warning(
            "find.refused", status=f"{status:04X}", reason=reason, calling_ae=peer.calling_ae, address=peer.address
        )


def stored(identifier: Identifier, association: Association, message: Message, provider: Provider) -> Asked:
    """A query for what is stored, at the level that it names, or of a model without levels."""
    about = SOP_CLASSES[message.context.abstract_syntax].about
    if about:
        among = non_patient.understand(identifier, about, provider.archive.index)
        return Asked(non_patient.LEVEL, among.some_unsupported, among.answers)
    begun: dict[Query, Iterator[Dataset]] = {}

    def refuses(query: Query) -> bool:
        """The index looks at a query when it is asked, and at the database only when answers are taken."""
        try:
            begun[query] = provider.archive.index.find(query)
        except UnsupportedQuery:
            return True
        return False

    found = queries.understand(identifier, message.context, refuses)
    matches = begun.get(found.query) or provider.archive.index.find(found.query)
    return Asked(found.query.level, found.some_unsupported, _answers(found, association.own_ae, matches))


def _answers(found: Find, own_ae: str, matches: Iterator[Dataset]) -> Iterator[dict[str, Any]]:
    """Each match as it goes out: what was asked for, and what the standard adds (PS3.4 C.4.1.1.3.2)."""
    added: dict[str, Any] = {
        QUERY_LEVEL: {"vr": "CS", "Value": [found.query.level.value]},
        RETRIEVE_AE_TITLE: {"vr": "AE", "Value": [own_ae]},
    }
    if found.query.level is not Level.PATIENT:
        added[AVAILABILITY] = {"vr": "CS", "Value": ["ONLINE"]}
    for match in matches:
        yield {**found.complete(match), **added}

