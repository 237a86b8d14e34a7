"""The job that asks other archives for earlier studies of a patient, and the periodic work that notices for whom."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import structlog

from pacs.scp.transport import Ended
from pacs.scu import querying
from pacs.scu.asking import keys_of, text_of
from pacs.scu.associating import Destination, NotReached
from storage.attributes import tag_of
from storage.errors import LightboxError, NotFound
from storage.index import Index
from storage.matching import parse
from storage.priors import Subject, asked_of_late, subject_of
from storage.rules import Prefetch, rule_named
from storage.transfer_records import RETRIEVE, SEND, Order
from storage.transfers import Transfers
from storage.types import Dataset, Level, Query, Scope

if TYPE_CHECKING:
    from pacs.processing import Work

_log = structlog.get_logger(__name__)
_ANSWER_SECONDS: Final = 60.0
# Studies of one patient that are looked at.
_MOST: Final = 500
_WILD: Final = frozenset("*?\\")
_FIELDS: Final = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "PatientID",
    "IssuerOfPatientID",
    "ModalitiesInStudy",
    "NumberOfStudyRelatedInstances",
)
_UID, _DATE, _TIME, _PATIENT, _ISSUER, _MODALITIES, _NUMBER = map(tag_of, _FIELDS)
_MODALITY: Final = tag_of("Modality")
_BODY_PART: Final = tag_of("BodyPartExamined")


@dataclass(frozen=True, slots=True)
class _Prior:
    study: str
    when: str
    instances: int
    # Where it is; empty: here.
    source: str


def gather(work: Work) -> None:
    """Have priors fetched for what was scheduled, and what has begun to come."""
    while work.priors.gather():
        pass


def fetch(work: Work, payload: Mapping[str, Any]) -> None:
    """Run the job `prefetch-priors`: find the priors, and begin their transfers. Raises what keeps a source from being asked."""
    index = work.archive.index
    found = rule_named(index, Prefetch, payload["rule"])
    subject = subject_of(index, payload["study"], int(payload["entry"]))
    if found is None or not found.enabled or subject is None or not subject.patient_id:
        # Nobody wants it any more, or nobody can say whose they are.
        return
    rule = found.definition
    assert isinstance(rule, Prefetch)
    here = {one.study: one for one in _own(index, subject)}
    priors = dict[str, _Prior]()
    failure: LightboxError | None = None
    for title in rule.sources:
        try:
            for one in _remote(work, title, rule, subject):
                priors.setdefault(one.study, one)
        except querying.Failed as error:
            failure = LightboxError(error.without_comment)
            _log.warning("prefetch.source_failed", source=title, reason=error.without_comment)
        except LightboxError as error:
            _log.warning("prefetch.source_failed", source=title, reason=str(error))
            failure = error
    if rule.own:
        priors |= {one.study: one for one in here.values() if _like_own(index, one, rule, subject)}
    newest = sorted(priors.values(), key=lambda one: (one.when, one.study), reverse=True)[: rule.newest]
    begun = _begin(work, payload["rule"], rule, newest, here)
    _log.info("priors.wanted", rule=payload["rule"], study=subject.study, found=len(priors), begun=begun)
    if failure is not None:
        raise failure


def _begin(work: Work, name: str, rule: Prefetch, priors: list[_Prior], here: dict[str, _Prior]) -> int:
    """Begin the transfers of priors that were not begun of late; how many."""
    index, transfers = work.archive.index, Transfers(work.archive.index)
    known, begun = asked_of_late(index, name), 0
    target = rule.to if rule.direct else work.settings.ae_title if rule.move else ""
    then_to = "" if rule.direct else rule.to
    for one in priors:
        scope, own = Scope(one.study), here.get(one.study)
        complete = own is not None and (not one.source or own.instances >= one.instances)
        if not complete and (RETRIEVE, one.source, one.study) not in known:
            order = Order(one.source, scope, RETRIEVE, rule=name, target=target, then_to=then_to, sending=rule.sending)
            transfers.retrieve(order)
            begun += 1
        elif complete and rule.to and (SEND, rule.to, one.study) not in known:
            transfers.send(scope, rule.to, rule=name, sending=rule.sending)
            begun += 1
    return begun


def _remote(work: Work, title: str, rule: Prefetch, subject: Subject) -> Iterator[_Prior]:
    """The priors that a node has, of those that the rule wants."""
    with work.nodes.calling(title):
        destination = work.destination(title, answer_seconds=_ANSWER_SECONDS)
        if destination is None:
            raise NotFound(f"{title} is no node that can be called: pacs ae add {title} HOST PORT, then retry")
        try:
            candidates = sorted(_studies(destination, rule, subject), key=lambda match: text_of(match, _DATE), reverse=True)
            taken = 0
            for match in candidates:
                if taken < rule.newest and _like(destination, match, rule, subject):
                    taken += 1
                    number = text_of(match, _NUMBER)
                    when = text_of(match, _DATE) + text_of(match, _TIME)
                    yield _Prior(text_of(match, _UID), when, int(number) if number.isdigit() else 1, title)
        except NotReached:
            work.nodes.away(title)
            raise
        except Ended as error:
            raise NotReached(f"{title} ended the association before it had answered: {error}") from error


def _studies(destination: Destination, rule: Prefetch, subject: Subject) -> Iterator[Dataset]:
    """The other studies of the patient: asked for by Patient ID, and compared here once more. The issuer is only compared: of
    many archives' studies nobody has recorded it."""
    if _WILD & set(subject.patient_id):
        # It would be asked for as a pattern (PS3.4 C.2.2.2.4), and answer for other patients.
        return
    since = datetime.now(UTC) - timedelta(days=365.25 * rule.years)
    wanted = dict.fromkeys(_FIELDS, "")
    wanted |= {"PatientID": subject.patient_id, "StudyDate": f"{since:%Y%m%d}-"}
    for match in querying.find(destination, Level.STUDY, keys_of(wanted.items()), most=_MOST):
        if _is_theirs(match, subject):
            yield match


def _is_theirs(match: Dataset, subject: Subject) -> bool:
    """Whether it is another study of the same patient, as far as anybody has said who gave the Patient ID."""
    issuer = text_of(match, _ISSUER).strip()
    same_issuer = not issuer or not subject.issuer or issuer == subject.issuer
    another = text_of(match, _UID) not in ("", subject.study)
    return another and same_issuer and text_of(match, _PATIENT).strip() == subject.patient_id


def _like(destination: Destination, match: Dataset, rule: Prefetch, subject: Subject) -> bool:
    """Whether a study has a series of the same modality and body part, as far as the rule asks and anybody knows."""
    modalities = set(text_of(match, _MODALITIES).split("\\")) - {""}
    by_modality = rule.same_modality and bool(subject.modalities)
    if by_modality and modalities and not modalities & subject.modalities:
        return False
    by_part = rule.same_body_part and bool(subject.body_parts)
    if not by_part and (modalities or not by_modality):
        return True
    keys = keys_of({"StudyInstanceUID": text_of(match, _UID), "SeriesInstanceUID": "", "Modality": "", "BodyPartExamined": ""}.items())
    for one in querying.find(destination, Level.SERIES, keys, most=_MOST):
        right_modality = not by_modality or text_of(one, _MODALITY) in subject.modalities
        if right_modality and (not by_part or text_of(one, _BODY_PART) in subject.body_parts):
            return True
    return False


def _own(index: Index, subject: Subject) -> Iterator[_Prior]:
    """The other studies of the patient that are here."""
    if _WILD & set(subject.patient_id):
        return
    conditions = (((_PATIENT,), parse((_PATIENT,), "LO", subject.patient_id)),)
    fields = frozenset({_UID, _DATE, _TIME, _NUMBER, _PATIENT, _ISSUER})
    for match in index.find(Query(Level.STUDY, conditions, fields, limit=_MOST)):
        if _is_theirs(match, subject):
            number = text_of(match, _NUMBER)
            yield _Prior(text_of(match, _UID), text_of(match, _DATE) + text_of(match, _TIME), int(number or 0), "")


def _like_own(index: Index, one: _Prior, rule: Prefetch, subject: Subject) -> bool:
    since = time.time() - 365.25 * 86400 * rule.years
    if one.when[:8] < f"{datetime.fromtimestamp(since, UTC):%Y%m%d}":
        return False
    there = subject_of(index, one.study)
    if there is None:
        return False
    if rule.same_modality and subject.modalities and not there.modalities & subject.modalities:
        return False
    return not (rule.same_body_part and subject.body_parts) or bool(there.body_parts & subject.body_parts)
