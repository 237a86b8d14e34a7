"""`pacs prefetch`: which earlier studies of a patient are fetched by themselves."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from pacs.commands.console import AsJson, begin, print_json, say
from pacs.logs import escaped
from storage.errors import BadRequest, NotFound

app = typer.Typer(
    help="Rules by which earlier studies of a patient are fetched: list, add, remove.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Name = Annotated[str, typer.Argument(help="Name of the rule.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the rules."""
    from pacs import compose
    from storage.rules import Prefetch, rules

    with compose.opened(begin(), migrate=True) as found:
        known = rules(found.archive.index, Prefetch)
    if as_json:
        print_json([{"name": one.name, "enabled": one.enabled, "position": one.position, **asdict(one.definition)} for one in known])
        return
    for one in known:
        rule: Any = one.definition
        sources = ", ".join((*rule.sources, *(("this archive",) if rule.own else ())))
        text = f"{one.name:20}  the newest {rule.newest} of {rule.years:g} years from {sources} -> {rule.to or 'this archive'}"
        say(escaped(f"{text}{'' if one.enabled else '  (not enabled)'}"))
    if not known:
        say("No rules yet: pacs prefetch add NAME AE")


@app.command()
def add(
    name: Name,
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="AE", help="AE titles of the archives that are asked for earlier studies.")
    ] = None,
    to: Annotated[str, typer.Option(help="AE title of the node to which they are sent on; they stay here where none is given.")] = "",
    own: Annotated[bool, typer.Option(help="Send those there too that only this archive has.")] = False,
    when: Annotated[
        str, typer.Option(help="worklist: an entry is made; arrival: the first instance of a study comes; either.")
    ] = "either",
    condition: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE that the entry or instance must match, as in a query; may be repeated.")
    ] = None,
    any_modality: Annotated[bool, typer.Option(help="Studies of other modalities too.")] = False,
    same_body_part: Annotated[bool, typer.Option(help="Only studies with a series of the same body part.")] = False,
    newest: Annotated[int, typer.Option(help="How many studies, the newest first.", min=1, max=100)] = 3,
    years: Annotated[float, typer.Option(help="Of the last so many years.")] = 10.0,
    move: Annotated[bool, typer.Option(help="By C-MOVE to this archive instead of by C-GET.")] = False,
    direct: Annotated[bool, typer.Option(help="By C-MOVE from the source to the node of --to, past this archive.")] = False,
) -> None:
    """Add a rule, or replace the one of this name: for what is scheduled and comes from now on."""
    from pacs import compose
    from storage.rules import Prefetch, Rule, Trigger, put_rule

    matched = {}
    for one in condition or []:
        key, sign, value = one.partition("=")
        if not sign:
            raise BadRequest(f"give what must match as KEY=VALUE, not {key!r}")
        matched[key] = value
    if when not in set(Trigger):
        raise BadRequest(f"--when is one of {', '.join(Trigger)}")
    rule = Prefetch(
        tuple(sources or ()), to, own, Trigger(when), matched, not any_modality, same_body_part, newest, years, move, direct
    )
    with compose.opened(begin(), migrate=True) as found:
        put_rule(found.archive.index, Rule(name, rule))
    say("earlier studies are fetched from now on; pacs transfers list shows them")


@app.command()
def remove(name: Name) -> None:
    """Remove a rule. What it has begun goes on."""
    from pacs import compose
    from storage.rules import Prefetch, remove_rule

    with compose.opened(begin(), migrate=True) as found:
        if not remove_rule(found.archive.index, Prefetch, name):
            raise NotFound(f"there is no rule {name!r}; pacs prefetch list shows those there are")
    say(f"{escaped(name)} is removed")
