"""C-GET (PS3.4 C.4.3, PS3.7 9.1.3): instances go out as C-STORE on the very association that asks for them."""

from __future__ import annotations

import time

import structlog

from pacs.dimse import Status
from pacs.scp.association import Association, Message
from pacs.scp.provider import Provider
from pacs.scp.retrieval import understand
from pacs.scp.selection import Selection, select
from pacs.scp.sop_classes import Kind, kind_of
from pacs.scp.suboperations import Counts, identifier_of, refusal, respond_finally, respond_refused
from pacs.scp.transport import Ended
from pacs.scu.storing import Sender
from storage.errors import LightboxError

_log = structlog.get_logger(__name__)


def answer(association: Association, message: Message, provider: Provider) -> None:
    """Send what is asked for, with a pending response behind each instance, and a last one that says how it ended."""
    begun = time.perf_counter()
    get = _Get(association, message, provider)
    status = get.run()
    provider.observer.retrieved("C-GET", status, time.perf_counter() - begun, get.counts.completed)


class _Get:
    """One C-GET; `counts` tell how far it came."""

    def __init__(self, association: Association, message: Message, provider: Provider) -> None:
        self._association = association
        self._message = message
        self._provider = provider
        self.counts = Counts(0)

    def run(self) -> int:
        """Send the instances and the last response; gives its status."""
        try:
            selection = self._selection()
            self.counts.total = selection.kinds().total()
        except Ended:
            raise
        except LightboxError as error:
            self._tell("get.refused", refusal(error)[0], str(error))
            return respond_refused(self._association, self._message, error)
        except Exception as error:  # noqa: BLE001
            _log.exception("get.failed", address=self._association.peer.address)
            return respond_refused(self._association, self._message, error)
        cancelled = self._send_all(selection)
        status = respond_finally(self._association, self._message, self.counts, cancelled=cancelled)
        if self.counts.failed:
            self._tell("get.incomplete", status, self.counts.reason)
        return status

    def _selection(self) -> Selection:
        provider, message = self._provider, self._message
        identifier = identifier_of(self._association, message, provider.settings.max_identifier_bytes)
        return select(provider.archive.index, understand(identifier.dataset, message.context.abstract_syntax))

    def _send_all(self, selection: Selection) -> bool:
        """Whether it was cancelled."""
        association, message, counts = self._association, self._message, self.counts
        storing = (
            one
            for one in association.contexts.values()
            if one.peer_provides and kind_of(one.abstract_syntax) is Kind.STORAGE
        )
        sender = Sender(association, self._provider.archive, storing)
        for one in selection.located():
            if association.cancelled(message):
                return True
            if self._provider.stopping.over:
                raise association.aborted("stopped", "the server is stopping")
            counts.add(one.uids.instance, sender.send(one))
            # Goes out together with the next instance.
            association.respond_later(message, Status.PENDING, **counts.elements(remaining=True))
        return association.cancelled(message)

    def _tell(self, event: str, status: int, reason: str) -> None:
        peer, counts = self._association.peer, self.counts
        _log.warning(
            event,
            status=f"{status:04X}",
            reason=reason,
            failed=counts.failed,
            completed=counts.completed,
            calling_ae=peer.calling_ae,
            address=peer.address,
        )
