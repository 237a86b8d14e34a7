"""Who asks for an association, as its user identity says (PS3.7 D.3.3.7), and the place for whoever can check that.

Nothing here lets anybody do anything: rights are those of AE title and address. A name is recorded as what was claimed, as
the Basic User Identity Association Profile has it (PS3.15 B.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from pacs.upper_layer import UserIdentity

KINDS: Final = {
    1: "user name",
    2: "user name and passcode",
    3: "Kerberos service ticket",
    4: "SAML assertion",
    5: "JSON web token",
}
# Of which the primary field is a name, and no answer says more than that it was taken (PS3.15 B.4, B.5).
_NAMED: Final = frozenset({1, 2})
_LONGEST: Final = 64


@dataclass(frozen=True, slots=True)
class Identified:
    """What is made of an identity.

    `user` is a name, for logs; `verified` says whether anything stands behind it. `answer` is the server response, None
    for none. `refused`: the association is rejected, and why.
    """

    user: str = ""
    verified: bool = False
    answer: bytes | None = None
    refused: str = ""

    def told(self, reason: str) -> str:
        """A reason of the association log, with who asked before it."""
        who = f"its user is {self.user}{'' if self.verified else ' (as it says; not checked)'}" if self.user else ""
        return "; ".join(part for part in (who, reason) if part)


class Verifier(Protocol):
    """Looks at identities as they come, from many threads; must return within seconds, and never raise."""

    def identify(self, identity: UserIdentity | None) -> Identified:
        """What to make of it; None where the request has none."""


class Recorded:
    """Records who is claimed to ask, and checks nothing; where `required`, a request that claims nothing is refused."""

    def __init__(self, *, required: bool = False) -> None:
        self._required = required

    def identify(self, identity: UserIdentity | None) -> Identified:
        """See `Verifier`."""
        if identity is None:
            text = "it says nothing of its user, which PACS_DIMSE_USER_IDENTITY requires: set a user name at the sender"
            return Identified(refused=text if self._required else "")
        if identity.kind not in KINDS:
            return Identified(refused=f"its user identity is of kind {identity.kind}, which there is not (PS3.7 D.3.3.7)")
        if identity.kind not in _NAMED:
            # An answer would say that it was believed.
            return Identified(user=f"({KINDS[identity.kind]})")
        user = _shown(identity.primary)
        if not user and self._required:
            return Identified(refused="its user name is empty: set one at the sender")
        return Identified(user=user, answer=b"" if identity.answer_wanted else None)


def _shown(name: bytes) -> str:
    text = name.decode("utf-8", "backslashreplace").strip(" \0")
    text = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
