"""Storage commitment that we have asked other archives for: what was asked under which Transaction UID, and what came of it.

A request is here before it is sent, so that its report is known whenever and wherever it comes: on the association that asked,
or on one that the other archive opens to any process of ours (PS3.4 J.3.3).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from pydicom.uid import generate_uid
from sqlalchemy import Row, delete, insert, select, update

from storage.commitment import Reference
from storage.index import Index, rows
from storage.index.tables import job
from storage.index.transfer_tables import commitment_sent, transfer
from storage.jobs import WAITING

# How long a request is known, and its report taken.
KEPT_SECONDS: Final = 30 * 86_400.0
_AT_A_TIME: Final = 500


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: `keys` of the instances where a transfer asked. `committed` and `failed` (with Failure Reason) are the UIDs of
    its report; None while there is none. `at` is in seconds since 1970."""

    uid: str
    transfer: int
    node: str
    references: tuple[Reference, ...]
    keys: tuple[int, ...]
    committed: frozenset[str] | None
    failed: Mapping[str, int]
    tries: int
    at: float

    @property
    def missing(self) -> tuple[int, ...]:
        """Keys of what the other archive does not commit to."""
        committed = self.committed or frozenset()
        return tuple(key for one, key in zip(self.references, self.keys, strict=True) if one.sop_instance_uid not in committed)


class SentCommitments:
    """The requests of one index. Thread-safe. `clock` gives seconds since 1970."""

    def __init__(self, index: Index, *, clock: Callable[[], float] = time.time) -> None:
        self._database = index.database
        self._clock = clock

    def begin(self, node: str, asked: Sequence[tuple[Reference, int]], *, transfer: int = 0, tries: int = 1) -> str:
        """Keep a request that is about to be sent; its Transaction UID. `transfer` 0: of no transfer."""
        uid = str(generate_uid(prefix=None))
        content = [[one.sop_class_uid, one.sop_instance_uid, key] for one, key in asked]
        values = {
            "uid": uid,
            "transfer_pk": transfer,
            "node": node,
            "asked": rows.compress(orjson.dumps(content)),
            "tries": tries,
            "asked_at": self._now(),
        }
        with self._database.write() as connection:
            connection.execute(insert(commitment_sent).values(values))
        return uid

    def report(self, uid: str, committed: Collection[str], failed: Mapping[str, int]) -> bool:
        """A report has come: the first one counts, and its transfer goes on at once. False: nobody asked under that UID."""
        result = rows.compress(orjson.dumps([sorted(committed), dict(failed)]))
        own = commitment_sent.c.uid == uid
        with self._database.write() as connection:
            row = connection.execute(select(commitment_sent.c.transfer_pk).where(own)).first()
            if row is None:
                return False
            connection.execute(update(commitment_sent).where(own, commitment_sent.c.result.is_(None)).values(result=result))
            of_transfer = select(transfer.c.job_pk).where(transfer.c.pk == row.transfer_pk).scalar_subquery()
            waits = update(job).where(job.c.pk == of_transfer, job.c.state == WAITING)
            connection.execute(waits.values(not_before=self._now()))
        return True

    def of(self, transfer: int) -> list[Asked]:
        """The requests of a transfer, the oldest first."""
        return self._read(commitment_sent.c.transfer_pk == transfer)

    def one(self, uid: str) -> Asked | None:
        """One request, or None."""
        return next(iter(self._read(commitment_sent.c.uid == uid)), None)

    def forget(self, uids: Collection[str]) -> None:
        """These are over."""
        with self._database.write() as connection:
            connection.execute(delete(commitment_sent).where(commitment_sent.c.uid.in_(uids)))

    def renew(self, uids: Collection[str]) -> None:
        """These were given up, and are to be asked for anew when somebody has the transfer tried again."""
        due = update(commitment_sent).where(commitment_sent.c.uid.in_(uids))
        with self._database.write() as connection:
            connection.execute(due.values(tries=0, asked_at=0))

    def tidy(self) -> int:
        """Forget what was asked long ago; how many, some at a time."""
        before = self._now() - round(KEPT_SECONDS * 1e6)
        # What was given up has no time, and stays as long as its transfer does.
        gone = ~select(transfer.c.pk).where(transfer.c.pk == commitment_sent.c.transfer_pk).exists()
        old = select(commitment_sent.c.uid).where(commitment_sent.c.asked_at < before, gone).limit(_AT_A_TIME)
        with self._database.write() as connection:
            uids = connection.scalars(old).all()
            connection.execute(delete(commitment_sent).where(commitment_sent.c.uid.in_(uids)))
        return len(uids)

    def _read(self, condition: Any) -> list[Asked]:
        query = select(commitment_sent).where(condition).order_by(commitment_sent.c.asked_at, commitment_sent.c.uid)
        with self._database.read() as connection:
            return [_asked(row) for row in connection.execute(query)]

    def _now(self) -> int:
        return round(self._clock() * 1e6)


def _asked(row: Row[Any]) -> Asked:
    content = orjson.loads(rows.decompress(row.asked))
    committed, failed = orjson.loads(rows.decompress(row.result)) if row.result else (None, {})
    return Asked(
        uid=row.uid,
        transfer=row.transfer_pk,
        node=row.node,
        references=tuple(Reference(sop_class, uid) for sop_class, uid, _ in content),
        keys=tuple(key for *_, key in content),
        committed=None if committed is None else frozenset(committed),
        failed=failed,
        tries=row.tries,
        at=row.asked_at / 1e6,
    )
