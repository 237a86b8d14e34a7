"""The store of performed procedure steps: each change with what it does to the worklist, in one transaction.

What is right is in `mpps_rules`. A step is linked to the worklist entries that it says it performs, and to what has arrived
of the instances that it says it has made: so it is known whether a study is complete.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, TypeVar

import orjson
from pydicom.uid import generate_uid
from sqlalchemy import Connection, Row, Select, insert, select, update

from storage import mpps_rules, worklist, worklist_entries
from storage.errors import IndexUnavailable, NotFound, StepRefused
from storage.index import Index
from storage.index.database import Rerun
from storage.index.tables import (
    instance,
    performed_step,
    performed_step_schedule,
    series,
    study,
    worklist_entry,
)
from storage.matching.keys import text_key
from storage.matching.times import date_key, time_key
from storage.mpps_rules import Announced, PerformedState, Refusal, Scheduled, Step
from storage.procedure_steps import is_uid
from storage.types import DEFAULT_PARTITION, Dataset
from storage.worklist_entries import Entry, StepState

_RUNS: Final = 5
# UIDs in one question to the database.
_CHUNK: Final = 500
_MICROSECONDS: Final = 1_000_000
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of what a step has announced is here. `entries` are the numbers of the worklist entries that it performs."""

    step: Step
    studies: tuple[str, ...]
    entries: tuple[int, ...]
    announced: tuple[Announced, ...]
    arrived: frozenset[str]

    @property
    def missing(self) -> list[Announced]:
        """What was announced and is not here."""
        return [one for one in self.announced if one.instance not in self.arrived]

    @property
    def complete(self) -> bool:
        """Whether the step is over and everything that it has announced is here."""
        return self.step.state in mpps_rules.ENDED and not self.missing


class PerformedSteps:
    """The performed procedure steps of one index. Thread-safe; any number of processes may change them at once.

    Every method may raise IndexUnavailable; those about one step raise NotFound when there is none. `clock` gives seconds
    since 1970.
    """

    def __init__(self, index: Index, *, clock: Callable[[], float] = time.time) -> None:
        self._database = index.database
        self._clock = clock

    def create(self, dataset: Dataset, uid: str = "") -> Step:
        """Begin a step, with a UID of ours where none is given; the entries that it performs are STARTED. Raises StepRefused."""
        at = self._microseconds()
        step = replace(mpps_rules.created(uid or str(generate_uid()), dataset), created_at=at, updated_at=at)

        def run(connection: Connection) -> Step:
            if connection.execute(_where(step.uid)).first():
                raise StepRefused(Refusal.DUPLICATE, "there is a performed procedure step of that UID already")
            row = {"partition": DEFAULT_PARTITION, "created_at": at, **_row(step)}
            pk: int = connection.execute(insert(performed_step).values(row).returning(performed_step.c.pk)).scalar_one()
            for one in mpps_rules.scheduled_in(step.dataset):
                entry = _entry_of(connection, one)
                number = entry.number if entry else None
                link = {"step_pk": pk, "study_instance_uid": one.study, "entry": number}
                connection.execute(insert(performed_step_schedule).values(link))
            self._tell_worklist(connection, pk)
            return step

        return self._written(run)

    def update(self, uid: str, dataset: Dataset) -> Step:
        """Change a step, or end it; its entries follow. Raises StepRefused."""
        return self._change(uid, lambda step: mpps_rules.updated(step, dataset))

    def give_up(self, uid: str) -> Step:
        """Discontinue a step that its modality has left in progress. Raises StepRefused for one that has ended."""
        now = datetime.fromtimestamp(self._clock())
        return self._change(uid, lambda step: mpps_rules.given_up(step, f"{now:%Y%m%d}", f"{now:%H%M%S}"))

    def _change(self, uid: str, change: Callable[[Step], Step]) -> Step:
        def run(connection: Connection) -> Step:
            row = _read(connection, uid)
            after = replace(change(_step(row)), updated_at=self._microseconds())
            same = performed_step.c.pk == row.pk, performed_step.c.version == row.version
            if connection.execute(update(performed_step).where(*same).values(_row(after))).rowcount == 0:
                raise Rerun
            if after.state.value != row.state:
                self._tell_worklist(connection, row.pk)
            return after

        return self._written(run)

    def get(self, uid: str) -> Step:
        """A step as it is."""
        with self._database.read() as connection:
            return _step(_read(connection, uid))

    def progress(self, uid: str) -> Progress:
        """A step, and what has arrived of what it has announced."""
        with self._database.read() as connection:
            return _progress(connection, _read(connection, uid))

    def goes_on(self, study_uid: str, seconds: float) -> bool:
        """Whether a modality says that it is still at a study, and has said anything of that in the last `seconds`."""
        links = select(performed_step_schedule.c.step_pk).where(performed_step_schedule.c.study_instance_uid == study_uid)
        of_late = performed_step.c.updated_at > self._microseconds() - round(seconds * _MICROSECONDS)
        query = select(performed_step.c.pk).where(
            performed_step.c.pk.in_(links), performed_step.c.state == PerformedState.IN_PROGRESS.value, of_late
        )
        with self._database.read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def find(self, *, state: PerformedState | None = None, study_uid: str = "", limit: int = 100, offset: int = 0) -> list[Progress]:
        """Steps, the latest first, with what has arrived of each."""
        query = select(performed_step).order_by(performed_step.c.started.desc(), performed_step.c.pk.desc())
        if state is not None:
            query = query.where(performed_step.c.state == state.value)
        if study_uid:
            links = select(performed_step_schedule.c.step_pk).where(performed_step_schedule.c.study_instance_uid == study_uid)
            query = query.where(performed_step.c.pk.in_(links))
        with self._database.read() as connection:
            rows = connection.execute(query.limit(limit).offset(offset)).all()
            return [_progress(connection, row) for row in rows]

    def _tell_worklist(self, connection: Connection, pk: int) -> None:
        """Give every entry that a step performs the status that follows from all the steps that perform it."""
        c = performed_step_schedule.c
        linked = select(c.entry).where(c.step_pk == pk, c.entry.is_not(None)).distinct().order_by(c.entry)
        for number in connection.scalars(linked).all():
            row = connection.execute(select(worklist_entry).where(worklist_entry.c.number == number)).first()
            if row is None:
                continue
            steps = select(performed_step).where(performed_step.c.pk.in_(select(c.step_pk).where(c.entry == number)))
            state = follows([_step(one) for one in connection.execute(steps).all()])
            before = worklist.entry_of(row)
            after = Entry(
                before.number,
                state,
                worklist_entries.in_state(before.dataset, state),
                before.version + 1,
                before.created_at,
                self._microseconds(),
            )
            worklist.write(connection, before, after)

    def _written(self, run: Callable[[Connection], Result]) -> Result:
        for _ in range(_RUNS):
            try:
                with self._database.write() as connection:
                    return run(connection)
            except Rerun:
                continue
        raise IndexUnavailable("the transaction lost to others again and again; send again later")

    def _microseconds(self) -> int:
        return round(self._clock() * _MICROSECONDS)


def follows(steps: Sequence[Step]) -> StepState:
    """The status of an entry that these steps perform, one at least.

    An entry that was only begun by mistake is still to be done.
    """
    states = {step.state for step in steps}
    if PerformedState.IN_PROGRESS in states:
        return StepState.STARTED
    if PerformedState.COMPLETED in states:
        return StepState.COMPLETED
    return StepState.SCHEDULED if all(map(mpps_rules.on_wrong_entry, steps)) else StepState.DISCONTINUED


def _entry_of(connection: Connection, one: Scheduled) -> Entry | None:
    """The worklist entry of a scheduled step: by its study and step, else by order, procedure and step, for a modality may
    have given the study a UID of its own."""
    c = worklist_entry.c
    step = c.step_id == text_key(one.step)
    ways = [(c.study_instance_uid == one.study) & step] if one.step else []
    if one.step and one.accession:
        order = (c.accession_number == text_key(one.accession)) & (c.requested_procedure_id == text_key(one.procedure))
        ways.append(order & step)
    for way in ways:
        rows = connection.execute(select(worklist_entry).where(c.partition == DEFAULT_PARTITION, way).limit(2)).all()
        if len(rows) == 1:
            return worklist.entry_of(rows[0])
    return None


def _progress(connection: Connection, row: Row[Any]) -> Progress:
    step = _step(row)
    c = performed_step_schedule.c
    links = connection.execute(select(c.study_instance_uid, c.entry).where(c.step_pk == row.pk).order_by(c.pk)).all()
    announced = tuple(mpps_rules.announced_in(step.dataset))
    return Progress(
        step,
        tuple(dict.fromkeys(link.study_instance_uid for link in links)),
        tuple(dict.fromkeys(link.entry for link in links if link.entry is not None)),
        announced,
        frozenset(_arrived(connection, announced)),
    )


def _arrived(connection: Connection, announced: Sequence[Announced]) -> Iterator[str]:
    """The instances that are here, in the series that was announced."""
    series_of = {one.instance: one.series for one in announced}
    uids = sorted(series_of)
    found = select(instance.c.sop_instance_uid, series.c.series_instance_uid).select_from(
        instance.join(series, instance.c.series_pk == series.c.pk).join(study, series.c.study_pk == study.c.pk)
    )
    found = found.where(instance.c.partition == DEFAULT_PARTITION, instance.c.deleted_at.is_(None))
    for at in range(0, len(uids), _CHUNK):
        for row in connection.execute(found.where(instance.c.sop_instance_uid.in_(uids[at : at + _CHUNK]))):
            if series_of[row.sop_instance_uid] == row.series_instance_uid:
                yield row.sop_instance_uid


def _row(step: Step) -> dict[str, Any]:
    date, begun = (mpps_rules.value_of(step.dataset, f"PerformedProcedureStepStart{part}") for part in ("Date", "Time"))
    return {
        "uid": step.uid,
        "state": step.state.value,
        "station": text_key(mpps_rules.value_of(step.dataset, "PerformedStationAETitle")),
        "started": f"{date_key(date) or ''}{time_key(begun) or ''}",
        "version": step.version,
        "dataset": orjson.dumps(step.dataset),
        "updated_at": step.updated_at,
    }


def _step(row: Row[Any]) -> Step:
    return Step(row.uid, PerformedState(row.state), orjson.loads(row.dataset), row.version, row.created_at, row.updated_at)


def _where(uid: str) -> Select[Any]:
    return select(performed_step).where(performed_step.c.partition == DEFAULT_PARTITION, performed_step.c.uid == uid)


def _read(connection: Connection, uid: str) -> Row[Any]:
    row = connection.execute(_where(uid)).first() if is_uid(uid) else None
    if row is None:
        raise NotFound("there is no performed procedure step of that UID; create it first")
    return row
