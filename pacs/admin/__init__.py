"""Administration over HTTP: the API under `/api`."""

from __future__ import annotations

from starlette.routing import BaseRoute

from pacs.admin import entities
from pacs.admin.api import routes as _routes
from pacs.admin.principals import Rule, everybody
from storage.index import Index

__all__ = ["routes"]


def routes(index: Index, *, calling: str, public_url: str = "", rule: Rule = everybody) -> list[BaseRoute]:
    """Every route of administration. `calling` is the AE title under which this archive calls others."""
    table = entities.operations(index, calling)
    return _routes(table, rule=rule, public_url=public_url)
