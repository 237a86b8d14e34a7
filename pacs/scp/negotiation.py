"""What is accepted of an A-ASSOCIATE-RQ: presentation contexts, roles and the other items (PS3.8 9.3.3, PS3.7 annex D).

**Presentation contexts.** What is in the table of `sop_classes`, with the transfer syntaxes that it says; and as storage
every SOP class that is not known to be something else: the standard's storage classes, retired ones, private ones and
those that are newer than our dictionary, with whatever transfer syntax. A sender that says which service class a SOP
class of its own belongs to (SOP class common extended negotiation) is believed.

**Transfer syntax.** One of a context's: the first that the sender proposes and that we know, because the order is the
sender's preference and what is stored is what was sent; except that Explicit VR Little Endian, where it is proposed
too, is taken before Implicit VR and Big Endian, which lose the VR of private attributes or are retired. A syntax that
nobody knows is taken when there is no other. Where the peer is the provider (it retrieves by C-GET), one syntax of a
context must do for whatever is stored: Explicit VR Little Endian, else Implicit VR, where either is proposed. Who wants
instances as they are stored proposes a context for each syntax.

**Rights.** A context that the peer has no right to use in any way is rejected (user-rejection, PS3.8 9.3.3.2): a sender
learns that before it sends. With the right to retrieve alone, storage is accepted where the peer will be its provider.

**User identity** is answered as whoever looks at it says (`identity`): who may do what is decided by AE title and address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pacs.scp.sop_classes import (
    SOP_CLASSES,
    STORAGE_INFORMATION,
    STORAGE_SERVICE_CLASS,
    UID_GRAMMAR,
    Kind,
    SopClass,
    is_storage,
    kind_of,
)
from pacs.upper_layer import (
    APPLICATION_CONTEXT_NOT_SUPPORTED,
    CALLED_AE_NOT_RECOGNIZED,
    CALLING_AE_NOT_RECOGNIZED,
    PROTOCOL_VERSION_NOT_SUPPORTED,
    AnsweredContext,
    AssociateAnswer,
    AssociateRequest,
    ProposedContext,
    Reject,
    Role,
    UserInformation,
)
from storage.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from storage.transfer_syntaxes import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, TABLE

APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"

# Results of PS3.8 table 9-18.
ACCEPTED: Final = 0
USER_REJECTION: Final = 1
ABSTRACT_SYNTAX_NOT_SUPPORTED: Final = 3
TRANSFER_SYNTAXES_NOT_SUPPORTED: Final = 4

# Operations that a peer may invoke without waiting for answers.
MOST_OPERATIONS: Final = 16
# Where Explicit VR Little Endian is taken instead, if the sender proposes it too.
_SECOND_BEST: Final = frozenset({IMPLICIT_LITTLE, EXPLICIT_BIG})


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context, with what was agreed about its SOP class."""

    id: int
    abstract_syntax: str
    transfer_syntax: str
    relational: bool = False
    combined_times: bool = False
    fuzzy: bool = False
    # Roles of the peer (PS3.7 D.3.3.4): whether it may ask, and whether it may be asked.
    peer_uses: bool = True
    peer_provides: bool = False


def rejection(request: AssociateRequest, ae_titles: Iterable[str] | None) -> Reject | None:
    """Why the whole association is rejected (PS3.8 table 9-21), or None. `ae_titles` are ours; None allows any."""
    if not request.protocol_version & 1:
        return PROTOCOL_VERSION_NOT_SUPPORTED
    if request.application_context != APPLICATION_CONTEXT:
        return APPLICATION_CONTEXT_NOT_SUPPORTED
    if ae_titles is not None and request.called_ae not in ae_titles:
        return CALLED_AE_NOT_RECOGNIZED
    # An AE title of spaces only means that there is none (PS3.8 table 9-11).
    return None if request.calling_ae else CALLING_AE_NOT_RECOGNIZED


# Whether the peer may use a kind of service.
May = Callable[[Kind], bool]


def negotiate(
    request: AssociateRequest, max_length: int, may: May = lambda _kind: True, identity_answer: bytes | None = None
) -> tuple[AssociateAnswer, dict[int, Context]]:
    """The answer to a request that is not rejected, and the accepted contexts by their ID.

    `identity_answer` is the server response to the user identity (PS3.7 D.3.3.7.2), None for none.
    """
    service_classes = dict(request.user.service_classes)
    retrieves = may(Kind.GET) and any(kind_of(context.abstract_syntax) is Kind.GET for context in request.contexts)
    roles = {role.abstract_syntax: _granted(role, retrieves, may) for role in request.user.roles}
    providing = {uid for uid, role in roles.items() if role.scp}
    answered = tuple(_answer(context, service_classes, providing, may) for context in request.contexts)
    extended = tuple(_extended(request.user.extended, {c.abstract_syntax for c in request.contexts}))
    agreed = dict(extended)
    contexts = {
        answer.id: _context(proposed, answer, agreed, roles)
        for proposed, answer in zip(request.contexts, answered, strict=True)
        if answer.result == ACCEPTED
    }
    user = UserInformation(
        maximum_length=max_length,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version=IMPLEMENTATION_VERSION_NAME,
        asynchronous_window=_window(request.user.asynchronous_window, retrieves=retrieves),
        roles=tuple(roles[role.abstract_syntax] for role in request.user.roles),
        extended=extended,
        identity_answer=identity_answer,
    )
    return AssociateAnswer(answered, user), contexts


def _window(asked: tuple[int, int] | None, *, retrieves: bool) -> tuple[int, int] | None:
    """How many operations the peer may have going on, and we (PS3.7 D.3.3.3); 0 is asked for any number.

    Requests are answered in the order in which they come, and what is under way waits in the network's buffers: a sender far
    away need not wait for each answer. We have one at a time; and so has a peer that retrieves by C-GET, whose requests
    would stand in the way of its answers to ours.
    """
    if asked is None:
        return None
    invoked = 1 if retrieves else min(asked[0] or MOST_OPERATIONS, MOST_OPERATIONS)
    return (invoked, 1)


def choose(
    proposed: Sequence[str], supported: Sequence[str] | None = None, *, to_send: bool = False
) -> str | None:
    """The transfer syntax to take; `supported` None takes all, `to_send`: instances will go out in it. See the module."""
    usable = [uid for uid in proposed if (uid in supported if supported is not None else UID_GRAMMAR.fullmatch(uid))]
    if not usable:
        return None
    first = next((uid for uid in usable if uid in TABLE), usable[0])
    if EXPLICIT_LITTLE in usable and (to_send or first in _SECOND_BEST):
        return EXPLICIT_LITTLE
    if to_send and IMPLICIT_LITTLE in usable:
        return IMPLICIT_LITTLE
    return first


def _granted(role: Role, retrieves: bool, may: May) -> Role:
    """The peer may be the user of everything, and the provider of storage where it retrieves by C-GET (PS3.4 C.5.3)."""
    row = SOP_CLASSES.get(role.abstract_syntax)
    may_provide = row.both_roles if row else retrieves and is_storage(role.abstract_syntax)
    may_use = may(row.kind if row else Kind.STORAGE)
    return Role(role.abstract_syntax, scu=role.scu and may_use, scp=role.scp and may_provide)


def _answer(
    context: ProposedContext, service_classes: Mapping[str, str], providing: set[str], may: May
) -> AnsweredContext:
    abstract_syntax = context.abstract_syntax
    # What a refusal carries is of no significance (PS3.8 9.3.3.2), but must be there.
    refused = IMPLICIT_LITTLE
    row = SOP_CLASSES.get(abstract_syntax)
    if row is not None:
        chosen = choose(context.transfer_syntaxes, row.syntaxes)
    elif _stored(abstract_syntax, service_classes):
        chosen = choose(context.transfer_syntaxes, to_send=abstract_syntax in providing)
    else:
        return AnsweredContext(context.id, ABSTRACT_SYNTAX_NOT_SUPPORTED, refused)
    if not may(row.kind if row else Kind.STORAGE) and abstract_syntax not in providing:
        return AnsweredContext(context.id, USER_REJECTION, refused)
    if chosen is None:
        return AnsweredContext(context.id, TRANSFER_SYNTAXES_NOT_SUPPORTED, refused)
    return AnsweredContext(context.id, ACCEPTED, chosen)


def _stored(abstract_syntax: str, service_classes: Mapping[str, str]) -> bool:
    said = service_classes.get(abstract_syntax)
    return is_storage(abstract_syntax) and said in (None, "", STORAGE_SERVICE_CLASS)


def _extended(
    asked: Iterable[tuple[str, bytes]], proposed: set[str]
) -> Iterable[tuple[str, bytes]]:
    """An answer has as many bytes as its question had, and no item where nothing is known of the SOP class."""
    for uid, information in asked:
        row = SOP_CLASSES.get(uid)
        if uid not in proposed:
            continue
        if row is not None and row.information:
            supported = row.information.ljust(len(information), b"\0")
            yield uid, bytes(a & b for a, b in zip(information, supported, strict=False))
        elif row is None and is_storage(uid):
            yield uid, STORAGE_INFORMATION[: len(information)]


def _context(
    proposed: ProposedContext, answer: AnsweredContext, agreed: Mapping[str, bytes], roles: Mapping[str, Role]
) -> Context:
    uid = proposed.abstract_syntax
    role = roles.get(uid, _USER)
    flags = _flags(SOP_CLASSES.get(uid), agreed.get(uid, b""))
    return Context(answer.id, uid, answer.transfer_syntax, *flags, peer_uses=role.scu, peer_provides=role.scp)


# What a peer is that says nothing of roles.
_USER: Final = Role("", scu=True, scp=False)


def _flags(row: SopClass | None, information: bytes) -> tuple[bool, bool, bool]:
    """Whether queries are relational, combine dates and times, and are fuzzy about names (PS3.4 C.5)."""
    known = information if row and row.information else b""
    relational, combined_times, fuzzy = (bool(flag) for flag in known.ljust(3, b"\0")[:3])
    return relational, combined_times, fuzzy
