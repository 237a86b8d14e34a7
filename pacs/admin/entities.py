"""`/api/aes`: the DICOM nodes that this archive knows, as `pacs ae` has them; `/api/own-aes`: what it is called itself."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from pacs import diagnosis
from pacs.admin.api import Asked, Operation
from pacs.ae_titles import own_titles
from pacs.tls import Credentials
from storage.coercion.rules import rules_of
from storage.deidentification.profile import Word, profile_of
from storage.index import Index
from storage.index.ae import (
    EVERY_RIGHT,
    AeTitle,
    OwnAe,
    Quirks,
    Right,
    Rights,
    UnknownCallers,
    add_ae_title,
    add_own_ae,
    ae_title_of,
    ae_titles,
    remove_ae_title,
    remove_own_ae,
)
from storage.index.identities import Identity, IdentityKind, identities, identity_of, set_identity
from storage.problems import WebRefusal

_NODE: Final = "/api/aes/{title}"
_OWN: Final = "/api/own-aes/{title}"
# No control characters, which no name has and PostgreSQL does not keep (NUL).
PRINTABLE: Final = r"^[^\x00-\x1f\x7f]*$"
_HOST: Final = r"^[^\s\x00-\x1f\x7f]*$"

Description = Annotated[str, Field(max_length=1000, pattern=PRINTABLE)]
# Strict models want members of an enumeration as such, which JSON has not.
RightName = Annotated[Right, Field(strict=False)]
Words = Annotated[list[Annotated[str, Field(max_length=64, pattern=PRINTABLE)]], Field(max_length=256)]


def sorted_rights(rights: Rights) -> list[Right]:
    """In the order of `Right`."""
    return [right for right in Right if right in rights]


Rules = Annotated[
    list[Annotated[str, Field(max_length=4096, pattern=PRINTABLE)]],
    Field(max_length=1000, description="Rules of coercion, one a line, for what is sent by C-STORE."),
]


class NodeQuirks(BaseModel):
    """What a node does otherwise than it should."""

    model_config = ConfigDict(extra="forbid", strict=True)

    character_set: Annotated[
        str,
        Field(max_length=200, pattern=PRINTABLE, description="Specific Character Set to assume of instances and queries that name none."),
    ] = ""
    coercion: Rules = []
    silent_coercion: Annotated[
        bool, Field(description="Whether C-STORE is answered with success, not a warning, where rules have changed something.")
    ] = False


class Place(BaseModel):
    """Where a node listens, what it is, and what it may do; without host and port it only calls this archive."""

    model_config = ConfigDict(extra="forbid", strict=True)

    host: Annotated[str, Field(max_length=253, pattern=_HOST)] = ""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    description: Description = ""
    rights: Annotated[list[RightName], Field(description="What it may ask for.")] = sorted_rights(EVERY_RIGHT)
    addresses: Annotated[Words, Field(description="Addresses or networks that it may call from; none: any.")] = []
    transfer_syntaxes: Annotated[Words, Field(description="UIDs that it likes best to be sent, the best first.")] = []
    quirks: NodeQuirks = NodeQuirks()
    tls: Annotated[bool, Field(description="Whether it is called over TLS.")] = False
    tls_certificate: Annotated[
        str,
        Field(max_length=100_000, description="PEM: the only certificate that it may show, or that of its authority; none: one that the settings trust."),
    ] = ""
    destinations: Annotated[Words, Field(description="AE titles of nodes to which what it sends here is sent on.")] = []
    tls_only: Annotated[bool, Field(description="Whether it may call over TLS alone.")] = False
    certificates: Annotated[
        list[Annotated[str, Field(max_length=20_000)]],
        Field(max_length=16, description="With which it may call, as SHA-256 fingerprints or PEM; none: any that TLS accepts."),
    ] = []
    url: Annotated[str, Field(max_length=2000, pattern=_HOST, description="Root of its DICOMweb service, instead of host and port: it is sent to by STOW-RS.")] = ""
    login: Annotated[
        str, Field(max_length=64, pattern=PRINTABLE, description="What lets us in there: the name after LIGHTBOX_LOGIN_ of the environment variable that holds it.")
    ] = ""


class IdentityGiven(BaseModel):
    """Who we say that we are to a node: a user name, with its passcode where there is one, or a token."""

    model_config = ConfigDict(extra="forbid", strict=True)

    user: Annotated[str, Field(max_length=256, pattern=PRINTABLE)] = ""
    passcode: Annotated[str, Field(max_length=65535, description="Never shown again.")] = ""
    token: Annotated[str, Field(max_length=65535, description="A JSON web token; never shown again.")] = ""
    confirm: Annotated[bool, Field(description="Whether it is asked to confirm that it believes it.")] = False


class IdentityShown(BaseModel):
    """What is shown of that."""

    kind: IdentityKind
    user: str
    confirm: bool


class Node(BaseModel):
    """A DICOM node by its AE title."""

    title: str
    host: str
    port: int
    description: str
    rights: list[Right]
    addresses: list[str]
    transfer_syntaxes: list[str]
    quirks: NodeQuirks
    tls: bool
    tls_certificate: str
    destinations: list[str]
    tls_only: bool
    certificates: Annotated[list[str], Field(description="SHA-256 of their DER form.")]
    url: str
    login: str
    identity: Annotated[IdentityShown | None, Field(description="Who we say that we are when we call it.")]


class OwnTitle(BaseModel):
    """What one of our AE titles is for, and who may call it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    description: Description = ""
    callers: Annotated[Words, Field(description="AE titles that may call it; none: whoever is known.")] = []
    unknown_callers: Annotated[
        UnknownCallers | None,
        Field(strict=False, description="What becomes of callers that are no node; null: as PACS_UNKNOWN_CALLERS says."),
    ] = None
    coercion: Rules = []
    deidentify: Annotated[
        list[Annotated[Word, Field(strict=False)]],
        Field(max_length=20, description="Profile of de-identification: basic, and options of it; empty: none."),
    ] = []


class OwnNode(OwnTitle):
    """One AE title of this archive; that of PACS_AE_TITLE is always there."""

    title: str
    from_settings: bool


class Step(BaseModel):
    """One step of a C-ECHO, and how far it came."""

    name: str
    ok: bool
    text: str
    milliseconds: float


def operations(index: Index, calling: str, credentials: Credentials) -> tuple[Operation, ...]:
    """The operations on nodes and on our own titles, of which `calling` is the settings'; C-ECHO is asked under it, over TLS
    with our `credentials`."""
    return (*_nodes(index, calling, credentials), *_own_titles(index, calling))


def _nodes(index: Index, calling: str, credentials: Credentials) -> tuple[Operation, ...]:
    def every(_asked: Asked) -> list[Node]:
        known = identities(index)
        return [node_of(one, known.get(one.title)) for one in ae_titles(index)]

    def one(asked: Asked) -> Node:
        return node_of(_known(index, asked.path["title"]), identity_of(index, asked.path["title"]))

    def identify(asked: Asked) -> Node:
        set_identity(index, _known(index, asked.path["title"]).title, Identity(**asked.body.model_dump()))
        return one(asked)

    def forget(asked: Asked) -> None:
        set_identity(index, _known(index, asked.path["title"]).title, None)

    def put(asked: Asked) -> Node:
        add_ae_title(index, _entity(asked.path["title"], asked.body))
        return one(asked)

    def remove(asked: Asked) -> None:
        if not remove_ae_title(index, _known(index, asked.path["title"]).title):
            raise _unknown()

    def echo(asked: Asked) -> list[Step]:
        node = _known(index, asked.path["title"])
        if not node.port and not node.url:
            raise WebRefusal(409, "this node has no host and port", "PUT it with those where it listens")
        steps = diagnosis.echo_node(node, identity_of(index, node.title), calling=calling, credentials=credentials)
        return [Step(**asdict(step)) for step in steps]

    return (
        Operation("GET", "/api/aes", every, "The nodes that this archive knows.", gives=list[Node]),
        Operation("GET", _NODE, one, "One node.", gives=Node),
        Operation("PUT", _NODE, put, "Add a node, or change the one of this title.", takes=Place, gives=Node),
        Operation("DELETE", _NODE, remove, "Remove a node."),
        Operation("PUT", f"{_NODE}/identity", identify, "Say who we are (user identity) when we call a node.", takes=IdentityGiven, gives=Node),
        Operation("DELETE", f"{_NODE}/identity", forget, "Say nothing of that any more."),
        Operation("POST", f"{_NODE}/echo", echo, "Ask a node for a C-ECHO: every step and how far it came.", gives=list[Step]),
    )


def _own_titles(index: Index, first: str) -> tuple[Operation, ...]:
    def every(_asked: Asked) -> list[OwnNode]:
        return [_own_node(one, first) for one in own_titles(index, first)]

    def one(asked: Asked) -> OwnNode:
        title = asked.path["title"].strip()
        found = next((own for own in own_titles(index, first) if own.title == title), None)
        if found is None:
            raise WebRefusal(404, "this archive has no such AE title", "GET /api/own-aes lists those it has; PUT adds one")
        return _own_node(found, first)

    def put(asked: Asked) -> OwnNode:
        body = asked.body
        rules, profile = rules_of(body.coercion), profile_of(body.deidentify)
        add_own_ae(index, OwnAe(asked.path["title"], body.description, tuple(body.callers), body.unknown_callers, rules, profile))
        return one(asked)

    def remove(asked: Asked) -> None:
        if not remove_own_ae(index, one(asked).title):
            raise WebRefusal(409, "this title is PACS_AE_TITLE", "change that setting to be called otherwise")

    return (
        Operation("GET", "/api/own-aes", every, "The AE titles of this archive.", gives=list[OwnNode]),
        Operation("GET", _OWN, one, "One of them.", gives=OwnNode),
        Operation("PUT", _OWN, put, "Add an AE title of this archive, or change its policy.", takes=OwnTitle, gives=OwnNode),
        Operation("DELETE", _OWN, remove, "Remove one; of PACS_AE_TITLE, its policy."),
    )


def node_of(one: AeTitle, identity: Identity | None) -> Node:
    """A node as the API gives it, and what is shown of who we are to it."""
    return Node(
        title=one.title,
        host=one.host,
        port=one.port,
        description=one.description,
        rights=sorted_rights(one.rights),
        addresses=list(one.addresses),
        transfer_syntaxes=list(one.syntaxes),
        quirks=_quirks_of(one.quirks),
        tls=one.tls,
        tls_certificate=one.tls_certificate,
        destinations=list(one.destinations),
        tls_only=one.tls_only,
        certificates=list(one.certificates),
        url=one.url,
        login=one.login,
        identity=IdentityShown(kind=identity.kind, user=identity.user, confirm=identity.confirm) if identity else None,
    )


def _quirks_of(quirks: Quirks) -> NodeQuirks:
    return NodeQuirks(
        character_set=quirks.character_set,
        coercion=[str(rule) for rule in quirks.coercion],
        silent_coercion=quirks.silent_coercion,
    )


def _entity(title: str, body: Place) -> AeTitle:
    return AeTitle(
        title,
        body.host,
        body.port,
        body.description,
        frozenset(body.rights),
        tuple(body.addresses),
        tuple(body.transfer_syntaxes),
        Quirks(body.quirks.character_set, rules_of(body.quirks.coercion), body.quirks.silent_coercion),
        tls=body.tls,
        tls_certificate=body.tls_certificate,
        destinations=tuple(body.destinations),
        tls_only=body.tls_only,
        certificates=tuple(body.certificates),
        url=body.url,
        login=body.login,
    )


def _own_node(one: OwnAe, first: str) -> OwnNode:
    return OwnNode(
        title=one.title,
        description=one.description,
        callers=list(one.callers),
        unknown_callers=one.unknown_callers,
        coercion=[str(rule) for rule in one.coercion],
        deidentify=[Word(word) for word in one.profile.listed()] if one.profile else [],
        from_settings=one.title == first,
    )


def _known(index: Index, title: str) -> AeTitle:
    found = ae_title_of(index, title) if title.isprintable() else None
    if found is None:
        raise _unknown()
    return found


def _unknown() -> WebRefusal:
    return WebRefusal(404, "there is no node of this AE title", "GET /api/aes lists those there are; PUT adds one")
