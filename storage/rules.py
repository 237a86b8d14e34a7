"""Rules that send on and fetch by themselves: what each says, kept in the database, and changed while running.

Attributes are matched as C-FIND and QIDO-RS match them (PS3.4 C.2.2.2), with the same code. Every change raises a revision, so
that a process that keeps what it has read asks for one number to know whether it is still true.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Final, TypeAlias

import orjson
from sqlalchemy import Connection, Row, delete, select, update

from storage.attributes import BY_TAG
from storage.errors import BadRequest
from storage.index import Index
from storage.index.ae import title_of
from storage.index.inserting import insert_into
from storage.index.searchable_names import path_named, vr_named
from storage.index.tables import counter
from storage.index.transfer_tables import rule
from storage.matching import Conditions, combined, parse

_COUNTER: Final = "rule"
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f/\\=][^\x00-\x1f\x7f/\\]{0,63}")
_HOURS: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_MOST_PARALLEL: Final = 8


class When(StrEnum):
    """When a route sends: what comes, as it comes, or a series or study when nothing of it has come for a while."""

    INSTANCE = "instance"
    SERIES = "series"
    STUDY = "study"


class Priority(StrEnum):
    """Priority (0000,0700) of C-STORE; what is high also goes before everything else that waits."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"

    @property
    def number(self) -> int:
        """As a command has it (PS3.7 E.1)."""
        return {Priority.LOW: 2, Priority.MEDIUM: 0, Priority.HIGH: 1}[self]


@dataclass(frozen=True, slots=True)
class Sending:
    """How something is sent. `commit`: the node is asked for storage commitment afterwards. `hours`: only between these of
    the server's clock, such as 22:00-06:00. `parallel`: on so many associations. Raises BadRequest."""

    commit: bool = False
    priority: Priority = Priority.MEDIUM
    hours: str = ""
    parallel: int = 1

    def __post_init__(self) -> None:
        if self.hours and not _HOURS.fullmatch(self.hours):
            raise BadRequest("give hours as 22:00-06:00, or none")
        if not 1 <= self.parallel <= _MOST_PARALLEL:
            raise BadRequest(f"give 1 to {_MOST_PARALLEL} associations side by side")

    def wait(self, now: float) -> float:
        """Seconds from `now`, in seconds since 1970, until the hours begin; 0 within them."""
        found = _HOURS.fullmatch(self.hours)
        if not found:
            return 0.0
        hour, minute, to_hour, to_minute = map(int, found.groups())
        local = time.localtime(now)
        at = local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec
        begin, end = hour * 3600 + minute * 60, to_hour * 3600 + to_minute * 60
        inside = begin <= at < end if begin <= end else at >= begin or at < end
        return 0.0 if inside or begin == end else float((begin - at) % 86400)


@dataclass(frozen=True, slots=True)
class Route:
    """What comes by C-STORE or STOW-RS is sent on to the node `to`, unless it has come from there.

    `conditions` maps attributes, by keyword with dots into sequences or by tag, to what they must match; `calling` and
    `called` are AE titles, with wildcards. `imported`, `replaced`, `retrieved`: also what comes by import, what replaces an earlier
    version, and what this archive has fetched itself. Raises BadRequest.
    """

    to: str
    conditions: Mapping[str, str] = field(default_factory=dict)
    calling: tuple[str, ...] = ()
    called: tuple[str, ...] = ()
    when: When = When.INSTANCE
    quiet_seconds: float = 60.0
    imported: bool = False
    replaced: bool = False
    retrieved: bool = False
    sending: Sending = field(default_factory=Sending)

    def __post_init__(self) -> None:
        title_of(self.to)
        conditions_of(self.conditions)
        titles_condition(self.calling)
        titles_condition(self.called)
        if not 0 <= self.quiet_seconds <= 86400:
            raise BadRequest("give the quiet seconds from 0 to 86400")


class Trigger(StrEnum):
    """What has priors fetched: a worklist entry that is made, the first instance of a study, or either."""

    WORKLIST = "worklist"
    ARRIVAL = "arrival"
    EITHER = "either"


@dataclass(frozen=True, slots=True)
class Prefetch:
    """Earlier studies of the patient are fetched from the nodes `sources`, and sent on to the node `to` if there is one.

    `own`: those that only this archive has are sent to `to` as well. `conditions` are those of the worklist entry, or of the first
    instance. Of the studies of the last `years` the `newest` are taken, of the same modality and body part if so said.
    `move`: by C-MOVE to this archive instead of by C-GET; `direct`: by C-MOVE from the source to `to`. Raises BadRequest.
    """

    sources: tuple[str, ...] = ()
    to: str = ""
    own: bool = False
    trigger: Trigger = Trigger.EITHER
    conditions: Mapping[str, str] = field(default_factory=dict)
    same_modality: bool = True
    same_body_part: bool = False
    newest: int = 3
    years: float = 10.0
    move: bool = False
    direct: bool = False
    sending: Sending = field(default_factory=Sending)

    def __post_init__(self) -> None:
        for one in self.sources:
            title_of(one)
        if self.to:
            title_of(self.to)
        conditions_of(self.conditions)
        if self.direct and not self.to:
            raise BadRequest("name the node to which the sources are to send")
        if self.own and not self.to:
            raise BadRequest("name the node to which the priors that are here are sent")
        if not self.sources and not self.own:
            raise BadRequest("name the nodes that are asked for priors, or have those that are here sent to a node")
        if not 1 <= self.newest <= 100 or not 0 < self.years <= 200:
            raise BadRequest("give the newest 1 to 100 studies, of the last years up to 200")


Definition: TypeAlias = Route | Prefetch
_KINDS: Final[dict[type, str]] = {Route: "route", Prefetch: "prefetch"}
_BY_KIND: Final = {kind: made for made, kind in _KINDS.items()}


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule by its name; `since` is the change after which it holds. Those of a lower `position` are shown first."""

    name: str
    definition: Definition
    enabled: bool = True
    position: int = 0
    since: int = 0


def conditions_of(said: Mapping[str, str]) -> Conditions:
    """What is said of attributes as it is matched. Raises BadRequest for what cannot be matched when something comes."""
    found = []
    for name, value in said.items():
        text, _, creator = name.partition(":")
        path = path_named(text, creator)
        attribute = BY_TAG.get(path[0])
        if attribute is not None and attribute.computed:
            raise BadRequest(f"{name} is counted when it is asked for, and no instance has it: say Modality, SOPClassUID …")
        found.append((path, parse(path, vr_named(path), value)))
    return combined(tuple(found))


def titles_condition(titles: tuple[str, ...]) -> Any:
    """AE titles, with wildcards, as a condition; None where there are none. Raises BadRequest."""
    return parse(("00020016",), "AE", titles) if titles else None


def put_rule(index: Index, one: Rule) -> None:
    """Add a rule, or replace the one of its name and kind: that keeps what it holds since. Raises BadRequest."""
    if not _NAME.fullmatch(one.name):
        raise BadRequest("a rule's name has 1 to 64 characters, without slashes, and does not begin with '='")
    now = time.time_ns() // 1000
    changed = {
        "position": one.position,
        "enabled": one.enabled,
        "definition": orjson.dumps(asdict(one.definition)),
        "updated_at": now,
    }
    with index.database.write() as connection:
        known = connection.execute(select(rule.c.enabled, rule.c.since).where(*_is(one))).one_or_none()
        # What came while it was not there, or not enabled, is not sent on later.
        kept = known is not None and known.enabled and one.enabled
        changed["since"] = known.since if known is not None and kept else _changes(connection)
        row = {"kind": _KINDS[type(one.definition)], "name": one.name, "created_at": now, **changed}
        new = insert_into(connection.dialect.name, rule).values(row)
        connection.execute(new.on_conflict_do_update(index_elements=["kind", "name"], set_=changed))
        _raise(connection)


def remove_rule(index: Index, kind: type, name: str) -> bool:
    """Remove a rule; False when there is none. What it has begun goes on."""
    with index.database.write() as connection:
        found = connection.execute(delete(rule).where(rule.c.kind == _KINDS[kind], rule.c.name == name)).rowcount > 0
        if found:
            _raise(connection)
    return found


def rules(index: Index, kind: type) -> list[Rule]:
    """The rules of a kind (`Route`, `Prefetch`), by position and name."""
    query = select(rule).where(rule.c.kind == _KINDS[kind]).order_by(rule.c.position, rule.c.name)
    with index.database.read() as connection:
        return [_rule(row) for row in connection.execute(query)]


def rule_named(index: Index, kind: type, name: str) -> Rule | None:
    """One rule, or None."""
    with index.database.read() as connection:
        row = connection.execute(select(rule).where(rule.c.kind == _KINDS[kind], rule.c.name == name)).one_or_none()
    return _rule(row) if row else None


def revision(connection: Connection) -> int:
    """A number that grows with every change of the rules."""
    return int(connection.execute(select(counter.c.value).where(counter.c.name == _COUNTER)).scalar_one())


def sending_of(stored: Mapping[str, Any]) -> Sending:
    """How something is sent, as it was stored."""
    known = _known(Sending, stored)
    return Sending(**{**known, "priority": Priority(known.get("priority", Priority.MEDIUM))})


def _rule(row: Row[Any]) -> Rule:
    made = _BY_KIND[row.kind]
    values = _known(made, orjson.loads(row.definition))
    values["sending"] = sending_of(values.get("sending", {}))
    for name in ("calling", "called", "sources"):
        if name in values:
            values[name] = tuple(values[name])
    for name, choices in (("when", When), ("trigger", Trigger)):
        if name in values:
            values[name] = choices(values[name])
    return Rule(row.name, made(**values), row.enabled, row.position, row.since)


def _known(made: Any, stored: Mapping[str, Any]) -> dict[str, Any]:
    """What this release knows: a newer one may have written more."""
    return {one.name: stored[one.name] for one in fields(made) if one.name in stored}


def _is(one: Rule) -> tuple[Any, Any]:
    return rule.c.kind == _KINDS[type(one.definition)], rule.c.name == one.name


def _changes(connection: Connection) -> int:
    return int(connection.execute(select(counter.c.value).where(counter.c.name == "change")).scalar_one())


def _raise(connection: Connection) -> None:
    connection.execute(update(counter).where(counter.c.name == _COUNTER).values(value=counter.c.value + 1))
