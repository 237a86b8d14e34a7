"""De-identification (PS3.15 annex E): planted identifiers are gone at every depth, options keep what they say, and studies stay together."""

from __future__ import annotations

import io
import re
from datetime import date, timedelta
from typing import Any

import pytest
from pydicom import FileDataset, dcmread
from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from storage import coercing, originals
from storage.archive import Archive
from storage.coercing import Coercion
from storage.coercion.rules import rules_of
from storage.deidentification.options import DESCRIPTORS, decided
from storage.deidentification.profile import CODES, Profile, Word, profile_of
from storage.deidentification.replacing import Replacing
from storage.deidentification.table import ACTIONS, action_of
from storage.deidentification.vocabulary import cleaned
from storage.errors import BadRequest, Conflict, NotCoercible, NotFound, Refused
from storage.index.ae import AeTitle, OwnAe, Quirks, add_ae_title, add_own_ae, own_aes
from storage.index.originals import Originals
from storage.index.secrets import secret_of
from storage.types import Level, Outcome, Query, Source
from tests.support.archive import Store, close_archive, open_archive
from tests.support.corpus import CorpusFile, examples
from tests.support.dimse_peer import CT, Peer, message, status_of, store_rq
from tests.support.dimse_server import bare, serving
from tests.support.made import instance, written
from tests.test_scp import dcmtk, run

SOURCE = Source("dimse", calling_ae="CT1", called_ae="RESEARCH", address="10.0.0.5")
BASIC = Profile(frozenset({Word.BASIC}))
OLD = "1.2.3.4.1"


def profile(*words: str) -> Profile:
    made = profile_of(["basic", *words])
    assert made
    return made


def take(archive: Archive, data: bytes, of: Profile = BASIC, *rules: str) -> coercing.Coerced:
    with archive.spool() as spool:
        spool.write(data)
        return coercing.ingest(archive, spool, SOURCE, Coercion(rules_of(rules), "RESEARCH", "CT1", profile=of))


def made_of(archive: Archive, data: bytes, of: Profile = BASIC, *rules: str) -> tuple[FileDataset, bytes]:
    """What becomes of an instance, as pydicom reads it, and its bytes."""
    done = take(archive, data, of, *rules)
    (found,) = archive.index.instances([done.stored.uids.instance])
    content = archive.blobs.read(found.object_key)
    return dcmread(io.BytesIO(content)), content


# A value of each VR that is found again wherever it is left; words of it are in no vocabulary.
MARK = "Zqxplanted"
PLANTED: dict[str, Any] = {
    **dict.fromkeys(("AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"), MARK),
    "CS": MARK.upper(), "AS": "077Y", "DA": "19770707", "DT": "19770707070707", "TM": "070707.77", "UI": "1.2.77.77.77",
    "IS": "7777777", "DS": "7777777.7", "US": 30583, "UL": 2004318071, "OB": MARK.encode(), "UN": MARK.encode(),
    "FD": 7.7e77, "FL": 7.7e7,
}  # fmt: skip
FOUND = re.compile(rb"zqxplanted|19770707|070707\.77|1\.2\.77\.77\.77|7777777|077Y", re.I)


def planted() -> Dataset:
    """Every attribute that the table names with a value that identifies, and some that it does not name."""
    dataset = Dataset()
    tags = [tag for tag in ACTIONS if dictionary_has_tag(tag)]
    tags += [tag for word in ("EvaluatorName", "TextValue", "ExpiryDate", "TableFrameOfReferenceUID", "SegmentDescription") if (tag := tag_for_keyword(word))]
    for tag in tags:
        vr = dictionary_VR(tag).split(" or ")[0]
        if vr == "SQ":
            inner = Dataset()
            inner.PersonName, inner.TextValue, inner.CodeMeaning = MARK, MARK, MARK
            inner.ReferencedSOPInstanceUID, inner.DateTime = PLANTED["UI"], PLANTED["DT"]
            dataset.add_new(tag, vr, Sequence([inner]))
        else:
            dataset.add_new(tag, vr, PLANTED[vr])
    dataset.private_block(0x0019, MARK, create=True).add_new(1, "LO", MARK)
    dataset.add_new(0x60003000, "OB", MARK.encode())
    dataset.add_new(0x60000100, "US", 1)
    dataset.add_new(0x60004000, "LT", MARK)
    dataset.add_new(0x50003000, "OB", MARK.encode())
    dataset.SpecificCharacterSet = "ISO_IR 192"
    return dataset


def planted_file(syntax: str) -> bytes:
    dataset = planted()
    # A sequence that stays, with all of it inside, and again inside of that.
    for _ in range(2):
        outer = planted()
        outer.ReferencedImageSequence = Sequence([dataset])
        dataset = outer
    dataset.SOPClassUID = CT
    dataset.Modality = "CT"
    return written(dataset, syntax)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("words", [(), ("modify-dates",), ("clean-descriptors",)])
def test_nothing_planted_is_left_at_any_depth(archive: Archive, syntax: str, words: tuple[str, ...]) -> None:
    data = planted_file(syntax)
    assert len(FOUND.findall(data)) > 1000
    dataset, content = made_of(archive, data, profile(*words))
    # A time alone is not of a day; where dates are moved it stays.
    left = {match for match in FOUND.findall(content) if not (match == b"070707.77" and words == ("modify-dates",))}
    assert left == set()
    assert dataset.ReferencedImageSequence[0].ReferencedImageSequence[0].StudyInstanceUID == dataset.StudyInstanceUID
    assert dataset.SOPClassUID == CT
    assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    assert "SourceApplicationEntityTitle" not in dataset.file_meta
    assert not any(element.tag.is_private for element in dataset.iterall())


@pytest.mark.parametrize("vr", ["UN", "LO", "SH"])
def test_what_has_another_vr_is_judged_by_what_it_is(archive: Archive, vr: str) -> None:
    """PS3.5 6.2.2: UN is written by those who did not know the VR."""
    dataset = dcmread(io.BytesIO(instance()))
    for keyword in ("EvaluatorName", "SegmentDescription", "PatientComments", "OperatorsName", "ReferringPhysicianName"):
        tag = tag_for_keyword(keyword)
        assert tag
        dataset.add_new(tag, vr, MARK.encode() if vr == "UN" else MARK)
    tag = tag_for_keyword("TableFrameOfReferenceUID")
    assert tag
    dataset.add_new(tag, vr, b"1.2.77.77.77" if vr == "UN" else "1.2.77.77.77")
    _, content = made_of(archive, written(dataset, ExplicitVRLittleEndian))
    assert FOUND.findall(content) == []


@pytest.mark.parametrize("entry", examples(), ids=lambda entry: entry.name)
def test_the_corpus(archive: Archive, entry: CorpusFile) -> None:
    """Every real file is de-identified or refused with a reason; what is stored names nobody and can be read."""
    data = entry.path.read_bytes()
    try:
        dataset, content = made_of(archive, data)
    except Refused:
        assert archive.index.counts().instances == 0
        return
    try:
        before = dcmread(io.BytesIO(data))
    except Exception:  # noqa: BLE001 - what pydicom cannot read has nothing to compare
        return
    assert dataset.PatientIdentityRemoved == "YES"
    assert dataset.get("PixelData") == before.get("PixelData")
    number = str(before.get("PatientID") or "")
    if len(number) > 5:
        assert number.encode("utf-8", "replace") not in content[: 1 << 16]


def test_what_was_done_is_said(archive: Archive) -> None:
    """PS3.15 E.2, PS3.3 C.7.1.1."""
    words = ("modify-dates", "retain-device", "keep-originals")
    dataset, _ = made_of(archive, instance(PatientBirthDate="19500101", StationName="ST1"), profile(*words))
    assert (dataset.PatientIdentityRemoved, dataset.LongitudinalTemporalInformationModified) == ("YES", "MODIFIED")
    assert [code.CodeValue for code in dataset.DeidentificationMethodCodeSequence] == ["113100", "113107", "113109"]
    assert {code.CodingSchemeDesignator for code in dataset.DeidentificationMethodCodeSequence} == {"DCM"}
    assert (dataset.StationName, dataset.PatientBirthDate) == ("ST1", "")
    assert dataset.DeidentificationMethod


@pytest.mark.parametrize(
    ("words", "keyword", "value", "after"),
    [
        ((), "StudyDate", "20240102", ""),
        (("retain-dates",), "StudyDate", "20240102", "20240102"),
        (("retain-dates",), "PatientBirthDate", "19500101", ""),
        (("modify-dates",), "PatientBirthDate", "19500101", ""),
        ((), "AcquisitionDateTime", "20240102030405", "19000101000000"),
        ((), "InstitutionName", "St. Mary", "DEIDENTIFIED"),
        (("retain-institution",), "InstitutionName", "St. Mary", "St. Mary"),
        ((), "DeviceSerialNumber", "77", "DEIDENTIFIED"),
        (("retain-device",), "DeviceSerialNumber", "77", "77"),
        (("retain-device",), "DeviceUID", "1.2.3", "1.2.3"),
        ((), "PatientSex", "F", ""),
        (("retain-patient-characteristics",), "PatientSex", "F", "F"),
        (("retain-patient-characteristics",), "PatientAge", "045Y", "045Y"),
        ((), "PatientAge", "045Y", None),
        ((), "FrameOfReferenceUID", "1.2.3.5", "2.25."),
        (("retain-uids",), "FrameOfReferenceUID", "1.2.3.5", "1.2.3.5"),
        (("retain-uids",), "SOPInstanceUID", "1.2.3.4.1", "1.2.3.4.1"),
        ((), "StudyDescription", "CT Chest Smith", None),
        (("clean-descriptors",), "StudyDescription", "CT Chest for Smith 0173-555", "CT Chest for"),
        (("clean-descriptors",), "SeriesDescription", "AX T2 FLAIR 5mm", "AX T2 FLAIR 5mm"),
        (("clean-descriptors",), "SeriesDescription", "Chest Müller", "Chest"),
        ((), "Modality", "CT", "CT"),
        ((), "ImageType", ["ORIGINAL", "PRIMARY"], ["ORIGINAL", "PRIMARY"]),
        ((), "CodeMeaning", "as said by Hans P1234", ""),
        ((), "Manufacturer", "Acme", "Acme"),
    ],
)  # fmt: skip
def test_options(archive: Archive, words: tuple[str, ...], keyword: str, value: Any, after: Any) -> None:
    dataset, _ = made_of(archive, instance(**{keyword: value}), profile(*words))
    found = dataset.get(keyword)
    if after == "2.25.":
        assert str(found).startswith(after)
    elif after == "":
        assert keyword in dataset
        assert not found
    else:
        assert (list(found) if isinstance(after, list) else found) == after


def test_studies_and_patients_stay_together(archive: Archive) -> None:
    """The same UIDs and the same pseudonym each time; references lead to what they led to; intervals stay."""
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CT, OLD
    first, _ = made_of(archive, instance(1), profile("modify-dates"))
    second, _ = made_of(archive, instance(2, StudyDate="20240112", ReferencedImageSequence=[reference]), profile("modify-dates"))
    other, _ = made_of(archive, instance(3, study="1.2.9", series="1.2.9.1", PatientID="P2"), profile("modify-dates"))
    assert first.StudyInstanceUID == second.StudyInstanceUID != other.StudyInstanceUID
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert second.ReferencedImageSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert second.ReferencedImageSequence[0].ReferencedSOPClassUID == CT
    assert first.PatientID == second.PatientID == first.PatientName != other.PatientID
    assert re.fullmatch("P[0-9A-F]{15}", first.PatientID)
    assert date.fromisoformat(second.StudyDate) - date.fromisoformat(first.StudyDate) == timedelta(days=10)
    assert first.StudyDate != "20240102"
    assert archive.index.counts().studies == 2
    assert len(list(archive.index.find(Query(Level.PATIENT)))) == 2


def test_it_is_the_same_each_time_and_another_in_another_archive(archive: Archive, tmp_path: Any) -> None:
    data = instance()
    assert take(archive, data).stored.outcome is Outcome.STORED
    assert take(archive, data).stored.outcome is Outcome.ALREADY
    with pytest.raises(Conflict, match="see the quarantine") as refusal:
        take(archive, data, profile("retain-dates"))
    # Nothing that is logged or answered puts the new UID beside the old one.
    assert "2.25." not in str(refusal.value)
    elsewhere = open_archive(tmp_path / "elsewhere")
    there, here = take(elsewhere, data).stored.uids, take(archive, data).stored.uids
    close_archive(elsewhere)
    assert not {there.study, there.series, there.instance} & {here.study, here.series, here.instance}
    assert secret_of(archive.index, "deidentification") == secret_of(archive.index, "deidentification")


def test_what_was_received_is_not_kept_unless_the_profile_says_so(archive: Archive) -> None:
    data = instance()
    uid = take(archive, data).stored.uids.instance
    assert not [blob for blob in archive.blobs.list() if originals.is_original(blob.key)]
    with pytest.raises(NotFound):
        originals.stream(archive.index, archive.blobs, uid)
    other = instance(2)
    uid = take(archive, other, profile("keep-originals")).stored.uids.instance
    (one,) = Originals(archive.index).of_instance(uid)
    assert one.sop_instance_uid == "1.2.3.4.2"
    assert b"".join(originals.stream(archive.index, archive.blobs, uid)[1]) == other
    assert take(archive, other, profile("keep-originals")).stored.outcome is Outcome.ALREADY


def test_rules_come_first(archive: Archive) -> None:
    dataset, _ = made_of(archive, instance(), BASIC, 'set ClinicalTrialProtocolID "X"', 'set Manufacturer "Acme"', 'set BurnedInAnnotation "NO"')
    assert dataset.Manufacturer == "Acme"
    assert dataset.ClinicalTrialProtocolID == "DEIDENTIFIED"
    assert "OriginalAttributesSequence" not in dataset


SC = "1.2.840.10008.5.1.4.1.1.7"
US = "1.2.840.10008.5.1.4.1.1.6.1"


@pytest.mark.parametrize(
    ("attributes", "words", "says"),
    [
        ({"BurnedInAnnotation": "YES"}, (), "annotations burned in"),
        ({"BurnedInAnnotation": "YES"}, ("unchecked-pixels",), "annotations burned in"),
        ({"sop_class": SC}, (), "often have text"),
        ({"sop_class": US}, (), "often have text"),
        ({"sop_class": f"{SC}.2"}, (), "often have text"),
        ({"sop_class": SC, "BurnedInAnnotation": "NO"}, (), ""),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, (), "often have text"),
        ({"ConversionType": "SD"}, (), "often have text"),
        ({"sop_class": SC}, ("unchecked-pixels",), ""),
        ({"sop_class": "1.2.840.10008.5.1.4.1.1.104.1"}, ("unchecked-pixels",), "encapsulated document"),
        ({}, (), ""),
        ({"BurnedInAnnotation": "NO"}, (), ""),
    ],
)
def test_pixels_are_not_looked_at(archive: Archive, attributes: dict[str, Any], words: tuple[str, ...], says: str) -> None:
    data = instance(**attributes)
    if not says:
        assert take(archive, data, profile(*words)).deidentified
        return
    with pytest.raises(NotCoercible, match=says):
        take(archive, data, profile(*words))
    assert list(archive.blobs.list()) == []


def test_an_overlay_in_the_pixels_is_refused(archive: Archive) -> None:
    dataset = dcmread(io.BytesIO(instance()))
    dataset.add_new(0x60000100, "US", 16)
    dataset.add_new(0x60000102, "US", 12)
    with pytest.raises(NotCoercible, match="unused bits"):
        take(archive, written(dataset, ExplicitVRLittleEndian))


def test_reports_say_nothing_any_more(archive: Archive) -> None:
    item = Dataset()
    item.RelationshipType, item.ValueType, item.TextValue = "CONTAINS", "TEXT", "Mr Müller is well"
    dataset, content = made_of(archive, instance(pixels=False, sop_class="1.2.840.10008.5.1.4.1.1.88.11", ContentSequence=[item]))
    (found,) = dataset.ContentSequence
    assert found.TextValue == "DEIDENTIFIED"
    assert b"is well" not in content


def test_text_in_an_assumed_character_set_says_its_own(archive: Archive) -> None:
    add_ae_title(archive.index, AeTitle("CT1", "", 0, quirks=Quirks("ISO_IR 100")))
    dataset = dcmread(io.BytesIO(instance(SpecificCharacterSet="ISO_IR 100", Manufacturer="Größe")))
    dataset.file_meta.SourceApplicationEntityTitle = "CT1"
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    data = buffer.getvalue().replace(b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100", b"")
    found, _ = made_of(archive, data)
    assert (found.SpecificCharacterSet, found.Manufacturer) == ("ISO_IR 192", "Größe")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["retain-uids"], "begins with basic"),
        (["basic", "retain-dates", "modify-dates"], "either retained or modified"),
        (["basic", "everything"], "there is no word 'everything'"),
    ],
)
def test_what_is_no_profile(words: list[str], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        profile_of(words)
    assert profile_of([]) is None


def test_the_table_is_complete_and_conservative() -> None:
    assert len(ACTIONS) > 640
    assert {action_of(tag) for tag in ACTIONS} == {"X", "Z", "D", "U", "K"}
    # Kept by the table are sequences of references alone, whose UIDs are replaced.
    assert {tag for tag in ACTIONS if action_of(tag) == "K"} == {0x00081140, 0x00082112}
    for tag in ACTIONS:
        vr = dictionary_VR(tag).split(" or ")[0] if dictionary_has_tag(tag) else "UN"
        assert decided(tag, vr, BASIC) in "XZDUK"
    assert all(dictionary_has_tag(tag) for tag in DESCRIPTORS)
    assert set(CODES) == set(Word) - {Word.UNCHECKED_PIXELS, Word.KEEP_ORIGINALS}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("CT Chest with contrast", "CT Chest with contrast"),
        ("sag T1 +C, 3mm", "sag T1 +C , 3mm"),
        ("MRN 12345678 Knee", "Knee"),
        ("Dr.Strangelove Thorax", "Thorax"),
        ("Brown, abdomen", ", abdomen"),
        ("call 0173-555 1234", ""),
        ("Müller", ""),
        ("Kernel B30f", "Kernel B30f"),
    ],
)
def test_descriptions_keep_words_of_the_standard(text: str, kept: str) -> None:
    assert cleaned(text, frozenset({"brown"})) == kept


def test_replacements_do_not_show_what_they_replace() -> None:
    one, other = Replacing(b"a" * 32, "P1"), Replacing(b"b" * 32, "P1")
    assert one.uid("1.2.3") == one.uid("1.2.3") != other.uid("1.2.3")
    assert re.fullmatch(r"2\.25\.[1-9][0-9]{1,38}", one.uid("1.2.3"))
    assert one.uid("1.2.840.10008.1.2") == "1.2.840.10008.1.2"
    assert one.moved("DA", "20240301\\20240302\\x").count("\\") == 2
    assert one.moved("DT", "20240301101112.5+0100")[8:] == "101112.5+0100"
    assert one.pseudonym != other.pseudonym


# Over associations


def own(archive: Archive, of: Profile | None) -> None:
    add_own_ae(archive.index, OwnAe("RESEARCH", profile=of))


def test_a_title_that_deidentifies(archive: Archive, store: Store) -> None:
    """The same instance sent to two titles of ours: whole to the one, and naming nobody to the other."""
    own(archive, BASIC)
    assert own_aes(archive.index) == [OwnAe("RESEARCH", profile=BASIC)]
    with serving(archive) as server:
        for called, expected in (("RESEARCH", 0xB000), ("LIGHTBOX", 0)):
            with Peer(server.port) as client:
                client.associate(calling="CT1", called=called)
                client.send(message(3, store_rq(CT, OLD), bare(instance())))
                answer, _ = client.answer()
            assert status_of(answer) == expected
            # The command is answered by the names that it has used.
            assert answer[0x1000].strip(b"\0") == OLD.encode()
    found = {str(one["00100020"]["Value"][0]) for one in archive.index.find(Query(Level.STUDY))}
    assert len(found) == 2
    assert "P1" in found


@dcmtk
def test_storescu_to_a_title_that_deidentifies(archive: Archive, tmp_path: Any) -> None:
    own(archive, profile("modify-dates"))
    for number in (1, 2):
        (tmp_path / f"{number}.dcm").write_bytes(instance(number))
    (tmp_path / "3.dcm").write_bytes(instance(3, BurnedInAnnotation="YES"))
    with serving(archive) as server:
        files = sorted(tmp_path.glob("*.dcm"))
        done = run("storescu", "-v", "-aet", "CT1", "-aec", "RESEARCH", "-nh", "127.0.0.1", str(server.port), *files)
    assert "Coercion" in done.stdout + done.stderr
    assert archive.index.counts().instances == 2
    assert archive.index.counts().studies == 1
    stored = b"".join(archive.blobs.read(blob.key) for blob in archive.blobs.list())
    assert "Müller".encode() not in stored
