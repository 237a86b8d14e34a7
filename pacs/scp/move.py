"""C-MOVE (PS3.4 C.4.2, PS3.7 9.1.4): instances go out as C-STORE on associations of our own to a node that the request names."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

from pacs.ae_titles import own_titles
from pacs.dimse import Status
from pacs.scp.association import Association, Message
from pacs.scp.provider import Provider
from pacs.scp.suboperations import Refusal, Retrieve, RetrieveStatus, Send
from pacs.scp.transport import Stopping
from pacs.scu.associating import Destination
from pacs.scu.delivery import Delivery
from pacs.scu.nodes import destination_of
from pacs.scu.sources import Stored
from storage.index.ae import ae_title_of

# Pending responses are for people who wait, and may be left out (PS3.4 C.4.2.3.1): one for each instance of a fast move costs a
# fifth of its time.
_PROGRESS_SECONDS = 0.1


class _OnlyWhenOver(Stopping):
    """Of a stopping server, an association to a destination heeds only the end of patience: until then the move goes on."""

    __slots__ = ("_stopping",)

    def __init__(self, stopping: Stopping) -> None:
        self._stopping = stopping
        self.begun = False

    @property
    def over(self) -> bool:  # type: ignore[override]
        return self._stopping.over


def answer(association: Association, message: Message, provider: Provider) -> None:
    """Send what is asked for to the destination, telling how it goes, and at the end how it went."""
    _Move(association, message, provider).run()


class _Move(Retrieve):
    """One C-MOVE."""

    operation = "C-MOVE"
    _told = float("-inf")

    def sending(self, kinds: Iterable[tuple[str, str]]) -> AbstractContextManager[Send]:
        return self._delivering(self._destination(), kinds)

    @contextmanager
    def _delivering(self, destination: Destination, kinds: Iterable[tuple[str, str]]) -> Iterator[Send]:
        stopping = _OnlyWhenOver(self.provider.stopping)
        source, originator = Stored(self.provider.archive), self._originator()
        with Delivery(source, destination, kinds, originator=originator, stopping=stopping) as delivery:
            yield delivery.send

    def progress(self) -> None:
        now = time.monotonic()
        if now - self._told < _PROGRESS_SECONDS:
            return
        self._told = now
        self.association.respond(self.message, Status.PENDING, **self.counts.elements(remaining=True))

    def _destination(self) -> Destination:
        """Read anew for each move: a node that was just added is known."""
        title = str(self.message.command.get("MoveDestination") or "")
        settings = self.provider.settings
        found = destination_of(
            self.provider.archive.index,
            title,
            calling_ae=settings.ae_title,
            credentials=settings.credentials,
            answer_seconds=settings.answer_seconds,
            journal=self.provider.journal,
        )
        if found is None:
            raise Refusal(RetrieveStatus.UNKNOWN_DESTINATION, self._why_not(title))
        return found

    def _why_not(self, title: str) -> str:
        index = self.provider.archive.index
        if any(own.title == title for own in own_titles(index, self.provider.settings.ae_title)):
            return f"{title} is this archive itself, which has it already"
        known = ae_title_of(index, title)
        if known is not None and known.url:
            return f"{title} takes no C-STORE, but STOW-RS: send it with pacs send"
        what = "of AE {} no host and port are known" if known else "unknown AE {}"
        return f"{what.format(title)}: register it with pacs ae add {title} HOST PORT"

    def _originator(self) -> dict[str, object]:
        """PS3.7 9.1.1.1: who has asked for it, and by which message."""
        title = self.association.peer.calling_ae
        return {
            "MoveOriginatorApplicationEntityTitle": title if "\\" not in title else None,
            "MoveOriginatorMessageID": self.message.id,
        }
