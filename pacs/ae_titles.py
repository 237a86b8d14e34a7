"""Who may do what from where: each request for an association judged by the registry, which is kept in memory.

`judge` is pure: policy and request in, verdict out, with a reason that says what to do. `Registry` keeps the policy: at most
a second old, and looked at again before anybody is refused, so that who was just let in comes in at once. With the
database away it goes on with what it last knew.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from pacs.scp.sop_classes import Kind
from pacs.upper_layer import CALLED_AE_NOT_RECOGNIZED, CALLING_AE_NOT_RECOGNIZED, Reject
from storage.coercing import Coercion
from storage.errors import BadRequest, LightboxError
from storage.index import Index
from storage.index.ae import (
    EVERY_RIGHT,
    NO_QUIRKS,
    AeTitle,
    OwnAe,
    Quirks,
    Right,
    Rights,
    UnknownCallers,
    address_of,
    ae_titles,
    is_title,
    network_of,
    own_aes,
    revision,
    title_of,
)
from storage.index.callers import State, callers, take_once
from storage.index.database import Rerun

_log = structlog.get_logger(__name__)
# How old the policy may be when somebody is let in.
FRESH_SECONDS: Final = 1.0
# How long somebody who would be refused waits for a database that does not answer; after it the policy of before holds.
_REFUSING_PATIENCE_SECONDS: Final = 1.0

# Certificates in one sentence.
_MOST_NAMED: Final = 3

# The right that a service needs; a new kind of service needs its row.
RIGHT_OF: Final[Mapping[Kind, Right]] = {
    Kind.VERIFICATION: Right.ECHO,
    Kind.STORAGE: Right.STORE,
    Kind.FIND: Right.FIND,
    Kind.MOVE: Right.RETRIEVE,
    Kind.GET: Right.RETRIEVE,
    Kind.COMMITMENT: Right.COMMIT,
    Kind.WORKLIST: Right.WORKLIST,
    Kind.PERFORMED_STEP: Right.MPPS,
    Kind.PERFORMED_STEP_RETRIEVE: Right.MPPS,
    Kind.WORKITEM: Right.UPS,
    Kind.WORKITEM_EVENT: Right.UPS,
}


@dataclass(frozen=True, slots=True)
class Policy:
    """What is decided by: nodes and own AE titles by their title; callers as (title, address), either empty for any."""

    nodes: Mapping[str, AeTitle] = field(default_factory=dict)
    own: Mapping[str, OwnAe] = field(default_factory=dict)
    blocked: frozenset[tuple[str, str]] = frozenset()
    once: frozenset[tuple[str, str]] = frozenset()
    unknown_callers: UnknownCallers = UnknownCallers.ACCEPT
    # What they may do where they are accepted.
    unknown_rights: Rights = EVERY_RIGHT
    # Whether we answer to any called AE title.
    any_called_ae: bool = False

    def is_blocked(self, calling: str, address: str) -> bool:
        """Whether this title, this address or both together are."""
        return not self.blocked.isdisjoint({(calling, address), (calling, ""), ("", address)})


@dataclass(frozen=True, slots=True)
class Verdict:
    """Accepted with `rights`, or refused with `reject` and a reason. `asks`: an administrator may let it in."""

    rights: Rights = EVERY_RIGHT
    reject: Reject | None = None
    reason: str = ""
    asks: bool = False
    # Accepted because of a permission for one association, which is to be used up.
    once: bool = False
    quirks: Quirks = NO_QUIRKS
    # The AE title of ours that was called; empty where any may be.
    own_ae: str = ""
    # What becomes of what is sent; None: it is kept as it comes.
    coercion: Coercion | None = None


def judge(policy: Policy, calling: str, called: str, address: str, certificate: str | None = None) -> Verdict:
    """Whether `calling` at `address` may have an association with us as `called` (PS3.8 table 9-21).

    `certificate` is the fingerprint of what it has shown, empty where it calls over TLS and shows none, and None where it
    calls without TLS.
    """
    own = policy.own.get(called)
    if own is None and not policy.any_called_ae:
        return Verdict(reject=CALLED_AE_NOT_RECOGNIZED, reason=_wrong_called(called, policy.own))
    if policy.is_blocked(calling, address):
        text = f"{calling} at {address} is blocked: pacs ae unblock {_word(calling)}, if that is no longer wanted"
        return Verdict(reject=CALLING_AE_NOT_RECOGNIZED, reason=text)
    if own is not None and own.callers and calling not in own.callers:
        text = f"{called} takes calls from {', '.join(own.callers)} alone: add {calling} to its callers, or have it call another"
        return Verdict(reject=CALLING_AE_NOT_RECOGNIZED, reason=text)
    node = policy.nodes.get(calling)
    if node is None:
        found = _unknown(_unknown_callers(policy, own), calling, address, policy.unknown_rights)
    else:
        found = _known(node, address, certificate)
    # What nobody could let in under 'wants to connect', a node without its TLS say, comes in by no permission for one either.
    once = found.reject and (node is None or found.asks) and (calling, address) in policy.once
    return Verdict(once=True) if once else found


def _known(node: AeTitle, address: str, certificate: str | None) -> Verdict:
    if not _proven(node, certificate):
        return _unproven(node, certificate)
    return Verdict(node.rights, quirks=node.quirks) if is_within(address, node.addresses) else _elsewhere(node, address)


def coercion_of(policy: Policy, calling: str, own_title: str) -> Coercion | None:
    """What becomes of what `calling` sends to our title: its own rules first, then those of the title. None: nothing."""
    node, own = policy.nodes.get(calling), policy.own.get(own_title)
    quirks = node.quirks if node is not None else NO_QUIRKS
    rules = (*quirks.coercion, *(own.coercion if own is not None else ()))
    profile = own.profile if own is not None else None
    if not rules and profile is None:
        return None
    return Coercion(rules, system=own_title, source=calling, silent=quirks.silent_coercion, profile=profile)


def _unknown_callers(policy: Policy, own: OwnAe | None) -> UnknownCallers:
    if own is not None and own.unknown_callers is not None:
        return own.unknown_callers
    return policy.unknown_callers


def _unknown(what: UnknownCallers, calling: str, address: str, rights: Rights) -> Verdict:
    if what is UnknownCallers.ACCEPT:
        return Verdict(rights)
    if not is_title(calling):
        text = f"its calling AE title {calling} is none (PS3.5 6.2: 1 to 16 characters of ASCII, no backslash), and cannot be registered: set another at the sender"
        return Verdict(reject=CALLING_AE_NOT_RECOGNIZED, reason=text)
    asks = what is UnknownCallers.ASK
    todo = "allow it under 'wants to connect' in /admin/, or with pacs ae allow" if asks else "register it with pacs ae add"
    text = f"unknown calling AE title {calling} at {address}: {todo}, and send again"
    return Verdict(reject=CALLING_AE_NOT_RECOGNIZED, reason=text, asks=asks)


def _elsewhere(node: AeTitle, address: str) -> Verdict:
    text = (
        f"{node.title} may call from {', '.join(node.addresses)}, and calls from {address}: allow that address under"
        " 'wants to connect' in /admin/ or with pacs ae allow, or give the other device a title of its own"
    )
    return Verdict(reject=CALLING_AE_NOT_RECOGNIZED, reason=text, asks=True)


def _proven(node: AeTitle, certificate: str | None) -> bool:
    """Whether it calls over TLS, and shows one of its certificates, as far as it must."""
    if node.certificates:
        return bool(certificate) and certificate in node.certificates
    return certificate is not None or not node.tls_only


def _unproven(node: AeTitle, certificate: str | None) -> Verdict:
    title = node.title
    if certificate is None:
        text = f"{title} may call over TLS alone: turn TLS on there and call the TLS port, or allow it without (pacs ae add {_word(title)} --any-transport)"
    elif not certificate:
        text = f"{title} must show its certificate and shows none: give it to the device, or let {title} call without (pacs ae add {_word(title)} --certificate any)"
    else:
        text = (
            f"{title} shows another certificate than is kept for it (SHA-256 {certificate}), expected is"
            f" {' or '.join(node.certificates[:_MOST_NAMED])}: if it was renewed, accept it under"
            " 'wants to connect' in /admin/ or with pacs ae allow; if not, somebody else uses this title"
        )
    return Verdict(reject=CALLING_AE_NOT_RECOGNIZED, reason=text, asks=bool(certificate))


def _wrong_called(called: str, own: Iterable[str]) -> str:
    ours = " or ".join(own)
    added = f", or add it here with pacs ae own-add {_word(called)}" if is_title(called) else ""
    return f"wrong called AE title {called}: this archive is {ours} (letters' case counts): correct it at the sender{added}"


def _word(title: str) -> str:
    return f"'{title}'" if " " in title else title


def is_within(address: str, networks: tuple[str, ...]) -> bool:
    """Whether there are no networks, or it is in one."""
    if not networks:
        return True
    try:
        found = ipaddress.ip_address(address_of(address))
    except ValueError:
        return False
    return any(found in ipaddress.ip_network(one) for one in networks)


def own_titles(index: Index, first: str) -> list[OwnAe]:
    """Our own AE titles, that of the settings (`first`) first, whether or not it has a policy of its own."""
    kept = {one.title: one for one in own_aes(index)}
    return [kept.pop(first, OwnAe(first)), *kept.values()]


def blockable(title: str, address: str) -> tuple[str, str]:
    """What is blocked, in its usual form. Raises BadRequest where it is neither a title nor one address."""
    if not title and not address:
        raise BadRequest("give an AE title, an address, or both")
    usual = network_of(address) if address else ""
    if "/" in usual:
        raise BadRequest("give one address, not a network")
    return title_of(title) if title else "", usual


class Registry:
    """The policy of one process. Thread-safe; nothing is asked of the database while an association goes on."""

    def __init__(
        self,
        index: Index,
        own_title: str,
        *,
        unknown_callers: UnknownCallers = UnknownCallers.ACCEPT,
        unknown_rights: Rights = EVERY_RIGHT,
        any_called_ae: bool = False,
    ) -> None:
        self._index = index
        self._own_title = own_title
        self._policy = Policy(
            own={own_title: OwnAe(own_title)},
            unknown_callers=unknown_callers,
            unknown_rights=unknown_rights,
            any_called_ae=any_called_ae,
        )
        self._revision = -1
        self._looked = float("-inf")
        self._looking = threading.Lock()

    def judge(self, calling: str, called: str, address: str, certificate: str | None = None) -> Verdict:
        """Whether `calling` at `address` may have an association with us as `called`, by what is registered now."""
        came = time.monotonic()
        verdict = judge(self._current(came - FRESH_SECONDS), calling, called, address, certificate)
        if verdict.reject:
            verdict = judge(self._current(came, _REFUSING_PATIENCE_SECONDS), calling, called, address, certificate)
        if verdict.once:
            verdict = self._once(calling, called, address, certificate)
        own_ae = called if called in self._policy.own else ""
        return replace(verdict, own_ae=own_ae, coercion=coercion_of(self._policy, calling, own_ae or self._own_title))

    def _once(self, calling: str, called: str, address: str, certificate: str | None) -> Verdict:
        try:
            rights = take_once(self._index, calling, address, certificate or "")
        except (LightboxError, Rerun) as error:
            _log.warning("registry.unavailable", reason=str(error))
            rights = None
        if rights is not None:
            return Verdict(rights)
        # Another association was faster.
        left = self._policy.once - {(calling, address)}
        return judge(replace(self._policy, once=left), calling, called, address, certificate)

    def _current(self, since: float, patience: float = 0.0) -> Policy:
        """The policy as it was at `since` (monotonic) or later.

        One thread looks for all that wait, so a flood of refusals asks once and again, not for each. Who has waited
        `patience` seconds takes what there is.
        """
        if self._looked < since and self._looking.acquire(timeout=patience):
            try:
                if self._looked < since:
                    self._look()
            finally:
                self._looking.release()
        return self._policy

    def _look(self) -> None:
        begun = time.monotonic()
        try:
            self._read()
        except LightboxError as error:
            _log.warning("registry.unavailable", reason=str(error))
            # Whoever came while a database that is away was waited for need not wait for it once more.
            begun = time.monotonic()
        self._looked = begun

    def _read(self) -> None:
        now = revision(self._index)
        if now == self._revision:
            return
        known = callers(self._index)
        self._policy = replace(
            self._policy,
            nodes={one.title: one for one in ae_titles(self._index)},
            own={one.title: one for one in own_titles(self._index, self._own_title)},
            blocked=frozenset((one.calling_ae, one.address) for one in known if one.state is State.BLOCKED),
            once=frozenset((one.calling_ae, one.address) for one in known if one.state is State.ONCE),
        )
        self._revision = now
