"""Who the users are: of whoever has a token of an issuer that is trusted. The one place for users of other kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pacs.scp.identity import Known, Strangers, Users
from pacs.settings_file import SettingsError

if TYPE_CHECKING:
    from pacs.settings import Settings
    from pacs.tokens import Tokens


class TokenUsers:
    """Users by their tokens alone: nobody here knows a passcode."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def by_passcode(self, name: str, passcode: bytes) -> Known | None:
        """See `Users`."""

    def by_token(self, token: bytes) -> Known | None:
        """See `Users`. Raises TokenRefused."""
        from pacs.tokens import TokenRefused, name_of

        claims = self._tokens.check(token)
        name = name_of(claims)
        if not name:
            raise TokenRefused("its token names no user")
        return Known(name, f"by a token of {claims['iss']}")


def users_of(settings: Settings) -> Users:
    """The users of these settings. Raises SettingsError where they contradict each other."""
    if not settings.oidc_issuers:
        if settings.dimse_user_identity == "verified":
            raise SettingsError(
                "PACS_DIMSE_USER_IDENTITY=verified would refuse everybody, for nothing can be checked: set PACS_OIDC_ISSUERS"
            )
        return Strangers()
    if not (settings.oidc_audience or settings.oidc_client_id):
        raise SettingsError(
            "PACS_OIDC_ISSUERS alone would take tokens that were made for any service: set PACS_OIDC_AUDIENCE or PACS_OIDC_CLIENT_ID"
        )
    # Here, so that it is not loaded where there are no issuers.
    from pacs.tokens import Tokens

    return TokenUsers(
        Tokens(
            settings.oidc_issuers,
            audience=settings.oidc_audience,
            client_id=settings.oidc_client_id,
            keys_file=settings.oidc_keys,
        )
    )
