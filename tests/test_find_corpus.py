"""C-FIND over the whole corpus, every key of the table at every level: each answer is read by a strict reader of this file's own
(order, VRs, lengths, character set), and says what QIDO-RS says."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pynetdicom.dsutils import encode
from starlette.testclient import TestClient

from storage.archive import Archive
from storage.attributes import LEVELS, TABLE, Attribute, above
from storage.errors import LightboxError
from storage.types import Level
from tests.support import dimse_peer as peer
from tests.support import web
from tests.support.archive import close_archive, ingest, open_archive
from tests.support.corpus import corpus_files
from tests.support.dimse_peer import BIG, EXPLICIT, IMPLICIT, PATIENT_ROOT, Peer
from tests.support.dimse_server import Serving, serving

LONG = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}
SHORT = {"AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"}
# Of no level, or different by protocol: what says where to retrieve, and the character set, which JSON has not got.
NOT_COMPARED = {"QueryRetrieveLevel", "RetrieveAETitle", "RetrieveURL", "InstanceAvailability", "SpecificCharacterSet"}
QIDO = {Level.STUDY: "studies", Level.SERIES: "series", Level.IMAGE: "instances"}


@dataclass(frozen=True)
class Pacs:
    """The corpus, by DIMSE and by DICOMweb."""

    archive: Archive
    dimse: Serving
    web: TestClient


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pacs]:
    files = corpus_files()
    archive = open_archive(tmp_path_factory.mktemp("corpus") / "archive")
    for file in files:
        with suppress(LightboxError):
            ingest(archive, file.path)
    assert archive.index.counts().instances > 700
    with serving(archive) as dimse, web.client(archive) as client:
        yield Pacs(archive, dimse, client)
    close_archive(archive)


# A reader that forgives nothing


def elements(data: bytes, syntax: str) -> dict[int, tuple[str, Any]]:
    """Tag -> VR and value (raw bytes, or items) of a data set; fails for what PS3.5 7 does not allow."""
    order = ">" if syntax == BIG else "<"
    found: dict[int, tuple[str, Any]] = {}
    at, last = 0, -1
    while at < len(data):
        group, element = struct.unpack_from(f"{order}HH", data, at)
        tag, at = group << 16 | element, at + 4
        assert tag > last, f"{tag:08X} after {last:08X}: out of order"
        last = tag
        vr = _dictionary(tag)
        if syntax == IMPLICIT:
            (length,) = struct.unpack_from("<I", data, at)
            at += 4
            given = vr.split(" or ")[0]
        else:
            given = data[at : at + 2].decode("ascii")
            assert given in LONG | SHORT, f"{tag:08X} has VR {given!r}"
            assert given in vr.split(" or ") or not vr, f"{tag:08X} is {vr}, not {given}"
            form, skipped = ("I", 4) if given in LONG else ("H", 2)
            (length,) = struct.unpack_from(order + form, data, at + skipped)
            at += skipped + struct.calcsize(form)
        assert length % 2 == 0, f"{tag:08X} has {length} bytes"
        assert at + length <= len(data), f"{tag:08X} says {length} bytes"
        value = data[at : at + length]
        at += length
        found[tag] = given, _items(value, syntax, order) if given == "SQ" else value
    return found


def _dictionary(tag: int) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return ""


def _items(data: bytes, syntax: str, order: str) -> list[dict[int, tuple[str, Any]]]:
    found, at = [], 0
    while at < len(data):
        group, element, length = struct.unpack_from(f"{order}HHI", data, at)
        assert (group, element) == (0xFFFE, 0xE000), "an item of a sequence"
        at += 8
        assert at + length <= len(data)
        found.append(elements(data[at : at + length], syntax))
        at += length
    return found


def check_text(found: dict[int, tuple[str, Any]], asked: str) -> None:
    """Everything in the one character set that (0008,0005) names: what was asked in, or UTF-8; ASCII without one."""
    said = found.get(0x00080005, ("CS", b""))[1].decode("ascii").strip()
    assert said in ("", asked, "ISO_IR 192")
    _check_text(found, convert_encodings([said])[0] if said else "ascii")


def _check_text(found: dict[int, tuple[str, Any]], codec: str) -> None:
    for tag, (vr, value) in found.items():
        if vr == "SQ":
            for item in value:
                _check_text(item, codec)
        elif vr in {"LO", "LT", "PN", "SH", "ST", "UC", "UT"}:
            value.decode(codec)
        elif vr in {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"}:
            assert value.isascii(), f"{tag:08X}: {value!r}"


# The corpus has values that pydicom warns of, and they are answered as they are stored.
as_stored = pytest.mark.filterwarnings("ignore:Invalid value:UserWarning", "ignore:Value exceeds:UserWarning", "ignore:The value length:UserWarning")


# Asking for everything


def keys_at(level: Level) -> list[Attribute]:
    """Every row of the table that an answer at a level may have."""
    return [one for one in TABLE.values() if one.level is level or above(level, one.level)]


def identifier(level: Level, asked: str, syntax: str) -> bytes:
    """A query of everything at a level, written by pydicom."""
    dataset = Dataset()
    for one in keys_at(level):
        dataset.add_new(int(one.tag, 16), one.vr, [] if one.vr == "SQ" else None)
    dataset.QueryRetrieveLevel, dataset.SpecificCharacterSet = level.value, asked
    return encode(dataset, syntax == IMPLICIT, syntax != BIG) or b""


def answers(pacs: Pacs, level: Level, syntax: str, asked: str) -> list[bytes]:
    """The data sets of all answers."""
    relational = peer.item(0x56, len(PATIENT_ROOT).to_bytes(2) + PATIENT_ROOT.encode() + b"\1")
    with Peer(pacs.dimse.port, timeout=60) as client:
        client.associate([(1, PATIENT_ROOT, (syntax,))], user_item=peer.user(16384, relational))
        client.send(peer.message(1, peer.find_rq(PATIENT_ROOT), identifier(level, asked, syntax)))
        found = []
        while peer.status_of((answer := client.answer())[0]) & 0xFF00 == 0xFF00:
            found.append(answer[1])
        assert peer.status_of(answer[0]) == 0
        client.release()
    return found


@pytest.mark.parametrize("asked", ["", "ISO_IR 192", "ISO_IR 100", "GB18030", "ISO_IR 13"])
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
@pytest.mark.parametrize("level", LEVELS)
def test_every_answer_is_as_the_standard_has_it(pacs: Pacs, level: Level, syntax: str, asked: str) -> None:
    # The character set stands in an answer only where it says something (PS3.4 C.4.1.1.3.2).
    wanted = {int(one.tag, 16) for one in keys_at(level)} - {0x00080005}
    found = answers(pacs, level, syntax, asked)
    assert len(found) > 50
    for data in found:
        read = elements(data, syntax)
        check_text(read, asked)
        assert wanted <= read.keys(), "every key that was asked for, empty or not"


# The same by QIDO-RS


def plain(element: dict[str, Any]) -> list[Any]:
    """The values of an element of DICOM JSON without what its VR lets be written in two ways."""
    return [_plain(value, element["vr"]) for value in element.get("Value") or ()]


def _plain(value: Any, vr: str) -> Any:
    if vr == "SQ":
        return {tag: plain(element) for tag, element in value.items() if element.get("Value")}
    if vr == "PN":
        return {group: text.rstrip(" ^") for group, text in value.items() if text}
    if vr in ("DS", "IS", "FD", "FL") and value is not None:
        return pytest.approx(float(value), rel=1e-8)
    return value.rstrip() if isinstance(value, str) else value


@as_stored
@pytest.mark.parametrize("level", [Level.STUDY, Level.SERIES, Level.IMAGE])
def test_qido_says_the_same(pacs: Pacs, level: Level) -> None:
    keys = [one for one in keys_at(level) if one.keyword not in NOT_COMPARED]
    by_web: list[dict[str, Any]] = []
    fields = ",".join(one.keyword for one in keys)
    while page := pacs.web.get(f"{QIDO[level]}?includefield={fields}&limit=500&offset={len(by_web)}").json():
        by_web += page
    unique = {Level.STUDY: "0020000D", Level.SERIES: "0020000E", Level.IMAGE: "00080018"}[level]
    expected = {(one["0020000D"]["Value"][0], one[unique]["Value"][0]): one for one in by_web}
    assert len(expected) == len(by_web)
    found = answers(pacs, level, EXPLICIT, "ISO_IR 192")
    assert len(found) == len(by_web)
    for data in found:
        answer = read_dataset(BytesIO(data), False, True).to_json_dict(bulk_data_threshold=1 << 30)
        other = expected.pop((answer["0020000D"]["Value"][0], answer[unique]["Value"][0]))
        for key in keys:
            assert plain(answer[key.tag]) == plain(other.get(key.tag, {"vr": key.vr})), key.keyword
    assert expected == {}


@as_stored
@pytest.mark.dcmtk
@pytest.mark.parametrize("level", LEVELS)
def test_findscu_reads_every_answer(pacs: Pacs, tmp_path: Path, level: Level) -> None:
    """DCMTK writes down as many answers as there are, each with every key; study by study, as it does not negotiate more."""
    if not shutil.which("findscu", path="/usr/bin"):
        pytest.skip("DCMTK's findscu is not installed: nothing is tested with it")
    wanted = [one for one in keys_at(level) if one.keyword not in NOT_COMPARED]
    arguments = [part for one in wanted for part in ("-k", f"{one.tag[:4]},{one.tag[4:]}")]
    if level not in (Level.PATIENT, Level.STUDY):
        studies = pacs.web.get("studies?includefield=StudyInstanceUID").json()
        uids = "\\".join(one["0020000D"]["Value"][0] for one in studies)
        arguments += ["-k", f"StudyInstanceUID={uids}"]
    command = ["/usr/bin/findscu", "-v", "-X", "-od", str(tmp_path), "-P", "-aec", "LIGHTBOX", "-k", f"QueryRetrieveLevel={level}"]
    done = subprocess.run(
        [*command, *arguments, "127.0.0.1", str(pacs.dimse.port)],
        capture_output=True, text=True, errors="replace", timeout=60, check=False, env={"TCP_NODELAY": "1"},
    )  # fmt: skip
    assert "Received Final Find Response (Success)" in done.stderr, done.stderr[-2000:]
    written = sorted(tmp_path.iterdir())
    assert len(written) == len(answers(pacs, level, EXPLICIT, ""))
    for path in written:
        found = dcmread(path, force=True)
        assert {int(one.tag, 16) for one in wanted} <= {int(element.tag) for element in found}
