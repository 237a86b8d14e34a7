"""Secrets of an archive, each made once by whoever needs it first."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from storage.index.coercion_tables import secret

if TYPE_CHECKING:
    from storage.index import Index

# Under which identifiers are replaced.
DEIDENTIFICATION: Final = "deidentification"
_BYTES: Final = 32


def secret_of(index: Index, name: str) -> bytes:
    """The secret of a name, the same in every process. It is in the database alone: without that it is lost."""
    own = select(secret.c.value).where(secret.c.name == name)
    with index.database.read() as connection:
        found = connection.scalar(own)
    if found is None:
        insert = sqlite_insert if index.database.sqlite else postgresql_insert
        made = {"name": name, "value": secrets.token_bytes(_BYTES)}
        with index.database.write() as connection:
            connection.execute(insert(secret).values(made).on_conflict_do_nothing())
            found = connection.scalars(own).one()
    return bytes(found)
