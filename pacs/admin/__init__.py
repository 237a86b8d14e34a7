"""Administration over HTTP: the API under `/api`, and pages that use it under `/admin/`."""

from __future__ import annotations

from collections.abc import Callable

from starlette.routing import BaseRoute

from pacs.admin import (
    associations,
    callers,
    certificates,
    deleted,
    entities,
    holds,
    jobs,
    originals,
    pages,
    presets,
    procedure_steps,
    quarantine,
    remote,
    rules,
    searchable,
    transfers,
    worklist,
)
from pacs.admin.api import routes as _routes
from pacs.admin.principals import Rule, everybody
from pacs.admin.remote import Remote
from pacs.scp.journal import Journal
from pacs.tls import Credentials
from storage.archive import Archive

__all__ = ["page_routes", "routes"]


def routes(
    archive: Archive,
    *,
    calling: str,
    credentials: Credentials = Credentials(),  # noqa: B008 - frozen
    public_url: str = "",
    rule: Rule = everybody,
    stopping: Callable[[], bool] = lambda: False,
    journal: Journal | None = None,
) -> list[BaseRoute]:
    """Every route of administration. `calling` is the AE title under which this archive calls others, `credentials` who it
    is over TLS.

    What is sent without end ends when the server is `stopping`. `journal` is told of associations with other archives.
    """
    index = archive.index
    table = (
        *entities.operations(index, calling, credentials),
        *callers.operations(index),
        *certificates.operations(index, credentials),
        *associations.operations(index, stopping),
        *deleted.operations(archive),
        *holds.operations(index),
        *worklist.operations(index),
        *quarantine.operations(archive),
        *originals.operations(archive),
        *searchable.operations(index),
        *procedure_steps.operations(index),
        *remote.operations(Remote(index, calling, credentials, journal)),
        *presets.operations(index),
        *rules.operations(index),
        *transfers.operations(index),
        *jobs.operations(index),
    )
    return _routes(table, rule=rule, public_url=public_url)


def page_routes(
    archive: Archive,
    *,
    calling: str,
    unknown_callers: str,
    credentials: Credentials = Credentials(),  # noqa: B008 - frozen
    rule: Rule = everybody,
    journal: Journal | None = None,
) -> list[BaseRoute]:
    """Every page. `unknown_callers` is what the settings say of them; the others as in `routes`."""
    asked = Remote(archive.index, calling, credentials, journal)
    return pages.routes(
        archive.index, calling=calling, unknown_callers=unknown_callers, rule=rule, remote=asked, credentials=credentials
    )
