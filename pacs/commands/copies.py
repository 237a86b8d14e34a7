"""`pacs copies`: HTJ2K copies and thumbnails of what is stored already; of what comes they are made by themselves."""

from __future__ import annotations

from typing import Annotated

import typer

from pacs.commands.console import begin, say
from storage.errors import BadRequest

app = typer.Typer(
    help="HTJ2K copies, which viewers show progressively, and thumbnails of what is stored already: make.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def copies() -> None:
    """HTJ2K copies, which viewers show progressively, and thumbnails of what is stored already."""


@app.command()
def make(
    modality: Annotated[
        list[str] | None, typer.Option(help="Modality of the images, such as MG; may be repeated; * is all; else those of PACS_HTJ2K_COPIES.")
    ] = None,
    study: Annotated[str, typer.Option(help="Only those of this study, by its UID.")] = "",
    thumbnails: Annotated[bool, typer.Option("--thumbnails", help="Thumbnails of series and studies instead; of all modalities where none is named.")] = False,
) -> None:
    """Have copies made of images that have none, or thumbnails drawn, by jobs of the running server; pacs jobs list shows them."""
    from pacs import compose
    from storage.copying import order, order_thumbnails
    from storage.procedure_steps import is_uid

    settings = begin()
    modalities = modality or (["*"] if thumbnails else list(settings.htj2k_copies))
    if not modalities:
        raise BadRequest("say of which images: --modality MG, or set PACS_HTJ2K_COPIES")
    if study and not is_uid(study):
        raise BadRequest("--study is no UID")
    with compose.opened(settings, migrate=True) as found:
        count = (order_thumbnails if thumbnails else order)(found.archive.index, modalities, study)
    if thumbnails:
        say(f"{count} series have jobs for thumbnails, which are drawn one after the other{'' if settings.thumbnails else '; they are used when PACS_THUMBNAILS is true'}")
        return
    served = "" if settings.htj2k_copies else "; they are given to viewers when PACS_HTJ2K_COPIES is set"
    say(f"{count} images have jobs for copies, which are made one after the other{served}")
