"""From the bytes of an HL7 message to those of its acknowledgement: what it asks for is done, or refused in words."""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol

import structlog

from pacs.hl7 import messages, orders
from pacs.hl7.messages import Head, Message, Rejected
from storage.errors import BadRequest, LightboxError, WorklistRefused
from storage.index import Index
from storage.worklist_orders import Orders

_log = structlog.get_logger(__name__)
_FAILURE: Final = "an error of the archive; its log says more"


class Observer(Protocol):
    """Who counts."""

    def acknowledged(self, message: str, code: str, seconds: float) -> None:
        """A message was answered; its type is `other` where it is none that is taken."""


class Receiver:
    """Does what messages ask for. Thread-safe. `clock` gives seconds since 1970."""

    def __init__(
        self, index: Index, observer: Observer | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._observer = observer
        self._orders = Orders(index, clock=clock)
        self._clock = clock
        self._numbers = itertools.count(1)

    def receive(self, raw: bytes, address: str = "") -> bytes:
        """The acknowledgement of a message: AA when what it asks for is durable, AE or AR with the reason when it is not."""
        begun, head = time.perf_counter(), messages.head_of(raw)
        code, acknowledgement = self._received(raw, head, address)
        if self._observer is not None:
            kind = f"{head.kind}^{head.event}"
            self._observer.acknowledged(kind if kind in orders.TAKEN else "other", code, time.perf_counter() - begun)
        return acknowledgement

    def _received(self, raw: bytes, head: Head, address: str) -> tuple[str, bytes]:
        try:
            message = Message(raw)
            touched = self._orders.apply(hashlib.sha256(raw).hexdigest(), orders.changes_of(message))
        except Rejected as refused:
            return self._refused(head, refused, address)
        except BadRequest as error:
            return self._refused(head, Rejected(102, orders.with_sources(str(error)), application=True), address)
        except WorklistRefused as error:
            return self._refused(head, Rejected(205, str(error), application=True), address)
        except LightboxError as error:
            return self._refused(head, Rejected(207, str(error), application=True), address)
        except Exception:  # noqa: BLE001 - the outermost place: answered, and logged without the message
            _log.exception("hl7.failed", message=f"{head.kind}^{head.event}", address=address)
            return self._refused(head, Rejected(207, _FAILURE, application=True), address)
        done = "again" if touched is None else "done"
        _log.info("hl7.received", message=f"{head.kind}^{head.event}", what=done, entries=touched or 0, address=address)
        return "AA", self._answer(head, "AA")

    def too_long(self, head: bytes, limit: int, address: str = "") -> bytes:
        """The refusal of a message that is over the limit, of which this is the beginning."""
        refused = Rejected(207, f"the message is over the limit of {limit} bytes")
        return self._refused(messages.head_of(head), refused, address)[1]

    def _refused(self, head: Head, refused: Rejected, address: str) -> tuple[str, bytes]:
        code = "AE" if refused.application else "AR"
        _log.warning("hl7.refused", message=f"{head.kind}^{head.event}", code=code, reason=str(refused), address=address)
        return code, self._answer(head, code, refused)

    def _answer(self, head: Head, code: str, refused: Rejected | None = None) -> bytes:
        now = datetime.fromtimestamp(self._clock())
        control_id = f"{now:%y%m%d%H%M%S}{os.getpid() % 1000:03d}{next(self._numbers) % 100_000:05d}"
        return messages.acknowledgement(head, code, control_id, f"{now:%Y%m%d%H%M%S}", refused)
