"""A transaction that is run again when it loses to another one, and looked up when its end was not seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from storage.errors import IndexUnavailable
from storage.index.database import CommitUnknown, Database, Rerun

Result = TypeVar("Result")
_RUNS = 5


def attempt(database: Database, work: Callable[[Connection], Result], happened: Callable[[], Result | None]) -> Result:
    """What `work` gives, committed. `happened` is asked when the connection broke in the commit: the result if there is one.

    Raises IndexUnavailable, and what `work` raises: then nothing of it was done.
    """
    for _ in range(_RUNS):
        try:
            with database.write() as connection:
                return work(connection)
        except Rerun:
            continue
        except CommitUnknown as unknown:
            database.reconnect()
            found = happened()
            if found is None:
                raise unknown.undone() from unknown
            return found
    raise IndexUnavailable("the transaction lost to others again and again; ask again later")
