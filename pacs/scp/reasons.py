"""The sentences of the association log: what was wrong with a request, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from pydicom.config import IGNORE
from pydicom.uid import UID

from pacs.scp.negotiation import (
    ABSTRACT_SYNTAX_NOT_SUPPORTED,
    ACCEPTED,
    TRANSFER_SYNTAXES_NOT_SUPPORTED,
    USER_REJECTION,
)
from pacs.scp.sop_classes import SOP_CLASSES, Kind, kind_of
from pacs.upper_layer import (
    APPLICATION_CONTEXT_NOT_SUPPORTED,
    CALLING_AE_NOT_RECOGNIZED,
    PROTOCOL_VERSION_NOT_SUPPORTED,
    AnsweredContext,
    AssociateRequest,
    Reject,
)

# How long before its end a certificate is warned of.
WARN_DAYS: Final = 30
_DAY: Final = 86_400
# Names in one sentence.
_MOST_NAMED: Final = 5

REJECTIONS: Final[dict[Reject, str]] = {
    PROTOCOL_VERSION_NOT_SUPPORTED: "it speaks another version of the upper layer protocol than 1 (PS3.8 9.3.2): nothing can be set here",
    APPLICATION_CONTEXT_NOT_SUPPORTED: "its application context is not DICOM's (1.2.840.10008.3.1.1.1): is it a DICOM device?",
    CALLING_AE_NOT_RECOGNIZED: "it gives no calling AE title: set one at the sender",
}

# What the end of an association that its sender has not used is told as.
NOTHING_ASKED: Final = "nothing was asked for"
NO_PLACE: Final = (
    "all {most} associations that one process may have are open, and this address has as many of them as any other, or all are at"
    " work: look in this log who holds them, and raise PACS_DIMSE_MAX_ASSOCIATIONS if they are wanted"
)
# That of one that another has got the place of.
MADE_ROOM: Final = (
    "all associations were open, most of them from this address: this one, of which nothing was asked, made room for another"
    " caller; have the sender release what it does not use, or raise PACS_DIMSE_MAX_ASSOCIATIONS"
)
DROPPED: Final[dict[str, str]] = {
    "too slow": "it connected and sent no whole association request in time: is it a DICOM device, and does it expect TLS?",
    "crowded out": "it connected and was the one that had waited longest when too many connections waited: what floods this port?",
    "closed": "it connected and went away without an association request: a port check, or it expects TLS",
    "cut off": "it connected and went away in the middle of its association request: its timeout is too short, or the network between broke",
    "error": "an error of ours, which the server's log describes",
}

_REQUESTED_ENDS: Final[dict[str, str]] = {
    "idle": "{text}: it was too slow to answer; look whether it is overloaded or waits for something",
    "lost": "{text}: it hung up, or the network between broke; its own log says why",
    "aborted by peer": "it gave up: {text}; its own log says why",
    "violation": "protocol violation of it: {text}",
    "stopped": "this server was stopped",
}
_ENDS: Final[dict[str, str]] = {
    "released": "",
    "idle": "{text}: the sender hangs, or the network between loses what is sent (large packets above all: MTU, firewall); PACS_DIMSE_MESSAGE_SECONDS is how long is waited",
    "unused": "{text} within PACS_DIMSE_IDLE_SECONDS: the sender keeps associations open that it does not use, which does no harm",
    "lost": "{text}: the sender stopped, or the network between broke",
    "aborted by peer": "the sender gave up: {text}; its own log says why",
    "violation": "protocol violation: {text}",
    "stopped": "this server was stopped",
}

# What an answer to a request of ours means and what to do, whatever was asked (PS3.7 annex C, PS3.4 B.2.3 and C.4): bits of the
# status that count, their value, words. The peer's own Error Comment may name a patient, and is not for logs.
_ANSWERS: Final[tuple[tuple[int, int, str], ...]] = (
    (0xFFFF, 0x0111, "it has that UID already, with other bytes perhaps: look there which of the two is wanted"),
    (0xFFFF, 0x0112, "it has no such instance"),
    (0xFFFF, 0x0122, "it does not serve this SOP class: turn that on there"),
    (0xFFFF, 0x0124, "it does not allow us that: give our AE title the right there"),
    (0xFFFF, 0x0210, "it has a request of that Message ID going on"),
    (0xFFFF, 0x0211, "it does not know this operation"),
    (0xFFFF, 0x0213, "it is out of resources: is its disk full?"),
    (0xFFFF, 0xA801, "it does not know the destination: register that AE title there"),
    (0xFF00, 0xA700, "it is out of resources: is its disk full?"),
    (0xFF00, 0xA900, "what was sent does not fit the SOP class, it says"),
    (0xFFFF, 0xFE00, "it was cancelled"),
    (0xF000, 0xB000, "done with a warning: part of it failed, was changed or left out"),
    (0xF000, 0xC000, "it cannot understand, or process, what was sent"),
    (0x0000, 0x0000, "it failed"),
)


def violation(text: str) -> str:
    """What broke the protocol, with the byte where, and what that mostly means."""
    return f"protocol violation: {text}: is it a DICOM device, and does it expect TLS?"


def end(how: str, text: str) -> str:
    """What to say of the end of an association that was accepted."""
    if how == "idle" and text == NOTHING_ASKED:
        how = "unused"
    return _ENDS.get(how, "{text}").format(text=text)


def remarks(said: Mapping[str, int]) -> str:
    """What was answered with other than success, each with how often; empty without."""
    return "; ".join(f"{text} ({times} times)" if times > 1 else text for text, times in said.items())


def answered(status: int) -> str:
    """What an answer other than success to a request of ours means."""
    return next(words for bits, value, words in _ANSWERS if status & bits == value)


def name_of(uid: str) -> str:
    """A UID by its name, where it has one."""
    # Whatever a peer has sent as one.
    name = UID(uid, IGNORE).name
    return name if name and name != uid else uid


def requested_end(how: str, text: str) -> str:
    """The same of an association that we have asked for."""
    return _REQUESTED_ENDS.get(how, "{text}").format(text=text)


def not_taken(title: str, contexts: Iterable[tuple[str, int]]) -> str:
    """What the node `title` does not take of the SOP classes that we have proposed, each with its result; empty when something
    of each was accepted."""
    proposed = list(contexts)
    accepted = {sop_class for sop_class, result in proposed if result == ACCEPTED}
    missing = list(dict.fromkeys(sop_class for sop_class, _ in proposed if sop_class not in accepted))
    return f"{title} does not take {_names(missing)}: turn that on there, or do not send it there" if missing else ""


def refused_contexts(request: AssociateRequest, answered: Sequence[AnsweredContext], missing: Sequence[str]) -> str:
    """Why presentation contexts were refused, in a sentence for each kind of reason; empty when none that matters was.

    `missing` are the names of the rights that the caller would need.
    """
    accepted = {
        one.abstract_syntax
        for one, answer in zip(request.contexts, answered, strict=True)
        if answer.result == ACCEPTED
    }
    refused: dict[int, dict[str, list[str]]] = {}
    for one, answer in zip(request.contexts, answered, strict=True):
        if answer.result != ACCEPTED and one.abstract_syntax not in accepted:
            syntaxes = refused.setdefault(answer.result, {}).setdefault(one.abstract_syntax, [])
            syntaxes += [uid for uid in one.transfer_syntaxes if uid not in syntaxes]
    return "; ".join(text for text in (_rights(refused, missing, request.calling_ae), _syntaxes(refused), _unsupported(refused)) if text)


def _rights(refused: dict[int, dict[str, list[str]]], missing: Sequence[str], calling: str) -> str:
    found = refused.get(USER_REJECTION)
    if not found:
        return ""
    what, words = " or ".join(missing), " ".join(f"+{right}" for right in missing)
    title = f"'{calling}'" if " " in calling else calling
    return f"{calling} has no right to {what} ({_names(found)}): give it in /admin/, or with pacs ae rights {title} {words}"


def _syntaxes(refused: dict[int, dict[str, list[str]]]) -> str:
    found = refused.get(TRANSFER_SYNTAXES_NOT_SUPPORTED)
    if not found:
        return ""
    proposed = {uid for syntaxes in found.values() for uid in syntaxes}
    taken = {uid for one in found if one in SOP_CLASSES for uid in SOP_CLASSES[one].syntaxes or ()}
    text = f"no common transfer syntax for {_names(found)}: it proposed {_names(sorted(proposed)) or 'none'}"
    return f"{text}; have it propose {_names(sorted(taken))}" if taken else text


def _unsupported(refused: dict[int, dict[str, list[str]]]) -> str:
    found = refused.get(ABSTRACT_SYNTAX_NOT_SUPPORTED)
    return f"this archive does not serve {_names(found)}: turn that off at the sender" if found else ""


def _names(uids: Iterable[str]) -> str:
    found = [name_of(uid) for uid in uids]
    more = len(found) - _MOST_NAMED
    return ", ".join(found[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def kinds_of(request: AssociateRequest) -> set[Kind]:
    """What the request wants to do."""
    return {kind_of(one.abstract_syntax) for one in request.contexts}


def ending(ends: float | None, now: float) -> str:
    """That a certificate has ended or will soon, and when; empty while there is time."""
    if ends is None or ends - now > WARN_DAYS * _DAY:
        return ""
    day = f"{datetime.fromtimestamp(ends, UTC):%Y-%m-%d}"
    if ends <= now:
        return f"has ended on {day}"
    days = int((ends - now) // _DAY)
    return f"ends on {day}, in {days} day{'' if days == 1 else 's'}"


def certificate_ending(ends: float | None, now: float) -> str:
    """The same of the one that a caller has shown, with what to do."""
    text = ending(ends, now)
    return f"its certificate {text}: renew it at the sender, and accept the new one here if it is tied to this one" if text else ""
