"""Copies and thumbnails of what is stored already, ordered as jobs (`storage.copies`, `storage.thumbnails`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from storage.attributes import tag_of
from storage.copies import ANY, KIND, can_have
from storage.index import Index
from storage.jobs import JobQueue
from storage.matching import parse
from storage.thumbnails import KIND as THUMBNAIL
from storage.types import Job, Level, Query, Scope

_PAGE: Final = 1000
_STUDY, _SERIES, _MODALITY = map(tag_of, ("StudyInstanceUID", "SeriesInstanceUID", "Modality"))


def order(index: Index, modalities: Sequence[str], study: str = "") -> int:
    """Have HTJ2K copies made of all images of these modalities (`*`: of all), of one study or of all; how many jobs that are.

    Those that have a copy are passed over by the job.
    """
    return _enqueue(index, _copies(index, modalities, study))


def order_thumbnails(index: Index, modalities: Sequence[str], study: str = "") -> int:
    """Have the thumbnails of series of these modalities, and of their studies, drawn, where what is kept is not right; how many jobs."""
    jobs = (Job(THUMBNAIL, {"study": scope.study, "series": scope.series}) for scope in _series(index, modalities, study))
    return _enqueue(index, jobs)


def _enqueue(index: Index, jobs: Iterator[Job]) -> int:
    queue, count = JobQueue(index), 0
    while page := list(islice(jobs, _PAGE)):
        queue.enqueue(page)
        count += len(page)
    return count


def _copies(index: Index, modalities: Sequence[str], study: str) -> Iterator[Job]:
    for scope in _series(index, modalities, study):
        for located in index.locate(scope):
            if can_have(located.transfer_syntax_uid, located.number_of_frames):
                at = located.uids
                yield Job(KIND, {"study": at.study, "series": at.series, "instance": at.instance})


def _series(index: Index, modalities: Sequence[str], study: str) -> Iterator[Scope]:
    asked = {_STUDY: [study] if study else [], _MODALITY: [] if ANY in modalities else list(modalities)}
    vrs = {_STUDY: "UI", _MODALITY: "CS"}
    conditions = tuple(((tag,), parse((tag,), vrs[tag], values)) for tag, values in asked.items() if values)
    for one in index.find(Query(Level.SERIES, conditions, frozenset({_STUDY, _SERIES}))):
        yield Scope(*(str(one[tag]["Value"][0]) for tag in (_STUDY, _SERIES)))
