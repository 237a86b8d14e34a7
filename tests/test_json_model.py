"""What is a data set of the DICOM JSON model (PS3.18 F.2), by a table, and that all which is one can be written otherwise."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomweb.native_xml import to_xml
from pacs.scp.identifiers import Encoder
from storage import json_model
from storage.dictionary import EXPLICIT_VRS
from storage.errors import BadRequest
from storage.transfer_syntaxes import EXPLICIT_LITTLE
from storage.values import BULK_VRS

PRIVATE = "00091010"
GOOD: list[tuple[str, Any]] = [
    ("LO", ["x", None]),
    ("PN", [{"Alphabetic": "A^B", "Ideographic": "x"}, {}]),
    ("DT", ["20260102", ""]),
    ("US", [0, 65535]),
    ("SS", [-32768]),
    ("IS", [5, "-7", " 12 "]),
    ("DS", [1, 1.5, "1.25E2", ""]),
    ("FL", [1.5, "NaN"]),
    ("FD", [1e300, "-Infinity"]),
    ("UV", ["18446744073709551615"]),
    ("AT", ["00100010"]),
    ("UI", ["1.2.3"]),
    ("SQ", [{}, {"00080100": {"vr": "SH", "Value": ["x"]}}]),
]
BAD: list[tuple[str, Any]] = [
    ("LO", [5]),
    ("LO", [{"a": 1}]),
    ("LO", [["x"]]),
    ("LO", "x"),
    ("LO", ["x" * 70_000]),
    ("CS", [True]),
    ("PN", ["A^B"]),
    ("PN", [{"Alphabetic": 1}]),
    ("PN", [{"Family": "x"}]),
    ("DT", ["tomorrow"]),
    ("US", ["5"]),
    ("US", [65536]),
    ("US", [1.5]),
    ("US", [True]),
    ("SS", [-32769]),
    ("IS", ["five"]),
    ("IS", [2**31]),
    ("DS", ["1,5"]),
    ("DS", ["NaN"]),
    ("FL", [1e39]),
    ("FL", ["1.5"]),
    ("AT", ["PatientName"]),
    ("AT", [7]),
    ("SQ", ["x"]),
    ("SQ", [None]),
    ("UN", ["x"]),
    ("XX", ["x"]),
]


@pytest.mark.parametrize(("vr", "values"), GOOD)
def test_what_is_one(vr: str, values: Any) -> None:
    json_model.check({PRIVATE: {"vr": vr, "Value": values}})


@pytest.mark.parametrize(("vr", "values"), BAD)
def test_what_is_none(vr: str, values: Any) -> None:
    with pytest.raises(BadRequest):
        json_model.check({PRIVATE: {"vr": vr, "Value": values}})


@pytest.mark.parametrize(
    "dataset",
    [
        {PRIVATE: {"Value": ["x"]}},
        {PRIVATE: {"vr": 5}},
        {PRIVATE: "x"},
        {"PatientID": {"vr": "LO"}},
        {"00100020": {"vr": "SH"}},
        {"00020010": {"vr": "UI", "Value": ["1.2"]}},
        {"00000100": {"vr": "US", "Value": [1]}},
        {"FFFEE000": {"vr": "UN"}},
        {"00420011": {"vr": "OB", "InlineBinary": 5}},
        {"00420011": {"vr": "OB", "InlineBinary": "no base64"}},
        {"00420011": {"vr": "OB", "BulkDataURI": "file:///etc/passwd"}},
        {"00100020": {"vr": "LO", "InlineBinary": "AAAA"}},
        [],
    ],
)
def test_elements_that_are_none(dataset: Any) -> None:
    with pytest.raises(BadRequest):
        json_model.check(dataset)


TEXT = st.text("aB^=\\ \0\nñ漢", max_size=6)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), TEXT,
    st.sampled_from(["NaN", "20260102", "00100010", "1.5", "-3"]),
    st.dictionaries(st.sampled_from(["Alphabetic", "Phonetic", "other"]), TEXT, max_size=2),
)  # fmt: skip
ELEMENTS = st.builds(
    lambda vr, values, inline: {"vr": vr, "InlineBinary": inline} if vr in BULK_VRS else {"vr": vr, "Value": values},
    st.sampled_from(sorted(vr for vr, _ in EXPLICIT_VRS.values())),
    st.lists(SCALARS, max_size=2),
    st.sampled_from(["", "AAAA", "AA==", "?", None]),
)


@given(st.dictionaries(st.sampled_from([PRIVATE, "00111010"]), ELEMENTS, max_size=2))
def test_what_is_one_can_be_written_as_xml_and_for_dimse(dataset: dict[str, Any]) -> None:
    try:
        json_model.check(dataset)
    except BadRequest:
        return
    to_xml(dataset)
    Encoder(EXPLICIT_LITTLE).encode(dataset)
