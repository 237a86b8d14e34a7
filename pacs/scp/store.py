"""C-STORE (PS3.4 annex B, PS3.7 9.1.1): the data set goes as it comes into a spool, and into the archive from there."""

from __future__ import annotations

import time
from typing import Any, Final

import structlog

from pacs.dimse import Status
from pacs.scp.association import Association, Message
from pacs.scp.provider import Provider
from pacs.scp.transport import Ended
from storage import coercing, part10
from storage.coercing import Coercion
from storage.errors import LightboxError, NotDicom, NotStorable, statuses
from storage.spool import Spool
from storage.types import Source

_log = structlog.get_logger(__name__)
# An answer names so many of the attributes that were changed.
_MOST_OFFENDING: Final = 64


def answer(association: Association, message: Message, provider: Provider) -> None:
    """Store the instance and say 0x0000 when it is durable and found, or the error table's status and a comment.

    Whatever goes wrong on our side, the peer's data set is read to its end and answered: the next instance of the same
    association may well succeed.
    """
    begun = time.perf_counter()
    status, more, size = int(Status.SUCCESS), dict[str, Any](), 0
    try:
        with provider.archive.spool() as spool:
            _receive(association, message, spool)
            size = spool.size
            status, more = _ingest(association, message, provider, spool)
    except Ended:
        raise
    except LightboxError as error:
        status, more = statuses(error).store, {"ErrorComment": comment(error)}
        _refused(association, message, status, error)
    except Exception as error:  # noqa: BLE001
        status, more = statuses(error).store, {"ErrorComment": "an error of the archive; its log says more"}
        _log.exception("store.failed", calling_ae=association.peer.calling_ae, address=association.peer.address)
    instance = message.command.get("AffectedSOPInstanceUID") or None
    association.respond(message, status, AffectedSOPInstanceUID=instance, **more)
    provider.observer.stored(status, time.perf_counter() - begun, size)


def comment(error: LightboxError) -> str:
    """An Error Comment (0000,0902): LO has no backslash; `dimse.respond` cuts it to length."""
    return str(error).replace("\\", "/")


def _receive(association: Association, message: Message, spool: Spool) -> None:
    """A Part 10 file in the making: meta information of ours, then the data set's bytes as they are."""
    if not message.data_pending:
        raise NotDicom("the C-STORE command came without a data set; send one")
    command, calling_ae = message.command, association.peer.calling_ae
    spool.write(
        part10.file_meta(
            command.get("AffectedSOPClassUID", ""),
            command.get("AffectedSOPInstanceUID", ""),
            message.context.transfer_syntax,
            # An escaped title is for logs; AE has no backslash (PS3.5 6.2).
            source_ae=calling_ae if "\\" not in calling_ae else "",
        )
    )
    write = spool.write
    for piece in association.data(message):
        write(piece)


def _ingest(association: Association, message: Message, provider: Provider, spool: Spool) -> tuple[int, dict[str, Any]]:
    """The status of success, and what belongs to it."""
    sop_class, instance = (message.command.get(f"AffectedSOP{what}UID", "") for what in ("Class", "Instance"))
    if not sop_class or not instance:
        raise NotStorable("the command has no Affected SOP Class or Instance UID; name the instance")
    peer = association.peer
    source = Source("dimse", calling_ae=peer.calling_ae, called_ae=peer.called_ae, address=peer.address)
    if association.coercion is not None:
        return _coerced(association.coercion, provider, spool, source, (sop_class, instance))
    provider.archive.ingest(spool, source, expect_sop=(sop_class, instance))
    return Status.SUCCESS, {}


def _coerced(
    coercion: Coercion, provider: Provider, spool: Spool, source: Source, sop: tuple[str, str]
) -> tuple[int, dict[str, Any]]:
    """Store what the policies make of it: a warning says what they have changed (PS3.4 B.2.3)."""
    done = coercing.ingest(provider.archive, spool, source, coercion, expect_sop=sop)
    if coercion.silent or not (done.tags or done.deidentified):
        return Status.SUCCESS, {}
    if done.deidentified:
        return Status.COERCION, {"ErrorComment": "the instance was de-identified, and has other UIDs"}
    return Status.COERCION, {"OffendingElement": done.tags[:_MOST_OFFENDING], "ErrorComment": "attributes were coerced by the rules of an AE title"}


def _refused(association: Association, message: Message, status: int, error: LightboxError) -> None:
    _log.warning(
        "store.refused",
        status=f"{status:04X}",
        reason=str(error),
        instance=message.command.get("AffectedSOPInstanceUID", ""),
        calling_ae=association.peer.calling_ae,
        address=association.peer.address,
    )
