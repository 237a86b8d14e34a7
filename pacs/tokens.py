"""Tokens of the issuers that are trusted (JWT, RFC 7519), checked here by the keys that the issuers publish.

An issuer says where its keys are under `/.well-known/openid-configuration` (OpenID Connect Discovery 4); a file takes the place of
that where it cannot be reached. Keys are kept for an hour, looked for again when a token names one that is not among them, and
used for a day when the issuer does not answer. Only signatures with a public key are accepted (RFC 8725 3.1).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
import structlog
from joserfc import jws, jwt
from joserfc.errors import (
    BadSignatureError,
    ExpiredTokenError,
    InvalidClaimError,
    JoseError,
    MissingClaimError,
)
from joserfc.jwk import Key, KeySet

from pacs.setting_values import is_secure
from storage.errors import Refused

_log = structlog.get_logger(__name__)
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
FRESH_SECONDS: Final = 3600.0
_STALE_SECONDS: Final = 86_400.0
# Between two attempts: a flood of tokens is none of requests to the issuer.
PAUSE_SECONDS: Final = 30.0
_FETCH_SECONDS: Final = 3.0
# How far the clocks may be apart.
_LEEWAY_SECONDS: Final = 60
_MOST_BYTES: Final = 1 << 20
_LONGEST_TOKEN: Final = 1 << 15
# Claims that name a user to people, the best first (OpenID Connect Core 5.1; Amazon Cognito's access tokens have `username`).
_NAMES: Final = ("preferred_username", "username", "email", "sub")

Claims = Mapping[str, Any]
# What gets the JSON at an address. Raises OSError.
Fetch = Callable[[str], Any]


class TokenRefused(Refused):
    """A token that proves nothing; the text says why, and names nobody."""


class Tokens:
    """Checks tokens of `issuers`, for us as `audience` or `client_id`. Thread-safe.

    A token must name the one or the other as its audience; one without audience must name the client (`client_id`, as Amazon
    Cognito's access tokens do). `keys_file` is a JWK set (RFC 7517 5) for all issuers. `clock` gives seconds since 1970.
    """

    def __init__(
        self,
        issuers: Sequence[str],
        *,
        audience: str = "",
        client_id: str = "",
        keys_file: Path | None = None,
        fetch: Fetch | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        get = fetch or fetched
        self._issuers = {issuer: _Keys(_source(issuer, keys_file, get), clock) for issuer in issuers}
        self._wanted = {audience, client_id} - {""}
        self._client_id = client_id
        self._clock = clock

    def check(self, token: bytes) -> Claims:
        """What a token says that is signed by one of the issuers, for us, and not over. Raises TokenRefused."""
        text = token.strip()
        if len(text) > _LONGEST_TOKEN:
            raise TokenRefused("its token is too long")
        issuer, kid = self._named(text)
        claims = self._signed(text, self._issuers[issuer], kid)
        self._check_claims(claims, issuer)
        return claims

    def _named(self, token: bytes) -> tuple[str, str | None]:
        """Who should have signed it, and with which key; nothing of that is believed yet."""
        try:
            parts = jws.extract_compact(token)
            header, said = parts.headers(), orjson.loads(parts.payload)
        except (JoseError, ValueError) as error:
            raise TokenRefused("its token is no signed JSON web token") from error
        issuer = said.get("iss") if isinstance(said, dict) else None
        if not isinstance(issuer, str) or issuer not in self._issuers:
            raise TokenRefused("its token comes from no issuer of PACS_OIDC_ISSUERS")
        if header.get("alg") not in ALGORITHMS:
            raise TokenRefused("its token is not signed with a public key that is accepted (RS256, ES256 and the like)")
        kid = header.get("kid")
        return issuer, kid if isinstance(kid, str) else None

    def _signed(self, token: bytes, keys: _Keys, kid: str | None) -> Claims:
        for key in keys.named(kid):
            try:
                return jwt.decode(token, key, algorithms=ALGORITHMS).claims
            except BadSignatureError:
                continue
            except (JoseError, ValueError, TypeError) as error:
                # Another kind of key than its algorithm has, or a header with values of another type than they must have.
                _log.debug("token.key_does_not_fit", reason=type(error).__name__)
        raise TokenRefused("its token is signed with no key that its issuer publishes")

    def _check_claims(self, claims: Claims, issuer: str) -> None:
        registry = jwt.JWTClaimsRegistry(
            now=lambda: int(self._clock()),
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": issuer},
            exp={"essential": True},
        )
        try:
            registry.validate(dict(claims))
        except ExpiredTokenError as error:
            raise TokenRefused("its token has expired: let it get a new one, and compare the clocks") from error
        except MissingClaimError as error:
            raise TokenRefused(f"its token does not say its {error.claim}") from error
        except InvalidClaimError as error:
            raise TokenRefused(f"the {error.claim} of its token cannot be accepted: compare the clocks, where it is a time") from error
        audience = claims.get("aud", ())
        named = {audience} if isinstance(audience, str) else set(audience)
        if named and self._wanted.isdisjoint(named):
            raise TokenRefused("its token is for another service: PACS_OIDC_AUDIENCE and PACS_OIDC_CLIENT_ID say for whom it must be")
        if not named and (not self._client_id or claims.get("client_id") != self._client_id):
            raise TokenRefused("its token does not say for whom it is, and its client is not that of PACS_OIDC_CLIENT_ID")


def name_of(claims: Claims) -> str:
    """The user that a token is about, by the name that people know."""
    return next((value for name in _NAMES if isinstance(value := claims.get(name), str) and value), "")


class _Keys:
    """The keys of one issuer. Thread-safe: one thread looks for them, and only who needs what it finds waits for that."""

    def __init__(self, source: Callable[[], KeySet], clock: Callable[[], float]) -> None:
        self._source = source
        self._clock = clock
        self._keys: list[Key] = []
        self._found = self._tried = float("-inf")
        self._lock = threading.Lock()

    def named(self, kid: str | None) -> list[Key]:
        """Those that a token may be signed with. Raises TokenRefused where there are none to be had."""
        now = self._clock()
        if not self._is_known(kid, now):
            with self._lock:
                if not self._is_known(kid, now):
                    self._look(now)
        if now - self._found > _STALE_SECONDS:
            raise TokenRefused("the keys of its token's issuer cannot be had now: this server's log says why")
        return self._of(kid)

    def _is_known(self, kid: str | None, now: float) -> bool:
        return now - self._found <= FRESH_SECONDS and bool(self._of(kid))

    def _of(self, kid: str | None) -> list[Key]:
        return [one for one in self._keys if (kid is None or one.kid in (kid, None)) and one.get("use") in (None, "sig")]

    def _look(self, now: float) -> None:
        if now - self._tried < PAUSE_SECONDS:
            return
        self._tried = now
        try:
            found = list(self._source().keys)
        except (OSError, ValueError, KeyError, TypeError, JoseError) as error:
            _log.warning("token.no_keys", reason=str(error) or type(error).__name__)
            return
        self._keys, self._found = found, now


def _source(issuer: str, file: Path | None, fetch: Fetch) -> Callable[[], KeySet]:
    def published() -> KeySet:
        about = fetch(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if about["issuer"] != issuer:
            raise ValueError(f"{issuer} calls itself {about['issuer']}: correct PACS_OIDC_ISSUERS")
        keys = about["jwks_uri"]
        if not isinstance(keys, str) or not is_secure(keys):
            raise ValueError(f"{issuer} has its keys at {keys}: they must be read by https, for others can be changed on the way")
        return _understood(fetch(keys))

    def kept() -> KeySet:
        assert file is not None
        return _understood(orjson.loads(file.read_bytes()))

    return published if file is None else kept


def _understood(keys: Any) -> KeySet:
    """The keys of a set that can be used here; one that cannot be, of a curve unknown here say, is passed over (RFC 7517 5)."""
    found: list[Key] = []
    for one in keys["keys"]:
        try:
            found += KeySet.import_key_set({"keys": [one]}).keys
        except (ValueError, KeyError, TypeError, JoseError) as error:
            _log.warning("token.key_not_understood", reason=str(error) or type(error).__name__)
    if keys["keys"] and not found:
        raise ValueError("none of the keys that are published is understood")
    return KeySet(found)


def fetched(url: str) -> Any:
    """The JSON at an address, which has 3 s for all of it. Raises OSError, ValueError."""
    return orjson.loads(asyncio.run(_read(url)))


async def _read(url: str) -> bytes:
    # Here, so that a DIMSE process does not load it where there are no issuers.
    import httpx

    body = b""
    try:
        # httpx limits each read alone, which an issuer that sends a byte at a time would never reach.
        async with (
            asyncio.timeout(_FETCH_SECONDS),
            httpx.AsyncClient(timeout=_FETCH_SECONDS) as client,
            client.stream("GET", url) as answer,
        ):
            answer.raise_for_status()
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > _MOST_BYTES:
                    raise OSError(f"{url} answers with more than {_MOST_BYTES} bytes")
    except (TimeoutError, httpx.TimeoutException) as error:
        raise OSError(f"{url} does not answer within {_FETCH_SECONDS:g} s") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise OSError(f"{url} cannot be read ({str(error) or type(error).__name__})") from error
    return body
