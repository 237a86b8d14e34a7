"""Preamble and File Meta Information: read by pydicom when we make them, by us when anybody does, safe on the way out."""

from __future__ import annotations

import io
import struct

import pydicom
import pytest

from storage.part10 import PREAMBLE, Meta, file_meta, outgoing_head, preamble_danger, read_meta
from storage.transfer_syntaxes import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE

CT = "1.2.840.10008.5.1.4.1.1.2"
DATA_SET = b"\x08\0\x16\0UI\x1a\0" + CT.encode() + b"\0"


def element(number: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value


SYNTAX = element(0x10, b"UI", EXPLICIT_LITTLE.encode() + b"\0")
HEAD = PREAMBLE + b"DICM"


@pytest.mark.parametrize("instance", ["1.2.3", "1.2.34"])
@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG])
@pytest.mark.parametrize("source", ["", "CT1", "SCANNER2"])
def test_pydicom_reads_the_meta_that_we_make(instance: str, syntax: str, source: str) -> None:
    head = file_meta(CT, instance, syntax, source_ae=source)
    meta = pydicom.dcmread(io.BytesIO(head)).file_meta
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID) == (CT, instance, syntax)
    assert meta.FileMetaInformationVersion == b"\0\1"
    assert meta.FileMetaInformationGroupLength == len(head) - 144
    assert meta.get("SourceApplicationEntityTitle", "") == source
    assert meta.ImplementationClassUID.is_valid
    assert 0 < len(str(meta.ImplementationVersionName)) <= 16
    assert len(head) % 2 == 0


def test_we_read_the_meta_that_we_make() -> None:
    head = file_meta(CT, "1.2.3", EXPLICIT_BIG)
    assert read_meta(memoryview(head + DATA_SET)) == Meta(len(head), EXPLICIT_BIG, CT)


LENGTH = element(0, b"UL", struct.pack("<I", len(SYNTAX)))
WRONG = element(0, b"UL", struct.pack("<I", 9999))
META: list[tuple[str, bytes, int, str, bool]] = [
    # what, bytes before the data set, data set offset, transfer syntax, whether something is wrong
    ("as it should be", HEAD + LENGTH + SYNTAX, 132 + 12 + len(SYNTAX), EXPLICIT_LITTLE, False),
    ("wrong group length", HEAD + WRONG + SYNTAX, 132 + 12 + len(SYNTAX), EXPLICIT_LITTLE, True),
    ("no group length", HEAD + SYNTAX, 132 + len(SYNTAX), EXPLICIT_LITTLE, True),
    ("no transfer syntax", HEAD + element(0, b"UL", bytes(4)), 132 + 12, "", False),
    ("no preamble", b"DICM" + LENGTH + SYNTAX, 4 + 12 + len(SYNTAX), EXPLICIT_LITTLE, True),
    ("neither preamble nor DICM", LENGTH + SYNTAX, 12 + len(SYNTAX), EXPLICIT_LITTLE, True),
    ("no meta at all", b"", 0, "", False),
    ("nothing behind DICM", HEAD, 132, "", True),
]


@pytest.mark.parametrize(("what", "before", "offset", "syntax", "wrong"), META, ids=[row[0] for row in META])
def test_meta_is_found_and_the_data_set_behind_it(what: str, before: bytes, offset: int, syntax: str, wrong: bool) -> None:
    meta = read_meta(memoryview(before + DATA_SET))
    assert (meta.dataset_offset, meta.transfer_syntax_uid, bool(meta.problem)) == (offset, syntax, wrong)


@pytest.mark.parametrize("cut", range(132, 132 + 12 + len(SYNTAX) + 1))
def test_meta_that_is_cut_off_never_leads_past_the_end(cut: int) -> None:
    content = (HEAD + LENGTH + SYNTAX)[:cut]
    assert read_meta(memoryview(content)).dataset_offset <= len(content)


PREAMBLES = [
    (b"MZ\x90\0", True),
    (b"\x7fELF", True),
    (b"\xcf\xfa\xed\xfe", True),
    (b"\xca\xfe\xba\xbe", True),
    (b"PK\x03\x04", True),
    (b"#!/b", True),
    (b"II*\0", False),
    (b"MM\0*", False),
    (b"\0\0\0\0", False),
]


@pytest.mark.parametrize(("magic", "dangerous"), PREAMBLES)
def test_an_executable_preamble_is_blanked_on_the_way_out(magic: bytes, dangerous: bool) -> None:
    head = magic + file_meta(CT, "1.2.3", EXPLICIT_LITTLE)[4:]
    sent = outgoing_head(head, CT, "1.2.3", EXPLICIT_LITTLE)
    assert bool(preamble_danger(head)) is dangerous
    assert sent[128:] == head[128:]
    assert sent[:128] == (PREAMBLE if dangerous else head[:128])


MADE_ANEW = [
    ("a bare data set", b"", IMPLICIT_LITTLE),
    ("meta without preamble", LENGTH + SYNTAX, EXPLICIT_LITTLE),
    ("meta that names no transfer syntax", HEAD + element(0, b"UL", bytes(4)), EXPLICIT_LITTLE),
    ("meta that names another than the data set is in", HEAD + LENGTH + SYNTAX, IMPLICIT_LITTLE),
]


@pytest.mark.parametrize(("what", "head", "syntax"), MADE_ANEW, ids=[row[0] for row in MADE_ANEW])
def test_what_goes_out_is_part_10_whatever_came_in(what: str, head: bytes, syntax: str) -> None:
    assert outgoing_head(head, CT, "1.2.3", syntax) == file_meta(CT, "1.2.3", syntax)
