"""What the value of a setting may be: each function gives it as it is kept, or raises ValueError saying what to write."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from storage.errors import BadRequest

_PORTS = {"http": 80, "https": 443}


def as_tuple(value: object) -> object:
    """The parts of a list that is written with commas."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def ae_title(value: str) -> str:
    """An AE title without the spaces around it."""
    # PS3.5 6.2, VR AE: at most 16 characters of the default repertoire, no backslash, leading and trailing spaces void.
    title = value.strip()
    if not 1 <= len(title) <= 16 or not re.fullmatch(r"[\x20-\x5b\x5d-\x7e]+", title):
        raise ValueError("an AE title has 1 to 16 printable ASCII characters and no backslash (PS3.5 6.2)")
    return title


def networks(value: tuple[str, ...]) -> tuple[str, ...]:
    """Addresses and networks as they are."""
    for one in value:
        ipaddress.ip_network(one, strict=False)
    return value


def rights(value: tuple[str, ...]) -> tuple[str, ...]:
    """Rights by their names; `all` is every one, `none` is no right."""
    # What knows them loads the database's library, which most commands do without.
    from storage.index.ae import rights_of

    try:
        rights_of(() if value == ("none",) else value)
    except BadRequest as error:
        raise ValueError(str(error)) from None
    return value


def fingerprints(value: tuple[str, ...]) -> tuple[str, ...]:
    """SHA-256 fingerprints as 64 hexadecimal digits, however a tool has printed them."""
    found = tuple(one.rpartition("=")[2].replace(":", "").strip().lower() for one in value)
    for one in found:
        if not re.fullmatch("[0-9a-f]{64}", one):
            raise ValueError("give each certificate as its SHA-256 fingerprint of 64 hexadecimal digits")
    return found


def origins(value: tuple[str, ...]) -> tuple[str, ...]:
    """Origins as browsers write them; `*` is every one."""
    return tuple(one if one == "*" else _origin(one) for one in value)


def issuers(value: tuple[str, ...]) -> tuple[str, ...]:
    """Issuers of tokens (OpenID Connect Core 2), as `is_secure` has them, without query and fragment."""
    for one in value:
        parts = urlsplit(one)
        if not is_secure(one) or parts.query or parts.fragment:
            raise ValueError(f"{one} is no issuer; write https://HOST or https://HOST/PATH")
    return value


def is_secure(url: str) -> bool:
    """Whether keys may be read there: by https, or by http of this machine, for those that are read in plain are anybody's."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))


def _origin(text: str) -> str:
    """An origin as browsers write it (RFC 6454 6.2): lower case, without the port that the scheme means, and no path."""
    parts = urlsplit(text.lower())
    origin = f"{parts.scheme}://{parts.netloc}"
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc or origin != text.lower().rstrip("/"):
        raise ValueError(f"{text} is not an origin; write https://HOST or http://HOST:PORT, without a path")
    return origin.removesuffix(f":{parts.port}") if parts.port == _PORTS[parts.scheme] else origin


def database_url(value: str) -> str:
    """The URL of an index."""
    if value and not value.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise ValueError("use sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE")
    return value


def store_url(value: str) -> str:
    """The URL of an object store."""
    if value and not value.startswith(("file:", "s3://")):
        raise ValueError("use file:PATH or s3://BUCKET/PREFIX")
    return value


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`. A name other than localhost is taken for the network's."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def masked(text: str) -> str:
    """`text` with the password of every URL in it, and what looks like a secret in its query, starred out."""
    text = re.sub(r"(://[^:/@\s]*:)(.*)(@)", r"\1***\3", text)
    return re.sub(r"([?&](?:password|secret|token|sslpassword)=)[^&\s]*", r"\1***", text, flags=re.IGNORECASE)
