"""Command sets against the standard's bytes and pynetdicom, and the order of fragments."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import dsutils

from pacs import dimse
from pacs.dimse import CommandAssembly, CommandField, Malformed, Status
from tests.support import dimse_peer as peer

# C-STORE-RQ as storescu of DCMTK 3.6.7 sends it, and the answer to a C-ECHO written out by hand.
STORE_RQ = bytes.fromhex(
    "000000000400000086000000000002001a000000312e322e3834302e31303030382e352e312e342e312e312e3200000000010200"
    "000001000000100102000000010000000007020000000000000000080200000001000000001034000000312e322e3832362e302e"
    "312e333638303034332e31302e393939392e313033393338363630333338333934383832373433323933"
)
ECHO_RSP = bytes.fromhex(
    "000000000400000042000000000002001200"
    "0000312e322e3834302e31303030382e312e3100000000010200000030800000200102000000010000000008020000000101"
    "00000009020000000000"
)
STORE_COMMAND = {
    "AffectedSOPClassUID": peer.CT,
    "CommandField": 1,
    "MessageID": 1,
    "Priority": 0,
    "CommandDataSetType": 1,
    "AffectedSOPInstanceUID": "1.2.826.0.1.3680043.10.9999.103938660338394882743293",
}


def test_golden_request() -> None:
    command = dimse.decode(STORE_RQ)
    assert command.pop("CommandGroupLength") == len(STORE_RQ) - 12
    assert command == STORE_COMMAND
    assert dimse.encode(STORE_COMMAND) == STORE_RQ


def test_golden_response() -> None:
    request = dimse.decode(peer.echo_rq())
    assert dimse.encode(dimse.respond(request, Status.SUCCESS)) == ECHO_RSP


@pytest.mark.parametrize(
    "command",
    [
        STORE_COMMAND,
        {**STORE_COMMAND, "MoveOriginatorApplicationEntityTitle": "MOVER", "MoveOriginatorMessageID": 65535},
        {"CommandField": 0x8020, "MessageIDBeingRespondedTo": 1, "CommandDataSetType": 0x101, "Status": 0xA900}
        | {"OffendingElement": (0x00080052, 0x0020000D), "ErrorComment": "odd"},
    ],
)
def test_pynetdicom_reads_what_we_write(command: dict[str, Any]) -> None:
    read = dsutils.decode(BytesIO(dimse.encode(command)), True, True)
    del read[0x0000, 0x0000]
    found = {element.keyword: element.value for element in read}
    if "OffendingElement" in found:
        found["OffendingElement"] = tuple(int(tag) for tag in found["OffendingElement"])
    assert found == command
    assert {key: dimse.decode(dimse.encode(command))[key] for key in command} == command


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"1.2.3\0", "1.2.3"),
        (b"1.2.3 ", "1.2.3"),
        (b"1.2.3\0\0\0", "1.2.3"),
        (b" 1.2.3", "1.2.3"),
        (b"", ""),
        (b"1.2\xff", "1.2\\xff"),
        (b"1.2\n3", "1.2\\n3"),
    ],
)
def test_uids_without_padding(raw: bytes, expected: str) -> None:
    # Lengths as they are: `peer.command` would pad them.
    uid = b"\0\0\x00\x10" + len(raw).to_bytes(4, "little") + raw
    assert dimse.decode(peer.echo_rq() + uid)["AffectedSOPInstanceUID"] == expected


MALFORMED = [
    ("no bytes", b"", "CommandField"),
    ("five bytes", b"\0\0\0\0\4", "too few"),
    ("length over the end", peer.echo_rq()[:-1], "are left"),
    ("4 GiB", b"\0\0\x00\x01\xff\xff\xff\xff", "4294967295"),
    ("another group", peer.echo_rq() + peer.element(0x00080018, "1.2"), "(0008,0018)"),
    ("US of three bytes", b"\0\0\x00\x01\3\0\0\0abc", "(0000,0100)"),
    ("empty US", peer.command({0x100: b"", 0x110: 1, 0x800: 0x101}), "(0000,0100)"),
    ("no command field", peer.command({0x110: 1, 0x800: 0x101}), "CommandField"),
    ("no data set type", peer.command({0x100: 0x30, 0x110: 1}), "CommandDataSetType"),
    ("no message ID", peer.command({0x100: 0x30, 0x800: 0x101}), "MessageID"),
    ("cancel of nothing", peer.command({0x100: 0xFFF, 0x110: 1, 0x800: 0x101}), "MessageIDBeingRespondedTo"),
]


@pytest.mark.parametrize(("raw", "named"), [row[1:] for row in MALFORMED], ids=[row[0] for row in MALFORMED])
def test_malformed_commands_say_where(raw: bytes, named: str) -> None:
    with pytest.raises(Malformed) as caught:
        dimse.decode(raw)
    assert named in str(caught.value)


def test_elements_of_a_later_edition_are_passed_over() -> None:
    assert dimse.decode(peer.command({0x100: 0x30, 0x110: 9, 0x800: 0x101, 0x7777: "?"}))["MessageID"] == 9


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        command = dimse.decode(peer.echo_rq() + raw)
    except Malformed:
        return
    assert "CommandField" in command


@pytest.mark.parametrize(
    ("comment", "sent"),
    [
        ("x" * 64, "x" * 64),
        ("x" * 100, "x" * 61 + "..."),
        (f"{'x' * 58}, and more of it", f"{'x' * 58}..."),
        ("SERIES query without StudyInstanceUID; name a study, or negotiate", "SERIES query without StudyInstanceUID; name a study, or..."),
    ],
)
def test_a_comment_is_cut_to_what_lo_may_have(comment: str, sent: str) -> None:
    response = dimse.respond(dimse.decode(peer.echo_rq(5)), 0xC000, ErrorComment=comment, OffendingElement=None)
    read = dimse.decode(dimse.encode(response))
    assert read["ErrorComment"] == sent
    assert read["MessageIDBeingRespondedTo"] == 5
    assert "OffendingElement" not in read


@pytest.mark.parametrize(("kind", "expected"), [(0x0101, False), (0x0000, True), (0x0001, True), (0xFEFE, True)])
def test_data_set_type(kind: int, expected: bool) -> None:
    assert dimse.has_data_set({"CommandDataSetType": kind}) is expected


# Fragments of a command: (context, command, last, data)


def assembled(fragments: list[tuple[int, bool, bool, bytes]], limit: int = 1000) -> dimse.Command | None:
    assembly = CommandAssembly(limit)
    command = None
    for fragment in fragments:
        assert command is None
        command = assembly.add(*fragment)
        assert assembly.begun is (command is None)
    return command


def test_fragments_of_a_command() -> None:
    raw = peer.echo_rq(3)
    pieces = [(1, True, False, raw[:1]), (1, True, False, b""), (1, True, False, raw[1:40]), (1, True, True, raw[40:])]
    command = assembled(pieces)
    assert command is not None
    assert (command["CommandField"], command["MessageID"]) == (CommandField.C_ECHO, 3)
    assert assembled(pieces[:-1]) is None


@pytest.mark.parametrize(
    ("fragments", "named"),
    [
        ([(1, False, True, b"data")], "data set bytes"),
        ([(1, True, False, b"\0\0"), (1, False, True, b"data")], "data set bytes"),
        ([(1, True, False, b"\0\0"), (3, True, True, b"\0\0")], "context 3, not 1"),
        ([(1, True, False, b"x" * 600), (1, True, False, b"x" * 401)], "limit of 1000"),
        ([(1, True, True, b"")], "CommandField"),
    ],
)
def test_fragments_out_of_order(fragments: list[tuple[int, bool, bool, bytes]], named: str) -> None:
    with pytest.raises(Malformed) as caught:
        assembled(fragments)
    assert named in str(caught.value)


def test_unknown_keywords_are_our_own_mistake() -> None:
    with pytest.raises(KeyError):
        dimse.encode({"PatientName": "X"})
