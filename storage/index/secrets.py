"""Secrets of an archive, each made once by whoever needs it first."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from storage.index.coercion_tables import secret
from storage.index.inserting import insert_into

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
        made = {"name": name, "value": secrets.token_bytes(_BYTES)}
        with index.database.write() as connection:
            new = insert_into(connection.dialect.name, secret).values(made)
            connection.execute(new.on_conflict_do_nothing())
            found = connection.scalars(own).one()
    return bytes(found)
