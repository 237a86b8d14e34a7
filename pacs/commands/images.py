"""`pacs import` and `pacs demo`: images from files into the archive, with or without a running server."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pacs.commands.console import AsJson, begin, print_json, progress, say
from pacs.logs import escaped
from pacs.settings import Settings
from storage.types import Outcome

if TYPE_CHECKING:
    from pacs.importing import Tally

# Names shown of each reason; --json has them all.
_SHOWN = 5


def import_files(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH", exists=True, readable=True, help="Files, folders, zip archives or DICOMDIRs."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Store all DICOM files found in folders (however deep) and zip archives; other files are passed over."""
    tally = _import(begin(), paths)
    if as_json:
        print_json(tally.as_json())
    else:
        _tell(tally)
    sys.exit(0 if tally.clean else 1)


def demo() -> None:
    """Store a handful of real, openly licensed series, to have something to look at."""
    from pacs.demo import DEMONSTRATION, demo_files

    files = demo_files()
    tally = _import(begin(), files)
    _tell(tally)
    if len(files) < len(DEMONSTRATION):
        say(
            f"{len(DEMONSTRATION) - len(files)} more come with pip install 'lightbox-pacs[demo]' (or make demo)."
        )
    sys.exit(0 if tally.clean else 1)


def _import(settings: Settings, paths: Sequence[Path]) -> Tally:
    from pacs import compose
    from pacs.candidates import count
    from pacs.importing import import_paths

    without = [settings.folder]
    with compose.opened(settings, migrate=True) as found, progress() as bar:
        task = bar.add_task("Importing", total=count(paths, without=without) if not bar.disable else None)

        def watch(tally: Tally) -> None:
            # Members of archives were not counted: the bar grows with them.
            total = max(tally.seen, bar.tasks[task].total or 0)
            bar.update(task, completed=tally.seen, total=total)

        return import_paths(found.archive, paths, without=without, user=_user(), watch=watch)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a number that has no name.
        return ""


def _tell(tally: Tally) -> None:
    parts = [f"{count} {outcome.value}" for outcome in Outcome if (count := tally.outcomes[outcome])]
    parts += [f"{tally.not_stored} refused"] if tally.not_stored else []
    parts += [f"{tally.skipped} not DICOM"] if tally.skipped else []
    seconds = max(tally.seconds, 1e-3)
    say(f"{', '.join(parts) or 'no files'} in {seconds:.1f} s ({tally.bytes / 1e6:.1f} MB)")
    for name, reason in sorted(tally.refused.items(), key=lambda item: -item[1].count):
        say(f"\nRefused, {name}: {reason.count} ({reason.meaning})")
        for file, text in reason.files[:_SHOWN]:
            say(f"  {escaped(file)}: {escaped(text)}")
        if reason.count > _SHOWN:
            say(f"  and {reason.count - _SHOWN} more")
    if tally.flags:
        say(
            "\nStored, but odd: "
            + ", ".join(f"{code} ({count})" for code, count in tally.flags.most_common())
        )
    if tally.ended:
        say(
            f"\nEnded early: {tally.ended}. Import the same again to go on; what is stored already is passed over."
        )
    elif not parts or (not tally.outcomes and not tally.not_stored):
        say("There was no DICOM file.")
