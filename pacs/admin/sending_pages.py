"""The pages about routes, transfers, jobs, and what other archives have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from pacs.admin import jobs, transfers
from pacs.admin.remote import Answers, Question, Remote
from pacs.scu.asking import text_of
from storage.attributes import tag_of
from storage.errors import LightboxError
from storage.index import Index
from storage.index.ae import ae_titles
from storage.jobs import JobQueue
from storage.matching import parse
from storage.problems import WebRefusal
from storage.procedure_steps import is_uid
from storage.rules import Prefetch, Route, rules
from storage.transfer_records import State
from storage.transfers import Transfers
from storage.types import Level, Query

if TYPE_CHECKING:
    from pacs.admin.pages import Asked

_ROWS: Final = 50
_ANSWERS: Final = 100
# What other archives are asked for on the page.
_FIELDS: Final = {
    "PatientName": "Patient's name",
    "PatientID": "Patient ID",
    "AccessionNumber": "Accession number",
    "StudyDate": "Date",
    "ModalitiesInStudy": "Modality",
}
_SHOWN: Final = ("StudyDescription", "NumberOfStudyRelatedInstances")
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class SendingPages:
    """What these pages show of an index."""

    index: Index
    remote: Remote

    def table(self) -> dict[str, tuple[str, Callable[[Asked], dict[str, Any]]]]:
        """Address -> template and what it needs."""
        return {
            "/admin/routes": ("routes.html", self.routes),
            "/admin/transfers": ("transfers.html", self.transfers),
            "/admin/parts/transfers": ("transfer_rows.html", self.transfers),
            "/admin/remote": ("remote.html", self.others),
            "/admin/jobs": ("jobs.html", self.jobs),
            "/admin/parts/jobs": ("job_rows.html", self.jobs),
        }

    def routes(self, _asked: Asked) -> dict[str, Any]:
        """Routes, default destinations, and rules for priors."""
        known = ae_titles(self.index)
        return {
            "routes": rules(self.index, Route),
            "prefetch": rules(self.index, Prefetch),
            "implied": [node for node in known if node.destinations],
            "nodes": [node for node in known if node.port or node.url],
        }

    def transfers(self, asked: Asked) -> dict[str, Any]:
        """What was sent and fetched."""
        query = _asked(transfers.Filter, asked).model_copy(update={"limit": _ROWS})
        page = transfers.page(Transfers(self.index), query)
        return {"transfers": page.transfers, "counts": page.counts, "older": page.next, "query": query, "states": list(State)}

    def others(self, asked: Asked) -> dict[str, Any]:
        """What another archive has, and how much of that is here."""
        node = asked.query.get("node", "")
        keys = {name: value.strip() for name, value in asked.query.items() if name in _FIELDS}
        answers, failure = None, ""
        if node and not any(keys.values()):
            failure = "Say something of what is looked for: all that an archive has is too much."
        elif node:
            answers, failure = self._answers(node, keys)
        here = self._here(answers) if answers else {}
        nodes = [one for one in ae_titles(self.index) if one.port]
        return {"nodes": nodes, "node": node, "keys": keys, "fields": _FIELDS, "answers": answers, "failure": failure, "here": here}

    def _answers(self, node: str, keys: dict[str, str]) -> tuple[Answers | None, str]:
        try:
            question = Question(keys={**dict.fromkeys(_SHOWN, ""), **dict.fromkeys(_FIELDS, ""), **keys}, limit=_ANSWERS)
            return self.remote.ask(node, question), ""
        except ValidationError:
            return None, "No archive can be asked for that."
        except (LightboxError, WebRefusal) as error:
            return None, str(error)

    def _here(self, answers: Answers) -> dict[str, str]:
        """How many instances of each study are here."""
        uid, number = tag_of("StudyInstanceUID"), tag_of("NumberOfStudyRelatedInstances")
        uids = [text for one in answers.matches if isinstance(text := one.get("StudyInstanceUID"), str) and is_uid(text)]
        if not uids:
            return {}
        found = self.index.find(Query(Level.STUDY, (((uid,), parse((uid,), "UI", uids)),), frozenset({uid, number})))
        return {text_of(one, uid): text_of(one, number) for one in found}

    def jobs(self, asked: Asked) -> dict[str, Any]:
        """The queue."""
        query = _asked(jobs.Filter, asked).model_copy(update={"limit": _ROWS})
        page = jobs.page(JobQueue(self.index), query)
        return {"jobs": page.jobs, "counts": page.counts, "older": page.next, "query": query}


def _asked(model: type[Model], asked: Asked) -> Model:
    """What a form asks; a field that was left empty asks nothing."""
    try:
        return model.model_validate_strings({name: value for name, value in asked.query.items() if value})
    except ValidationError:
        raise WebRefusal(400, "this page cannot be searched for that", "use its form") from None
