"""The store of the modality worklist: entries are made, changed, matched and ended here, whoever asks for it.

What an entry is, is in `worklist_entries`. A search is narrowed by what has a column and decided by the one matching engine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

import orjson
import structlog
from pydicom.uid import generate_uid
from sqlalchemy import ColumnElement, Connection, and_, delete, insert, or_, select, tuple_, update

from storage import json_model, matching, worklist_entries
from storage.errors import BadRequest, IndexUnavailable, NotFound, WorklistRefused
from storage.index import Index
from storage.index.database import Rerun
from storage.index.tables import counter, worklist_entry
from storage.matching import Conditions, DateTimeRange, OneOf, Range
from storage.matching.keys import text_key
from storage.types import DEFAULT_PARTITION, Dataset
from storage.worklist_entries import ENDED, IDENTITY, OFFERED, Entry, Fields, StepState

_log = structlog.get_logger(__name__)
_RUNS: Final = 5
# Rows that are looked through at a time.
_BATCH: Final = 500
_COUNTER: Final = "worklist entry"
# When a step begins of which the day is said and no time.
ANY_TIME: Final = "000000"
_MICROSECONDS: Final = 1_000_000
Result = TypeVar("Result")

# Column -> the attribute whose first value it holds.
COLUMNS: Final[Mapping[str, str]] = {
    "state": "ScheduledProcedureStepStatus",
    "modality": "Modality",
    "patient_id": "PatientID",
    "accession_number": "AccessionNumber",
    "study_instance_uid": "StudyInstanceUID",
    "requested_procedure_id": "RequestedProcedureID",
    "step_id": "ScheduledProcedureStepID",
    "placer_order_number": "PlacerOrderNumberImagingServiceRequest",
    "filler_order_number": "FillerOrderNumberImagingServiceRequest",
}


@dataclass(frozen=True, slots=True)
class Search:
    """What entries are looked for. `calling_ae`: who asks, for entries that are for no station in particular.

    Without `states`, and where no condition names one, those that are still to be done.
    """

    conditions: Conditions = ()
    states: frozenset[StepState] | None = None
    fuzzy: bool = False
    calling_ae: str = ""


class Worklist:
    """The worklist of one index. Thread-safe; any number of processes may change it at once.

    Every method may raise IndexUnavailable; those about one entry raise NotFound when there is none. `clock` gives seconds
    since 1970.
    """

    def __init__(self, index: Index, *, clock: Callable[[], float] = time.time) -> None:
        self._database = index.database
        self._clock = clock

    def create(self, fields: Fields) -> Entry:
        """Add an entry. What it must have and lacks is made: its start (now), its ids, and its Study Instance UID, which is
        the same for every step of a requested procedure. Raises BadRequest, WorklistRefused.
        """
        worklist_entries.dataset_of({"ScheduledProcedureStepStartDate": "20000101", **fields})
        return self.written(lambda connection: self.create_in(connection, fields))

    def get(self, number: int) -> Entry:
        """An entry as it is."""
        with self._database.read() as connection:
            return read(connection, number)

    def find(self, search: Search) -> Iterator[Entry]:
        """What matches, by when it begins, as who asks sees it; a few at a time in memory. May be left at any point."""
        for entry in self._candidates(_narrowed(search)):
            dataset = worklist_entries.seen_by(entry.dataset, search.conditions, search.calling_ae)
            if matching.matches_dataset(search.conditions, dataset, fuzzy=search.fuzzy):
                yield Entry(entry.number, entry.state, dataset, entry.version, entry.created_at, entry.updated_at)

    def change(self, number: int, fields: Fields) -> Entry:
        """Change attributes; None takes one away. Raises BadRequest, and WorklistRefused for the ids by which it is known."""

        def run(connection: Connection) -> Entry:
            entry = read(connection, number)
            known = worklist_entries.fields_of(entry.dataset)
            check_identity(known, fields)
            return self.put_in(connection, entry, {**known, **fields})

        return self.written(run)

    def end(self, number: int, state: StepState) -> Entry:
        """Complete, discontinue or cancel an entry. Raises WorklistRefused for one that has ended in another way."""

        def run(connection: Connection) -> Entry:
            entry = read(connection, number)
            if entry.state is state:
                return entry
            if entry.state in ENDED:
                raise WorklistRefused(f"the entry is {entry.state} already; change its ScheduledProcedureStepStatus to open it again")
            return self.put_in(connection, entry, {**worklist_entries.fields_of(entry.dataset), "ScheduledProcedureStepStatus": state})

        return self.written(run)

    def remove(self, number: int) -> None:
        """Take an entry out, as if it had never been there."""
        with self._database.write() as connection:
            if not connection.execute(delete(worklist_entry).where(worklist_entry.c.number == number)).rowcount:
                raise _unknown()

    def tidy(self, *, days: float) -> int:
        """Remove entries that ended, or were to begin, so many days ago; how many, some at a time."""
        at = self._clock() - days * 86400
        begun = datetime.fromtimestamp(at).strftime("%Y%m%d%H%M%S")
        c = worklist_entry.c
        over = (c.updated_at < round(at * _MICROSECONDS)) & (c.state.in_(ENDED) | (c.begins < begun))
        with self._database.write() as connection:
            numbers = connection.scalars(select(c.number).where(over).limit(_BATCH)).all()
            connection.execute(delete(worklist_entry).where(c.number.in_(numbers)))
        return len(numbers)

    def create_in(self, connection: Connection, fields: Fields) -> Entry:
        """`create` in the caller's transaction."""
        taken = update(counter).where(counter.c.name == _COUNTER).values(value=counter.c.value + 1)
        number: int = connection.execute(taken.returning(counter.c.value)).scalar_one()
        whole = self._completed(connection, fields, number)
        at = self._microseconds()
        state, dataset = _stated(whole)
        entry = Entry(number, state, dataset, 1, at, at)
        c, row = worklist_entry.c, _row(entry)
        same = c.partition == DEFAULT_PARTITION, c.study_instance_uid == row["study_instance_uid"], c.step_id == row["step_id"]
        if connection.execute(select(c.number).where(*same)).first():
            raise WorklistRefused("there is an entry of this step (ScheduledProcedureStepID) in this study already; change that")
        connection.execute(insert(worklist_entry).values(partition=DEFAULT_PARTITION, created_at=at, **row))
        return entry

    def _completed(self, connection: Connection, fields: Fields, number: int) -> dict[str, Any]:
        given = {keyword: value for keyword, value in fields.items() if value not in (None, "", [])}
        now = datetime.fromtimestamp(self._clock())
        if "ScheduledProcedureStepStartDate" not in given:
            given |= {"ScheduledProcedureStepStartDate": f"{now:%Y%m%d}", "ScheduledProcedureStepStartTime": f"{now:%H%M%S}"}
        made = {
            "ScheduledProcedureStepStartTime": ANY_TIME,
            "ScheduledProcedureStepID": f"S{number:06d}",
            "RequestedProcedureID": f"R{number:06d}",
            **({} if "StudyInstanceUID" in given else {"StudyInstanceUID": _study_of(connection, given)}),
        }
        return {**made, **given}

    def put_in(self, connection: Connection, entry: Entry, fields: Fields) -> Entry:
        """Give an entry these fields and no others, in the caller's transaction. Raises BadRequest."""
        state, dataset = _stated(fields)
        at = self._microseconds()
        return write(connection, entry, Entry(entry.number, state, dataset, entry.version + 1, entry.created_at, at))

    def _candidates(self, narrowed: Sequence[ColumnElement[bool]]) -> Iterator[Entry]:
        """Rows in order, each batch in a transaction of its own."""
        c = worklist_entry.c
        query = select(worklist_entry).where(*narrowed).order_by(c.begins, c.number).limit(_BATCH)
        after: tuple[str, int] | None = None
        while True:
            further = query if after is None else query.where(tuple_(c.begins, c.number) > after)
            with self._database.read() as connection:
                rows = connection.execute(further).all()
            yield from _readable(rows)
            if len(rows) < _BATCH:
                return
            after = (rows[-1].begins, rows[-1].number)

    def written(self, run: Callable[[Connection], Result]) -> Result:
        """What `run` gives, in one transaction; run again where that lost to another one."""
        for _ in range(_RUNS):
            try:
                with self._database.write() as connection:
                    return run(connection)
            except Rerun:
                continue
        raise IndexUnavailable("the transaction lost to others again and again; send again later")

    def _microseconds(self) -> int:
        return round(self._clock() * _MICROSECONDS)


def check_identity(known: Fields, fields: Fields) -> None:
    """Raises WorklistRefused when the ids by which an entry is known would change."""
    changed = [name for name in IDENTITY if name in fields and str(fields[name]) != str(known.get(name))]
    if changed:
        raise WorklistRefused(f"{', '.join(changed)} cannot be changed; cancel the entry and make another one")


def read(connection: Connection, number: int) -> Entry:
    """An entry, in the caller's transaction. Raises NotFound."""
    row = connection.execute(select(worklist_entry).where(worklist_entry.c.number == number)).first()
    if row is None:
        raise _unknown()
    return entry_of(row)


def write(connection: Connection, before: Entry, after: Entry) -> Entry:
    """Put an entry in the place of what it was, in the caller's transaction. Raises Rerun when somebody was faster."""
    same = worklist_entry.c.number == before.number, worklist_entry.c.version == before.version
    if connection.execute(update(worklist_entry).where(*same).values(_row(after))).rowcount == 0:
        raise Rerun
    return after


def entry_of(row: Any) -> Entry:
    """An entry from its row."""
    return Entry(row.number, StepState(row.state), orjson.loads(row.dataset), row.version, row.created_at, row.updated_at)


def _readable(rows: Sequence[Any]) -> Iterator[Entry]:
    """Their entries; one that cannot be read is told of, and does not keep the others from being found."""
    for row in rows:
        dataset = json_model.read(row.dataset)
        if dataset is None:
            _log.error("worklist.unreadable", number=row.number)
        else:
            yield Entry(row.number, StepState(row.state), dataset, row.version, row.created_at, row.updated_at)


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "number": entry.number,
        "begins": worklist_entries.begins(entry.dataset),
        **{column: text_key(entry.value(keyword)) for column, keyword in COLUMNS.items()},
        "version": entry.version,
        "dataset": orjson.dumps(entry.dataset),
        "updated_at": entry.updated_at,
    }


def _stated(fields: Fields) -> tuple[StepState, Dataset]:
    """The status and the data set that fields make. Raises BadRequest."""
    named = str(fields.get("ScheduledProcedureStepStatus") or StepState.SCHEDULED).strip().upper()
    if named not in tuple(StepState):
        raise BadRequest(f"ScheduledProcedureStepStatus: give one of {', '.join(StepState)}")
    state = StepState(named)
    return state, worklist_entries.in_state(worklist_entries.dataset_of(fields), state)


def _study_of(connection: Connection, given: Fields) -> str:
    """The Study Instance UID of a requested procedure: the one that its steps have already, else one that comes out the same
    whenever the procedure is sent. A procedure without an id of its own is a new one.
    """
    procedure, accession = str(given.get("RequestedProcedureID", "")), str(given.get("AccessionNumber", ""))
    if not procedure:
        return str(generate_uid())
    patient = str(given.get("PatientID", ""))
    c = worklist_entry.c
    same = select(c.study_instance_uid).where(
        c.partition == DEFAULT_PARTITION,
        c.patient_id == text_key(patient),
        c.accession_number == text_key(accession),
        c.requested_procedure_id == text_key(procedure),
    )
    known: str | None = connection.scalars(same.order_by(c.number).limit(1)).first()
    issuer = str(given.get("IssuerOfPatientID", ""))
    return known or str(generate_uid(entropy_srcs=["requested procedure", issuer, patient, accession, procedure]))


def _narrowed(search: Search) -> list[ColumnElement[bool]]:
    """What the database can say of a search: never less than what matches."""
    c = worklist_entry.c
    found: list[ColumnElement[bool]] = [c.partition == DEFAULT_PARTITION]
    states = search.states
    if states is None and not worklist_entries.asks_for_state(search.conditions):
        states = OFFERED
    if states is not None:
        found.append(c.state.in_(sorted(states)))
    for column, keyword in COLUMNS.items():
        condition = worklist_entries.condition_on(search.conditions, keyword)
        # A fuzzy search makes no difference between capitals and small letters in text, which a column does.
        if isinstance(condition, OneOf) and not condition.patterns and not (search.fuzzy and condition.vr in ("LO", "SH")):
            found.append(c[column].in_([str(key) for key in condition.keys]))
    return found + _days(search.conditions)


def _days(conditions: Conditions) -> list[ColumnElement[bool]]:
    condition = worklist_entries.condition_on(conditions, "ScheduledProcedureStepStartDate")
    begins = worklist_entry.c.begins
    if isinstance(condition, OneOf):
        return [or_(*(and_(begins >= str(day), begins <= f"{day}~") for day in condition.keys))]
    if isinstance(condition, DateTimeRange):
        condition = condition.dates
    if not isinstance(condition, Range):
        return []
    low = [begins >= condition.low] if condition.low else []
    return low + ([begins <= f"{condition.high}~"] if condition.high else [])


def _unknown() -> NotFound:
    return NotFound("there is no worklist entry of this number; list the worklist for those that there are")
