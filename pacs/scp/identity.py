"""Who asks for an association, as its user identity says (PS3.7 D.3.3.7), and the place for whoever can check that.

Nothing here lets anybody do anything: rights are those of AE title and address. A name is recorded as what was claimed, as
the Basic User Identity Association Profile has it (PS3.15 B.4); what can be checked is, and what is found false is rejected.
Kerberos tickets and SAML assertions (B.6, B.7) are not supported: such an association is accepted without a positive answer.
Who users are is known to `Users` alone, which the composition root hands in.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from pacs.upper_layer import UserIdentity
from storage.errors import Refused

KINDS: Final = {
    1: "user name",
    2: "user name and passcode",
    3: "Kerberos service ticket",
    4: "SAML assertion",
    5: "JSON web token",
}
_NAME: Final = 1
_PASSCODE: Final = 2
_TOKEN: Final = 5
_LONGEST: Final = 64
# What to do about an identity that says nothing to us.
_READ_WITH: Final = {KINDS[_TOKEN]: "set PACS_OIDC_ISSUERS to have it checked"}
_NOT_READ: Final = "set a user name or a JSON web token at the sender to have its user known"


class Required(StrEnum):
    """What a caller must say of its user: nothing, who it is, or what proves it."""

    OPTIONAL = "optional"
    REQUIRED = "required"
    VERIFIED = "verified"


@dataclass(frozen=True, slots=True)
class Known:
    """A user of whom it is certain who it is, and `by` what, in words."""

    name: str
    by: str


class Users(Protocol):
    """Who the users are: the same as those of the web. From many threads; must answer within seconds.

    Both raise Refused with a reason for what is false, and give None for what cannot be told.
    """

    def by_passcode(self, name: str, passcode: bytes) -> Known | None:
        """The user of this name, if that is the passcode."""

    def by_token(self, token: bytes) -> Known | None:
        """The user that a JSON web token is about."""


class Strangers:
    """No users: nothing can be told of anybody."""

    def by_passcode(self, name: str, passcode: bytes) -> Known | None:
        """See `Users`."""

    def by_token(self, token: bytes) -> Known | None:
        """See `Users`."""


@dataclass(frozen=True, slots=True)
class Identified:
    """What is made of an identity.

    `user` is a name, for logs; `by` says what stands behind it, nothing where it is empty. `unread` is what was presented in
    vain, by its kind. `answer` is the server response, None for none; `missed`: one was asked for in vain, and some callers hang up
    then. `refused`: the association is rejected, and why.
    """

    user: str = ""
    by: str = ""
    unread: str = ""
    answer: bytes | None = None
    missed: bool = False
    refused: str = ""

    def told(self, reason: str) -> str:
        """A reason of the association log, with who asked before it."""
        missed = ", and so the positive answer that it asks for is not given" if self.missed else ""
        who = f"its user is {self.user} ({self.by or f'as it says; not checked{missed}'})" if self.user else ""
        if self.unread:
            who = f"it presents a {self.unread} for its user, which is not checked here{missed}: {_READ_WITH.get(self.unread, _NOT_READ)}"
        return "; ".join(part for part in (who, reason) if part)


class Verifier:
    """Looks at identities as they come. Thread-safe; never raises."""

    def __init__(self, users: Users, required: Required = Required.OPTIONAL) -> None:
        self._users = users
        self._required = required

    def identify(self, identity: UserIdentity | None) -> Identified:
        """What to make of it; None where the request has none."""
        if identity is None:
            text = "it says nothing of its user, which PACS_DIMSE_USER_IDENTITY requires: set {what} at the sender"
            what = "a user name" if self._required is Required.REQUIRED else "what proves its user, a token say,"
            return Identified(refused="" if self._required is Required.OPTIONAL else text.format(what=what))
        if identity.kind not in KINDS:
            return Identified(refused=f"its user identity is of kind {identity.kind}, which there is not (PS3.7 D.3.3.7)")
        try:
            known = self._known(identity)
        except Refused as error:
            return Identified(refused=str(error))
        # An answer says that it is believed (D.3.3.7); and of a name that it was taken, for there is nothing to check.
        answer = b"" if identity.answer_wanted and (known or identity.kind == _NAME) else None
        if known:
            return Identified(_shown(known.name), known.by, answer=answer)
        return self._claimed(identity, answer, missed=identity.answer_wanted and answer is None)

    def _known(self, identity: UserIdentity) -> Known | None:
        """Raises Refused for what is false; None for what nobody can check."""
        if identity.kind == _PASSCODE:
            return self._users.by_passcode(_text(identity.primary), identity.secondary)
        return self._users.by_token(identity.primary) if identity.kind == _TOKEN else None

    def _claimed(self, identity: UserIdentity, answer: bytes | None, *, missed: bool) -> Identified:
        """What nobody can check."""
        if self._required is Required.VERIFIED:
            text = f"its user identity is a {KINDS[identity.kind]}, which cannot be checked here, and PACS_DIMSE_USER_IDENTITY=verified"
            return Identified(refused=f"{text} wants one that can: a JSON web token of an issuer of PACS_OIDC_ISSUERS")
        if identity.kind not in (_NAME, _PASSCODE):
            return Identified(unread=KINDS[identity.kind], missed=missed)
        user = _shown(_text(identity.primary))
        if not user and self._required is Required.REQUIRED:
            return Identified(refused="its user name is empty: set one at the sender")
        return Identified(user, answer=answer, missed=missed)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace").strip(" \0")


def _shown(text: str) -> str:
    text = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
