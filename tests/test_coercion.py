"""Rules of coercion: what may be written, what it does to a data set in each encoding, and what is kept of what was there."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from storage.charsets import DEFAULT
from storage.coercion.applying import Told, coerce
from storage.coercion.rules import rule_of, rules_of
from storage.coercion.tree import Encoding, parse
from storage.errors import BadRequest, NotCoercible
from storage.part10 import read_meta
from tests.support.made import instance, written

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
TOLD = Told(AT, "LIGHTBOX", "CT1")
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)


def coerced(data: bytes, *lines: str) -> tuple[FileDataset, tuple[int, ...], bytes]:
    """A Part 10 file, not deflated, after rules: as pydicom reads it, the tags that changed, and its bytes."""
    meta = read_meta(memoryview(data))
    uid = meta.transfer_syntax_uid
    encoding = Encoding(uid != ImplicitVRLittleEndian, uid != ExplicitVRBigEndian)
    dataset = parse(memoryview(data), meta.dataset_offset, len(data), encoding)
    tags = coerce(dataset, rules_of(lines), TOLD, DEFAULT)
    out = data[: meta.dataset_offset] + b"".join(dataset.written())
    return dcmread(io.BytesIO(out)), tags, out


@pytest.mark.parametrize(
    "line",
    [
        'set InstitutionName "St. \\"Mary\\" & Co" if absent',
        'set ImageType "DERIVED\\\\SECONDARY"',
        "copy AccessionNumber to StudyID if absent",
        "move PatientComments to ImageComments",
        "remove PatientTelephoneNumbers if present",
        "remove 00191001",
        'prefix PatientID "A-" where Modality = "CT" and StationName = "CT*"',
        'set IssuerOfAccessionNumberSequence.LocalNamespaceEntityID "RIS" because correct',
    ],
)
def test_a_rule_is_written_as_it_was_read(line: str) -> None:
    rule = rule_of(line)
    assert str(rule) == line
    assert rule_of(f"  {line}  ") == rule


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "the rule ends where set, copy"),
        ("change PatientID", "is no action"),
        ('set PatientIdentity "x"', "there is no attribute 'PatientIdentity'"),
        ('set PatientID x', "in double quotes"),
        ('set PatientID "x', "a double quote is not closed"),
        ('set PatientID "x" when absent', "'when' is not understood"),
        ('set PatientID "x" if odd', "absent or present"),
        ('set PatientID "x" where Modality "CT"', "'=' is missing"),
        ("copy PatientID StudyID", "'to' is missing"),
        ("copy PatientID to PatientID", "to itself"),
        ("copy PatientID to StudyID", "PatientID is LO and StudyID is SH"),
        ("copy PatientName to PatientComments", "PN"),
        ("move StudyInstanceUID to StudyDescription", "StudyInstanceUID cannot be coerced"),
        ('set Modality "ct"', "capital letters"),
        ('set StudyDate "2024-01-01"', "a date as YYYYMMDD"),
        ('set Rows "512"', "pixel data"),
        ('set Exposure "much"', "a whole number"),
        ('set ReferencedFrameNumber "1.5"', "a whole number"),
        ('set AccessionNumber "12345678901234567"', "longer than the 16 characters of SH"),
        ('set PatientAge "45"', "an age such as 045Y"),
        ('set StudyInstanceUID "1.2.3"', "it identifies the instance"),
        ("remove SOPInstanceUID", "it identifies the instance"),
        ('set FrameOfReferenceUID "1.2"', "UIDs tie instances together"),
        ("remove ReferencedSOPInstanceUID", "UIDs tie instances together"),
        ("remove PixelData", "pixel data is never touched"),
        ("remove 7FE00008", "pixel data is never touched"),
        ('set SpecificCharacterSet "ISO_IR 100"', "character set to assume"),
        ("remove OriginalAttributesSequence", "written into it"),
        ('set ReferencedStudySequence "x"', "SQ, which has no text"),
        ('set PatientID.PatientName "x"', "PatientID is no sequence"),
        ('set 00191001 "x"', "can only be removed"),
        ('set 00020010 "x"', "is no attribute of a data set"),
        ('set TransferSyntaxUID "x"', "is no attribute of a data set"),
        ("remove 00100000", "is no attribute of a data set"),
        ("remove FFFEE000", "is no attribute of a data set"),
        ('prefix StudyDate "2"', "DA: only"),
        ('prefix PatientID "a\\\\b"', "backslash"),
        ('prefix PatientID ""', "is empty"),
        ("remove PatientID if absent", "does nothing"),
    ],
)
def test_what_is_no_rule(line: str, says: str) -> None:
    with pytest.raises(BadRequest, match=re.escape(says)):
        rule_of(line)


def test_the_line_is_named() -> None:
    with pytest.raises(BadRequest, match="rule 3: there is no attribute"):
        rules_of(["# a comment", "remove PatientComments", "remove Nothing"])
    with pytest.raises(BadRequest, match="at most 200 rules"):
        rules_of(["remove PatientComments"] * 201)


Row = tuple[str, dict[str, Any], dict[str, Any]]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    ("line", "before", "after"),
    [
        ('set InstitutionName "St. Mary"', {}, {"InstitutionName": "St. Mary"}),
        ('set InstitutionName "St. Mary"', {"InstitutionName": "Other"}, {"InstitutionName": "St. Mary"}),
        ('set InstitutionName "St. Mary" if absent', {"InstitutionName": "Other"}, {"InstitutionName": "Other"}),
        ('set InstitutionName "St. Mary" if absent', {"InstitutionName": ""}, {"InstitutionName": "St. Mary"}),
        ('set InstitutionName "St. Mary" if present', {}, {"InstitutionName": None}),
        ('set InstitutionName "" if present', {"InstitutionName": "x"}, {"InstitutionName": ""}),
        ('set PatientName "Roe^Jane"', {}, {"PatientName": "Roe^Jane"}),
        ('set ImageType "DERIVED\\\\SECONDARY"', {}, {"ImageType": ["DERIVED", "SECONDARY"]}),
        ('set SeriesNumber "7"', {}, {"SeriesNumber": 7}),
        ('set RecommendedDisplayFrameRate "12"', {}, {"RecommendedDisplayFrameRate": 12}),
        ('set PregnancyStatus "4"', {}, {"PregnancyStatus": 4}),
        ('set FrameReferenceTime "1.5"', {}, {"FrameReferenceTime": 1.5}),
        ('set ImagerPixelSpacing "0.5\\\\0.25"', {}, {"ImagerPixelSpacing": [0.5, 0.25]}),
        ("copy AccessionNumber to StudyID", {}, {"StudyID": "A1", "AccessionNumber": "A1"}),
        ("copy AccessionNumber to StudyID if absent", {"StudyID": "S"}, {"StudyID": "S"}),
        ("copy RequestedProcedureID to StudyID", {}, {"StudyID": None}),
        ("move AccessionNumber to StudyID", {}, {"StudyID": "A1", "AccessionNumber": None}),
        ("move AccessionNumber to StudyID if absent", {"StudyID": "S"}, {"StudyID": "S", "AccessionNumber": "A1"}),
        ("copy StudyInstanceUID to StudyDescription", {}, {"StudyDescription": "1.2.3"}),
        ("remove AccessionNumber", {}, {"AccessionNumber": None}),
        ('prefix PatientID "M-"', {}, {"PatientID": "M-P1"}),
        ('prefix PatientID "M-"', {"PatientID": "M-P1"}, {"PatientID": "M-P1"}),
        ('prefix PatientID "M-"', {"PatientID": ""}, {"PatientID": ""}),
        ('prefix PatientID "M-"', {"PatientID": "Größe"}, {"PatientID": "M-Größe"}),
        ('suffix OtherPatientIDs "^X"', {"OtherPatientIDs": ["1", "2^X"]}, {"OtherPatientIDs": ["1^X", "2^X"]}),
        ('set IssuerOfPatientID "M" where Modality = "CT"', {}, {"IssuerOfPatientID": "M"}),
        ('set IssuerOfPatientID "M" where Modality = "MR"', {}, {"IssuerOfPatientID": None}),
        ('set IssuerOfPatientID "M" where PatientName = "m*"', {}, {"IssuerOfPatientID": None}),
        ('set IssuerOfPatientID "M" where PatientName = "M?ller*" and StudyID = ""', {}, {"IssuerOfPatientID": "M"}),
    ],
)  # fmt: skip
def test_what_rules_do(syntax: str, line: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    data = instance(syntax=syntax, **before)
    found, tags, out = coerced(data, line)
    for keyword, value in after.items():
        got = found.get(keyword)
        assert (list(got) if isinstance(value, list) else got) == value, keyword
    received = dcmread(io.BytesIO(data))
    changed = {key for key in {*received.keys(), *found.keys()} if received.get(key) != found.get(key)} - {0x04000561}
    assert {int(key) for key in changed} == set(tags)
    assert ("OriginalAttributesSequence" in found) == bool(tags)
    if not tags:
        assert out == data
    # Every element that no rule names is there byte for byte, pixel data too.
    assert found.PixelData == received.PixelData


def nested(*values: str) -> Dataset:
    item = Dataset()
    item.LocalNamespaceEntityID = values[0]
    return item


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("items", [0, 1, 2])
def test_attributes_inside_sequences(syntax: str, items: int) -> None:
    path = "IssuerOfAccessionNumberSequence.LocalNamespaceEntityID"
    data = instance(syntax=syntax, IssuerOfAccessionNumberSequence=[nested(f"OLD{n}") for n in range(items)])
    found, tags, _ = coerced(data, f'set {path} "RIS"')
    assert [item.LocalNamespaceEntityID for item in found.IssuerOfAccessionNumberSequence] == ["RIS"] * max(1, items)
    assert tags == (0x00080051,)
    (original,) = found.OriginalAttributesSequence
    (modified,) = original.ModifiedAttributesSequence
    assert [one.LocalNamespaceEntityID for one in modified.IssuerOfAccessionNumberSequence] == [f"OLD{n}" for n in range(items)]
    found, tags, _ = coerced(data, f"copy {path} to TextValue", f"remove {path}")
    assert found.get("TextValue") == ("OLD0" if items else None)
    assert bool(tags) == bool(items)
    assert [one for item in found.IssuerOfAccessionNumberSequence for one in item] == []


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_what_was_there_is_kept_beside_what_was_kept_before(syntax: str) -> None:
    """PS3.3 C.12.1.1.9.1."""
    earlier, values = Dataset(), Dataset()
    values.PatientID = "OLDEST"
    earlier.ModifiedAttributesSequence = [values]
    earlier.AttributeModificationDateTime, earlier.ModifyingSystem = "20200101", "ELSEWHERE"
    earlier.SourceOfPreviousValues, earlier.ReasonForTheAttributeModification = "", "CORRECT"
    data = instance(syntax=syntax, OriginalAttributesSequence=[earlier])
    found, tags, _ = coerced(
        data, 'set PatientID "NEW"', 'set InstitutionName "M"', "remove AccessionNumber because correct"
    )
    first, coerce_, correct = found.OriginalAttributesSequence
    assert first == earlier
    (modified,) = coerce_.ModifiedAttributesSequence
    # What had no value is there with none.
    assert (modified.PatientID, modified["InstitutionName"].is_empty, len(modified)) == ("P1", True, 2)
    assert coerce_.AttributeModificationDateTime == "20260102030405.678901+0000"
    assert (coerce_.ModifyingSystem, coerce_.SourceOfPreviousValues) == ("LIGHTBOX", "CT1")
    assert coerce_.ReasonForTheAttributeModification == "COERCE"
    assert correct.ModifiedAttributesSequence[0].AccessionNumber == "A1"
    assert correct.ReasonForTheAttributeModification == "CORRECT"
    assert tags == (0x00080050, 0x00080080, 0x00100020)


def test_a_private_attribute_is_kept_with_its_creator() -> None:
    dataset = dcmread(io.BytesIO(instance()))
    dataset.private_block(0x0019, "MAKER", create=True).add_new(0x01, "LO", "secret")
    found, tags, _ = coerced(written(dataset, ExplicitVRLittleEndian), "remove 00191001")
    assert tags == (0x00191001,)
    (modified,) = found.OriginalAttributesSequence[0].ModifiedAttributesSequence
    assert (modified[0x0019, 0x0010].value, modified[0x0019, 0x1001].value) == ("MAKER", "secret")


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_letter_that_the_character_set_lacks_makes_it_utf_8(syntax: str) -> None:
    """Old values keep their bytes, and the character set that reads them (PS3.5 6.1.2.2)."""
    item = Dataset()
    item.PatientName = "Ärger^Ü"
    data = instance(syntax=syntax, SpecificCharacterSet="ISO_IR 100", InstitutionName="Köln", OtherPatientIDsSequence=[item])
    found, tags, _ = coerced(data, 'set InstitutionName "Łódź"')
    assert found.SpecificCharacterSet == "ISO_IR 192"
    assert (found.InstitutionName, found.PatientName) == ("Łódź", "Müller^Hans")
    assert found.OtherPatientIDsSequence[0].PatientName == "Ärger^Ü"
    (modified,) = found.OriginalAttributesSequence[0].ModifiedAttributesSequence
    assert (modified.SpecificCharacterSet, modified.InstitutionName) == ("ISO_IR 100", "Köln")
    assert tags == (0x00080005, 0x00080080)


def test_text_that_cannot_be_read_is_not_guessed() -> None:
    data = instance(SpecificCharacterSet="ISO_IR 100").replace(b"ISO_IR 100", b"ISO_IR 6  ")
    with pytest.raises(NotCoercible, match="character set"):
        coerced(data, 'set InstitutionName "Łódź"')


def test_all_else_stays_byte_for_byte() -> None:
    """Odd but sound: sequences of undefined and defined length, an unknown VR, a repeated backslash."""
    dataset = dcmread(io.BytesIO(instance()))
    dataset.ReferencedStudySequence = [Dataset()]
    dataset["ReferencedStudySequence"].is_undefined_length = True
    dataset.add_new(0x00091001, "UN", b"\1\2\3\4")
    data = written(dataset, ExplicitVRLittleEndian)
    _, _, out = coerced(data, 'set InstitutionName "M"')
    start = data.index(b"\x08\x00\x10\x11SQ")
    assert data[start : start + 40] in out
    assert data[data.index(b"\x28\x00\x02\x00US") : data.index(b"\xe0\x7f\x10\x00OW")] in out


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data.replace(b"\x10\x00\x20\x00LO", b"\x10\x00\x20\x00??"),
        lambda data: data + b"\xfe\xff\x0d\xe0\0\0\0\0",
    ],
)
def test_what_cannot_be_understood_is_refused(damage: Any) -> None:
    with pytest.raises(NotCoercible, match="AE title's policy"):
        coerced(damage(instance()), 'set InstitutionName "M"')
