"""`/api/transfers`: what is sent to other nodes and fetched from them: begun by hand, watched, cancelled, tried again."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from pacs.admin.api import Asked, Operation
from pacs.admin.rules import HowSent, Title
from storage.errors import BadRequest, NotFound
from storage.index import Index
from storage.index.ae import ae_title_of
from storage.procedure_steps import is_uid
from storage.transfer_records import RETRIEVE, SEND, Order, State, Transfer, Wanted
from storage.transfers import Transfers
from storage.types import Scope

_ONE: Final = "/api/transfers/{number}"
# Transfers that are tried again at once.
_MOST: Final = 1000

Uid = Annotated[str, Field(max_length=64)]
Kind = Literal["send", "retrieve"]


class NewTransfer(BaseModel):
    """What is to be sent to a node, or fetched from it (`kind` retrieve): a study, or one of its series."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Kind = "send"
    node: Title
    study: Uid
    series: Uid = ""
    target: Annotated[Title, Field(description="Of retrieve: the node that it is sent to by C-MOVE; empty: to this archive by C-GET.")] = ""
    then_to: Annotated[Title, Field(description="Of retrieve: the node that this archive sends it on to.")] = ""
    sending: HowSent = HowSent()


class NotSent(BaseModel):
    """An instance that was not sent, with the status (PS3.4 B.2.3, or this archive's) and why."""

    instance: str
    status: Annotated[str, Field(description="In four hex digits.")]
    reason: str


class Shown(BaseModel):
    """A transfer as it is."""

    number: int
    kind: Kind
    state: State
    rule: Annotated[str, Field(description="By which rule; '=TITLE': a default destination of that node; empty: by hand.")]
    asked_by: str
    node: str
    target: str
    then_to: str
    study: str
    series: str
    total: int
    waiting: int
    completed: int
    warnings: int
    failed: int
    tries: int
    due_at: datetime | None
    error: Annotated[str, Field(description="Why the last try failed, and what to do; or a remark on what is done.")]
    failures: Annotated[list[NotSent], Field(description="Those of the last try, not all of many.")]
    begun_at: datetime
    updated_at: datetime
    job: int


class Page(BaseModel):
    """Some of the transfers, the latest first; `next` is `before` of the page after it, null on the last. `counts` are of all."""

    counts: dict[State, int]
    transfers: list[Shown]
    next: int | None


class Filter(BaseModel):
    """Which transfers."""

    model_config = ConfigDict(extra="forbid")

    state: State | None = None
    kind: Kind | None = None
    node: Title = ""
    study: Uid = ""
    rule: Title = ""
    before: Annotated[int | None, Field(ge=1, le=2**62)] = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100

    @property
    def wanted(self) -> Wanted:
        """As transfers are searched."""
        return Wanted(self.state, self.kind or "", self.node, self.study, self.rule)


class Failed(BaseModel):
    """Which of those that have failed."""

    model_config = ConfigDict(extra="forbid", strict=True)

    node: Title = ""
    rule: Title = ""


class Number(BaseModel):
    """How many."""

    number: int


def operations(index: Index) -> tuple[Operation, ...]:
    """The operations on transfers."""
    transfers = Transfers(index)

    def add(asked: Asked) -> Shown:
        body: NewTransfer = asked.body
        return shown_of(transfers.one(begin(index, body, asked.principal.name)))

    def change(name: str) -> Operation:
        def again(asked: Asked) -> Shown:
            return shown_of(transfers.one(transfers.again(number_of(asked.path["number"]), asked.principal.name)))

        def cancel(asked: Asked) -> Shown:
            number = number_of(asked.path["number"])
            transfers.cancel(number)
            return shown_of(transfers.one(number))

        handler, summary = {
            "again": (again, "Try one that waits or has failed now, or do one that is over once more."),
            "cancel": (cancel, "Cancel one: if it runs, it ends after the instance in hand."),
        }[name]
        return Operation("POST", f"{_ONE}/{name}", handler, summary, gives=Shown)

    def all_again(asked: Asked) -> Number:
        wanted = Wanted(State.FAILED, node=asked.body.node, rule=asked.body.rule)
        failed = transfers.search(wanted, limit=_MOST)
        for one in failed:
            transfers.again(one.number, asked.principal.name)
        return Number(number=len(failed))

    return (
        Operation("GET", "/api/transfers", lambda asked: page(transfers, asked.query), "What was sent and fetched, and how it goes.", gives=Page, asks=Filter),
        Operation("POST", "/api/transfers", add, "Send a study to a node, or fetch one.", takes=NewTransfer, gives=Shown),
        Operation("POST", "/api/transfers/again", all_again, "Try what has failed again: all of it, of a node, or of a rule.", takes=Failed, gives=Number),
        Operation("GET", _ONE, lambda asked: shown_of(transfers.one(number_of(asked.path["number"]))), "One of them.", gives=Shown),
        change("again"),
        change("cancel"),
    )


def begin(index: Index, said: NewTransfer, asked_by: str) -> int:
    """Begin a transfer; its number. Raises BadRequest for what names no study or node, NotFound."""
    for uid in (said.study, said.series):
        if uid and not is_uid(uid):
            raise BadRequest("give the study, and a series of it, by their UIDs")
    for title in filter(None, (said.node, said.then_to)):
        known = ae_title_of(index, title)
        # By STOW-RS it can only be sent to.
        sent_to = said.kind == SEND or title == said.then_to
        if known is None or not (known.port or (known.url and sent_to)):
            raise NotFound(f"there is no node {title!r} that can be called: pacs ae add {title} HOST PORT")
    scope = Scope(said.study, said.series or None)
    if said.kind == SEND:
        if said.target or said.then_to:
            raise BadRequest("a target and a node to go on to are for what is fetched")
        return Transfers(index).send(scope, said.node, asked_by=asked_by, sending=said.sending.sending)
    order = Order(said.node, scope, RETRIEVE, asked_by=asked_by, target=said.target, then_to=said.then_to, sending=said.sending.sending)
    return Transfers(index).retrieve(order)


def page(transfers: Transfers, asked: Filter) -> Page:
    """A page of what is looked for."""
    found = transfers.search(asked.wanted, before=asked.before, limit=asked.limit + 1)
    some = found[: asked.limit]
    following = some[-1].number if len(found) > asked.limit else None
    return Page(counts=transfers.counts(), transfers=[shown_of(one) for one in some], next=following)


def number_of(text: str) -> int:
    """A number of a path. Raises NotFound."""
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise NotFound("there is nothing of this number")
    return int(text)


def shown_of(one: Transfer) -> Shown:
    """A transfer as the API gives it."""
    return Shown(
        number=one.number,
        kind="send" if one.kind == SEND else "retrieve",
        state=one.state,
        rule=one.rule,
        asked_by=one.asked_by,
        node=one.node,
        target=one.target,
        then_to=one.then_to,
        study=one.scope.study,
        series=one.scope.series or "",
        total=one.total,
        waiting=one.waiting,
        completed=one.completed,
        warnings=one.warned,
        failed=one.failed,
        tries=one.tries,
        due_at=one.due_at,
        error=one.error,
        failures=[NotSent(instance=f.instance, status=f"{f.status:04X}", reason=f.reason) for f in one.failures],
        begun_at=one.created_at,
        updated_at=one.updated_at,
        job=one.job,
    )
