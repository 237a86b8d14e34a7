"""From the registry of nodes to where an association is asked for: the one place that knows what a row says about sending."""

from __future__ import annotations

import ssl
from typing import Final

from pacs.scp.journal import Journal
from pacs.scu.associating import Destination
from pacs.tls import Credentials, client_context
from storage.index import Index
from storage.index.ae import AeTitle, ae_title_of

_NOBODY: Final = Credentials()


def destination_of(
    index: Index,
    title: str,
    *,
    calling_ae: str,
    credentials: Credentials = _NOBODY,
    answer_seconds: float = 60.0,
    journal: Journal | None = None,
) -> Destination | None:
    """The node `title`, called as `calling_ae`; None when it is not known, or only calls. Read anew each time.

    `credentials` are ours, for a node that speaks TLS; `journal` is told of associations with it. Raises TlsSettings when they cannot be used.
    """
    known = ae_title_of(index, title)
    if known is None or not known.port:
        return None
    return Destination(
        known.title,
        known.host,
        known.port,
        calling_ae,
        known.syntaxes,
        answer_seconds=answer_seconds,
        tls=tls_of(known, credentials),
        journal=journal,
    )


def tls_of(node: AeTitle, credentials: Credentials) -> ssl.SSLContext | None:
    """What a connection to the node is to be secured with; None where it speaks no TLS. Raises TlsSettings."""
    return client_context(credentials, node.tls_certificate) if node.tls else None
