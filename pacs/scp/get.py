"""C-GET (PS3.4 C.4.3, PS3.7 9.1.3): instances go out as C-STORE on the very association that asks for them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

from pacs.dimse import Status
from pacs.scp.association import Association, Message
from pacs.scp.provider import Provider
from pacs.scp.sop_classes import Kind, kind_of
from pacs.scp.suboperations import Retrieve, Send
from pacs.scu.sources import Stored
from pacs.scu.storing import Sender
from storage.index.ae import ae_title_of
from storage.transfer_syntaxes import lookup


def answer(association: Association, message: Message, provider: Provider) -> None:
    """Send what is asked for, with a pending response behind each instance, and a last one that says how it ended."""
    _Get(association, message, provider).run()


class _Get(Retrieve):
    """One C-GET."""

    operation = "C-GET"

    def sending(self, kinds: Iterable[tuple[str, str]]) -> AbstractContextManager[Send]:
        contexts = (one for one in self.association.contexts.values() if one.peer_provides)
        storing = (one for one in contexts if kind_of(one.abstract_syntax) is Kind.STORAGE)
        # What it likes best it says by its contexts; only what it may be given with loss is for an administrator to say.
        known = ae_title_of(self.provider.archive.index, self.association.peer.calling_ae)
        allowed = tuple(uid for uid in (known.syntaxes if known else ()) if lookup(uid).lossy)
        return nullcontext(Sender(self.association, Stored(self.provider.archive), storing, allowed).send)

    def progress(self) -> None:
        """Goes out together with the next instance."""
        self.association.respond_later(self.message, Status.PENDING, **self.counts.elements(remaining=True))
