"""Worklist entries and workitems as nobody should write them, in the database and over the wire: what is good is answered all the
same, by C-FIND and by UPS-RS, and each answer can be read."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.datadict import dictionary_VR
from pydicom.uid import UID as Syntax
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dsutils import encode
from sqlalchemy import select, update

from pacs.scp.sop_classes import WORKLIST
from storage.archive import Archive
from storage.attributes import tag_of
from storage.index.tables import workitem, worklist_entry
from storage.workitems import Workitems
from storage.worklist import Worklist
from storage.worklist_entries import KEYS, STEPS
from tests.support import dimse_peer, web
from tests.support.dimse_peer import Peer
from tests.support.dimse_server import Serving, serving
from tests.support.worklist import fields
from tests.test_ups import OTHER, UID, scheduled

PUSH, PULL = "1.2.840.10008.5.1.4.34.6.1", "1.2.840.10008.5.1.4.34.6.3"
NAME, LABEL, STATIONS = tag_of("PatientName"), tag_of("ProcedureStepLabel"), tag_of("ScheduledStationNameCodeSequence")

# An attribute, and what stands in its place in the row.
STORED: list[tuple[str, Any]] = [
    (NAME, {"vr": "PN", "Value": ["no groups"]}),
    (NAME, {"vr": "PN", "Value": [{"Alphabetic": "half a \ud800 pair"}]}),
    (NAME, {"vr": "PN", "Value": [7]}),
    (NAME, {"vr": "SQ", "Value": [{NAME: {"vr": "PN", "Value": [{"Alphabetic": "X"}]}}]}),
    (NAME, {"vr": "??", "Value": ["x"]}),
    (NAME, {"vr": "PN", "Value": [{"Alphabetic": "x" * 70_001}]}),
    (NAME, {"vr": "PN", "Value": [None, None]}),
    (NAME, {"vr": "OB", "InlineBinary": "odd!"}),
    (NAME, {}),
    (NAME, None),
    (tag_of("PatientWeight"), {"vr": "DS", "Value": ["heavy"]}),
    (tag_of("PatientBirthDate"), {"vr": "DA", "Value": ["yesterday"]}),
    (tag_of("PregnancyStatus"), {"vr": "US", "Value": [-1]}),
    (tag_of("PregnancyStatus"), {"vr": "US", "Value": ["unknown"]}),
    (tag_of("StudyInstanceUID"), {"vr": "UI", "Value": ["not a uid"]}),
    (tag_of("ReferencedStudySequence"), {"vr": "SQ", "Value": [None]}),
    (tag_of("ReferencedStudySequence"), {"vr": "SQ", "Value": ["no item"]}),
    (tag_of("ReferencedStudySequence"), {"vr": "LO", "Value": ["no sequence"]}),
]
OF_THE_STEP: list[tuple[str, Any]] = [
    (STEPS, {"vr": "SQ"}),
    (STEPS, {"vr": "SQ", "Value": []}),
    (STEPS, {"vr": "SQ", "Value": [{}]}),
    (STEPS, {"vr": "SQ", "Value": ["no item"]}),
    (STEPS, {"vr": "LO", "Value": ["no sequence"]}),
]


@pytest.fixture
def server(archive: Archive) -> Iterator[Serving]:
    with serving(archive) as running:
        yield running


def asking(server: Serving, sop_class: str, syntax: Syntax = ExplicitVRLittleEndian) -> Association:
    entity = AE("CT1")
    entity.add_requested_context(sop_class, syntax)
    found = entity.associate("127.0.0.1", server.port, ae_title="LIGHTBOX")
    assert found.is_established
    return found


def everything() -> Dataset:
    """A query for every key of table K.6-1."""
    made, step = Dataset(), Dataset()
    for key in KEYS:
        (step if key.of_step else made).add_new(int(key.tag, 16), key.vr, [] if key.vr == "SQ" else None)
    made.ScheduledProcedureStepSequence = [step]
    return made


# What pydicom says of the values that it reads is not what is tested.
readable = pytest.mark.filterwarnings("ignore::UserWarning")


@readable
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize(("tag", "stored"), STORED + OF_THE_STEP)
def test_an_odd_entry_of_the_worklist_does_not_break_the_answers(
    server: Serving, archive: Archive, tag: str, stored: Any, syntax: Syntax
) -> None:
    worklist = Worklist(archive.index)
    odd = worklist.create(fields(PatientID="ODD"))
    worklist.create(fields(PatientID="GOOD", AccessionNumber="A2", RequestedProcedureID="RP2"))
    with archive.index.database.write() as connection:
        spoilt = update(worklist_entry).where(worklist_entry.c.number == odd.number)
        connection.execute(spoilt.values(dataset=json.dumps({**odd.dataset, tag: stored}).encode()))
    peer = asking(server, WORKLIST, syntax)
    for keyword, value in (("PatientID", ""), ("PatientID", "GOOD"), ("PatientName", "DOE*"), ("PatientBirthDate", "1970-")):
        asked = everything()
        asked[keyword].value = value if value != "1970-" else "19700101-"
        answers = list(peer.send_c_find(asked, WORKLIST))
        assert answers[-1][0].Status == 0x0000, (keyword, answers[-1][0].get("ErrorComment"))
        assert "GOOD" in [one.PatientID for _, one in answers if one is not None]
    peer.release()


@readable
@pytest.mark.parametrize(("tag", "stored"), STORED + [(STATIONS, stored) for _, stored in OF_THE_STEP])
def test_an_odd_workitem_does_not_break_the_answers(server: Serving, archive: Archive, tag: str, stored: Any) -> None:
    workitems = Workitems(archive.index)
    for uid in (OTHER, UID):
        workitems.create(scheduled(), uid)
    odd = workitems.get(OTHER)
    with archive.index.database.write() as connection:
        spoilt = update(workitem).where(workitem.c.uid == OTHER)
        connection.execute(spoilt.values(dataset=json.dumps({**odd.dataset, tag: stored}).encode()))
    expect_the_good_one(server, archive, tag)


def expect_the_good_one(server: Serving, archive: Archive, tag: str) -> None:
    """By C-FIND and by UPS-RS, by N-GET, and whatever is asked of an attribute."""
    peer = asking(server, PULL)
    for asked in ({}, {"ProcedureStepState": "SCHEDULED"}, {"ProcedureStepLabel": "Find*"}):
        query = Dataset()
        query.SOPInstanceUID = ""
        query.add_new(int(tag, 16), dictionary_VR(int(tag, 16)), None)
        for keyword, value in asked.items():
            setattr(query, keyword, value)
        answers = list(peer.send_c_find(query, PULL))
        assert answers[-1][0].Status == 0x0000, answers[-1][0].get("ErrorComment")
        assert UID in [one.SOPInstanceUID for _, one in answers if one is not None]
    status, _ = peer.send_n_get([], PUSH, UID, meta_uid=PULL)
    assert status.Status == 0x0000
    peer.release()
    with web.client(archive) as client:
        found = client.get("workitems", headers={"Accept": "application/dicom+json"})
        assert found.status_code == 200
        assert UID in [one["00080018"]["Value"][0] for one in found.json()]


# Over the wire, in Implicit VR: what the SOP class would have, with one element that is another.
WIRE: list[tuple[int, bytes]] = [
    (0x00741204, b"odd"),
    (0x00741204, b"\xff\xfe\xfd\xfc"),
    (0x00741204, b"x" * 70_000),
    (0x00741204, b"\0\0\0\0"),
    (0x00404005, b"no time!"),
    (0x00404021, b"no item."),
    (0x00404021, b"\xfe\xff\x00\xe0\xff\xff\xff\x7f"),
    (0x00404021, b"\xfe\xff\x00\xe0\x08\0\0\0\x10\0\x10\0\xff\0\0\0"),
    (0x00404021, b""),
    (0x00101030, b"heavy "),
    (0x00080005, b"ISO_IR 999"),
    (0x00080005, b"\\ISO 2022 IR 87"),
    (0x0020000D, b"not a uid "),
    (0x00741000, b"ODD "),
    (0x00080016, b"1.2."),
    (0x00091001, b"private "),
]


@readable
@pytest.mark.parametrize(("tag", "value"), WIRE)
@pytest.mark.parametrize("length", [None, 0xFFFFFFFF])
def test_a_workitem_that_is_created_oddly_is_kept_or_refused(
    server: Serving, archive: Archive, tag: int, value: bytes, length: int | None
) -> None:
    """With a status either way, and on the same association; the length that it says may be a lie."""
    workitems = Workitems(archive.index)
    workitems.create(scheduled(), UID)
    whole = Dataset.from_json(scheduled())
    good = encode(whole, True, True) or b""
    one = struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value
    data = b"".join(sorted([*split(good, without=tag), one], key=lambda part: struct.unpack_from("<HH", part)))
    create = dimse_peer.command({0x002: PUSH, 0x100: 0x0140, 0x110: 1, 0x800: 0, 0x1000: OTHER})
    with Peer(server.port) as client:
        client.associate([(1, dimse_peer.VERIFICATION, (dimse_peer.IMPLICIT,)), (3, PUSH, (dimse_peer.IMPLICIT,))])
        client.send(dimse_peer.message(3, create, data))
        status = dimse_peer.status_of(client.answer()[0])
        assert client.echo() == 0
        client.release()
    assert (status in (0x0000, 0xB300)) is any(uid == OTHER for uid in uids_in(archive))
    expect_the_good_one(server, archive, f"{tag:08X}" if tag != 0x00091001 else LABEL)


def split(data: bytes, *, without: int) -> list[bytes]:
    """The elements of a data set in Implicit VR, those of defined length."""
    found, at = [], 0
    while at < len(data):
        group, number, length = struct.unpack_from("<HHI", data, at)
        assert length != 0xFFFFFFFF
        if group << 16 | number != without:
            found.append(data[at : at + 8 + length])
        at += 8 + length
    return found


def uids_in(archive: Archive) -> list[str]:
    with archive.index.database.read() as connection:
        return list(connection.scalars(select(workitem.c.uid)))
