"""`pacs ae certificates`: the TLS certificates that this archive knows, and when they end."""

from __future__ import annotations

import sys

from pacs.commands.console import AsJson, begin, print_json, say
from pacs.logs import escaped


def list_certificates(as_json: AsJson = False) -> None:
    """List this archive's TLS certificates, those it trusts and those of its nodes; status 1 when one ends within 30 days."""
    from pacs import compose
    from pacs.certificates import known_certificates
    from storage.index.ae import ae_titles

    settings = begin()
    with compose.opened(settings, migrate=True) as found:
        known = known_certificates(settings.tls_credentials, ae_titles(found.archive.index))
    if as_json:
        print_json([{"whose": one.whose, "subject": one.subject, "ends": one.ends_at, "todo": one.todo} for one in known])
    else:
        for one in known:
            day = f"{one.ends_at:%Y-%m-%d}" if one.ends_at else "-"
            say(f"{day:10}  {one.whose:27}  {escaped(one.subject)}  {one.todo}".rstrip())
        if not known:
            say("No certificates: PACS_DIMSE_TLS_CERTIFICATE, PACS_DIMSE_TLS_CA and the nodes name none.")
    sys.exit(1 if any(one.todo for one in known) else 0)
