"""`pacs verify`, `pacs rebuild-index` and `pacs migrate`: what keeps an archive honest, run by hand or by a timer."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from pacs.commands.console import AsJson, begin, print_json, progress, say
from pacs.logs import escaped

if TYPE_CHECKING:
    from storage.archive import Archive
    from storage.upkeep import Finding


def verify(
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Look only whether objects are there, without reading their bytes."),
    ] = False,
    remove_orphans: Annotated[
        bool,
        typer.Option("--remove-orphans", help="Delete objects older than an hour that no row refers to, and copies that are damaged."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check every instance's bytes against the digest they came with, and look for objects that nothing refers to."""
    from pacs import compose
    from storage import upkeep

    def look(archive: Archive, watch: Callable[[int], None]) -> Iterable[Finding]:
        yield from upkeep.verify(archive, fixity=not quick, progress=watch)

    with compose.opened(begin()) as found, progress() as bar:
        # Every row, then every object.
        findings = _watched(bar, "Verifying", 2 * found.archive.index.counts().instances, look, found.archive)
        removed = list(upkeep.remove_orphans(found.archive)) if remove_orphans else []
    gone = {finding.key for finding in removed}
    left = [finding for finding in findings if finding.key not in gone]
    if as_json:
        print_json(
            {
                "findings": [_row(finding) for finding in left],
                "removed": [_row(finding) for finding in removed],
            }
        )
    else:
        _tell(left, "Everything is as it was received.")
        if removed:
            say(f"Removed {len(removed)} orphans.")
    sys.exit(1 if left else 0)


def rebuild_index(as_json: AsJson = False) -> None:
    """Index every object of the store anew; harmless for those already indexed, and beside a running server."""
    from pacs import compose
    from storage import upkeep

    def look(archive: Archive, watch: Callable[[int], None]) -> Iterable[Finding]:
        yield from upkeep.rebuild(archive, progress=watch)

    with compose.opened(begin(), migrate=True) as found, progress() as bar:
        findings = _watched(bar, "Indexing", None, look, found.archive)
        counts = found.archive.index.counts()
    if as_json:
        print_json(
            {
                "studies": counts.studies,
                "series": counts.series,
                "instances": counts.instances,
                "findings": [_row(finding) for finding in findings],
            }
        )
    else:
        _tell(findings, "Every object is indexed.")
        say(
            f"The index has {counts.instances} instances in {counts.series} series and {counts.studies} studies."
        )
    sys.exit(1 if findings else 0)


def migrate() -> None:
    """Bring the index's tables up to date; `pacs serve` does the same at its start."""
    from pacs import compose

    with compose.opened(begin(), migrate=True) as found:
        found.archive.index.ping()
    say("The index is up to date.")


def _watched(
    bar: Progress,
    doing: str,
    total: int | None,
    look: Callable[[Archive, Callable[[int], None]], Iterable[Finding]],
    archive: Archive,
) -> list[Finding]:
    task = bar.add_task(doing, total=total)
    return list(look(archive, lambda count: bar.advance(task, count)))


def _row(finding: Finding) -> dict[str, str]:
    return {
        "fault": finding.fault.value,
        "key": finding.key,
        "instance": finding.instance,
        "text": finding.text,
    }


def _tell(findings: list[Finding], good: str) -> None:
    for finding in findings:
        say(f"{finding.fault.value:10}  {finding.key}  {escaped(finding.instance)}  {escaped(finding.text)}")
    counts = Counter(finding.fault.value for finding in findings)
    say(", ".join(f"{count} {fault}" for fault, count in sorted(counts.items())) if findings else good)
