"""From identifiers to queries, by tables: levels, hierarchy, keys that are supported, and what an answer must have."""

from __future__ import annotations

from typing import Any

import pytest

from pacs.scp.identifiers import Identifier
from pacs.scp.negotiation import Context
from pacs.scp.query import Find, WrongLevel, is_supported, understand
from pacs.scp.sop_classes import PATIENT_ROOT_FIND, PATIENT_STUDY_ONLY_FIND, STUDY_ROOT_FIND
from storage.attributes import tag_of
from storage.errors import BadRequest, statuses
from storage.matching import DateTimeRange, Names, OneOf, Range
from storage.types import Dataset, Level, Query
from tests.support.dimse_peer import EXPLICIT

P, S, PS = PATIENT_ROOT_FIND, STUDY_ROOT_FIND, PATIENT_STUDY_ONLY_FIND
VRS = {"PatientName": "PN", "PatientID": "LO", "StudyDate": "DA", "StudyTime": "TM", "InstanceNumber": "IS", "Rows": "US"}
VRS |= dict.fromkeys(("QueryRetrieveLevel", "Modality", "InstanceAvailability"), "CS")
VRS |= {"RetrieveAETitle": "AE", "PixelData": "OW"}


def identifier(**keys: Any) -> Identifier:
    return Identifier({tag_of(keyword): element(keyword, value) for keyword, value in keys.items()}, ())


def element(keyword: str, value: Any) -> dict[str, Any]:
    vr = VRS.get(keyword, "UI")
    if isinstance(value, dict):
        return {"vr": "SQ", "Value": [{tag_of(key): element(key, inner) for key, inner in value.items()}]}
    if value == "":
        return {"vr": vr}
    if vr == "PN":
        return {"vr": vr, "Value": [{"Alphabetic": value}]}
    return {"vr": vr, "Value": value.split("\\") if isinstance(value, str) else [value]}


def never(_query: Query) -> bool:
    return False


def asked(model: str = S, refuses: Any = never, *, relational: bool = False, times: bool = False, fuzzy: bool = False, **keys: Any) -> Find:
    return understand(identifier(**keys), Context(1, model, EXPLICIT, relational, times, fuzzy), refuses)


def conditions(found: Find) -> dict[tuple[str, ...], Any]:
    return {tuple(path): condition for path, condition in found.query.conditions}


@pytest.mark.parametrize(
    ("model", "level", "expected"),
    [
        *((P, one, True) for one in ("PATIENT", "STUDY")),
        *((S, one, True) for one in ("STUDY",)),
        *((PS, one, True) for one in ("PATIENT", "STUDY")),
        (S, "PATIENT", False),
        (PS, "SERIES", False),
        (PS, "IMAGE", False),
        (S, "", False),
        (S, "INSTANCE", False),
        (S, "STUDY\\SERIES", False),
        (S, "STUDY ", True),
    ],
)
def test_levels(model: str, level: str, expected: bool) -> None:
    if expected:
        assert asked(model, QueryRetrieveLevel=level).query.level == level.strip()
        return
    with pytest.raises(WrongLevel) as caught:
        asked(model, QueryRetrieveLevel=level)
    assert statuses(caught.value).query == 0xA900


@pytest.mark.parametrize("model", [P, S])
@pytest.mark.parametrize(
    ("level", "keys", "allowed"),
    [
        ("SERIES", {"StudyInstanceUID": "1.2"}, True),
        ("SERIES", {"StudyInstanceUID": "1.2\\1.3"}, True),
        ("SERIES", {"SeriesInstanceUID": "1.2"}, True),
        ("SERIES", {"StudyInstanceUID": ""}, False),
        ("SERIES", {"StudyInstanceUID": "*"}, False),
        ("SERIES", {"PatientID": "P1", "Modality": "CT"}, False),
        ("SERIES", {"SOPInstanceUID": "1.2"}, False),
        ("IMAGE", {"SeriesInstanceUID": "1.2"}, True),
        ("IMAGE", {"StudyInstanceUID": "1.2"}, True),
        ("IMAGE", {"SOPInstanceUID": "1.2\\1.3"}, True),
        ("IMAGE", {"InstanceNumber": "1"}, False),
        ("STUDY", {}, True),
        ("STUDY", {"PatientID": ""}, True),
    ],
)
def test_hierarchy(model: str, level: str, keys: dict[str, Any], allowed: bool) -> None:
    assert asked(model, relational=True, QueryRetrieveLevel=level, **keys)
    if allowed:
        assert asked(model, QueryRetrieveLevel=level, **keys)
        return
    with pytest.raises(BadRequest) as caught:
        asked(model, QueryRetrieveLevel=level, **keys)
    assert statuses(caught.value).query == 0xA900
    assert len(str(caught.value).split(";")[0]) <= 64, "the comment's first half fits into LO"


def test_conditions_and_fields() -> None:
    found = asked(
        QueryRetrieveLevel="STUDY",
        RetrieveAETitle="ANYBODY",
        InstanceAvailability="OFFLINE",
        PatientName="DOE^*",
        PatientID="",
        StudyDate="20240101-20241231",
        StudyInstanceUID="1.2\\1.3",
        RequestAttributesSequence={"ScheduledProcedureStepID": "1", "RequestedProcedureID": ""},
    )
    by_path = conditions(found)
    sequence, step = tag_of("RequestAttributesSequence"), tag_of("ScheduledProcedureStepID")
    assert set(by_path) == {("00100010",), ("00080020",), ("0020000D",), (sequence, step)}
    assert isinstance(by_path["00100010",], Names)
    assert by_path["00080020",] == Range("DA", "20240101", "20241231")
    assert by_path["0020000D",] == OneOf("UI", ("1.2", "1.3"))
    procedure = tag_of("RequestedProcedureID")
    asked_for = ("00100010", "00100020", "00080020", "0020000D", f"{sequence}.{step}", f"{sequence}.{procedure}")
    assert found.query.fields == frozenset(asked_for)
    assert found.query.fuzzy is False
    assert found.query.limit is None


def test_dates_and_times_together_where_it_was_agreed() -> None:
    keys: dict[str, Any] = {"QueryRetrieveLevel": "STUDY", "StudyDate": "20240101-20240102", "StudyTime": "1200-1300"}
    assert len(conditions(asked(**keys))) == 2
    ((_, together),) = asked(times=True, **keys).query.conditions
    assert isinstance(together, DateTimeRange)
    assert asked(fuzzy=True, **keys).query.fuzzy


def test_values_that_an_attribute_cannot_have_are_refused_by_name() -> None:
    with pytest.raises(BadRequest, match="StudyDate"):
        asked(QueryRetrieveLevel="STUDY", StudyDate="yesterday")


def test_two_items_in_a_sequence() -> None:
    keys = identifier(QueryRetrieveLevel="STUDY", RequestAttributesSequence={"Modality": ""})
    sequence = tag_of("RequestAttributesSequence")
    keys = Identifier({**keys.dataset, sequence: {"vr": "SQ", "Value": [{}, {}]}}, ())
    with pytest.raises(BadRequest, match="2 items"):
        understand(keys, Context(1, S, EXPLICIT), never)


@pytest.mark.parametrize(
    ("keyword", "level", "expected"),
    [
        ("PatientName", Level.PATIENT, True),
        ("PatientName", Level.IMAGE, True),
        ("StudyDate", Level.PATIENT, False),
        ("StudyDate", Level.STUDY, True),
        ("Modality", Level.STUDY, False),
        ("Modality", Level.SERIES, True),
        ("Rows", Level.SERIES, False),
        ("Rows", Level.IMAGE, True),
        ("ImageComments", Level.IMAGE, True),
        ("ModalitiesInStudy", Level.STUDY, True),
        ("ModalitiesInStudy", Level.PATIENT, False),
        ("NumberOfPatientRelatedStudies", Level.PATIENT, True),
        ("NumberOfPatientRelatedStudies", Level.STUDY, False),
        ("NumberOfSeriesRelatedInstances", Level.SERIES, True),
        ("RetrieveURL", Level.IMAGE, False),
    ],
)
def test_supported_keys(keyword: str, level: Level, expected: bool) -> None:
    assert is_supported(tag_of(keyword), level) is expected


def test_what_the_index_cannot_match_is_left_out_and_said() -> None:
    def refuses(query: Query) -> bool:
        return any(path == ("00080060",) for path, _ in query.conditions)

    found = asked(S, refuses, QueryRetrieveLevel="STUDY", Modality="CT", PatientID="P1")
    assert set(conditions(found)) == {("00100020",)}
    assert found.some_unsupported
    assert not asked(S, refuses, QueryRetrieveLevel="STUDY", PatientID="P1").some_unsupported


def test_binary_keys_are_returned_empty() -> None:
    dataset = identifier(QueryRetrieveLevel="IMAGE", SOPInstanceUID="1.2").dataset
    found = understand(
        Identifier({**dataset, "00420011": {"vr": "OB", "InlineBinary": "AAA="}}, ()), Context(1, S, EXPLICIT), never
    )
    assert found.some_unsupported
    assert found.complete({})["00420011"] == {"vr": "OB"}


def test_answers_have_what_was_asked_and_no_more() -> None:
    found = asked(
        QueryRetrieveLevel="STUDY",
        PatientID="",
        StudyDate="",
        RequestAttributesSequence={"ScheduledProcedureStepID": "", "RequestedProcedureID": ""},
    )
    sequence, step, procedure = (
        tag_of(one) for one in ("RequestAttributesSequence", "ScheduledProcedureStepID", "RequestedProcedureID")
    )
    match: Dataset = {
        "00100020": {"vr": "LO", "Value": ["P1"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "DOE"}]},
        sequence: {"vr": "SQ", "Value": [{step: {"vr": "SH", "Value": ["S1"]}, "00400007": {"vr": "LO"}}]},
    }
    assert found.complete(match) == {
        "00100020": {"vr": "LO", "Value": ["P1"]},
        "00080020": {"vr": "DA"},
        sequence: {"vr": "SQ", "Value": [{step: {"vr": "SH", "Value": ["S1"]}, procedure: {"vr": "UI"}}]},
    }


def test_a_sequence_asked_for_whole() -> None:
    sequence = tag_of("RequestAttributesSequence")
    keys = Identifier({**identifier(QueryRetrieveLevel="STUDY").dataset, sequence: {"vr": "SQ"}}, ())
    found = understand(keys, Context(1, S, EXPLICIT), never)
    whole = {"vr": "SQ", "Value": [{"00400009": {"vr": "SH", "Value": ["S1"]}}]}
    assert found.complete({sequence: whole}) == {sequence: whole}
    assert found.query.fields == frozenset((sequence,))
