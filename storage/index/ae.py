"""The table of application entities that this archive may send to and hears from; read anew each time, so no restart."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from storage.errors import BadRequest
from storage.index import Index
from storage.index.tables import ae_title

# PS3.5 6.2: up to 16 characters of the default repertoire, no backslash, no control characters, not only spaces.
_TITLE = re.compile(r"(?=.*[^ ])[ -\[\]-~]{1,16}")


@dataclass(frozen=True, slots=True)
class AeTitle:
    """One application entity: who it is and where it listens."""

    title: str
    host: str
    port: int
    description: str = ""


def add_ae_title(index: Index, entity: AeTitle) -> None:
    """Add an entity, or replace the one with its title. Raises BadRequest for what cannot be a title, host or port."""
    title = entity.title.strip(" ")
    if not _TITLE.fullmatch(title):
        raise BadRequest("an AE title has 1 to 16 characters, without backslash or control characters")
    if not entity.host or any(letter.isspace() for letter in entity.host):
        raise BadRequest("give the host as a name or an address")
    if not 0 < entity.port < 65536:
        raise BadRequest("a port is a number from 1 to 65535")
    values = {"title": title, "host": entity.host, "port": entity.port, "description": entity.description}
    insert = sqlite_insert if index.database.sqlite else postgresql_insert
    statement = insert(ae_title).values(values).on_conflict_do_update(index_elements=["title"], set_=values)
    with index.database.write() as connection:
        connection.execute(statement)


def remove_ae_title(index: Index, title: str) -> bool:
    """Remove an entity; False when there is none of this title."""
    with index.database.write() as connection:
        return connection.execute(delete(ae_title).where(ae_title.c.title == title.strip(" "))).rowcount > 0


def ae_titles(index: Index) -> list[AeTitle]:
    """All entities by their title."""
    with index.database.read() as connection:
        found = connection.execute(select(ae_title).order_by(ae_title.c.title)).all()
    return [AeTitle(row.title, row.host, row.port, row.description) for row in found]


def ae_title_of(index: Index, title: str) -> AeTitle | None:
    """The entity of this title, or None. Spaces around a title do not matter (PS3.5 6.2)."""
    with index.database.read() as connection:
        row = connection.execute(select(ae_title).where(ae_title.c.title == title.strip(" "))).one_or_none()
    return AeTitle(row.title, row.host, row.port, row.description) if row else None
