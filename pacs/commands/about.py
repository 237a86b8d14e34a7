"""`pacs settings`, `pacs version` and `pacs conformance`: what is set, what this is, and what it does of the standard."""

from __future__ import annotations

import platform
import sys
from dataclasses import asdict
from importlib.metadata import version as version_of

from pacs import settings_file, settings_shown
from pacs.commands.console import AsJson, print_json, say
from pacs.settings import load


def settings(as_json: AsJson = False) -> None:
    """Print every setting with its present value, default and meaning; passwords are starred out."""
    found = list(settings_shown.rows(load()))
    if as_json:
        print_json([asdict(row) for row in found])
        return
    for row in found:
        default = f" Default: {row.default}." if row.origin != "default" else ""
        say(f"{row.name}={row.value}\n    {row.meaning[0].upper()}{row.meaning[1:]}.{default}")
    file = settings_file.settings_file()
    say(
        f"\nFrom the environment{f' and {file}' if file else f' ({settings_file.DEFAULT_FILE} is not there)'}."
    )


def version() -> None:
    """Print which Lightbox this is."""
    say(f"Lightbox {version_of('lightbox-pacs')} (Python {platform.python_version()}, {platform.system()})")


def conformance() -> None:
    """Print the DICOM conformance statement (PS3.2) of this version, in Markdown."""
    from pacs import compose

    sys.stdout.write(compose.conformance_statement())
