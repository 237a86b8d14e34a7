"""`pacs hold`: studies of which nothing may be deleted, purged or replaced."""

from __future__ import annotations

from typing import Annotated

import typer

from pacs.commands.console import AsJson, begin, print_json, say, user
from pacs.logs import escaped

app = typer.Typer(
    help="Studies under a legal hold: list, add, remove.", no_args_is_help=True, pretty_exceptions_enable=False
)

Study = Annotated[str, typer.Argument(help="Study Instance UID.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the studies that are held, and why."""
    from pacs import compose
    from storage.index.holds import Holds

    with compose.opened(begin(), migrate=True) as found:
        holds = Holds(found.archive.index).all()
    if as_json:
        print_json([{"study": one.study, "reason": one.reason, "by": one.by, "at": one.at} for one in holds])
        return
    for one in holds:
        say(escaped(f"{one.study}  since {one.at:%Y-%m-%d %H:%M} by {one.by}: {one.reason}"))
    if not holds:
        say("No study is held.")


@app.command()
def add(study: Study, reason: Annotated[str, typer.Option(help="Why, in a line.", prompt=True)]) -> None:
    """Hold a study: nothing of it can be deleted, purged or replaced."""
    from pacs import compose
    from storage.index.holds import Holds

    with compose.opened(begin(), migrate=True) as found:
        Holds(found.archive.index).add(study, reason, user())
    say(f"study {study} is held")


@app.command()
def remove(study: Study) -> None:
    """Lift the hold on a study."""
    from pacs import compose
    from storage.index.holds import Holds

    with compose.opened(begin(), migrate=True) as found:
        was = Holds(found.archive.index).remove(study, user())
    say(escaped(f"study {study} is no longer held (it was by {was.by}: {was.reason})"))
