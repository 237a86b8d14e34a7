"""`pacs delete` and `pacs deleted`: what is deleted, brought back, or taken out for good."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pacs.commands.console import AsJson, begin, print_json, say, user
from pacs.logs import escaped

if TYPE_CHECKING:
    from storage.index.deletions import Deletion

app = typer.Typer(
    help="What was deleted: list, restore, purge.", no_args_is_help=True, pretty_exceptions_enable=False
)

Numbers = Annotated[list[int], typer.Argument(metavar="ID", help="Numbers of deletions, from pacs deleted list.")]


def delete(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY", help="Study Instance UIDs.")],
    series: Annotated[str, typer.Option(help="Only this series of the one study.")] = "",
    instance: Annotated[str, typer.Option(help="Only this instance of the series.")] = "",
    reason: Annotated[str, typer.Option(help="113001, 113037, 113038, 113039 (PS3.16 CID 7011), or words.")] = "",
    comment: Annotated[str, typer.Option(help="More about it, in words.")] = "",
    as_json: AsJson = False,
) -> None:
    """Delete studies, or a series or an instance of one. It can be undone: pacs deleted restore."""
    from pacs import compose
    from storage.index.deletions import Deletions
    from storage.rejection import why
    from storage.types import Scope

    if (series and len(studies) > 1) or (instance and not series):
        raise typer.BadParameter("--series goes with one study, and --instance with --series")
    given = why(reason, comment)
    made = []
    with compose.opened(begin(), migrate=True) as found:
        deletions = Deletions(found.archive.index)
        for study in studies:
            one = deletions.delete(Scope(study, series or None, instance or None), given, user())
            made.append(one)
            if not as_json:
                say(f"{one.instances} instances of study {study} are deleted; to undo: pacs deleted restore {one.id}")
    if as_json:
        print_json([_values(one) for one in made])


@app.command("list")
def list_(
    everything: Annotated[bool, typer.Option("--all", help="Also what was restored or purged.")] = False,
    study: Annotated[str, typer.Option(help="Only of this study.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 100,
    before: Annotated[int | None, typer.Option(help="Go on after the deletion of this number.")] = None,
    as_json: AsJson = False,
) -> None:
    """List deletions, the latest first."""
    from pacs import compose
    from storage.index.deletions import Deletions, State

    states = tuple(State) if everything else (State.DELETED, State.PURGING)
    with compose.opened(begin(), migrate=True) as found:
        page = Deletions(found.archive.index).page(before=before, limit=limit, states=states, study_uid=study)
    if as_json:
        print_json([_values(one) for one in page])
        return
    for one in page:
        say(_line(one))
    if not page:
        say("Nothing is deleted.")


@app.command()
def restore(numbers: Numbers) -> None:
    """Bring back what was deleted, as it was."""
    from pacs import compose
    from storage.index.deletions import Deletions

    with compose.opened(begin(), migrate=True) as found:
        for number in numbers:
            one = Deletions(found.archive.index).restore(number, user())
            say(f"deletion {number}: restored of study {one.scope.study}")


@app.command()
def purge(
    numbers: Annotated[list[int] | None, typer.Argument(metavar="[ID]", help="Numbers of deletions.")] = None,
    older_than: Annotated[float | None, typer.Option(help="What was deleted more than so many days ago.", min=0)] = None,
) -> None:
    """Take out for good what was deleted, with its bytes. This cannot be undone."""
    from pacs import compose
    from pacs.processing import Work, work_off
    from storage import deletion

    if bool(numbers) == (older_than is not None):
        raise typer.BadParameter("give numbers of deletions, or --older-than DAYS")
    settings = begin()
    with compose.opened(settings, migrate=True) as found:
        for number in numbers or ():
            one = deletion.purge(found.archive, number, user())
            say(f"deletion {number}: {one.instances} instances of study {one.scope.study} are purged")
        if older_than is not None:
            before = datetime.now(UTC) - timedelta(days=older_than)
            say(f"{deletion.purge_due(found.archive, before, user())} deletions are purged")
        work_off(Work(found.archive, settings))


def _line(one: Deletion) -> str:
    what = " ".join(part for part in (one.scope.study, one.scope.series, one.scope.instance) if part)
    why = " ".join(part for part in (one.why.code, one.why.comment) if part)
    by = f"by {one.by}" if one.by else ""
    return escaped(f"{one.id:6}  {one.at:%Y-%m-%d %H:%M}  {one.state:8}  {one.left} of {one.instances}  {what}  {why} {by}".rstrip())


def _values(one: Deletion) -> dict[str, Any]:
    """As the administration API says it."""
    from pacs.admin.deleted import shown

    return shown(one).model_dump(mode="json")


