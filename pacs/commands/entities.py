"""`pacs ae`: the DICOM nodes that this archive knows, and whether they answer."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from pacs.commands.console import AsJson, begin, print_json, say
from pacs.logs import escaped
from storage.errors import NotFound

app = typer.Typer(
    help="The DICOM nodes that this archive knows: list, add, remove, echo.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Title = Annotated[str, typer.Argument(help="AE title of the node.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the known nodes."""
    from pacs import compose
    from storage.index.ae import ae_titles

    with compose.opened(begin(), migrate=True) as found:
        entities = ae_titles(found.archive.index)
    if as_json:
        print_json([asdict(entity) for entity in entities])
        return
    for entity in entities:
        say(f"{entity.title:16}  {entity.host}:{entity.port}  {escaped(entity.description)}".rstrip())
    if not entities:
        say("No nodes yet: pacs ae add TITLE HOST PORT")


@app.command()
def add(
    title: Title,
    host: Annotated[str, typer.Argument(help="Its name or address.")],
    port: Annotated[int, typer.Argument(help="Its DIMSE port.")],
    description: Annotated[str, typer.Option(help="What it is, for people.")] = "",
) -> None:
    """Add a node, or change the one of this title."""
    from pacs import compose
    from storage.index.ae import AeTitle, add_ae_title

    with compose.opened(begin(), migrate=True) as found:
        add_ae_title(found.archive.index, AeTitle(title, host, port, description))
    say(f"{title} is at {host}:{port}; try it with: pacs ae echo {title}")


@app.command()
def remove(title: Title) -> None:
    """Remove a node."""
    from pacs import compose
    from storage.index.ae import remove_ae_title

    with compose.opened(begin(), migrate=True) as found:
        if not remove_ae_title(found.archive.index, title):
            raise NotFound(f"there is no node {title!r}; pacs ae list shows those there are")
    say(f"{title} is removed")


@app.command()
def echo(
    title: Title,
    host: Annotated[str, typer.Option(help="Its name or address, where it is not in the list.")] = "",
    port: Annotated[
        int, typer.Option(help="Its DIMSE port, where it is not in the list.", min=0, max=65535)
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Ask a node for a C-ECHO, and say step by step how far that came."""
    from pacs import compose, diagnosis
    from storage.index.ae import ae_title_of

    settings = begin()
    if not (host and port):
        with compose.opened(settings, migrate=True) as found:
            known = ae_title_of(found.archive.index, title)
        if known is None:
            raise NotFound(
                f"there is no node {title!r}: pacs ae add {title} HOST PORT, or give --host and --port"
            )
        host, port = host or known.host, port or known.port
    steps = []
    for step in diagnosis.echo(title, host, port, calling=settings.ae_title):
        steps.append(step)
        if not as_json:
            say(
                f"{'ok ' if step.ok else 'no '} {step.name:20}  {escaped(step.text)}  ({step.milliseconds:.0f} ms)"
            )
    if as_json:
        print_json([asdict(step) for step in steps])
    sys.exit(0 if steps[-1].ok else 1)
