"""Group commit: whatever is waiting when a transaction can begin goes into it together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from storage.errors import LightboxError, Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Ticket(Generic[Item, Result]):
    """One caller's item and, once its transaction is over, what became of it."""

    __slots__ = ("done", "error", "item", "result")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.done = False
        self.result: Result | None = None
        self.error: BaseException | None = None


class GroupCommit(Generic[Item, Result]):
    """Turns `commit_many` (one transaction for many items) into a blocking call for one item.

    There is no thread of its own: the first caller to find no transaction running leads, commits everything that is
    waiting, and wakes the others. Under load batches grow by themselves; alone, a caller waits for nobody.
    """

    def __init__(self, commit_many: Callable[[Sequence[Item]], Sequence[Result]], *, largest: int = 64) -> None:
        self._commit_many = commit_many
        self._largest = largest
        self._condition = threading.Condition()
        self._waiting: list[_Ticket[Item, Result]] = []
        self._leading = False

    def __call__(self, item: Item) -> Result:
        """Commit `item`; returns its result or raises what its transaction raised."""
        ticket: _Ticket[Item, Result] = _Ticket(item)
        with self._condition:
            self._waiting.append(ticket)
        while not ticket.done:
            batch = self._lead_or_wait(ticket)
            if batch:
                self._settle(batch)
        if ticket.error is not None:
            raise ticket.error
        assert ticket.result is not None
        return ticket.result

    def _lead_or_wait(self, ticket: _Ticket[Item, Result]) -> list[_Ticket[Item, Result]]:
        with self._condition:
            while self._leading and not ticket.done:
                self._condition.wait()
            if ticket.done:
                return []
            self._leading = True
            batch, self._waiting = self._waiting[: self._largest], self._waiting[self._largest :]
            return batch

    def _settle(self, batch: list[_Ticket[Item, Result]]) -> None:
        try:
            self._commit(batch)
        finally:
            with self._condition:
                self._leading = False
                for ticket in batch:
                    ticket.done = True
                self._condition.notify_all()

    def _commit(self, batch: list[_Ticket[Item, Result]]) -> None:
        try:
            results = self._commit_many([ticket.item for ticket in batch])
        except Unavailable as error:
            # The database is away: every item fares alike, and each caller gets an exception of its own.
            for ticket in batch:
                ticket.error = type(error)(*error.args)
        except Exception as error:  # noqa: BLE001 - handed to its caller, never swallowed
            self._commit_singly(batch, error)
        else:
            for ticket, result in zip(batch, results, strict=True):
                ticket.result = result

    def _commit_singly(self, batch: list[_Ticket[Item, Result]], error: Exception) -> None:
        """One item that the database will not take must not cost its neighbours their success."""
        if len(batch) == 1:
            batch[0].error = error if isinstance(error, LightboxError) else LightboxError(f"the index refused the instance: {type(error).__name__}")
            batch[0].error.__cause__ = error
            return
        for ticket in batch:
            self._commit([ticket])
