"""Identifiers to and from the DICOM JSON model, with pydicom on the other side."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from pacs.scp.identifiers import Encoder, decode, text_values
from storage.errors import LightboxError, LimitExceeded, Truncated
from tests.support.dimse_peer import BIG, EXPLICIT, IMPLICIT

SYNTAXES = (IMPLICIT, EXPLICIT, BIG)


def written(dataset: Dataset, syntax: str) -> bytes:
    """By pydicom."""
    stream = DicomBytesIO()
    stream.is_implicit_VR, stream.is_little_endian = syntax == IMPLICIT, syntax != BIG
    write_dataset(stream, dataset)
    return stream.getvalue()


def read(data: bytes, syntax: str) -> Dataset:
    """By pydicom."""
    return read_dataset(BytesIO(data), syntax == IMPLICIT, syntax != BIG)


def query(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_reading(syntax: str) -> None:
    item = query(ScheduledProcedureStepID="S1")
    dataset = query(
        SpecificCharacterSet="ISO_IR 100",
        StudyDate="20240101-20241231",
        ModalitiesInStudy=["CT", "MR"],
        PatientName="Müller^*",
        PatientID="",
        StudyInstanceUID=["1.2.3", "1.2.4"],
        InstanceNumber="12",
        Rows=512,
        RequestAttributesSequence=Sequence([item]),
    )
    found = decode(written(dataset, syntax), syntax)
    assert found.character_set == ("ISO_IR 100",)
    values = {tag: text_values(element) for tag, element in found.dataset.items() if element["vr"] != "SQ"}
    values.pop("00080005")
    assert values == {
        "00080020": ["20240101-20241231"],
        "00080061": ["CT", "MR"],
        "00100010": ["Müller^*"],
        "00100020": [],
        "0020000D": ["1.2.3", "1.2.4"],
        "00200013": ["12"],
        "00280010": ["512"],
    }
    (inner,) = found.dataset["00400275"]["Value"]
    assert text_values(inner["00400009"]) == ["S1"]


@pytest.mark.parametrize(
    ("terms", "expected"),
    [(None, ()), ("", ()), ("ISO_IR 192", ("ISO_IR 192",)), (["", "ISO 2022 IR 87"], ("", "ISO 2022 IR 87"))],
)
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_character_set_as_sent(terms: Any, expected: tuple[str, ...], syntax: str) -> None:
    dataset = query(PatientID="X") if terms is None else query(SpecificCharacterSet=terms, PatientID="X")
    assert decode(written(dataset, syntax), syntax).character_set == expected


def test_implicit_vr_where_explicit_was_agreed() -> None:
    data = written(query(QueryRetrieveLevel="STUDY", PatientID="X"), IMPLICIT)
    assert text_values(decode(data, EXPLICIT).dataset["00100020"]) == ["X"]


def nested(depth: int) -> bytes:
    head = b"\x40\x00\x75\x02\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return head * depth


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\x08\x00\x52\x00\x06\x00\x00\x00STUD", Truncated),
        (b"\x08\x00\x52", Truncated),
        (nested(30), LimitExceeded),
        (nested(5000), LimitExceeded),
        (b"\x10\x00\x20\x00\x00\x00\x00\x00" * 6000, LimitExceeded),
    ],
    ids=["value cut", "header cut", "depth 30", "depth 5000", "6000 elements"],
)
def test_what_cannot_be_read(data: bytes, error: type[LightboxError]) -> None:
    with pytest.raises(error):
        decode(data, IMPLICIT)


Answer = dict[str, dict[str, Any]]

ANSWER: Answer = {
    "0020000D": {"vr": "UI", "Value": ["1.2.345"]},
    "00080052": {"vr": "CS", "Value": ["STUDY"]},
    "00080020": {"vr": "DA"},
    "00080061": {"vr": "CS", "Value": ["CT", "MR"]},
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "DOE^JANE"}]},
    "00101030": {"vr": "DS", "Value": [70.5, None, 0.12345678901234567]},
    "00200013": {"vr": "IS", "Value": [12]},
    "00280010": {"vr": "US", "Value": [512]},
    "00189073": {"vr": "FD", "Value": [0.25]},
    "00280009": {"vr": "AT", "Value": ["00181063"]},
    "00081030": {"vr": "LO", "Value": ["CHEST"]},
    "00400275": {"vr": "SQ", "Value": [{"00400009": {"vr": "SH", "Value": ["S1"]}}, {}]},
    "00081110": {"vr": "SQ"},
    "00281201": {"vr": "OW", "InlineBinary": "AQIDBA=="},
    "00080301": {"vr": "UI", "Value": []},
    "00081196": {"vr": "UT", "Value": ["long\\text"]},
}


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_writing(syntax: str) -> None:
    data = Encoder(syntax).encode(ANSWER)
    found = read(data, syntax)
    assert [int(element.tag) for element in found] == sorted(int(tag, 16) for tag in ANSWER)
    assert found.StudyInstanceUID == "1.2.345"
    assert found.StudyDate == ""
    assert list(found.ModalitiesInStudy) == ["CT", "MR"]
    assert found.PatientName == "DOE^JANE"
    assert [str(value) for value in found.PatientWeight] == ["70.5", "", "0.12345678901235"]
    assert (found.InstanceNumber, found.Rows, found.AcquisitionDuration) == (12, 512, 0.25)
    assert found[0x00280009].value == 0x00181063
    assert found.RequestAttributesSequence[0].ScheduledProcedureStepID == "S1"
    assert len(found.RequestAttributesSequence) == 2
    assert len(found[0x00081110].value) == 0
    assert found[0x00281201].value == (b"\2\1\4\3" if syntax == BIG else b"\1\2\3\4")
    assert "SpecificCharacterSet" not in found
    assert len(data) % 2 == 0


@pytest.mark.parametrize(
    ("name", "asked", "expected"),
    [
        ("DOE^JANE", (), None),
        ("DOE^JANE", ("ISO_IR 100",), "ISO_IR 100"),
        ("Müller^Jörg", (), "ISO_IR 192"),
        ("Müller^Jörg", ("ISO_IR 100",), "ISO_IR 100"),
        ("Müller^Jörg", ("ISO_IR 192",), "ISO_IR 192"),
        ("Люкceмбypг", ("ISO_IR 144",), "ISO_IR 144"),
        ("Люкceмбypг", ("ISO_IR 100",), "ISO_IR 192"),
        ("王^小东", ("GB18030",), "GB18030"),
        ("Yamada^Tarou=山田^太郎", ("", "ISO 2022 IR 87"), "ISO_IR 192"),
        ("Müller", ("ISO 2022 IR 100",), "ISO_IR 192"),
        ("Müller", ("nonsense",), "ISO_IR 192"),
        ("ﾔﾏﾀﾞ^ﾀﾛｳ", ("ISO_IR 13",), "ISO_IR 13"),
        ("山田^太郎", ("ISO_IR 13",), "ISO_IR 192"),
    ],
)
def test_character_set_of_an_answer(name: str, asked: tuple[str, ...], expected: str | None) -> None:
    groups = dict(zip(("Alphabetic", "Ideographic"), name.split("="), strict=False))
    answer: Answer = {"00100010": {"vr": "PN", "Value": [groups]}, "00080060": {"vr": "CS", "Value": ["CT"]}}
    found = read(Encoder(EXPLICIT, asked).encode(answer), EXPLICIT)
    assert found.get("SpecificCharacterSet") == expected
    assert str(found.PatientName) == name


def test_a_stray_character_in_a_code_does_not_stop_the_answer() -> None:
    found = read(Encoder(EXPLICIT).encode({"00080060": {"vr": "CS", "Value": ["CÄ"]}}), EXPLICIT)
    assert found.Modality == "C?"


def test_decimal_strings_have_at_most_16_characters() -> None:
    values = [1 / 3, -1 / 3, 1e300 / 3, -1e-300 / 3, 123456789.123456789, 0.1, 12, "text as stored"]
    found = Encoder(EXPLICIT).encode({"00101030": {"vr": "DS", "Value": values}})[8:].decode().strip().split("\\")
    assert all(len(text) <= 16 for text in found)
    for value, text in zip(values[:-1], found, strict=False):
        assert isinstance(value, int | float)
        assert float(text) == pytest.approx(value, rel=1e-8)
    assert found[-1] == "text as stored"


ODD: list[tuple[str, Any]] = [
    ("00280010", {"vr": "US", "Value": [70000]}),
    ("00280010", {"vr": "US", "Value": ["wide"]}),
    ("00280010", {"vr": "US", "Value": [-1]}),
    ("00189073", {"vr": "FD", "Value": ["long"]}),
    ("00280009", {"vr": "AT", "Value": ["Rows"]}),
    ("00280009", {"vr": "AT", "Value": [7]}),
    ("00400275", {"vr": "SQ", "Value": ["no item"]}),
    ("00400275", {"vr": "SQ", "Value": [7]}),
    ("00281201", {"vr": "OW", "InlineBinary": "AQI"}),
    ("00281201", {"vr": "OW", "InlineBinary": 7}),
    ("00080060", {"vr": "CS", "Value": 7}),
    ("00081030", {"vr": "LO", "Value": ["half a \ud800 pair"]}),
    ("00080090", {"vr": "PN", "Value": [{"Alphabetic": 7, "Ideographic": "x"}]}),
    ("00081030", {"vr": "??", "Value": 7}),
    ("00081030", {}),
    ("00081030", "no element"),
    ("no tag", {"vr": "LO", "Value": ["x"]}),
]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(("tag", "element"), ODD)
@pytest.mark.parametrize("nested", [False, True])
def test_a_value_that_cannot_be_said_costs_its_attribute_alone(tag: str, element: Any, syntax: str, nested: bool) -> None:
    answer: Answer = {tag: element, "00100010": {"vr": "PN", "Value": [{"Alphabetic": "DOE^JANE"}]}}
    answer = {"00081110": {"vr": "SQ", "Value": [answer]}} if nested else answer | {"0020000D": {"vr": "UI", "Value": ["1.2"]}}
    encoder = Encoder(syntax)
    found = read(encoder.encode(answer), syntax)
    assert encoder.odd == {tag}
    inside = found.ReferencedStudySequence[0] if nested else found
    assert inside.PatientName == "DOE^JANE"
    if tag != "no tag":
        assert inside[int(tag, 16)].is_empty
    assert nested or found.StudyInstanceUID == "1.2"


@pytest.mark.parametrize(
    ("tag", "element", "explicit_length", "length"),
    [("00080060", {"vr": "CS", "Value": ["X" * 70000]}, 8, 8 + 70000), ("00091001", {"vr": None}, 12, 8)],
    ids=["too long", "no VR"],
)
def test_what_only_an_explicit_vr_cannot_say(tag: str, element: Any, explicit_length: int, length: int) -> None:
    """A length of two bytes; a VR that is none."""
    answer: Answer = {tag: element}
    explicit, implicit = Encoder(EXPLICIT), Encoder(IMPLICIT)
    assert len(explicit.encode(answer)) == explicit_length
    assert explicit.odd == {tag}
    assert len(implicit.encode(answer)) == length
    assert implicit.odd == set()


@pytest.mark.parametrize(
    ("tag", "stored", "vr", "value"),
    [
        ("00181200", {"vr": "DS", "Value": [20170101]}, "DA", "20170101"),
        ("00181200", {"vr": "DS", "Value": [20170101.0]}, "DA", "20170101"),
        ("00200013", {"vr": "US", "Value": [7]}, "IS", "7"),
        ("00280010", {"vr": "IS", "Value": [512]}, "US", 512),
        ("00100010", {"vr": "LO", "Value": ["DOE^JANE"]}, "PN", "DOE^JANE"),
        ("00081030", {"vr": "PN", "Value": [{"Alphabetic": "DOE^JANE"}]}, "LO", "DOE^JANE"),
        ("00280106", {"vr": "SS", "Value": [-1]}, "SS", -1),
        ("00080060", {"vr": "UN", "InlineBinary": "Q1Q="}, "UN", "CT"),
        # What cannot be said in the VR that there is.
        ("00081030", {"vr": "OB", "InlineBinary": "Q1Q="}, "LO", None),
        ("00281201", {"vr": "LO", "Value": ["x"]}, "OW", None),
        ("00081110", {"vr": "LO", "Value": ["x"]}, "SQ", None),
    ],
)
def test_an_attribute_goes_out_in_the_vr_of_the_dictionary(tag: str, stored: Any, vr: str, value: Any) -> None:
    """Whatever the file said: who reads Implicit VR knows no other."""
    encoder = Encoder(EXPLICIT)
    data = encoder.encode({tag: stored})
    assert data[4:6].decode() == vr
    found = read(data, EXPLICIT)[int(tag, 16)]
    assert found.is_empty if value is None else found.value == value
    assert encoder.odd == ({tag} if value is None else set())


def test_what_was_odd_in_one_answer_does_not_change_the_next() -> None:
    encoder = Encoder(EXPLICIT)
    encoder.encode({"00280010": {"vr": "US", "Value": ["wide"]}})
    assert read(encoder.encode({"00280010": {"vr": "US", "Value": [512]}}), EXPLICIT).Rows == 512


def test_a_whole_file_reads_back() -> None:
    """Not only the parts: pydicom reads what is written as a file."""
    data = Encoder(EXPLICIT).encode(ANSWER)
    assert dcmread(BytesIO(bytes(128) + b"DICM" + data), force=True).PatientName == "DOE^JANE"
