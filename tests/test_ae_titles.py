"""Who may have an association, by every policy there is; and how a process learns that a policy has changed."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pacs.ae_titles import Policy, Registry, judge
from pacs.upper_layer import CALLED_AE_NOT_RECOGNIZED, CALLING_AE_NOT_RECOGNIZED, Reject
from storage.errors import BadRequest, IndexUnavailable, NotFound
from storage.index import Index
from storage.index.ae import (
    EVERY_RIGHT,
    AeTitle,
    OwnAe,
    Quirks,
    Right,
    UnknownCallers,
    add_ae_title,
    add_own_ae,
    address_of,
    ae_title_of,
    fingerprint_of,
    own_aes,
    remove_own_ae,
    rights_of,
    words_of,
)
from storage.index.callers import (
    Asking,
    Caller,
    State,
    allow,
    allow_once,
    block,
    caller_named,
    callers,
    forget,
    remember,
    take_once,
    tidy,
)
from tests.support.certificates import Authority

CT = AeTitle("CT1", "10.0.0.5", 104, rights=frozenset({Right.ECHO, Right.STORE}), addresses=("10.0.0.5", "10.1.0.0/16"))
SHOWN, OTHER = "a1" * 32, "b2" * 32
TIED = AeTitle("TIED", "", 0, certificates=(SHOWN, "c3" * 32))
TLS = AeTitle("TLS1", "", 0, addresses=("10.0.0.5",), tls_only=True)
WS = AeTitle("WS1", "", 0)
V6 = AeTitle("V6", "", 0, addresses=("2001:db8::/32",))
OWN = {
    "LIGHTBOX": OwnAe("LIGHTBOX"),
    "RESEARCH": OwnAe("RESEARCH", callers=("WS1", "NEW")),
    "OPEN": OwnAe("OPEN", unknown_callers=UnknownCallers.ACCEPT),
    "CLOSED": OwnAe("CLOSED", unknown_callers=UnknownCallers.REFUSE),
}
POLICY = Policy(
    nodes={one.title: one for one in (CT, WS, V6, TIED, TLS)},
    own=OWN,
    blocked=frozenset({("BAD", "10.0.0.9"), ("WORSE", ""), ("", "10.6.6.6")}),
    once=frozenset({("GUEST", "10.0.0.7")}),
    unknown_callers=UnknownCallers.ASK,
)
ACCEPT = replace(POLICY, unknown_callers=UnknownCallers.ACCEPT)
ANY = replace(POLICY, any_called_ae=True)

Row = tuple[Policy, str, str, str, Reject | None, str]


@pytest.mark.parametrize(
    ("policy", "calling", "called", "address", "reject", "says"),
    [
        (POLICY, "CT1", "LIGHTBOX", "10.0.0.5", None, ""),
        (POLICY, "CT1", "LIGHTBOX", "10.1.255.1", None, ""),
        (POLICY, "CT1", "LIGHTBOX", "::ffff:10.0.0.5", None, ""),
        (POLICY, "CT1", "LIGHTBOX", "10.0.0.6", CALLING_AE_NOT_RECOGNIZED, "may call from 10.0.0.5, 10.1.0.0/16, and calls from 10.0.0.6"),
        (ACCEPT, "CT1", "LIGHTBOX", "10.0.0.6", CALLING_AE_NOT_RECOGNIZED, "calls from 10.0.0.6"),
        (POLICY, "CT1", "LIGHTBOX", "nonsense", CALLING_AE_NOT_RECOGNIZED, "calls from nonsense"),
        (POLICY, "WS1", "LIGHTBOX", "192.0.2.1", None, ""),
        (POLICY, "V6", "LIGHTBOX", "2001:db8:1::7", None, ""),
        (POLICY, "V6", "LIGHTBOX", "fe80::1%eth0", CALLING_AE_NOT_RECOGNIZED, "may call from 2001:db8::/32"),
        (POLICY, "NEW", "LIGHTBOX", "10.0.0.5", CALLING_AE_NOT_RECOGNIZED, "unknown calling AE title NEW at 10.0.0.5: allow it"),
        (ACCEPT, "NEW", "LIGHTBOX", "10.0.0.5", None, ""),
        # What cannot be registered is not asked about.
        (POLICY, "CT\\1", "LIGHTBOX", "10.0.0.5", CALLING_AE_NOT_RECOGNIZED, "its calling AE title CT\\1 is none (PS3.5 6.2"),
        (POLICY, "ct1", "LIGHTBOX", "10.0.0.5", CALLING_AE_NOT_RECOGNIZED, "unknown calling AE title ct1"),
        (POLICY, "CT1", "PACS", "10.0.0.5", CALLED_AE_NOT_RECOGNIZED, "wrong called AE title PACS: this archive is LIGHTBOX or RESEARCH or OPEN or CLOSED"),
        (POLICY, "CT1", "PACS\\2", "10.0.0.5", CALLED_AE_NOT_RECOGNIZED, "or CLOSED (letters' case counts): correct it at the sender"),
        (ANY, "CT1", "PACS", "10.0.0.5", None, ""),
        (ANY, "NEW", "PACS", "10.0.0.5", CALLING_AE_NOT_RECOGNIZED, "unknown calling AE title"),
        (POLICY, "WS1", "RESEARCH", "10.0.0.5", None, ""),
        (POLICY, "CT1", "RESEARCH", "10.0.0.5", CALLING_AE_NOT_RECOGNIZED, "RESEARCH takes calls from WS1, NEW alone"),
        (POLICY, "NEW", "RESEARCH", "10.0.0.5", CALLING_AE_NOT_RECOGNIZED, "unknown calling AE title NEW"),
        (POLICY, "NEW", "OPEN", "10.0.0.5", None, ""),
        (ACCEPT, "NEW", "CLOSED", "10.0.0.5", CALLING_AE_NOT_RECOGNIZED, "register it with pacs ae add"),
        (ACCEPT, "BAD", "LIGHTBOX", "10.0.0.9", CALLING_AE_NOT_RECOGNIZED, "BAD at 10.0.0.9 is blocked"),
        (ACCEPT, "BAD", "LIGHTBOX", "10.0.0.8", None, ""),
        (ACCEPT, "WORSE", "OPEN", "10.0.0.8", CALLING_AE_NOT_RECOGNIZED, "is blocked"),
        (ACCEPT, "WS1", "LIGHTBOX", "10.6.6.6", CALLING_AE_NOT_RECOGNIZED, "is blocked"),
        (POLICY, "GUEST", "LIGHTBOX", "10.0.0.7", None, ""),
        (POLICY, "GUEST", "LIGHTBOX", "10.0.0.8", CALLING_AE_NOT_RECOGNIZED, "unknown calling AE title GUEST"),
    ],
)  # fmt: skip
def test_verdicts(policy: Policy, calling: str, called: str, address: str, reject: Reject | None, says: str) -> None:
    """PS3.8 table 9-21, and a reason that says what to do."""
    verdict = judge(policy, calling, called, address)
    assert verdict.reject == reject
    assert says in verdict.reason
    assert bool(verdict.reason) == (reject is not None)


@pytest.mark.parametrize(
    ("calling", "address", "certificate", "says", "asks"),
    [
        ("TIED", "10.0.0.5", SHOWN, "", False),
        ("TIED", "10.9.9.9", "c3" * 32, "", False),
        ("TIED", "10.0.0.5", OTHER, f"shows another certificate than is kept for it (SHA-256 {OTHER})", True),
        ("TIED", "10.0.0.5", "", "must show its certificate and shows none", False),
        ("TIED", "10.0.0.5", None, "TIED may call over TLS alone", False),
        ("TLS1", "10.0.0.5", None, "TLS1 may call over TLS alone", False),
        ("TLS1", "10.0.0.5", "", "", False),
        ("TLS1", "10.0.0.5", SHOWN, "", False),
        ("TLS1", "10.0.0.6", None, "TLS1 may call over TLS alone", False),
        ("TLS1", "10.0.0.6", SHOWN, "may call from 10.0.0.5, and calls from 10.0.0.6", True),
        ("CT1", "10.0.0.5", OTHER, "", False),
        ("NEW", "10.0.0.5", SHOWN, "unknown calling AE title", True),
        ("CT\\xc3\\x84", "10.0.0.5", None, "set another at the sender", False),
    ],
)
def test_titles_tied_to_tls(calling: str, address: str, certificate: str | None, says: str, asks: bool) -> None:
    verdict = judge(POLICY, calling, "LIGHTBOX", address, certificate)
    assert (verdict.reject is not None, verdict.asks) == (bool(says), asks)
    assert says in verdict.reason


@pytest.mark.parametrize(
    "given",
    [
        SHOWN,
        SHOWN.upper(),
        ":".join([SHOWN[:2].upper()] * 32),
        f"sha256 Fingerprint={':'.join([SHOWN[:2].upper()] * 32)}\n",
    ],
)
def test_fingerprints_as_tools_print_them(index: Index, given: str) -> None:
    add_ae_title(index, AeTitle("CT1", "", 0, certificates=(given, SHOWN)))
    known = ae_title_of(index, "CT1")
    assert known is not None
    assert known.certificates == (SHOWN,)


def test_certificates_are_kept_as_fingerprints(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own = authority.sign("ct").pem
    known = hashlib.sha256(x509.load_pem_x509_certificate(own.encode()).public_bytes(Encoding.DER)).hexdigest()
    assert fingerprint_of(own) == known
    assert fingerprint_of(f"subject=CT1\n{own}{authority.file.read_text()}") == known


NO_PEM = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize("given", ["", "abc", SHOWN[:-1], SHOWN + "0", "g" * 64, NO_PEM, NO_PEM + "-----BEGIN PRIVATE KEY-----"])
def test_what_is_no_certificate_is_refused(index: Index, given: str) -> None:
    with pytest.raises(BadRequest, match="certificate"):
        add_ae_title(index, AeTitle("CT1", "", 0, certificates=(given,)))


@pytest.mark.parametrize(
    ("policy", "calling", "called", "asks"),
    [
        (POLICY, "NEW", "LIGHTBOX", True),
        (POLICY, "CT1", "LIGHTBOX", True),
        (POLICY, "NEW", "CLOSED", False),
        (POLICY, "NEW", "NOWHERE", False),
        (POLICY, "WORSE", "LIGHTBOX", False),
        (POLICY, "CT1", "RESEARCH", False),
    ],
)
def test_who_may_be_let_in_by_an_administrator(policy: Policy, calling: str, called: str, asks: bool) -> None:
    assert judge(policy, calling, called, "192.0.2.1").asks is asks


def test_unknown_callers_that_are_accepted_have_the_rights_that_are_set() -> None:
    less = frozenset({Right.ECHO, Right.STORE})
    careful = replace(POLICY, unknown_callers=UnknownCallers.ACCEPT, unknown_rights=less)
    assert judge(careful, "NEW", "LIGHTBOX", "10.0.0.5").rights == less
    assert judge(careful, "WS1", "LIGHTBOX", "10.0.0.5").rights == EVERY_RIGHT
    # Also where one of our titles takes them, and the others do not.
    assert judge(replace(POLICY, unknown_rights=less), "NEW", "OPEN", "10.0.0.5").rights == less


def test_a_known_node_has_its_rights_and_an_unknown_one_all() -> None:
    assert judge(POLICY, "CT1", "LIGHTBOX", "10.0.0.5").rights == {Right.ECHO, Right.STORE}
    assert judge(ACCEPT, "NEW", "LIGHTBOX", "10.0.0.5").rights == EVERY_RIGHT


@pytest.mark.parametrize(
    ("words", "rights"),
    [
        (["all"], EVERY_RIGHT),
        ([], frozenset()),
        (["store", "echo"], {Right.ECHO, Right.STORE}),
        (list(Right), EVERY_RIGHT),
    ],
)
def test_rights_in_words(words: Sequence[str], rights: frozenset[Right]) -> None:
    assert rights_of(words) == rights
    assert rights_of(words_of(rights_of(words)).split()) == rights


def test_a_right_that_is_none() -> None:
    with pytest.raises(BadRequest, match="no right 'delete': use echo, store"):
        rights_of(["delete"])


@pytest.mark.parametrize("address", ["", "host", "10.0.0.300", "10.0.0.0/33", "10.0.0.5 10.0.0.6"])
def test_what_is_no_address(index: Index, address: str) -> None:
    with pytest.raises(BadRequest, match="allowed address"):
        add_ae_title(index, replace(WS, addresses=(address,)))


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("10.0.0.5", "10.0.0.5"),
        ("::ffff:10.0.0.5", "10.0.0.5"),
        ("2001:DB8::0007", "2001:db8::7"),
        ("fe80::1%eth0", "fe80::1"),
        ("::1", "::1"),
        ("nonsense", "nonsense"),
    ],
)
def test_addresses(index: Index, given: str, plain: str) -> None:
    """What a socket of either kind says of a peer is what can be allowed."""
    assert address_of(given) == plain
    if plain != "nonsense":
        add_ae_title(index, replace(WS, addresses=(given,)))
        assert ae_title_of(index, "WS1") == replace(WS, addresses=(plain,))


def test_blocking_an_address_settles_whatever_called_itself_something_there(index: Index) -> None:
    for number in range(3):
        asked(index, f"X{number}", "10.6.6.6")
    asked(index, "CT1", "10.0.0.5")
    block(index, "", "10.6.6.6")
    assert {(one.calling_ae, one.state) for one in callers(index)} == {("", State.BLOCKED), ("CT1", State.ASKS)}


def test_a_node_with_everything(index: Index) -> None:
    whole = AeTitle(
        "CT 1", "ct", 104, "room 3", frozenset({Right.STORE}), ("10.0.0.5/32", "10.1.2.3/16", "2001:DB8::7"), ("1.2.840.10008.1.2.4.70",), Quirks("ISO 2022 IR 6\\ISO 2022 IR 87"),
    )  # fmt: skip
    add_ae_title(index, whole)
    found = ae_title_of(index, "CT 1")
    assert found == replace(whole, addresses=("10.0.0.5", "10.1.0.0/16", "2001:db8::7"))


def test_own_ae_titles(index: Index) -> None:
    research = OwnAe("RESEARCH", "for studies", ("CT 1", "WS1"), UnknownCallers.REFUSE)
    add_own_ae(index, research)
    add_own_ae(index, OwnAe("A B"))
    assert own_aes(index) == [OwnAe("A B"), research]
    assert remove_own_ae(index, "A B")
    assert not remove_own_ae(index, "A B")


# What a process knows of it


def registry(index: Index, what: UnknownCallers = UnknownCallers.ASK) -> Registry:
    return Registry(index, "LIGHTBOX", unknown_callers=what)


def asked(
    index: Index, calling: str = "NEW", address: str = "10.0.0.7", times: int = 1, at: float | None = None, certificate: str = ""
) -> Caller:
    """Somebody that wants to connect."""
    rights = frozenset({Right.ECHO, Right.STORE})
    one = Asking(calling, address, "LIGHTBOX", rights, "unknown", times, at or time.time(), certificate)
    with index.database.write() as connection:
        remember(connection, [one])
    return caller_named(index, calling, address)


def test_who_was_let_in_comes_in(index: Index) -> None:
    ours, others = registry(index), registry(index)
    for one in (ours, others):
        assert one.judge("NEW", "LIGHTBOX", "10.0.0.7").asks
    node = allow(index, asked(index))
    assert (node.rights, node.port) == (frozenset({Right.ECHO, Right.STORE}), 0)
    assert node.addresses == ("10.0.0.7",)
    assert callers(index) == []
    for one in (ours, others):
        verdict = one.judge("NEW", "LIGHTBOX", "10.0.0.7")
        assert (verdict.reject, verdict.rights) == (None, node.rights)
        assert one.judge("NEW", "LIGHTBOX", "10.0.0.8").reject


def test_a_known_node_is_let_in_from_a_further_address_with_further_rights(index: Index) -> None:
    add_ae_title(index, replace(CT, title="NEW"))
    node = allow(index, asked(index), frozenset({Right.FIND}))
    assert node.addresses == ("10.0.0.5", "10.1.0.0/16", "10.0.0.7")
    assert node.rights == {Right.ECHO, Right.STORE, Right.FIND}
    assert (node.host, node.port) == ("10.0.0.5", 104)
    assert allow(index, asked(index), anywhere=True).addresses == ()
    # From anywhere it stays.
    assert allow(index, asked(index)).addresses == ()


def test_who_is_let_in_with_its_certificate_must_show_it(index: Index) -> None:
    assert allow(index, asked(index, certificate=SHOWN)).certificates == ()
    assert allow(index, asked(index, certificate=SHOWN), tied=True).certificates == (SHOWN,)
    one = registry(index, UnknownCallers.ACCEPT)
    assert not one.judge("NEW", "LIGHTBOX", "10.0.0.7", SHOWN).reject
    assert one.judge("NEW", "LIGHTBOX", "10.0.0.7", OTHER).asks
    assert one.judge("NEW", "LIGHTBOX", "10.0.0.7").reject


def test_a_renewed_certificate_is_accepted_by_letting_it_in(index: Index) -> None:
    add_ae_title(index, replace(TIED, title="NEW"))
    assert allow(index, asked(index, certificate=OTHER)).certificates == (*TIED.certificates, OTHER)
    # From another address without TLS: that is no proof, and nothing is added.
    assert allow(index, asked(index)).certificates == (*TIED.certificates, OTHER)


@pytest.mark.parametrize(
    ("certificate", "taken"), [(None, False), ("", False), (SHOWN, False), (OTHER, True)], ids=["plain", "none", "another", "the one"]
)
def test_once_is_for_the_certificate_that_was_shown(index: Index, certificate: str | None, taken: bool) -> None:
    """Whoever saw the permission given can neither use it without TLS nor with another certificate of the same authority."""
    add_ae_title(index, AeTitle("NEW", "", 0, certificates=("d4" * 32,)))
    one = registry(index)
    allow_once(index, asked(index, certificate=OTHER))
    assert bool(one.judge("NEW", "LIGHTBOX", "10.0.0.7", certificate).reject) is not taken
    assert (caller_named(index, "NEW").state is State.ASKS) is taken


def test_who_is_refused_learns_which_certificate_was_expected() -> None:
    """Before where it calls from: who shows another certificate is somebody else, wherever that may be."""
    for address in ("10.0.0.5", "192.0.2.1"):
        verdict = judge(POLICY, "TIED", "LIGHTBOX", address, OTHER)
        assert f"(SHA-256 {OTHER}), expected is {SHOWN} or {'c3' * 32}: if it was renewed" in verdict.reason


def test_nobody_is_tied_to_a_certificate_that_it_has_not_shown(index: Index) -> None:
    with pytest.raises(BadRequest, match="has shown no certificate"):
        allow(index, asked(index), tied=True)
    assert caller_named(index, "NEW").state is State.ASKS


def test_once_is_once_for_all_processes(index: Index) -> None:
    ours, others = registry(index), registry(index)
    allow_once(index, asked(index))
    assert not ours.judge("NEW", "LIGHTBOX", "10.0.0.7").reject
    assert others.judge("NEW", "LIGHTBOX", "10.0.0.7").reject
    assert ours.judge("NEW", "LIGHTBOX", "10.0.0.7").reject
    assert caller_named(index, "NEW").state is State.ASKS


def test_once_is_not_for_ever(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.index.callers.ONCE_SECONDS", -1.0)
    allow_once(index, asked(index))
    assert take_once(index, "NEW", "10.0.0.7") is None


def test_who_is_blocked_stays_out_within_a_second(index: Index) -> None:
    one = registry(index, UnknownCallers.ACCEPT)
    add_ae_title(index, AeTitle("NEW", "h", 1))
    assert not one.judge("NEW", "LIGHTBOX", "10.0.0.7").reject
    block(index, "NEW")
    time.sleep(1.05)
    assert "blocked" in one.judge("NEW", "LIGHTBOX", "10.0.0.7").reason
    # It may ask as often as it likes.
    asked(index, address="")
    assert caller_named(index, "NEW").state is State.BLOCKED
    forget(index, caller_named(index, "NEW"))
    assert not one.judge("NEW", "LIGHTBOX", "10.0.0.7").reject


def test_allowing_ends_a_block(index: Index) -> None:
    block(index, "NEW")
    block(index, "NEW", "10.0.0.7")
    allow(index, caller_named(index, "NEW", "10.0.0.7"))
    assert callers(index) == []


def test_the_title_of_the_settings_may_have_a_policy_too(index: Index) -> None:
    add_own_ae(index, OwnAe("LIGHTBOX", callers=("CT1",)))
    assert "takes calls from CT1 alone" in registry(index).judge("NEW", "LIGHTBOX", "10.0.0.7").reason


def test_with_the_database_away_the_last_policy_holds(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    one = registry(index)
    add_ae_title(index, AeTitle("CT1", "h", 1))
    assert not one.judge("CT1", "LIGHTBOX", "10.0.0.7").reject

    def away(*_: Any) -> int:
        raise IndexUnavailable("away")

    monkeypatch.setattr("pacs.ae_titles.revision", away)
    monkeypatch.setattr("pacs.ae_titles.FRESH_SECONDS", -1.0)
    assert not one.judge("CT1", "LIGHTBOX", "10.0.0.7").reject
    assert one.judge("NEW", "LIGHTBOX", "10.0.0.7").asks


def test_nothing_is_asked_of_the_database_for_each_association(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter(range(10**6))
    monkeypatch.setattr("pacs.ae_titles.revision", lambda _index: next(looks))
    one = registry(index, UnknownCallers.ACCEPT)
    for _ in range(1000):
        assert not one.judge("CT1", "LIGHTBOX", "10.0.0.7").reject
    assert next(looks) <= 3


def test_a_flood_of_refusals_does_not_ask_for_each(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    one = registry(index)
    together = 8
    everybody = threading.Barrier(together)
    looked = []

    def slow(_index: Index) -> int:
        looked.append(time.monotonic())
        time.sleep(0.05)
        return len(looked)

    def refused(_number: int) -> bool:
        everybody.wait()
        return one.judge("NEW", "LIGHTBOX", "10.0.0.7").asks

    monkeypatch.setattr("pacs.ae_titles.revision", slow)
    with ThreadPoolExecutor(together) as threads:
        assert all(threads.map(refused, range(together)))
    assert len(looked) < together


def test_a_database_that_does_not_answer_holds_no_refusal_up_for_long(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    one = registry(index)
    assert one.judge("NEW", "LIGHTBOX", "10.0.0.7").asks
    add_ae_title(index, AeTitle("NEW", "h", 1))
    asked_for, answers = threading.Event(), threading.Event()

    def hangs(_index: Index) -> int:
        asked_for.set()
        assert answers.wait(30)
        raise IndexUnavailable("away")

    monkeypatch.setattr("pacs.ae_titles.revision", hangs)
    monkeypatch.setattr("pacs.ae_titles._REFUSING_PATIENCE_SECONDS", 0.05)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(one.judge, "NEW", "LIGHTBOX", "10.0.0.7")
        assert asked_for.wait(30)
        assert one.judge("NEW", "LIGHTBOX", "10.0.0.7").asks, "what was last known holds"
        assert not waiting.done()
        answers.set()
        assert waiting.result(30).asks


def test_who_asked_long_ago_or_among_too_many_is_forgotten(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    asked(index, "OLD", at=time.time() - 15 * 86_400)
    block(index, "BLOCKED")
    for number in range(4):
        asked(index, f"N{number}", at=time.time() - 10 + number)
    assert tidy(index) == 1
    monkeypatch.setattr("storage.index.callers.MOST_ASKING", 2)
    assert tidy(index) == 2
    assert {one.calling_ae for one in callers(index)} == {"BLOCKED", "N2", "N3"}
    assert tidy(index) == 0


def test_times_are_added_up(index: Index) -> None:
    asked(index, times=3)
    assert asked(index, times=4).times == 7


def test_nobody_of_that_name_waits(index: Index) -> None:
    with pytest.raises(NotFound):
        caller_named(index, "NOBODY")
