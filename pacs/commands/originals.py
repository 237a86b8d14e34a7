"""`pacs original`: instances as they were received, where rules of an AE title have changed them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pacs.commands.console import AsJson, begin, print_json, say
from pacs.logs import escaped
from storage.errors import BadRequest, NotFound

app = typer.Typer(
    help="Instances as they were received, where rules of an AE title have changed them: list, save.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Instance = Annotated[str, typer.Argument(metavar="UID", help="SOP Instance UID that the instance has in the archive.")]


@app.command("list")
def list_(instance: Instance, as_json: AsJson = False) -> None:
    """List what an instance was made of."""
    from pacs import compose
    from pacs.admin.originals import received
    from storage.index.originals import Originals

    with compose.opened(begin(), migrate=True) as found:
        kept = Originals(found.archive.index).of_instance(instance)
    if as_json:
        print_json([received(one).model_dump(mode="json") for one in kept])
        return
    for one in kept:
        say(escaped(f"{one.coerced_at:%Y-%m-%d %H:%M}  {one.sop_instance_uid}  {one.size} bytes  {one.sha256}"))
    if not kept:
        raise NotFound("no instance of this UID has an original: it is as it was received, or its AE title keeps none")


@app.command()
def save(
    instance: Instance,
    file: Annotated[Path, typer.Argument(help="File to write; it must not be there yet.")],
    sha256: Annotated[str, typer.Option(help="Digest of the one that is wanted, where there are several.")] = "",
) -> None:
    """Write an instance as it was received into a file."""
    from pacs import compose
    from storage import originals

    with compose.opened(begin(), migrate=True) as found:
        one, pieces = originals.stream(found.archive.index, found.archive.blobs, instance, sha256)
        try:
            with file.open("xb") as out:
                for piece in pieces:
                    out.write(piece)
        except OSError as error:
            raise BadRequest(f"{file} cannot be written: {error.strerror}") from error
    say(f"{file}: {one.size} bytes")
