"""Requests for storage commitment whose result is asked for again (PS3.18 13): what was asked, and what came of it.

A request and the job that verifies it are written in one transaction: no crash loses it, and no result is said of it twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import astuple
from typing import Final

import orjson
from sqlalchemy import delete, insert, select, update

from storage.archive import Archive
from storage.commitment import Checked, Failure, Reference, verify
from storage.errors import NotFound
from storage.index import Index, rows
from storage.index.add import job_values
from storage.index.inserting import insert_into
from storage.index.tables import commitment_request, job
from storage.jobs import WAITING

# The job that verifies one.
KIND: Final = "verify-commitment"
# A request that is verified at once is a worker's when that has not come to an end by then.
_LEASE_SECONDS: Final = 120.0
_BATCH: Final = 500


class CommitmentRequests:
    """The requests of one index, by their Transaction UID. Thread-safe. `clock` gives seconds since 1970."""

    def __init__(self, index: Index, *, clock: Callable[[], float] = time.time) -> None:
        self._database = index.database
        self._clock = clock

    def begin(self, uid: str, references: Sequence[Reference], *, at_once: bool) -> bool:
        """Keep a request, for a worker, or for the caller to verify `at_once`; False: the Transaction UID is in use."""
        now = self._now()
        asked = rows.compress(orjson.dumps([astuple(one) for one in references]))
        values = {"uid": uid, "asked": asked, "result": None, "created_at": now, "updated_at": now}
        later = now + round(_LEASE_SECONDS * 1e6) if at_once else now
        with self._database.write() as connection:
            added = insert_into(connection.dialect.name, commitment_request).values(values).on_conflict_do_nothing()
            if connection.execute(added.returning(commitment_request.c.uid)).first() is None:
                return False
            values = job_values(KIND, {"transaction": uid}, now, later)
            pk = connection.execute(insert(job).values(values).returning(job.c.pk)).scalar_one()
            own = commitment_request.c.uid == uid
            connection.execute(update(commitment_request).where(own).values(job_pk=pk))
        return True

    def asked(self, uid: str) -> list[Reference]:
        """What a request is about. Raises NotFound."""
        with self._database.read() as connection:
            found = connection.scalars(select(commitment_request.c.asked).where(commitment_request.c.uid == uid)).first()
        if found is None:
            raise NotFound(_UNKNOWN)
        return [Reference(*one) for one in orjson.loads(rows.decompress(found))]

    def finish(self, uid: str, checked: Sequence[Checked]) -> None:
        """Keep what came of a request, in the order of what was asked; the first result stays."""
        result = rows.compress(orjson.dumps([one.failure for one in checked]))
        row = update(commitment_request).where(commitment_request.c.uid == uid, commitment_request.c.result.is_(None))
        known = select(commitment_request.c.job_pk).where(commitment_request.c.uid == uid)
        with self._database.write() as connection:
            connection.execute(row.values(result=result, updated_at=self._now()))
            # A worker that has the job already finds it done.
            connection.execute(delete(job).where(job.c.pk == known.scalar_subquery(), job.c.state == WAITING))

    def result(self, uid: str) -> list[Checked] | None:
        """What came of a request; None while that is not known. Raises NotFound."""
        query = select(commitment_request.c.asked, commitment_request.c.result).where(commitment_request.c.uid == uid)
        with self._database.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise NotFound(_UNKNOWN)
        if row.result is None:
            return None
        failures = orjson.loads(rows.decompress(row.result))
        references = orjson.loads(rows.decompress(row.asked))
        return [
            Checked(Reference(*one), None if failure is None else Failure(failure))
            for one, failure in zip(references, failures, strict=True)
        ]

    def tidy(self, seconds: float) -> int:
        """Forget results that have been there for so long; how many."""
        old = select(commitment_request.c.uid).where(
            commitment_request.c.result.is_not(None), commitment_request.c.updated_at < self._now() - round(seconds * 1e6)
        )
        with self._database.write() as connection:
            uids = connection.scalars(old.limit(_BATCH)).all()
            connection.execute(delete(commitment_request).where(commitment_request.c.uid.in_(uids)))
        return len(uids)

    def _now(self) -> int:
        return round(self._clock() * 1e6)


_UNKNOWN: Final = "there is no commitment request of that Transaction UID, or its result has been forgotten; ask anew"


def verify_request(archive: Archive, uid: str) -> list[Checked]:
    """Verify a request and keep the result. Raises NotFound; Unavailable when the store cannot be asked now."""
    requests = CommitmentRequests(archive.index)
    checked = list(verify(archive, requests.asked(uid)))
    requests.finish(uid, checked)
    return checked
