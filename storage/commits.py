"""Group commit: whatever is waiting when a transaction can begin goes into it together."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from storage.errors import IndexUnavailable, LightboxError, Unavailable

# How long a transaction is put off for those who are nearly there. A transaction costs about as much, and one for
# four is hardly dearer than one for one; who is alone never waits.
LINGER_SECONDS = 0.002

# What must be held to commit.
Turn = Callable[[], contextlib.AbstractContextManager[None]]

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

    There is no thread of its own: the first caller to find no transaction running leads: it waits for its `turn` among
    processes, commits everything that is waiting by then, and wakes the others. Before that it lingers a moment for those
    who have said that they are `coming`.
    """

    def __init__(
        self,
        commit_many: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        turn: Turn = contextlib.nullcontext,
        largest: int = 64,
        linger_seconds: float = LINGER_SECONDS,
    ) -> None:
        self._commit_many = commit_many
        self._turn = turn
        self._largest = largest
        self._linger_seconds = linger_seconds
        lock = threading.Lock()
        self._condition = threading.Condition(lock)
        self._arrival = threading.Condition(lock)
        self._coming = 0
        self._waiting: list[_Ticket[Item, Result]] = []
        self._leading = False

    @contextlib.contextmanager
    def coming(self) -> Iterator[Callable[[Item], Result]]:
        """For a block in which an item is made ready: leaders linger for it until it is brought, or the block is left.

        Gives the function to commit it with, to be called in the block and at most once.
        """
        with self._condition:
            self._coming += 1
        brought = False

        def bring(item: Item) -> Result:
            nonlocal brought
            brought = True
            return self._join(item, coming=1)

        try:
            yield bring
        finally:
            if not brought:
                with self._condition:
                    self._coming -= 1
                    self._arrival.notify()

    def __call__(self, item: Item) -> Result:
        """Commit `item`; returns its result or raises what its transaction raised."""
        return self._join(item, coming=0)

    def _join(self, item: Item, coming: int) -> Result:
        ticket: _Ticket[Item, Result] = _Ticket(item)
        with self._condition:
            self._coming -= coming
            self._waiting.append(ticket)
            self._arrival.notify()
        while not ticket.done:
            if self._leads(ticket):
                self._lead()
        if ticket.error is not None:
            raise ticket.error
        assert ticket.result is not None
        return ticket.result

    def _leads(self, ticket: _Ticket[Item, Result]) -> bool:
        """Wait until another has settled `ticket` (False), or until it is its caller's turn to lead (True)."""
        with self._condition:
            while self._leading and not ticket.done:
                self._condition.wait()
            if ticket.done:
                return False
            self._leading = True
            return True

    def _lead(self) -> None:
        batch: list[_Ticket[Item, Result]] = []
        try:
            self._linger()
            with self._turn():
                batch = self._take()
                self._commit(batch)
        except Exception as error:  # noqa: BLE001 - handed to its callers, never swallowed
            # The turn did not come, and those behind us have waited for it too.
            batch = batch or self._take()
            _fail(batch, error if isinstance(error, Unavailable) else _unforeseen(error))
        finally:
            with self._condition:
                self._leading = False
                for ticket in batch:
                    ticket.done = True
                    if ticket.result is None and ticket.error is None:
                        ticket.error = IndexUnavailable("the transaction was broken off; send again")
                self._condition.notify_all()

    def _linger(self) -> None:
        until = time.monotonic() + self._linger_seconds
        with self._condition:
            while self._coming and len(self._waiting) < self._largest:
                rest = until - time.monotonic()
                if rest <= 0 or not self._arrival.wait(rest):
                    return

    def _take(self) -> list[_Ticket[Item, Result]]:
        with self._condition:
            batch, self._waiting = self._waiting[: self._largest], self._waiting[self._largest :]
            return batch

    def _commit(self, batch: list[_Ticket[Item, Result]]) -> None:
        try:
            results = self._commit_many([ticket.item for ticket in batch])
        except Unavailable as error:
            # The database is away: every item fares alike.
            _fail(batch, error)
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


def _unforeseen(error: Exception) -> IndexUnavailable:
    return IndexUnavailable(f"the index could not be written to ({type(error).__name__}); send again later")


def _fail(batch: list[_Ticket[Item, Result]], error: Unavailable) -> None:
    """Each caller gets an exception of its own."""
    for ticket in batch:
        ticket.error = type(error)(*error.args)
