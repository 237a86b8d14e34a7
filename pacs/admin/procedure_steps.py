"""`/api/procedure-steps`: what modalities say that they have performed (MPPS), and what of it has arrived."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from pacs.admin.api import Asked, Operation
from storage.index import Index
from storage.mpps import PerformedSteps, Progress
from storage.mpps_rules import Announced, PerformedState, value_of

_STEP: Final = "/api/procedure-steps/{uid}"


class Which(BaseModel):
    """Which steps, and how many of them."""

    model_config = ConfigDict(extra="forbid")

    state: PerformedState | None = None
    study: Annotated[str, Field(max_length=64, pattern=r"^[0-9.]*$")] = ""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    offset: Annotated[int, Field(ge=0, le=2**31)] = 0


class Instance(BaseModel):
    """An instance that was announced."""

    SeriesInstanceUID: str
    SOPClassUID: str
    SOPInstanceUID: str


class Step(BaseModel):
    """A performed procedure step: `announced` and `arrived` count instances, `complete` when it is over and all are here.

    `entries` are the numbers of the worklist entries that it performs, `studies` what it says that it belongs to.
    """

    uid: str
    state: PerformedState
    created: datetime
    updated: datetime
    station: str
    modality: str
    description: str
    studies: list[str]
    entries: list[int]
    announced: int
    arrived: int
    complete: bool


class StepDetail(Step):
    """A step with the instances that are here and those that are not, and the whole data set in the DICOM JSON model."""

    arrived_instances: list[Instance]
    missing_instances: list[Instance]
    dataset: dict[str, Any]


def operations(index: Index) -> tuple[Operation, ...]:
    """The operations on performed procedure steps."""
    steps = PerformedSteps(index)

    def find(asked: Asked) -> list[Step]:
        which: Which = asked.query
        found = steps.find(state=which.state, study_uid=which.study, limit=which.limit, offset=which.offset)
        return [Step(**_summary(one)) for one in found]

    def get(asked: Asked) -> StepDetail:
        found = steps.progress(asked.path["uid"])
        here = [_instance(one) for one in found.announced if one.instance in found.arrived]
        away = [_instance(one) for one in found.missing]
        return StepDetail(**_summary(found), arrived_instances=here, missing_instances=away, dataset=dict(found.step.dataset))

    def give_up(asked: Asked) -> StepDetail:
        steps.give_up(asked.path["uid"])
        return get(asked)

    return (
        Operation("POST", f"{_STEP}/discontinue", give_up, "Discontinue a step that its modality will not end.", gives=StepDetail),
        Operation("GET", "/api/procedure-steps", find, "What modalities perform, the latest first.", gives=list[Step], asks=Which),
        Operation("GET", _STEP, get, "One performed step: what was announced, has arrived, is missing.", gives=StepDetail),
    )


def _summary(found: Progress) -> dict[str, Any]:
    step = found.step
    return {
        "uid": step.uid,
        "state": step.state,
        "created": datetime.fromtimestamp(step.created_at / 1e6, UTC),
        "updated": datetime.fromtimestamp(step.updated_at / 1e6, UTC),
        "station": value_of(step.dataset, "PerformedStationAETitle"),
        "modality": value_of(step.dataset, "Modality"),
        "description": value_of(step.dataset, "PerformedProcedureStepDescription"),
        "studies": list(found.studies),
        "entries": list(found.entries),
        "announced": len(found.announced),
        "arrived": len(found.arrived),
        "complete": found.complete,
    }


def _instance(one: Announced) -> Instance:
    return Instance(SeriesInstanceUID=one.series, SOPClassUID=one.sop_class, SOPInstanceUID=one.instance)
