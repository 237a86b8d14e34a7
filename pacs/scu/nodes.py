"""From the registry of nodes to where an association is asked for: the one place that knows what a row says about sending."""

from __future__ import annotations

import ssl
from typing import Any, Final

from pacs.scp.journal import Journal
from pacs.scu.associating import Destination
from pacs.tls import Credentials, client_context
from pacs.upper_layer import UserIdentity
from storage.index import Index
from storage.index.ae import AeTitle, ae_title_of
from storage.index.identities import Identity, IdentityKind, identity_of

_NOBODY: Final = Credentials()
# PS3.7 table D.3-14.
_TYPES: Final = {IdentityKind.USER: 1, IdentityKind.PASSCODE: 2, IdentityKind.TOKEN: 5}


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
    return destination_at(
        known,
        identity_of(index, title),
        calling_ae=calling_ae,
        credentials=credentials,
        answer_seconds=answer_seconds,
        journal=journal,
    )


def destination_at(
    node: AeTitle, identity: Identity | None, *, calling_ae: str, credentials: Credentials = _NOBODY, **more: Any
) -> Destination:
    """The same of a node that is there, to which we are `identity`. Raises TlsSettings."""
    return Destination(
        node.title,
        node.host,
        node.port,
        calling_ae,
        node.syntaxes,
        tls=tls_of(node, credentials),
        identity=_user_identity(identity) if identity else None,
        **more,
    )


def _user_identity(identity: Identity) -> UserIdentity:
    primary = identity.token or identity.user
    return UserIdentity(_TYPES[identity.kind], identity.confirm, primary.encode(), identity.passcode.encode())


def tls_of(node: AeTitle, credentials: Credentials) -> ssl.SSLContext | None:
    """What a connection to the node is to be secured with; None where it speaks no TLS. Raises TlsSettings."""
    return client_context(credentials, node.tls_certificate) if node.tls else None
