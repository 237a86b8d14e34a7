"""`/api/routes` and `/api/prefetch-rules`: what is sent on, and fetched, without anybody asking; changed while running."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from pacs.admin.api import Asked, Operation
from pacs.admin.entities import PRINTABLE, Words
from storage.errors import NotFound
from storage.index import Index
from storage.rules import (
    Prefetch,
    Priority,
    Route,
    Rule,
    Sending,
    Trigger,
    When,
    put_rule,
    remove_rule,
    rule_named,
    rules,
)

_STRICT: Final = ConfigDict(extra="forbid", strict=True)

Title = Annotated[str, Field(max_length=64, pattern=PRINTABLE)]
Matched = Annotated[
    dict[
        Annotated[str, Field(min_length=1, max_length=1000, pattern=PRINTABLE)],
        Annotated[str, Field(max_length=4000, pattern=PRINTABLE)],
    ],
    Field(
        max_length=50,
        description="Attributes by keyword, with dots into sequences, or by tag (a private one as ggggxxee:CREATOR), and what each"
        " must match, as in a query (PS3.4 C.2.2.2): values with a backslash between them, wildcards, ranges.",
    ),
]


class HowSent(BaseModel):
    """How something is sent."""

    model_config = _STRICT

    commit: Annotated[bool, Field(description="Whether the node is asked for storage commitment afterwards.")] = False
    priority: Annotated[Priority, Field(strict=False, description="Priority (0000,0700); high goes before all that waits.")] = Priority.MEDIUM
    hours: Annotated[str, Field(max_length=11, description="Only between these of the server's clock, as 22:00-06:00; empty: always.")] = ""
    parallel: Annotated[int, Field(ge=1, le=8, description="Associations side by side.")] = 1

    @property
    def sending(self) -> Sending:
        """As it is kept. Raises BadRequest."""
        return Sending(self.commit, self.priority, self.hours, self.parallel)


class _Said(BaseModel):
    model_config = _STRICT

    enabled: bool = True
    position: Annotated[int, Field(ge=-1_000_000, le=1_000_000, description="Rules are shown by position, then by name.")] = 0
    conditions: Matched = {}
    sending: HowSent = HowSent()


class NewRoute(_Said):
    """What comes is sent on to the node `to`, unless it has come from there."""

    to: Title
    calling: Annotated[Words, Field(description="AE titles, with wildcards, of those that it must have come from; none: from anywhere.")] = []
    called: Annotated[Words, Field(description="AE titles of this archive that must have been called; none: any.")] = []
    when: Annotated[When, Field(strict=False, description="As it comes, or a series or study when nothing more of it comes.")] = When.INSTANCE
    quiet_seconds: Annotated[float, Field(ge=0, le=86400, description="How long that is; a study also waits for its MPPS to end.")] = 60.0
    imported: Annotated[bool, Field(description="Also what comes by pacs import.")] = False
    replaced: Annotated[bool, Field(description="Also what replaces an earlier version.")] = False
    retrieved: Annotated[bool, Field(description="Also what this archive has fetched from another node.")] = False

    def definition(self) -> Route:
        """As it is kept. Raises BadRequest."""
        return Route(
            self.to,
            dict(self.conditions),
            tuple(self.calling),
            tuple(self.called),
            self.when,
            self.quiet_seconds,
            self.imported,
            self.replaced,
            self.retrieved,
            self.sending.sending,
        )


class KnownRoute(NewRoute):
    """A route by its name."""

    name: str


class NewPrefetch(_Said):
    """Earlier studies of a patient are fetched when a worklist entry is made, or the first instance of a study comes."""

    sources: Annotated[Words, Field(description="AE titles of the nodes that are asked for them.")] = []
    to: Annotated[Title, Field(description="The node to which they are sent on; empty: they stay here.")] = ""
    own: Annotated[bool, Field(description="Whether those that are here already are sent there too.")] = False
    trigger: Annotated[Trigger, Field(strict=False)] = Trigger.EITHER
    same_modality: Annotated[bool, Field(description="Only studies with a series of the same modality.")] = True
    same_body_part: Annotated[bool, Field(description="Only studies with a series of the same Body Part Examined.")] = False
    newest: Annotated[int, Field(ge=1, le=100)] = 3
    years: Annotated[float, Field(gt=0, le=200)] = 10.0
    move: Annotated[bool, Field(description="By C-MOVE to this archive instead of by C-GET.")] = False
    direct: Annotated[bool, Field(description="By C-MOVE from the source to `to`, past this archive.")] = False

    def definition(self) -> Prefetch:
        """As it is kept. Raises BadRequest."""
        return Prefetch(
            tuple(self.sources),
            self.to,
            self.own,
            self.trigger,
            dict(self.conditions),
            self.same_modality,
            self.same_body_part,
            self.newest,
            self.years,
            self.move,
            self.direct,
            self.sending.sending,
        )


class KnownPrefetch(NewPrefetch):
    """A rule for priors by its name."""

    name: str


def operations(index: Index) -> tuple[Operation, ...]:
    """The operations on routes and on rules for priors."""
    return (
        *_operations(index, Route, "/api/routes", NewRoute, KnownRoute, "route"),
        *_operations(index, Prefetch, "/api/prefetch-rules", NewPrefetch, KnownPrefetch, "rule for priors"),
    )


def _operations(index: Index, kind: type, path: str, takes: Any, gives: Any, what: str) -> tuple[Operation, ...]:
    def shown(one: Rule) -> Any:
        return gives(name=one.name, enabled=one.enabled, position=one.position, **_plain(one))

    def every(_asked: Asked) -> list[Any]:
        return [shown(one) for one in rules(index, kind)]

    def one(asked: Asked) -> Any:
        found = rule_named(index, kind, asked.path["name"])
        if found is None:
            raise NotFound(f"there is no {what} of this name; GET {path} lists those there are")
        return shown(found)

    def put(asked: Asked) -> Any:
        body = asked.body
        put_rule(index, Rule(asked.path["name"], body.definition(), body.enabled, body.position))
        return one(asked)

    def remove(asked: Asked) -> None:
        if not remove_rule(index, kind, asked.path["name"]):
            one(asked)

    named = f"{path}/{{name}}"
    return (
        Operation("GET", path, every, f"Every {what}.", gives=list[gives]),
        Operation("GET", named, one, f"One {what}.", gives=gives),
        Operation("PUT", named, put, f"Add a {what}, or change the one of this name: for what comes from now on.", takes=takes, gives=gives),
        Operation("DELETE", named, remove, f"Remove a {what}. What it has begun goes on."),
    )


def _plain(one: Rule) -> dict[str, Any]:
    """As the models have it: they are strict, and lists are what JSON has."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(one.definition).items()}
