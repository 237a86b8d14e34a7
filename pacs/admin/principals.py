"""Who asks something of the administration: the one place where that is decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import Scope


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request comes from, as far as this server knows."""

    name: str


# From a request to who makes it; raises `WebRefusal` (401, 403) for who may not.
Rule = Callable[[Scope], Principal]


def everybody(scope: Scope) -> Principal:
    """Without sign-in, whoever reaches the server administers it: it listens on loopback, or PACS_TRUST_NETWORK says so."""
    client = scope.get("client")
    return Principal(client[0] if client else "")
