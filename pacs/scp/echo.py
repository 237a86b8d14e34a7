"""C-ECHO (PS3.4 annex A, PS3.7 9.1.5): we are here."""

from __future__ import annotations

from pacs.dimse import Status
from pacs.scp.association import Association, Message
from pacs.scp.provider import Provider


def answer(association: Association, message: Message, _provider: Provider) -> None:
    """Success; a data set, which an echo has not got, makes it a mistyped argument (PS3.7 9.1.5.1.4)."""
    association.respond(message, Status.MISTYPED_ARGUMENT if message.data_pending else Status.SUCCESS)
