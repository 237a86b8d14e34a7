"""The upper layer by tables: the standard's own state table, golden bytes, and what each violation is answered with."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import fsm
from pynetdicom import pdu as reference

from pacs.upper_layer import (
    CALLED_AE_NOT_RECOGNIZED,
    LOCAL_LIMIT_EXCEEDED,
    PROTOCOL_VERSION_NOT_SUPPORTED,
    TABLE,
    Aborted,
    AbortReason,
    AbortSource,
    Acceptor,
    AnsweredContext,
    AssociateAnswer,
    AssociateRequest,
    Event,
    Fragment,
    Received,
    Reject,
    ReleaseRequested,
    Role,
    State,
    UserIdentity,
    UserInformation,
    Violation,
)
from tests.support import dimse_peer as peer


def test_state_table_is_the_standards() -> None:
    """PS3.8 table 9-10, as pynetdicom has it: which action each event has in each state, and no other."""
    expected = {
        (int(event[3:]), int(state[3:])): action for (event, state), action in fsm.TRANSITION_TABLE.items()
    }
    ours = {
        (int(event), int(state)): step.action.name.replace("_", "-")
        for event, row in TABLE.items()
        for state, step in row.items()
    }
    assert ours == expected


# The states that follow each action (tables 9-6 to 9-9).
FOLLOWING = """
AE-1 4   AE-2 5   AE-3 6   AE-4 1   AE-5 2   AE-6 3   AE-7 6   AE-8 13   DT-1 6   DT-2 6
AR-1 7   AR-2 8   AR-3 1   AR-4 13  AR-5 1   AR-6 7   AR-7 8   AR-8 9    AR-9 11  AR-10 12
AA-1 13  AA-2 1   AA-3 1   AA-4 1   AA-5 1   AA-6 13  AA-7 13  AA-8 13
"""


def test_states_that_follow_are_the_standards() -> None:
    words = FOLLOWING.split()
    expected = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    ours = {(step.action.name.replace("_", "-"), int(step.state)) for row in TABLE.values() for step in row.values()}
    assert ours == set(expected.items())


# What echoscu of DCMTK 3.6.7 sends.
ECHOSCU = bytes.fromhex(
    "0100000000cd000100004c49474854424f5820202020202020204543484f53435520202020202020202000000000000000000000"
    "0000000000000000000000000000000000000000000010000015312e322e3834302e31303030382e332e312e312e312000002e01"
    "00ff0030000011312e322e3834302e31303030382e312e3140000011312e322e3834302e31303030382e312e325000003a510000"
    "04000040005200001b312e322e3237362e302e373233303031302e332e302e332e362e375500000f4f464649535f44434d544b5f"
    "333637"
)


def begun(data: bytes, **limits: int) -> tuple[Acceptor, AssociateRequest]:
    machine = Acceptor(**limits)
    machine.feed(data)
    request = machine.next_event()
    assert isinstance(request, AssociateRequest)
    return machine, request


ACCEPTED = AssociateAnswer(
    (AnsweredContext(1, 0, peer.IMPLICIT), AnsweredContext(3, 0, peer.EXPLICIT), AnsweredContext(5, 3, peer.IMPLICIT)),
    UserInformation(maximum_length=4096, implementation_class_uid="1.2.3.4", implementation_version="NAME"),
)


def established(**limits: int) -> Acceptor:
    """Contexts 1 and 3 are accepted, 5 is not."""
    machine, _ = begun(peer.associate(), **limits)
    machine.accept(ACCEPTED)
    return machine


def events(machine: Acceptor) -> list[Received]:
    found = []
    while (event := machine.next_event()) is not None:
        found.append(event)
    return found


def test_request_of_dcmtk() -> None:
    _, request = begun(ECHOSCU)
    assert (request.called_ae, request.calling_ae, request.protocol_version) == ("LIGHTBOX", "ECHOSCU", 1)
    assert request.application_context == "1.2.840.10008.3.1.1.1"
    assert [(one.id, one.abstract_syntax, one.transfer_syntaxes) for one in request.contexts] == [
        (1, "1.2.840.10008.1.1", ("1.2.840.10008.1.2",))
    ]
    assert request.user == UserInformation(
        maximum_length=16384,
        implementation_class_uid="1.2.276.0.7230010.3.0.3.6.7",
        implementation_version="OFFIS_DCMTK_367",
    )


def test_every_user_information_item() -> None:
    uid = b"\0\x03" + b"1.2"
    items = (
        peer.item(0x53, b"\0\x05\0\x07"),
        peer.item(0x54, uid + b"\x00\x01"),
        peer.item(0x55, b"NAME "),
        peer.item(0x56, uid + b"\x01\x00\x01"),
        peer.item(0x57, uid + b"\0\x05" + b"1.2.4" + b"\0\0"),
        peer.item(0x58, b"\x02\x01\0\x04user\0\x06secret"),
        peer.item(0x5F, b"of a later edition"),
    )
    _, request = begun(peer.associate(user_item=peer.user(0, *items)))
    assert request.user == UserInformation(
        implementation_class_uid="1.2.3",
        implementation_version="NAME",
        asynchronous_window=(5, 7),
        roles=(Role("1.2", scu=False, scp=True),),
        extended=(("1.2", b"\1\0\1"),),
        service_classes=(("1.2", "1.2.4"),),
        identity=UserIdentity(2, answer_wanted=True, primary=b"user", secondary=b"secret"),
    )
    assert "secret" not in repr(request)


def test_titles_are_read_without_padding_and_never_break_a_log() -> None:
    _, request = begun(peer.associate(called=" LIGHTBOX", calling="EVIL\n\x1b[2J"))
    assert (request.called_ae, request.calling_ae) == ("LIGHTBOX", "EVIL\\n\\x1b[2J")


def test_accept_is_what_pynetdicom_reads() -> None:
    machine, request = begun(peer.associate(user_item=peer.user(16384, peer.item(0x54, b"\0\x03" + b"1.2\0\1"))))
    answer = AssociateAnswer(
        ACCEPTED.contexts,
        UserInformation(
            maximum_length=131072,
            implementation_class_uid="1.2.3.4",
            implementation_version="NAME",
            asynchronous_window=(1, 1),
            roles=(Role("1.2", scu=True, scp=False),),
            extended=(("1.2.5", b"\1\1"),),
            identity_answer=b"",
        ),
    )
    raw = machine.accept(answer)
    read = reference.A_ASSOCIATE_AC()
    read.decode(raw)
    assert raw[6:74] == peer.associate()[6:74], "titles and reserved bytes are the request's"
    assert read.application_context_name == request.application_context
    assert [(one.context_id, one.result, one.transfer_syntax) for one in read.presentation_context] == [
        (1, 0, peer.IMPLICIT),
        (3, 0, peer.EXPLICIT),
        (5, 3, peer.IMPLICIT),
    ]
    assert read.user_information is not None
    primitives = [type(one).__name__ for one in read.user_information.user_data]
    assert primitives == [
        "MaximumLengthSubItem",
        "ImplementationClassUIDSubItem",
        "AsynchronousOperationsWindowSubItem",
        "SCP_SCU_RoleSelectionSubItem",
        "ImplementationVersionNameSubItem",
        "SOPClassExtendedNegotiationSubItem",
        "UserIdentitySubItemAC",
    ]
    assert read.user_information.maximum_length == 131072


@pytest.mark.parametrize(
    ("why", "expected"),
    [
        (CALLED_AE_NOT_RECOGNIZED, "03000000000400010107"),
        (PROTOCOL_VERSION_NOT_SUPPORTED, "03000000000400010202"),
        (LOCAL_LIMIT_EXCEEDED, "03000000000400020302"),
    ],
)
def test_reject(why: Reject, expected: str) -> None:
    machine, _ = begun(peer.associate())
    assert machine.reject(why).hex() == expected
    assert machine.state is State.AWAITING_CLOSE


def test_refusal_of_a_request_that_is_not_read() -> None:
    machine = Acceptor()
    machine.feed(peer.associate())
    assert machine.request_is_whole
    assert machine.refuse(LOCAL_LIMIT_EXCEEDED).hex() == "03000000000400020302"


def test_release() -> None:
    machine = established()
    machine.feed(peer.RELEASE_RQ)
    assert events(machine) == [ReleaseRequested()]
    states = [machine.state]
    assert machine.release() == peer.RELEASE_RP
    states.append(machine.state)
    assert states == [State.AWAITING_RELEASE_ANSWER, State.AWAITING_CLOSE]


def test_abort_of_the_peer() -> None:
    machine = established()
    machine.feed(bytes.fromhex("07000000000400000206"))
    assert events(machine) == [Aborted(2, 6)]
    assert machine.abort() == b"", "nobody is left to be told"


def test_abort_of_ours() -> None:
    machine = established()
    assert machine.abort() == peer.ABORT
    assert machine.abort() == b"", "once is enough"


@pytest.mark.parametrize(
    ("after", "lost"), [(b"", False), (peer.associate(), True)], ids=["before a request", "after it"]
)
def test_connection_lost(after: bytes, lost: bool) -> None:
    machine = Acceptor()
    machine.feed(after)
    machine.next_event()
    assert machine.closed() is lost
    assert machine.closed() is False


# Data


def data_of(found: Iterable[Received]) -> list[tuple[int, bool, bool, bytes]]:
    parts = []
    for event in found:
        assert isinstance(event, Fragment)
        parts.append((event.context_id, event.command, event.last, bytes(event.data)))
    return parts


def test_fragments() -> None:
    machine = established()
    machine.feed(peer.p_data(peer.pdv(1, 3, b"command"), peer.pdv(3, 0, b"some"), peer.pdv(3, 2, b"")))
    machine.feed(peer.p_data(peer.pdv(3, 0xFE, b"reserved bits set")))
    assert data_of(events(machine)) == [
        (1, True, True, b"command"),
        (3, False, False, b"some"),
        (3, False, True, b""),
        (3, False, True, b"reserved bits set"),
    ]


MIXED = (
    peer.message(1, peer.echo_rq())
    + peer.message(3, peer.store_rq(peer.CT, "1.2"), bytes(range(256)) * 9, size=700)
    + peer.p_data(peer.pdv(3, 1, b"a"), peer.pdv(3, 3, b""), peer.pdv(3, 0, b"bc"), peer.pdv(3, 2, b"d"))
    + peer.RELEASE_RQ
)


def whole_messages(pieces: Iterable[bytes], buffer_size: int) -> list[object]:
    """Fragments put together again, so that cuts made by the network do not show."""
    machine = established(buffer_size=buffer_size)
    found: list[object] = []
    current = b""
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            space = machine.space()
            count = min(len(space), len(rest))
            space[:count] = rest[:count]
            machine.filled(count)
            rest = rest[count:]
            for event in events(machine):
                if not isinstance(event, Fragment):
                    found.append(event)
                    continue
                current += bytes(event.data)
                if event.last:
                    found.append((event.context_id, event.command, current))
                    current = b""
    return found


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60), st.sampled_from([16, 17, 64, 4096, 1 << 18]))
def test_cuts_of_the_network_make_no_difference(cuts: list[int], buffer_size: int) -> None:
    pieces, at, turn = [], 0, 0
    while at < len(MIXED):
        step = cuts[turn % len(cuts)]
        pieces.append(MIXED[at : at + step])
        at, turn = at + step, turn + 1
    assert whole_messages(pieces, buffer_size) == whole_messages([MIXED], 1 << 18)


@pytest.mark.parametrize(
    ("size", "max_length", "last", "lengths"),
    [
        # PS3.8 annex E.1: fragments have an even number of bytes, where the maximum leaves room for two.
        (10, 100, True, [(10, 2)]),
        (10, 100, False, [(10, 0)]),
        (10, 11, True, [(4, 0), (4, 0), (2, 2)]),
        (10, 10, False, [(4, 0), (4, 0), (2, 0)]),
        (3, 7, True, [(1, 0), (1, 0), (1, 2)]),
        (0, 100, True, [(0, 2)]),
    ],
)
def test_fragments_of_a_data_set(size: int, max_length: int, last: bool, lengths: list[tuple[int, int]]) -> None:
    machine = established()
    sent = b"".join(machine.data(3, bytes(size), command=False, max_length=max_length, last=last))
    found, at = [], 0
    while at < len(sent):
        length = int.from_bytes(sent[at + 2 : at + 6], "big")
        assert length <= max_length
        found.append((length - 6, sent[at + 11]))
        at += 6 + length
    assert found == lengths


def test_data_is_not_copied() -> None:
    machine = established(buffer_size=1 << 16)
    space = machine.space()
    sent = peer.p_data(peer.pdv(3, 2, b"x" * 1000))
    space[: len(sent)] = sent
    machine.filled(len(sent))
    fragment = machine.next_event()
    assert isinstance(fragment, Fragment)
    space[12] = ord("y")
    assert bytes(fragment.data[:2]) == b"yx"


@pytest.mark.parametrize(
    ("size", "max_length", "expected"),
    [
        (0, 16, [(0, True)]),
        (1, 16, [(1, True)]),
        (10, 16, [(10, True)]),
        (11, 16, [(10, False), (1, True)]),
        (3, 7, [(1, False), (1, False), (1, True)]),
    ],
)
@pytest.mark.parametrize("command", [True, False])
def test_outgoing_data(size: int, max_length: int, expected: list[tuple[int, bool]], command: bool) -> None:
    machine = established()
    payload = bytes(range(size))
    raw = b"".join(machine.data(3, payload, command=command, max_length=max_length))
    found, at, together = [], 0, b""
    while at < len(raw):
        length = int.from_bytes(raw[at + 2 : at + 6])
        assert length <= max_length
        read = reference.P_DATA_TF()
        read.decode(raw[at : at + 6 + length])
        (value,) = read.presentation_data_value_items
        assert value.presentation_context_id == 3
        assert value.presentation_data_value is not None
        control, data = value.presentation_data_value[0], value.presentation_data_value[1:]
        assert bool(control & 1) is command
        found.append((len(data), bool(control & 2)))
        together += data
        at += 6 + length
    assert found == expected
    assert together == payload


# Violations: what was sent after `state`, and the A-ABORT's source and reason, and the byte that is named.

PROVIDER, USER = AbortSource.PROVIDER, AbortSource.USER
UNKNOWN, OUT_OF_PLACE = AbortReason.UNRECOGNIZED_PDU, AbortReason.UNEXPECTED_PDU
WRONG, NOT_ACCEPTED = AbortReason.INVALID_PARAMETER, AbortReason.UNEXPECTED_PARAMETER
CONTEXT = peer.context(1, peer.CT, (peer.IMPLICIT,))
NAME = peer.item(0x10, peer.APPLICATION_CONTEXT.encode())
START = len(peer.associate())


def body(*items: bytes) -> bytes:
    return peer.associate(body=b"".join(items))


REQUESTS = [
    ("web browser", b"GET / HTTP/1.1\r\n", UNKNOWN, 0),
    ("TLS hello", bytes.fromhex("16030100a5010000a1"), UNKNOWN, 0),
    ("type 0", peer.pdu(0, b""), UNKNOWN, 0),
    ("type 8", peer.pdu(8, b"1234"), UNKNOWN, 0),
    ("data first", peer.message(1, peer.echo_rq()), OUT_OF_PLACE, 0),
    ("release first", peer.RELEASE_RQ, OUT_OF_PLACE, 0),
    ("answer first", peer.pdu(2, bytes(68)), OUT_OF_PLACE, 0),
    ("rejection first", peer.pdu(3, bytes(4)), OUT_OF_PLACE, 0),
    ("release reply first", peer.RELEASE_RP, OUT_OF_PLACE, 0),
    ("4 GiB request", peer.pdu(1, b"", length=0xFFFFFFFF), WRONG, 0),
    ("request over 1 MiB", peer.pdu(1, b"", length=(1 << 20) + 1), WRONG, 0),
    ("request without fixed part", peer.pdu(1, bytes(67)), WRONG, 6),
    ("no items", body(), WRONG, 74),
    ("no application context", body(CONTEXT, peer.user()), WRONG, 74 + len(CONTEXT + peer.user())),
    ("no presentation context", body(NAME, peer.user()), WRONG, 74 + len(NAME + peer.user())),
    ("item length over the end", body(NAME, peer.item(0x20, b"", length=5)), WRONG, 74 + len(NAME)),
    ("item header cut off", body(NAME, b"\x20\x00\x00"), WRONG, 74 + len(NAME)),
    ("short context item", body(NAME, peer.item(0x20, b"\1\0\0")), WRONG, 78 + len(NAME)),
    ("even context ID", body(NAME, peer.context(2, peer.CT, (peer.IMPLICIT,))), WRONG, 78 + len(NAME)),
    ("context ID 0", body(NAME, peer.context(0, peer.CT, (peer.IMPLICIT,))), WRONG, 78 + len(NAME)),
    ("context ID twice", body(NAME, CONTEXT, CONTEXT), WRONG, 74 + len(NAME + CONTEXT + CONTEXT)),
    ("no abstract syntax", body(NAME, peer.item(0x20, b"\1\0\0\0" + peer.item(0x40, b"1.2"))), WRONG, 78 + len(NAME)),
    (
        "two abstract syntaxes",
        body(NAME, peer.item(0x20, b"\1\0\0\0" + peer.item(0x30, b"1.2") * 2)),
        WRONG,
        78 + len(NAME) + 4 + 7 + 4,
    ),
    ("sub-item over its item", body(NAME, peer.item(0x20, b"\1\0\0\0" + peer.item(0x30, b"1", length=9)), peer.user()), WRONG, 82 + len(NAME)),
    ("maximum length of 3 bytes", body(NAME, CONTEXT, peer.item(0x50, peer.item(0x51, b"123"))), WRONG, 82 + len(NAME + CONTEXT)),
    ("role without roles", body(NAME, CONTEXT, peer.item(0x50, peer.item(0x54, b"\0\x011"))), WRONG, 82 + len(NAME + CONTEXT)),
    ("role UID length lies", body(NAME, CONTEXT, peer.item(0x50, peer.item(0x54, b"\0\x091\1\1"))), WRONG, 82 + len(NAME + CONTEXT)),
    ("empty user identity", body(NAME, CONTEXT, peer.item(0x50, peer.item(0x58, b""))), WRONG, 82 + len(NAME + CONTEXT)),
    ("9,000 items", body(NAME, peer.item(0x99, b"") * 9000), WRONG, 74 + len(NAME) + 4 * 8191),
]

IN_DATA = [
    ("unknown type", peer.pdu(9, b""), UNKNOWN, 0),
    ("second request", peer.associate(), OUT_OF_PLACE, 0),
    ("A-ASSOCIATE-AC", peer.pdu(2, b""), OUT_OF_PLACE, 0),
    ("A-RELEASE-RP", peer.RELEASE_RP, OUT_OF_PLACE, 0),
    ("release of 5 bytes", peer.pdu(5, bytes(5)), WRONG, 0),
    ("abort of 4 GiB", peer.pdu(7, b"", length=0xFFFFFFFF), WRONG, 0),
    ("PDU over the maximum", peer.p_data(length=4097), WRONG, 0),
    ("4 GiB of data", peer.p_data(length=0xFFFFFFFF), WRONG, 0),
    ("no PDV", peer.p_data(), WRONG, 0),
    ("PDU too short for a PDV", peer.p_data(b"12345"), WRONG, 0),
    ("PDV of no length", peer.p_data(peer.pdv(1, 3, b"", length=0)), WRONG, 6),
    ("PDV of one byte", peer.p_data(peer.pdv(1, 3, b"", length=1)), WRONG, 6),
    ("PDV longer than its PDU", peer.p_data(peer.pdv(1, 3, b"abc", length=6)), WRONG, 6),
    ("PDV of 4 GiB", peer.p_data(peer.pdv(1, 3, b"abc", length=0xFFFFFFFF)), WRONG, 6),
    ("bytes after the last PDV", peer.p_data(peer.pdv(1, 3, b"abc"), b"12345"), WRONG, 6),
    ("second PDV lies", peer.p_data(peer.pdv(1, 1, b"abc"), peer.pdv(1, 3, b"", length=3)), WRONG, 15),
    ("even context ID", peer.p_data(peer.pdv(2, 3, b"")), WRONG, 6),
    ("context 0", peer.p_data(peer.pdv(0, 3, b"")), WRONG, 6),
    ("refused context", peer.p_data(peer.pdv(5, 3, b"")), NOT_ACCEPTED, 6),
    ("unheard-of context", peer.p_data(peer.pdv(255, 3, b"")), NOT_ACCEPTED, 6),
    ("after good data", peer.message(1, peer.echo_rq()) + b"\xff\0\0\0\0\0", UNKNOWN, len(peer.message(1, peer.echo_rq()))),
]


def violation(machine: Acceptor, data: bytes) -> Violation:
    machine.feed(data)
    with pytest.raises(Violation) as caught:
        events(machine)
    assert machine.state is State.AWAITING_CLOSE
    machine.feed(peer.RELEASE_RQ + b"more")
    assert machine.next_event() is None, "what comes after it is ignored"
    return caught.value


@pytest.mark.parametrize(("data", "reason", "at"), [row[1:] for row in REQUESTS], ids=[row[0] for row in REQUESTS])
def test_violation_before_an_association(data: bytes, reason: AbortReason, at: int) -> None:
    found = violation(Acceptor(), data)
    # AA-1: the source is the service user, and then there is no reason (PS3.8 9.3.8).
    assert (found.source, found.reason, found.at) == (USER, reason, at)
    assert found.pdu == peer.ABORT


@pytest.mark.parametrize(("data", "reason", "at"), [row[1:] for row in IN_DATA], ids=[row[0] for row in IN_DATA])
def test_violation_within_an_association(data: bytes, reason: AbortReason, at: int) -> None:
    found = violation(established(max_length=4096), data)
    assert (found.source, found.reason, found.at) == (PROVIDER, reason, START + at)
    assert found.pdu == bytes.fromhex("0700000000040000") + bytes((2, reason))


@pytest.mark.parametrize("data", [peer.message(1, peer.echo_rq()), peer.associate(), peer.RELEASE_RQ])
def test_violation_before_our_answer(data: bytes) -> None:
    machine, _ = begun(peer.associate())
    found = violation(machine, data)
    assert (found.source, found.reason, found.at) == (PROVIDER, OUT_OF_PLACE, START)


def test_half_a_header_before_our_answer_is_in_order() -> None:
    machine, _ = begun(peer.associate())
    machine.feed(peer.RELEASE_RQ[:5])
    assert machine.next_event() is None
    machine.accept(ACCEPTED)
    machine.feed(peer.RELEASE_RQ[5:])
    assert events(machine) == [ReleaseRequested()]


@pytest.mark.parametrize("data", [peer.message(1, peer.echo_rq()), peer.RELEASE_RQ, peer.associate()])
def test_violation_after_the_peer_asked_for_release(data: bytes) -> None:
    machine = established()
    machine.feed(peer.RELEASE_RQ)
    events(machine)
    assert violation(machine, data).reason is OUT_OF_PLACE


@pytest.mark.parametrize("length", [7, 1 << 20])
def test_a_promised_length_costs_no_memory(length: int) -> None:
    machine = Acceptor()
    machine.feed(peer.pdu(1, b"", length=length))
    assert machine.next_event() is None
    assert machine.buffered <= 4096


def test_a_large_request_costs_little_more_than_its_bytes() -> None:
    machine = Acceptor()
    machine.feed(peer.pdu(1, bytes((1 << 20) - 1), length=1 << 20))
    assert machine.next_event() is None
    assert machine.buffered <= (1 << 20) + 6


@given(st.data())
def test_fuzzed_streams_end_in_events_or_a_violation(data: st.DataObject) -> None:
    stream = bytearray(peer.associate() + MIXED)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(stream) - 1))
        stream[at] = data.draw(st.integers(0, 255))
    found = run(bytes(stream))
    assert found is None or (0 <= found.at <= len(stream) and len(found.pdu) == 10)


def run(stream: bytes) -> Violation | None:
    machine = Acceptor(max_length=1 << 14)
    for at in range(0, len(stream), 500):
        machine.feed(stream[at : at + 500])
        try:
            while (event := machine.next_event()) is not None:
                if isinstance(event, AssociateRequest):
                    machine.accept(ACCEPTED)
        except Violation as error:
            return error
    return None


def test_states_have_the_standards_numbers() -> None:
    assert [int(state) for state in State] == list(range(1, 14))
    assert set(Event) >= set(TABLE)
