"""Instances on their way from a request into the archive: spooled as they arrive, stored several at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from dicomweb import errors
from dicomweb.store_response import Failed, Outcome
from storage.archive import Archive
from storage.errors import LightboxError, NotDicom
from storage.ingest import Expect
from storage.scanner import scan
from storage.spool import Spool
from storage.types import Source, Stored


class Intake:
    """Instances on their way from a request into the archive: one being spooled, a few being stored.

    Blocking; used by one thread at a time. Memory does not grow with the request: `in_flight` bounds the spools.
    """

    def __init__(
        self, archive: Archive, source: Source, study: str | None, in_flight: int, expect: Expect | None = None
    ) -> None:
        self._archive = archive
        self._source = source
        # What every instance must be: what the path of the request says.
        self._expected: dict[str, Any] = {"expect_study": study, **({"expect": expect} if expect else {})}
        self._in_flight = in_flight
        self._spool: Spool | None = None
        self._error: LightboxError | None = None
        # The latest that is complete: stored by whoever finishes, which saves a single instance another thread.
        self._complete: Spool | None = None
        self._storing: deque[tuple[Spool, Future[Stored]]] = deque()
        self._outcomes: list[Outcome] = []

    def begin(self) -> None:
        """An instance begins."""
        self.hand_on()
        self._spool, self._error = self._archive.spool(), None

    def write(self, data: bytes | memoryview) -> None:
        """Its bytes. What the spool refuses is this instance's failure; the rest of its bytes is dropped."""
        if self._spool is None:
            self.begin()
        if self._spool is None or self._error is not None:
            return
        try:
            self._spool.write(data)
        except LightboxError as error:
            self._error = error

    def end(self) -> None:
        """It is complete; it is stored when another begins, or at the end."""
        spool, self._spool = self._spool, None
        if spool is None:
            return
        if self._error is None:
            self._complete = spool
        else:
            self._settle_all()
            self._outcomes.append(_failed(spool, self._error))
            spool.close()

    def hand_on(self) -> None:
        """Have what is complete stored meanwhile, because more is to come; waits only when too many are on their way."""
        spool, self._complete = self._complete, None
        if spool is None:
            return
        self._storing.append((spool, self._archive.ingest.submit(spool, self._source, **self._expected)))
        while len(self._storing) >= self._in_flight:
            self._settle()

    def fail(self, failed: Failed) -> None:
        """An instance of which nothing could be spooled."""
        self._settle_all()
        self._outcomes.append(failed)

    def finish(self) -> list[Outcome]:
        """The outcome of every complete instance, in the order of arrival."""
        spool, self._complete = self._complete, None
        # Before the others are waited for, so that they can share a transaction.
        last = [] if spool is None else [self._outcome(spool, partial(self._archive.ingest, spool, self._source, **self._expected))]
        self._settle_all()
        self._outcomes += last
        return self._outcomes

    def close(self) -> None:
        """Let go of everything; what is being stored is waited for, because it holds its spool."""
        self._settle_all()
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def _settle_all(self) -> None:
        self.hand_on()
        while self._storing:
            self._settle()

    def _settle(self) -> None:
        spool, future = self._storing.popleft()
        self._outcomes.append(self._outcome(spool, future.result))

    def _outcome(self, spool: Spool, result: Callable[[], Stored]) -> Outcome:
        try:
            return result()
        except Exception as error:  # noqa: BLE001 - one instance's failure is its answer, not its neighbours'
            errors.note(error, "store")
            return _failed(spool, error)
        finally:
            spool.close()


def _failed(spool: Spool, error: BaseException) -> Failed:
    """The failure with the UIDs of the data set where these can be read (PS3.18 10.5.3.2)."""
    if isinstance(error, NotDicom) or not spool.size:
        return Failed(error)
    try:
        found = scan(spool.view())
    except LightboxError:
        return Failed(error)
    return Failed(error, found.sop_class_uid, found.uids.instance)
