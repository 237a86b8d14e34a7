"""The pages about routes, transfers, jobs, and what other archives have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from pacs.admin import jobs, transfers
from storage.index import Index
from storage.index.ae import ae_titles
from storage.jobs import JobQueue
from storage.problems import WebRefusal
from storage.rules import Prefetch, Route, rules
from storage.transfers import State, Transfers

if TYPE_CHECKING:
    from pacs.admin.pages import Asked

_ROWS: Final = 50
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class SendingPages:
    """What these pages show of an index."""

    index: Index

    def table(self) -> dict[str, tuple[str, Callable[[Asked], dict[str, Any]]]]:
        """Address -> template and what it needs."""
        return {
            "/admin/routes": ("routes.html", self.routes),
            "/admin/transfers": ("transfers.html", self.transfers),
            "/admin/parts/transfers": ("transfer_rows.html", self.transfers),
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
            "nodes": [node for node in known if node.port],
        }

    def transfers(self, asked: Asked) -> dict[str, Any]:
        """What was sent and fetched."""
        query = _asked(transfers.Filter, asked).model_copy(update={"limit": _ROWS})
        page = transfers.page(Transfers(self.index), query)
        return {"transfers": page.transfers, "counts": page.counts, "older": page.next, "query": query, "states": list(State)}

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
