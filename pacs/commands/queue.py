"""`pacs transfers` and `pacs jobs`: what is sent, fetched and done by the running server, and what it has given up."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pacs.commands.console import AsJson, begin, print_json, say, user
from pacs.logs import escaped
from storage.errors import BadRequest, NotFound, Settled

transfers = typer.Typer(
    help="Transfers: what is sent to other nodes and fetched from them. list, send, fetch, again, cancel.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
jobs = typer.Typer(
    help="Jobs: what waits to be done, is done, or was given up after three tries. list, retry, remove.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Number = Annotated[int, typer.Argument(help="Its number.", min=1)]
Limit = Annotated[int, typer.Option(help="How many at most, the latest first.", min=1, max=1000)]
Node = Annotated[str, typer.Argument(metavar="AE", help="AE title of the node; pacs ae list shows those there are.")]
Study = Annotated[str, typer.Option(help="Study Instance UID.")]
Series = Annotated[str, typer.Option(help="Only this series, by its UID.")]


@transfers.command("list")
def list_transfers(
    state: Annotated[str, typer.Option(help="waiting, running, failed, done or cancelled; all where none is given.")] = "",
    node: Annotated[str, typer.Option(help="Only those to or from this node, by its AE title.")] = "",
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List transfers: how each goes, and why it failed."""
    from pacs import compose
    from storage.transfer_records import State, Wanted
    from storage.transfers import Transfers

    if state and state not in set(State):
        raise BadRequest(f"a state is one of {', '.join(State)}")
    with compose.opened(begin(), migrate=True) as found:
        some = Transfers(found.archive.index).search(Wanted(State(state) if state else None, node=node), limit=limit)
    if as_json:
        print_json([asdict(one) for one in some])
        return
    for one in some:
        way = "to" if one.kind == "send" else "from"
        counts = f"{one.completed + one.warned} of {one.total}" if one.total else "–"
        text = f"{one.number:6}  {one.state:9}  {way} {one.node:16}  {counts:>12}  {one.scope.study}  {one.error}"
        say(escaped(text.rstrip()))
    if not some:
        say("Nothing was sent or fetched.")


@transfers.command("send")
def send(node: Node, study: Study, series: Series = "") -> None:
    """Have the running server send a study to a node; pacs send does it here and now."""
    _begin("send", node, study, series)


@transfers.command("fetch")
def fetch(
    node: Node,
    study: Study,
    series: Series = "",
    to: Annotated[str, typer.Option(help="AE title of a node that it is sent to by C-MOVE, instead of to this archive.")] = "",
) -> None:
    """Have the running server fetch a study from a node; pacs fetch does it here and now."""
    _begin("retrieve", node, study, series, to)


def _begin(kind: str, node: str, study: str, series: str, target: str = "") -> None:
    from pydantic import ValidationError

    from pacs import compose
    from pacs.admin import transfers as asking

    try:
        asked = asking.NewTransfer.model_validate(
            {"kind": kind, "node": node, "study": study, "series": series, "target": target}
        )
    except ValidationError:
        raise BadRequest("give an AE title, and study and series by their UIDs") from None
    with compose.opened(begin(), migrate=True) as found:
        number = asking.begin(found.archive.index, asked, user())
    say(f"transfer {number}; pacs transfers list shows how it goes")


@transfers.command("again")
def again(
    number: Annotated[int | None, typer.Argument(help="Its number; all that have failed where none is given.", min=1)] = None,
    node: Annotated[str, typer.Option(help="Only those to or from this node, by its AE title.")] = "",
) -> None:
    """Try again what has failed, or do once more what is over."""
    from pacs import compose
    from storage.transfer_records import State, Wanted
    from storage.transfers import Transfers

    with compose.opened(begin(), migrate=True) as found:
        known = Transfers(found.archive.index)
        numbers = [number] if number else [one.number for one in known.search(Wanted(State.FAILED, node=node), limit=1000)]
        for one in numbers:
            known.again(one, user())
    say(f"{len(numbers)} tried again")


@transfers.command("cancel")
def cancel(number: Number) -> None:
    """Cancel a transfer; if it runs, it ends after the instance in hand."""
    from pacs import compose
    from storage.transfers import Transfers

    with compose.opened(begin(), migrate=True) as found:
        Transfers(found.archive.index).cancel(number)
    say(f"{number} is cancelled")


@jobs.command("list")
def list_jobs(
    state: Annotated[str, typer.Option(help="waiting, running or dead; all where none is given.")] = "",
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List jobs: how many tries each has had, and why the last one failed."""
    from pacs import compose
    from storage.jobs import DEAD, RUNNING, WAITING, JobQueue

    if state and state not in (WAITING, RUNNING, DEAD):
        raise BadRequest("a state is waiting, running or dead")
    with compose.opened(begin(), migrate=True) as found:
        queue = JobQueue(found.archive.index)
        some, counts = queue.search(state=state, limit=limit), queue.counts()
    if as_json:
        print_json({"counts": counts, "jobs": [asdict(one) for one in some]})
        return
    say(", ".join(f"{number} {name}" for name, number in counts.items()))
    for one in some:
        say(escaped(f"{one.id:6}  {one.state:8}  {one.kind:24}  try {one.attempts}  {one.error}".rstrip()))


@jobs.command("retry")
def retry(
    number: Annotated[int | None, typer.Argument(help="Its number; all that were given up where none is given.", min=1)] = None,
) -> None:
    """Give what was given up all its tries again; what waits is done now."""
    from pacs import compose
    from storage.jobs import JobQueue

    with compose.opened(begin(), migrate=True) as found:
        queue = JobQueue(found.archive.index)
        numbers = [number] if number else [one.id for one in queue.dead()]
        for one in numbers:
            if not queue.retry(one) and not queue.hasten(one):
                raise NotFound(f"there is no job {one} that waits or was given up")
    say(f"{len(numbers)} tried again")


@jobs.command("remove")
def remove(number: Number) -> None:
    """Forget a job that was given up."""
    from pacs import compose
    from storage.jobs import JobQueue

    with compose.opened(begin(), migrate=True) as found:
        if not JobQueue(found.archive.index).remove(number):
            raise Settled(f"no job {number} was given up; pacs jobs list --state dead shows those that were")
    say(f"{number} is removed")
