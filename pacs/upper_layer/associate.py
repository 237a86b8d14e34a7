"""A-ASSOCIATE-RQ and -AC between values and bytes (PS3.8 9.3.2, 9.3.3 and annex D; PS3.7 annex D.3.3)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from pacs.upper_layer.pdus import HEADER, PduType

_ITEM: Final = struct.Struct(">BxH")
_FIXED: Final = 68
_PROTOCOL_VERSION_1: Final = 0x0001

# Item types (PS3.8 9.3.2, annex D; PS3.7 D.3.3).
APPLICATION_CONTEXT: Final = 0x10
PROPOSED_CONTEXT: Final = 0x20
ANSWERED_CONTEXT: Final = 0x21
ABSTRACT_SYNTAX: Final = 0x30
TRANSFER_SYNTAX: Final = 0x40
USER_INFORMATION: Final = 0x50
MAXIMUM_LENGTH: Final = 0x51
IMPLEMENTATION_CLASS_UID: Final = 0x52
ASYNCHRONOUS_WINDOW: Final = 0x53
ROLE_SELECTION: Final = 0x54
IMPLEMENTATION_VERSION: Final = 0x55
EXTENDED_NEGOTIATION: Final = 0x56
COMMON_EXTENDED_NEGOTIATION: Final = 0x57
USER_IDENTITY: Final = 0x58
USER_IDENTITY_ANSWER: Final = 0x59

# More than any real peer proposes; a request of nothing but small items must not cost more memory than its bytes.
MOST_ITEMS: Final = 8192


class Malformed(ValueError):
    """An A-ASSOCIATE-RQ or -AC that cannot be read; `at` is the byte of the PDU where it goes wrong."""

    def __init__(self, text: str, at: int) -> None:
        super().__init__(text)
        self.at = at


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """One presentation context as asked for: transfer syntaxes in the sender's order (PS3.8 9.3.2.2)."""

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnsweredContext:
    """The answer to one (PS3.8 9.3.3.2): result 0 accepted, 3 abstract syntax, 4 transfer syntaxes not supported."""

    id: int
    result: int
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Role:
    """SCP/SCU role selection (PS3.7 D.3.3.4): the roles that the requestor proposes for itself, or is granted."""

    abstract_syntax: str
    scu: bool
    scp: bool


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """Who asks, by kind (PS3.7 D.3.3.7.1): 1 user name, 2 user name and passcode, 3 Kerberos ticket, 4 SAML assertion, 5 JSON
    web token; and whether an answer is wanted. `primary` and `secondary` may be secrets, and are not shown."""

    kind: int
    answer_wanted: bool
    primary: bytes = field(default=b"", repr=False)
    secondary: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class UserInformation:
    """The user information item of a request or an answer; None and empty mean that the sub-item is absent."""

    maximum_length: int = 0
    implementation_class_uid: str = ""
    implementation_version: str = ""
    asynchronous_window: tuple[int, int] | None = None
    roles: tuple[Role, ...] = ()
    # SOP Class UID and service-class-application-information (PS3.7 D.3.3.5).
    extended: tuple[tuple[str, bytes], ...] = ()
    # SOP Class UID and the service class that it belongs to (PS3.7 D.3.3.6).
    service_classes: tuple[tuple[str, str], ...] = ()
    identity: UserIdentity | None = None
    # Of an answer (PS3.7 D.3.3.7.2).
    identity_answer: bytes | None = None


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """A-ASSOCIATE-RQ. AE titles are without padding; `titles` are the 64 bytes that the answer repeats (of one received)."""

    protocol_version: int
    called_ae: str
    calling_ae: str
    titles: bytes
    application_context: str
    contexts: tuple[ProposedContext, ...]
    user: UserInformation = field(default_factory=UserInformation)


@dataclass(frozen=True, slots=True)
class AssociateAnswer:
    """What an A-ASSOCIATE-AC says."""

    contexts: tuple[AnsweredContext, ...]
    user: UserInformation


def text_of(value: bytes | memoryview) -> str:
    """An AE title or UID without its padding; what is not ASCII or not printable is escaped, so that it can be logged."""
    text = bytes(value).strip(b" \0").decode("ascii", "backslashreplace")
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def parse_request(body: memoryview) -> AssociateRequest:
    """Read what follows the PDU's header. Raises Malformed."""
    if len(body) < _FIXED:
        raise Malformed(f"an A-ASSOCIATE-RQ has at least {_FIXED} bytes, not {len(body)}", 0)
    application_context = ""
    contexts: list[ProposedContext] = []
    user = UserInformation()
    budget = _Budget()
    for kind, at, value in _items(body, _FIXED, len(body), budget):
        if kind == APPLICATION_CONTEXT:
            application_context = text_of(value)
        elif kind == PROPOSED_CONTEXT:
            contexts.append(_context(body, at, value, budget))
        elif kind == USER_INFORMATION:
            user = _user(body, at, value, budget)
    if not application_context:
        raise Malformed("the application context item is missing", len(body))
    _check_ids(contexts, len(body))
    return AssociateRequest(
        protocol_version=int.from_bytes(body[:2]),
        called_ae=text_of(body[4:20]),
        calling_ae=text_of(body[20:36]),
        titles=bytes(body[4:_FIXED]),
        application_context=application_context,
        contexts=tuple(contexts),
        user=user,
    )


class _Budget:
    """How many items may still come; shared by all levels of one request."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MOST_ITEMS


def _items(body: memoryview, start: int, end: int, budget: _Budget) -> Iterator[tuple[int, int, memoryview]]:
    """(type, where its value begins, value) of the items between two places. Unknown ones are left to the caller."""
    at = start
    while at < end:
        if end - at < _ITEM.size:
            raise Malformed(f"{end - at} bytes are left where an item of at least {_ITEM.size} bytes begins", at)
        kind, length = _ITEM.unpack_from(body, at)
        if length > end - at - _ITEM.size:
            raise Malformed(f"item {kind:02X}H says {length} bytes, but {end - at - _ITEM.size} are left", at)
        budget.left -= 1
        if budget.left < 0:
            raise Malformed(f"the request has more than {MOST_ITEMS} items", at)
        at += _ITEM.size
        yield kind, at, body[at : at + length]
        at += length


def parse_answer(body: memoryview) -> AssociateAnswer:
    """Read what follows the header of an A-ASSOCIATE-AC. Raises Malformed."""
    if len(body) < _FIXED:
        raise Malformed(f"an A-ASSOCIATE-AC has at least {_FIXED} bytes, not {len(body)}", 0)
    contexts: list[AnsweredContext] = []
    user = UserInformation()
    budget = _Budget()
    for kind, at, value in _items(body, _FIXED, len(body), budget):
        if kind == ANSWERED_CONTEXT:
            contexts.append(_answered_context(body, at, value, budget))
        elif kind == USER_INFORMATION:
            user = _user(body, at, value, budget)
    return AssociateAnswer(tuple(contexts), user)


def _answered_context(body: memoryview, at: int, value: memoryview, budget: _Budget) -> AnsweredContext:
    if len(value) < 4:
        raise Malformed("a presentation context item is shorter than its four fixed bytes", at)
    syntax = ""
    for kind, _, text in _items(body, at + 4, at + len(value), budget):
        if kind == TRANSFER_SYNTAX:
            syntax = text_of(text)
    return AnsweredContext(value[0], value[2], syntax)


def _context(body: memoryview, at: int, value: memoryview, budget: _Budget) -> ProposedContext:
    if len(value) < 4:
        raise Malformed("a presentation context item is shorter than its four fixed bytes", at)
    identifier = value[0]
    if identifier % 2 == 0:
        raise Malformed(f"presentation context ID {identifier} is not odd", at)
    abstract_syntax = ""
    transfer_syntaxes: list[str] = []
    for kind, inner, text in _items(body, at + 4, at + len(value), budget):
        if kind == ABSTRACT_SYNTAX:
            if abstract_syntax:
                raise Malformed(f"presentation context {identifier} has two abstract syntaxes", inner)
            abstract_syntax = text_of(text)
        elif kind == TRANSFER_SYNTAX:
            transfer_syntaxes.append(text_of(text))
    if not abstract_syntax:
        raise Malformed(f"presentation context {identifier} has no abstract syntax", at)
    return ProposedContext(identifier, abstract_syntax, tuple(transfer_syntaxes))


def _check_ids(contexts: list[ProposedContext], at: int) -> None:
    if not contexts:
        raise Malformed("there is no presentation context item", at)
    if len({context.id for context in contexts}) < len(contexts):
        raise Malformed("a presentation context ID is used twice", at)


def _user(body: memoryview, at: int, value: memoryview, budget: _Budget) -> UserInformation:
    """The sub-items that we know; any other is passed over (PS3.8 9.3.1: unrecognized items are ignored)."""
    maximum_length, window, identity, identity_answer = 0, None, None, None
    class_uid, version = "", ""
    roles: list[Role] = []
    extended: list[tuple[str, bytes]] = []
    service_classes: list[tuple[str, str]] = []
    for kind, inner, item in _items(body, at, at + len(value), budget):
        try:
            if kind == MAXIMUM_LENGTH:
                (maximum_length,) = struct.unpack(">I", item)
            elif kind == IMPLEMENTATION_CLASS_UID:
                class_uid = text_of(item)
            elif kind == IMPLEMENTATION_VERSION:
                version = text_of(item)
            elif kind == ASYNCHRONOUS_WINDOW:
                window = struct.unpack(">HH", item)
            elif kind == ROLE_SELECTION:
                uid, rest = _counted(item)
                roles.append(Role(text_of(uid), bool(rest[0]), bool(rest[1])))
            elif kind == EXTENDED_NEGOTIATION:
                uid, rest = _counted(item)
                extended.append((text_of(uid), bytes(rest)))
            elif kind == COMMON_EXTENDED_NEGOTIATION:
                uid, rest = _counted(item)
                service_classes.append((text_of(uid), text_of(_counted(rest)[0])))
            elif kind == USER_IDENTITY:
                if identity is not None:
                    raise Malformed("there are two user identities", inner)
                identity = _identity(item)
            elif kind == USER_IDENTITY_ANSWER:
                identity_answer = _whole(item)
        except (struct.error, IndexError) as error:
            raise Malformed(f"user information sub-item {kind:02X}H is too short or too long", inner) from error
    return UserInformation(
        maximum_length,
        class_uid,
        version,
        window,
        tuple(roles),
        tuple(extended),
        tuple(service_classes),
        identity,
        identity_answer,
    )


def _identity(item: memoryview) -> UserIdentity:
    """IndexError where its lengths are not those of the item."""
    primary, rest = _counted(item[2:])
    return UserIdentity(item[0], bool(item[1]), bytes(primary), _whole(rest))


def _whole(item: memoryview) -> bytes:
    """What a two-byte length counts; IndexError when that is not all."""
    value, rest = _counted(item)
    if rest:
        raise IndexError(len(rest))
    return bytes(value)


def _counted(item: memoryview) -> tuple[memoryview, memoryview]:
    """What a two-byte length counts, and the rest; IndexError when there is less."""
    (length,) = struct.unpack_from(">H", item)
    if length > len(item) - 2:
        raise IndexError(length)
    return item[2 : 2 + length], item[2 + length :]


def encode_request(request: AssociateRequest) -> bytes:
    """A-ASSOCIATE-RQ (9.3.2)."""
    body = b"".join(
        (
            struct.pack(">HH", _PROTOCOL_VERSION_1, 0),
            *(title.encode("ascii", "replace")[:16].ljust(16) for title in (request.called_ae, request.calling_ae)),
            bytes(32),
            _item(APPLICATION_CONTEXT, request.application_context.encode("ascii")),
            *map(_proposed, request.contexts),
            _item(USER_INFORMATION, b"".join(_user_items(request.user))),
        )
    )
    return HEADER.pack(PduType.ASSOCIATE_RQ, len(body)) + body


def _proposed(context: ProposedContext) -> bytes:
    syntaxes = b"".join(_item(TRANSFER_SYNTAX, uid.encode("ascii")) for uid in context.transfer_syntaxes)
    abstract = _item(ABSTRACT_SYNTAX, context.abstract_syntax.encode("ascii"))
    return _item(PROPOSED_CONTEXT, bytes((context.id, 0, 0, 0)) + abstract + syntaxes)


def encode_answer(request: AssociateRequest, answer: AssociateAnswer) -> bytes:
    """A-ASSOCIATE-AC (9.3.3): AE titles and reserved bytes are those of the request."""
    body = b"".join(
        (
            struct.pack(">HH", _PROTOCOL_VERSION_1, 0),
            request.titles,
            _item(APPLICATION_CONTEXT, request.application_context.encode("ascii")),
            *map(_answered, answer.contexts),
            _item(USER_INFORMATION, b"".join(_user_items(answer.user))),
        )
    )
    return HEADER.pack(PduType.ASSOCIATE_AC, len(body)) + body


def _item(kind: int, value: bytes) -> bytes:
    return _ITEM.pack(kind, len(value)) + value


def _answered(context: AnsweredContext) -> bytes:
    syntax = _item(TRANSFER_SYNTAX, context.transfer_syntax.encode("ascii"))
    return _item(ANSWERED_CONTEXT, bytes((context.id, 0, context.result, 0)) + syntax)


def _user_items(user: UserInformation) -> Iterable[bytes]:
    """In ascending order of item types, as the standard's own examples have them."""
    yield _item(MAXIMUM_LENGTH, struct.pack(">I", user.maximum_length))
    yield _item(IMPLEMENTATION_CLASS_UID, user.implementation_class_uid.encode("ascii"))
    if user.asynchronous_window:
        yield _item(ASYNCHRONOUS_WINDOW, struct.pack(">HH", *user.asynchronous_window))
    for role in user.roles:
        yield _item(ROLE_SELECTION, _with_length(role.abstract_syntax) + bytes((role.scu, role.scp)))
    if user.implementation_version:
        yield _item(IMPLEMENTATION_VERSION, user.implementation_version.encode("ascii"))
    for uid, information in user.extended:
        yield _item(EXTENDED_NEGOTIATION, _with_length(uid) + information)
    if user.identity:
        one = user.identity
        head = bytes((one.kind, one.answer_wanted))
        yield _item(USER_IDENTITY, head + _with_length(one.primary) + _with_length(one.secondary))
    if user.identity_answer is not None:
        yield _item(USER_IDENTITY_ANSWER, _with_length(user.identity_answer))


def _with_length(value: str | bytes) -> bytes:
    value = value.encode("ascii") if isinstance(value, str) else value
    return struct.pack(">H", len(value)) + value
