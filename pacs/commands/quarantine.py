"""`pacs quarantine` and `pacs history`: newcomers under a UID that is taken, and the versions that others took the place of."""

from __future__ import annotations

from typing import Annotated

import typer

from pacs.commands.console import AsJson, begin, print_json, say, user
from pacs.logs import escaped

app = typer.Typer(
    help="Instances that were refused since their UID is taken: list, show, accept, reject, purge.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
history = typer.Typer(
    help="Earlier versions of instances: list, restore.", no_args_is_help=True, pretty_exceptions_enable=False
)

Numbers = Annotated[list[int], typer.Argument(metavar="ID", help="Numbers, from the list.")]


@app.command("list")
def list_(
    rejected: Annotated[bool, typer.Option("--rejected", help="Those that were rejected instead of those that wait.")] = False,
    after: Annotated[int, typer.Option(help="Go on after this number.")] = 0,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 100,
    as_json: AsJson = False,
) -> None:
    """List them, the longest there first."""
    from pacs import compose
    from pacs.admin.quarantine import newcomer
    from storage.index.kept_objects import KeptObjects

    with compose.opened(begin(), migrate=True) as found:
        page = KeptObjects(found.archive.index).quarantined(after=after, limit=limit, rejected=rejected)
    if as_json:
        print_json([newcomer(one).model_dump(mode="json") for one in page])
        return
    for one in page:
        sender = " ".join(part for part in (one.source.kind, one.source.calling_ae, one.source.address) if part)
        say(escaped(f"{one.id:6}  {one.received_at:%Y-%m-%d %H:%M}  x{one.times}  {one.uids.instance}  {one.reason}, from {sender}"))
    if not page:
        say("Nothing is in quarantine.")


@app.command()
def show(
    number: Annotated[int, typer.Argument(metavar="ID", help="Its number, from the list.")], as_json: AsJson = False
) -> None:
    """Show in what one differs from what has its UID. This prints values of its data set."""
    from pacs import compose
    from pacs.admin.quarantine import compared
    from storage.index.kept_objects import KeptObjects

    with compose.opened(begin(), migrate=True) as found:
        shown = compared(found.archive, KeptObjects(found.archive.index).one(number))
    if as_json:
        print_json(shown.model_dump(mode="json"))
        return
    say(escaped(f"{shown.instance} of study {shown.study}: {shown.reason}"))
    if shown.differences is None:
        say("Nothing has its UID now.")
    for one in shown.differences or ():
        say(escaped(f"{one.tag}  {one.name:32}  {_text(one.stored)}  ->  {_text(one.sent)}"))
    if shown.differences == []:
        say("They differ in nothing but their File Meta Information.")


@app.command()
def accept(numbers: Numbers) -> None:
    """Let newcomers take their UIDs; what had them becomes history."""
    from pacs import compose
    from storage import quarantine

    with compose.opened(begin(), migrate=True) as found:
        for number in numbers:
            one = quarantine.accept(found.archive, number, user())
            say(f"{number}: {escaped(one.uids.instance)} is what came; what had its UID is in pacs history list")


@app.command()
def reject(numbers: Numbers) -> None:
    """Mark newcomers as not wanted; they stay until they are purged, by hand or by PACS_PURGE_DAYS."""
    from pacs import compose
    from storage import quarantine

    with compose.opened(begin(), migrate=True) as found:
        for number in numbers:
            quarantine.reject(found.archive, number, user())
            say(f"{number}: rejected")


@app.command()
def purge(numbers: Numbers) -> None:
    """Remove rejected newcomers for good, with their bytes. This cannot be undone."""
    from pacs import compose
    from pacs.processing import Work, work_off
    from storage import quarantine

    settings = begin()
    with compose.opened(settings, migrate=True) as found:
        for number in numbers:
            quarantine.purge(found.archive, number, user())
            say(f"{number}: purged")
        work_off(Work(found.archive, settings))


@history.command("list")
def versions(
    instance: Annotated[str, typer.Option(help="Only of this SOP Instance UID.")] = "",
    before: Annotated[int | None, typer.Option(help="Go on after this number.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 100,
    as_json: AsJson = False,
) -> None:
    """List earlier versions, the latest first."""
    from pacs import compose
    from pacs.admin.quarantine import earlier
    from storage.index.kept_objects import KeptObjects

    with compose.opened(begin(), migrate=True) as found:
        page = KeptObjects(found.archive.index).history(before=before, limit=limit, instance_uid=instance)
    if as_json:
        print_json([earlier(one).model_dump(mode="json") for one in page])
        return
    for one in page:
        say(escaped(f"{one.id:6}  {one.replaced_at:%Y-%m-%d %H:%M}  {one.reason:8}  {one.uids.instance}  {one.size} bytes"))
    if not page:
        say("There are no earlier versions.")


@history.command("restore")
def restore(numbers: Numbers) -> None:
    """Make earlier versions current again; what is current becomes history."""
    from pacs import compose
    from storage import quarantine

    with compose.opened(begin(), migrate=True) as found:
        for number in numbers:
            one = quarantine.restore(found.archive, number, user())
            say(f"{number}: {escaped(one.uids.instance)} is the earlier version again")


def _text(value: str | None) -> str:
    return "(absent)" if value is None else value or "(empty)"
