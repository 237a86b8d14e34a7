"""Administration over HTTP: the API under `/api`."""

from __future__ import annotations

from collections.abc import Callable

from starlette.routing import BaseRoute

from pacs.admin import associations, callers, deleted, entities, holds, procedure_steps, quarantine, worklist
from pacs.admin.api import routes as _routes
from pacs.admin.principals import Rule, everybody
from pacs.tls import Credentials
from storage.archive import Archive

__all__ = ["routes"]


def routes(
    archive: Archive,
    *,
    calling: str,
    credentials: Credentials = Credentials(),  # noqa: B008 - frozen
    public_url: str = "",
    rule: Rule = everybody,
    stopping: Callable[[], bool] = lambda: False,
) -> list[BaseRoute]:
    """Every route of administration. `calling` is the AE title under which this archive calls others, `credentials` who it
    is over TLS.

    What is sent without end ends when the server is `stopping`.
    """
    index = archive.index
    table = (
        *entities.operations(index, calling, credentials),
        *callers.operations(index),
        *associations.operations(index, stopping),
        *deleted.operations(archive),
        *holds.operations(index),
        *worklist.operations(index),
        *quarantine.operations(archive),
        *procedure_steps.operations(index),
    )
    return _routes(table, rule=rule, public_url=public_url)
