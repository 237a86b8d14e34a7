"""Orders of an information system as changes of the worklist: all that one message asks for in one transaction, and once.

A message that comes again, byte for byte, is answered as before and changes nothing: senders repeat what they got no answer to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, delete, insert, select

from storage import worklist, worklist_entries
from storage.errors import WorklistRefused
from storage.index import Index
from storage.index.tables import received_message, worklist_entry
from storage.matching.keys import text_key
from storage.types import DEFAULT_PARTITION
from storage.worklist import Worklist
from storage.worklist_entries import ENDED, IDENTITY, Entry, Fields, OrderChange, PatientChange, StepState

_MICROSECONDS: Final = 1_000_000
_DATE: Final = "ScheduledProcedureStepStartDate"
_TIME: Final = "ScheduledProcedureStepStartTime"


class Orders:
    """Changes the worklist of one index as messages ask for it. Thread-safe. Every method may raise IndexUnavailable."""

    def __init__(self, index: Index, *, clock: Callable[[], float] = time.time) -> None:
        self._database = index.database
        self._worklist = Worklist(index, clock=clock)
        self._clock = clock

    def apply(self, digest: str, changes: Sequence[OrderChange | PatientChange]) -> int | None:
        """Do what a message asks for, whose content has this digest; how many entries it was about, None when it was done
        before. Raises BadRequest, WorklistRefused; then nothing of it is done."""

        def run(connection: Connection) -> int | None:
            known = select(received_message.c.digest).where(received_message.c.digest == digest)
            if connection.execute(known).first():
                return None
            at = round(self._clock() * _MICROSECONDS)
            connection.execute(insert(received_message).values(digest=digest, received_at=at))
            return sum(self._one(connection, change) for change in changes)

        return self._worklist.written(run)

    def tidy(self, *, days: float) -> None:
        """Forget messages that came so many days ago."""
        before = round((self._clock() - days * 86400) * _MICROSECONDS)
        with self._database.write() as connection:
            connection.execute(delete(received_message).where(received_message.c.received_at < before))

    def _one(self, connection: Connection, change: OrderChange | PatientChange) -> int:
        if isinstance(change, PatientChange):
            return self._patient(connection, change)
        entries = _of_order(connection, change.fields)
        if change.state is None and not entries:
            self._worklist.create_in(connection, change.fields)
            return 1
        for entry in entries:
            _check_patient(entry, change.fields)
            self._change(connection, entry, change)
        return len(entries)

    def _change(self, connection: Connection, entry: Entry, change: OrderChange) -> None:
        known = worklist_entries.fields_of(entry.dataset)
        state: StepState = change.state or entry.state
        if change.state is not None:
            # A status is all that such a message is to change: the rest of it may be cut short.
            self._worklist.put_in(connection, entry, {**known, "ScheduledProcedureStepStatus": state})
            return
        if state is StepState.CANCELED:
            state = StepState.SCHEDULED
        # What an order does not say of its ids has been made here.
        said = {name: value for name, value in change.fields.items() if name not in IDENTITY or value}
        if said.get(_DATE, known.get(_DATE)) != known.get(_DATE):
            # The time of the day before is not that of the new one.
            said = {_TIME: worklist.ANY_TIME, **said}
        worklist.check_identity(known, said)
        self._worklist.put_in(connection, entry, {**known, **said, "ScheduledProcedureStepStatus": state})

    def _patient(self, connection: Connection, change: PatientChange) -> int:
        c = worklist_entry.c
        ids = [text_key(change.patient_id), *([text_key(change.prior)] if change.prior else [])]
        rows = connection.execute(select(worklist_entry).where(c.partition == DEFAULT_PARTITION, c.patient_id.in_(ids))).all()
        entries = [worklist.entry_of(row) for row in rows]
        entries = [one for one in entries if one.state not in ENDED and _same_issuer(one, change.issuer)]
        for entry in entries:
            known = worklist_entries.fields_of(entry.dataset)
            self._worklist.put_in(connection, entry, {**known, **change.fields, "PatientID": change.patient_id})
        return len(entries)


def _check_patient(entry: Entry, fields: Fields) -> None:
    """Raises WorklistRefused where an order is another patient's. Two systems may number theirs alike, and then the step of the
    one must not become, or be cancelled as, that of the other."""
    known, given = entry.value("PatientID"), str(fields.get("PatientID") or "")
    if known and given and (known != given or not _same_issuer(entry, str(fields.get("IssuerOfPatientID") or ""))):
        raise WorklistRefused(
            "the order is another patient's; cancel it for that patient and place it anew, merge the two patients by ADT^A40,"
            " or give the order a number of its own"
        )


def _same_issuer(entry: Entry, issuer: str) -> bool:
    """Whether an identifier may be of that issuer; who says nothing of it means any."""
    own = entry.value("IssuerOfPatientID")
    return not own or not issuer or own == issuer


def _of_order(connection: Connection, fields: Fields) -> list[Entry]:
    """The entries of an order: of its study; where it names none, of its order number, the filler's before the placer's, or of
    its accession number. Those of one step alone where it names that."""
    c = worklist_entry.c
    columns = ("study_instance_uid", "filler_order_number", "placer_order_number", "accession_number")
    order = next((found for column in columns if (found := _equal(column, fields)) is not None), None)
    if order is None:
        return []
    step = _equal("step_id", fields)
    query = select(worklist_entry).where(c.partition == DEFAULT_PARTITION, order, *([] if step is None else [step]))
    return [worklist.entry_of(row) for row in connection.execute(query.order_by(c.number))]


def _equal(column: str, fields: Fields) -> ColumnElement[bool] | None:
    value: Any = fields.get(worklist.COLUMNS[column])
    return worklist_entry.c[column] == text_key(str(value)) if value else None
