"""`/api/callers`: who wants to connect, may once, or is blocked; and to let them in, or not."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from pacs.admin.api import Asked, Operation
from pacs.admin.entities import Node, RightName, node_of, sorted_rights
from pacs.ae_titles import blockable
from storage.errors import BadRequest, NotFound
from storage.index import Index
from storage.index import callers as registry
from storage.index.ae import Right
from storage.index.callers import Caller, State
from storage.index.identities import identity_of

_CALLER: Final = "/api/callers/{number}"


class Wanting(BaseModel):
    """A caller that is no known node from where it calls; an empty AE title or address stands for any."""

    number: int
    calling_ae: str
    address: str
    called_ae: str
    state: State
    rights: Annotated[list[Right], Field(description="Those that what it asked for needs.")]
    reason: str
    times: int
    first_at: datetime
    last_at: datetime
    until: Annotated[datetime | None, Field(description="Until when it may have one association.")]
    certificate: Annotated[str, Field(description="SHA-256 of the certificate that it has shown; empty: none.")]


class CallerFilter(BaseModel):
    """Which callers."""

    model_config = ConfigDict(extra="forbid")

    state: State | None = None


class Allowing(BaseModel):
    """How to let a caller in."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rights: Annotated[list[RightName] | None, Field(description="null: those that what it asked for needs.")] = None
    anywhere: Annotated[bool, Field(description="From any address, not only the one it called from.")] = False
    tied: Annotated[bool, Field(description="With the certificate that it has shown, and no other.")] = False


class Blocking(BaseModel):
    """Whom to block: an AE title, an address, or the two together."""

    model_config = ConfigDict(extra="forbid", strict=True)

    calling_ae: Annotated[str, Field(max_length=16)] = ""
    address: Annotated[str, Field(max_length=64)] = ""


def operations(index: Index) -> tuple[Operation, ...]:
    """The operations on callers."""

    def every(asked: Asked) -> list[Wanting]:
        return [_wanting(one) for one in registry.callers(index, asked.query.state)]

    def allow(asked: Asked) -> Node:
        body = asked.body
        node = registry.allow(index, _caller(index, asked), _rights(asked), anywhere=body.anywhere, tied=body.tied)
        return node_of(node, identity_of(index, node.title))

    def allow_once(asked: Asked) -> Wanting:
        if asked.body.anywhere or asked.body.tied:
            raise BadRequest("once is from the address that it called from: leave out anywhere and tied")
        one = _caller(index, asked)
        registry.allow_once(index, one, _rights(asked))
        return _wanting(registry.caller_of(index, one.id))

    def block(asked: Asked) -> Wanting:
        one = _caller(index, asked)
        registry.block(index, one.calling_ae, one.address)
        return _wanting(registry.caller_of(index, one.id))

    def block_named(asked: Asked) -> Wanting:
        title, address = blockable(asked.body.calling_ae, asked.body.address)
        registry.block(index, title, address)
        found = (one for one in registry.callers(index, State.BLOCKED))
        return _wanting(next(one for one in found if (one.calling_ae, one.address) == (title, address)))

    def forget(asked: Asked) -> None:
        registry.forget(index, _caller(index, asked))

    return (
        Operation("GET", "/api/callers", every, "Who wants to connect or is blocked.", gives=list[Wanting], asks=CallerFilter),
        Operation("POST", "/api/callers", block_named, "Block an AE title, an address or both.", takes=Blocking, gives=Wanting),
        Operation("DELETE", _CALLER, forget, "Take a caller off the list; one that was blocked is so no longer."),
        Operation("POST", f"{_CALLER}/allow", allow, "Make it a node.", takes=Allowing, gives=Node),
        Operation("POST", f"{_CALLER}/allow-once", allow_once, "Let it have one association.", takes=Allowing, gives=Wanting),
        Operation("POST", f"{_CALLER}/block", block, "Refuse it from now on.", gives=Wanting),
    )


def _rights(asked: Asked) -> frozenset[Right] | None:
    return None if asked.body.rights is None else frozenset(asked.body.rights)


def _caller(index: Index, asked: Asked) -> Caller:
    text = asked.path["number"]
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise NotFound("there is no caller of this number; GET /api/callers lists those there are")
    return registry.caller_of(index, int(text))


def _wanting(one: Caller) -> Wanting:
    return Wanting(
        number=one.id,
        calling_ae=one.calling_ae,
        address=one.address,
        called_ae=one.called_ae,
        state=one.state,
        rights=sorted_rights(one.rights),
        reason=one.reason,
        times=one.times,
        first_at=one.first_at,
        last_at=one.last_at,
        until=one.until,
        certificate=one.certificate,
    )
