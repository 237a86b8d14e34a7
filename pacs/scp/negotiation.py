"""What is accepted of an A-ASSOCIATE-RQ: presentation contexts, roles and the other items (PS3.8 9.3.3, PS3.7 annex D).

**Presentation contexts.** Verification with any transfer syntax; the query models with the uncompressed ones; and as storage
every SOP class that is not known to be something else: the standard's storage classes, retired ones, private ones and
those that are newer than our dictionary, with whatever transfer syntax. A sender that says which service class a SOP
class of its own belongs to (SOP class common extended negotiation) is believed.

**Transfer syntax.** One of a context's: the first that the sender proposes and that we know, because the order is the
sender's preference and what is stored is what was sent; except that Explicit VR Little Endian, where it is proposed
too, is taken before Implicit VR and Big Endian, which lose the VR of private attributes or are retired. A syntax that
nobody knows is taken when there is no other.

**User identity** is answered when an answer is wanted, and not checked: who may do what is decided by AE title and address.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from pydicom.uid import UID

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

VERIFICATION: Final = "1.2.840.10008.1.1"
_STORAGE_SERVICE_CLASS: Final = "1.2.840.10008.4.2"
PATIENT_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
PATIENT_STUDY_ONLY_FIND: Final = "1.2.840.10008.5.1.4.1.2.3.1"
QUERY_MODELS: Final = frozenset({PATIENT_ROOT_FIND, STUDY_ROOT_FIND, PATIENT_STUDY_ONLY_FIND})

# Results of PS3.8 table 9-18.
ACCEPTED: Final = 0
ABSTRACT_SYNTAX_NOT_SUPPORTED: Final = 3
TRANSFER_SYNTAXES_NOT_SUPPORTED: Final = 4

# "Storage" in the name and yet no C-STORE of an instance: commitment, and the directory of a medium.
NOT_STORAGE: Final = frozenset({"1.2.840.10008.1.20.1", "1.2.840.10008.1.20.2", "1.2.840.10008.1.3.10"})
PLAIN: Final = (EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG)
# Where Explicit VR Little Endian is taken instead, if the sender proposes it too.
_SECOND_BEST: Final = frozenset({IMPLICIT_LITTLE, EXPLICIT_BIG})
_UID: Final = re.compile(r"[0-9.]{1,64}")

# Service-class-application-information that we support, byte by byte. FIND (PS3.4 C.5.1.1.1): relational queries, dates and
# times combined, fuzzy matching of names; not time zone adjustment and enhanced multi-frame conversion.
FIND_INFORMATION: Final = bytes((1, 1, 1))
# Storage (PS3.4 B.3.1): level 2 (every attribute is kept), signatures are preserved (level 3), nothing is coerced.
STORAGE_INFORMATION: Final = bytes((2, 0, 3, 0, 0, 0))


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context, with what was agreed about its SOP class."""

    id: int
    abstract_syntax: str
    transfer_syntax: str
    relational: bool = False
    combined_times: bool = False
    fuzzy: bool = False


@cache
def is_storage(sop_class_uid: str) -> bool:
    """Whether instances of this SOP class are stored; what the dictionary does not know may well be."""
    if not _UID.fullmatch(sop_class_uid):
        return False
    entry = UID(sop_class_uid)
    # A UID that is not in the dictionary has no type; a retired one of which it has forgotten the name has no name.
    if not entry.type or not entry.name:
        return True
    return entry.type == "SOP Class" and "Storage" in entry.name and sop_class_uid not in NOT_STORAGE


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


def negotiate(request: AssociateRequest, max_length: int) -> tuple[AssociateAnswer, dict[int, Context]]:
    """The answer to a request that is not rejected, and the accepted contexts by their ID."""
    service_classes = dict(request.user.service_classes)
    answered = tuple(_answer(context, service_classes) for context in request.contexts)
    extended = tuple(_extended(request.user.extended, {c.abstract_syntax for c in request.contexts}))
    agreed = dict(extended)
    contexts = {
        answer.id: _context(proposed, answer, agreed)
        for proposed, answer in zip(request.contexts, answered, strict=True)
        if answer.result == ACCEPTED
    }
    identity = request.user.identity
    user = UserInformation(
        maximum_length=max_length,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version=IMPLEMENTATION_VERSION_NAME,
        # One operation at a time in either direction (PS3.7 D.3.3.3); not answering would mean the same.
        asynchronous_window=(1, 1) if request.user.asynchronous_window else None,
        # The peer may be the user of every service here and the provider of none: this archive sends on no association
        # that it accepts (PS3.7 D.3.3.4).
        roles=tuple(Role(role.abstract_syntax, scu=role.scu, scp=False) for role in request.user.roles),
        extended=extended,
        identity=identity if identity and identity.answer_wanted else None,
    )
    return AssociateAnswer(answered, user), contexts


def choose(proposed: Sequence[str], supported: Sequence[str] | None = None) -> str | None:
    """The transfer syntax to take; `supported` None takes all. See the module for the rule."""
    usable = [uid for uid in proposed if (uid in supported if supported is not None else _UID.fullmatch(uid))]
    if not usable:
        return None
    first = next((uid for uid in usable if uid in TABLE), usable[0])
    if first in _SECOND_BEST and EXPLICIT_LITTLE in usable:
        return EXPLICIT_LITTLE
    return first


def _answer(context: ProposedContext, service_classes: Mapping[str, str]) -> AnsweredContext:
    abstract_syntax = context.abstract_syntax
    # What a refusal carries is of no significance (PS3.8 9.3.3.2), but must be there.
    refused = IMPLICIT_LITTLE
    if abstract_syntax in QUERY_MODELS:
        chosen = choose(context.transfer_syntaxes, PLAIN)
    elif abstract_syntax == VERIFICATION or _stored(abstract_syntax, service_classes):
        chosen = choose(context.transfer_syntaxes)
    else:
        return AnsweredContext(context.id, ABSTRACT_SYNTAX_NOT_SUPPORTED, refused)
    if chosen is None:
        return AnsweredContext(context.id, TRANSFER_SYNTAXES_NOT_SUPPORTED, refused)
    return AnsweredContext(context.id, ACCEPTED, chosen)


def _stored(abstract_syntax: str, service_classes: Mapping[str, str]) -> bool:
    said = service_classes.get(abstract_syntax)
    return is_storage(abstract_syntax) and said in (None, "", _STORAGE_SERVICE_CLASS)


def _extended(
    asked: Iterable[tuple[str, bytes]], proposed: set[str]
) -> Iterable[tuple[str, bytes]]:
    """An answer has as many bytes as its question had, and no item where nothing is known of the SOP class."""
    for uid, information in asked:
        if uid in proposed and uid in QUERY_MODELS:
            yield uid, bytes(a & b for a, b in zip(information, FIND_INFORMATION.ljust(len(information), b"\0"), strict=False))
        elif uid in proposed and uid != VERIFICATION and is_storage(uid):
            yield uid, STORAGE_INFORMATION[: len(information)]


def _context(proposed: ProposedContext, answer: AnsweredContext, agreed: Mapping[str, bytes]) -> Context:
    flags = agreed.get(proposed.abstract_syntax, b"") if proposed.abstract_syntax in QUERY_MODELS else b""
    relational, combined_times, fuzzy = (bool(flag) for flag in flags.ljust(3, b"\0")[:3])
    return Context(
        answer.id, proposed.abstract_syntax, answer.transfer_syntax, relational, combined_times, fuzzy
    )
