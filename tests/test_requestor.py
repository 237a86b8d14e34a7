"""The requestor's half of the upper layer: what it asks in bytes, against our acceptor and pynetdicom's reader; its endings."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import pdu as reference

from pacs.upper_layer import (
    Aborted,
    Acceptor,
    AnsweredContext,
    AssociateAnswer,
    AssociateRequest,
    Fragment,
    ProposedContext,
    Received,
    Reject,
    Rejected,
    Released,
    ReleaseRequested,
    Requestor,
    Role,
    State,
    UserInformation,
    Violation,
)
from tests.support import dimse_peer as peer
from tests.support.dimse_peer import APPLICATION_CONTEXT, CT, EXPLICIT, IMPLICIT, VERIFICATION

REQUEST = AssociateRequest(
    protocol_version=1,
    called_ae="THEM",
    calling_ae="LIGHTBOX",
    titles=b"",
    application_context=APPLICATION_CONTEXT,
    contexts=(ProposedContext(1, VERIFICATION, (IMPLICIT,)), ProposedContext(3, CT, (EXPLICIT, IMPLICIT))),
    user=UserInformation(
        maximum_length=65536,
        implementation_class_uid="1.2.3",
        implementation_version="NAME",
        asynchronous_window=(3, 1),
        roles=(Role(CT, scu=False, scp=True),),
        extended=((CT, b"\2\0\3"),),
    ),
)
ANSWER = AssociateAnswer(
    (AnsweredContext(1, 0, IMPLICIT), AnsweredContext(3, 4, "")),
    UserInformation(maximum_length=4096, implementation_class_uid="1.2.4", roles=(Role(CT, scu=False, scp=True),)),
)


def begun(**limits: int) -> tuple[Requestor, bytes]:
    machine = Requestor(**limits)
    return machine, machine.request(REQUEST)


def accepted() -> tuple[Requestor, Acceptor]:
    """Both ends of one association."""
    ours, asked = begun()
    theirs = Acceptor()
    theirs.feed(asked)
    assert isinstance(theirs.next_event(), AssociateRequest)
    ours.feed(theirs.accept(ANSWER))
    assert isinstance(ours.next_event(), AssociateAnswer)
    return ours, theirs


def events(machine: Requestor | Acceptor) -> list[Received]:
    found = []
    while (event := machine.next_event()) is not None:
        found.append(event)
    return found


def test_the_request_is_read_by_our_acceptor() -> None:
    _, asked = begun()
    theirs = Acceptor()
    theirs.feed(asked)
    (request,) = events(theirs)
    assert isinstance(request, AssociateRequest)
    assert (request.called_ae, request.calling_ae) == ("THEM", "LIGHTBOX")
    assert (request.contexts, request.user) == (REQUEST.contexts, REQUEST.user)


def test_the_request_is_read_by_pynetdicom() -> None:
    _, asked = begun()
    read = reference.A_ASSOCIATE_RQ()
    read.decode(asked)
    assert read.encode() == asked
    assert (str(read.called_ae_title).strip(), str(read.calling_ae_title).strip()) == ("THEM", "LIGHTBOX")
    assert [(item.context_id, item.abstract_syntax) for item in read.presentation_context] == [(1, VERIFICATION), (3, CT)]


@pytest.mark.parametrize("piece", [1, 7, 4096])
def test_the_answer_in_pieces(piece: int) -> None:
    ours, asked = begun()
    theirs = Acceptor()
    theirs.feed(asked)
    theirs.next_event()
    answer = theirs.accept(ANSWER)
    found: list[Received] = []
    for at in range(0, len(answer), piece):
        ours.feed(answer[at : at + piece])
        found += events(ours)
    (read,) = found
    assert isinstance(read, AssociateAnswer)
    assert (read.contexts[0], read.contexts[1].result) == (ANSWER.contexts[0], 4)
    assert read.user == ANSWER.user


def test_data_both_ways_and_release() -> None:
    ours, theirs = accepted()
    for pdu in ours.data(1, b"abc", command=True, max_length=4096):
        theirs.feed(pdu)
    assert [(e.context_id, e.command, e.last, bytes(e.data)) for e in events(theirs) if isinstance(e, Fragment)] == [
        (1, True, True, b"abc")
    ]
    theirs.feed(ours.request_release())
    # Data that was under way when we asked for the end is still taken (AR-6).
    ours.feed(b"".join(theirs.data(1, b"late", command=True, max_length=4096)))
    assert events(theirs) == [ReleaseRequested()]
    ours.feed(theirs.release())
    late, released = events(ours)
    assert isinstance(late, Fragment)
    assert released == Released()
    assert ours.state is State.IDLE


def test_release_collision() -> None:
    """Both ask at once: the requestor answers first (AR-8, AR-9), then gets its own answer (AR-3)."""
    ours, _ = accepted()
    ours.request_release()
    ours.feed(peer.RELEASE_RQ)
    assert events(ours) == [ReleaseRequested()]
    assert ours.release() == peer.RELEASE_RP
    ours.feed(peer.RELEASE_RP)
    assert events(ours) == [Released()]


def test_the_peer_asks_for_the_end() -> None:
    ours, _ = accepted()
    ours.feed(peer.RELEASE_RQ)
    assert events(ours) == [ReleaseRequested()]
    assert ours.release() == peer.RELEASE_RP
    assert ours.state is State.AWAITING_CLOSE


def test_rejected() -> None:
    ours, _ = begun()
    ours.feed(bytes.fromhex("03000000000400010107"))
    assert events(ours) == [Rejected(Reject(1, 1, 7))]
    assert ours.state is State.IDLE


def test_aborted_while_waiting() -> None:
    ours, _ = begun()
    ours.feed(bytes.fromhex("07000000000400000201"))
    assert events(ours) == [Aborted(2, 1)]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (peer.pdu(9, b""), 1),
        (peer.RELEASE_RP, 2),
        (peer.associate(), 2),
        (peer.p_data(peer.pdv(1, 3, b"early")), 2),
        (peer.pdu(2, b"short"), 6),
        (peer.pdu(2, bytes(68) + b"\x21\0\0\x63"), 6),
        (peer.pdu(2, b"", length=1 << 20), 6),
    ],
)
def test_wrong_answers_are_violations(answer: bytes, reason: int) -> None:
    ours, _ = begun(max_request=1 << 16)
    ours.feed(answer)
    with pytest.raises(Violation) as caught:
        events(ours)
    assert caught.value.reason == reason
    assert ours.state is State.AWAITING_CLOSE


@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer_or_a_violation(data: bytes) -> None:
    ours, _ = begun(max_request=1 << 12)
    ours.feed(data)
    with suppress(Violation):
        events(ours)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_a_damaged_answer_is_an_answer_or_a_violation(noise: bytes, at: int) -> None:
    ours, asked = begun()
    theirs = Acceptor()
    theirs.feed(asked)
    theirs.next_event()
    answer = theirs.accept(ANSWER)
    ours.feed(answer[:at] + noise + answer[at + len(noise) :])
    with suppress(Violation):
        events(ours)


def test_data_on_a_context_that_was_refused() -> None:
    ours, _ = accepted()
    ours.feed(peer.p_data(peer.pdv(3, 3, b"data")))
    with pytest.raises(Violation):
        events(ours)
