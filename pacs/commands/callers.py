"""`pacs ae callers`, `allow`, `block` and `log`: who wants to connect, and why an association was refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pacs.commands.certificates import list_certificates
from pacs.commands.console import AsJson, begin, print_json, say
from pacs.logs import escaped
from storage.errors import BadRequest

if TYPE_CHECKING:
    from storage.index.associations import Entry
    from storage.index.callers import Caller

Calling = Annotated[str, typer.Argument(metavar="TITLE", help="AE title of the caller.")]
Address = Annotated[str, typer.Option(help="Its address, where several of this title call.")]
_FOLLOW_SECONDS = 0.5


def list_callers(as_json: AsJson = False) -> None:
    """List who wants to connect and is no known node, and who is blocked."""
    from pacs import compose
    from storage.index.callers import callers

    with compose.opened(begin(), migrate=True) as found:
        known = callers(found.archive.index)
    if as_json:
        print_json([_plain(one) for one in known])
        return
    for one in known:
        who = f"{escaped(one.calling_ae) or 'any title':16}  {one.address or 'any address':15}"
        say(f"{who}  {one.state:7}  {one.times:5} times, last {_when(one.last_at)}  {escaped(one.reason)}".rstrip())
    if not known:
        say("Nobody wants to connect, and nobody is blocked.")


def allow_caller(
    title: Calling,
    address: Address = "",
    rights: Annotated[
        str, typer.Option(help="What it may do, separated by commas; what it has asked for where none is given.")
    ] = "",
    anywhere: Annotated[bool, typer.Option("--anywhere", help="From any address, not only the one it called from.")] = False,
    tied: Annotated[
        bool, typer.Option("--tied", help="With the TLS certificate that it has shown, and no other.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="For one association, within the next hour.")] = False,
) -> None:
    """Let in who wants to connect: as a node from now on, or once."""
    from pacs import compose
    from storage.index.ae import rights_of, words_of
    from storage.index.callers import allow, allow_once, caller_named

    given = rights_of(rights.replace(",", " ").split()) if rights else None
    if once and (anywhere or tied):
        raise BadRequest("once is from the address that it called from: leave out --anywhere and --tied")
    with compose.opened(begin(), migrate=True) as found:
        index = found.archive.index
        one = caller_named(index, title, address)
        if once:
            allow_once(index, one, given)
            say(f"{title} at {one.address} may have one association within the next hour")
            return
        node = allow(index, one, given, anywhere=anywhere, tied=tied)
    proof = ", with its certificate alone" if node.certificates else ""
    say(f"{title} may {words_of(node.rights)} from {', '.join(node.addresses) or 'anywhere'}{proof}")


def block_caller(
    title: Annotated[str, typer.Argument(help="AE title of the caller; any where only an address is given.")] = "",
    address: Annotated[str, typer.Option(help="Its address; any where there is none.")] = "",
) -> None:
    """Refuse a caller from now on, whatever node there is of its title."""
    from pacs import compose
    from pacs.ae_titles import blockable
    from storage.index.callers import block

    title, address = blockable(title, address)
    with compose.opened(begin(), migrate=True) as found:
        block(found.archive.index, title, address)
    say(f"{title or 'every caller'} at {address or 'any address'} is blocked")


def unblock_caller(
    title: Annotated[str, typer.Argument(help="AE title that was blocked; none where an address was.")] = "",
    address: Address = "",
) -> None:
    """Block a caller no longer, or take it off the list of those that want to connect."""
    from pacs import compose
    from storage.index.callers import caller_named, forget

    with compose.opened(begin(), migrate=True) as found:
        one = caller_named(found.archive.index, title, address)
        forget(found.archive.index, one)
    say(f"{title or 'every caller'} at {one.address or 'any address'} is off the list")


def show_log(
    ae: Annotated[str, typer.Option(help="Part of the calling or called AE title.")] = "",
    address: Annotated[str, typer.Option(help="How the address begins.")] = "",
    outcome: Annotated[str, typer.Option(help="accepted, refused or dropped.")] = "",
    limit: Annotated[int, typer.Option(help="How many, the latest.", min=1, max=10_000)] = 20,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the log of associations: who called, how it ended, and why it was refused."""
    from pacs import compose
    from storage.index import associations
    from storage.index.associations import Outcome, Wanted

    if outcome and outcome not in set(Outcome):
        raise BadRequest(f"an outcome is one of {', '.join(Outcome)}")
    if follow and as_json:
        raise BadRequest("what is followed is no one JSON value; scripts read /api/associations/events")
    wanted = Wanted(ae, address, Outcome(outcome) if outcome else None)
    with compose.opened(begin(), migrate=True) as found:
        index = found.archive.index
        after = associations.latest(index)
        entries = associations.search(index, wanted, limit=limit)[::-1]
        if as_json:
            print_json([_plain(one) for one in entries])
            return
        for one in entries:
            say(_line(one))
        if not entries:
            say("Nothing is logged yet.")
        while follow:
            for one in associations.since(index, after, wanted):
                after = one.sequence
                say(_line(one))
            time.sleep(_FOLLOW_SECONDS)


def _line(one: Entry) -> str:
    from storage.index.associations import Direction

    other = one.address or "several addresses"
    where = f"from {other}" if one.direction is Direction.IN else f"at {other}"
    who = f"{escaped(one.calling_ae) or '-'} -> {escaped(one.called_ae) or '-'} {where}"
    state = one.how or ("open" if one.outcome == "accepted" else "")
    what = ", ".join(f"{number} x {name}" for name, number in one.operations.items())
    begun, last = datetime.fromtimestamp(one.at), datetime.fromtimestamp(one.last_at or one.at)
    # Refusals for the same reason are one entry: when last, how often, and since when.
    times = f"{one.times} times since {begun.astimezone():%H:%M:%S}" if one.times > 1 else ""
    parts = (_when(last if one.times > 1 else begun), f"{one.outcome:8}", who, state, what, times, escaped(one.reason))
    return "  ".join(part for part in parts if part)


def _when(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def _plain(one: Entry | Caller) -> dict[str, Any]:
    """Without what JSON has not, and what is nobody's business outside."""
    from storage.index.ae import Right

    plain = asdict(one)
    plain["rights"] = [right for right in Right if right in plain["rights"]]
    for name in ("asks", "untold", "sequence"):
        plain.pop(name, None)
    if "pk" in plain:
        plain.pop("rights")
        plain["number"] = plain.pop("pk")
    return plain


# What `pacs ae` has beside nodes.
COMMANDS: Final[Mapping[str, Callable[..., None]]] = {
    "callers": list_callers,
    "certificates": list_certificates,
    "allow": allow_caller,
    "block": block_caller,
    "unblock": unblock_caller,
    "log": show_log,
}
