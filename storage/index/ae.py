"""The registry of application entities: nodes that may call this archive and that it calls, and its own AE titles.

Every change raises a revision, so that a process that keeps what it has read (`pacs.ae_titles`) asks for one number to
know whether it is still true.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
from sqlalchemy import Connection, Row, Table, delete, select, update

from storage.charsets import DEFAULT, Charset, charset_of
from storage.coercion.rules import Rule, rules_of
from storage.deidentification.profile import Profile, profile_of
from storage.errors import BadRequest
from storage.index import Index
from storage.index.inserting import insert_into
from storage.index.tables import ae_identity, ae_title, counter, own_ae

# PS3.5 6.2: up to 16 characters of the default repertoire, no backslash, no control characters, not only spaces.
_TITLE = re.compile(r"(?=.*[^ ])[ -\[\]-~]{1,16}")
_LOGIN = re.compile(r"[A-Z0-9_]{1,64}")
_UID = re.compile(r"[0-9.]{1,64}")
_PEM = re.compile("-----BEGIN CERTIFICATE-----.+-----END CERTIFICATE-----", re.DOTALL)
_END: Final = "-----END CERTIFICATE-----"
_SHA_256 = re.compile("[0-9a-f]{64}")
_PRIVATE: Final = "PRIVATE KEY-----"
_COUNTER: Final = "ae title"
_ALL: Final = "all"


class Right(StrEnum):
    """What a node may ask for."""

    ECHO = "echo"
    STORE = "store"
    FIND = "find"
    # C-MOVE and C-GET.
    RETRIEVE = "retrieve"
    COMMIT = "commit"
    WORKLIST = "worklist"
    MPPS = "mpps"
    UPS = "ups"
    # By rejection notes that it stores (`storage.rejection_notes`).
    REJECT = "reject"


Rights = frozenset[Right]
EVERY_RIGHT: Final = frozenset(Right)


class UnknownCallers(StrEnum):
    """What becomes of a caller that is no node: it may do everything, is refused and can be let in, or is refused."""

    ACCEPT = "accept"
    ASK = "ask"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Quirks:
    """What a node does otherwise than it should.

    `character_set` are the values of Specific Character Set (0008,0005), with backslashes between them, to assume of data
    sets that name none: of its instances (by Source Application Entity Title) and its queries. `coercion` are rules for what
    it sends by C-STORE; it is answered with a warning where they change something, or, `silent_coercion`, with success.
    Raises BadRequest.
    """

    character_set: str = ""
    coercion: tuple[Rule, ...] = ()
    silent_coercion: bool = False

    def __post_init__(self) -> None:
        if self.character_set and charset_of(self.character_set.split("\\")) is None:
            raise BadRequest("give the character set in the terms of PS3.3 C.12.1.1.2, such as ISO_IR 144")

    @property
    def charset(self) -> Charset:
        """As text is decoded by it."""
        return (charset_of(self.character_set.split("\\")) if self.character_set else None) or DEFAULT


NO_QUIRKS: Final = Quirks()


@dataclass(frozen=True, slots=True)
class AeTitle:
    """One node: who it is, where it listens, and what it may do.

    Without host and port it only calls us. `addresses` are addresses or networks (CIDR) from which it may call, any where
    there are none. `syntaxes` are the transfer syntaxes that it likes best to be sent, the best first; what is lossy
    among them may be made for it with loss where it takes nothing else. `tls`: it is called
    over TLS, and must show `tls_certificate` (PEM), or one that that has signed; where there is none, one that the settings trust.
    `tls_only`: it may call over TLS alone. `certificates` are those with which it may call, by the SHA-256 of their DER form in
    hexadecimal (`fingerprint_of`); where there are any, it must show one of them. Both are about who calls under this title.
    `destinations` are the nodes to which what it sends here is sent on. `url` is the root of its DICOMweb service, where it is sent
    to by STOW-RS; `login` names what lets us in there (`pacs.scu.web`).
    """

    title: str
    host: str
    port: int
    description: str = ""
    rights: Rights = EVERY_RIGHT
    addresses: tuple[str, ...] = ()
    syntaxes: tuple[str, ...] = ()
    quirks: Quirks = NO_QUIRKS
    tls: bool = False
    tls_certificate: str = ""
    destinations: tuple[str, ...] = ()
    tls_only: bool = False
    certificates: tuple[str, ...] = ()
    url: str = ""
    login: str = ""

    @property
    def place(self) -> str:
        """Where it is called or sent to, for people; empty where it only calls."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else self.url


@dataclass(frozen=True, slots=True)
class OwnAe:
    """One AE title of this archive. `callers` may call it, whoever is known where there are none.

    `unknown_callers` None: as the setting says. `coercion` are rules for what is sent to it by C-STORE, after those of the
    sender.
    """

    title: str
    description: str = ""
    callers: tuple[str, ...] = ()
    unknown_callers: UnknownCallers | None = None
    coercion: tuple[Rule, ...] = ()
    # By what that is de-identified, after the rules; None: not at all.
    profile: Profile | None = None


def rights_of(words: Iterable[str]) -> Rights:
    """Rights by their names, or `all`. Raises BadRequest for a name that is none."""
    found: set[Right] = set()
    for word in words:
        if word == _ALL:
            return EVERY_RIGHT
        if word not in set(Right):
            raise BadRequest(f"there is no right {word!r}: use {', '.join(Right)} or all")
        found.add(Right(word))
    return frozenset(found)


def words_of(rights: Rights) -> str:
    """Rights as they are written, in the order of `Right`."""
    return _ALL if rights == EVERY_RIGHT else " ".join(right for right in Right if right in rights)


def is_title(text: str) -> bool:
    """Whether it can be an AE title (PS3.5 6.2)."""
    return _TITLE.fullmatch(text) is not None


def title_of(text: str) -> str:
    """An AE title without its padding. Raises BadRequest for what cannot be one."""
    title = text.strip(" ")
    if not is_title(title):
        raise BadRequest("an AE title has 1 to 16 characters, without backslash or control characters")
    return title


def add_ae_title(index: Index, entity: AeTitle) -> None:
    """Add a node, or replace the one with its title. Raises BadRequest for what cannot be a node."""
    values = _checked(entity)
    with index.database.write() as connection:
        put(connection, ae_title, values)


def _checked(entity: AeTitle) -> dict[str, Any]:
    title = title_of(entity.title)
    if entity.host or entity.port:
        if not entity.host or any(letter.isspace() for letter in entity.host):
            raise BadRequest("give the host as a name or an address")
        if not 0 < entity.port < 65536:
            raise BadRequest("a port is a number from 1 to 65535")
    if entity.url and (entity.host or entity.port):
        raise BadRequest("give either host and port, for C-STORE, or a URL, for STOW-RS: two nodes can be told apart by their titles")
    for uid in entity.syntaxes:
        if not _UID.fullmatch(uid):
            raise BadRequest("give each transfer syntax as a UID")
    if _PRIVATE in entity.tls_certificate:
        raise BadRequest("give the certificate of a node alone: the file holds a private key")
    if entity.tls_certificate and not _PEM.search(entity.tls_certificate):
        raise BadRequest("give the certificate of a node in PEM form, with its line BEGIN CERTIFICATE")
    return {
        "title": title,
        "host": entity.host,
        "port": entity.port,
        "description": entity.description,
        "rights": words_of(entity.rights),
        "addresses": " ".join(network_of(one) for one in entity.addresses),
        "syntaxes": " ".join(entity.syntaxes),
        "quirks": _quirks_bytes(entity.quirks),
        "tls": entity.tls,
        "tls_certificate": entity.tls_certificate,
        "destinations": _titles(entity.destinations),
        "tls_only": entity.tls_only,
        "url": _url(entity.url),
        "login": _login(entity.login),
        "certificates": " ".join(dict.fromkeys(fingerprint_of(one) for one in entity.certificates)),
    }


def _url(url: str) -> str:
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url):
        raise BadRequest("give the root of a DICOMweb service as https://HOST/PATH")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise BadRequest("give the URL without user, password or query: --login names what lets us in")
    return url.rstrip("/")


def _login(name: str) -> str:
    if name and not _LOGIN.fullmatch(name):
        raise BadRequest("the name of a login has capitals, digits and underscores: LIGHTBOX_LOGIN_ and that name is the variable that holds it")
    return name


def fingerprint_of(text: str) -> str:
    """The fingerprint of a certificate as it is kept, from the certificate in PEM form or from its SHA-256 as tools print it.

    Raises BadRequest.
    """
    if _PRIVATE in text:
        raise BadRequest("give the certificate alone: the file holds a private key")
    found = _PEM.search(text)
    if found:
        # Of a chain the first is the holder's own.
        one = found.group().partition(_END)[0] + _END
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=one)
            return hashlib.sha256(ssl.PEM_cert_to_DER_cert(one)).hexdigest()
        except (ssl.SSLError, ValueError):
            raise BadRequest("the certificate cannot be read: give it in PEM form") from None
    digits = text.rpartition("=")[2].replace(":", "").strip().lower()
    if not _SHA_256.fullmatch(digits):
        raise BadRequest("give a certificate in PEM form, or its SHA-256 fingerprint of 64 hexadecimal digits")
    return digits


def network_of(text: str) -> str:
    """An address or network in its usual form, such as 10.1.0.0/16 or 2001:db8::7. Raises BadRequest."""
    try:
        network = ipaddress.ip_network(address_of(text.strip()), strict=False)
    except ValueError:
        raise BadRequest("give an allowed address as 10.1.2.3, as a network such as 10.1.0.0/16, or in IPv6") from None
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def address_of(text: str) -> str:
    """The address of a peer as it is compared and shown: IPv4 as such on an IPv6 socket too, without a zone."""
    plain = text.partition("%")[0]
    try:
        found = ipaddress.IPv6Address(plain)
    except ValueError:
        return plain
    return str(found.ipv4_mapped or found)


def remove_ae_title(index: Index, title: str) -> bool:
    """Remove a node, and who we are to it; False when there is none of this title."""
    return _removed(index, title, ae_title, ae_identity)


def ae_titles(index: Index) -> list[AeTitle]:
    """All nodes by their title."""
    with index.database.read() as connection:
        return [_node(row) for row in connection.execute(select(ae_title).order_by(ae_title.c.title))]


def ae_title_of(index: Index, title: str) -> AeTitle | None:
    """The node of this title, or None. Spaces around a title do not matter (PS3.5 6.2)."""
    with index.database.read() as connection:
        return node_in(connection, title)


def is_callable(index: Index, title: str) -> bool:
    """Whether there is a node of this title that we know how to call."""
    known = ae_title_of(index, title)
    return known is not None and known.port > 0


def node_in(connection: Connection, title: str) -> AeTitle | None:
    """`ae_title_of` inside a transaction."""
    row = connection.execute(select(ae_title).where(ae_title.c.title == title.strip(" "))).one_or_none()
    return _node(row) if row else None


def put_node(connection: Connection, entity: AeTitle) -> None:
    """`add_ae_title` inside a transaction."""
    put(connection, ae_title, _checked(entity))


def _node(row: Row[Any]) -> AeTitle:
    return AeTitle(
        row.title,
        row.host,
        row.port,
        row.description,
        known_rights(row.rights),
        tuple(row.addresses.split()),
        tuple(row.syntaxes.split()),
        _quirks(row.quirks),
        row.tls,
        row.tls_certificate,
        _known_titles(row.destinations),
        tls_only=row.tls_only,
        certificates=tuple(row.certificates.split()),
        url=row.url,
        login=row.login,
    )


def _quirks_bytes(quirks: Quirks) -> bytes:
    values = {one.name: getattr(quirks, one.name) for one in fields(Quirks)}
    values["coercion"] = list(map(str, quirks.coercion))
    return orjson.dumps({name: value for name, value in values.items() if value})


def _quirks(stored: bytes) -> Quirks:
    """Those that this release knows; a rule that it does not know is an error, since it must not be left out."""
    found = orjson.loads(stored)
    known = {one.name: found[one.name] for one in fields(Quirks) if one.name in found}
    return Quirks(**{**known, "coercion": rules_of(known.get("coercion", ()))})


def known_rights(words: str) -> Rights:
    """Rights as `words_of` has written them, those that this release knows: a newer one may have written others."""
    return EVERY_RIGHT if words == _ALL else frozenset(right for right in Right if right in words.split())


def add_own_ae(index: Index, own: OwnAe) -> None:
    """Add an AE title of our own, or replace it. Raises BadRequest for what cannot be one."""
    values = {
        "title": title_of(own.title),
        "description": own.description,
        "callers": _titles(own.callers),
        "unknown_callers": own.unknown_callers or "",
        "policy": orjson.dumps({"coercion": list(map(str, own.coercion)), "deidentify": own.profile.listed() if own.profile else []}),
    }
    with index.database.write() as connection:
        put(connection, own_ae, values)


def remove_own_ae(index: Index, title: str) -> bool:
    """Remove an AE title of our own; False when it is not there."""
    return _removed(index, title, own_ae)


def own_aes(index: Index) -> list[OwnAe]:
    """The AE titles of our own that are kept here, by their title; that of the settings need not be among them."""
    with index.database.read() as connection:
        found = connection.execute(select(own_ae).order_by(own_ae.c.title)).all()
    return [_own(row) for row in found]


def _own(row: Row[Any]) -> OwnAe:
    unknown = UnknownCallers(row.unknown_callers) if row.unknown_callers else None
    policy = orjson.loads(row.policy)
    rules = rules_of(policy.get("coercion", ()))
    profile = profile_of(policy.get("deidentify", ()))
    return OwnAe(row.title, row.description, _known_titles(row.callers), unknown, rules, profile)


def _titles(titles: Iterable[str]) -> str:
    """AE titles as they are stored: they may have spaces inside, and never a backslash (PS3.5 6.2)."""
    return " ".join(sorted({title_of(one).replace(" ", "\\") for one in titles}))


def _known_titles(stored: str) -> tuple[str, ...]:
    return tuple(one.replace("\\", " ") for one in stored.split())


def revision(index: Index) -> int:
    """A number that grows with every change of nodes, own AE titles and callers that are let in or blocked."""
    with index.database.read() as connection:
        return int(connection.execute(select(counter.c.value).where(counter.c.name == _COUNTER)).scalar_one())


def changed(connection: Connection) -> None:
    """Raise the revision; last in a transaction, for the counter is held until its end."""
    connection.execute(update(counter).where(counter.c.name == _COUNTER).values(value=counter.c.value + 1))


def put(connection: Connection, table: Any, values: Mapping[str, Any]) -> None:
    """Insert a row or replace that of its title, and raise the revision."""
    statement = insert_into(connection.dialect.name, table).values(dict(values))
    connection.execute(statement.on_conflict_do_update(index_elements=["title"], set_=dict(values)))
    changed(connection)


def _removed(index: Index, title: str, *tables: Table) -> bool:
    """Whether there was one in the first of the tables."""
    with index.database.write() as connection:
        found = [connection.execute(delete(table).where(table.c.title == title.strip(" "))).rowcount for table in tables]
        if found[0]:
            changed(connection)
    return found[0] > 0
