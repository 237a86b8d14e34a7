"""`pacs serve` and `pacs viewer`: the server, and the pages that it shows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pacs import settings as settings_module
from pacs.commands.console import begin, say


def serve(
    only: Annotated[
        str,
        typer.Option(
            metavar="KINDS", help="Serve only these kinds, separated by commas: dimse, hl7, web, worker."
        ),
    ] = "",
) -> None:
    """Serve the archive: viewer and DICOMweb over HTTP, C-STORE and C-FIND over DIMSE."""
    from pacs import serve as server

    kinds = [kind.strip() for kind in only.split(",") if kind.strip()]
    sys.exit(server.serve(settings_module.load(), kinds))


def viewer(
    folder: Annotated[
        Path | None, typer.Argument(help="Where to keep it, instead of the configured folder.")
    ] = None,
) -> None:
    """Fetch the viewer (OHIF), verify it and unpack it, unless it is there already."""
    from pacs.viewer_package import fetch, find

    settings = begin()
    place = folder or settings.viewer_dir or settings.folder / "viewer"
    found = find(place) or fetch(place, progress=_tell)
    say(f"The viewer is in {found}")


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")
