"""Who we say that we are to a node that we call (PS3.7 D.3.3.7): kept beside the registry, and shown to nobody again."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Row, delete, select

from storage.errors import BadRequest, NotFound
from storage.index import Index
from storage.index.ae import node_in
from storage.index.tables import ae_identity

_LONGEST_NAME: Final = 256
# A length has two bytes (PS3.7 D.3.3.7.1).
_LONGEST_SECRET: Final = 65535


class IdentityKind(StrEnum):
    """What an identity is made of."""

    USER = "user name"
    PASSCODE = "user name and passcode"
    TOKEN = "JSON web token"  # noqa: S105 - says what it is


@dataclass(frozen=True, slots=True)
class Identity:
    """A user name, alone or with a passcode, or a token; `confirm`: the node is asked to confirm that it believes it.

    Raises BadRequest.
    """

    user: str = ""
    passcode: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    confirm: bool = False

    def __post_init__(self) -> None:
        if bool(self.user) is bool(self.token) or (self.passcode and not self.user):
            raise BadRequest("give a user name, with its passcode where there is one, or a token")
        if not self.user.isprintable() or len(self.user) > _LONGEST_NAME:
            raise BadRequest(f"a user name has at most {_LONGEST_NAME} characters, and no control characters")
        secret = self.passcode or self.token
        if "\0" in secret or len(secret.encode()) > _LONGEST_SECRET:
            raise BadRequest(f"a passcode or token has at most {_LONGEST_SECRET} bytes, and no NUL")

    @property
    def kind(self) -> IdentityKind:
        """What it is made of."""
        if self.token:
            return IdentityKind.TOKEN
        return IdentityKind.PASSCODE if self.passcode else IdentityKind.USER

    def __str__(self) -> str:
        """For people, without what is secret."""
        named = f"{self.kind} ({self.user})" if self.user else self.kind.value
        return f"{named}, to be confirmed" if self.confirm else named


def identity_of(index: Index, title: str) -> Identity | None:
    """Who we are to the node of this title; None: nothing is said of that."""
    query = select(ae_identity).where(ae_identity.c.title == title.strip(" "))
    with index.database.read() as connection:
        row = connection.execute(query).one_or_none()
    return _identity(row) if row else None


def identities(index: Index) -> dict[str, Identity]:
    """Those there are, by the title of the node."""
    with index.database.read() as connection:
        return {row.title: _identity(row) for row in connection.execute(select(ae_identity))}


def set_identity(index: Index, title: str, identity: Identity | None) -> None:
    """Say that from the next association on; None: nothing. Raises NotFound, and BadRequest for a node that is not called by DIMSE."""
    with index.database.write() as connection:
        node = node_in(connection, title)
        if node is None:
            raise NotFound("there is no node of this AE title")
        if identity and not node.port:
            raise BadRequest(f"{node.title} has no host and port to be called at; what lets us in over the web is its login")
        connection.execute(delete(ae_identity).where(ae_identity.c.title == node.title))
        if identity:
            said = {"user_name": identity.user, "passcode": identity.passcode, "token": identity.token, "confirm": identity.confirm}
            connection.execute(ae_identity.insert().values(title=node.title, **said))


def _identity(row: Row[Any]) -> Identity:
    return Identity(row.user_name, row.passcode, row.token, row.confirm)
