"""Entries that no modality will complete, completed by what has arrived: most modalities send images and no MPPS."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from sqlalchemy import and_, exists, select

from storage.errors import NotFound, WorklistRefused
from storage.index import Index
from storage.index.tables import performed_step, performed_step_schedule, series, study, worklist_entry
from storage.mpps_rules import PerformedState
from storage.types import DEFAULT_PARTITION
from storage.worklist import Worklist
from storage.worklist_entries import OFFERED, StepState

_BATCH: Final = 200


def complete_arrived(index: Index, *, quiet_seconds: float, clock: Callable[[], float] = time.time) -> int:
    """Complete the entries whose images are here: something of their study and modality has come since they were made, and
    nothing of that study for so long. How many were completed.

    Not those that a modality says it is performing, and not where several entries wait for the same: then nobody can tell.
    """
    e, now = worklist_entry.c, clock()
    other = worklist_entry.alias("other")
    open_states = sorted(OFFERED)
    arrived = exists().where(
        study.c.partition == DEFAULT_PARTITION,
        study.c.study_instance_uid == e.study_instance_uid,
        study.c.deleted_at.is_(None),
        study.c.updated_at < round((now - quiet_seconds) * 1e6),
        study.c.updated_at > e.created_at,
        series.c.study_pk == study.c.pk,
        series.c.modality == e.modality,
        series.c.deleted_at.is_(None),
    )
    performing = exists().where(
        performed_step_schedule.c.entry == e.number,
        performed_step.c.pk == performed_step_schedule.c.step_pk,
        performed_step.c.state == PerformedState.IN_PROGRESS.value,
    )
    several = exists().where(
        and_(
            other.c.study_instance_uid == e.study_instance_uid,
            other.c.modality == e.modality,
            other.c.state.in_(open_states),
            other.c.number != e.number,
        )
    )
    due = select(e.number).where(e.partition == DEFAULT_PARTITION, e.state.in_(open_states), arrived, ~performing, ~several)
    with index.database.read() as connection:
        numbers = connection.scalars(due.order_by(e.number).limit(_BATCH)).all()
    worklist, completed = Worklist(index, clock=clock), 0
    for number in numbers:
        try:
            worklist.end(number, StepState.COMPLETED)
        except (NotFound, WorklistRefused):
            # Somebody was faster.
            continue
        completed += 1
    return completed
