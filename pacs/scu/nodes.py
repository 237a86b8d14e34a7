"""From the registry of nodes to where an association is asked for: the one place that knows what a row says about sending."""

from __future__ import annotations

from pacs.scu.associating import Destination
from storage.index import Index
from storage.index.ae import ae_title_of


def destination_of(index: Index, title: str, *, calling_ae: str, answer_seconds: float = 60.0) -> Destination | None:
    """The node `title`, called as `calling_ae`; None when it is not known, or only calls. Read anew each time."""
    known = ae_title_of(index, title)
    if known is None or not known.port:
        return None
    return Destination(
        known.title, known.host, known.port, calling_ae, known.syntaxes, answer_seconds=answer_seconds
    )
