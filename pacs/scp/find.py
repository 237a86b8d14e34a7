"""C-FIND of the patient root, study root and patient/study only models (PS3.4 C.4.1, PS3.7 9.1.2)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import structlog

from pacs.dimse import Status
from pacs.scp import query as queries
from pacs.scp.association import Association, Message
from pacs.scp.identifiers import Encoder
from pacs.scp.provider import Provider
from pacs.scp.query import AVAILABILITY, QUERY_LEVEL, RETRIEVE_AE_TITLE, Find, WrongLevel
from pacs.scp.store import comment
from pacs.scp.suboperations import identifier_of
from pacs.scp.transport import Ended
from storage.errors import LightboxError, UnsupportedQuery, statuses
from storage.types import Level, Query

_log = structlog.get_logger(__name__)


def answer(association: Association, message: Message, provider: Provider) -> None:
    """Answer with one pending response for each match, and a last one that says how it ended."""
    search = _Search(association, message, provider)
    begun = time.perf_counter()
    status, more = search.run()
    association.respond(message, status, **more)
    provider.observer.found(search.level, status, time.perf_counter() - begun, search.answers)


class _Search:
    """One C-FIND; `level` and `answers` tell how far it came."""

    def __init__(self, association: Association, message: Message, provider: Provider) -> None:
        self._association = association
        self._message = message
        self._provider = provider
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
        found = queries.understand(identifier, self._message.context, self._refuses)
        self.level = found.query.level
        status = Status.PENDING_WITHOUT_SOME_KEYS if found.some_unsupported else Status.PENDING
        pending = self._association.pending(self._message, status)
        encoder = Encoder(self._message.context.transfer_syntax, identifier.character_set)
        for one in self._matches(found):
            self.answers += 1
            if pending.add(encoder.encode(one)):
                return True
        return pending.flush()

    def _matches(self, found: Find) -> Iterator[dict[str, Any]]:
        """Each match as it goes out: what was asked for, and what the standard adds (PS3.4 C.4.1.1.3.2)."""
        added: dict[str, Any] = {
            QUERY_LEVEL: {"vr": "CS", "Value": [found.query.level.value]},
            RETRIEVE_AE_TITLE: {"vr": "AE", "Value": [self._provider.settings.ae_title]},
        }
        if found.query.level is not Level.PATIENT:
            added[AVAILABILITY] = {"vr": "CS", "Value": ["ONLINE"]}
        for match in self._provider.archive.index.find(found.query):
            yield {**found.complete(match), **added}

    def _refuses(self, query: Query) -> bool:
        """The index looks at a query when it is asked, and at the database only when answers are taken."""
        try:
            self._provider.archive.index.find(query)
        except UnsupportedQuery:
            return True
        return False

    def _tell(self, status: int, reason: str) -> None:
        peer = self._association.peer
        _log.warning(
            "find.refused", status=f"{status:04X}", reason=reason, calling_ae=peer.calling_ae, address=peer.address
        )
