"""`pacs route`: what is sent on to other nodes when it comes."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated, Any

import typer

from pacs.commands.console import AsJson, begin, print_json, say
from pacs.logs import escaped
from storage.errors import BadRequest, NotFound

app = typer.Typer(
    help="Routes: what is sent on to other nodes when it comes. list, add, enable, disable, remove.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Name = Annotated[str, typer.Argument(help="Name of the route.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the routes, and the default destinations of nodes, which are routes too."""
    from pacs import compose
    from storage.index.ae import ae_titles
    from storage.rules import Route, rules

    with compose.opened(begin(), migrate=True) as found:
        known = rules(found.archive.index, Route)
        implied = {one.title: one.destinations for one in ae_titles(found.archive.index) if one.destinations}
    if as_json:
        print_json([{"name": one.name, "enabled": one.enabled, "position": one.position, **asdict(one.definition)} for one in known])
        return
    for one in known:
        route: Any = one.definition
        said = ", ".join(f"{name}={value}" for name, value in route.conditions.items()) or "everything"
        came = f" from {', '.join(route.calling)}" if route.calling else ""
        say(escaped(f"{one.name:20}  {said}{came} -> {route.to}, by {route.when}{'' if one.enabled else '  (not enabled)'}"))
    for title, destinations in implied.items():
        say(escaped(f"{'=' + title:20}  everything from {title} -> {', '.join(destinations)}"))
    if not known and not implied:
        say("No routes yet: pacs route add NAME AE")


@app.command()
def add(
    name: Name,
    to: Annotated[str, typer.Argument(metavar="AE", help="AE title of the node that it is sent to.")],
    conditions: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="What must match, as in a query: Modality=CT\\MR, StudyDescription=*chest*."),
    ] = None,
    calling: Annotated[
        list[str] | None, typer.Option(help="AE title that it must have come from, with wildcards; may be repeated.")
    ] = None,
    called: Annotated[
        list[str] | None, typer.Option(help="AE title of this archive that must have been called; may be repeated.")
    ] = None,
    when: Annotated[str, typer.Option(help="instance: as it comes; series or study: when nothing more of it comes.")] = "instance",
    quiet_seconds: Annotated[float, typer.Option(help="How long nothing more must have come.")] = 60.0,
    imported: Annotated[bool, typer.Option(help="Also what comes by pacs import.")] = False,
    replaced: Annotated[bool, typer.Option(help="Also what replaces an earlier version.")] = False,
    retrieved: Annotated[bool, typer.Option(help="Also what this archive has fetched from another node.")] = False,
    commit: Annotated[bool, typer.Option(help="Ask the node for storage commitment afterwards.")] = False,
    priority: Annotated[str, typer.Option(help="low, medium or high.")] = "medium",
    hours: Annotated[str, typer.Option(help="Only between these hours, as 22:00-06:00.")] = "",
    parallel: Annotated[int, typer.Option(help="Associations side by side.", min=1, max=8)] = 1,
    position: Annotated[int, typer.Option(help="Routes are shown by position, then by name.")] = 0,
) -> None:
    """Add a route, or replace the one of this name: for what comes from now on."""
    from pacs import compose
    from storage.rules import Priority, Route, Rule, Sending, When, put_rule

    matched = {}
    for one in conditions or []:
        key, sign, value = one.partition("=")
        if not sign:
            raise BadRequest(f"give what must match as KEY=VALUE, not {key!r}")
        matched[key] = value
    if when not in set(When) or priority not in set(Priority):
        raise BadRequest("--when is instance, series or study, and --priority low, medium or high")
    sending = Sending(commit, Priority(priority), hours, parallel)
    route = Route(
        to, matched, tuple(calling or ()), tuple(called or ()), When(when), quiet_seconds, imported, replaced, retrieved, sending
    )
    with compose.opened(begin(), migrate=True) as found:
        put_rule(found.archive.index, Rule(name, route, position=position))
    say(f"what comes from now on is sent on to {escaped(to)}; pacs transfers list shows it")


def _enable(name: str, *, enabled: bool) -> None:
    from pacs import compose
    from storage.rules import Route, put_rule, rule_named

    with compose.opened(begin(), migrate=True) as found:
        known = rule_named(found.archive.index, Route, name)
        if known is None:
            raise NotFound(f"there is no route {name!r}; pacs route list shows those there are")
        put_rule(found.archive.index, replace(known, enabled=enabled))
    say(f"{escaped(name)} is {'enabled, for what comes from now on' if enabled else 'not enabled any more'}")


@app.command()
def enable(name: Name) -> None:
    """Send on by a route again, what comes from now on."""
    _enable(name, enabled=True)


@app.command()
def disable(name: Name) -> None:
    """Send nothing on by a route until it is enabled again."""
    _enable(name, enabled=False)


@app.command()
def remove(name: Name) -> None:
    """Remove a route. What it has begun goes on."""
    from pacs import compose
    from storage.rules import Route, remove_rule

    with compose.opened(begin(), migrate=True) as found:
        if not remove_rule(found.archive.index, Route, name):
            raise NotFound(f"there is no route {name!r}; pacs route list shows those there are")
    say(f"{escaped(name)} is removed")
