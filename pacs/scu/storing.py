"""C-STORE of stored instances to a peer (PS3.4 annex B): the presentation context for each, and its bytes as they lie in the store.

An instance goes out in the transfer syntax in which it is stored where the peer takes that, and else in the first into which it
can be brought without loss. Where neither is to be had it is not sent, unless an administrator has named a lossy transfer syntax
among those of the peer: then it is another instance that has lost something, and says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import chain, islice
from typing import Any, Final

import structlog

from pacs.dimse import CommandField, Status
from pacs.scp.association import Association
from pacs.scp.negotiation import Context
from pacs.scp.reasons import answered, name_of
from pacs.scp.transport import Ended
from pacs.scu.sources import Source
from storage.errors import LightboxError, NotAcceptable, statuses
from storage.transfer_syntaxes import lookup
from storage.types import Located

_log = structlog.get_logger(__name__)
# Pieces of the next instance that are read, or made, while the peer is at the one before: a header and its frame.
_READ_AHEAD: Final = 2
# Warnings that are not of the form Bxxx (PS3.7 annex C.4).
_WARNINGS: Final = frozenset({0x0001, 0x0107, 0x0116})


class Result(Enum):
    """What a sub-operation counts as (PS3.4 C.4.2.3)."""

    COMPLETED = auto()
    WARNING = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the C-STORE of one instance ended: the peer's status, or ours where it was not sent; `reason` of a failure."""

    status: int
    reason: str = ""
    # Whether the status is what the peer has answered, and its Error Comment: that may name a patient, and is not for logs.
    from_peer: bool = False
    comment: str = ""

    @property
    def told(self) -> str:
        """The reason and the peer's own words, for people."""
        return "; ".join(part for part in (self.reason, self.comment) if part)

    @property
    def result(self) -> Result:
        if self.status == Status.SUCCESS:
            return Result.COMPLETED
        if self.status >> 12 == 0xB or self.status in _WARNINGS:
            return Result.WARNING
        return Result.FAILED


class Sender:
    """Sends stored instances on one association, on those of its presentation contexts on which the peer stores."""

    def __init__(
        self,
        association: Association,
        source: Source,
        contexts: Iterable[Context],
        preferred: tuple[str, ...] = (),
    ) -> None:
        """`preferred`: transfer syntaxes that the peer likes better than the stored one, the best first.

        What is lossy among them is made where nothing else is left.
        """
        self._association = association
        self._source = source
        self._preferred = preferred
        # The instance whose beginning has been read already, and how it goes on.
        self._ahead: tuple[str, Context, Iterator[bytes]] | None = None
        self._contexts: dict[str, dict[str, Context]] = {}
        for context in contexts:
            by_syntax = self._contexts.setdefault(context.abstract_syntax, {})
            by_syntax.setdefault(context.transfer_syntax, context)

    def send(
        self, one: Located, following: Located | None = None, originator: Mapping[str, Any] | None = None
    ) -> Outcome:
        """C-STORE of one instance; `originator` are further elements of the command: its priority, or the C-MOVE behind it.

        `following` is what will be sent next: its beginning is read while the peer is at this one. What cannot be sent is a
        failed outcome; Ended is for an association that is over.
        """
        try:
            context, data = self._taken(one)
            message_id = self._association.begin(
                context,
                CommandField.C_STORE,
                data,
                AffectedSOPClassUID=one.sop_class_uid,
                AffectedSOPInstanceUID=self._source.uid(one, context.transfer_syntax),
                **{"Priority": 0, **(originator or {})},
            )
            if following is not None:
                self._prepare(following)
            response = self._association.response_to(message_id)
        except Ended:
            raise
        except LightboxError as error:
            return self._failed(one, statuses(error).store, str(error))
        except Exception as error:  # noqa: BLE001
            _log.exception("send.failed", instance=one.uids.instance)
            return Outcome(statuses(error).store, "an error of the archive; its log says more")
        self._association.drain(response)
        outcome = Outcome(response.status, from_peer=True)
        if outcome.result is Result.FAILED:
            refused = self._failed(one, response.status, f"the peer answered {response.status:04X}: {answered(response.status)}")
            return replace(refused, from_peer=True, comment=str(response.command.get("ErrorComment", "")))
        return outcome

    def _prepare(self, one: Located) -> None:
        """Read the beginning of an instance; what goes wrong is told when it is its turn."""
        try:
            context = self._context(one)
            data = self._data(one, context.transfer_syntax)
            begun = chain(list(islice(data, _READ_AHEAD)), data)
        except Exception:  # noqa: BLE001 - tried, and told, again when it is its turn
            return
        self._ahead = one.uids.instance, context, begun

    def _taken(self, one: Located) -> tuple[Context, Iterator[bytes]]:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == one.uids.instance:
            return ahead[1], ahead[2]
        context = self._context(one)
        return context, self._data(one, context.transfer_syntax)

    def _context(self, one: Located) -> Context:
        accepted = self._contexts.get(one.sop_class_uid)
        if not accepted:
            if not self._contexts:
                raise NotAcceptable("propose storage SOP classes with the role of SCP (PS3.7 D.3.3.4): without, nothing can be sent")
            raise NotAcceptable(f"the peer accepts no context for {name_of(one.sop_class_uid)}")
        stored = one.transfer_syntax_uid
        first = next((syntax for syntax in self._preferred if syntax in accepted), stored)
        if first == stored and stored in accepted:
            return accepted[stored]
        targets = self._source.targets(one)
        for syntax in (*self._preferred, *targets):
            if syntax in accepted and syntax in targets:
                return accepted[syntax]
        allowed = [syntax for syntax in self._preferred if syntax in accepted and syntax not in targets and lookup(syntax).lossy]
        with_loss = self._source.with_loss(one) if allowed else ()
        for syntax in allowed:
            if syntax in with_loss:
                _log.info("send.lossy", instance=one.uids.instance, syntax=syntax, to=self._association.peer.called_ae)
                return accepted[syntax]
        name = lookup(stored).name
        raise NotAcceptable(f"the peer takes no transfer syntax into which {name} can be brought without loss")

    def _data(self, one: Located, syntax: str) -> Iterator[bytes]:
        return self._source.data(one, syntax)

    def _failed(self, one: Located, status: int, reason: str) -> Outcome:
        _log.warning(
            "send.refused",
            instance=one.uids.instance,
            status=f"{status:04X}",
            reason=reason,
            to=self._association.peer.called_ae,
        )
        return Outcome(status, reason)
