"""For whom earlier studies are to be fetched: worklist entries that were made, and studies that began to come.

Both are read on from where the last look ended, as routes are (`storage.routing`); what follows is a job for each rule and study.
Jobs name the study, never the patient.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from sqlalchemy import Row, insert, select, update

from storage.attributes import tag_of
from storage.index import Index
from storage.index.add import job_values
from storage.index.tables import counter, job, series, study, worklist_entry
from storage.index.transfer_tables import transfer
from storage.matching import Conditions, matches_dataset
from storage.routing import Feed, fetched_of_late, was_fetched
from storage.rules import Prefetch, Rule, Trigger, conditions_of, revision, rules
from storage.types import DEFAULT_PARTITION, Dataset
from storage.worklist_entries import fields_of, step_of

KIND: Final = "prefetch-priors"
_FEED: Final = "prefetch"
_WORKLIST: Final = "prefetch worklist"
_BATCH: Final = 200
_CHUNK: Final = 500
# The same study of a patient is fetched by the same rule no more than once in so long.
_AGAIN_SECONDS: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose priors are wanted, and like what: the study that is to come, or comes."""

    study: str
    patient_id: str
    issuer: str
    modalities: frozenset[str]
    body_parts: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Ready:
    name: str
    rule: Prefetch
    since: int
    conditions: Conditions


class Priors:
    """Notices for whom to fetch. For one thread. `clock` gives seconds since 1970."""

    def __init__(self, index: Index, *, clock: Callable[[], float] = time.time) -> None:
        self._index = index
        self._clock = clock
        self._feed = Feed(index, _FEED)
        self._revision = -1
        self._rules: list[_Ready] = []

    def gather(self) -> int:
        """Have fetched for what has come since the last time; how much was read, 0 when nothing is left."""
        return self._arrived() + self._scheduled()

    def _look(self) -> None:
        with self._index.database.read() as connection:
            now = revision(connection)
        if now != self._revision:
            self._rules = [_ready(one) for one in rules(self._index, Prefetch) if one.enabled]
            self._revision = now

    def _arrived(self) -> int:
        after, newest = self._feed.news()
        self._look()
        if newest <= after:
            return 0
        wanted = [one for one in self._rules if one.rule.trigger is not Trigger.WORKLIST]
        if not wanted:
            self._feed.pass_over(after, newest)
            return 0
        changes = self._feed.read(after)
        if not changes:
            return 0
        payloads = list(self._begun(changes, wanted))
        with self._index.database.write() as connection:
            if not self._feed.move(connection, after, changes[-1].sequence):
                return 0
            self._enqueue(connection, payloads)
        return len(changes)

    def _begun(self, changes: Sequence[Row[Any]], wanted: list[_Ready]) -> Iterator[Mapping[str, Any]]:
        """What follows from studies of which the first instance has come: they were made with that change."""
        made = {(row.study_instance_uid, row.at): row.sequence for row in changes if row.partition == DEFAULT_PARTITION}
        uids = list({uid for uid, _ in made})
        new: set[str] = set()
        for first in range(0, len(uids), _CHUNK):
            query = select(study.c.study_instance_uid, study.c.created_at).where(
                study.c.partition == DEFAULT_PARTITION, study.c.study_instance_uid.in_(uids[first : first + _CHUNK])
            )
            with self._index.database.read() as connection:
                new |= {row.study_instance_uid for row in connection.execute(query) if (row.study_instance_uid, row.created_at) in made}
        first_of = [row for row in changes if row.study_instance_uid in new]
        asked: set[tuple[str, str]] = set()
        fetched = fetched_of_late(self._index, self._clock())
        for one in self._feed.arrivals(first_of, whole=True):
            if one.source.kind not in ("dimse", "stow") or was_fetched(fetched, one):
                # A prior that comes is no reason to fetch its own.
                continue
            dataset = one.dataset
            for rule in wanted:
                key = (rule.name, one.scope.study)
                if one.sequence <= rule.since or key in asked:
                    continue
                if matches_dataset(rule.conditions, dataset):
                    asked.add(key)
                    yield {"rule": rule.name, "study": one.scope.study, "entry": 0}

    def _scheduled(self) -> int:
        place = select(counter.c.value).where(counter.c.name == _WORKLIST)
        e = worklist_entry.c
        with self._index.database.read() as connection:
            after = connection.scalars(place).one()
            query = select(e.number, e.study_instance_uid, e.dataset).where(e.number > after, e.partition == DEFAULT_PARTITION)
            found = connection.execute(query.order_by(e.number).limit(_BATCH)).all()
        if not found:
            return 0
        self._look()
        wanted = [one for one in self._rules if one.rule.trigger is not Trigger.ARRIVAL]
        payloads = [
            {"rule": rule.name, "study": row.study_instance_uid, "entry": row.number}
            for row in found
            for rule in wanted
            if matches_dataset(rule.conditions, _flat(orjson.loads(row.dataset)))
        ]
        mine = (counter.c.name == _WORKLIST, counter.c.value == after)
        with self._index.database.write() as connection:
            if not connection.execute(update(counter).where(*mine).values(value=found[-1].number)).rowcount:
                return 0
            self._enqueue(connection, payloads)
        return len(found)

    def _enqueue(self, connection: Any, payloads: list[Mapping[str, Any]] | list[dict[str, Any]]) -> None:
        now = round(self._clock() * 1e6)
        if payloads:
            connection.execute(insert(job), [job_values(KIND, payload, now) for payload in payloads])


def subject_of(index: Index, study_uid: str, entry: int = 0) -> Subject | None:
    """Whose priors: by the worklist entry of this number, or by what is here of the study. None when neither is there."""
    with index.database.read() as connection:
        if entry:
            stored = connection.scalars(select(worklist_entry.c.dataset).where(worklist_entry.c.number == entry)).one_or_none()
            return _of_entry(study_uid, orjson.loads(stored)) if stored else None
        row = connection.execute(
            select(study.c.pk, study.c.attributes).where(
                study.c.partition == DEFAULT_PARTITION, study.c.study_instance_uid == study_uid, study.c.deleted_at.is_(None)
            )
        ).one_or_none()
        if row is None:
            return None
        below = select(series.c.modality, series.c.body_part_examined).where(series.c.study_pk == row.pk, series.c.deleted_at.is_(None))
        found = connection.execute(below).all()
    kept = orjson.loads(row.attributes)
    # The ID of somebody who is not to be known is no patient's, and elsewhere may be another's.
    nobody = _text(kept, "PatientIdentityRemoved") == "YES"
    return Subject(
        study_uid,
        "" if nobody else _text(kept, "PatientID"),
        _text(kept, "IssuerOfPatientID"),
        frozenset(one.modality for one in found if one.modality),
        frozenset(one.body_part_examined for one in found if one.body_part_examined),
    )


def asked_of_late(index: Index, rule: str, clock: Callable[[], float] = time.time) -> set[tuple[str, str, str]]:
    """(kind, node, study) of what the rule has begun of late, whatever has become of it."""
    c = transfer.c
    late = round((clock() - _AGAIN_SECONDS) * 1e6)
    query = select(c.kind, c.node, c.study_instance_uid).where(c.rule == rule, c.created_at >= late)
    with index.database.read() as connection:
        return {(row.kind, row.node, row.study_instance_uid) for row in connection.execute(query)}


def _ready(one: Rule) -> _Ready:
    rule = one.definition
    assert isinstance(rule, Prefetch)
    return _Ready(one.name, rule, one.since, conditions_of(rule.conditions))


def _of_entry(study_uid: str, dataset: Dataset) -> Subject:
    values = fields_of(dataset)
    modality = values.get("Modality")
    return Subject(
        study_uid,
        str(values.get("PatientID", "")),
        str(values.get("IssuerOfPatientID", "")),
        frozenset({str(modality)} if modality else ()),
        frozenset(),
    )


def _flat(dataset: Dataset) -> Dataset:
    """An entry with the attributes of its step beside those of its request, as rules name them."""
    return {**step_of(dataset), **dataset}


def _text(dataset: Dataset, keyword: str) -> str:
    values = dataset.get(tag_of(keyword), {}).get("Value") or [""]
    return str(values[0] or "").strip()
