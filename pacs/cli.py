"""The command `pacs`: its subcommands, and how they fail: one clear line, and a status that scripts can rely on.

Status 0: done. 1: something was refused, is damaged or did not answer. 2: the command line or a setting is wrong.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from pacs.commands import (
    about,
    attributes,
    callers,
    copies,
    deleted,
    entities,
    holds,
    images,
    originals,
    prefetch,
    presets,
    quarantine,
    queue,
    remote,
    routes,
    running,
    upkeep,
    worklist,
)
from pacs.logs import escaped
from pacs.settings_file import SettingsError
from storage.errors import LightboxError


class _Pacs(TyperGroup):
    """The group of all commands, in which an error of ours becomes one line and a status."""

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except LightboxError as error:
            sys.stderr.write(f"pacs: {escaped(str(error))}\n")
            sys.exit(2 if isinstance(error, SettingsError) else 1)


app = typer.Typer(
    name="pacs",
    cls=_Pacs,
    help="Lightbox: an archive for medical images, reached over DIMSE and DICOMweb.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def pacs() -> None:
    """Lightbox: an archive for medical images, reached over DIMSE and DICOMweb."""
    # What an archive writes is for its owner alone.
    os.umask(0o077)


app.command("serve")(running.serve)
app.command("import")(images.import_files)
app.command("demo")(images.demo)
app.command("verify")(upkeep.verify)
app.command("rebuild-index")(upkeep.rebuild_index)
app.command("migrate")(upkeep.migrate)
for _name, _command in callers.COMMANDS.items():
    entities.app.command(_name)(_command)
app.add_typer(entities.app, name="ae")
app.add_typer(worklist.app, name="worklist")
app.add_typer(attributes.app, name="attributes")
app.command("delete")(deleted.delete)
app.add_typer(deleted.app, name="deleted")
app.add_typer(holds.app, name="hold")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(quarantine.history, name="history")
app.add_typer(routes.app, name="route")
app.add_typer(prefetch.app, name="prefetch")
app.add_typer(copies.app, name="copies")
app.add_typer(presets.app, name="presets")
app.add_typer(queue.transfers, name="transfers")
app.add_typer(queue.jobs, name="jobs")
app.add_typer(originals.app, name="original")
app.command("send")(remote.send)
app.command("find")(remote.find)
app.command("fetch")(remote.fetch)
app.command("viewer")(running.viewer)
app.command("settings")(about.settings)
app.command("version")(about.version)
app.command("conformance")(about.conformance)
