"""Modality Performed Procedure Steps as provider (PS3.4 annex F): a modality says that it begins, goes on, and has ended."""

from __future__ import annotations

from typing import Any

from pacs.scp.identifiers import CHARACTER_SET
from pacs.scp.normalized import Answer, Failure, Perform, Request
from pacs.scp.provider import Provider
from storage.errors import StepRefused
from storage.mpps import PerformedSteps


def _refusing(perform: Perform) -> Perform:
    """A function whose refusals are answered with the statuses of annex F, and the attributes that they are about."""

    def performed(request: Request, provider: Provider) -> Answer:
        try:
            return perform(request, provider)
        except StepRefused as refused:
            more: dict[str, Any] = {"ErrorID": refused.error_id} if refused.error_id else {}
            if refused.tags:
                more["AttributeIdentifierList"] = tuple(int(tag, 16) for tag in refused.tags)
            raise Failure(refused.reason, str(refused), **more) from refused

    return performed


@_refusing
def create(request: Request, provider: Provider) -> Answer:
    """N-CREATE (F.7.2.1), with a UID of our own where the request has none."""
    step = _steps(provider).create(request.dataset, request.instance)
    return Answer(more={"AffectedSOPInstanceUID": step.uid})


@_refusing
def update(request: Request, provider: Provider) -> Answer:
    """N-SET (F.7.2.2)."""
    _steps(provider).update(request.instance, request.dataset)
    return Answer()


@_refusing
def get(request: Request, provider: Provider) -> Answer:
    """N-GET of the retrieve SOP class (F.8.2.1): what is asked for and there, or everything."""
    dataset = _steps(provider).get(request.instance).dataset
    wanted = request.wanted
    return Answer(dataset={tag: one for tag, one in dataset.items() if tag != CHARACTER_SET and (not wanted or tag in wanted)})


def _steps(provider: Provider) -> PerformedSteps:
    return PerformedSteps(provider.archive.index)
