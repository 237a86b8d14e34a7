"""`pacs attributes`: attributes that are searchable beside those that always are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pacs.commands.console import AsJson, begin, print_json, say
from pacs.logs import escaped

if TYPE_CHECKING:
    from storage.index.searchable import Searchable

app = typer.Typer(
    help="Attributes that are searchable beside those that always are: list, add, remove.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Attribute = Annotated[
    str,
    typer.Argument(help="Keyword, or tag in eight hex digits; with dots into sequences: ProcedureCodeSequence.CodeValue"),
]
Creator = Annotated[str, typer.Option(help="Private creator of a private attribute.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the additional attributes, and how far each is indexed."""
    from pacs import compose

    with compose.opened(begin(), migrate=True) as found:
        known = found.archive.index.searchables.all()
    if as_json:
        print_json([_values(one) for one in known])
        return
    for one in known:
        state = "ready" if one.ready else f"indexing, {one.done} of {one.total}" if one.total else "waiting for a worker"
        say(f"{escaped(one.name):40}  {one.vr}  {one.level:8}  {state}")
    if not known:
        say("No additional attributes yet: pacs attributes add ATTRIBUTE")


@app.command()
def add(
    attribute: Attribute,
    creator: Creator = "",
    vr: Annotated[str, typer.Option(help="Its value representation, where no dictionary has it.")] = "",
    level: Annotated[
        str, typer.Option(help="Where a private attribute lives: study, series or instance (the default).")
    ] = "",
) -> None:
    """Make an attribute searchable: at once for what comes, and by a worker, in a while, for what is stored already."""
    from pacs import compose
    from storage.index.searchable_names import level_named, path_named, vr_named

    path = path_named(attribute, creator)
    with compose.opened(begin(), migrate=True) as found:
        found.archive.index.searchables.add(path, vr_named(path, vr), level_named(level))
    say(f"{escaped(attribute)} is being indexed; pacs attributes list shows how far it is")


@app.command()
def remove(attribute: Attribute, creator: Creator = "") -> None:
    """Forget an additional attribute and its index. What is stored stays as it is."""
    from pacs import compose
    from storage.index.searchable_names import path_named

    with compose.opened(begin(), migrate=True) as found:
        found.archive.index.searchables.remove(path_named(attribute, creator))
    say(f"{escaped(attribute)} has no index any more")


def _values(one: Searchable) -> dict[str, object]:
    return {
        "attribute": one.name,
        "path": list(one.path),
        "vr": one.vr,
        "level": one.level,
        "ready": one.ready,
        "done": one.done,
        "total": one.total,
    }
