"""`/api/certificates`: the TLS certificates that this archive knows, and when they end."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from pacs.admin.api import Asked, Operation
from pacs.certificates import Known, known_certificates
from pacs.tls import Credentials
from storage.index import Index
from storage.index.ae import ae_titles


class Certificate(BaseModel):
    """One of them."""

    whose: Annotated[str, Field(description="The setting that names its file, or the node that it is of.")]
    subject: str
    ends: Annotated[datetime | None, Field(description="null: it cannot be read.")]
    todo: Annotated[str, Field(description="What is to be done; empty: nothing.")]


def operations(index: Index, credentials: Credentials) -> tuple[Operation, ...]:
    """The operation on them."""

    def every(_asked: Asked) -> list[Certificate]:
        return [_shown(one) for one in known_certificates(credentials, ae_titles(index))]

    summary = "The TLS certificates that this archive knows, those that end first in front."
    return (Operation("GET", "/api/certificates", every, summary, gives=list[Certificate]),)


def _shown(one: Known) -> Certificate:
    return Certificate(whose=one.whose, subject=one.subject, ends=one.ends_at, todo=one.todo)
